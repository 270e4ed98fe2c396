"""The task "slice": the slice repeated is the control, the true slice errs by nothing, volumes are not asked for."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pandas as pd
import pytest

from nbkit.benchmark import slice as task_slice
from nbkit.benchmark.slice import open_slice
from nbkit.benchmark.small_page import write_small_page
from nbkit.core.checks import NbkitError
from tests.benchmark.little import hand_in, hand_in_images, people, still, truth


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(task_slice, "cohort_for", lambda *_, **__: replace(people(), subjects=people().subjects[:8]))
    place = MappingProxyType({"smoke": {"level_mm": 0.0, "size": 18, "spacing_mm": 4.0}})
    monkeypatch.setattr(task_slice, "PROFILE_SLICES", place)
    return open_slice("embedded", profile="smoke", device="cpu")


def test_laws_of_a_slice(task, tmp_path, monkeypatch):
    said = task.write(tmp_path / "task")
    assert "4 training people, 4 test people, 8 forecasts asked for" in said
    assert not (tmp_path / "task" / "volumes.tsv").exists()
    assert "volumes" not in (tmp_path / "task" / "README.md").read_text()
    lost = list(task.by_label)[0]
    entries = [task.read(hand_in_images(tmp_path / name, task, of, without=without)) for name, of, without in (
        ("still", still, ()), ("true", truth, ()), ("some", truth, [lost]))]
    found = task.judge(entries)
    rows = found.frame.set_index(["system", "metric", "subject"])["value"].sort_index()
    assert abs(rows["still"] - rows["copy"]).max() <= 1e-6
    assert (rows["true", "mae"] == 0).all() and rows["true", "ssim"].min() > 1 - 1e-6
    who = task.by_label[lost].id
    assert rows["some", "ssim", who] == rows["copy", "ssim", who] < 1
    assert found.forgotten == (f"some: nothing of 1 of 4 people, scored as the slice repeated: sub-{lost}",)
    text = write_small_page(tmp_path / "page.html", found).read_text()
    assert task.rules.hash in text and "open truth" in text and "median person" in text


def test_volumes_are_refused(task, tmp_path):
    row = {"subject": list(task.by_label)[0], "age": 66.5, "region": "hippocampus", "value": 3000.0}
    rows = pd.DataFrame([row])
    with pytest.raises(NbkitError, match="region"):
        task.read(hand_in(tmp_path / "mine", rows))
