"""mslesseg on a made-up archive of the same layout: people, visits, tables, and every way a zip can be wrong."""

from __future__ import annotations

import struct
import zipfile

import numpy as np
import pytest
import torch

from nbkit import cohorts
from nbkit.cohorts import mslesseg
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.splits import folds
from tests.cohorts.test_open_ms import patient_volumes

ROLES = {"T1": "T1w", "T2": "T2w", "FLAIR": "FLAIR", "MASK": "mask:lesions"}
VISITS = (("P2", "T1"), ("P2", "T2"), ("P10", "T1"), ("P54", ""))
HEADER = "Patient;Timepoint;Age;Sex;MS Type;EDSS;Lesion Number;Lesion Volume;\n"
TABLE = "\ufeff" + HEADER + (
    "P2;T1;30;F;SMRR;1,5;;27;1\nP2;T2;31,5;F;SMRR;2;;27;1\nP10;T1;44;M;SMSP;4;;27;1\nP54;T1;50;F;SMRR;;;27;1\n")


def stored_las(volume: Volume) -> Volume:
    """As the archive stores it: the first axis from right to left."""
    affine = volume.affine.copy()
    affine[:, 3] = volume.affine @ [volume.shape[0] - 1, 0, 0, 1]
    affine[0, 0] = -affine[0, 0]
    return Volume(volume.data.flip(1), affine)


def folder_of(root, visits=VISITS, table: str | None = TABLE):
    """The unpacked data set."""
    for number, (who, visit) in enumerate(visits):
        place = root / "train" / who / visit if visit else root / "test" / who
        for role, name in ROLES.items():
            volume, stem = patient_volumes(number)[name], "_".join(filter(None, (who, visit, role)))
            save = nifti.save_labels if role == "MASK" else nifti.save_image
            save(place / f"{stem}.nii.gz", stored_las(volume.with_data(volume.data.float())))
    if table is not None:
        (root / "info_dataset").mkdir(parents=True)
        (root / "info_dataset" / "clinical_data.csv").write_text(table, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("ms") / "MSLesSeg Dataset")


def packed(path, root, prefix: str = "MSLesSeg Dataset/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(p for p in root.rglob("*") if p.is_file()):
            out.write(file, prefix + file.relative_to(root).as_posix())
        out.writestr("__MACOSX/MSLesSeg Dataset/train/P2/T1/._P2_T1_FLAIR.nii.gz", b"finder")
    return path


@pytest.fixture(scope="module")
def archive(unpacked, tmp_path_factory):
    return packed(tmp_path_factory.mktemp("zip") / "MSLesSeg Dataset.zip", unpacked)


def build(path, tmp_path, profile="paper"):
    return mslesseg.build(path, profile, cache=Cache(tmp_path / "cache"), progress=False)


def test_people_visits_images_and_what_the_table_says(archive, tmp_path):
    cohort = build(archive, tmp_path)
    assert (cohort.name, cohort.ids, cohort.access) == ("mslesseg", ("P2", "P10", "P54"), "open")
    twice, other, alone = cohort.subjects
    assert [(s.session, s.age) for s in twice.scans] == [("T1", 30.0), ("T2", 31.5)]
    assert [(s.session, s.age) for s in alone.scans] == [("T1", 50.0)]
    assert (twice.sex, other.sex, twice.diagnosis) == ("F", "M", "MS")
    assert twice.covariates["edss"] == [1.5, 2.0] and alone.covariates["edss"] == [None]
    assert twice.covariates["course"] == "SMRR" and twice.covariates["lesion_ml"] == pytest.approx(0.027)
    for number, scan in enumerate((*twice.scans, *other.scans, *alone.scans)):
        truth = patient_volumes(number)
        for contrast in ("T1w", "T2w", "FLAIR"):
            image = scan.image(contrast)
            assert torch.equal(image.data, truth[contrast].data.float())
            np.testing.assert_allclose(image.affine, truth[contrast].affine, atol=1e-5)
        assert torch.equal(scan.mask("lesions").data, truth["mask:lesions"].data)
        assert set(scan.masks) == {"brain", "lesions", "wm", "nawm", "gm", "csf"}
    assert cohort.provenance["present"] == "3 of 75 people, 4 of 115 scans present"
    assert cohort.provenance["licence"] == "CC BY 4.0" and "Guarnera" in cohort.provenance["attribution"]
    assert str(tmp_path) not in str(cohort.provenance)


def test_the_folder_gives_the_same_and_shares_what_was_prepared(archive, unpacked, tmp_path, monkeypatch):
    first = build(archive, tmp_path, "smoke")
    monkeypatch.setattr(mslesseg, "_prepare", lambda *_: pytest.fail("prepared again"))
    again = build(unpacked, tmp_path, "smoke")
    pair = [c.subject("P2").scans[1].image("T2w").data for c in (first, again)]
    assert torch.equal(*pair) and pair[0].shape == (1, 12, 12, 12)
    assert set(first.provenance) == set(again.provenance)


def test_both_visits_of_a_person_are_on_one_side_of_every_split(archive, tmp_path):
    cohort = build(archive, tmp_path, "smoke")
    for fold in folds(cohort, 2, seed=7):
        assert not set(fold.train_ids) & set(fold.test_ids)


def test_it_comes_through_the_door_as_zip_and_as_folder_for_notebook_01_alone(archive, unpacked, monkeypatch):
    opened = []
    monkeypatch.setattr(
        mslesseg, "build", lambda *given, n_jobs: opened.append((*given, n_jobs)) or Cohort("mslesseg", (), "open"))
    for path in (archive, unpacked, unpacked.parent):
        assert cohorts.cohort_for(path, task="flair", profile="smoke", n_jobs=2).name == "mslesseg"
        assert opened.pop() == (path, "smoke", 2)
        with pytest.raises(NbkitError, match="it serves notebook 01"):
            cohorts.cohort_for(path, task="ageing")
    with pytest.raises(NbkitError, match=r"MSLesSeg Dataset\.zip.*COHORT="):
        cohorts.cohort_name("mslesseg")
    with pytest.raises(NbkitError, match="Apply for OASIS-3"):
        cohorts.open_cohort("oasis3")


def test_what_is_known_of_changes_without_reading(archive, unpacked, tmp_path):
    before = mslesseg.state(unpacked)
    assert before == mslesseg.state(unpacked) and len(mslesseg.state(archive)) == 1
    with pytest.raises(NbkitError, match="nowhere.zip.*no such file"):
        mslesseg.state(tmp_path / "nowhere.zip")


@pytest.mark.parametrize(("table", "said"), [
    (None, "ages and sexes are not known"),
    (TABLE.replace("31,5", "29"), "do not rise"), (TABLE.replace("31,5", "n/a"), "do not rise"),
])
def test_ages_that_cannot_be_used_are_said_and_left_out(tmp_path, caplog, table, said):
    root = folder_of(tmp_path / "ms", visits=VISITS[:2], table=table)
    cohort = build(root, tmp_path, "smoke")
    assert [scan.age for scan in cohort.subject("P2").scans] == [None, None] and said in caplog.text


def test_a_table_of_other_columns_is_refused(tmp_path):
    root = folder_of(tmp_path / "ms", visits=VISITS[:1], table=TABLE.replace("EDSS", "Disability"))
    with pytest.raises(NbkitError, match="clinical_data.csv.*found no EDSS"):
        build(root, tmp_path)


def test_a_visit_that_lacks_a_contrast_is_refused_by_name(tmp_path):
    root = folder_of(tmp_path / "ms", visits=VISITS[:2])
    (root / "train" / "P2" / "T2" / "P2_T2_FLAIR.nii.gz").unlink()
    with pytest.raises(NbkitError, match="P2/T2: expected T1, T2, FLAIR and MASK, found no FLAIR"):
        build(root, tmp_path)


def test_images_of_two_grids_and_masks_with_fractions_are_refused_by_file(tmp_path):
    root = folder_of(tmp_path / "ms", visits=VISITS[:1])
    place = root / "train" / "P2" / "T1" / "P2_T1_MASK.nii.gz"
    nifti.save_image(place, nifti.read_labels(place).with_data(nifti.read_labels(place).data * 0.5))
    with pytest.raises(NbkitError, match=r"ms: train/P2/T1/P2_T1_MASK\.nii\.gz: expected whole label numbers"):
        build(root, tmp_path)
    nifti.save_labels(place, Volume(torch.ones(4, 4, 4, dtype=torch.int32)))
    with pytest.raises(NbkitError, match="P2/T1: MASK against its FLAIR"):
        build(root, tmp_path)


def _slip(out):
    out.writestr("MSLesSeg Dataset/../../evil.txt", b"x")


def _absolute(out):
    out.writestr("/etc/cron.d/evil", b"x")


def _backslash(out):
    info = zipfile.ZipInfo("a")
    info.filename = info.orig_filename = "..\\evil.txt"
    out.writestr(info, b"x")


def _drive(out):
    out.writestr("C:/evil.txt", b"x")


def _link(out):
    info = zipfile.ZipInfo("MSLesSeg Dataset/train/P2/T1/P2_T1_T1.nii.gz")
    info.external_attr = 0o120777 << 16
    out.writestr(info, "/etc/passwd")


def _twice(out):
    for _ in range(2):
        out.writestr("MSLesSeg Dataset/test/P54/P54_T1.nii.gz", b"x")


def _nested(out):
    out.writestr("MSLesSeg Dataset.zip", b"PK")


def _raw(out):
    out.writestr("MSLesSeg_RAW/P1/T1/FLAIR.nii.gz", b"x")


def _two_roots(out):
    out.writestr("old/test/P54/P54_T1.nii.gz", b"x")
    out.writestr("new/test/P54/P54_T1.nii.gz", b"x")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("fault", "message"), [
    (_slip, "a name that leads elsewhere"), (_absolute, "a name that leads elsewhere"),
    (_backslash, "a name that leads elsewhere"), (_drive, "a name that leads elsewhere"), (_link, "found a link"),
    (_twice, "twice"), (_nested, "Unpack it once"), (_raw, "It may be MSLesSeg_RAW.zip"),
    (_two_roots, "2 such folders"),
])
def test_a_zip_that_is_not_this_or_not_honest_is_refused(tmp_path, fault, message):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        fault(out)
    with pytest.raises(NbkitError, match=message):
        build(path, tmp_path)
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"a.zip"}


def _entry(data: bytes, *, at: int) -> int:
    """Start of the first central directory entry plus `at`."""
    return data.index(b"PK\x01\x02") + at


def test_a_file_that_would_fill_the_disk_or_needs_a_password_is_refused(archive, tmp_path):
    data = bytearray(archive.read_bytes())
    struct.pack_into("<I", data, _entry(data, at=24), 2**31)
    (tmp_path / "bomb.zip").write_bytes(data)
    with pytest.raises(NbkitError, match="found 2.1 GB"):
        build(tmp_path / "bomb.zip", tmp_path)
    data = bytearray(archive.read_bytes())
    struct.pack_into("<H", data, _entry(data, at=8), 1)
    (tmp_path / "locked.zip").write_bytes(data)
    with pytest.raises(NbkitError, match="an encrypted file"):
        build(tmp_path / "locked.zip", tmp_path)


def test_a_damaged_or_truncated_archive_is_refused_by_file(archive, tmp_path):
    whole = archive.read_bytes()
    for name, data in {"cut.zip": whole[: len(whole) // 2], "page.zip": b"<html>", "empty.zip": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(NbkitError, match=f"{name}: expected a complete zip.*download"):
            build(tmp_path / name, tmp_path)
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo("MSLesSeg Dataset/train/P10/T1/P10_T1_T2.nii.gz")
    data = bytearray(whole)
    data[info.header_offset + 30 + len(info.filename) + 500] ^= 0xFF
    (tmp_path / "bit.zip").write_bytes(data)
    with pytest.raises(NbkitError, match=r"bit\.zip: MSLesSeg Dataset/train/P10/T1/P10_T1_T2\.nii\.gz: expect"):
        build(tmp_path / "bit.zip", tmp_path)


def test_a_folder_that_is_something_else_is_no_archive(tmp_path):
    (tmp_path / "sub-01" / "anat").mkdir(parents=True)
    assert not mslesseg.is_archive(tmp_path) and not mslesseg.is_archive("open_ms")
    assert mslesseg.is_archive("nowhere.zip")
