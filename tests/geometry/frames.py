"""Image frames that every geometric law is tried in."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

SHAPE = (13, 11, 12)


def _affine(linear: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = -linear @ (np.array(SHAPE) - 1) / 2 + [3.0, -5.0, 7.0]
    return affine


_SPACING = np.diag([1.5, 2.0, 0.9])
FRAMES = {
    "RAS": _affine(_SPACING),
    "LAS": _affine(np.diag([-1, 1, 1]) @ _SPACING),
    "LPS": _affine(np.diag([-1, -1, 1]) @ _SPACING),
    "oblique": _affine(Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix() @ _SPACING),
    "permuted": _affine(np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]]) @ _SPACING),
}
