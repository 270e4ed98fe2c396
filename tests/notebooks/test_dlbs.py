"""A made-up Dallas study on a server of this machine: fetched through everything that happens to downloads, and run.

The manifest is found beside the code, so the run is that of a copy of the repository with another manifest of dlbs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from nbkit.core.files import cache_folder
from nbkit.data.manifest import mirror_folder
from tests.data.loopback import serving
from tests.dlbs_tree import ixi_heads, scans_of, write_manifest
from tests.notebooks import contract

pytestmark = [
    pytest.mark.slow, pytest.mark.notebook,
    pytest.mark.skipif(not os.environ.get("NBKIT_MIRROR"), reason="set NBKIT_MIRROR to make heads of its scans"),
]
PEOPLE = 8


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A copy of the repository whose dlbs is the made-up one, the server, and its scans by path."""
    folder = tmp_path_factory.mktemp("dlbs")
    scans = scans_of(ixi_heads(PEOPLE), folder)
    for name in ("nbkit", "notebooks", "data_manifests", "reference/weights"):
        shutil.copytree(contract.ROOT / name, folder / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(contract.ROOT / "pyproject.toml", folder / "copy")
    with serving(scans, under="ds004856/") as server:
        write_manifest(scans, folder / "copy" / "data_manifests" / "dlbs", server.address)
        yield folder, server, scans


def nbkit(study, *words: str) -> tuple[int, str]:
    """The command line in the copy, without a mirror: its exit code and all that it says."""
    folder, _, _ = study
    env = {name: value for name, value in os.environ.items() if name != "NBKIT_MIRROR"}
    env |= {"PYTHONPATH": str(folder / "copy"), "NBKIT_DATA": str(folder / "data"), "NBKIT_CACHE": str(cache_folder())}
    done = subprocess.run([sys.executable, "-m", "nbkit.cli", *words], cwd=folder / "copy", env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


def here(study) -> dict[str, bytes]:
    root = study[0] / "data" / "ds004856"
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.nii.gz")}


def test_it_is_fetched_through_interruption_refusal_and_a_wrong_hash(study):
    folder, server, scans = study
    first = [path for path in sorted(scans) if path.startswith("sub-1001/")]
    server.cut = 600_000  # the line drops in the middle of the first scan
    code, said = nbkit(study, "data", "fetch", "dlbs", "--people", "1")
    assert code == 0 and "dlbs: 3 files, 3 to download" in said and "3 files here and verified" in said, said
    assert here(study) == {path: scans[path] for path in first}
    assert any(asked and asked.startswith("bytes=") for _, asked in server.requests), "it went on where it stopped"
    assert all("?versionId=v0." in path for path, _ in server.requests)

    server.versions["*"] = 403
    bad = "sub-1003/ses-wave2/anat/sub-1003_ses-wave2_acq-MPRAGE_run-1_T1w.nii.gz"
    server.content[bad] = scans[bad][::-1]
    code, said = nbkit(study, "data", "fetch", "dlbs")
    assert code == 1 and f"{bad}: expected a download with sha256" in said, said
    three = {path for path in scans if not path.startswith(f"sub-{1000 + PEOPLE}/")}
    assert set(here(study)) == three - {bad}, "the others came all the same"
    server.content[bad] = scans[bad]
    assert nbkit(study, "data", "fetch", "dlbs")[0] == 0
    code, said = nbkit(study, "data", "fetch", "dlbs", "--all")
    assert code == 0 and here(study) == scans
    code, said = nbkit(study, "data", "verify", "dlbs")
    assert code == 0 and f"{len(scans)} ok, 0 missing, 0 wrong" in said
    assert f"{PEOPLE - 1} of {PEOPLE - 1} subjects" in re.search(r"(?m)^dlbs .*$", nbkit(study, "data", "list")[1])[0]


def test_it_runs_to_the_report(study):
    folder, server, scans = study
    assert nbkit(study, "data", "fetch", "dlbs", "--all")[0] == 0
    gone = folder / "data" / "ds004856" / "sub-1002" / "ses-wave1"
    shutil.rmtree(gone)
    shutil.rmtree(folder / "data" / "ds004856" / "sub-1002" / "ses-wave2")
    code, said = nbkit(study, "run", "--nb", "05,06,08,09", "--profile", "smoke", "--cohort", "dlbs", "--n-jobs", "1")
    assert code == 0, said
    results = folder / "copy" / "results" / "smoke-dlbs"
    assert [file.stem[:2] for file in sorted(results.glob("*.ipynb"))] == ["05", "06", "08", "09"]
    page = (results / "index.html").read_text(encoding="utf-8")
    assert "nobody in this cohort is ill" in page and "nbkit data fetch sleepy_brain" in page
    assert str(folder) not in page
    assert "6 of 7 people" in page and "everybody counts as CN" in page
    assert "Left out: sub-1002 (1 of 3 scans here, and change needs two" in page
    card = json.loads((results / "scorecard.json").read_text(encoding="utf-8"))
    told = {claim["id"]: claim["verdict"] for claim in card["claims"]}
    assert told["inbrainsyn.claim.early_localised"] == "not run: nobody in this cohort is ill"
    judged = [name for name, verdict in told.items() if not verdict.startswith("not run")]
    assert any(name.startswith("inbrainsyn.") for name in judged) and any(n.startswith("mrextrap.") for n in judged)
    assert mirror_folder() is not None, "the copy had none"
