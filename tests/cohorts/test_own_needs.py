"""What each notebook can use of own data: the run and `nbkit data check` give one answer, and nobody goes missing."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.cohorts import cohort_for, own_ageing, own_flair
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.data import brain, check, nifti, own_needs, tissue
from nbkit.data.findings import Finding

SHAPE, AFFINE = (30, 34, 28), np.diag([5.0, 5.0, 5.0, 1.0])
LESIONS = (slice(18, 20), slice(16, 18), slice(13, 15))


def head(seed: int) -> dict[str, torch.Tensor]:
    """T1w of three nested ellipsoids (white, grey, fluid) without skull, its brain, and a small lesion."""
    grid = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = sum(g**2 for g in grid).sqrt()
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    t1 = 30.0 * (radius < 0.8) + 40.0 * (radius < 0.7) + 40.0 * (radius < 0.55) + 2 * noise * (radius < 0.8)
    lesions = torch.zeros(SHAPE, dtype=torch.bool)
    lesions[LESIONS] = True
    return {"t1": t1, "brain": radius < 0.8, "lesions": lesions}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with the files of four people, by name a, b, c, d."""
    folder = tmp_path_factory.mktemp("own")
    for seed, name in enumerate("abcd"):
        parts = head(seed)
        for contrast, scale in (("t1", 1.0), ("flair", 0.7), ("t2", -0.5)):
            image = Volume(20 + scale * parts["t1"] + 55 * (scale < 0), AFFINE)
            nifti.save_image(folder / f"{name}_{contrast}.nii.gz", image)
        for mask in ("brain", "lesions"):
            nifti.save_labels(folder / f"{name}_{mask}.nii.gz", Volume(parts[mask].to(torch.uint8), AFFINE))
    return folder


FILES = MappingProxyType({
    "T1w": "t1", "FLAIR": "flair", "T2w": "t2", "mask:brain": "brain", "mask:lesions": "lesions"})


def listed(folder, *people, name="mine"):
    """A CSV: (subject, session, age, diagnosis, contrasts by their files' letter)."""
    rows = [
        (subject, session, age, "F", diagnosis, contrast, f"{letter}_{FILES[contrast]}.nii.gz")
        for subject, session, age, diagnosis, letter, contrasts in people for contrast in contrasts
    ]
    names = ["subject", "session", "age_years", "sex", "diagnosis", "contrast", "path"]
    pd.DataFrame(rows, columns=names).to_csv(folder / f"{name}.csv", index=False)
    return folder / f"{name}.csv"


ALL, TWO = tuple(FILES), ("T1w", "FLAIR", "mask:brain", "mask:lesions")
PEOPLE = (
    ("P1", "m0", 34, "MS", "a", ALL), ("P2", "m0", 40, "MS", "b", TWO),
    ("P3", "m0", 50, "HC", "c", ("T1w", "FLAIR", "mask:brain")),
    ("P4", "m0", 60, "MS", "d", ("T1w", "T2w", "mask:brain", "mask:lesions")),
)


def test_people_and_contrasts_for_flair_are_chosen_and_the_rest_is_named(images, tmp_path):
    path = listed(images, *PEOPLE)
    usable = own_needs.for_flair(check.read_own(path).table)
    assert usable.lacks == "" and usable.people == 3
    assert usable.left_out == {
        "people without FLAIR at the first visit": ("P4",),
        "T2w, which some do not have, is no input; people without it": ("P2", "P3"),
    }
    cohort = own_flair.for_synthesis(cohort_for(path, task="pet"), path, "paper", cache=Cache(tmp_path))
    assert cohort.ids == ("P1", "P2", "P3") and all(list(s.baseline.images) == ["T1w", "FLAIR"] for s in cohort)
    assert cohort.provenance["left_out"] == usable.counts()
    assert "P4" not in str(cohort.provenance)


def test_masks_are_those_of_the_open_cohort(images, tmp_path):
    """nawm, wm, gm and csf by the same split of T1w; no lesions in a control."""
    path = listed(images, *PEOPLE[:3])
    cohort = own_flair.for_synthesis(cohort_for(path, task="pet"), path, "paper", cache=Cache(tmp_path))
    for subject, letter in zip(cohort, "abc", strict=True):
        scan = subject.baseline
        assert set(scan.masks) == {"brain", "lesions", "nawm", "wm", "gm", "csf"}
        inside = nifti.read_labels(images / f"{letter}_brain.nii.gz")
        inside = inside.with_data(inside.data > 0)
        ill = nifti.read_labels(images / f"{letter}_lesions.nii.gz").data > 0
        ill = ill & (subject.diagnosis == "MS")
        expected = tissue.split_tissues(
            nifti.read_image(images / f"{letter}_t1.nii.gz"), brain=inside, lesions=inside.with_data(ill))
        assert torch.equal(scan.mask("lesions").data, ill) and torch.equal(scan.mask("brain").data, inside.data)
        assert torch.equal(scan.mask("nawm").data, expected["nawm"].data & ~ill)
        whole = scan.mask("wm").data.int() + scan.mask("gm").data.int() + scan.mask("csf").data.int()
        assert torch.equal(whole == 1, inside.data), "each voxel of the brain is of one tissue"


def test_a_missing_brain_mask_is_found(images, tmp_path, monkeypatch):
    path = listed(images, *(
        (*person, [c for c in contrasts if c != "mask:brain"]) for *person, contrasts in PEOPLE[:2]))
    asked = []

    def found(t1w: Volume) -> Volume:
        asked.append(t1w.shape)
        return t1w.with_data(t1w.data > 25)

    monkeypatch.setattr(brain, "kept_brain", found)
    cohort = own_flair.for_synthesis(cohort_for(path, task="pet"), path, "paper", cache=Cache(tmp_path))
    scan = cohort.subject("P1").baseline
    assert torch.equal(scan.mask("brain").data, scan.image("T1w").data > 25) and asked == [SHAPE] * 2


def test_somebody_whose_brain_cannot_be_found_is_left_out(images, tmp_path, monkeypatch):
    people = [*PEOPLE[:3], ("P5", "m0", 61, "MS", "d", ("T1w", "FLAIR", "mask:lesions"))]

    def lost(t1w: Volume) -> Volume:
        raise NbkitError("brain mask", expected="0.6 to 2.5 litres of brain", found="2.72", remedy="Give one.")

    monkeypatch.setattr(brain, "kept_brain", lost)
    path = listed(images, *people)
    cohort = own_flair.for_synthesis(cohort_for(path, task="pet"), path, "paper", cache=Cache(tmp_path))
    assert cohort.ids == ("P1", "P2", "P3")
    assert cohort.provenance["left_out"]["people with a scan that cannot be used (0.6 to 2.5 litres of brain)"] == 1


NOT_ENOUGH = {
    "no FLAIR": ([("P1", "m0", 34, "MS", "a", ("T1w", "mask:lesions"))], "at least two people with FLAIR"),
    "one": ([PEOPLE[0]], "at least two people with FLAIR"),
    "no lesions": ([("P1", "m0", 34, "HC", "a", ("T1w", "FLAIR")), ("P2", "m0", 34, "HC", "b", ("T1w", "FLAIR"))],
                   "at least one patient with mask:lesions"),
}


@pytest.mark.parametrize(("people", "message"), NOT_ENOUGH.values(), ids=NOT_ENOUGH)
def test_check_and_run_refuse_alike(images, tmp_path, people, message):
    path = listed(images, *people)
    assert message in own_needs.suffices(check.read_own(path), path)["01"].lacks
    with pytest.raises(NbkitError, match=message):
        cohort_for(path, task="flair", profile="smoke")


VISITS = [
    (f"P{k}", f"m{m}", age, "CN", "abcd"[m], ("T1w", "mask:brain"))
    for k in (1, 2) for m, age in enumerate((70, 71, 72.5, 74))
]


def test_notebooks_that_ask_for_visits_are_told_apart(images):
    """One file may stand in one row only, so people take turns: what counts is the table."""
    table = pd.DataFrame([(s, v, a, "F", d, c, f"{s}{v}{c}") for s, v, a, d, _, cs in VISITS for c in cs], columns=[
        "subject", "session", "age_years", "sex", "diagnosis", "contrast", "path"])
    table = table.assign(file=[images / "a_t1.nii.gz"] * len(table), source="t", place=table["path"])
    reading = check.Reading("t", table, table, ("P1", "P2"), ())
    lacks = {n: u.lacks for n, u in own_needs.suffices(reading, images / "t.csv").items()}
    assert all(lacks[n] == "" for n in ("00", "04", "05", "06", "08", "09"))
    assert "FLAIR" in lacks["01"] and "MTR" in lacks["02"] and "pet/" in lacks["07"]
    fewer = table[table["session"].isin(["m0", "m1"])]
    lacks = {n: u.lacks for n, u in own_needs.suffices(
        check.Reading("t", fewer, fewer, ("P1", "P2"), ()), images / "t.csv").items()}
    assert lacks["06"] == "" and "4 visits" in lacks["05"] and "3 visits" in lacks["09"] and "two years" in lacks["04"]
    spoilt = Finding("P1", "P1m0T1w", "finite values", "NaN", "Convert it again.")
    told = own_needs.suffices(reading, images / "t.csv", [spoilt])["06"]
    assert told.left_out["scans that cannot be used"] == ("P1 m0 T1w",) and told.people == 2


def test_visits_without_an_age_or_a_t1w_are_left_out_and_counted(images, tmp_path):
    path = listed(images, ("P1", "m0", 70, "CN", "a", ("T1w", "mask:brain")), ("P1", "m1", "", "CN", "b", ("T1w",)),
                  ("P2", "m0", 71, "CN", "c", ("FLAIR",)))
    usable = own_needs.for_ageing(check.read_own(path).table)
    assert usable.left_out == {"visits without an age": ("P1/m1",), "visits without T1w": ("P2/m0",)}
    assert usable.table["contrast"].tolist() == ["T1w", "mask:brain"]


def test_a_scan_that_cannot_be_prepared_is_left_out_and_the_rest_goes_on(images, tmp_path, monkeypatch):
    path = listed(images, *(
        (f"P{k}", "m0", 70 + k, "CN", letter, ("T1w", "mask:brain")) for k, letter in enumerate("abc")))

    def prepared(sources, reference, *, left_out, **options):
        fault = NbkitError("brain", expected="0.6 to 2.5 litres of brain", found="2.72", remedy="Give a mask.")
        left_out.update({(s.subject, s.session): fault for s in sources if s.subject == "P1"})
        return [Scan(s.subject, s.session, None, {"T1w": nifti.read_image(s.t1w)}) for s in sources
                if s.subject != "P1"]

    monkeypatch.setattr(own_ageing, "prepare_files", prepared)
    cohort = cohort_for(path, task="ageing", profile="smoke")
    assert cohort.ids == ("P0", "P2") and cohort.provenance["scans"] == 2
    assert cohort.provenance["left_out"] == {
        "scans that cannot be prepared (expected 0.6 to 2.5 litres of brain)": 1}
    monkeypatch.setattr(own_ageing, "prepare_files", lambda sources, *a, **k: prepared(
        [own_ageing.Source("P1", "m0", images / "a_t1.nii.gz")], *a, **k))
    with pytest.raises(NbkitError, match=r"scans that can be prepared, found scans that cannot .*0\.6 to 2\.5"):
        cohort_for(path, task="ageing", profile="smoke")


def test_myelin_takes_whole_visits_of_patients_and_controls(images):
    names = own_needs.MYELIN
    rows = [(s, v, d, c) for s, v, d in (("P1", "m0", "MS"), ("P1", "m1", "MS"), ("P2", "m0", "HC")) for c in names]
    table = pd.DataFrame(rows, columns=["subject", "session", "diagnosis", "contrast"])
    assert own_needs.for_myelin(table).lacks == "" and own_needs.for_myelin(table).people == 2
    gap = table.drop(index=table.index[(table.session == "m1") & (table.contrast == "DVR")])
    assert own_needs.for_myelin(gap).left_out == {"visits without DVR": ("P1/m1",)}
    assert "controls (HC)" in own_needs.for_myelin(table[table.subject == "P1"]).lacks
