"""The regional segmenter of real scans: learned from real heads with DLMUSE labels, varied so that it reads others too.

It stands where notebooks read volumes of scans that carry no labels. Its weights come with the project
(:func:`shipped`), its error on people it never saw too (:mod:`nbkit.papers.trajectories.scan_error`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nbkit.core.device import fast_half, pick_device
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.recent import Recent
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume, bounding_box
from nbkit.data.shipped import shipped_folder
from nbkit.data.splits import subject_hash
from nbkit.geometry.placement import place
from nbkit.metrics.regions import structure
from nbkit.nets.fcn import initialise
from nbkit.nets.unet import UNet
from nbkit.papers.trajectories.located import Located
from nbkit.papers.trajectories.regional_segmenter import (
    RegionalSegmenter, class_indices, scaled, shared_names, tissues_of, usual_place,
)
from nbkit.papers.trajectories.varied import Variety, mirrored, painted, reshaped, seen
from nbkit.training.checkpoint import Constants
from nbkit.training.loop import StripRule, train
from nbkit.training.steps import PlainStep


_VALUES, _BOXES, _EMPTY = "usual.values", "usual.boxes", 0.01
SAVED_EVERY = 100
"""Steps between two sets of weights that a training leaves on the way."""


@dataclass(frozen=True)
class Config(Variety):
    """Settings; all our choice.

    Attributes
    ----------
    contrast : str
        Image that is segmented.
    first, levels : int
        Feature maps of the first block of the U-Net, on cells of two voxels, and poolings.
    learning_rate, warm_up : float, int
        Of AdamW after so many steps; falls to nothing along a cosine.
    steps, batch : int
        Training steps, and heads seen in each.
    averaged : float
        Decay of the moving average of the weights, which is what reads.
    """

    contrast: str = "T1w"
    first: int = 24
    levels: int = 3
    learning_rate: float = 2e-3
    warm_up: int = 100
    steps: int = 1500
    batch: int = 1
    averaged: float = 0.995
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"first": 6, "levels": 2, "steps": 20, "warm_up": 4, "averaged": 0.8},
    }


class InCells(nn.Module):
    """A network that works on cells of two voxels: eight voxels in, eight out of every cell (space to depth).

    Parameters
    ----------
    net : torch.nn.Module
        (B, 8 C, x, y, z) -> (B, 8 K, x, y, z).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, X, Y, Z) -> (B, K, X, Y, Z); X, Y and Z even."""
        count, _, *shape = x.shape
        cells = [n // 2 for n in shape]
        split = x.reshape(count, -1, cells[0], 2, cells[1], 2, cells[2], 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
        made = self.net(split.reshape(count, -1, *cells))
        joined = made.reshape(count, -1, 2, 2, 2, *cells).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return joined.reshape(count, -1, *shape)


class ScanSegmenter(RegionalSegmenter):
    """Fit on heads with label maps at about 2 mm, then label and measure images of any grid in the same world."""

    settings = Config

    def fit(self, cohort: Cohort, *, so_far: Path | None = None) -> Self:
        """Train on one varied head after another.

        Parameters
        ----------
        cohort : Cohort
            Scans on one grid, uncut, with labels and the masks "brain" and "skull", either of which may cut them.
        so_far : Path, optional
            Folder that the averaged weights are written to every :data:`SAVED_EVERY` steps, ready to be loaded.

        Raises
        ------
        NbkitError
            If a scan has no labels, or scans name their codes differently.
        """
        c, scans = self.config, [scan for subject in cohort for scan in subject.scans]
        self.names, self._shares = shared_names(scans), Recent(2)
        self.shape, self.affine = scans[0].labels.shape, scans[0].labels.affine
        self.trained_on = subject_hash(cohort.ids)
        self._build(usual_place(scans, self.names))
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=c.learning_rate)
        plan = torch.optim.lr_scheduler.SequentialLR(optimiser, [
            torch.optim.lr_scheduler.LinearLR(optimiser, 0.01, total_iters=c.warm_up),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(c.steps - c.warm_up, 1)),
        ], milestones=[c.warm_up])
        average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(c.averaged))
        net, half = self.net, fast_half(self.device)
        step = PlainStep(net, optimiser, loss=self._loss, device=self.device, half=half, clip=5.0)

        def epoch(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            drawn = [self._example(scans, c.batch * (number - 1) + k) for k in range(1, c.batch + 1)]
            yield tuple(map(torch.cat, zip(*drawn, strict=True)))
            plan.step()
            average.update_parameters(net)
            if so_far is not None and number % SAVED_EVERY == 0:
                self.net = average.module
                self.save(so_far)

        state = {"step": step, "plan": plan, "average": average}
        history = train(step, epoch, epochs=c.steps, rule=StripRule(), state=state, label="scan segmenter")
        self.history, self.net = history.as_dict(), average.module
        return self

    def segment(self, image: Volume, *, mask: Volume) -> Volume:
        """The likeliest structure of every voxel of `image`, read at the grid of training; 0 outside `mask`."""
        laid, inside = self._laid(image, mask)
        shares = self.probabilities(laid, mask=inside)
        there = place(shares, np.eye(4), shape=image.shape, affine=image.affine).data * mask.data.bool()
        codes = torch.tensor([0, *self.names], dtype=torch.int16)
        best = torch.cat([1 - there.sum(0, keepdim=True), there]).argmax(0)
        return Volume(codes[best], image.affine, (*image.history, "regional segmentation"))

    def _counted(self, image: Volume, mask: Volume) -> dict[str, float]:
        return super()._counted(*self._laid(image, mask))

    def _laid(self, image: Volume, mask: Volume) -> tuple[Volume, Volume]:
        """Image and mask on the grid of training."""
        if image.shape == self.shape and np.allclose(image.affine, self.affine):
            return image, mask
        grid = {"shape": self.shape, "affine": self.affine}
        share = place(mask, np.eye(4), **grid)
        return place(image, np.eye(4), **grid), share.with_data(share.data > 0.5)

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = dict(super()._tensors())
        values, boxes = packed(tensors.pop("usual"))
        return tensors | {_VALUES: values, _BOXES: boxes}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        whole = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
        if _VALUES in whole:
            cells = tuple(n // 2 for n in constants["shape"])
            whole["usual"] = unpacked(whole.pop(_VALUES), whole.pop(_BOXES), cells)
        super()._restore(whole, constants, where)  # weights may be kept in half precision

    def _build(self, usual: torch.Tensor) -> None:
        c, kinds = self.config, 1 + len(self.names)
        net = InCells(UNet(8, 8 * kinds, first=c.first, levels=c.levels, norm=True))
        net = initialise(net, torch_generator(c.seed, "weights", "scan segmenter"))
        net = net.to(memory_format=torch.channels_last_3d)
        self.net = Located(net, usual, tissues_of(self.names), self.shape).to(self.device)

    def _example(self, scans: Sequence[Scan], number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A varied image (1, 1, X, Y, Z) and its class indices (1, 1, X, Y, Z) of draw `number`."""
        c, rng = self.config, torch_generator(self.config.seed, "scan segmenter step", number)
        scan = scans[int(torch.randint(len(scans), (), generator=rng))]
        edge, flip, bent, kind = torch.rand(4, generator=rng).tolist()
        maps = {
            "image": scan.image(c.contrast).data.float(), "classes": class_indices(scan.labels.data, self.names),
            "inside": scan.mask("brain" if edge < 0.5 else "skull").data,
        }
        maps = mirrored(maps, self._swap(), codes="classes") if flip < 0.5 else maps
        maps = reshaped(maps, self.affine, c, rng) if bent < c.shape else maps
        classes, inside = maps["classes"], maps["inside"].bool()
        image = painted(classes, 1 + len(self.names), rng) if kind < c.synthetic else maps["image"]
        spacing = float(np.linalg.norm(self.affine[:3, 0]))
        return scaled(seen(image * inside, spacing, c, rng), inside)[None], (classes * inside)[None]

    def _swap(self) -> torch.Tensor:
        """Class index of the same structure on the other side."""
        names, sides = ["", *self.names.values()], ("_left", "_right")
        pairs = {structure(name) + a: structure(name) + b for name in names for a, b in (sides, sides[::-1])}
        return torch.tensor([names.index(other) if (other := pairs.get(n, n)) in names else k
                             for k, n in enumerate(names)])


def packed(usual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log shares (1 + K, x, y, z) by what lies in the box of each map above its smallest value: nearly all is empty.

    Returns
    -------
    values, boxes : torch.Tensor
        Smallest value first, then the boxes' content, one after another (N,); starts and stops (1 + K, 3, 2), int32.
    """
    least = usual.min()
    filled = usual > least + _EMPTY
    boxes = [bounding_box(one) if one.any() else (slice(0, 0),) * 3 for one in filled]
    content = [one[box].flatten() for one, box in zip(usual, boxes, strict=True)]
    ends = torch.tensor([[[s.start, s.stop] for s in box] for box in boxes], dtype=torch.int32)
    return torch.cat([least[None], *content]), ends


def unpacked(values: torch.Tensor, boxes: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Inverse of :func:`packed`, to within :data:`_EMPTY`."""
    usual, start = values[0].repeat(len(boxes), *shape), 1
    for one, ends in zip(usual, boxes.tolist(), strict=True):
        box = tuple(slice(*pair) for pair in ends)
        count = one[box].numel()
        one[box] = values[start:start + count].reshape(one[box].shape)
        start += count
    return usual


def shipped(*, device: str = "auto") -> ScanSegmenter:
    """The segmenter of real scans that comes with the project.

    Raises
    ------
    NbkitError
        If its weights are missing or not those listed.
    """
    model = ScanSegmenter.load(shipped_folder("scan_segmenter"))
    model.device = pick_device(device)
    model.net.to(model.device)
    return model
