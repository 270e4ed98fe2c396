"""Growth across people and within them, of people whose volumes are known by a formula."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nbkit.core.protocols import Cohort
from nbkit.papers.trajectories import single_scans


def test_single_scans_tell_how_the_old_differ_and_not_how_people_age():
    ages, within = np.array([0.0, 2.0, 4.0]), 0.03

    def someone(k):  # the older began with less: across people volumes fall, in each of them they grow
        start = 60.0 + 5 * k
        visits = tuple(SimpleNamespace(age=start + a, diagnosis=None, labels=None) for a in ages)
        known = [{"lateral_ventricle": 20 * np.exp(within * a - 0.05 * start)} for a in ages]
        truth = SimpleNamespace(ages=start + ages, volumes=known)
        return SimpleNamespace(id=f"p{k}", diagnosis="CN", scans=visits), truth

    made = [someone(k) for k in range(6)]
    everybody = Cohort("made", tuple(p for p, _ in made), "embedded", {}, {p.id: t for p, t in made})
    row = single_scans.across_and_within(everybody).loc["lateral_ventricle"]
    ages_all = np.concatenate([t.ages for _, t in made])
    logs = np.log([v["lateral_ventricle"] for _, t in made for v in t.volumes])
    assert row["within people, %/year"] == pytest.approx(3.0)
    assert row["across people, %/year"] == pytest.approx(100 * np.polyfit(ages_all, logs, 1)[0], abs=0.006)
    assert row["share"] < 0 and row["people"] == 6
    words = single_scans.said(single_scans.across_and_within(everybody))
    assert ": lateral ventricle -4." in words and ", +3.00 % within people. Who learns" in words
