"""What a deformation costs: its slope, its size, and its drift away from zero on average. Millimetre-true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from nbkit.geometry.warp import Displacement, check_field


def smoothness(displacement_mm: Displacement, *, affine: np.ndarray) -> torch.Tensor:
    """‖∇u‖²/9: mean over the grid of the nine squared derivatives ∂uᵢ/∂xⱼ, mm per mm, by forward differences.

    Parameters
    ----------
    displacement_mm : torch.Tensor
        u (B, 3, X, Y, Z) in mm, world components.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm) whose axes are perpendicular.

    Returns
    -------
    torch.Tensor
        (B,), the same in any frame; of voxels of 1 mm the same as VoxelMorph's squared "Grad".
    """
    check_field(displacement_mm, "smoothness: displacement_mm")
    spacing = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    slopes = (displacement_mm.diff(dim=axis + 2) / float(mm) for axis, mm in enumerate(spacing))
    return sum(slope.square().flatten(1).mean(dim=1) for slope in slopes) / 3


def magnitude(displacement_mm: Displacement) -> torch.Tensor:
    """‖u‖²/3: mean over the grid of the three squared components, mm²; (B, 3, X, Y, Z) in mm -> (B,)."""
    check_field(displacement_mm, "magnitude: displacement_mm")
    return displacement_mm.square().flatten(1).mean(dim=1)


class MovingAverage:
    """Running mean ū of the displacements seen last; its :func:`magnitude` keeps a template amid its group.

    The k-th field enters with weight 1 / min(k, `cap`); until `cap` fields were seen the mean is shrunk by k / `cap`.
    Source: the "mean stream" of Dalca et al., NeurIPS 2019, as Dey et al., ICCV 2021 (Atlas-GAN) use it.

    Parameters
    ----------
    cap : int
        Fields remembered; 100 as published.
    """

    def __init__(self, cap: int = 100) -> None:
        self.cap, self.count, self.mean = cap, 0, None

    def state_dict(self) -> dict[str, Any]:
        """Fields seen, and their mean."""
        return {"count": self.count, "mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.count, self.mean = state["count"], state["mean"]

    def __call__(self, displacement_mm: Displacement) -> torch.Tensor:
        """Take in a batch u (B, 3, X, Y, Z), mm; give the magnitude of ū (mm²), the same (B,) for all.

        The slope reaches the new fields only; those before are constants.
        """
        check_field(displacement_mm, "MovingAverage: displacement_mm")
        self.count += len(displacement_mm)
        share = len(displacement_mm) / max(min(self.count, self.cap), len(displacement_mm))
        new = displacement_mm.mean(dim=0, keepdim=True)
        mean = new if self.mean is None else share * new + (1 - share) * self.mean.to(new)
        self.mean = mean.detach()
        return magnitude(Displacement(min(1.0, self.count / self.cap) * mean)).expand(len(displacement_mm))
