"""Trained models that need no training here, and whom a model has seen: asked before anything is trained or scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.core.checks import require
from nbkit.core.protocols import Cohort


@dataclass(frozen=True)
class Offer:
    """A trained model that is at hand.

    Attributes
    ----------
    name : str
    sha256 : str
        Of its weights.
    read : callable
        ``read(load)`` gives the model, or None where it turns out not to be what it was; ``load(path)`` reads a folder.
    """

    name: str
    sha256: str
    read: Callable[[Callable[[Path], Any]], Any]


Finder = Callable[[Any, Cohort, Any], Offer | None]
"""``find(model, people, key)``: the trained twin of an untrained model, learned from exactly these people."""
_FINDER: Finder | None = None
"""Of the process: trainings run on threads, and a notebook's cells each in a context of their own."""


def offering(finder: Finder | None) -> None:
    """Ask `finder` from now on; None: nobody."""
    global _FINDER
    _FINDER = finder


def offered(model: Any, people: Cohort, key: Any = None) -> Offer | None:
    """What is offered in place of training `model` on `people`; `key` is what else the training depends on."""
    return None if _FINDER is None else _FINDER(model, people, key)


def known_by(model: Any, people: Cohort) -> Any:
    """`model`, which from now on tells whom it learned from (:func:`check_unseen`)."""
    model.learned_from = frozenset((people.name, id) for id in people.ids)
    return model


def check_unseen(models: Iterable[Any], people: Cohort) -> None:
    """Refuse to score people from whom a model learned.

    Raises
    ------
    NbkitError
        Naming the system and how many of them it has seen; no ids, which results may not hold.
    """
    for model in models:
        met = [id for id in people.ids if (people.name, id) in getattr(model, "learned_from", ())]
        require(
            not met, f"{type(model).__name__}: people scored", expected="people whom it has never seen",
            found=f"{len(met)} of {len(people)} whom it learned from",
            remedy="Split by subject first; weights that come with the project are for their own split alone: "
            "weights = \"train\" learns anew.",
        )
