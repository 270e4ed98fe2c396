"""A reader of people's own FDG scans: which file counts, what is a ratio, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import check, nifti
from nbkit.data.bids import image_files
from nbkit.data.pet import ratio_on, read_pet, uptake_ratio
from nbkit.geometry.affine import apply_affine
from nbkit.phantom.acquisition import rigid
from nbkit.phantom.fdg import mean_control
from tests.data.trees import table

SHAPE, AFFINE = (8, 9, 7), np.diag([-2.0, 2.0, 2.0, 1.0])
PEOPLE = [
    {"participant_id": "sub-01", "sex": "F", "age": 71.0, "diagnosis": "CN"},
    {"participant_id": "sub-02", "sex": "M", "age": 78.5, "diagnosis": "AD"},
]
MNI = "space-MNI152NLin2009cSym"


def image(seed: int = 0, unit: float = 1000.0) -> Volume:
    """Bq/mL in which the first four slabs along the file's x are twice as bright."""
    noise = np.random.default_rng(seed).uniform(0.9, 1.1, SHAPE)
    noise[:4] *= 2
    return Volume(torch.from_numpy(unit * noise).float(), AFFINE)


def put(root: Path, subject: str, name: str, *, folder: str = "pet", seed: int = 0) -> Path:
    """Write a scan under `root`, ``sub-01`` → ``sub-01/ses-M000/pet/sub-01_ses-M000_<name>_pet.nii.gz``."""
    path = root / subject / "ses-M000" / folder / f"{subject}_ses-M000_{name}_pet.nii.gz"
    return nifti.save_image(path, image(seed))


def mask_beside(scan: Path, region: str = "cerebellum", *, empty: bool = False) -> Path:
    inside = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    inside[:, :4] = 0 if empty else 1
    name = scan.name.replace("_pet.nii.gz", f"_label-{region}_mask.nii.gz")
    return nifti.save_labels(scan.with_name(name), Volume(inside, AFFINE))


@pytest.fixture
def root(tmp_path):
    table(tmp_path / "participants.tsv", PEOPLE)
    return tmp_path


def test_a_ratio_is_over_the_mean_of_the_mask(root):
    scan = put(root, "sub-01", "trc-18FFDG")
    mask_beside(scan)
    (found,) = read_pet(root)
    assert (found.subject, found.session, found.region) == ("01", "M000", "cerebellum")
    assert (found.age, found.sex, found.diagnosis) == (71.0, "F", "CN")
    ratio = uptake_ratio(found)
    assert float(ratio.data[0, -4:].mean()) == pytest.approx(1.0, abs=1e-5), "x is turned to run to the right"
    assert float(ratio.data[0, :4].mean()) == pytest.approx(0.5, abs=0.02)
    assert "over the mean of the cerebellum" in ratio.history


def test_what_clinica_wrote_is_a_ratio_by_its_name(tmp_path):
    table(tmp_path / "participants.tsv", PEOPLE)
    caps = tmp_path / "subjects"
    put(caps, "sub-01", f"trc-18FFDG_{MNI}_desc-Crop_res-1x1x1_suvr-cerebellumPons2", folder="pet_linear")
    put(caps, "sub-01", "trc-18FAV45_space-Ixi549Space_suvr-pons", folder="pet_linear")
    (found,) = read_pet(tmp_path)
    assert found.region == "cerebellumPons2" and found.standard and found.mask is None
    np.testing.assert_allclose(uptake_ratio(found).numpy(), image().numpy()[::-1])


def test_the_sidecar_can_say_it_too(root):
    scan = put(root, "sub-02", "trc-18FFDG")
    scan.with_name(scan.name.replace(".nii.gz", ".json")).write_text(json.dumps({"Units": "SUVR"}))
    (found,) = read_pet(root)
    assert found.region == "not named" and not found.standard


def test_a_damaged_sidecar_is_refused_by_name(root):
    scan = put(root, "sub-02", "trc-18FFDG")
    scan.with_name(scan.name.replace(".nii.gz", ".json")).write_text("{Units: SUVR")
    with pytest.raises(NbkitError, match=r"trc-18FFDG_pet\.json: expected a JSON object"):
        read_pet(root)


def test_lines_in_bidsignore_leave_scans_out(root):
    put(root, "sub-01", "trc-18FFDG_suvr-pons")
    put(root, "sub-02", "trc-18FFDG")
    (root / ".bidsignore").write_text("sub-02\n")
    assert [f.subject for f in read_pet(root)] == ["01"]


def test_one_mask_serves_all_scans_in_mni_space_only(root):
    nifti.save_labels(root / "reference_mask.nii.gz", image().with_data(image().data > 1500))
    put(root, "sub-01", f"trc-18FFDG_{MNI}")
    assert read_pet(root)[0].mask.name == "reference_mask.nii.gz"
    put(root, "sub-02", "trc-18FFDG")
    with pytest.raises(NbkitError, match=r"1 refused: 02/M000: sub-02_ses-M000_trc-18FFDG_pet.*neither"):
        read_pet(root)


def test_the_ratio_is_taken_before_the_raw_image_of_the_same_visit(root):
    put(root, "sub-01", "trc-18FFDG")
    put(root, "sub-01", f"trc-18FFDG_{MNI}_suvr-pons")
    assert [f.region for f in read_pet(root)] == ["pons"]


def test_everything_that_is_refused_is_in_one_message(root):
    table(root / "participants.tsv", [PEOPLE[0], {**PEOPLE[1], "sex": "2"}, {
        "participant_id": "sub-03", "sex": "F", "age": 66, "diagnosis": "SMC"}])
    put(root, "sub-01", "trc-18FFDG_run-1_suvr-pons")
    put(root, "sub-01", "trc-18FFDG_run-2_suvr-pons")
    put(root, "sub-02", "trc-18FFDG_suvr-pons")
    put(root, "sub-03", "trc-18FFDG_suvr-pons")
    with pytest.raises(NbkitError, match="3 refused") as caught:
        read_pet(root)
    told = str(caught.value)
    assert "run-1_suvr-pons_pet.nii.gz and sub-01" in told and "sex '2'" in told and "found SMC" in told
    assert str(root) not in told


@pytest.mark.parametrize("trouble", ["empty", "grid", "cold"])
def test_a_mask_that_cannot_be_used_is_refused_by_file(root, trouble):
    scan = put(root, "sub-01", "trc-18FFDG")
    mask = mask_beside(scan, empty=trouble == "empty")
    if trouble == "grid":
        nifti.save_labels(mask, Volume(torch.ones(1, 3, 3, 3, dtype=torch.uint8), AFFINE))
    if trouble == "cold":
        nifti.save_image(scan, image().with_data(image().data - 3e3))
    words = {"empty": "an empty mask", "grid": "the same shape", "cold": "a mean of -"}
    with pytest.raises(NbkitError, match=f"01/M000: sub-01_ses-M000_trc-18FFDG_pet.nii.gz.*{words[trouble]}"):
        (found,) = read_pet(root)
        uptake_ratio(found)


def test_a_folder_without_fdg_is_refused(root):
    put(root, "sub-01", "trc-18FAV45")
    with pytest.raises(NbkitError, match="expected FDG scans"):
        read_pet(root)
    with pytest.raises(NbkitError, match="expected a folder"):
        read_pet(root / "nowhere")


def test_a_scan_elsewhere_in_the_world_is_brought_to_the_reference(root):
    """The mean control, turned and shifted, comes back to itself."""
    control = mean_control("smoke").image
    moved = apply_affine(control, rigid((4.0, -3.0, 5.0), (6.0, -8.0, 5.0)), like=control)
    path = root / "sub-01" / "ses-M000" / "pet" / "sub-01_ses-M000_trc-18FFDG_suvr-pons_pet.nii.gz"
    nifti.save_image(path, moved)
    (found,) = read_pet(root)
    back, before = ratio_on(found, control).numpy(), moved.numpy()
    likeness = [np.corrcoef(x.ravel(), control.numpy().ravel())[0, 1] for x in (before, back)]
    assert likeness[0] < 0.9 < 0.98 < likeness[1] and back.min() >= 0


def beside(scan: Path, content: bytes | dict) -> Path:
    path = scan.with_name(scan.name.replace(".nii.gz", ".json"))
    path.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else content)
    return path


OTHER_TRACERS = {
    "trc": ("trc-18FAV45_suvr-pons", {}), "trc PIB": ("trc-11CPIB_suvr-pons", {}),
    "acq": ("acq-AV45_suvr-pons", {}), "old": ("task-rest_acq-av45_suvr-pons", {}),
    "json": ("suvr-pons", {"TracerName": "florbetapir"}), "json PIB": ("run-1_suvr-pons", {"TracerName": "[11C]PiB"}),
    "pharmaceutical": ("suvr-pons", {"Radiopharmaceutical": "Flortaucipir"}),
    "unheard of": ("suvr-pons", {"TracerName": "XYZ123"}), "old, unheard of": ("acq-XYZ123_suvr-pons", {}),
}


@pytest.mark.parametrize(("name", "told"), OTHER_TRACERS.values(), ids=OTHER_TRACERS)
@pytest.mark.parametrize("inherited", [False, True])
def test_other_tracers_are_never_read_as_fdg(root, name, told, inherited, caplog):
    scan = put(root, "sub-01", name)
    (root / "pet.json").write_text(json.dumps(told)) if inherited else beside(scan, told)
    with pytest.raises(NbkitError, match=r"expected FDG scans, .* found .* only"):
        read_pet(root)
    (root / "pet.json").unlink(missing_ok=True)
    beside(scan, told)
    put(root, "sub-02", "trc-18FFDG_suvr-pons")
    assert [f.subject for f in read_pet(root)] == ["02"]
    assert scan.name in caplog.text and "the scan is left out" in caplog.text


@pytest.mark.parametrize(("name", "told"), [
    ("trc-18FFDG", {}), ("trc-fdg", {}), ("acq-FDG", {}), ("task-rest_acq-fdg", {}),
    ("run-1", {"TracerName": "[18F]FDG"}), ("run-1", {"TracerName": "2-deoxy-2-[18F]fluoro-D-glucose"}),
    ("run-1", {"Radiopharmaceutical": "Fluorodeoxyglucose"}), ("trc-18FFDG", {"TracerName": "FDG"}),
])
def test_fdg_by_whatever_name_is_read(root, name, told, caplog):
    beside(put(root, "sub-01", name), {**told, "Units": "SUVR"})
    assert [f.subject for f in read_pet(root)] == ["01"] and "tracer" not in caplog.text


def test_a_scan_that_names_no_tracer_is_said(root, caplog):
    put(root, "sub-01", "run-1_suvr-pons")
    assert len(read_pet(root)) == 1 and "none; it is taken for FDG" in caplog.text


def test_a_tracer_that_contradicts_the_name_is_refused(root):
    beside(put(root, "sub-01", "trc-18FFDG_suvr-pons"), {"TracerName": "AV45"})
    with pytest.raises(NbkitError, match="one tracer in name and JSON, found 18FFDG and AV45"):
        read_pet(root)


ENCODED = {
    "BOM": b'\xef\xbb\xbf{"Units": "SUVR"}', "Latin-1": '{"Units": "SUVR", "Site": "K\xf6ln"}'.encode("latin-1"),
    "UTF-16": '{"Units": "SUVR"}'.encode("utf-16"), "null": b'{"Units": "SUVR", "TracerName": null}',
}


@pytest.mark.parametrize("content", ENCODED.values(), ids=ENCODED)
def test_sidecars_are_read_in_whatever_encoding(root, content):
    beside(put(root, "sub-01", "trc-18FFDG"), content)
    assert read_pet(root)[0].region == "not named"


NO_OBJECTS = {"list": b'[{"Units": "SUVR"}]', "broken": b'{"Units": ', "word": b"SUVR", "number": b'{"Units": 3}'}


@pytest.mark.parametrize("content", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_sidecars_that_say_nothing_are_refused_beside_whatever_else_is_wrong(root, content):
    beside(put(root, "sub-01", "trc-18FFDG"), content)
    put(root, "sub-02", "trc-18FFDG")
    with pytest.raises(NbkitError, match="2 refused") as caught:
        read_pet(root)
    assert "_pet.json" in str(caught.value) or "JSON: Units" in str(caught.value)


@pytest.mark.parametrize("place", [
    "pet.json", "trc-18FFDG_pet.json", "sub-01/sub-01_pet.json", "sub-01/ses-M000/pet.json",
])
def test_the_unit_may_be_inherited(root, place):
    put(root, "sub-01", "trc-18FFDG")
    (root / place).write_text('{"Units": "SUVR", "ReferenceRegion": "pons"}')
    assert read_pet(root)[0].region == "pons"


@pytest.mark.parametrize(("folder", "name"), [
    ("pet_linear", f"trc-18FFDG_{MNI}_desc-Crop_res-1x1x1_suvr-pons2"),
    ("pet_linear", f"trc-18FFDG_pet_{MNI}_desc-Crop_res-1x1x1_suvr-pons2"),
    ("pet_linear", f"task-rest_acq-fdg_pet_{MNI}_desc-Crop_res-1x1x1_suvr-pons2"),
    ("pet/preprocessing/group-UnitTest", "trc-18FFDG_pet_space-Ixi549Space_suvr-pons2"),
    ("pet/preprocessing/group-UnitTest", "trc-18FFDG_pet_space-Ixi549Space_suvr-pons2_mask-brain_fwhm-8mm"),
])
def test_names_of_caps_are_read_by_the_run_and_by_the_check(root, folder, name):
    put(root / "subjects", "sub-01", name, folder=folder)
    (found,) = read_pet(root)
    assert (found.region, found.standard) == ("pons2", True)
    reading = check.read_own(root)
    assert list(reading.table["subject"]) == ["01"] and not any(f.refused for f in reading.findings)


def test_of_clinicas_several_images_the_least_processed_counts(root):
    for more in ("pvc-rbv_suvr-pons", "suvr-pons", "suvr-pons_fwhm-8mm"):
        put(root / "subjects", "sub-01", f"trc-18FFDG_space-Ixi549Space_{more}", folder="pet/preprocessing/group-A")
    assert read_pet(root)[0].path.name.endswith("Ixi549Space_suvr-pons_pet.nii.gz")


def test_masks_that_a_line_leaves_out_are_not_taken(root):
    scan = put(root, "sub-01", "trc-18FFDG")
    mask_beside(scan)
    (root / ".bidsignore").write_text("*_label-cerebellum_mask*\n")
    with pytest.raises(NbkitError, match="neither"):
        read_pet(root)


def test_the_check_refuses_what_the_notebook_on_pet_refuses(root):
    put(root, "sub-01", "trc-18FFDG")
    (told,) = [f for f in check.read_own(root).findings if f.refused]
    assert told.subject == "01" and "neither" in told.found
    anat = root / "sub-01" / "ses-M000" / "anat" / "sub-01_ses-M000_T1w.nii.gz"
    nifti.save_image(anat, image(3))
    (told,) = [f for f in check.read_own(root).findings if "PET" in f.where]
    assert not told.refused and told.subject == ""
    assert told.found == "01/M000: sub-01_ses-M000_trc-18FFDG_pet.nii.gz: neither"


def test_people_without_a_scan_are_named(root, caplog):
    put(root, "sub-01", "trc-18FFDG_suvr-pons")
    assert [f.subject for f in read_pet(root)] == ["01"] and "left out, no FDG scan: 02" in caplog.text
    caplog.clear()
    (root / ".bidsignore").write_text("sub-02\n")
    assert [f.subject for f in read_pet(root)] == ["01"] and caplog.text == ""


def test_a_run_notices_scans_in_derivatives_and_what_json_says(root):
    scan = put(root / "derivatives" / "suvr", "sub-01", "trc-18FFDG")
    told = beside(scan, {"Units": "SUVR"})
    assert {scan, told, root / "participants.tsv"} <= set(image_files(root))
