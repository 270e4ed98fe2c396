"""Rankings say what paired differences say, and no more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean, bootstrap_p, holm, paired_difference
from nbkit.papers.trajectories.ranking import beaten, standings

RNG = np.random.default_rng(3)
PEOPLE = [f"p{k}" for k in range(12)]
HARD = RNG.uniform(5, 30, 12)
ERRORS = {"no_change": HARD, "brlp": HARD + RNG.normal(0, 1, 12), "inbrainsyn": 0.6 * HARD, "no_pt": 2 * HARD}
"""People differ more than systems do: only pairs tell these apart."""


def scores(errors=ERRORS, metric: str = "ventricle", setting: str = "one") -> pd.DataFrame:
    """Two rows a person, around the mean."""
    rows = [(p, s, x + shift) for s, values in errors.items() for p, x in zip(PEOPLE, values) for shift in (-1.0, 1.0)]
    return pd.DataFrame(rows, columns=["subject", "system", "value"]).assign(metric=metric, setting=setting)


def test_best_first_with_paired_gains_over_the_control():
    table = standings(scores(), control="no_change", seed=4)
    assert table["system"][0] == "inbrainsyn" and table["system"].iloc[-1] == "no_pt"
    assert table["mean"].is_monotonic_increasing and (table["people"] == 12).all()
    rows = table.set_index("system")
    mean, gain = bootstrap_mean(0.6 * HARD, seed=4), paired_difference(HARD, 0.6 * HARD, seed=4)
    assert tuple(rows.loc["inbrainsyn", ["mean", "low", "high"]]) == pytest.approx((mean.value, mean.low, mean.high))
    found = tuple(rows.loc["inbrainsyn", ["gain", "gain_low", "gain_high"]])
    assert found == pytest.approx((gain.value, gain.low, gain.high))
    ps = holm([bootstrap_p(ERRORS[s], HARD, seed=4) for s in ("inbrainsyn", "brlp", "no_pt")])
    assert rows.loc[["inbrainsyn", "brlp", "no_pt"], "p"].tolist() == pytest.approx(list(ps))
    words = {"inbrainsyn": "better", "brlp": "not told apart", "no_pt": "worse", "no_change": "–"}
    assert rows["against control"].to_dict() == words
    assert rows["tied"].to_dict() == {"inbrainsyn": True, "brlp": False, "no_pt": False, "no_change": False}


def test_more_is_better_turns_the_order_and_the_gains():
    both = pd.concat([scores(), scores({s: -v for s, v in ERRORS.items()}, metric="ssim")])
    table = standings(both, control="no_change")
    less, more = (table[table["metric"] == metric] for metric in ("ventricle", "ssim"))
    for column in ("system", "against control", "tied"):
        assert less[column].tolist() == more[column].tolist()
    assert less["gain"].tolist() == pytest.approx(more["gain"].tolist())
    assert less["mean"].tolist() == pytest.approx((-more["mean"]).tolist())


def test_who_is_beaten_is_counted_where_pairs_tell_them_apart():
    mine = {"mine": 0.5 * HARD, "even": HARD + RNG.normal(0, 1, 12)}
    likeness = {"mine": HARD, "brlp": 0.5 * HARD, "no_pt": HARD / 3}
    both = pd.concat([scores({**ERRORS, **mine}), scores(likeness, "ssim")])
    table = beaten(both, list(mine), ["brlp", "inbrainsyn", "no_pt"]).set_index(["metric", "system"])
    assert table.loc[("ventricle", "mine")].tolist() == [3, 3] and table.loc[("ventricle", "even")].tolist() == [1, 3]
    assert table.loc[("ssim", "mine")].tolist() == [2, 2] and ("ssim", "even") not in table.index
    few = both[both["subject"].isin(PEOPLE[:5])]
    assert (beaten(few, list(mine), ["brlp", "no_pt"])["beats"] == 0).all()


def test_settings_are_ranked_apart_and_hindsight_is_not_ranked():
    turned = {"no_change": HARD, "brlp": 2 * HARD, "inbrainsyn": 3 * HARD, "hindsight": 0 * HARD}
    table = standings(pd.concat([scores(), scores(turned, setting="several")]), control="no_change")
    first = table.groupby("setting", sort=False)["system"].first()
    assert first.to_dict() == {"one": "inbrainsyn", "several": "no_change"}
    assert "hindsight" not in set(table["system"])


def test_few_people_tell_nothing_apart():
    few = scores()
    table = standings(few[few["subject"].isin(PEOPLE[:5])], control="no_change")
    assert table["tied"].all() and set(table["against control"]) == {"not told apart", "–"}


def test_only_people_whom_all_systems_have_count():
    table = scores()
    table.loc[(table["system"] == "brlp") & (table["subject"] == "p0"), "value"] = np.nan
    assert (standings(table, control="no_change")["people"] == 11).all()
    others = scores()
    apart = others[(others["system"] == "brlp") == (others["subject"] == "p0")]
    with pytest.raises(NbkitError, match="fewest values: brlp"):
        standings(apart, control="no_change")


def test_an_unknown_control_is_refused():
    with pytest.raises(NbkitError, match="control.*Did you mean 'no_change'"):
        standings(scores(), control="nochange")
