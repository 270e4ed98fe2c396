"""People at every age, by one network or by copies of it, each tuned to one person, all at once.

A person gives one example, so that a step of one copy is far too small for the machine. Copies are stacked and their
steps taken together: a loss summed over copies has for each copy the gradient of its own, and Adam acts on every number
alone, so the result is that of tuning one after the other, up to the order of sums.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, vmap

from nbkit.training.steps import check_terms

Weights = dict[str, torch.Tensor]
Examples = Mapping[str, torch.Tensor]
Call = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How a copy is tuned: by Adam, on one example.

    Parameters
    ----------
    loss : callable
        ``loss(call, example) -> ()``: what one person's copy loses; ``call(...)`` is the copy's forward pass and
        `example` that person's tensors. It must not branch on values.
    steps : int
    learning_rate, betas
        Of Adam.
    shown : callable
        ``shown(examples, step)``: what of the examples a step sees; all of them if not given.
    """

    loss: Callable[[Call, Examples], torch.Tensor]
    steps: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    shown: Callable[[Examples, int], Examples] = lambda examples, step: examples


def personalise(net: nn.Module, examples: Examples, *, tuning: Tuning) -> Weights:
    """Weights of one tuned copy of `net` per person.

    Parameters
    ----------
    net : torch.nn.Module
        Trained; left as it is. Without layers that keep statistics of batches.
    examples : mapping of str to torch.Tensor
        Each (P, ...), one entry per person, on the network's device.
    tuning : Tuning

    Returns
    -------
    dict of str to torch.Tensor
        By name of the parameter, (P, ...), for :func:`at_all`. Tuning takes some four times as much memory: hand in
        fewer people at once.

    Raises
    ------
    NonFiniteLoss
        At the first step whose loss is not finite.
    """
    count = len(next(iter(examples.values())))
    weights = {n: p.detach().expand(count, *p.shape).clone().requires_grad_() for n, p in net.named_parameters()}
    optimiser = torch.optim.Adam(weights.values(), lr=tuning.learning_rate, betas=tuning.betas, fused=True)
    own = copy.deepcopy(net)
    for step in range(tuning.steps):
        total = _at_all(own, weights, tuning.shown(examples, step), act=tuning.loss).sum()
        check_terms({"total": total}, step)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
    return {name: value.detach() for name, value in weights.items()}


def at_all(net: nn.Module, weights: Weights, examples: Examples, *, act: Callable[[Call, Examples], Any]) -> Any:
    """``act(call, example)`` for every person with that person's weights: results get a first axis (P, ...)."""
    return _at_all(copy.deepcopy(net), weights, examples, act=act)


def _at_all(own: nn.Module, weights: Weights, examples: Examples, *, act: Callable[[Call, Examples], Any]) -> Any:
    # a call puts weights into the network for its time: a copy of one's own keeps threads from each other's
    def one(mine: Weights, example: Examples) -> Any:
        return act(lambda *inputs: functional_call(own, mine, inputs), example)

    return vmap(one)(weights, dict(examples))


def at_every_age(net: nn.Module, people: Examples, *, ages: int, tuning: Tuning | None = None) -> torch.Tensor:
    """Images of people in every age bin.

    Parameters
    ----------
    net : torch.nn.Module
        Called as ``net(x, rows, ages, diagnosis)``, see :class:`nbkit.papers.daninet.caae.ConditionalAutoencoder`.
    people : mapping of str to torch.Tensor
        "image" (P, S, S), "diagnosis" (P,), and what the tuning's loss reads.
    ages : int
        Number of bins A.
    tuning : Tuning, optional
        None: by `net` as it is.

    Returns
    -------
    torch.Tensor
        (P, A, S, S).
    """
    bins = torch.arange(ages, device=people["image"].device)

    def act(call: Call, person: Examples) -> torch.Tensor:
        return call(person["image"][None, None], torch.zeros_like(bins), bins, person["diagnosis"][None])[1]

    if tuning is not None:
        weights = personalise(net, people, tuning=tuning)
        with torch.no_grad():
            return at_all(net, weights, people, act=act)
    count = len(people["image"])
    rows = torch.arange(count, device=bins.device).repeat_interleave(ages)
    with torch.no_grad():
        _, made = net(people["image"][:, None], rows, bins.repeat(count), people["diagnosis"])
    return made.unflatten(0, (count, ages))
