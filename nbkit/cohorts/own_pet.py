"""Your own FDG-PET: ratios to a reference region on the grid of the simulated cohorts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from nbkit.core.checks import known
from nbkit.core.config import PROFILES, digest
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume
from nbkit.data.lazy import LazyVolumes, Shelf, load_volume, save_volumes
from nbkit.data.nifti_header import files_of
from nbkit.data.pet import PetFile, ratio_on, read_pet
from nbkit.data.pet_slices import CONTRAST
from nbkit.phantom.fdg import mean_control

KIND = "own_pet"
_FILE = "scan.safetensors"


def build(path: Path | str, profile: str, *, cache: Cache | None = None) -> Cohort:
    """The FDG scans of a BIDS or CAPS folder (:func:`nbkit.data.pet.read_pet` says which), as the simulated ones are.

    Scans in MNI space by their name are taken as they lie; others are aligned (affine, by correlation) to a simulated
    mean control. Either is interpolated once on the grid of the profile, and what lies outside the inside of the
    template's skull, grown by a voxel, becomes 0: scalp and eyes are no part of the simulated scans. What is made stays
    in the user's own cache.

    Parameters
    ----------
    path : path
    profile : {"smoke", "laptop", "overnight", "paper"}
        Grids of 4, 3 and 2 mm.
    cache : Cache, optional

    Returns
    -------
    Cohort
        Restricted. Image "FDG"; masks "brain" and "gm" are those of the template, hence approximate.

    Raises
    ------
    NbkitError
        By file and remedy, for whatever names, tables and reference regions have wrong; when an image is looked at,
        for a mask or an image that cannot be used.
    """
    known(profile, PROFILES, f"{KIND}: profile")
    root, cache, shelf = Path(path).expanduser(), cache or Cache(), Shelf()
    files = read_pet(root)
    keys = [_key(file, profile) for file in files]
    scans = [_scan(file, key, profile, cache, shelf) for file, key in zip(files, keys, strict=True)]
    sexes = {file.subject: file.sex for file in files}
    scans.sort(key=lambda scan: (scan.age is None, scan.age or 0.0, scan.session))
    visits = {name: tuple(scan for scan in scans if scan.subject == name) for name in sexes}
    subjects = tuple(Subject(name, sexes[name], own[0].diagnosis, own) for name, own in visits.items())
    regions = sorted({f.region for f in files})
    return Cohort(f"own-{root.resolve().name}", subjects, "restricted", {
        "source": root.resolve().name, "profile": profile, "files": len(files), "licence": "the owner's",
        "attribution": "own data, not shared", "data_hash": digest(keys),
        "intensity": f"uptake over the mean of: {', '.join(regions)}", "masks": "of the template, approximate",
    })


def _key(file: PetFile, profile: str) -> dict[str, Any]:
    """What a scan in the cache depends on: size and date of its files, not their places."""
    files = [part for named in (file.path, file.mask) if named for part in files_of(named)]
    stats = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return {"scan": [file.subject, file.session], "files": stats, "profile": profile, "source": module_digest(__name__)}


def _scan(file: PetFile, key: Mapping[str, Any], profile: str, cache: Cache, shelf: Shelf) -> Scan:
    load = functools.partial(_load, file, key, profile, cache)
    images, masks = (
        LazyVolumes(f"{file.where} {kind} {profile}", names, load, shelf=shelf)
        for kind, names in (("images", (CONTRAST,)), ("masks", ("brain", "gm")))
    )
    age = None if file.age is None else float(file.age)
    return Scan(file.subject, file.session, age, images, masks, diagnosis=file.diagnosis)


def _load(file: PetFile, key: Mapping[str, Any], profile: str, cache: Cache, name: str) -> Volume:
    make = functools.partial(_make, file, profile)
    return cache.get(KIND, key, make, lambda folder: load_volume(folder / _FILE, name))


def _make(file: PetFile, profile: str, folder: Path) -> None:
    control = mean_control(profile)
    grown = F.max_pool3d(control.masks["brain"].data.float(), 3, stride=1, padding=1)
    image = ratio_on(file, control.image)
    ratio = image.with_data(image.data * grown, "0 outside the template's skull")
    save_volumes(folder / _FILE, {CONTRAST: ratio, **{n: control.masks[n] for n in ("brain", "gm")}})
