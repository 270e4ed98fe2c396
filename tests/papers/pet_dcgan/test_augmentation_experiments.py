"""What the study of augmentation says: people count once, gains are paired, choices are compared on the same people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.claims.ledger import load_paper
from nbkit.claims.room import Room
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.stats import bootstrap_mean
from nbkit.core.tidy import by_subject, where
from nbkit.core.volume import Volume
from nbkit.data.pet_slices import CENTRE_MM
from nbkit.data.splits import Fold
from nbkit.papers.pet_dcgan.augmentation_experiments import choices, classified, cut, gains, intervals, rooms
from tests.papers.pet_dcgan.pet_heads import head_slices


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
    found, dealt = classified(study_table()), classified(study_table(True), shuffled=True)
    table = intervals(found, dealt).set_index(["stages", "view", "system"])
    expected = bootstrap_mean(where(found, view="axial", system="real", metric="accuracy", share=1.0)["value"])
    row = table.loc["as they are", "axial", "real"].squeeze()
    assert len(table) == 2 * (4 + 1)
    assert (row["value"], row["low"], row["high"], row["n"]) == (expected.value, expected.low, expected.high, 12)


def pet_people(stages: Sequence[str]) -> Cohort:
    """A person of each stage with an even scan."""
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = np.array(CENTRE_MM) - 3.0 * 63 / 2
    scan = Volume(torch.ones(1, 64, 64, 64), affine)
    people = [Subject(f"s{i}", "F", d, (Scan(f"s{i}", "01", 70.0, {"FDG": scan}),)) for i, d in enumerate(stages)]
    return Cohort("toy", tuple(people), "embedded")


def test_two_stages_are_cut_and_nobody_is_nothing():
    found = cut(pet_people(("CN", "MCI", "AD", "LMCI")), per_view=1, size=16)
    assert found.subjects == ("s0", "s2") and len(found) == 6
    assert cut(None, per_view=1, size=16) is None


def test_rooms_are_of_each_view_and_of_all():
    slices = head_slices(12, size=16, views=("axial", "coronal"))
    ids = [i for i in slices.subjects if not i.startswith("mci")]
    sides = [tuple(i for i in ids if int(i[-1]) % 2 == k) for k in (0, 1)]
    splits = [Fold("fold1", sides[0], sides[1], "2-fold"), Fold("fold2", sides[1], sides[0], "2-fold")]
    rows = [(view, arm, 1.0, i, 12, 0, int(arm == "class mean" or i < "b"), 0.5)
            for view in ("axial", "coronal", "all views") for arm in ("real", "class mean", "chance") for i in ids]
    columns = ["view", "arm", "share", "subject", "real_subjects", "repeat", "correct", "placement"]
    accuracy = classified(pd.DataFrame(rows, columns=columns))
    found = rooms(accuracy, slices.select(stages=("CN", "AD")), splits, people=pet_people(()))
    assert [frame["view"].iloc[0] for frame, _ in found] == ["axial", "coronal", "all views"]
    room = Room.of_frame(found[-1][0], **found[-1][1])
    assert room.covers(["islam2020.text.accuracy.synthetic", "islam2020.augmentation.ten_points"])
    assert room.mean == pytest.approx(50) and room.reach > 80 and room.floor is None and room.better == "higher"
    assert {i for frame, _ in found for i in frame["id"] if i} <= set(load_paper("islam2020_pet").ids)


def test_choices_are_compared_on_the_people_that_both_have():
    found = classified(study_table())
    raw = study_table()
    other = raw[raw["subject"].isin([f"s{i}" for i in range(7)])].assign(correct=1)
    table = choices(found, other, kind="conditional").set_index("left open")
    row = table.loc["Who draws for the classifier, accuracy with synthetic images"]
    mine = where(found, view="all views", metric="accuracy", share=1.0, system="real + synthetic").set_index("subject")
    assert row["other − one"] == pytest.approx(100 - mine["value"].iloc[:7].mean())
    assert row["one choice"] == "one conditional DCGAN"
    real = where(found, view="all views", metric="accuracy", share=1.0, system="real")["value"].mean()
    assert table["other − one"].iloc[1] == pytest.approx(0.1 * real - 10)
