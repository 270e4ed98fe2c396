"""DaniNet in three dimensions: a stack of slices, each aged by one network that is told its level.

Ravi et al., "Degenerative adversarial neuroimage nets for brain scan simulations: Application in ageing and dementia",
Medical Image Analysis 75:102257 (2022), is what MRExtrap compares itself with. Of it this project has the abstract: a
DaniNet of slices, kept consistent in 3D during training by "profile weight functions", a 3D super-resolution, and the
tuning to the person. Read here as simply as possible. Every axial slice of the brain is a DaniNet's slice, with its
level's own regions and regressors. One network serves all levels, and is told the level by overlapping profiles, so
that neighbours share what they learn. Slices are trained in pairs of neighbours, whose difference must be the true one.
T tunes one copy of the network to all slices of the person. Left out is the super-resolution: slices have the scan's
own voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F

from nbkit.core.checks import check_same_grid, require
from nbkit.core.protocols import Cohort, Scan, age_of
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.papers.daninet.aged_slices import AgedSlices, SliceFrame
from nbkit.papers.daninet.config import CODES, Config
from nbkit.papers.daninet.constraints import AgeingBatch, AgeingObjective, Terms, mean_square
from nbkit.papers.daninet.daninet import DaniNet
from nbkit.papers.daninet.personalise import Tuning, at_all, personalise
from nbkit.papers.daninet.regional_rates import RegionalRates

_GROWTH = {"growth": "transposed"}  # the other takes four times the products, of each of a hundred slices
_FEWEST_PIXELS = 4
"""Times the number of regions: a level with less brain than that, in half of the training scans, is not modelled."""


@dataclass(frozen=True)
class Config3D(Config):
    """Settings of a :class:`~nbkit.papers.daninet.config.Config`, for every level; the article's own are not at hand.

    Attributes
    ----------
    size : int
        Pixels along an edge of the square around the brain that is predicted, of the scans' own voxels.
    profiles_over_levels : int
        Bell curves over the levels by which a level is told, one profile apart from each other.
    consistency_weight : float
        Of the mean squared error of the difference between neighbouring slices; as much as that of slices.
    transfer_batch : int
        Slices that a step of T sees, in pairs of neighbours: of a brain of a hundred slices each about once, as in two
        dimensions.
    """

    profiles_over_levels: int = 16
    consistency_weight: float = 0.2
    transfer_batch: int = 100
    subjects_at_once: int = 1

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            **Config.profiles["smoke"], **_GROWTH, "size": 64, "widths": (4, 8, 8, 16), "profiles_over_levels": 4,
            "regions": 4, "batch": 8, "epochs": 8, "transfer_steps": 2, "transfer_batch": 8,
        },
        "laptop": {
            **Config.profiles["laptop"], **_GROWTH, "profiles_over_levels": 8, "regions": 8, "epochs": 600,
            "learning_rate": 2e-3, "transfer_steps": 60, "transfer_batch": 16,
        },
        "overnight": {**Config.profiles["overnight"], "epochs": 2_000, "transfer_steps": 80},
    }


@dataclass(frozen=True, eq=False)
class StackFrame(SliceFrame):
    """The slices of a volume that are predicted, in place: a square in so many neighbouring axial planes.

    Parameters
    ----------
    shape, affine
        Of the volumes: (X, Y, Z), and 4×4 voxel-to-world (mm) with z up.
    size : int
    corner : tuple of int
        First voxel of the square along x and y; below 0 it begins before the volume does.
    levels : tuple of int
        First plane, and number of planes.
    """

    size: int = 0
    corner: tuple[int, int] = (0, 0)
    levels: tuple[int, int] = (0, 0)

    @classmethod
    def of(
        cls, scans: Sequence[Scan], *, contrast: str, size: int, intensities: str = "peak", fewest: int = 1
    ) -> Self:
        """Learn the constants: planes in which half of the scans' brains have `fewest` pixels, a square in the middle.

        Raises
        ------
        NbkitError
            For no scans, volumes on different grids or without a brain mask, or whose third axis is not z.
        """
        first = scans[0].image(contrast)
        turned = np.abs(first.affine[2, :2]).max() > 1e-3 * abs(first.affine[2, 2])
        require(
            not turned and first.affine[2, 2] > 0, f"DaniNet3D: {contrast}", expected="volumes whose third axis is z",
            found=np.round(first.affine[:3, :3], 2).tolist(), remedy="Resample the scans onto such axes first.",
        )
        brain = torch.stack([scan.mask("brain").data[0].bool() for scan in scans]).float().mean(dim=0) >= 0.5
        planes = (brain.sum(dim=(0, 1)) >= fewest).nonzero().flatten().tolist()
        require(
            len(planes) > 1, "DaniNet3D: brain", expected=f"two planes or more with {fewest} pixels of brain",
            found=len(planes), remedy="Look at the masks, or use fewer regions.",
        )
        corner = tuple(_middle(brain.any(dim=tuple(a for a in range(3) if a != axis))) - size // 2 for axis in (0, 1))
        bare = cls(
            contrast, tuple(first.shape), first.affine, 1.0, intensities, size, corner,
            (planes[0], planes[-1] - planes[0] + 1),
        )
        return bare.peaking(scans)

    def inside(self, scan: Scan) -> torch.Tensor:
        """(L, S, S) bool: the scan's mask "brain"."""
        mask = scan.mask("brain")
        check_same_grid(self.shape, self.affine, mask.shape, mask.affine, f"{scan.subject}/{scan.session}: brain mask")
        return self._taken(mask.data[0].float()) > 0

    def placed(self, stack: torch.Tensor, scan: Scan, step: str) -> Volume:
        """A stack (L, S, S) in the scans' unit in its place; 0 outside the brain, outside the stack the scan itself."""
        image, brain = scan.image(self.contrast), scan.mask("brain").data.bool()
        planes, data = self._planes(), image.data[0].float().clone()
        covered = F.pad(torch.ones_like(stack[:1]), [-p for p in self._padding()])[0] > 0
        back = F.pad(stack, [-p for p in self._padding()]).permute(1, 2, 0)
        data[..., planes] = torch.where(covered[..., None], back, data[..., planes])
        return image.with_data((data * brain[0])[None], step)

    def _image(self, scan: Scan) -> torch.Tensor:
        image = scan.image(self.contrast)
        check_same_grid(self.shape, self.affine, image.shape, image.affine, f"{scan.subject}/{scan.session}")
        return self._taken(image.data[0].float())

    def _taken(self, data: torch.Tensor) -> torch.Tensor:
        """(X, Y, Z) -> (L, S, S)."""
        return F.pad(data.permute(2, 0, 1)[self._planes()], self._padding())

    def _planes(self) -> slice:
        return slice(self.levels[0], sum(self.levels))

    def _padding(self) -> list[int]:
        """Before and behind, along y and x; less than 0 cuts off."""
        (x, y), size = self.corner, self.size
        return [-y, y + size - self.shape[1], -x, x + size - self.shape[0]]


class StackObjective(AgeingObjective):
    """Eq. 6 for slices in pairs of neighbours, whose difference counts too ("consistency" among the weights)."""

    def _alike(self, batch: AgeingBatch, made: Terms) -> Terms:
        lower, upper = (made["image"][k::2] - batch.slices.image[k::2] for k in (0, 1))
        return super()._alike(batch, made) | {"consistency": mean_square(upper, lower).repeat_interleave(2)}


class DaniNet3D(DaniNet):
    """A :class:`~nbkit.core.protocols.TrajectoryModel` of volumes: DaniNet's slices stacked, see the module.

    Drawn as "daninet3d" (:mod:`nbkit.figures.marks`). It looks at the last scan seen, and predicts the brain's planes;
    the few at its ends that hold too little of it stay as they are in that scan.
    """

    settings = Config3D
    frames = StackFrame
    objective = StackObjective
    remembered = 16

    def _frame(self, scans: Sequence[Scan]) -> StackFrame:
        c = self.config
        return StackFrame.of(
            scans, contrast=c.contrast, size=c.size, intensities=c.intensities, fewest=_FEWEST_PIXELS * c.regions,
        )

    @property
    def _depth(self) -> int:
        return self.frame.levels[1]

    def _slices(self, scans: Sequence[Scan], codes: Sequence[int]) -> AgedSlices:
        """All slices of all scans; what is told is the pair of diagnosis and level."""
        stacks, depth = super()._slices(scans, codes), self._depth
        rows = {name: x.repeat_interleave(depth) for name, x in stacks.named().items() if x.ndim == 1}
        level = torch.arange(depth).repeat(len(stacks))
        rows["diagnosis"] = rows["diagnosis"] * depth + level
        return replace(stacks, image=stacks.image.flatten(0, 1), inside=stacks.inside.flatten(0, 1), **rows)

    def _learn_rates(self, cohort: Cohort, slices: AgedSlices) -> RegionalRates:
        """Regions and regressors of every level: masks (L, R, S, S), ratios (D · L, A, A, R)."""
        at = [super(DaniNet3D, self)._learn_rates(cohort, slices.rows(torch.arange(k, len(slices), self._depth)))
              for k in range(self._depth)]
        masks, ratios = torch.stack([r.masks for r in at]), torch.stack([r.ratios for r in at], dim=1)
        return RegionalRates(masks, ratios.flatten(0, 1), self.bins)

    def _rate_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        (regions, *plane), (codes, *ages) = super()._rate_shapes()
        return (self._depth, regions, *plane), (codes * self._depth, *ages)

    def _told(self) -> torch.Tensor:
        """Diagnosis, under C, and level of every pair of both."""
        told, places = super()._told(), level_profiles(self._depth, self.config.profiles_over_levels)
        told = torch.empty(CODES, 0) if told is None else told
        return torch.cat([told.repeat_interleave(self._depth, dim=0), places.repeat(CODES, 1)], dim=1)

    def _weights(self) -> dict[str, float]:
        return super()._weights() | {"consistency": self.config.consistency_weight}

    def _batches(self, slices: AgedSlices, epoch: int) -> Iterator[AgeingBatch]:
        """Pairs of neighbouring slices; no pair comes again in an epoch."""
        c, rng = self.config, torch_generator(self.config.seed, "batches", epoch)
        lower = torch.arange(len(slices)).view(-1, self._depth)[:, :-1].flatten()
        size = min(max(c.batch // 2, 1), len(lower))
        for chosen in torch.randperm(len(lower), generator=rng).split(size)[: c.batches_per_epoch]:
            drawn = slices.rows(_pairs(lower[chosen]))
            prior = 2 * torch.rand(len(drawn), c.latent, generator=rng) - 1
            yield AgeingBatch(drawn.to(self.device), prior.to(self.device), self._full(len(drawn)))

    def _generate(self, slices: AgedSlices) -> torch.Tensor:
        """Stacks (N, A, L, S, S) at all ages, from −1 to 1."""
        made = []
        for rows in torch.arange(len(slices) // self._depth).split(self.config.subjects_at_once):
            places = (rows[:, None] * self._depth + torch.arange(self._depth)).flatten()
            people = slices.rows(places).to(self.device).named()
            made.append(self._stacks({name: x.unflatten(0, (len(rows), self._depth)) for name, x in people.items()}))
        return torch.cat(made).cpu()

    def _stacks(self, people: Mapping[str, torch.Tensor]) -> torch.Tensor:
        c, objective = self.config, self.objective_of()
        size = min(c.transfer_batch // 2, self._depth - 1)

        def shown(examples: Mapping[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
            drawn = torch.randperm(self._depth - 1, generator=torch_generator(c.seed, "transfer", step))[:size]
            return {name: x[:, _pairs(drawn).to(self.device)] for name, x in examples.items()}

        def loss(call: Any, person: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return objective.unjudged(call, AgedSlices(**person), full=self._full(2 * size))

        tuning = Tuning(
            loss=loss, steps=c.transfer_steps * c.transfer, learning_rate=c.transfer_learning_rate,
            betas=(c.beta1, 0.999), shown=shown,
        )
        weights, bins = personalise(self.net, people, tuning=tuning), torch.arange(c.ages, device=self.device)

        def at_every_age(call: Any, person: Mapping[str, torch.Tensor]) -> torch.Tensor:
            rows = torch.arange(self._depth, device=self.device).repeat(c.ages)
            stacks = call(person["image"][:, None], rows, bins.repeat_interleave(self._depth), person["diagnosis"])[1]
            return stacks.unflatten(0, (c.ages, self._depth))

        with torch.no_grad():
            return at_all(self.net, weights, people, act=at_every_age)

    def _mixed(self, images: torch.Tensor, scan: Scan, age: float) -> Volume:
        stack = self._at(images.flatten(2), age).unflatten(-1, images.shape[2:])
        step = f"DaniNet3D {self.config.name} at {age:g} years from a scan at {age_of(scan):g}"
        return self.frame.placed(stack, scan, step)


def level_profiles(levels: int, count: int) -> torch.Tensor:
    """How much each of `levels` belongs to each of `count` profiles, (levels, count) from −1 to 1.

    Profiles are bell curves (normal densities, 1 at their middle) evenly spaced from the first level to the last, with
    a standard deviation of the distance between two of them: levels near each other are told nearly the same.
    """
    centres = torch.linspace(0, levels - 1, count)
    apart = (torch.arange(levels)[:, None] - centres) / (centres[1] - centres[0])
    return 2 * torch.exp(-apart.square() / 2) - 1


def _pairs(lower: torch.Tensor) -> torch.Tensor:
    return torch.stack([lower, lower + 1], dim=1).flatten()


def _middle(seen: torch.Tensor) -> int:
    """Half-way between the first and the last that is true."""
    places = seen.nonzero().flatten()
    return int(places[0] + places[-1] + 1) // 2
