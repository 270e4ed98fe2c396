"""The run for a machine with a GPU, dry on the CPU: rows, commands, one folder to bring back."""

from __future__ import annotations

import json
import sys

import pytest

from nbkit.core.checks import NbkitError
from tests.benchmarks import gpu


@pytest.mark.slow
def test_rows_and_notebooks_land_in_one_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "clone/data_manifests").mkdir(parents=True)
    (tmp_path / "clone/data_manifests/weights.toml").write_text("# listed")
    (tmp_path / "clone/reference/weights/a").mkdir(parents=True)
    monkeypatch.setattr(gpu, "ROOT", tmp_path / "clone")
    monkeypatch.setattr(gpu, "NBKIT", [sys.executable, "-c", "import sys; print(sys.argv)"])
    to = tmp_path / "back"
    given = ["--device", "cpu", "--profile", "smoke", "--systems", "FCN;DaniNet P-C", "--nb", "05,08", "--to", str(to)]
    assert gpu.main(given) == 0
    rows = json.loads((to / "benchmark.json").read_text())["rows"]
    assert [row["system"] for row in rows] == ["FCN", "DaniNet P-C"]
    for row in rows:
        assert "error" not in row, row
        assert row["seconds"] > 0 and row["counted_flops"] > 0 and row["steps"] > 0
        assert row["hours"] == pytest.approx(row["seconds"] * row["steps"] / 3600)
    assert (to / "data_manifests/weights.toml").exists() and (to / "reference/weights/a").is_dir()
    assert f"bring back {to}" in capsys.readouterr().out


def test_what_runs_is_what_the_command_line_knows(tmp_path):
    ran, kept, trained = gpu.commands("05,08", "overnight", "cuda", tmp_path)
    assert ran[3:] == ["run", "--nb", "05,08", "--device", "cuda", "--profile", "overnight", "--out",
                       str(tmp_path / "results")]
    assert kept[3] == "reference" and trained[3:] == ["train", "--nb", "05,08", "--profile", "overnight"]


def test_what_takes_too_long_is_ended_and_counts_as_failed():
    assert gpu._within([sys.executable, "-c", "import threading; threading.Event().wait()"], 0.01)


def test_a_machine_without_a_gpu_is_told():
    with pytest.raises(NbkitError, match="a machine with cuda"):
        gpu.main(["--device", "cuda"])
