"""Binary cross-entropy of several generative adversarial networks that are computed in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from nbkit.losses.adversarial import bce_discriminator, bce_generator


class GanBatch(NamedTuple):
    """What K networks learn from in one step.

    Parameters
    ----------
    real : torch.Tensor
        (B, K, C, S, ...), images of its own for each network.
    noise : torch.Tensor
        (B, K, latent).
    label : torch.Tensor or None
        (B,): the class of a row, the same for all networks; None: nothing is told.
    """

    real: torch.Tensor
    noise: torch.Tensor
    label: torch.Tensor | None


@dataclass(frozen=True)
class GanLosses:
    """Losses of K networks side by side; each weighs as much as it would alone.

    The generator's side is the form that Islam and Zhang train ("maximizes log D(G(z))"), not the one that they print.

    Parameters
    ----------
    names : tuple of str
        Of the networks, in order; a term of each and their sum, "total", are one value per row of the batch.
    """

    names: tuple[str, ...]

    def generate(self, net: nn.Module, batch: GanBatch) -> Mapping[str, torch.Tensor]:
        """Images from the batch's noise: "fake" (B, K, C, S, ...)."""
        return {"fake": net(batch.noise, batch.label)}

    def generator(
        self, critic: nn.Module, batch: GanBatch, made: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """−ln σ(D(G(z))) by network."""
        return self._terms(bce_generator, critic(made["fake"], batch.label))

    def critic(self, critic: nn.Module, batch: GanBatch, made: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """−ln σ(D(x)) − ln(1 − σ(D(G(z)))) by network; real and made images pass as batches of their own."""
        return self._terms(bce_discriminator, critic(batch.real, batch.label), critic(made["fake"], batch.label))

    def _terms(self, loss: Callable[..., torch.Tensor], *scores: torch.Tensor) -> dict[str, torch.Tensor]:
        each = {name: loss(*(s[:, k] for s in scores)) for k, name in enumerate(self.names)}
        return {**each, "total": torch.stack(list(each.values())).sum(dim=0)}
