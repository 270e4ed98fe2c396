"""A bar is reached, missed or not run, each for its own reason, and asks about numbers that there are."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.claims.bars import Bar, bars, bars_table
from nbkit.claims.ledger import load_paper, papers
from nbkit.claims.observe import Observation


def seen(**values) -> dict[str, Observation]:
    """Observations by id, of a value or of one value a person."""
    many = {name: np.atleast_1d(value) for name, value in values.items()}
    return {name: Observation(name, float(x.mean()), n=len(x), per_subject={f"s{k}": float(v) for k, v in enumerate(x)})
            for name, x in many.items()}


def reached(bar: Bar, **values) -> str:
    """What the table says of one bar."""
    return bars_table(seen(**values), [bar])["reached"].item()


BESIDE = {"wei2019.table2_2a.mse_own.longer", "wei2019.table2_2a.mse_own.longer_own",
          "wei2019.fig2_5.dice_synthetic.lesions", "wei2019.fig2_5.dice_synthetic.lesions.longer_own"}
"""Numbers that notebook 01 records beside those of the ledger."""


def test_every_number_that_is_asked_about_is_in_a_ledger():
    known = {id for name in papers() for id in load_paper(name).ids}
    assert len(bars()) > 20 and {id for bar in bars() for id in (bar.id, *bar.others)} - known == BESIDE
    for bar in bars():
        assert np.isfinite([bar.at_least, bar.at_most, bar.at_least_times, bar.at_most_times]).any() or bar.below


@pytest.mark.parametrize("value, said", [(0.69, "no"), (0.7, "yes"), (0.9, "yes"), (0.91, "no"), (np.nan, "no")])
def test_a_value_lies_between_the_ends_asked_for(value, said):
    assert reached(Bar("x", "share", "a", at_least=0.7, at_most=0.9), a=value) == said


@pytest.mark.parametrize("value, said", [(3.0, "yes"), (3.1, "no")])
def test_a_value_is_held_against_a_multiple_of_another(value, said):
    assert reached(Bar("x", "", "a", beside="b", at_most_times=3.0), a=value, b=1.0) == said
    assert reached(Bar("x", "", "a", beside="b", at_least_times=3.1), a=value, b=1.0) != said


def test_an_error_lies_below_others_by_person_with_six_people_or_more():
    bar, rng = Bar("x", "", "a", below=("b", "c")), np.random.default_rng(0)
    people = rng.normal(10, 3, 12)
    better, noise = people - 1 + rng.normal(0, 0.3, 12), rng.normal(0, 3, 12)
    assert reached(bar, a=better, b=people, c=people + 1) == "yes"
    assert reached(bar, a=better, b=people, c=people - 1 + noise) == "no", "better than one of two"
    assert reached(bar, a=people, b=better, c=better) == "no", "worse"
    assert reached(bar, a=better[:5], b=people[:5], c=people[:5]) == "no", "five people"


def test_comparisons_of_all_bars_are_corrected_together():
    rng = np.random.default_rng(1)
    base = rng.normal(0, 1, 20)
    weak = base - 0.5 + rng.normal(0, 0.95, 20)  # p between .05 / 40 and .05
    one = Bar("x", "", "a", below=("b",))
    many = [one, *(Bar("y", "", f"n{k}", below=("b",)) for k in range(39))]
    others = {f"n{k}": base + rng.normal(0, 1, 20) for k in range(39)}
    assert reached(one, a=weak, b=base) == "yes"
    assert bars_table(seen(a=weak, b=base, **others), many)["reached"].iloc[0] == "no"


def test_what_did_not_run_says_so_and_shows_what_there_is():
    row = bars_table(seen(a=0.5), [Bar("x", "error", "a", at_most=1.0, below=("b",))]).iloc[0]
    assert (row["asked"], row["ours"], row["reached"]) == ("error: at most 1", 0.5, "not run")
    assert np.isnan(bars_table({}, [Bar("x", "", "a", at_most=1.0)])["ours"].item())
