"""Regions of interest for training, and a voxel classifier that stands in where a scan has none.

The regions of Wei thesis Eqs. 3.5 and 4.4 are white-matter lesions, normal-appearing white matter (NAWM), and all else.
The thesis drew them by hand and names that as a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F

from nbkit.core.checks import check_keys, require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.synthesis import brain_box, brain_channels, on_grid

ROIS = ("lesions", "nawm")
_SHRINK = 50
"""Voxels' worth of the common covariance in each region's own: a region of few voxels has none to speak of."""

Segment = Callable[[Scan], Mapping[str, Volume]]


def has_rois(scan: Scan) -> bool:
    """Whether the scan comes with masks of lesions and of NAWM."""
    return all(name in scan.masks for name in ROIS)


def roi_masks(scan: Scan, segment: Segment | None = None, *, needed: bool = True) -> torch.Tensor:
    """Lesions and NAWM of a scan as (2, X, Y, Z) bool.

    Parameters
    ----------
    segment : callable, optional
        Asked where the scan has no such masks.
    needed : bool
        Without both, whether to refuse by name or to give empty masks.
    """
    if not has_rois(scan) and segment is not None:
        found = segment(scan)
        check_keys(ROIS, found, f"{scan.subject}/{scan.session}: masks of the segmenter")
    elif has_rois(scan) or needed:
        found = {name: scan.mask(name) for name in ROIS}
    else:
        return torch.zeros(len(ROIS), *scan.mask("brain").shape, dtype=torch.bool)
    for name in ROIS:
        found[name].check_grid(scan.mask("brain"), f"{scan.subject}/{scan.session}: {name} and brain")
    return torch.cat([found[name].data[:1].bool() for name in ROIS])


class RoiClassifier:
    """Lesions and NAWM by quadratic discriminant analysis of voxels: one Gaussian per region.

    A voxel is described by its z-scored contrasts and their means over 3³ voxels. The shares of the regions in
    training are the prior, so that rare lesions need evidence.

    Parameters
    ----------
    contrasts : sequence of str
    """

    def __init__(self, contrasts: Sequence[str]) -> None:
        self.contrasts = tuple(contrasts)
        self.standardiser: Standardiser | None = None
        self.terms: list[tuple[float, torch.Tensor, torch.Tensor]] = []

    def fit(self, scans: Iterable[Scan]) -> Self:
        """Learn from every scan with masks; without any, or without a lesion voxel in them, it is refused."""
        known = [scan for scan in scans if has_rois(scan)]
        require(
            any(bool(scan.mask("lesions").data.any()) for scan in known), "RoiClassifier.fit: scans",
            expected="a scan with masks of lesions and nawm, and lesions in it", found=f"{len(known)} scans with masks",
            remedy="Pass segment=..., a function that gives the masks of a scan.",
        )
        self.standardiser = Standardiser.fit(
            {name: [scan.image(name) for scan in known] for name in self.contrasts},
            [scan.mask("brain") for scan in known],
        )
        pairs = [(self._rows(scan), _codes(scan)) for scan in known]
        rows, codes = (torch.cat(parts) for parts in zip(*pairs))
        common = torch.cov(rows.T)
        self.terms = [_gaussian(rows[codes == code], common, len(rows)) for code in range(len(ROIS) + 1)]
        return self

    def __call__(self, scan: Scan) -> dict[str, Volume]:
        """Bool masks of lesions and of NAWM, inside the scan's mask "brain"."""
        require(
            bool(self.terms), "RoiClassifier", expected="a fitted classifier", found="an unfitted one",
            remedy="Call fit(scans) first.",
        )
        rows, brain = self._rows(scan), scan.mask("brain")
        scores = torch.stack([start - ((rows - mean) @ white).square().sum(1) / 2 for start, mean, white in self.terms])
        box = torch.full(brain.data[0][brain_box(brain)].shape, len(ROIS))
        box[_inside(brain)[0]] = scores.argmax(0)
        maps = {name: on_grid((box == code).float(), mask=brain, step=f"segmented {name}")
                for code, name in enumerate(ROIS)}
        return {name: image.with_data(image.data > 0.5) for name, image in maps.items()}

    def _rows(self, scan: Scan) -> torch.Tensor:
        """(voxels of the brain, 2 · contrasts) float64."""
        brain = scan.mask("brain")
        maps = brain_channels(scan.images, self.contrasts, mask=brain, standardiser=self.standardiser)
        inside = _inside(brain)
        near = F.avg_pool3d(maps[None], 3, 1, 1)[0] / F.avg_pool3d(inside[None].float(), 3, 1, 1)[0].clamp(min=1e-3)
        return torch.cat([maps, near])[:, inside[0]].T.double()


def _inside(brain: Volume) -> torch.Tensor:
    return brain.data.bool()[(slice(None), *brain_box(brain))]


def _codes(scan: Scan) -> torch.Tensor:
    """Index into ROIS of every brain voxel; len(ROIS) elsewhere. Lesions win where masks overlap."""
    brain = scan.mask("brain")
    codes = torch.full(brain.data[0].shape, len(ROIS))
    for code, name in reversed(list(enumerate(ROIS))):
        codes[scan.mask(name).data[0].bool()] = code
    return codes[brain_box(brain)][_inside(brain)[0]]


def _gaussian(rows: torch.Tensor, common: torch.Tensor, total: int) -> tuple[float, torch.Tensor, torch.Tensor]:
    """(ln prior − ½ ln |Σ|, mean, W) with W Wᵀ = Σ⁻¹."""
    mean = rows.mean(0) if len(rows) else torch.zeros(len(common), dtype=rows.dtype)
    own = (rows - mean).T @ (rows - mean)
    ridge = 1e-6 * torch.eye(len(common), dtype=rows.dtype)
    lower = torch.linalg.cholesky((own + _SHRINK * common) / (len(rows) + _SHRINK) + ridge)
    whiten = torch.linalg.inv(lower).T
    prior = torch.tensor(max(len(rows), 1) / total, dtype=rows.dtype)
    return float(prior.log() - lower.diagonal().log().sum()), mean, whiten
