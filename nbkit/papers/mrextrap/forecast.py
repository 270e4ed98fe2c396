"""A person's line through latent space, decoded at any age, with how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nbkit.core.checks import require
from nbkit.core.protocols import Forecast
from nbkit.core.volume import Volume
from nbkit.nets.autoencoder import LatentSpace
from nbkit.papers.trajectories.slopes import Posterior, line_at


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A person's line through latent space, decoded where it is asked for.

    Parameters
    ----------
    space : LatentSpace
    posterior : Posterior
        Of the latents (C, x, y, z).
    limits : tuple of float
        Youngest and oldest age (years) that may be asked for.
    detail : torch.Tensor or None
        (1, X, Y, Z) added to every decoded image.
    inside : torch.Tensor or None
        (1, X, Y, Z) bool; images are 0 elsewhere.
    name : str
        Opens the record of each image.
    """

    space: LatentSpace
    posterior: Posterior
    limits: tuple[float, float]
    detail: torch.Tensor | None
    inside: torch.Tensor | None
    name: str

    def image(self, age: float) -> Volume:
        """The expected image at an age (years), in the scans' unit, none below 0."""
        return self._decode(self.posterior.at(self._checked(age)), age)

    def forecast(
        self, ages: Sequence[float], *, draws: int, generator: torch.Generator,
        measure: Callable[[Volume], Mapping[str, float]] = lambda image: {},
    ) -> list[Forecast]:
        """Images with their uncertainty; a drawn line is the same at all ages, so trajectories can be drawn from it."""
        require(draws > 1, "MRExtrap: draws", expected="at least 2", found=draws, remedy="Ask for more draws.")
        lines = list(zip(*self.posterior.draw(draws, generator=generator), strict=True))
        return [self._forecast(self._checked(age), lines, measure) for age in ages]

    def _forecast(self, age: float, lines: Sequence[tuple], measure: Callable) -> Forecast:
        images = [self._decode(line_at(self.posterior.line, *line, age=age), age) for line in lines]
        sd = torch.stack([i.data for i in images]).std(dim=0)
        found = [measure(i) for i in images]
        drawn = {name: np.array([f[name] for f in found]) for name in found[0]}
        expected = self.image(age)
        return Forecast(age, expected, expected.with_data(sd, "standard deviation"), drawn)

    def _decode(self, z: torch.Tensor, age: float) -> Volume:
        image = self.space.decode(z, step=f"{self.name} at {age:g} years")
        data = image.data if self.detail is None else image.data + self.detail
        data = data.clamp(min=0)
        return replace(image, data=data if self.inside is None else data * self.inside)

    def _checked(self, age: float) -> float:
        low, high = self.limits
        require(
            low <= age <= high, "MRExtrap: ages", expected=f"ages from {low:g} to {high:g} years", found=f"{age:g}",
            remedy="Lines are not carried further from the training ages than Config.margin.",
        )
        return float(age)
