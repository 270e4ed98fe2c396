"""Change between two visits and disability: indices and agreement by hand, regressions, and the rows with their ids."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nbkit.claims.ledger import load_paper
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.tidy import by_subject, stacked, tidy, where
from nbkit.papers.myelin import index_experiments as chapter4
from nbkit.papers.myelin.visits import two_visits
from nbkit.papers.myelin.index_experiments import courses, indices, map_agreement
from nbkit.papers.myelin.metrics import chance_dice, control_norm
from tests.papers.myelin.change_toy import change_cohort, change_scan, truths

LEDGER = load_paper("wei2020_cfsagan").ids


@pytest.fixture(scope="module")
def cohort():
    return change_cohort()


@pytest.fixture(scope="module")
def norm(cohort):
    return control_norm(cohort)


def wide(frame: pd.DataFrame, system: str) -> pd.DataFrame:
    """A row per patient, a column per metric."""
    return where(frame, system=system).pivot(index="subject", columns="metric", values="value")


def compared(cohort, norm, first, second) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Indices and agreement of one system, a row per patient."""
    found = courses(cohort, {"x": (first, second)}, norm)
    return wide(indices(found), "x"), wide(map_agreement(found), "x")


def test_indices_of_true_pet_by_hand(cohort, norm):
    table = wide(indices(courses(cohort, {}, norm)), "truth")
    assert list(table.index) == [f"ms{i:02}" for i in range(1, 8)]
    for i in (1, 3, 4, 5, 6, 7):
        sick = 16 + 4 * i
        want = {"percent_t0": 100 * sick / 64, "percent_t1": 100 * (sick - 8 + 2 * i) / 64,
                "global_change": (2 * i - 8) / 64,
                "dynamic_demyelination": 2 * i / 64, "dynamic_demyelination_normal": 2 * i / (64 - sick),
                "dynamic_remyelination": 8 / 64, "dynamic_remyelination_demyelinated": 8 / sick}
        assert table.loc[f"ms{i:02}"].to_dict() == pytest.approx(want)


def test_a_patient_without_a_second_scan_has_a_baseline_and_no_change(cohort, norm):
    index, alike = compared(cohort, norm, truths(cohort, 0), truths(cohort, 1))
    assert index.loc["ms02", "percent_t0"] == 100 * 24 / 64 and index.loc["ms02"].isna().sum() == 6
    assert alike.loc["ms02", "dice_t0"] == 1 and alike.loc["ms02"].isna().sum() == 6
    assert alike.loc["ms02", "chance_t0"] == 24 / 64


def test_predictions_replace_true_pet_but_not_the_threshold(cohort, norm):
    first, second = truths(cohort, 0), truths(cohort, 1)
    true = wide(indices(courses(cohort, {}, norm)), "truth")
    pd.testing.assert_frame_equal(compared(cohort, norm, first, second)[0], true)
    swapped, _ = compared(cohort, norm, second, {i: first[i] for i in second})
    assert "ms02" not in swapped.index
    true = true.loc[list(second)]
    assert swapped["global_change"].to_numpy() == pytest.approx(-true["global_change"].to_numpy())
    assert swapped["dynamic_remyelination"].to_numpy() == pytest.approx(true["dynamic_demyelination"].to_numpy())
    darker = {i: v.with_data(v.data - 0.5) for i, v in first.items()}
    assert (compared(cohort, norm, darker, {})[0]["percent_t0"] == 100).all()


def test_agreement_of_maps_by_hand(cohort, norm):
    """Predicting that nothing changes: t1 is read as t0, so there is no dynamic voxel to agree on."""
    first = truths(cohort, 0)
    _, table = compared(cohort, norm, first, {i: first[i] for i in truths(cohort, 1)})
    for i in (1, 5):
        sick, later = 16 + 4 * i, 8 + 6 * i
        shared = sick - 8
        assert table.loc[f"ms{i:02}", "dice_t1"] == pytest.approx(2 * shared / (sick + later))
        assert table.loc[f"ms{i:02}", ["dice_demyelinating", "dice_remyelinating"]].tolist() == [0, 0]
        p, q = later / 64, sick / 64
        assert table.loc[f"ms{i:02}", "chance_t1"] == pytest.approx(2 * p * q / (p + q))
    assert (table["dice_t0"] == 1).all() and (table["chance_remyelinating"].dropna() == 0).all()


def test_chance_is_what_random_maps_reach():
    rng = np.random.default_rng(5)
    a, b = rng.random((2000, 64)) < 0.5, rng.random((2000, 64)) < 0.25
    drawn = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert chance_dice(0.5, 0.25) == pytest.approx(drawn, abs=0.01)
    assert math.isnan(chance_dice(0.0, 0.0))


@pytest.mark.parametrize("later", [29.9, 30.0])
def test_swapped_time_points_are_refused_by_age(cohort, norm, later):
    s = cohort.subject("ms03")
    swapped = replace(s, scans=(s.scans[0], replace(s.scans[1], age=later)))
    wrong = replace(cohort, subjects=(swapped, *cohort.subjects[-3:]))
    with pytest.raises(NbkitError, match="ms03: t0 and t1: expected a second scan at a later age, found 30, then"):
        courses(wrong, {}, norm)


def test_unknown_subjects_and_a_cohort_without_patients_are_refused(cohort, norm):
    with pytest.raises(NbkitError, match="courses: x.*Did you mean 'ms03'"):
        courses(cohort, {"x": ({"ms3": cohort.subject("ms03").baseline.image("DVR")}, {})}, norm)
    with pytest.raises(NbkitError, match="at least one patient with lesions, found none"):
        courses(cohort.subset(["hc0", "hc1"]), {}, norm)


@pytest.fixture(scope="module")
def rows(cohort, norm):
    """Indices and agreement of true PET, and of a system that sees the second scans as the first."""
    first = truths(cohort, 0)
    found = courses(cohort, {chapter4.OURS: (first, {i: first[i] for i in truths(cohort, 1)})}, norm)
    return indices(found), map_agreement(found)


def test_every_row_has_the_id_of_the_ledger_and_the_patients_it_counts(rows, norm):
    index, alike = rows
    static = chapter4.static_demyelination(index, alike, norm)
    assert by_subject(static, id="wei2020.fig4_4.percent_t0.truth")["ms03"] == pytest.approx(100 * 28 / 64)
    assert where(static, id="wei2020.fig4_4.chance_floor")["value"].item() == 100 * norm.chance_floor
    found = chapter4.changes(index)
    again = [f"ms{i:02}" for i in (1, 3, 4, 5, 6, 7)]
    assert by_subject(found, id="wei2020.fig4_5.direction") == dict.fromkeys(again, -1)
    assert where(found, id="wei2020.fig4_5.global_change.lowest")["value"].item() == pytest.approx(-6 / 64)
    assert where(found, id="wei2020.fig4_5.global_change.misclassified")["value"].item() == pytest.approx(6 / 64)
    frames = (static, found, chapter4.change_agreement(alike))
    assert set(stacked(*frames)["id"]) - {""} <= LEDGER.keys()
    assert set(static["unit"]) == {"%", "Dice"} and "fraction" in set(found["unit"])


def test_scores_fill_the_tables_of_the_ledger():
    systems = ["dnn", "unet", "refiner_cfsagan", "refiner2_cfsagan", "unet_wl1", "unet_nwl1"]
    scores = stacked(*(
        tidy({"a": k + 1.0, "b": k + 3.0}, system=system, metric=metric)
        for k, system in enumerate(systems) for metric in ("mse", "psnr", "discrepancy_lesions")
    ))
    quality = chapter4.image_quality(scores[scores["system"].isin(systems[:3])])
    assert len(quality) == 18 and set(quality["id"]) <= LEDGER.keys()
    text = chapter4.text_numbers(scores).set_index("id")["value"]
    assert text["wei2020.text.improvement.mse.dnn"] == pytest.approx(-100) and len(text) == 4 + 4
    assert text["wei2020.text.improvement.psnr.unet"] == pytest.approx(100 / 3)
    losses = chapter4.loss_table(scores, ["unet"])
    assert by_subject(losses, id="wei2020.table4_2b.unet.nwl1") == {"a": 6, "b": 8}
    assert set(losses["id"]) <= LEDGER.keys()


class Same:
    """A result whose predictions for a visit are given."""

    def __init__(self, *visits):
        self.visits = visits

    def predictions(self, people, *, visit):
        return self.visits[visit]


def test_where_nothing_changed_every_index_of_change_is_none(cohort, norm):
    still = replace(cohort, subjects=tuple(
        replace(s, scans=(s.scans[0], replace(s.scans[0], session="t1", age=31.0))) for s in cohort))
    results = {chapter4.OURS: Same(truths(still, 0), truths(still, 1))}
    visits = two_visits(results, still, list(results))
    null = chapter4.null_experiment(still, results, visits, norm)
    moved = null[null["metric"].isin(chapter4.CHANGES)]
    assert len(moved) == 2 * 5 * 7 and not moved["value"].any()
    assert {i for i in null["id"] if i.endswith("truth")} <= LEDGER.keys()
    index = indices(courses(cohort, visits, norm))
    table = chapter4.null_table(index, null)
    assert list(table.index) == list(chapter4.CHANGES) and not table["nothing changed"].to_numpy().any()
    bars = chapter4.with_levels(index, null)
    assert where(bars, subject="", metric="global_change")["value"].tolist() == [0]
    assert chapter4.null_experiment(None, results, visits, norm).empty
    assert list(chapter4.null_table(index, null.iloc[:0])) == [("changed", "truth"), ("changed", chapter4.OURS)]


def with_edss(cohort: Cohort, change: dict[str, float]) -> Cohort:
    """EDSS follows the change exactly."""
    edss = {s.id: 3 - 20 * change.get(s.id, 0) + 0.1 * s.covariates.get("age", 0) for s in cohort}
    return replace(cohort, subjects=tuple(
        replace(s, covariates={**s.covariates, "edss": edss[s.id]}) for s in cohort))


def test_edss_follows_the_index_it_was_made_from(cohort, rows):
    change = by_subject(rows[0], system="truth", metric="global_change")
    found = chapter4.edss_regression(with_edss(cohort, change), change)
    want = {"index": -0.2, "age": 0.1, "sex": 0, "t2_load": 0}
    assert found["coefficient"].to_dict() == pytest.approx(want, abs=1e-9)
    assert list(found["n"]) == [6] * 4
    bare = replace(cohort, subjects=tuple(replace(s, covariates={}) for s in cohort))
    with pytest.raises(NbkitError, match="edss_regression: age: expected a value for every patient, found none for"):
        chapter4.edss_regression(bare, change)
    unknown = replace(cohort, subjects=tuple(replace(s, sex=None) for s in cohort))
    with pytest.raises(NbkitError, match="edss_regression: sex: expected a value for every patient"):
        chapter4.edss_regression(unknown, change)


@pytest.fixture(scope="module")
def many():
    """120 people whose EDSS falls with the index, and their indices as rows."""
    rng = np.random.default_rng(8)
    index, age = rng.normal(0.1, 0.04, 120), rng.normal(32, 6, 120)
    load, noise = rng.lognormal(1.5, 0.5, 120), rng.normal(0, 1, 120)
    scans = (change_scan("x", "t0", None),)
    facts = [{"age": age[i], "t2_load_ml": load[i], "edss": 4 - 20 * index[i] + noise[i]} for i in range(120)]
    people = (Subject(f"p{i}", "FM"[i % 2], "MS", scans, f) for i, f in enumerate(facts))
    many = Cohort("many", tuple(people), "embedded")
    values = dict(zip(many.ids, index, strict=True))
    return many, stacked(*(
        tidy(values, system=system, metric=metric) for system in ("truth", chapter4.OURS) for metric in chapter4.CHANGES
    ))


def test_pseudovalues_estimate_beta_and_have_its_standard_error(many):
    """On many people the jackknife agrees with least squares, whose errors here have one variance."""
    people, index = many
    change = by_subject(index, system="truth", metric="dynamic_remyelination")
    fit = chapter4.edss_regression(people, change).loc["index"]
    values = np.array(list(chapter4.edss_pseudovalues(people, change).values()))
    assert values.mean() == pytest.approx(fit["beta"], abs=0.01) and fit["beta"] < -0.4
    slope = values.std(ddof=1) / np.sqrt(120)
    assert slope == pytest.approx(abs(fit["beta"] / fit["t"]), rel=0.25)


def test_disability_fills_every_cell_of_both_tables_or_none(many, cohort, rows):
    people, index = many
    small = index[index["subject"].isin(people.ids[:9])]
    tables = chapter4.disability(people, small)
    cells = {i for i in LEDGER if i.startswith("wei2020.table4_3")}
    assert set(tables["id"]) == cells and len(tables) == 4 * (20 + 9) + 2 * 9
    both, dem, rem = (by_subject(tables, id=f"wei2020.table4_3a.{i}") for i in (
        "demyelination.beside", "demyelination.pseudovalues", "remyelination.pseudovalues"))
    assert {s: v - rem[s] for s, v in both.items()} == pytest.approx(dem)
    fit = chapter4.edss_regression(people, by_subject(small, system="truth", metric="dynamic_remyelination"))
    found = tables.drop_duplicates("id").set_index("id")
    assert found.loc["wei2020.table4_3a.remyelination.gender.se", "value"] == fit.loc["sex", "standard_error"]
    assert found.loc["wei2020.table4_3a.remyelination.coefficient", "unit"] == "EDSS per %"
    checks = chapter4.disability_checks(people, small, people, small)
    assert len(checks) == 8 and set(chapter4.null_betas(checks)["value"]) == {fit.loc["index", "beta"]}
    assert set(chapter4.null_betas(checks)["id"]) <= LEDGER.keys()
    assert chapter4.disability(cohort, rows[0]).empty, "six patients are too few"
    assert chapter4.null_betas(chapter4.disability_checks(cohort, rows[0], None, rows[0].iloc[:0])).empty


def test_what_was_planted_stands_beside_what_is_seen(cohort, rows):
    truth = {s.id: {"facts": {"course": {"remyelination": 0.125}}} for s in cohort}
    pairs = chapter4.planted(replace(cohort, truth=truth), rows[0])
    assert len(pairs) == 6 and pairs.loc["ms04"].tolist() == pytest.approx([0.125, 0.125, 0, 3.0])
    assert chapter4.planted(cohort, rows[0]).empty
    assert chapter4.rank_correlations(pairs[:2]).equals(pairs[:2])
    ranks = pairs.rank().corr().round(2)
    pd.testing.assert_frame_equal(chapter4.rank_correlations(pairs), ranks)
    still = cohort.subset([s.id for s in cohort if len(s.scans) > 1])
    told = chapter4.reasons(still, rows[0], rows[0], pairs)
    assert len(told) == 4 and "threshold noise is 100 % of it" in told[1]
    assert chapter4.reasons(None, rows[0], rows[0], pairs) == []
