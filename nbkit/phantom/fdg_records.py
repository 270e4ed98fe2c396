"""A simulated FDG scan on disk, and the subject that is read back when it is looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nbkit.core.files import write_json
from nbkit.core.protocols import Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.lazy import LazyVolumes, Shelf, load_volume, save_volumes
from nbkit.data.pet_slices import CONTRAST
from nbkit.phantom.fdg import FdgScan, Patient

SESSION = "01"
_MASKS = ("brain", "gm", "reference")


def write_scan(folder: Path, patient: Patient, scan: FdgScan) -> None:
    """Write image (16-bit floats: what they lose is a fiftieth of the noise), masks and facts of one person."""
    volumes = {CONTRAST: scan.image.with_data(scan.image.data.half()), **{n: scan.masks[n] for n in _MASKS}}
    save_volumes(folder / f"{patient.id}.safetensors", volumes)
    write_json(folder / f"{patient.id}.json", dict(scan.facts))


def read_subject(
    folder: Path, patient: Patient, *, shelf: Shelf, covariates: Mapping[str, Any] | None = None,
) -> tuple[Subject, dict[str, Any]]:
    """The subject with one scan, and the facts about it, that :func:`write_scan` wrote."""
    path = folder / f"{patient.id}.safetensors"
    images, masks = (
        LazyVolumes(f"{path} {kind}", names, partial(_load, path), shelf=shelf)
        for kind, names in (("images", (CONTRAST,)), ("masks", _MASKS))
    )
    scan = Scan(patient.id, SESSION, patient.age, images, masks, diagnosis=patient.stage)
    facts = json.loads((folder / f"{patient.id}.json").read_text(encoding="utf-8"))
    return Subject(patient.id, patient.sex, patient.stage, (scan,), dict(covariates or {})), facts


def _load(path: Path, name: str) -> Volume:
    volume = load_volume(path, name)
    return volume.with_data(volume.data.float()) if volume.data.dtype == torch.float16 else volume
