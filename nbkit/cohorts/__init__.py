"""Cohorts: `open_cohort` is the one door to phantom, open and own scans. Rank 4: core, data, phantom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbkit.cohorts import ageing_phantom, ixi_ageing, ms_phantom, open_ms, own_ageing, own_bids, own_csv
from nbkit.core.checks import NbkitError, closest, known
from nbkit.core.protocols import Cohort
from nbkit.data.manifest import list_manifests, load_manifest

# What COHORT=embedded and COHORT=open mean for each task
LEVELS = {
    "flair": {"embedded": "ms_phantom", "open": "open_ms"},
    "ageing": {"embedded": "ageing_phantom", "open": "ixi_ageing"},
}
NAMES = ("ms_phantom", "open_ms", "ageing_phantom", "ixi_ageing")


@dataclass(frozen=True)
class CohortInfo:
    """One line of `nbkit data list`: what there is, and what of it is here."""

    name: str
    level: str
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
        One of :data:`NAMES`, a ``.csv`` (:func:`nbkit.data.tables.read_scan_table` says which columns), or a BIDS
        folder (:func:`nbkit.cohorts.own_bids.build`).
    profile : {"smoke", "laptop", "paper"}
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
    if name == "ms_phantom":
        return ms_phantom.build(profile, seed=seed, n_jobs=n_jobs)
    if name == "open_ms":
        return open_ms.build(profile, n_jobs=n_jobs)
    if name == "ageing_phantom":
        return ageing_phantom.build(profile, seed=seed, n_jobs=n_jobs)
    if name == "ixi_ageing":
        return ixi_ageing.build(profile, seed=seed, n_jobs=n_jobs)
    if name.lower().endswith(".csv"):
        return own_csv.build(name, profile)
    if Path(name).expanduser().is_dir():
        return own_bids.build(Path(name).expanduser(), profile)
    raise _unknown(name, NAMES)


def cohort_name(level: str | Path, *, task: str = "flair") -> str:
    """The cohort that a notebook's COHORT means: "embedded", "open", a cohort's own name, or the path of own scans."""
    levels, name = LEVELS[known(task, LEVELS, "cohort_name: task")], str(level)
    if name in levels:
        return levels[name]
    if name in NAMES or name.lower().endswith(".csv") or Path(name).expanduser().is_dir():
        return name
    raise _unknown(name, (*levels, *NAMES))


def cohort_for(
    level: str | Path, *, task: str = "flair", profile: str = "laptop", seed: int = 7, n_jobs: int = 1
) -> Cohort:
    """Open the cohort that COHORT means for a task; see :func:`cohort_name` and :func:`open_cohort`.

    Own scans come as they are, for "ageing" preprocessed (:func:`nbkit.cohorts.own_ageing.on_template`).
    """
    name = cohort_name(level, task=task)
    cohort = open_cohort(name, profile=profile, seed=seed, n_jobs=n_jobs)
    if task == "ageing" and name not in NAMES:
        return own_ageing.on_template(cohort, Path(name).expanduser(), profile, n_jobs=n_jobs)
    return cohort


def list_cohorts() -> list[CohortInfo]:
    """Every cohort with a manifest, and how much of it is on this machine (files are counted, not verified)."""
    return [_info(name) for name in list_manifests()]


def _info(name: str) -> CohortInfo:
    manifest = load_manifest(name)
    level = next((level for levels in LEVELS.values() for level, n in levels.items() if n == name), manifest.access)
    subjects = manifest.subjects()
    if manifest.access == "embedded":
        present = "built here, nothing to download"
    else:
        complete = sum(all(manifest.find(path) for path in roles.values()) for roles in subjects.values())
        present = f"{complete} of {len(subjects)} subjects"
    total = manifest.expected.get("subjects", len(subjects))
    return CohortInfo(name, level, manifest.access, manifest.title, total, manifest.licence, present)


def _unknown(name: str, valid: tuple[str, ...]) -> NbkitError:
    return NbkitError(
        "COHORT", expected=f"one of {', '.join(valid)}, the path of a .csv or of a BIDS folder", found=repr(name),
        remedy=f"{closest(name, valid)}Use one of the listed names, or check the path.",
    )
