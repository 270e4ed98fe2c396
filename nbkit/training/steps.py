"""Kinds of training step. A step takes a batch, updates weights, and returns a named record with `total`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.core.device import autocast

Terms = Mapping[str, torch.Tensor]


class NonFiniteLoss(NbkitError):
    """A loss term became NaN or infinite."""


class PlainStep:
    """One network, one optimiser, one loss.

    Parameters
    ----------
    net : torch.nn.Module
    optimiser : torch.optim.Optimizer
    loss : callable
        ``loss(net, batch) -> {"total": (B,), ...}``: one value per subject for each term.
    device : torch.device
    half : bool
        bfloat16 autocast for the forward pass.
    clip : float or None
        Largest norm of the gradient; longer ones are shortened to it (Pascanu et al. 2013).
    """

    def __init__(
        self, net: nn.Module, optimiser: torch.optim.Optimizer, *, loss: Callable[[nn.Module, Any], Terms],
        device: torch.device, half: bool = False, clip: float | None = None,
    ) -> None:
        self.net, self.optimiser, self.loss = net, optimiser, loss
        self.device, self.half, self.clip, self.count = device, half, clip, 0

    def __call__(self, batch: Any) -> dict[str, float]:
        """Update the weights on `batch`; return the mean of every loss term.

        Raises
        ------
        NonFiniteLoss
            Naming the step and the offending term; the weights keep their last finite state.
        """
        self.net.train()
        with autocast(self.device, self.half):
            terms = {name: value.float().mean() for name, value in self.loss(self.net, batch).items()}
        check_terms(terms, self.count)
        self.optimiser.zero_grad(set_to_none=True)
        terms["total"].backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimiser.step()
        self.count += 1
        return {name: float(value.detach()) for name, value in terms.items()}


def check_terms(terms: Terms, step: int) -> None:
    """Stop the run at the first loss term that is not finite."""
    for name, value in terms.items():
        if not bool(torch.isfinite(value)):
            raise NonFiniteLoss(
                f"training step {step}: loss term {name!r}", expected="a finite value",
                found=str(float(value.detach())),
                remedy="Lower the learning rate, or look for extreme intensities in the batch.",
            )
