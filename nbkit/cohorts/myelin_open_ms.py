"""myelin_open_ms: real anatomies (IXI, DLMUSE labels) and real lesion shapes (Lesjak 2017), simulated contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbkit.core.checks import check_keys, known, require
from nbkit.core.files import Cache
from nbkit.core.protocols import SEXES, Cohort
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.data.manifest import Manifest, load_manifest
from nbkit.data.participants import all_files
from nbkit.phantom.muse import ATLAS, people_of, read_atlas, region_and_side
from nbkit.phantom.myelin import Head
from nbkit.phantom.myelin_people import Person, myelin_parameters, roster
from nbkit.phantom.myelin_records import GRIDS, NULL, simulated_cohort
from nbkit.phantom.parameters import Parameters
from nbkit.phantom.real_heads import real_head
from nbkit.phantom.study import Study

NAME = "myelin_open_ms"
ANATOMY = "ixi_ageing"
"""The manifest that the anatomies come from; that of this cohort lists the lesion masks."""
_LESIONS, _LABELS = "mask:lesions", "labels"


@dataclass(frozen=True)
class Sources:
    """The verified files of one person: DLMUSE labels, and for patients a lesion mask, with their published hashes."""

    labels: Path
    lesions: Path | None
    hashes: tuple[str, ...]


def build(
    profile: str, *, seed: int, changed: bool = True, n_jobs: int = 1, cache: Cache | None = None,
    progress: bool = True, manifest: Manifest | None = None, anatomy: Manifest | None = None,
) -> Cohort:
    """The myelin cohort on real heads: everything but anatomy and lesion shapes is simulated as in `myelin_phantom`.

    Anatomies are tissue maps of healthy adults of the same sex (aged 50-74: older than the simulated people are said
    to be), from their DLMUSE labels of 2 mm. A lesion mask of a real patient is brought affinely to the box of the
    brain, moved up to some mm to where most of it lies in white matter, and restricted to white matter.

    Parameters
    ----------
    profile : {"smoke", "laptop", "overnight", "paper"}
    seed : int
        Which anatomy meets which lesions, and all that is simulated.
    changed : bool
        False makes the null experiment.
    n_jobs : int
        Subjects made at a time (threads).
    cache : Cache, optional
    progress : bool
    manifest, anatomy : Manifest, optional
        Other lists of files in the same roles: lesion masks; labels with ages and sexes.

    Returns
    -------
    Cohort
        As :func:`nbkit.cohorts.myelin_phantom.build`, access "open".

    Raises
    ------
    NbkitError
        For files that are missing or wrong, with the command that fetches them.
    """
    parameters, grid = myelin_parameters(), GRIDS[known(profile, GRIDS, f"{NAME}: profile")]
    manifest, anatomy = manifest or load_manifest(NAME), anatomy or load_manifest(ANATOMY)
    name, box = manifest.name if changed else manifest.name + NULL, grid.target(parameters)
    study = Study(name, profile, seed, module_digest(__name__), parameters, box, cache)
    people = [replace(p, load_ml=0.0, lesions=0) for p in roster(profile, seed=seed, parameters=parameters)]
    sources = find_sources(people, manifest, anatomy, seed=seed)
    codes = tissue_codes(all_files(anatomy, [ATLAS])[ATLAS], parameters)

    def head(person: Person) -> Head:
        own, spacing = sources[person.id], float(box[1][0, 0])
        return real_head(own.labels, own.lesions, codes=codes, spacing=spacing, parameters=parameters)

    return simulated_cohort(
        study, people, head, changed=changed, depends=lambda person: sources[person.id].hashes,
        manifests=[manifest, anatomy], n_jobs=n_jobs, progress=progress,
        kind="real anatomy and lesion shapes, simulated contrasts",
        licence=f"lesion masks {manifest.licence}; anatomies {anatomy.licence}",
        attribution=f"{manifest.attribution}. {anatomy.attribution}",
    )


def find_sources(
    people: Sequence[Person], manifest: Manifest, anatomy: Manifest, *, seed: int
) -> dict[str, Sources]:
    """By person: the labels of somebody of the same sex, and for patients a lesion mask; nobody's twice.

    Raises
    ------
    NbkitError
        If there are too few people of a sex or too few masks, or chosen files are not here.
    """
    rng = numpy_generator(seed, NAME, "sources")
    roles, table = anatomy.subjects(), people_of(anatomy)
    heads = {sex: [str(n) for n in rng.permutation([i for i in roles if table[i][0] == sex])] for sex in SEXES}
    masks = [paths[_LESIONS] for paths in manifest.subjects().values() if manifest.find(paths[_LESIONS])]
    masks = [str(path) for path in rng.permutation(masks)]
    patients = sum(p.diagnosis == "MS" for p in people)
    _enough(len(masks), patients, manifest, "lesion masks")
    chosen = {}
    for person in people:
        _enough(len(heads[person.sex]), 1, anatomy, f"more people of sex {person.sex}")
        path = roles[heads[person.sex].pop()][_LABELS]
        mask = masks.pop() if person.diagnosis == "MS" else None
        hashes = [anatomy.by_path[path].digest, *([manifest.by_path[mask].digest] if mask else [])]
        lesions = manifest.locate(mask) if mask else None
        chosen[person.id] = Sources(all_files(anatomy, [path])[path], lesions, tuple(hashes))
    return chosen


def _enough(count: int, wanted: int, manifest: Manifest, what: str) -> None:
    require(
        count >= wanted, manifest.name, expected=f"at least {wanted} {what}", found=f"{count} here",
        remedy=f"Run `make data COHORT={manifest.name}` (`nbkit data fetch {manifest.name}`), or set NBKIT_MIRROR to a "
        f"folder that holds {manifest.folder}/.",
    )


def tissue_codes(table: Path, parameters: Parameters) -> dict[str, list[int]]:
    """MUSE codes of "gm", "wm", "csf" (ventricles included), "ventricles" and of the kinds of bundles within "wm".

    Raises
    ------
    NbkitError
        If a region of the parameters is not in the table.
    """
    plain = {code: region_and_side(name)[0] for name, code in read_atlas(table).items()}
    named = {kind: parameters[f"muse.{kind}"] for kind in ("wm", "ventricles", "csf")}
    named |= parameters.section("muse_tracts")
    for names in named.values():
        check_keys(names, set(plain.values()), f"{table.name}: region")
    found = {kind: [code for code, name in plain.items() if name in names] for kind, names in named.items()}
    found["wm"] += parameters["muse.wm_codes"]
    found["csf"] += found["ventricles"] + parameters["muse.csf_codes"]
    return {"gm": sorted(set(plain) - set(found["wm"]) - set(found["csf"]) - {0}), **found}
