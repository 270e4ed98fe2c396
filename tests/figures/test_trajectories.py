"""Curves show the numbers of the table, in the unit they name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean
from nbkit.figures.trajectories import (
    person_trajectories, population_bands, rate_strip, volume_trajectories, with_truth,
)

AGES = (70.0, 72.0, 75.0)


@pytest.fixture
def table():
    """Two people, two regions, the truth and a model that loses half as much, with intervals."""
    rows = []
    for subject, start in (("a", 4000.0), ("b", 5000.0)):
        for structure, pace in (("hippocampus_left", -0.03), ("lateral_ventricle", 0.05)):
            for model, share in (("truth", 1.0), ("inbrainsyn", 0.5)):
                for age in AGES[::-1]:
                    volume = start * (1 + share * pace * (age - 70))
                    bounds = (0.9 * volume, 1.1 * volume) if model != "truth" else (np.nan, np.nan)
                    rows.append((subject, structure, model, age, volume, *bounds))
    return pd.DataFrame(rows, columns=["subject", "structure", "model", "age", "mm3", "low", "high"])


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def keys(figure):
    return [t.get_text() for t in figure.legends[0].get_texts()]


def test_each_region_has_a_panel_with_one_line_per_person_and_model_in_millilitres(table):
    figure = volume_trajectories(table)
    assert [a.get_title(loc="left") for a in figure.axes] == ["Left hippocampus", "Lateral ventricle"]
    axes = figure.axes[0]
    assert axes.get_ylabel() == "volume (mL)" and keys(figure) == ["truth", "InBrainSyn"]
    a, b = lines(axes, "truth")
    assert a.get_xdata().tolist() == list(AGES) and np.allclose(a.get_ydata(), [4.0, 3.76, 3.4])
    assert np.allclose(b.get_ydata()[0], 5.0)
    band = axes.collections[0].get_paths()[0].vertices
    assert len(axes.collections) == 2 and np.isclose(band[:, 1].max(), 4.4)


def test_in_percent_everybody_starts_at_a_hundred(table):
    axes = volume_trajectories(table, relative=True, structures=["lateral_ventricle"]).axes[0]
    assert axes.get_ylabel() == "% of baseline"
    for one in lines(axes, "truth"):
        assert np.allclose(one.get_ydata(), [100, 110, 125])
    assert np.allclose(lines(axes, "InBrainSyn")[1].get_ydata(), [100, 105, 112.5])
    band = axes.collections[0].get_paths()[0].vertices
    assert np.isclose(band[:, 1].max(), 1.1 * 112.5)


def test_without_a_truth_percent_are_of_the_first_volume(table):
    guessed = table[table["model"] != "truth"]
    axes = volume_trajectories(guessed, relative=True, structures=["lateral_ventricle"]).axes[0]
    assert np.allclose(lines(axes, "InBrainSyn")[0].get_ydata(), [100, 105, 112.5])


def test_the_transition_is_marked_at_its_age(table):
    figure = volume_trajectories(table, transition=73.5)
    for axes in figure.axes:
        (mark,) = lines(axes, "transition, 73.5 y")
        assert mark.get_xdata() == [73.5, 73.5]
    assert keys(figure)[-1] == "transition, 73.5 y"


def test_a_table_without_subjects_or_intervals_is_one_person(table):
    one = table[table["subject"] == "a"].drop(columns=["subject", "low", "high"])
    axes = volume_trajectories(one).axes[0]
    assert len(lines(axes, "truth")) == 1 and not axes.collections


def test_bad_volumes_are_refused(table):
    with pytest.raises(NbkitError, match="volume_trajectories: table.*no structure.*Did you mean 'structures'"):
        volume_trajectories(table.rename(columns={"structure": "structures"}))
    with pytest.raises(NbkitError, match="no rows"):
        volume_trajectories(table[:0])
    with pytest.raises(NbkitError, match="found 'hippocampus_lef'. Did you mean 'hippocampus_left'"):
        volume_trajectories(table, structures=["hippocampus_lef"])


def test_scores_become_rows_that_start_at_the_true_baseline():
    columns = ["subject", "structure", "age", "years", "model", "mm3", "true_mm3", "true_change_pct"]
    rows = [("a", "thalamus", 72.0, 2.0, "mine", 950.0, 900.0, -10.0),
            ("a", "thalamus", 74.0, 4.0, "mine", 930.0, 800.0, -20.0),
            ("a", "thalamus", 72.0, 2.0, "no_change", 1000.0, 900.0, -10.0)]
    found = with_truth(pd.DataFrame(rows, columns=columns))
    by_model = {m: list(zip(f["age"], f["mm3"].round(6), strict=True)) for m, f in found.groupby("model", sort=False)}
    assert by_model == {
        "truth": [(70.0, 1000.0), (72.0, 900.0), (74.0, 800.0)], "mine": [(70.0, 1000.0), (72.0, 950.0), (74.0, 930.0)],
        "no_change": [(70.0, 1000.0), (72.0, 1000.0)],
    }
    axes = volume_trajectories(found, relative=True).axes[0]
    assert np.allclose(lines(axes, "truth")[0].get_ydata(), [100, 90, 80])
    with pytest.raises(NbkitError, match="with_truth: table.*no true_mm3"):
        with_truth(pd.DataFrame(rows, columns=columns).drop(columns="true_mm3"))


@pytest.fixture
def people():
    rows = [("hippocampus", s, age, volume, 3000.0 - 10 * age, 3500.0 - 10 * age, 4000.0 - 10 * age)
            for s, volume in (("in", 2800.0), ("out", 1500.0)) for age in AGES]
    return pd.DataFrame(rows, columns=["structure", "subject", "age", "mm3", "low", "median", "high"])


def test_people_outside_the_band_are_marked_and_counted(people):
    figure = population_bands(people)
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "Hippocampus\n3 of 6 inside"
    (out,) = lines(axes, "outside")
    assert np.allclose(out.get_ydata(), 1.5) and sorted(out.get_xdata()) == list(AGES)
    assert np.allclose(lines(axes, "population median")[0].get_ydata()[::2], [2.8, 2.78, 2.75])
    band = axes.collections[0].get_paths()[0].vertices
    assert np.isclose(band[:, 1].max(), 3.3) and np.isclose(band[:, 1].min(), 2.25)
    assert keys(figure) == ["population, 5th to 95th centile", "population median", "one person", "outside"]


def test_nobody_outside_means_no_mark(people):
    figure = population_bands(people[people["subject"] == "in"])
    assert "outside" not in keys(figure)
    with pytest.raises(NbkitError, match="no median"):
        population_bands(people.drop(columns="median"))


def test_rates_stand_in_the_order_of_the_disease_with_mean_interval_and_what_was_asked():
    rates = {"AD": [-5.0, -4.0, -3.0, -4.4, -4.1, -2.9], "CN": [-1.0, -1.5, -0.5], "LMCI": [-2.0]}
    rows = pd.DataFrame([("hippocampus", d, r) for d, row in rates.items() for r in row],
                        columns=["structure", "diagnosis", "rate"])
    figure = rate_strip(rows, prescribed={"hippocampus": {"CN": -1.4, "AD": -4.7}}, seed=3)
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["CN", "LMCI", "AD"]
    dots = axes.collections[2].get_offsets()
    assert sorted(dots[:, 1]) == sorted(rates["AD"]) and np.allclose(dots[:, 0], 2, atol=0.3)
    mean = bootstrap_mean(rates["AD"], seed=3)
    centres = [line for line in axes.lines if line.get_marker() == "D" and len(line.get_ydata())]
    assert np.isclose(centres[2].get_ydata()[-1], mean.value)
    bars = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 2 and line.get_linewidth() == 1.6]
    assert [bar.tolist() for bar in bars if np.isfinite(bar).all()] == [[mean.low, mean.high]], "six people or none"
    (asked,) = lines(axes, "prescribed mean")
    assert asked.get_ydata().tolist() == [-1.4, -4.7] and np.allclose(asked.get_xdata(), [0.36, 2.36])
    assert keys(figure) == ["one subject", "mean, 95 % interval (n ≥ 6)", "prescribed mean"]


def test_no_prescription_no_triangles_and_a_missing_column_is_named():
    rows = pd.DataFrame([("thalamus", "CN", -0.5)], columns=["structure", "diagnosis", "rate"])
    assert "prescribed mean" not in keys(rate_strip(rows))
    with pytest.raises(NbkitError, match="no diagnosis"):
        rate_strip(rows.rename(columns={"diagnosis": "dx"}))


def test_a_row_a_person_over_the_years_since_their_first_scan(table):
    table = table.assign(diagnosis="AD", age=table["age"] + 5 * (table["subject"] == "b"))
    figure = person_trajectories(table, structures=["lateral_ventricle", "hippocampus_left"])
    ventricle, hippocampus, below, _ = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Lateral ventricle", "Left hippocampus", "", ""]
    assert ventricle.get_ylabel() == "person 1, AD\n% of the first" and below.get_ylabel().startswith("person 2")
    assert below.get_xlabel() == "years since the first scan" and not ventricle.get_xlabel()
    for axes in (ventricle, below):
        (truth,) = lines(axes, "truth")
        assert np.allclose(truth.get_xdata(), [0, 2, 5]) and np.allclose(truth.get_ydata(), [100, 110, 125])
    assert ventricle.get_ylim() == below.get_ylim() != hippocampus.get_ylim()
    with pytest.raises(NbkitError, match="Did you mean 'hippocampus_left'"):
        person_trajectories(table, structures=["hippocampus_lef"])


def test_the_diagnosis_is_kept_where_there_is_one():
    rows = pd.DataFrame({"subject": ["a"], "structure": "thalamus", "age": 72.0, "years": 2.0, "model": "mine",
                         "mm3": 950.0, "true_mm3": 900.0, "true_change_pct": -10.0, "diagnosis": "AD"})
    assert set(with_truth(rows)["diagnosis"]) == {"AD"}
