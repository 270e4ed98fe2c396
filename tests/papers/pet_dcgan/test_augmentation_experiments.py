"""What the study of augmentation says: people count once, gains are paired, choices are compared on the same people."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean
from nbkit.core.tidy import by_subject, where
from nbkit.papers.pet_dcgan.augmentation_experiments import choices, classified, gains, intervals


def study_table(shuffled: bool = False) -> pd.DataFrame:
    """As of a study: 12 people, two repeats, two shares."""
    rng, rows = np.random.default_rng(0), []
    arms = ("real",) if shuffled else ("real", "real + synthetic", "real + plain augmentation", "synthetic only")
    for view in ("axial", "all views"):
        for arm in arms:
            for share, count in ((0.5, 10), (1.0, 20)):
                rows += [
                    {"subject": f"s{i}", "view": view, "arm": arm, "share": share, "real_subjects": count + i % 2,
                     "repeat": r, "correct": int(rng.random() < 0.7), "placement": rng.random()}
                    for i in range(12) for r in range(2)
                ]
    return pd.DataFrame(rows)


def test_a_person_counts_once_with_the_mean_over_repeats():
    table = study_table()
    found = classified(table)
    mine = where(found, id="islam2020.augmentation.accuracy.all.synthetic")
    rows = table.query("view == 'all views' and arm == 'real + synthetic' and share == 1.0")
    assert by_subject(mine) == pytest.approx((100 * rows.groupby("subject")["correct"].mean()).to_dict())
    assert set(mine["real_subjects"]) == {20.5} and set(mine["unit"]) == {"%"}
    area = where(found, id="islam2020.augmentation.auc.axial.real")
    assert len(area) == 12 and area["value"].between(0, 1).all()
    assert (found[(found["share"] == 0.5) | (found["system"] == "synthetic only")]["id"] == "").all()
    dealt = classified(study_table(True), shuffled=True)
    assert "islam2020.augmentation.accuracy.axial.shuffled" in set(dealt["id"])


def test_gains_are_paired_by_person():
    found = classified(study_table())
    gain = gains(found)
    assert set(gain["id"]) == {f"islam2020.{i}" for i in (
        "augmentation.gain.half", "augmentation.gain.full", "augmentation.ten_points", "text.accuracy.synthetic",
        "text.accuracy.real", "text.accuracy.gain")}
    with_, without = (by_subject(gain, id=f"islam2020.text.accuracy.{k}") for k in ("synthetic", "real"))
    gained, ten = (by_subject(gain, id=f"islam2020.augmentation.{k}") for k in ("gain.full", "ten_points"))
    assert gained == pytest.approx({s: with_[s] - without[s] for s in with_})
    assert ten == pytest.approx({s: v + 10 for s, v in without.items()})
    with pytest.raises(NbkitError, match="gains: share of real people"):
        gains(found[found["share"] == 0.5])


def test_intervals_are_over_people_not_over_repeats():
    found = where(classified(study_table()), metric="accuracy", share=1.0)
    table = intervals(found, ["view", "system"]).set_index(["view", "system"])
    expected = bootstrap_mean(where(found, view="axial", system="real")["value"])
    row = table.loc["axial", "real"]
    assert (row["value"], row["low"], row["high"], row["n"]) == (expected.value, expected.low, expected.high, 12)


def test_choices_are_compared_on_the_people_that_both_have():
    found = classified(study_table())
    some = found[found["subject"].isin([f"s{i}" for i in range(7)])]
    other = some.assign(value=some["value"] + 3)
    table = choices(found, other, "one for all").set_index("left open")
    row = table.loc["Who draws for the classifier, accuracy with synthetic images"]
    assert row["other − ours"] == pytest.approx(3) and row["our choice"] == "one for all"
    real = where(found, view="all views", metric="accuracy", share=1.0, system="real")["value"].mean()
    assert table["other − ours"].iloc[1] == pytest.approx(0.1 * real - 10)
