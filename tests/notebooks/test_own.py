"""README's example of one's own data, as it stands there, runs notebook 01 to the end."""

from __future__ import annotations

import csv
import io

import pytest

from nbkit import cohorts
from nbkit.claims.observe import load_observations
from nbkit.data import nifti
from nbkit.runner.execute import reproduce
from nbkit.runner.folder import results_folder
from tests.notebooks import contract

pytestmark = [pytest.mark.slow, pytest.mark.notebook]


def example() -> str:
    """The table that README shows."""
    readme = (contract.ROOT / "README.md").read_text(encoding="utf-8")
    begin = readme.index("subject,session,age_years")
    return readme[begin : readme.index("```", begin)]


def test_readmes_example_runs_to_the_end(tmp_path):
    """One input contrast, a control without lesions, no tissues: made, or left out and said."""
    people, table = cohorts.cohort_for("embedded", task="flair", profile="smoke", seed=7), tmp_path / "table.csv"
    table.write_text(example(), encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(example())))
    for row in rows:
        who = next(person for person in people if person.diagnosis == row["diagnosis"]).baseline
        mask = row["contrast"].partition(":")[2]
        if mask:
            nifti.save_labels(tmp_path / row["path"], who.mask(mask))
        else:
            nifti.save_image(tmp_path / row["path"], who.image(row["contrast"]))
    folder = results_folder(tmp_path / "results", "smoke", str(table))
    notebook = next(path for path in contract.NOTEBOOKS if path.stem.startswith("01"))
    run = reproduce([notebook], out_dir=folder, profile="smoke", cohort=str(table), device="cpu")
    assert [(s.status, s.error) for s in run.stamps] == [("done", "")]
    seen = load_observations(folder)
    assert seen["wei2019.table2_2a.mse.fcn"].n == len({row["subject"] for row in rows})
    assert not any(row["subject"] in (folder / "observations.jsonl").read_text(encoding="utf-8") for row in rows)
