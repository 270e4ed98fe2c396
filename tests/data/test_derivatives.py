"""BIDS derivatives: names, tables made from sidecars, and a reader that believes neither without the other."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data.bids import read_bids
from nbkit.data.derivatives import Derived, labels_of, predicted_desc, read_derivatives, write_tables

AFFINE = np.array([[2.0, 0.1, 0, -30], [-0.1, 2.0, 0.2, 12], [0, -0.2, 3.0, 7], [0, 0, 0, 1]])
NAMES = {1: "hippocampus_left", 7: "white_matter"}


def image(seed: int = 0) -> Volume:
    return Volume(torch.rand(1, 4, 5, 6, generator=torch.Generator().manual_seed(seed)), AFFINE)


def prepared(session: str, age: float) -> Derived:
    return Derived("P01", session, "T1w", "preproc", {
        "Description": "T1w", "SkullStripped": True, "Age": age, "Sex": "F", "Diagnosis": "CN", "SourceSubject": "P-01",
        "SourceSession": session, "Volumes": {"hippocampus_left": 3000.0 + age}, "VolumesFrom": "labels",
    })


@pytest.fixture
def root(tmp_path):
    """Two scans, a mask, labels and a prediction from both scans, with their tables."""
    scans = [prepared("M00", 70.25), prepared("M24", 72.0)]
    for k, scan in enumerate(scans):
        scan.write(tmp_path, image(k))
    facts = {"Description": "Brain", "Type": "Brain", "Sources": [scans[0].uri]}
    Derived("P01", "M00", "mask", "brain", facts).write(tmp_path, image().with_data(image().data > 0.5))
    labels = image().with_data(torch.where(image().data > 0.5, 7, 1))
    Derived("P01", "M00", "dseg", "", facts | {"Description": "Structures"}).write(tmp_path, labels)
    Derived("P01", "M24", "T1w", predicted_desc("mrextrap_ols", 78.5), {
        "Description": "a forecast", "SkullStripped": True, "System": "mrextrap_ols", "PredictedAge": 78.5,
        "YearsAhead": 6.5, "Sources": [scan.uri for scan in scans], "Volumes": {"white_matter": 4.5},
        "VolumesFrom": "segmenter",
    }).write(tmp_path, image(9))
    write_tables(tmp_path, NAMES)
    (tmp_path / "dataset_description.json").write_text(json.dumps(
        {"Name": "toy", "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "nbkit"}]}))
    return tmp_path


def test_names_have_the_entities_of_the_standard_in_its_order():
    assert prepared("M00", 70).path == (
        "sub-P01/ses-M00/anat/sub-P01_ses-M00_space-MNI152NLin2009aSym_desc-preproc_T1w.nii.gz")
    assert Derived("a", "b", "dseg", "", {}).path == "sub-a/ses-b/anat/sub-a_ses-b_space-MNI152NLin2009aSym_dseg.nii.gz"
    assert prepared("M00", 70).uri == f"bids::{prepared('M00', 70).path}"


@pytest.mark.parametrize(("age", "text"), [
    (78, "78"), (78.5, "78p5"), (78.504, "78p5"), (78.06, "78p06"), (100, "100"),
])
def test_a_prediction_is_named_by_system_and_age(age, text):
    assert predicted_desc("mrextrap_bayes", age) == f"predictedMrextrapBayesAge{text}"


def test_labels_are_letters_and_digits_and_nobody_becomes_somebody_else():
    assert labels_of(["IXI012-HH-1211", "cn001"], "subject") == {"IXI012-HH-1211": "IXI012HH1211", "cn001": "cn001"}
    with pytest.raises(NbkitError, match="'P01' like 'P-01'"):
        labels_of(["P-01", "P01"], "subject")
    with pytest.raises(NbkitError, match="expected names that differ"):
        labels_of(["--"], "session")


def test_voxels_affine_ages_and_volumes_come_back(root):
    found = read_derivatives(root)
    assert len(found.images) == 5
    for derived, volume in zip(
        [prepared("M00", 70.25), prepared("M24", 72.0)], [image(0), image(1)], strict=True
    ):
        back = derived.read(root)
        assert torch.equal(back.data, volume.data) and np.allclose(back.affine, AFFINE, atol=1e-6)
    labels = Derived("P01", "M00", "dseg", "", {}).read(root)
    assert torch.equal(labels.data, torch.where(image().data > 0.5, 7, 1).int())
    table = found.table.set_index(["session_id", "system"])
    assert table["age"].to_dict() == {("ses-M00", "n/a"): 70.25, ("ses-M24", "n/a"): 72.0,
                                      ("ses-M24", "mrextrap_ols"): 78.5}
    assert table.loc[("ses-M24", "n/a"), "hippocampus_left_mm3"] == 3072.0
    assert table.loc[("ses-M24", "mrextrap_ols"), "white_matter_mm3"] == 4.5
    assert np.isnan(table.loc[("ses-M24", "mrextrap_ols"), "hippocampus_left_mm3"])
    assert table.loc[("ses-M24", "mrextrap_ols"), "years_ahead"] == 6.5


def test_tables_say_who_what_and_in_which_unit(root):
    assert (root / "participants.tsv").read_text().splitlines() == [
        "participant_id\tage\tsex\tdiagnosis\tsource_id", "sub-P01\t70.25\tF\tCN\tP-01"]
    assert (root / "sub-P01" / "sub-P01_sessions.tsv").read_text().splitlines()[2] == "ses-M24\t72\tCN\tM24"
    assert (root / "dseg.tsv").read_text() == "index\tname\n1\thippocampus_left\n7\twhite_matter\n"
    assert json.loads((root / "scans.json").read_text())["hippocampus_left_mm3"]["Units"] == "mm3"
    assert "desc-predictedMrextrapOlsAge78p5\tmrextrap_ols at 78.5 years" in (root / "descriptions.tsv").read_text()


def test_read_as_scans_it_holds_the_people_and_no_forecast(root):
    reading = read_bids(root)
    assert not [f for f in reading.findings if f.refused]
    rows = reading.table[["subject", "session", "age_years", "contrast", "diagnosis"]].to_dict("split")["data"]
    assert rows == [["P01", "M000", 70.25, "T1w", "CN"], ["P01", "M000", 70.25, "mask:brain", "CN"],
                    ["P01", "M024", 72.0, "T1w", "CN"]]


def _drop(root):
    (root / prepared("M00", 0).sidecar).unlink()


def _move(root):
    path = root / prepared("M00", 0).path
    path.rename(root / "sub-P01" / "ses-M24" / "anat" / path.name)


def _rename(root):
    path = root / prepared("M00", 0).path
    path.rename(path.with_name("scan.nii.gz"))


def _age(root):
    path = root / "sub-P01" / "ses-M24" / "sub-P01_ses-M24_scans.tsv"
    path.write_text(path.read_text().replace("78.5", "87.5").replace("Age87", "Age78"))


def _lost(root):
    for path in (root / prepared("M00", 0).path, root / prepared("M00", 0).sidecar):
        path.unlink()


def _raw(root):
    path = root / "dataset_description.json"
    path.write_text(path.read_text().replace("derivative", "raw"))


def _broken(root):
    (root / prepared("M00", 0).sidecar).write_text('{"Age": ')


def _list(root):
    (root / prepared("M00", 0).sidecar).write_text("[1]")


def _none(root):
    (root / "dataset_description.json").unlink()


@pytest.mark.parametrize(("fault", "message"), [
    (_drop, "a sidecar beside every image"), (_move, "Move the file to its own folder"), (_rename, "a name such as"),
    (_age, "expected 78.5, as in its sidecar, found 87.5"), (_lost, "every source among the images"),
    (_raw, "found 'raw'"), (_broken, "expected a JSON object"), (_list, "expected a JSON object, found a list"),
    (_none, "dataset_description.json"),
])
def test_what_does_not_fit_is_refused_by_name(root, fault, message):
    fault(root)
    with pytest.raises(NbkitError, match=message):
        read_derivatives(root)
