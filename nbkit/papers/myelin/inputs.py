"""What a system is trained on: contrasts with gaps, regions that the losses weigh, turned and scaled copies.

Contrasts: a missing one is replaced by its mean, and a channel says whether it is there; Wei thesis 4.4 names it as a
limit that subjects with an incomplete set had to be left out. Regions of Eqs. 3.5 and 4.4: white-matter lesions,
normal-appearing white matter (NAWM), and all else; the thesis drew them by hand and names that as a limit, here a voxel
classifier stands in where a scan has none. Poses: a pose is drawn first and then applied, always the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F

from nbkit.core.checks import check_keys, require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.data.intensity import Over, Standardiser
from nbkit.data.synthesis import brain_box, brain_channels, on_grid

ROIS = ("lesions", "nawm")
_SHRINK = 50
"""Voxels' worth of the common covariance in each region's own: a region of few voxels has none to speak of."""

Segment = Callable[[Scan], Mapping[str, Volume]]


def drop_contrasts(channels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A copy of (2 C, x, y, z) channels in which each contrast is missing with probability one half, but not all.

    A contrast that is missing already stays so; the last one that would go is kept.
    """
    count = len(channels) // 2
    there = channels[count:].flatten(1).amax(1) > 0
    order = torch.rand(count, generator=generator)
    keep = there & (order < 0.5)
    if not bool(keep.any()):
        keep[torch.where(there, order, torch.inf).argmin()] = True
    return channels * keep.repeat(2)[:, None, None, None]


class ContrastReader(NamedTuple):
    """Scans as tensors in the brain's box, z-scored by constants of training scans.

    The constants are those of all voxels of the images, as published, or of the brain's (``standardiser.over``); an
    input outside the brain is then what 0 becomes, or its mean. `incomplete` says whether inputs may be missing; then
    there are channels that say which are there.
    """

    inputs: tuple[str, ...]
    target: str
    incomplete: bool
    standardiser: Standardiser

    @classmethod
    def fit(
        cls, scans: Sequence[Scan], inputs: tuple[str, ...], target: str, *, incomplete: bool, over: Over = "image"
    ) -> Self:
        """Learn the constants of each contrast from the scans that have it.

        Raises
        ------
        NbkitError
            If no scan has one of the contrasts or, unless `incomplete`, if one scan lacks it.
        """
        mean, sd = {}, {}
        for name in (*inputs, target):
            # where nobody has it, the first scan refuses by name
            having = [s for s in scans if name in s.images or not incomplete] or scans[:1]
            images = {name: [s.image(name) for s in having]}
            own = Standardiser.fit(images, [s.mask("brain") for s in having], over=over)
            mean[name], sd[name] = own.mean[name], own.sd[name]
        return cls(inputs, target, incomplete, Standardiser(mean, sd, over))

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.inputs) * (1 + self.incomplete)

    def channels(self, contrasts: Mapping[str, Volume], mask: Volume) -> torch.Tensor:
        """Inputs (channels, x, y, z); a missing one is refused by name.

        If `incomplete`, it is its mean, one is enough, and as many channels of 1 (there) or 0 (missing) follow.
        """
        there = [name for name in self.inputs if name in contrasts or not self.incomplete]
        require(
            bool(there), "ContrastReader: contrasts", expected=f"at least one of {', '.join(self.inputs)}",
            found=", ".join(contrasts) or "none", remedy="Add a contrast the model was trained with.",
        )
        maps = brain_channels(contrasts, there, mask=mask, standardiser=self.standardiser)
        if self.standardiser.over == "image":
            s, inside = self.standardiser, _inside(mask)
            nothing = torch.tensor([-s.mean[name] / s.sd[name] for name in there]).float()
            maps = torch.where(inside, maps, nothing[:, None, None, None])
        if not self.incomplete:
            return maps
        by_name, empty = dict(zip(there, maps)), torch.zeros_like(maps[0])
        values = [by_name.get(name, empty) for name in self.inputs]
        return torch.stack([*values, *(empty + float(name in by_name) for name in self.inputs)])

    def wanted(self, scan: Scan) -> torch.Tensor:
        """The target (1, x, y, z) of a scan."""
        image = {self.target: scan.image(self.target)}
        return brain_channels(image, (self.target,), mask=scan.mask("brain"), standardiser=self.standardiser)

    def image(self, values: torch.Tensor, mask: Volume, step: str) -> Volume:
        """z-scores (x, y, z) of the target as an image in its own unit, 0 outside the mask."""
        s = self.standardiser
        return on_grid(values * s.sd[self.target] + s.mean[self.target], mask=mask, step=step)


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


class Pose(NamedTuple):
    """Turns of 90° in the axial plane, from the first towards the second axis, then a scaling about the centre."""

    quarters: int = 0
    zoom: float = 1.0


POSES = (Pose(), Pose(1), Pose(2), Pose(3), Pose(zoom=1.25), Pose(zoom=0.75))
"""The image itself and the five of Wei thesis 4.3.1; the axis of its turns is not stated, axial is assumed."""


def draw_poses(count: int, generator: torch.Generator) -> list[Pose]:
    """`count` of :data:`POSES`, each equally likely."""
    return [POSES[i] for i in torch.randint(len(POSES), (count,), generator=generator).tolist()]


def posed(image: torch.Tensor, pose: Pose) -> torch.Tensor:
    """`image` in another pose.

    Parameters
    ----------
    image : torch.Tensor
        (C, X, Y, Z); whole numbers and bool take the nearest voxel when scaled, fractions are interpolated linearly.

    Returns
    -------
    torch.Tensor
        Same dtype, and same shape up to X and Y exchanged by an odd number of quarters. What a scaling uncovers is 0.
    """
    turned = torch.rot90(image, pose.quarters, dims=(1, 2))
    if pose.zoom == 1:
        return turned
    size = [max(1, round(n * pose.zoom)) for n in turned.shape[1:]]
    mode = {"mode": "trilinear", "align_corners": False} if image.is_floating_point() else {"mode": "nearest-exact"}
    scaled = F.interpolate(turned[None].float(), size=size, **mode)[0].to(image.dtype)
    spare = [n - m for n, m in zip(turned.shape[1:], size)]
    return F.pad(scaled, [side for s in reversed(spare) for side in (s // 2, s - s // 2)])


def posed_batch(images: torch.Tensor, poses: Sequence[Pose]) -> torch.Tensor:
    """:func:`posed` of every subject of (B, C, X, Y, Z), one pose each."""
    return torch.stack([posed(image, pose) for image, pose in zip(images, poses, strict=True)])
