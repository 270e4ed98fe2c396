"""Where to cut and how to colour: one cut, one crop and one scale for everything that is compared.

All panels are neurological (left is left), whatever the orientation of the file, and show the brain only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from nbkit.core.checks import known, require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume, bounding_box

ORIENTATION = "Axial slices in neurological orientation: left is left."

Box = tuple[float, float, float, float]
FINE_MM = 0.6
"""Largest pixel of what is drawn smoothly: a quarter of a millimetre of paper where a head is as wide as 60 mm."""

ACROSS = {"axial": 2, "coronal": 1}
"""Axis across the slice, in RAS order. Right is the first axis of both planes."""


def canonical(volume: Volume) -> Volume:
    """Reorder and flip axes so that they point as nearly as possible to Right, Anterior, Superior.

    No resampling: an oblique image keeps its grid, and only its axes are renamed.
    """
    rotation = volume.affine[:3, :3] / np.array(volume.spacing)
    order = linear_sum_assignment(-np.abs(rotation))[1]
    data, affine = volume.data.permute(0, *(order + 1).tolist()), volume.affine[:, [*order, 3]].copy()
    for axis in range(3):
        if affine[axis, axis] < 0:
            data = data.flip(axis + 1)
            affine[:, 3] += affine[:, axis] * (data.shape[axis + 1] - 1)
            affine[:, axis] *= -1
    return Volume(data, affine, volume.history)


def informative_slice(brain: Volume, lesions: Volume | None = None) -> int:
    """Axial slice (index in RAS order) with the most lesion voxels; without lesions, the middle of the brain."""
    mask = canonical(brain).data[0].bool()
    if lesions is not None and bool(lesions.data.any()):
        return int(canonical(lesions).data[0].bool().sum((0, 1)).argmax())
    levels = bounding_box(mask)[2]
    return (levels.start + levels.stop - 1) // 2


@dataclass(frozen=True)
class View:
    """One cut, cropped, shared by all images of one grid.

    Parameters
    ----------
    brain : Volume
        Mask in RAS order; voxels outside it are not drawn.
    index : int
        Slice of that mask.
    box : tuple of slice
        In-plane crop in voxels: along R and A (axial), or R and S (coronal).
    plane : {"axial", "coronal"}
    detail : bool
        A few centimetres of a slice, whose voxels are to be seen.
    """

    brain: Volume
    index: int
    box: tuple[slice, slice]
    plane: str = "axial"
    detail: bool = False

    @property
    def within(self) -> tuple[int, int]:
        """The two axes of the plane, in RAS order."""
        return tuple(axis for axis in range(3) if axis != ACROSS[self.plane])

    def cut(self, volume: Volume) -> np.ndarray:
        """Values (right, anterior or superior) of the first channel; NaN outside the brain."""
        image = canonical(volume)
        image.check_grid(self.brain, "figures: image and brain mask")
        at = [0, *self.box]
        at.insert(1 + ACROSS[self.plane], self.index)
        values = image.data[tuple(at)].detach().cpu().to(torch.float32).numpy().copy()
        values[~self.brain.data[tuple(at)].bool().cpu().numpy()] = np.nan
        return values

    def smooth(self, volume: Volume, *, order: int = 3) -> np.ndarray:
        """As :meth:`cut`, interpolated in the plane by splines of `order` to pixels of at most 0.6 mm.

        Nothing overshoots the values of the slice, and values outside the brain have no part in it.
        """
        values, times = self.cut(volume), [math.ceil(round(step / FINE_MM, 6)) for step in self.spacing]
        inside = np.isfinite(values)
        if not inside.any() or max(times) == 1:
            return values
        nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
        given = {"zoom": times, "mode": "nearest", "grid_mode": True}
        fine = ndimage.zoom(values[tuple(nearest)], order=order, **given)
        fine = fine.clip(values[inside].min(), values[inside].max())
        fine[ndimage.zoom(inside.astype(np.float32), order=1, **given) <= 0.5] = np.nan
        return fine

    @property
    def spacing(self) -> tuple[float, float]:
        """Size of a pixel in mm."""
        return tuple(self.brain.spacing[axis] for axis in self.within)

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the crop in mm."""
        (a, b), (sx, sy) = self.box, self.spacing
        return (a.stop - a.start) * sx, (b.stop - b.start) * sy

    @property
    def level_mm(self) -> float:
        """World z (axial) or y (coronal) of the centre of the slice in mm."""
        centre = [(s.start + s.stop - 1) / 2 for s in self.box]
        centre.insert(ACROSS[self.plane], self.index)
        return float((self.brain.affine @ np.array([*centre, 1.0]))[ACROSS[self.plane]])

    @property
    def level(self) -> str:
        """Where the slice lies, in words: ``"z = −3 mm"``."""
        return f"{'xyz'[ACROSS[self.plane]]} = {self.level_mm:.0f} mm".replace("-", "−")

    def outline_of(self, part: View) -> Box:
        """Rectangle, in mm within this view, of another view of the same slice."""
        (sx, sy), (w, h) = self.spacing, part.size_mm
        return (part.box[0].start - self.box[0].start) * sx, (part.box[1].start - self.box[1].start) * sy, w, h

    def zoomed(self, box_mm: Box, *, size_mm: float = 48.0) -> View:
        """The same slice, cropped to a square of `size_mm` around `box_mm`, moved inside the crop."""
        box = []
        for axis, old in enumerate(self.box):
            spacing = self.spacing[axis]
            n = min(round(size_mm / spacing), old.stop - old.start)
            centre = old.start + (box_mm[axis] + box_mm[axis + 2] / 2) / spacing
            start = min(max(round(centre - n / 2), old.start), old.stop - n)
            box.append(slice(start, start + n))
        return View(self.brain, self.index, tuple(box), self.plane, detail=True)


def view_of(brain: Volume, lesions: Volume | None = None, *, index: int | None = None, margin_mm: float = 3.0) -> View:
    """The most informative axial slice, cropped to the box of the whole brain.

    Parameters
    ----------
    brain, lesions : Volume
        Masks on one grid.
    index : int, optional
        Axial slice in RAS order, instead of the choice of :func:`informative_slice`.
    """
    level = informative_slice(brain, lesions) if index is None else index
    mask = canonical(brain)
    require(
        0 <= level < mask.shape[2], "view_of: index", expected=f"a slice from 0 to {mask.shape[2] - 1}", found=level,
        remedy="Leave index out to have an informative slice chosen.",
    )
    return _cropped(mask, level, "axial", margin_mm)


def view_at(brain: Volume, level_mm: float, *, plane: str = "axial", margin_mm: float = 3.0) -> View:
    """The slice nearest to a world level (mm; z of an axial, y of a coronal slice), cropped to the box of the brain.

    Raises
    ------
    NbkitError
        For an unknown plane, or a level that the brain does not reach.
    """
    across, mask = ACROSS[known(plane, ACROSS, "view_at: plane")], canonical(brain)
    box = bounding_box(mask.data[0].bool())
    centre = np.array([(s.start + s.stop - 1) / 2 for s in box] + [1.0])
    step = mask.affine[across, across]
    index = round(centre[across] + (level_mm - (mask.affine @ centre)[across]) / step)
    lowest, highest = ((mask.affine @ centre)[across] + (i - centre[across]) * step
                       for i in (box[across].start, box[across].stop - 1))
    require(
        box[across].start <= index < box[across].stop, "view_at: level_mm",
        expected=f"a level within the brain, {lowest:.0f} to {highest:.0f} mm", found=level_mm,
        remedy="Align the brain with MNI space first, or name a level that it has.",
    )
    return _cropped(mask, index, plane, margin_mm)


def _cropped(mask: Volume, index: int, plane: str, margin_mm: float) -> View:
    box = []
    for axis, s in enumerate(bounding_box(mask.data[0].bool())):
        grow = round(margin_mm / mask.spacing[axis])
        box.append(slice(max(s.start - grow, 0), min(s.stop + grow, mask.shape[axis])))
    del box[ACROSS[plane]]
    return View(mask, index, tuple(box), plane)


def lesion_boxes(lesions: Volume, view: View, *, most: int = 3, pad_mm: float = 3.0) -> tuple[Box, ...]:
    """Rectangles (left, bottom, width, height in mm within `view`) round its largest lesions, largest first."""
    mask = np.nan_to_num(view.cut(lesions)) > 0
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    regions = ndimage.find_objects(labels)
    (sx, sy), boxes = view.spacing, []
    for i in np.argsort(-areas, kind="stable")[:most]:
        a, b = regions[i]
        boxes.append((a.start * sx - pad_mm, b.start * sy - pad_mm,
                      (a.stop - a.start) * sx + 2 * pad_mm, (b.stop - b.start) * sy + 2 * pad_mm))
    return tuple(boxes)


@dataclass(frozen=True)
class Scale:
    """Which numbers the colours stand for; a row whose scale has a `label` (with unit) gets a colour bar."""

    low: float
    high: float
    cmap: str = "gray"
    label: str = ""


def _inside(volume: Volume, brain: Volume) -> np.ndarray:
    volume.check_grid(brain, "figures: image and brain mask")
    return volume.data[0].detach()[brain.data[0].bool()].float().cpu().numpy()


def grey_scale(image: Volume, brain: Volume, *, percentiles: tuple[float, float] = (0.5, 99.7)) -> Scale:
    """Greys between two percentiles of the brain, shared by an image and everything compared with it."""
    low, high = np.nanpercentile(_inside(image, brain), percentiles)
    return Scale(float(low), float(max(high, low + 1e-6)))


def thumbnails(*scans: Scan, contrasts: Iterable[str] = ("T1w",)) -> list[np.ndarray]:
    """Of each scan and contrast it has, the middle axial slice of its brain: greys from 0 to 1, NaN around.

    Rows run downwards from the front, columns from left to right.
    """
    drawn = []
    for scan, name in ((scan, name) for scan in scans for name in contrasts if name in scan.images):
        image, brain = scan.image(name), scan.mask("brain")
        scale, values = grey_scale(image, brain), view_of(brain).smooth(image)
        drawn.append(((values - scale.low) / (scale.high - scale.low)).clip(0.0, 1.0).T[::-1])
    return drawn


def dimmed(grey: Scale, *, times: float = 1.8) -> Scale:
    """Greys drawn out, so that what lies over them stands out."""
    return replace(grey, high=grey.low + times * (grey.high - grey.low))


def difference_scale(differences: Iterable[Volume], brain: Volume, *, label: str, signed: bool = False) -> Scale:
    """One scale for several differences, up to the 99th percentile of their size in the brain.

    `signed` gives a diverging map centred on 0; otherwise a sequential one from 0.
    """
    size = np.abs(np.concatenate([_inside(d, brain) for d in differences]))
    high = float(max(np.nanpercentile(size, 99), 1e-6))
    return Scale(-high, high, "RdBu_r", label) if signed else Scale(0.0, high, "inferno", label)


def rival_scale(rivals: Iterable[Iterable[Volume]], brain: Volume, *, label: str) -> Scale:
    """One signed scale for the differences of several rivals: the median of their own, so that one bad rival does not
    take the colour from all others."""
    highs = [difference_scale(differences, brain, label=label, signed=True).high for differences in rivals]
    return Scale(-float(np.median(highs)), float(np.median(highs)), "RdBu_r", label)
