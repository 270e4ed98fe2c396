"""nbkit export: what is written, that BIDS accepts it, that it goes on where it was, and who is left out and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nbkit import cli, export, shipped, systems
from nbkit.core.checks import NbkitError, require
from nbkit.core.protocols import Cohort
from nbkit.data.derivatives import read_derivatives
from nbkit.geometry.futures import Futures
from nbkit.geometry.warp import Displacement
from nbkit.papers.trajectories import NoChange, PixelRegression
from nbkit.training.offered import offered
from tests.papers.trajectories.ageing_balls import AFFINE, NAMES, SHAPE, distance, person

AGES = (62.0, 66.5, 70.0)
VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def balls(access: str = "open") -> Cohort:
    people = [person(f"{g}-{k}", g, ages=AGES, size=1.0, centre=(k, 0, 0)) for k in range(2) for g in ("AD", "HC")]
    facts = {"data_hash": "abc", "licence": "CC0", "attribution": "Somebody", "citation": ["doi:1"]}
    return Cohort("balls", tuple(replace(p, sex="F") for p in people), access, facts)


class Swelling(NoChange):
    """Everything grows by 2 % in volume a year about the middle of the grid; nobody beyond 75 years is known."""

    def futures(self, scan, ages, course=None):
        require(max(ages) <= 75, "Swelling: ages", expected="at most 75", found=max(ages), remedy="Ask for less.")
        places = torch.from_numpy(np.tensordot(AFFINE[:3, :3], np.indices(SHAPE), axes=1))
        places = places + torch.from_numpy(AFFINE[:3, 3, None, None, None])
        fields = [places * ((1 + 0.02 * (age - scan.age)) ** (-1 / 3) - 1) for age in ages]
        field = Displacement(torch.stack(fields).float())
        return Futures(scan, tuple(ages), field, "T1w", made_by="swelling")


class Painter(NoChange):
    """The last scan, one tenth brighter with every year."""

    futures = property()

    def predict(self, history, ages, diagnosis):
        last = history[-1]
        image = last.image("T1w")
        return [image.with_data(image.data * (1 + 0.1 * (age - last.age))) for age in ages]


class Reader:
    """Sees volumes as bright as the image is."""

    def segment(self, image, *, mask):
        return image.with_data(mask.data.int())

    def volumes(self, image, *, mask):
        return {name: 500.0 * float(image.data.max()) for name in NAMES.values()}


@pytest.fixture
def bench(monkeypatch):
    """The systems are a swelling, a painter and no change; nothing is trained."""
    made = {"countersynth": Swelling, "pixel_population": Painter, "no_change": NoChange}
    monkeypatch.setattr(systems.Bench, "lacking", lambda self, names: [])
    monkeypatch.setattr(systems.Bench, "model", lambda self, name: made[name]().fit(self.train))
    monkeypatch.setattr(systems.Bench, "part", lambda self, name: {"segmenter": Reader()}[name])
    return systems.Bench


@pytest.fixture
def nbkit(nbkit, monkeypatch, bench):
    """``nbkit("--to", ...)`` runs the command on balls; gives exit code, output and errors."""
    state = {"access": "open"}
    monkeypatch.setattr(export, "cohort_for", lambda *_, **__: balls(state["access"]))

    def run(*arguments: str, access: str = "open") -> tuple[int, str, str]:
        state["access"] = access
        return nbkit("export", "balls", "--profile", "smoke", *arguments)

    return run


EVERYTHING = ("--system", "countersynth,pixel_population,no_change", "--people", "all")


def validated(root) -> Counter:
    """What the standard's own validator says, by severity and code."""
    where = os.environ | {"DENO_DIR": str(root.parent / "deno"), "DENO_NO_UPDATE_CHECK": "1"}
    found = subprocess.run([VALIDATOR, root, "--format", "json"], capture_output=True, text=True, env=where)
    return Counter((i["severity"], i["code"]) for i in json.loads(found.stdout)["issues"]["issues"])


def test_everything_comes_back_with_its_voxels_ages_and_sources(nbkit, tmp_path):
    code, out, _ = nbkit("--to", tmp_path / "out", *EVERYTHING, "--ahead", "2,4.5")
    assert code == 0 and "4 people, 3 systems" in out
    found = read_derivatives(tmp_path / "out")
    cohort, by_path = balls(), {image.path: image for image in found.images}
    scan = cohort.subject("AD-1").scans[-1]
    stem = "sub-AD1/ses-70/anat/sub-AD1_ses-70_space-MNI152NLin2009aSym"
    back = by_path[f"{stem}_desc-preproc_T1w.nii.gz"]
    assert torch.equal(back.read(found.root).data, scan.image("T1w").data) and back.facts["Age"] == 70.0
    assert np.allclose(back.read(found.root).affine, AFFINE)
    assert torch.equal(by_path[f"{stem}_desc-brain_mask.nii.gz"].read(found.root).data > 0, scan.mask("brain").data)
    assert torch.equal(by_path[f"{stem}_dseg.nii.gz"].read(found.root).data, scan.labels.data.int())
    swollen = by_path[f"{stem}_desc-predictedCountersynthAge74p5_T1w.nii.gz"]
    right = Swelling().futures(scan, [74.5]).images()[0]
    assert torch.equal(swollen.read(found.root).data, right.data.float())
    assert swollen.facts["Sources"] == [back.uri] and swollen.facts["YearsAhead"] == 4.5
    painted = by_path[f"{stem}_desc-predictedPixelPopulationAge72_T1w.nii.gz"]
    assert torch.allclose(painted.read(found.root).data, scan.image("T1w").data * 1.2)
    assert len(painted.facts["Sources"]) == 3 and painted.facts["SkullStripped"] is True
    assert painted.facts["DiagnosisTold"] == "AD" and painted.facts["System"] == "pixel_population"
    trained = {i.subject for i in found.images if i.facts.get("TrainedOnThisPerson")}
    assert trained == {name.replace("-", "") for name in systems.Bench(cohort, "smoke").train.ids} and len(trained) == 2


def test_volumes_are_the_scans_own_times_the_growth(nbkit, tmp_path):
    nbkit("--to", tmp_path / "out", *EVERYTHING, "--ahead", "2,4.5")
    table = read_derivatives(tmp_path / "out").table.set_index(["participant_id", "session_id", "system", "age"])
    column, rows = table["white_matter_left_mm3"], ("sub-AD0", "ses-70")
    now = column[*rows, "n/a", 70.0]
    inner = (distance((0, 0, 0)) < 24 * (1 - 0.02 * 10)).sum() * 64
    assert table["brain_mm3"][*rows, "n/a", 70.0] == inner
    assert column[*rows, "no_change", 72.0] == pytest.approx(now)
    assert column[*rows, "countersynth", 74.5] == pytest.approx(now * 1.09, rel=0.01)
    # the painter's own picture of today is the start, so that what a segmenter reads too bright cancels
    assert column[*rows, "pixel_population", 74.5] == pytest.approx(now * 1.45, rel=1e-5)


@pytest.mark.skipif(not VALIDATOR.is_file(), reason="bids-validator-deno is not installed")
def test_the_standards_validator_accepts_it_and_would_not_accept_less(nbkit, tmp_path):
    nbkit("--to", tmp_path / "out", *EVERYTHING, "--ahead", "2,10", access="restricted")
    found = validated(tmp_path / "out")
    assert [key for key in found if key[0] == "error"] == []
    path = next((tmp_path / "out").glob("sub-*/ses-*/anat/*desc-predicted*_T1w.nii.gz"))
    path.rename(path.with_name(path.name.replace("desc-predicted", "age-78_desc-predicted")))
    assert [key for key in validated(tmp_path / "out") if key[0] == "error"]


def test_it_goes_on_where_it_was_and_adds(nbkit, tmp_path):
    root = tmp_path / "out"
    nbkit("--to", root, "--system", "no_change", "--people", "HC-0", "--ahead", "2")
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.nii.gz")}
    broken = next(root.rglob("*desc-preproc_T1w.json"))
    broken.unlink()
    (broken.parent / ".x.nii.gz.abc.new").mkdir()
    (broken.parent / ".x.nii.gz.abc.new" / "x.nii.gz").write_bytes(b"half")
    code, out, _ = nbkit("--to", root, "--system", "countersynth", "--people", "HC-0,AD-0", "--ahead", "2")
    assert code == 0
    after = {p: p.stat().st_mtime_ns for p in root.rglob("*.nii.gz")}
    assert {p for p in before if after[p] != before[p]} == {broken.with_name(broken.name.replace(".json", ".nii.gz"))}
    found = read_derivatives(root)
    assert set(found.table["system"]) == {"n/a", "no_change", "countersynth"}
    assert (root / "participants.tsv").read_text().count("\n") == 3
    assert "0 images written" in nbkit("--to", root, "--system", "no_change", "--people", "HC-0", "--ahead", "2")[1]


def test_another_export_or_other_files_are_not_overwritten(nbkit, tmp_path):
    root = tmp_path / "out"
    first = ("--to", root, "--system", "none", "--people", "HC-0")
    nbkit(*first)
    code, _, err = nbkit(*first, "--seed", "8")
    assert code == 2 and "found Seed 7, not 8" in err and "--overwrite" in err
    assert nbkit("--to", root, "--system", "none", "--people", "AD-0", "--seed", "8", "--overwrite")[0] == 0
    assert {i.subject for i in read_derivatives(root).images} == {"AD0"}
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    code, _, err = nbkit("--to", other, "--system", "none", "--overwrite")
    assert code == 2 and "not touched" in err and (other / "thesis.txt").read_text() == "years of work"
    (other / "dataset_description.json").write_text('{"Name": "somebody else\'s"}')
    assert nbkit("--to", other, "--system", "none", "--overwrite")[0] == 2 and (other / "thesis.txt").exists()
    file = tmp_path / "file"
    file.write_text("x")
    code, _, err = nbkit("--to", file, "--system", "none")
    assert code == 2 and "found a file" in err


def test_who_is_refused_is_left_out_with_the_reason(nbkit, tmp_path):
    root = tmp_path / "out"
    code, out, _ = nbkit("--to", root, "--system", "countersynth", "--people", "HC-0", "--ahead", "2,10")
    assert code == 0 and "1 left out" in out
    line = (root / export.LEFT_OUT).read_text().splitlines()[1].split("\t")
    assert line[:4] == ["HC-0", "70", "countersynth", "80"] and "expected at most 75" in line[4]
    assert [r.age for r in read_derivatives(root).table.itertuples() if r.system == "countersynth"] == [72.0]
    nbkit("--to", root, "--system", "no_change", "--people", "HC-0", "--ahead", "2")
    assert "countersynth" in (root / export.LEFT_OUT).read_text()


def test_a_system_that_cannot_be_trained_takes_no_other_with_it(nbkit, tmp_path, monkeypatch):
    def model(self, name):
        raise NbkitError("fit", expected="two visits", found="one", remedy="Add visits.")

    monkeypatch.setattr(systems.Bench, "model", model)
    code, out, _ = nbkit("--to", tmp_path / "out", "--system", "no_change", "--people", "HC-0")
    assert code == 0 and "1 left out" in out
    assert "it cannot be trained: fit: expected two visits" in (tmp_path / "out" / export.LEFT_OUT).read_text()


def test_visits_to_come_can_be_asked_for(nbkit, tmp_path):
    nbkit("--to", tmp_path / "out", "--system", "no_change", "--people", "1", "--seen", "1", "--ages", "visits")
    table = read_derivatives(tmp_path / "out").table
    made = table[table["system"] == "no_change"]
    assert made["age"].tolist() == [66.5, 70.0] and made["session_id"].unique().tolist() == ["ses-62"]
    assert made["years_ahead"].tolist() == [4.5, 8.0] and made["participant_id"].nunique() == 1


def test_only_test_people_unless_others_are_asked_for(nbkit, tmp_path):
    nbkit("--to", tmp_path / "out", "--system", "no_change", "--ages", "75")
    images = read_derivatives(tmp_path / "out").images
    strangers = systems.Bench(balls(), "smoke").split[1].ids
    assert {i.facts["SourceSubject"] for i in images if i.desc == "preproc"} == set(strangers)
    assert not any(i.facts.get("TrainedOnThisPerson") for i in images)


def test_restricted_data_are_kept_out_of_git_and_said_to_be(nbkit, tmp_path):
    root = tmp_path / "out"
    _, out, _ = nbkit("--to", root, "--system", "none", access="restricted")
    assert "participants' ids" in out and (root / ".gitignore").read_text() == "*\n"
    assert "restricted" in (root / "README.md").read_text()
    assert not [p for p in root.rglob("*.json") if str(tmp_path) in p.read_text()]


def test_a_plan_writes_nothing_and_says_what_would_be_trained(nbkit, tmp_path, monkeypatch):
    monkeypatch.setattr(systems.Bench, "lacking", lambda self, names: ["countersynth", "segmenter"])
    _, out, _ = nbkit("--to", tmp_path / "out", "--system", "countersynth", "--plan")
    assert "trained first on 2 people (smoke), then kept: countersynth, segmenter" in out
    assert not (tmp_path / "out").exists()


def test_what_comes_with_the_project_is_asked_for_unless_all_is_to_be_trained(nbkit, tmp_path, monkeypatch):
    asked, untrained = [], PixelRegression()
    monkeypatch.setattr(shipped, "find", lambda model, people, key: asked.append(type(model).__name__))
    monkeypatch.setattr(systems.Bench, "lacking", lambda self, _: [str(offered(untrained, self.train))])
    for weights, times in (("train", 0), ("shipped", 1)):
        nbkit("--to", tmp_path / "out", "--system", "pixel_ols", "--weights", weights, "--plan")
        assert asked.count("PixelRegression") == times


@pytest.mark.parametrize(("options", "message"), [
    (("--weights", "mine"), "--weights"),
    (("--system", "countersinth"), "Did you mean 'countersynth'"), (("--people", "HC0"), "Did you mean 'HC-0'"),
    (("--ahead", "two"), "--ahead: expected numbers"), (("--ages", "66,5x"), "--ages: expected numbers"),
    (("--ages", "0.7"), "ages from 1.2 to 120"), (("--ahead", "200"), "at most 60 years ahead"),
    (("--seen", "0"), "at least one scan seen"), (("--seen", "1.5"), "at least one scan seen"),
])
def test_wrong_options_are_one_message(nbkit, tmp_path, options, message):
    given = options if "--system" in options else ("--system", "no_change", *options)
    code, _, err = nbkit("--to", tmp_path / "out", *given)
    assert code == 2 and message in err and "Traceback" not in err


def test_a_person_whose_name_is_a_number_is_that_person():
    cohort = balls()
    numbered = replace(cohort, subjects=tuple(replace(s, id=str(k)) for k, s in enumerate(cohort, start=1)))
    bench = systems.Bench(numbered, "smoke")
    assert [s.id for s in export.Wish(("no_change",), people="3").of_whom(bench)] == ["3"]
    assert len(export.Wish(("no_change",), people="1,2").of_whom(bench)) == 2


def test_the_description_carries_licence_credit_and_source():
    told = export.description(balls(), {"Seed": 7})
    assert told["License"] == "CC0" and told["Acknowledgements"] == "Somebody"
    assert told["ReferencesAndLinks"] == ["doi:1"]
    assert told["DatasetType"] == "derivative" and told["GeneratedBy"][0]["Name"] == "nbkit"
    open_one = export.description(replace(balls(), name="ixi_ageing"), {})
    assert open_one["SourceDatasets"][0]["URL"] == "https://github.com/CBICA/NiChart_Project"


@pytest.mark.slow
def test_real_systems_on_the_embedded_people(monkeypatch, tmp_path, capsys):
    """A control, a painter and a deforming system, trained at smoke size."""
    chosen = ("--system", "no_change,pixel_population,countersynth", "--people", "1", "--ahead", "2")
    monkeypatch.setattr("sys.argv", [
        "nbkit", "export", "embedded", "--to", str(tmp_path / "out"), "--profile", "smoke", *chosen])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and "0 left out" in capsys.readouterr().out
    found = read_derivatives(tmp_path / "out")
    made = [image for image in found.images if image.predicted and image.suffix == "T1w"]
    assert {i.facts["System"] for i in made} == {"no_change", "pixel_population", "countersynth"}
    hashes = {i.facts["System"]: i.facts["WeightsSHA256"] for i in made}
    assert len(set(hashes.values())) == 3 and all(len(h) == 64 for h in hashes.values())
    assert found.table.filter(like="_mm3").drop(columns="brain_mm3").notna().all(axis=None)
