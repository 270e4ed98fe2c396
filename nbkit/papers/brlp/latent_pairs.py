"""Batches for diffusion in latent space: single scans, and pairs of a scan and a later one of the same person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from nbkit.core.checks import require
from nbkit.core.seeds import torch_generator

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class LatentPairs:
    """Encoded training scans and who follows whom.

    Parameters
    ----------
    latents : torch.Tensor
        (N, C, x, y, z).
    contexts : torch.Tensor
        What goes with each scan, (N, K).
    ages : torch.Tensor
        Years (N,).
    pairs : torch.Tensor
        Whole numbers (P, 2): a scan and a later one of the same person.
    """

    latents: torch.Tensor
    contexts: torch.Tensor
    ages: torch.Tensor
    pairs: torch.Tensor

    @classmethod
    def of(
        cls, latents: Sequence[torch.Tensor], contexts: Sequence[torch.Tensor], *, ages: Sequence[float],
        people: Sequence[str],
    ) -> Self:
        """From one latent, context, age and person's id per scan.

        Raises
        ------
        NbkitError
            If nobody was scanned at two ages.
        """
        pairs = [
            (i, j) for i, first in enumerate(ages) for j, second in enumerate(ages)
            if people[i] == people[j] and first < second
        ]
        require(
            bool(pairs), "LatentPairs: scans", expected="a person scanned at two ages", found="none",
            remedy="Train on people with follow-up scans.",
        )
        years = torch.tensor(ages, dtype=torch.float64)
        return cls(torch.stack(list(latents)), torch.stack(list(contexts)), years, torch.tensor(pairs))

    def batch(self, count: int, *, paired: bool, noise_steps: int, seed: int, number: int) -> Batch:
        """Latents, noise, noise steps, contexts and, where `paired`, starting latents with their map of age.

        Every draw depends on `seed`, `paired` and the batch's `number` alone.
        """
        rng, start = torch_generator(seed, "pairs" if paired else "scans", number), None
        if paired:
            first, chosen = self.pairs[torch.randint(len(self.pairs), (count,), generator=rng)].T
            start = with_age_map(self.latents[first], self.ages[first])
        else:
            chosen = torch.randint(len(self.latents), (count,), generator=rng)
        z = self.latents[chosen]
        noise, t = torch.randn(z.shape, generator=rng), torch.randint(noise_steps, (count,), generator=rng)
        return z, noise, t, self.contexts[chosen], start


def with_age_map(latents: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    """Latents (B, C, x, y, z) with a constant map of age / 100 as channel C + 1."""
    age = (ages / 100).to(latents).view(-1, 1, 1, 1, 1)
    return torch.cat([latents, age.expand(-1, 1, *latents.shape[2:])], dim=1)
