"""Templates over age without training: kernel regression of images, of shapes, or of each person's own change.

The control of Atlas-GAN. Davis et al., "Population shape regression from random design data", IJCV 2010, average
diffeomorphisms by a kernel over age; here in the log domain, where the average of velocity fields is a mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from nbkit.core.checks import known, require
from nbkit.core.config import Settings
from nbkit.core.device import pick_device, spread
from nbkit.core.protocols import Scan
from nbkit.papers.inbrainsyn.aged import AgedTemplate, GroupFrame, persons
from nbkit.geometry import registration
from nbkit.geometry.flow import Velocity, expv
from nbkit.geometry.warp import Displacement, warp
from nbkit.training.checkpoint import Constants, check_tensors

VARIANTS = ("intensity", "shape", "longitudinal")


@dataclass(frozen=True)
class Config(Settings):
    """Settings.

    Attributes
    ----------
    variant : {"intensity", "shape", "longitudinal"}
        Kernel-weighted mean of the images, blurred by what the people do not share; the mean image in the shape
        that is the kernel-weighted mean of their shapes (Davis et al.); or in a shape that starts from the mean
        of all and moves with age as the people's own shapes do between their visits. The second compares
        different people at different ages, so its trajectory carries the chance of who was scanned when; the
        third needs people who were scanned twice.
    bandwidth_years : float
        Standard deviation of the Gaussian kernel. In five years a ventricle grows by a fifth or less, so the
        smear stays small, and a window of that width holds a third of a group that spans 35 years.
    beyond_years : float
        How far outside the group's ages a template may be asked for. There "shape" and "intensity" stay still,
        and "longitudinal" goes on at the last pace.
    knot_years : float
        The trajectory is kept at ages this far apart and interpolated linearly; well below the bandwidth.
    visits : int or None
        Visits used of each person, spread from first to last; None for all.
    mean_persons, mean_rounds : int
        The common space starts from the plain mean of so many people (spread over age, one scan each), who are
        registered to it so many times.
    levels_mm, iterations, velocity_mm
        Of :class:`nbkit.geometry.registration.Config`.
    """

    variant: str = "longitudinal"
    bandwidth_years: float = 5.0
    beyond_years: float = 5.0
    knot_years: float = 2.0
    visits: int | None = None
    mean_persons: int = 32
    mean_rounds: int = 3
    levels_mm: tuple[float, ...] = registration.Config.levels_mm
    iterations: tuple[int, ...] = registration.Config.iterations
    velocity_mm: float = registration.Config.velocity_mm
    device: str = "auto"

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "visits": 2, "mean_persons": 4, "mean_rounds": 1, "levels_mm": (16.0, 8.0), "iterations": (10, 8),
            "velocity_mm": 8.0, "beyond_years": 40.0,
        },
        "laptop": {
            "visits": 2, "mean_persons": 8, "mean_rounds": 2, "levels_mm": (12.0, 6.0, 3.0),
            "iterations": (20, 15, 10), "velocity_mm": 6.0,
        },
        "overnight": {
            "visits": None, "mean_persons": 16, "levels_mm": (12.0, 6.0, 4.0, 2.0), "iterations": (30, 20, 15, 10),
            "velocity_mm": 4.0,
        },
    }

    def __post_init__(self) -> None:
        known(self.variant, VARIANTS, "kernel_template.Config: variant")
        sizes = (self.bandwidth_years, self.knot_years, self.mean_persons, self.visits or 2)
        require(
            min(sizes) > 0 and self.beyond_years >= 0 and (self.visits or 2) >= 2, "kernel_template.Config",
            expected="positive bandwidth, knots and persons, and at least 2 visits", found=sizes,
            remedy="Leave the defaults, or raise what is 0.",
        )

    def registration(self) -> registration.Config:
        """Settings of every registration."""
        return registration.Config(levels_mm=self.levels_mm, iterations=self.iterations, velocity_mm=self.velocity_mm)


def kernel_weights(at: torch.Tensor, ages: torch.Tensor, shares: torch.Tensor, *, bandwidth: float) -> torch.Tensor:
    """Nadaraya-Watson weights (K, N) of N values at `ages` for the K ages `at` (years); every row sums to 1.

    A Gaussian of standard deviation `bandwidth` (years) times `shares` (N), the weight of each value by itself.
    """
    far = (at[:, None] - ages) / bandwidth
    return torch.softmax(shares.log() - far.square() / 2, dim=1)


def trajectory_weights(people: Sequence[Sequence[float]], at: torch.Tensor, *, config: Config) -> torch.Tensor:
    """Weights (K, N) that turn the values of N visits into a trajectory at the K ages `at` (rising, years).

    Every row sums to 1. Visits are counted person by person. In "intensity" and "shape" a person's visits share
    one weight, so that many visits do not make many people. In "longitudinal" the trajectory's slope is the
    kernel-weighted mean of the changes per year between consecutive visits, each counted by its years, at the age
    half-way between; its height is such that people lie above and below it alike.

    Parameters
    ----------
    people : sequence of sequence of float
        Ages of each person's visits, rising.
    """
    ages = torch.tensor([a for visits in people for a in visits], dtype=torch.float64)
    shares = torch.tensor([1 / len(visits) for visits in people for _ in visits], dtype=torch.float64)
    if config.variant != "longitudinal":
        return kernel_weights(at, ages, shares, bandwidth=config.bandwidth_years)
    ends = np.cumsum([len(visits) for visits in people])
    later = [i for i in range(1, len(ages)) if i not in ends and ages[i] > ages[i - 1]]
    require(
        len(later) > 0, "KernelTemplate.fit: scans", expected="somebody who was scanned at two ages", found="nobody",
        remedy="Use variant='shape', which compares people of different ages.",
    )
    later = torch.tensor(later)
    years = ages[later] - ages[later - 1]
    pace = kernel_weights(at, (ages[later] + ages[later - 1]) / 2, years, bandwidth=config.bandwidth_years) / years
    slope = torch.zeros(len(at), len(ages), dtype=torch.float64)
    slope.index_add_(1, later, pace).index_add_(1, later - 1, -pace)
    gains = (slope[1:] + slope[:-1]) / 2 * at.diff()[:, None]
    moved = torch.cat([torch.zeros(1, len(ages), dtype=torch.float64), gains.cumsum(dim=0)])
    share = shares / shares.sum()
    return moved + share - share @ _between(at, ages) @ moved


def _between(at: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    """Matrix (N, K) that interpolates values at the rising `at` (K) linearly at `ages` (N)."""
    rows = [np.interp(ages.numpy(), at.numpy(), row) for row in np.eye(len(at))]
    return torch.from_numpy(np.stack(rows, axis=1))


class KernelTemplate(AgedTemplate):
    """A :class:`~nbkit.core.protocols.TemplateModel` by kernel regression over age."""

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.title = f"{self.config.variant} kernel template"
        self.knots = torch.zeros(0, dtype=torch.float64)
        self.image = self.path = torch.zeros(0)

    def fit(self, scans: Sequence[Scan]) -> Self:
        """Learn from skull-stripped T1w `scans` on one grid, each with its age.

        Raises
        ------
        NbkitError
            For scans without age or on another grid, and in "longitudinal" if nobody has two.
        """
        c = self.config
        frame = self._learn_from(scans)
        people = [_spread(visits, c.visits) for visits in persons(scans).values()]
        low, high = frame.youngest - c.beyond_years, frame.oldest + c.beyond_years
        count = int(np.ceil((high - low) / c.knot_years)) + 1
        self.knots = torch.linspace(low, max(high, low + 1e-3), max(count, 2), dtype=torch.float64)
        weights = trajectory_weights([[s.age for s in visits] for visits in people], self.knots, config=c).float()
        mean = None if c.variant == "intensity" else self._mean_image(people)
        self._collect(people, weights, mean)
        return self

    def _mean_image(self, people: Sequence[Sequence[Scan]]) -> torch.Tensor:
        """An image (1, 1, X, Y, Z) in the mean shape of some of the people, one scan of each."""
        by_age = sorted((visits[len(visits) // 2] for visits in people), key=lambda s: s.age)
        chosen = _spread(by_age, self.config.mean_persons)
        mean = sum(self._read([scan]) for scan in chosen) / len(chosen)
        for _ in range(self.config.mean_rounds):
            met = spread(lambda scan: self._meet(mean, [scan]), chosen, mean.device)
            velocity, brought = (sum(part) / len(chosen) for part in zip(*met))
            flow = expv(Velocity(velocity), affine=self.frame.matrix)
            mean = _cut(warp(_with_support(_cut(brought)), flow, affine=self.frame.matrix))
        return mean

    def _collect(self, people: Sequence[Sequence[Scan]], weights: torch.Tensor, mean: torch.Tensor | None) -> None:
        """Sum what each person brings, a few people at a time: the path at the knots, and the mean image."""
        path, image, start = 0, 0, 0
        stride, device = 2 * torch.get_num_threads(), pick_device(self.config.device)
        for first in range(0, len(people), stride):
            group = people[first : first + stride]
            for values, brought in spread(lambda visits: self._values(mean, visits), group, device):
                columns = weights[:, start : start + len(values)].to(values)
                path = path + torch.einsum("kn,ncxyz->kcxyz", columns, values)
                image = image + brought.mean(dim=0, keepdim=True) / len(people)
                start += len(values)
        self.path = (_cut(path) if mean is None else path).cpu()
        self.image = _cut(image).cpu()

    def _values(self, mean: torch.Tensor | None, visits: Sequence[Scan]) -> tuple[torch.Tensor, torch.Tensor]:
        """What is averaged of each visit: intensity and support, or velocity; with the images to average."""
        if mean is not None:
            return self._meet(mean, visits)
        seen = _with_support(self._read(visits))
        return seen, seen

    def _meet(self, mean: torch.Tensor, visits: Sequence[Scan]) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocities (n, 3, X, Y, Z) from `mean` to n scans, and the scans with their support, brought to `mean`."""
        seen, affine = self._read(visits), self.frame.matrix
        found = registration.register(mean, seen, affine=affine, config=self.config.registration())
        return found.velocity, warp(_with_support(seen), found.inverse(), affine=affine)

    def _read(self, visits: Sequence[Scan]) -> torch.Tensor:
        return torch.cat([self.frame.read(scan) for scan in visits]).to(pick_device(self.config.device))

    def _made(self, age: float) -> torch.Tensor:
        row = _between(self.knots, torch.tensor([age], dtype=torch.float64)).to(self.path)
        here = torch.einsum("nk,kcxyz->ncxyz", row, self.path)
        if self.config.variant == "intensity":
            return here
        flow = Displacement(expv(Velocity(here), affine=self.frame.matrix))
        return _cut(warp(_with_support(self.image), flow, affine=self.frame.matrix))

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {"image": self.image, "path": self.path, "knots": self.knots}

    def _constants(self) -> dict[str, Any]:
        return asdict(self.frame)

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        self.frame = GroupFrame.from_dict(constants)
        grid, channels = self.frame.shape, 1 if self.config.variant == "intensity" else 3
        knots = len(tensors.get("knots", ()))
        shapes = {"image": (1, 1, *grid), "path": (knots, channels, *grid), "knots": (knots,)}
        check_tensors(tensors, {k: torch.empty(s, device="meta") for k, s in shapes.items()}, where)
        self.image, self.path, self.knots = (tensors[name] for name in shapes)


def _spread(items: Sequence, count: int | None) -> list:
    """At most `count` of `items`, from the first to the last at even distance."""
    if count is None or count >= len(items):
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]


def _with_support(image: torch.Tensor) -> torch.Tensor:
    """The image and where it is not background, as two channels."""
    return torch.cat([image, (image > 0).to(image)], dim=1)


def _cut(mean: torch.Tensor) -> torch.Tensor:
    """Image and support (B, 2, X, Y, Z), averaged or warped, as the image of what has support; 0 where most have none.

    Without the division the rim would darken: background is no intensity.
    """
    image, support = mean.split(1, dim=1)
    return image / support.clamp(min=0.5) * (support >= 0.5)
