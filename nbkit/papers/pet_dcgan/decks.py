"""Rows of a table dealt like cards: everyone once before anyone again, and only the seed and the count decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from nbkit.core.checks import require
from nbkit.core.seeds import torch_generator


class Deck:
    """Rows dealt without replacement, shuffled anew whenever all have been dealt.

    Parameters
    ----------
    rows : sequence of int
        At least one.
    seed : int
    names : objects
        What the draws belong to; with the seed they fix every order (:func:`nbkit.core.seeds.derive`).

    Raises
    ------
    NbkitError
        Without rows.
    """

    def __init__(self, rows: Sequence[int], seed: int, *names: object) -> None:
        require(
            len(rows) > 0, f"Deck {' '.join(map(str, names))}: rows", expected="at least one", found="none",
            remedy="Every class that is trained needs an image.",
        )
        self.rows, self.seed, self.names = torch.as_tensor(list(rows)), seed, names
        self._left, self._passes = self.rows[:0], 0

    def deal(self, count: int) -> torch.Tensor:
        """The next `count` rows, (count,); a count above the number of rows goes through them several times."""
        while len(self._left) < count:
            rng = torch_generator(self.seed, "deck", *self.names, self._passes)
            order = torch.randperm(len(self.rows), generator=rng)
            self._left, self._passes = torch.cat([self._left, self.rows[order]]), self._passes + 1
        dealt, self._left = self._left[:count], self._left[count:]
        return dealt


def deal_classes(decks: Mapping[int, Deck] | Sequence[Deck], classes: torch.Tensor) -> torch.Tensor:
    """A row from the deck of each class asked for: classes (B,) to rows (B,)."""
    rows = torch.empty_like(classes)
    for c in classes.unique().tolist():
        mine = classes == c
        rows[mine] = decks[c].deal(int(mine.sum()))
    return rows
