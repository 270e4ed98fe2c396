"""The examples: short, and entrants that know something on balls whose truth is known."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from nbkit.core.protocols import Cohort
from nbkit.entrants import enter
from nbkit.figures import marks
from tests.papers.trajectories.ageing_balls import cohort, person
from tests.sources import ROOT

EXAMPLES = ROOT / "examples"
AGES = (62.0, 66.0, 70.0)
REMEDY = "pip install --no-deps antspyx==0.6.3 webcolors==25.10.0"


@pytest.fixture
def balls(tmp_path, monkeypatch) -> Cohort:
    """Four balls that shrink; every test has its own cache."""
    monkeypatch.setattr(marks, "ENTERED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache"))
    made = [person(f"{g}{k}", g, ages=AGES, size=1.0, centre=(k, 0, 0)) for k in range(2) for g in ("AD", "HC")]
    return replace(cohort(made), provenance={"data_hash": "balls"})


def test_each_has_fewer_than_sixty_lines_and_says_how_it_is_run():
    files = sorted(EXAMPLES.iterdir())
    assert [f.name for f in files if f.is_file()] == ["ants_average.py", "monai_unet.py", "volumes_only.sh"]
    for file in (f for f in files if f.is_file()):
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 60 and f"examples/{file.name}" in text


@pytest.mark.slow
def test_monai_s_u_net_learns_and_is_read_back(balls):
    address = f"{EXAMPLES}/monai_unet.py:MonaiUNet"
    first = enter(address, balls, profile="smoke", device="cpu", seed=1)["monai_unet"]
    last, = first.predict(balls.subjects[0].scans[:2], [70.0], "AD")
    again = enter(address, balls, profile="smoke", device="cpu", seed=1)["monai_unet"]
    assert np.array_equal(again.predict(balls.subjects[0].scans[:2], [70.0], "AD")[0].numpy(), last.numpy())
    other, = first.predict(balls.subjects[0].scans[:2], [90.0], "AD")
    assert not np.array_equal(other.numpy(), last.numpy()) and not first.faults


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ants") is None, reason=f"antspyx is not installed: {REMEDY}")
def test_ants_carries_a_shrinking_on_better_than_no_change(balls):
    model = enter(f"{EXAMPLES}/ants_average.py:AntsAverage", balls, profile="smoke")["ants_average"]
    scans = balls.subjects[0].scans
    miss = [float((image.data - scans[2].image("T1w").data).abs().mean()) for image in (
        *model.predict(scans[:2], [70.0], "AD"), *model.predict(scans[1:2], [70.0], "AD"), scans[1].image("T1w"))]
    assert max(miss[:2]) < 0.75 * miss[2] and not model.faults


def table(path, columns, rows):
    pd.DataFrame(rows, columns=columns.split()).to_csv(path, sep="\t", index=False)


@pytest.mark.parametrize("awk", [name for name in ("mawk", "gawk", "original-awk", "awk") if shutil.which(name)])
def test_volumes_go_on_along_the_mean_slope_of_the_diagnosis(tmp_path, awk):
    """Three healthy people whose hippocampus shrinks by 1 to 3 % a year, one ill by 5 %; exact exponentials."""
    task, out = tmp_path / "task", tmp_path / "mine"
    task.mkdir()
    rates = {"h1": ("CN", -0.01), "h2": ("CN", -0.03), "h3": ("CN", -0.02), "ill": ("AD", -0.05)}
    people = [(f"sub-{who}", 60, "F", group, who, "training") for who, (group, _) in rates.items()]
    people += [(f"sub-t{k}", 60, "M", group, k, "test") for k, group in ((1, "CN"), (2, "AD"), (3, "SMC"))]
    table(task / "participants.tsv", "participant_id age sex diagnosis source_id split", people)
    known = [(f"sub-{who}", f"ses-{k}", 60 + k, "hippocampus", 4000 * np.exp(rate * k))
             for who, (_, rate) in rates.items() for k in (0, 2, 5)]
    known += [(f"sub-t{k}", "ses-0", 70.25, "hippocampus", 3000.0 + k) for k in (1, 2, 3)]
    table(task / "volumes.tsv", "subject session age region value", known)
    wanted = [(f"sub-t{k}", "ses-0", age, age - 70.25, what) for k in (1, 2, 3)
              for age, what in ((70.25, "start"), (74.25, "forecast"))]
    table(task / "wanted.tsv", "subject session age years_ahead what", wanted)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "awk").symlink_to(shutil.which(awk))
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "LC_ALL": "C"}
    subprocess.run(["sh", EXAMPLES / "volumes_only.sh", task, out], check=True, env=path)
    found = pd.read_csv(out / "volumes.tsv", sep="\t").set_index("subject")
    assert list(found.columns) == ["age", "region", "value", "lower", "upper"] and set(found["age"]) == {74.25}
    healthy, everybody = [-0.01, -0.03, -0.02], [-0.01, -0.03, -0.02, -0.05]
    slopes = {"sub-t1": (-0.02, np.std(healthy)), "sub-t2": (-0.05, np.std(everybody)),
              "sub-t3": (np.mean(everybody), np.std(everybody))}
    for who, (slope, spread) in slopes.items():
        start = 3000 + int(who[-1])
        wide = 0.674 * spread * 4
        expected = start * np.exp([4 * slope, 4 * slope - wide, 4 * slope + wide])
        assert found.loc[who, ["value", "lower", "upper"]].astype(float).to_numpy() == pytest.approx(expected, rel=1e-6)
