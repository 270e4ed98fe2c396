"""README's blocks on a model of one's own run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.splits import folds
from nbkit.entrants import cross_validated, enter, require_methods
from nbkit.figures import marks
from tests.papers.trajectories.ageing_balls import cohort, person
from tests.sources import ROOT

SECTION = (ROOT / "README.md").read_text(encoding="utf-8").split("### Your own model, in Python")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```\w*\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The files that the blocks name, in a folder of their own."""
    monkeypatch.setattr(marks, "ENTERED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache"))
    for block in BLOCKS:
        if found := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / found[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_model_learns_the_mean_change(folder):
    made = [person(f"HC{k}", "HC", ages=(62.0, 66.0, 70.0), size=1.0, centre=(k, 0, 0)) for k in range(3)]
    people = replace(cohort(made), provenance={"data_hash": "balls"})
    require_methods("my_model.py:MyModel")
    mine = enter("my_model.py:MyModel", people.subset(["HC0", "HC1"]))["MyModel"]
    ends = [(p.scans[0].image("T1w").data, p.scans[-1].image("T1w").data) for p in people.subjects[:2]]
    yearly = sum((b - a) / 8 for a, b in ends) / 2
    last = people.subjects[2].scans[0]
    found, = mine.predict([last], [66.0], "CN")
    expected = (last.image("T1w").data + last.mask("brain").data * yearly * 4).clamp(min=0)
    assert torch.allclose(found.data, expected) and not mine.faults


def test_the_model_of_a_contrast_is_its_factor(folder):
    brain = Volume(torch.ones(3, 3, 3, dtype=torch.bool))

    def subject(k: int) -> Subject:
        t1w = Volume(torch.arange(27.0).reshape(3, 3, 3) + k)
        images = {"T1w": t1w, "FLAIR": t1w.with_data(3 * t1w.data)}
        return Subject(f"s{k}", None, "MS", (Scan(f"s{k}", "1", None, images, {"brain": brain}),))

    people = Cohort("toys", tuple(map(subject, range(4))), "embedded", {"data_hash": "toys"})

    def score(subject: Subject, made: Volume) -> dict[str, float]:
        return {"mae": float((made.data - subject.baseline.image("FLAIR").data).abs().mean())}

    results, _ = cross_validated(
        "my_contrast.py:MyContrast", people, folds=folds(people, 2, seed=1), score=score, target="FLAIR")
    assert max(results["MyContrast"].scores["mae"].values()) < 1e-5


def test_make_hands_the_model_on():
    command, = (block for block in BLOCKS if block.startswith("make "))
    words = command.split()
    told = subprocess.run([words[0], "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert '--model "my_model.py:MyModel"' in told and '--nb "05,06,08,09"' in told
