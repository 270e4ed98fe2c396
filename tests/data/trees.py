"""Small BIDS trees as Clinica writes them, to be broken in one place each."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.data import nifti

SHAPE = (12, 13, 11)
AFFINE = np.diag([-14.0, 14.0, 14.0, 1.0])
AFFINE[:3, 3] = (80, -90, -70)
Rows = Sequence[Mapping[str, object]]


def head(seed: int = 0) -> Volume:
    """A bright ellipsoid in noise, 1.7 litres, stored L-A-S; every seed another."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    noise = numpy_generator(seed, "head").normal(size=SHAPE)
    inside = (grid**2).sum(0) < 0.6
    return Volume(torch.from_numpy((100 * inside + 3 * noise + 20).astype(np.float32)), AFFINE)


def brain() -> Volume:
    """The mask of every :func:`head`."""
    return head().with_data(head().data > 70)


def table(path: Path, rows: Rows) -> Path:
    """Write rows as TSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def scan(
    root: Path, subject: str, session: str, *, suffix: str = "T1w", run: str = "", seed: int | None = None
) -> Path:
    """Write one image under its BIDS name; its content follows from the name."""
    name = "_".join(filter(None, (subject, session, run, suffix)))
    kind = "pet" if suffix.endswith("pet") else "anat"
    seed = sum(map(ord, name)) if seed is None else seed
    return nifti.save_image(root / subject / session / kind / f"{name}.nii.gz", head(seed))


def mask(root: Path, subject: str, session: str, *, volume: Volume | None = None) -> Path:
    """Write a brain mask below derivatives."""
    name = f"{subject}_{session}_desc-brain_mask.nii.gz"
    folder = root / "derivatives" / "stripping" / subject / session / "anat"
    return nifti.save_labels(folder / name, brain() if volume is None else volume)


ADNI_PEOPLE = [
    {"participant_id": "sub-ADNI002S0729", "sex": "F", "age_bl": 65.1, "diagnosis_sc": "LMCI", "apoe4": 1},
    {"participant_id": "sub-ADNI011S0005", "sex": "M", "age_bl": 73.7, "diagnosis_sc": "CN", "apoe4": 0},
]
ADNI_VISITS = {
    "sub-ADNI002S0729": [
        {"session_id": "ses-M000", "age": 65.1, "diagnosis": "MCI", "cdr_global": 0.5, "MMSE": 27},
        {"session_id": "ses-M012", "age": 66.14, "diagnosis": "AD", "cdr_global": 1.0, "MMSE": 23},
    ],
    "sub-ADNI011S0005": [{"session_id": "ses-M000", "age": 73.7, "diagnosis": "CN", "cdr_global": 0.0, "MMSE": 29}],
}


def adni(root: Path, *, people: Rows = ADNI_PEOPLE, visits: Mapping[str, Rows] = ADNI_VISITS) -> Path:
    """Two people of ADNI, three sessions, one brain mask, one FLAIR and one PET."""
    table(root / "participants.tsv", people)
    for subject, rows in visits.items():
        table(root / subject / f"{subject}_sessions.tsv", rows)
        for row in rows:
            scan(root, subject, row["session_id"])
    scan(root, "sub-ADNI011S0005", "ses-M000", suffix="FLAIR")
    scan(root, "sub-ADNI011S0005", "ses-M000", suffix="trc-18FFDG_rec-coregavg_pet")
    mask(root, "sub-ADNI011S0005", "ses-M000")
    return root


def oasis_visit(session: str, days: int, age: int, cdr: float, mmse: int, dx1: str) -> dict[str, object]:
    """One row of a sessions.tsv as the converter writes it."""
    return {"session_id": session, "source_session_id": f"d{days:04d}", "age": age, "mmse": mmse, "cdr": cdr,
            "dx1": dx1, "sumbox": 3 * cdr}


OASIS_PEOPLE = [
    {"participant_id": "sub-OAS30001", "age": 65.2, "sex": "F", "apoe": 33},
    {"participant_id": "sub-OAS30002", "age": 71.9, "sex": "M", "apoe": 34},
]
MIXED_UP = {  # the second person of M000 has the scores of the first, as the converter's join gives them
    "sub-OAS30001": [oasis_visit("ses-M000", 10, 65, 0, 30, "Cognitively normal"),
                     oasis_visit("ses-M024", 731, 67, 0, 29, "Cognitively normal")],
    "sub-OAS30002": [oasis_visit("ses-M000", 30, 71, 0, 30, "Cognitively normal")],
}
CDR_ROWS = [
    {"OASISID": who, "days_to_visit": day, "MMSE": mmse, "CDRTOT": cdr, "CDRSUM": 3 * cdr, "dx1": dx1}
    for who, day, cdr, mmse, dx1 in (
        ("OAS30001", 0, 0, 30, "Cognitively normal"), ("OAS30001", 800, 0.5, 28, "uncertain dementia"),
        ("OAS30002", 3, 1, 15, "AD Dementia"), ("OAS30002", 400, 2, 11, "AD dem w/depresss- contribut"),
    )
]
DEMOGRAPHIC_ROWS = [
    {"OASISID": "OAS30001", "AgeatEntry": 65.2, "GENDER": 2}, {"OASISID": "OAS30002", "AgeatEntry": 71.9, "GENDER": 1},
]


def oasis3(root: Path, *, people: Rows = OASIS_PEOPLE, visits: Mapping[str, Rows] = MIXED_UP) -> Path:
    """Two people of OASIS-3, three sessions with a run each, scores mixed up by the converter."""
    table(root / "participants.tsv", people)
    for subject, rows in visits.items():
        table(root / subject / f"{subject}_sessions.tsv", rows)
        for row in rows:
            scan(root, subject, row["session_id"], run="run-01")
    return root


def clinical(folder: Path, *, visits: Rows = CDR_ROWS, people: Rows = DEMOGRAPHIC_ROWS) -> Path:
    """The original OASIS-3 tables."""
    table(folder / "UDSb4" / "OASIS3_UDSb4_cdr.csv", visits)
    table(folder / "demo" / "OASIS3_demographics.csv", people)
    return folder
