"""Kinds of training step. A step takes a batch, updates weights, and returns a named record with `total`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nbkit.core.checks import NbkitError, require
from nbkit.core.device import autocast
from nbkit.training import together
from nbkit.training.resume import restore

Terms = Mapping[str, torch.Tensor]
Made = Mapping[str, torch.Tensor]
AdversarialLoss = Callable[[nn.Module, Any, Made], Terms]


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

    def state_dict(self) -> dict[str, Any]:
        """Weights, the optimiser's state, and the number of steps."""
        return _state((self.net,), (self.optimiser,), self.count)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.count = _load((self.net,), (self.optimiser,), state)

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
        record = check_terms(terms, self.count)
        _descend(self.optimiser, terms["total"], self.clip)
        self.count += 1
        return record


class AdversarialStep:
    """A generator against a discriminator, in turns; what they are and what they lose is handed in.

    Each call updates the discriminator `critic_steps` times, each time against newly made examples, then the
    generator once against the discriminator as it is by then. The last examples made serve both.

    Parameters
    ----------
    generator, discriminator : torch.nn.Module
        Several networks that are updated together go into one torch.nn.ModuleDict.
    optimisers : tuple of torch.optim.Optimizer
        Of the generator, and of the discriminator.
    generate : callable
        ``generate(generator, batch) -> {"name": tensor, ...}``: what the losses need.
    generator_loss, discriminator_loss : callable
        ``loss(discriminator, batch, made) -> {"total": (B,), ...}``: one value per subject for each term. The
        discriminator's loss gets `made` without history.
    device : torch.device
    half : bool
        bfloat16 autocast for the forward passes.
    critic_steps : int
    clip : float or None
        Largest norm of either gradient.
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module,
        optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer], *,
        generate: Callable[[nn.Module, Any], Made], generator_loss: AdversarialLoss,
        discriminator_loss: AdversarialLoss, device: torch.device, half: bool = False, critic_steps: int = 1,
        clip: float | None = None,
    ) -> None:
        require(
            critic_steps >= 1, "AdversarialStep: critic_steps", expected="at least 1", found=critic_steps,
            remedy="Use 1 unless the paper says otherwise.",
        )
        self.generator, self.discriminator, self.optimisers = generator, discriminator, optimisers
        self.generate, self.losses = generate, (generator_loss, discriminator_loss)
        self.device, self.half, self.critic_steps, self.clip, self.count = device, half, critic_steps, clip, 0

    def state_dict(self) -> dict[str, Any]:
        """Weights of both sides, their optimisers' state, and the number of steps."""
        return _state((self.generator, self.discriminator), self.optimisers, self.count)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.count = _load((self.generator, self.discriminator), self.optimisers, state)

    def __call__(self, batch: Any) -> dict[str, float]:
        """Update both networks on `batch`; return the mean of every loss term, the discriminator's as "critic_...".

        Raises
        ------
        NonFiniteLoss
            Naming the step and the offending term; the network it belongs to keeps its last finite weights.
        """
        self.generator.train()
        self.discriminator.train()
        for left in reversed(range(self.critic_steps)):
            with torch.set_grad_enabled(left == 0), autocast(self.device, self.half):
                made = self.generate(self.generator, batch)
            seen = {name: value.detach() for name, value in made.items()}
            record = self._update(1, batch, seen, "critic_")
        # the generator's gradient passes through the discriminator and needs none of its weights'
        with _frozen(self.discriminator):
            record |= self._update(0, batch, made, "")
        self.count += 1
        return record

    def _update(self, side: int, batch: Any, made: Made, prefix: str) -> dict[str, float]:
        with autocast(self.device, self.half):
            losses = self.losses[side](self.discriminator, batch, made)
        terms = {prefix + name: value.float().mean() for name, value in losses.items()}
        record = check_terms(terms, self.count)
        _descend(self.optimisers[side], terms[f"{prefix}total"], self.clip)
        return record


def _state(
    nets: Sequence[nn.Module], optimisers: Sequence[torch.optim.Optimizer], count: int
) -> dict[str, Any]:
    return {
        "nets": [net.state_dict() for net in nets], "optimisers": [o.state_dict() for o in optimisers], "count": count,
    }


def _load(
    nets: Sequence[nn.Module], optimisers: Sequence[torch.optim.Optimizer], state: Mapping[str, Any]
) -> int:
    for part, value in zip((*nets, *optimisers), (*state["nets"], *state["optimisers"]), strict=True):
        restore(part, value)
    return state["count"]


@contextmanager
def _frozen(net: nn.Module) -> Iterator[None]:
    trained = [p for p in net.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)


def _descend(optimiser: torch.optim.Optimizer, total: torch.Tensor, clip: float | None) -> None:
    weights = [p for group in optimiser.param_groups for p in group["params"]]
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    together.average(p.grad for p in weights)
    if clip is not None:
        nn.utils.clip_grad_norm_(weights, clip)
    optimiser.step()


def check_terms(terms: Terms, step: int) -> dict[str, float]:
    """The terms as numbers; the run stops at the first that is not finite, the total last: it only shows the others.

    All are read at once: a GPU is waited for once an update.
    """
    values = torch.stack([value.detach() for value in terms.values()]).tolist()
    record = dict(zip(terms, values, strict=True))
    for name, value in sorted(record.items(), key=lambda term: term[0].endswith("total")):
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"training step {step}: loss term {name!r}", expected="a finite value", found=str(value),
                remedy="Lower the learning rate, or look for extreme intensities in the batch.",
            )
    return record
