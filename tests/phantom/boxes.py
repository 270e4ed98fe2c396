"""A box of 4 mm voxels round the template's centre: what anatomy and volumes are tested on."""

import numpy as np

from nbkit.phantom.parameters import Parameters

SHAPE = (40, 48, 40)


def four_mm(parameters: Parameters) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine, in the template's world."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = parameters["grid.centre"] - 4 * (np.array(SHAPE) - 1) / 2
    return SHAPE, affine
