"""Cohorts: `open_cohort` is the one door to phantom, open and own scans. Rank 4: core, data, phantom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbkit.cohorts import (
    ageing_phantom, dlbs, ixi_ageing, ms_phantom, mslesseg, myelin_open_ms, myelin_phantom, open_ms, own_ageing,
    own_flair, own_pet, own_scans, pet_ixi, pet_phantom, retest,
)
from nbkit.core.checks import NbkitError, closest, known, require
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume
from nbkit.data import own_needs
from nbkit.data.check import read_own
from nbkit.data.manifest import Manifest, list_manifests, load_manifest
from nbkit.phantom import records, study
from nbkit.phantom.scanned_again import any_pair

# What COHORT=embedded and COHORT=open mean for each task
LEVELS = {
    "overview": {"embedded": "ms_phantom", "open": "open_ms"},
    "flair": {"embedded": "ms_phantom", "open": "open_ms"},
    "ageing": {"embedded": "ageing_phantom", "open": "ixi_ageing"},
    "myelin": {"embedded": "myelin_phantom", "open": "myelin_open_ms"},
    "myelin_null": {"embedded": "myelin_phantom_null", "open": "myelin_open_ms_null"},
    "pet": {"embedded": "pet_phantom", "open": "pet_ixi"},
}
_MODULES = {m.NAME: m for m in (
    ms_phantom, open_ms, ageing_phantom, ixi_ageing, myelin_phantom, myelin_open_ms, pet_phantom, pet_ixi, dlbs,
)}
NAMES = tuple(_MODULES)
_REAL = (open_ms.NAME, dlbs.NAME)
"""Nothing of them is drawn."""
MS_TASKS = ("overview", "flair")
"""What MSLesSeg, which is given as a path, serves."""
NULLS = tuple(LEVELS["myelin_null"].values())
"""Null experiments: the people and the first scans of a simulated cohort, without change at the second."""
SCANNED_TWICE = retest.NAMES
"""People who do not age between two scans; notebook 08 reads them beside a cohort of real scans."""
_NOISE_FREE = {
    name: study.noise_free
    for name in (ms_phantom.NAME, myelin_phantom.NAME, myelin_open_ms.NAME, *NULLS, pet_phantom.NAME, pet_ixi.NAME)
} | {ageing_phantom.NAME: records.noise_free}
"""By name of cohort: ``(cohort, contrast) -> {(subject, session): Volume}``, images without noise."""
_SCANNED_TWICE = {ageing_phantom.NAME: records.noise_again}
"""By name of cohort: ``(cohort, *, seed) -> Cohort``, the first visits once more with other noise."""
_STRANGERS = {m.NAME: m.strangers for m in (ms_phantom, myelin_phantom, ageing_phantom, pet_phantom)}
"""By name of cohort: ``(profile, *, seed, times, n_jobs) -> Cohort``, other people of the same design."""


@dataclass(frozen=True)
class CohortInfo:
    """One line of `nbkit data list`: what there is, what of it is here, and the COHORT that `make data` takes."""

    name: str
    level: str
    fetched_by: str
    access: str
    title: str
    subjects: int
    licence: str
    present: str


def open_cohort(name_or_path: str | Path, *, profile: str = "laptop", seed: int = 7, n_jobs: int = 1) -> Cohort:
    """Open a cohort by name, or your own scans by the path of their CSV or BIDS folder.

    Parameters
    ----------
    name_or_path : str or path
        One of :data:`NAMES`, :data:`NULLS` or the test-retest cohorts, a ``.csv``
        (:func:`nbkit.data.tables.read_scan_table` says which columns), a BIDS folder
        (:func:`nbkit.cohorts.own_scans.build`), or MSLesSeg's zip or folder.
    profile : {"smoke", "laptop", "overnight", "paper"}
        Grid size and, for phantoms, the number of subjects.
    seed : int
        Draws of a phantom; real scans do not depend on it.
    n_jobs : int
        Subjects prepared at a time.

    Raises
    ------
    NbkitError
        For an unknown name (with the nearest one) or whatever the cohort itself refuses.
    """
    name = str(name_or_path)
    if name in SCANNED_TWICE:
        return retest.build(name, profile, n_jobs=n_jobs)
    if name in NAMES or name in NULLS:
        settings = {"changed": name not in NULLS} if name.startswith("myelin") else {}
        settings |= {} if name in _REAL else {"seed": seed}
        return _MODULES[name.removesuffix("_null")].build(profile, n_jobs=n_jobs, **settings)
    path = Path(name).expanduser()
    if mslesseg.is_archive(path):
        return mslesseg.build(path, profile, n_jobs=n_jobs)
    if path.suffix.lower() == ".csv" or path.is_dir():
        return own_scans.build(path, profile)
    raise _unknown(name, (*NAMES, *NULLS))


def cohort_name(level: str | Path, *, task: str = "flair") -> str:
    """The cohort that a notebook's COHORT means: "embedded", "open", a cohort's own name, or the path of own scans.

    For task "myelin_null" the name of a cohort means its null experiment; own scans have none and are refused.
    """
    levels, name = LEVELS[known(task, LEVELS, "cohort_name: task")], str(level)
    if name in levels:
        return levels[name]
    if task == "myelin_null":
        null = name if name in NULLS else f"{name}_null"
        require(
            null in NULLS, "COHORT", expected=f"embedded, open, or one of {', '.join(NULLS)} for a null experiment",
            found=repr(name), remedy="A null experiment needs a simulated cohort, in which it is known that nothing "
            "changed: own scans cannot show it. Leave it out, or run it with COHORT=embedded.",
        )
        return null
    if mslesseg.is_archive(name):
        require(
            task in MS_TASKS, f"COHORT: {Path(name).name}", expected=f"a task of {', '.join(MS_TASKS)}", found=task,
            remedy="MSLesSeg holds T1w, T2w and FLAIR of people with MS: it serves notebook 01.",
        )
        return name
    if name in NAMES or name in NULLS or name.lower().endswith(".csv") or Path(name).expanduser().is_dir():
        return name
    require(
        name not in SCANNED_TWICE, "COHORT", expected="people who age", found=f"{name}, two scans within weeks",
        remedy="Once it is fetched, notebook 08 reads it beside COHORT=dlbs or your own scans.",
    )
    raise _unknown(name, (*levels, *NAMES))


def cohort_for(
    level: str | Path, *, task: str = "flair", profile: str = "laptop", seed: int = 7, n_jobs: int = 1
) -> Cohort:
    """Open the cohort that COHORT means for a task; see :func:`cohort_name` and :func:`open_cohort`.

    Own scans come with the masks that can be made of them for "overview" and "flair" (for "flair" the people who can
    serve: :func:`nbkit.cohorts.own_flair.for_synthesis`), with the visits that have everything for "myelin", and
    preprocessed for "ageing" (:func:`nbkit.cohorts.own_ageing.on_template`); of a folder for "pet" come the FDG scans,
    as ratios in MNI space (:func:`nbkit.cohorts.own_pet.build`).
    """
    name = cohort_name(level, task=task)
    require(
        name != dlbs.NAME or task == "ageing", "COHORT", expected=f"a cohort for {task}: {', '.join(LEVELS[task])}",
        found=f"{name}, T1w scans of people who age", remedy="Notebooks 04, 05, 06, 08 and 09 read it.",
    )
    if task == "pet" and name not in NAMES and Path(name).expanduser().is_dir():
        return own_pet.build(name, profile)
    cohort = open_cohort(name, profile=profile, seed=seed, n_jobs=n_jobs)
    path = Path(name).expanduser()
    if cohort.access != "restricted":
        return cohort
    if task == "overview":
        return own_flair.with_masks(cohort, path, profile)
    if task == "flair":
        return own_flair.for_synthesis(cohort, path, profile)
    if task == "myelin":
        return own_needs.restricted(cohort, own_needs.for_myelin(read_own(path).table))
    if task == "ageing":
        return own_ageing.on_template(cohort, path, profile, n_jobs=n_jobs)
    return cohort


def noise_free(cohort: Cohort, contrast: str) -> dict[tuple[str, str], Volume]:
    """Images of one contrast as acquired but without noise, by (subject, session): the floor of every prediction.

    Partial volume, pose, inhomogeneity and gain are those of the images, so that image − noise-free is noise alone.
    Empty for real scans.

    Raises
    ------
    NbkitError
        For a contrast of which a simulated cohort keeps none.
    """
    return _NOISE_FREE[cohort.name](cohort, contrast) if cohort.name in _NOISE_FREE else {}


def scanned_twice(cohort: Cohort, *, profile: str, seed: int = 7, n_jobs: int = 1) -> list[Cohort]:
    """People scanned twice without ageing between, as real scans or as the simulation of `cohort` makes them.

    Of simulated people the scan and another draw of its noise; for real scans every test-retest cohort of which
    anybody's pair is here. Empty where there is none.
    """
    if cohort.name in _SCANNED_TWICE:
        return [_SCANNED_TWICE[cohort.name](cohort, seed=seed)]
    listed = [load_manifest(name) for name in SCANNED_TWICE]
    here = [manifest.name for manifest in listed if manifest.find(retest.TABLE) and any_pair(manifest)]
    return [retest.build(name, profile, n_jobs=n_jobs) for name in here]


def to_fetch(manifest: Manifest, *, people: int | None = None, everybody: bool = False) -> list[str]:
    """Paths of the files that a command asks for: of the first `people`, of everybody, or of the default set.

    Of test-retest cohorts older people alone, whom their table names; it is fetched first.

    Raises
    ------
    NbkitError
        For a number of people where the cohort needs all of them.
    """
    require(
        people is None or (people > 0 and manifest.partial), f"data fetch {manifest.name} --people",
        expected="a number above 0, of a cohort that runs on a part of its people", found=people,
        remedy="Leave --people out.",
    )
    named = retest.older(manifest) if manifest.name in SCANNED_TWICE else list(manifest.subjects(everybody=everybody))
    return manifest.wanted(named[:people])


def strangers(
    level: str | Path, *, task: str, profile: str, seed: int, times: int = 10, n_jobs: int = 1
) -> Cohort | None:
    """`times` as many other simulated people as COHORT has for a task, drawn and made alike.

    Made once and kept in the cache; at laptop some two seconds and 10 to 17 MB a person. For "ageing" they are volumes
    without images, some .7 s each. None where people are real, wholly or in part: there are not ten times as many.
    """
    name = cohort_name(level, task=task)
    if name not in _STRANGERS:
        return None
    return _STRANGERS[name](profile, seed=seed, times=times, n_jobs=n_jobs)


def cohort_names(level: str) -> list[str]:
    """Every cohort whose files a notebook's COHORT may read: one per task for "embedded" and "open", else the one."""
    named = [name for levels in LEVELS.values() for each, name in levels.items() if each == level]
    return list(dict.fromkeys(name for name in named if name not in NULLS)) or [cohort_name(level)]


def list_cohorts() -> list[CohortInfo]:
    """Every cohort with a manifest, and how much of it is on this machine (files are counted, not verified)."""
    return [_info(name) for name in list_manifests()]


def _info(name: str) -> CohortInfo:
    manifest = load_manifest(name)
    level = next((level for levels in LEVELS.values() for level, n in levels.items() if n == name), None)
    subjects = manifest.subjects(everybody=False)
    if manifest.access == "embedded":
        present = "built here, nothing to download"
    else:
        complete = sum(all(manifest.find(path) for path in roles.values()) for roles in subjects.values())
        present = f"{complete} of {len(subjects)} subjects"
    total = manifest.expected.get("subjects", len(subjects))
    told = level or manifest.access, level or name, manifest.access
    return CohortInfo(name, *told, manifest.title, total, manifest.licence, present)


def _unknown(name: str, valid: tuple[str, ...]) -> NbkitError:
    by_path = {mslesseg.NAME: mslesseg.HOW_TO_GET} | {
        known_as: " ".join(load_manifest(known_as).how_to_get.split()) for known_as in list_manifests()
        if load_manifest(known_as).access == "restricted"
    }
    return NbkitError(
        "COHORT", expected=f"one of {', '.join(valid)}, the path of a .csv or of a BIDS folder", found=repr(name),
        remedy=by_path.get(name) or f"{closest(name, valid)}Use one of the listed names, or check the path.",
    )
