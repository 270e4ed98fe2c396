"""Yearly rates come from the truth's volumes, both sides together, and from the table of parameters."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.phantom.rates import prescribed_rates, true_rates


def test_true_rates_add_the_sides_and_divide_by_years():
    scans = tuple(Scan("p", str(k), age, {}) for k, age in enumerate((70.0, 71.0, 74.0)))
    volumes = (
        {"hippocampus_left": 3000.0, "hippocampus_right": 5000.0, "csf_left": 1.0},
        {"hippocampus_left": 1.0, "hippocampus_right": 1.0, "csf_left": 1.0},
        {"hippocampus_left": 2900.0, "hippocampus_right": 4300.0, "csf_left": 9.0},
    )
    cohort = Cohort("one", (Subject("p", "F", "AD", scans),), "embedded", {}, {"p": SimpleNamespace(volumes=volumes)})
    (row,) = true_rates(cohort, ["hippocampus"]).to_dict("records")
    assert row["rate"] == pytest.approx(100 * (7200 / 8000 - 1) / 4) and row["diagnosis"] == "AD"


def test_prescribed_rates_are_those_of_the_table():
    rates = prescribed_rates(["hippocampus", "amygdala", "lateral_ventricle"])
    assert rates["hippocampus"]["AD"] == -4.7 and rates["amygdala"] == rates["hippocampus"]
    assert list(rates["lateral_ventricle"]) == ["CN", "SMC", "EMCI", "LMCI", "AD"]
    with pytest.raises(NbkitError, match="Did you mean 'hippocampus'"):
        prescribed_rates(["hipocampus"])
