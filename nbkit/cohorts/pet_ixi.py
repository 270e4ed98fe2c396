"""pet_ixi: simulated FDG-PET on real anatomy, several virtual people from the label map of each of 40 real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.data import nifti
from nbkit.data.lazy import Shelf
from nbkit.data.manifest import Manifest, load_manifest
from nbkit.data.participants import all_files
from nbkit.phantom.fdg import (
    INTENSITY, Patient, fdg_grid, fdg_parameters, read_subject, relative, roster, simulate, template_regions,
    with_noise_free, write_scan,
)
from nbkit.phantom.fdg_donor import label_donor
from nbkit.phantom.muse import codes_of, people_of
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.study import Study

NAME = "pet_ixi"
PARAMETERS = Path(__file__).with_name("pet_ixi.toml")
_TEMPLATE_MM = 4


@dataclass(frozen=True)
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
    profile : {"smoke", "laptop", "overnight", "paper"}
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
    box, manifest, parameters = fdg_grid(profile), manifest or load_manifest(NAME), load_parameters(PARAMETERS)
    study = Study(manifest.name, profile, seed, module_digest(__name__), fdg_parameters(), box, cache)
    people, roles = roster(profile, seed=seed), manifest.subjects()
    donors = assign(_chosen(people_of(manifest), profile, parameters["cohort.smoke_donors"]), people, seed=seed)
    codes, paths = codes_of(manifest, parameters), {donor.id: roles[donor.id]["labels"] for donor in donors}
    files, hashes = all_files(manifest, paths.values()), {n: manifest.by_path[path].digest for n, path in paths.items()}

    def make(donor: RealPerson, folder: Path) -> None:
        labels, template = nifti.read_labels(files[paths[donor.id]]), template_regions(_TEMPLATE_MM)
        head = label_donor(donor.id, donor.age, labels, codes, profile=profile, template=template)
        for person in donor.virtual:
            moved = relative(person, numpy_generator(seed, NAME, person.id, "head"))
            write_scan(folder, person, simulate(person, head, moved, profile=profile, seed=seed))

    folders = study.made(
        donors, make, depends=lambda donor: [hashes[donor.id], codes], first=partial(template_regions, _TEMPLATE_MM),
        n_jobs=n_jobs, progress=progress,
    )
    shelf, read, content = Shelf(), {}, {}
    for donor, folder in zip(donors, folders, strict=True):
        for person in donor.virtual:
            subject, facts = read_subject(folder, person, shelf, person=donor.id, person_age=donor.age)
            content[person.id] = facts
            read[person.id] = subject, with_noise_free(facts, folder, person, shelf)
    return study.cohort(
        [read[person.id] for person in people], [list(hashes.values()), {p.id: content[p.id] for p in people}],
        [manifest], **INTENSITY, people=len(donors),
        kind="real anatomy, simulated PET",
        simulated="uptake, noise, ageing and disease; the people are healthy, the stages are not theirs",
    )


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
        virtual[name].append(replace(person, sex=donors[name][0]))
    return tuple(RealPerson(name, *donors[name], tuple(own)) for name, own in virtual.items())


def _chosen(table: Mapping[str, tuple[str, float]], profile: str, count: int) -> dict[str, tuple[str, float]]:
    """Everybody, or for smoke `count` people evenly over the ages."""
    names = sorted(table, key=lambda name: (table[name][1], name))
    if profile == "smoke" and count < len(names):
        names = [names[round(k)] for k in np.linspace(0, len(names) - 1, count)]
    return {name: table[name] for name in names}
