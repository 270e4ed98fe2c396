"""Decks: everyone once before anyone again, whatever the counts they are dealt in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.papers.pet_dcgan.decks import Deck, deal_classes


@given(n=st.integers(1, 12), counts=st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_every_pass_holds_every_row_once_and_counts_do_not_matter(n, counts):
    rows = [10 + 3 * i for i in range(n)]
    deck, other = Deck(rows, 7, "CN"), Deck(rows, 7, "CN")
    dealt = torch.cat([deck.deal(count) for count in counts]).tolist()
    assert dealt == other.deal(sum(counts)).tolist()
    for start in range(0, len(dealt) - n + 1, n):
        assert sorted(dealt[start : start + n]) == rows


def test_names_and_seed_and_pass_change_the_order():
    orders = [Deck(range(30), *key).deal(30).tolist() for key in ((7, "CN"), (7, "AD"), (8, "CN"))]
    deck = Deck(range(30), 7, "CN")
    first, second = deck.deal(30).tolist(), deck.deal(30).tolist()
    assert first == orders[0] and len({tuple(order) for order in [*orders, second]}) == 4


def test_rows_come_from_the_deck_of_their_class():
    decks = {0: Deck(range(10), 1, "a"), 2: Deck(range(100, 110), 1, "b")}
    classes = torch.tensor([2, 0, 0, 2, 2])
    rows = deal_classes(decks, classes)
    assert ((rows >= 100) == (classes == 2)).all() and len(set(rows.tolist())) == 5


def test_an_empty_deck_is_refused():
    with pytest.raises(NbkitError, match="Deck AD axial"):
        Deck([], 7, "AD", "axial")
