"""pet_ixi: simulated FDG-PET on real anatomy, several virtual people from the label map of each of 40 real ones."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from nbkit.core.checks import known
from nbkit.core.config import PROFILES, digest
from nbkit.core.device import one_thread
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.data import nifti
from nbkit.data.lazy import Shelf
from nbkit.data.manifest import Manifest, load_manifest
from nbkit.data.participants import all_files, sexes_and_ages
from nbkit.phantom.anatomy import ATTRIBUTION
from nbkit.phantom.fdg import (
    GRIDS, Patient, fdg_grid, fdg_parameters, relative, roster, simulate, template_regions,
)
from nbkit.phantom.fdg_donor import label_donor
from nbkit.phantom.fdg_records import read_subject, write_scan
from nbkit.phantom.muse import merge_codes
from nbkit.phantom.parameters import load_parameters

log = logging.getLogger(__name__)

NAME = "pet_ixi"
PARAMETERS = Path(__file__).with_name("pet_ixi.toml")
_PEOPLE = "sample_datasets/demo_dataset_IXI/participants/participants.csv"
_ATLAS = "resources/lists/MUSE/MUSE_listROIs.csv"
_TEMPLATE_MM = 4


@dataclasses.dataclass(frozen=True)
class RealPerson:
    """Whose head it is: age in years and sex of the donor, and who is made from it."""

    id: str
    sex: str
    age: float
    virtual: tuple[Patient, ...]


def build(
    profile: str, *, seed: int, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True,
    manifest: Manifest | None = None,
) -> Cohort:
    """Virtual people at the published counts, each a relative of a real, healthy person aged 50 to 74.

    A real head gives its DLMUSE labels; a virtual person has them moved by a random flow and by the sizes of
    structures of the age and stage drawn, and uptake as in :func:`nbkit.cohorts.pet_phantom.build`. Virtual people of
    one real person are alike: split them together (``covariates["person"]``;
    ``nbkit.data.splits.folds(..., group_of=person_of)``). Every real person gives all three stages.

    Parameters
    ----------
    profile : {"smoke", "laptop", "paper"}
        36 virtual people from 4 real ones at 4 mm; 411 from 40 at 3 or 2 mm.
    seed : int
    n_jobs : int
        Real people at a time (threads).
    cache : Cache, optional
        One entry per real person.
    progress : bool
    manifest : Manifest, optional
        Another list of files in the same roles.

    Returns
    -------
    Cohort
        As :func:`nbkit.cohorts.pet_phantom.build` gives it; access is "open", sexes are those of the real people.

    Raises
    ------
    NbkitError
        For an unknown profile; by person and file: missing or wrong.
    """
    known(profile, PROFILES, f"{NAME}: profile")
    manifest, cache, parameters = manifest or load_manifest(NAME), cache or Cache(), load_parameters(PARAMETERS)
    roles = {name: own["labels"] for name, own in manifest.subjects().items()}
    table = sexes_and_ages(all_files(manifest, [_PEOPLE])[_PEOPLE], roles)
    donors = assign(_chosen(table, profile, parameters["cohort.smoke_donors"]), roster(profile, seed=seed), seed=seed)
    codes = merge_codes(all_files(manifest, [_ATLAS])[_ATLAS], parameters)
    files = {donor.id: all_files(manifest, [roles[donor.id]])[roles[donor.id]] for donor in donors}
    source, hashes = module_digest(__name__), {n: manifest.by_path[path].digest for n, path in roles.items()}
    keys = [_key(donor, hashes[donor.id], codes, profile=profile, seed=seed, source=source) for donor in donors]
    if not all(cache.holds(NAME, key) for key in keys):
        template_regions(_TEMPLATE_MM)  # once, before the threads ask for it together
    make = functools.partial(_entry, codes=codes, cache=cache, profile=profile, seed=seed)
    jobs = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        delayed(make)(donor, files[donor.id], key) for donor, key in zip(donors, keys, strict=True)
    )
    bar = tqdm(jobs, total=len(donors), desc=f"{NAME} ({profile})", unit="person", disable=not progress)
    shelf, read = Shelf(), {}
    with one_thread():
        for donor, entry in zip(donors, bar, strict=True):
            about = {"person": donor.id, "person_age": donor.age}
            read |= {p.id: read_subject(entry, p, shelf=shelf, covariates=about) for p in donor.virtual}
    order = [person.id for person in roster(profile, seed=seed)]
    truth = {name: read[name][1] for name in order}
    provenance = _provenance(manifest, profile, seed, [hashes[donor.id] for donor in donors], truth)
    return Cohort(manifest.name, tuple(read[name][0] for name in order), manifest.access, provenance, truth)


def assign(
    donors: Mapping[str, tuple[str, float]], people: Sequence[Patient], *, seed: int
) -> tuple[RealPerson, ...]:
    """Who is made from whose head: real people take turns within each stage, in an order drawn anew for each.

    Parameters
    ----------
    donors : mapping of str to (str, float)
        Sex and age of real people.
    people : sequence of Patient
        Their sex becomes that of the donor.
    """
    virtual: dict[str, list[Patient]] = {name: [] for name in donors}
    turns: dict[str, list[str]] = {}
    for person in people:
        queue = turns.setdefault(person.stage, [])
        if not queue:
            rng = numpy_generator(seed, NAME, "donors", person.stage, len(people))
            queue += [str(name) for name in rng.permutation(sorted(donors))]
        name = queue.pop(0)
        virtual[name].append(dataclasses.replace(person, sex=donors[name][0]))
    return tuple(RealPerson(name, *donors[name], tuple(own)) for name, own in virtual.items())


def _chosen(table: Mapping[str, tuple[str, float]], profile: str, count: int) -> dict[str, tuple[str, float]]:
    """Everybody, or for smoke `count` people evenly over the ages."""
    names = sorted(table, key=lambda name: (table[name][1], name))
    if profile == "smoke" and count < len(names):
        names = [names[round(k)] for k in np.linspace(0, len(names) - 1, count)]
    return {name: table[name] for name in names}


def _key(
    donor: RealPerson, file: str, codes: Mapping[str, Any], *, profile: str, seed: int, source: str
) -> dict[str, Any]:
    return {
        "donor": dataclasses.asdict(donor), "file": file, "codes": codes, "grid": GRIDS[profile], "seed": seed,
        "source": source, "parameters": fdg_parameters().digest(),
    }


def _entry(
    donor: RealPerson, file: Path, key: Mapping[str, Any], *, codes: Mapping[str, Any], cache: Cache, profile: str,
    seed: int,
) -> Path:
    """Folder of one real person's virtual people in the cache, made first if need be."""
    make = functools.partial(_make, donor, file, codes=codes, profile=profile, seed=seed)
    return cache.get(NAME, key, make, lambda folder: folder)


def _make(donor: RealPerson, file: Path, folder: Path, *, codes: Mapping[str, Any], profile: str, seed: int) -> None:
    template = template_regions(_TEMPLATE_MM)
    head = label_donor(donor.id, donor.age, nifti.read_labels(file), codes, profile=profile, template=template)
    for person in donor.virtual:
        moved = relative(person, numpy_generator(seed, NAME, person.id, "head"))
        write_scan(folder, person, simulate(person, head, moved, profile=profile, seed=seed))


def _provenance(
    manifest: Manifest, profile: str, seed: int, files: Sequence[str], truth: Mapping[str, Any]
) -> dict[str, Any]:
    shape, affine = fdg_grid(profile)
    return {
        "kind": "real anatomy, simulated PET", "source": f"{manifest.repository} at commit {manifest.commit}",
        "licence": manifest.licence, "attribution": f"{manifest.attribution}. {ATTRIBUTION}",
        "citation": list(manifest.citation), "profile": profile, "seed": seed, "data_hash": digest([files, truth]),
        "parameters": fdg_parameters().digest(), "people": len(files),
        "grid": {"shape": list(shape), "spacing_mm": [float(s) for s in np.diag(affine)[:3]]},
        "intensity": "uptake over the mean of the cerebellum, 0 outside the brain", "alignment": "rigid, MNI152",
        "simulated": "uptake, noise, ageing and disease; the people are healthy, the stages are not theirs",
    }
