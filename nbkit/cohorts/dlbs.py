"""dlbs: real people who age (Dallas Lifespan Brain Study, OpenNeuro ds004856), from whatever subset of them is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.data.manifest import Manifest, load_manifest
from nbkit.data.participants import number_at, sex_of
from nbkit.phantom.scanned_again import prepared_cohort

NAME = "dlbs"
_HEALTHY, _NUMBERS = "CN", ("age", "years", "mmse")
_WHO = (
    "No diagnosis is published: volunteers enrolled with an MMSE of 26 or more and without neurological or psychiatric "
    "disorders, so everybody counts as CN at every wave, though some may not have been at the last",
    "Ages are whole years at the first scan plus the published years since",
)


def build(
    profile: str, *, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True,
    manifest: Manifest | None = None,
) -> Cohort:
    """The people of whom two scans or more are here, some nine years apart where there are three.

    Parameters
    ----------
    profile : {"smoke", "laptop", "overnight", "paper"}
        Grids of 5, 3 and 1.5 mm.
    n_jobs : int
        Scans prepared at a time, the first time; afterwards they come from the cache.
    cache : Cache, optional
    progress : bool
        Show a bar with the time left.
    manifest : Manifest, optional
        Another list of files with the same columns.

    Returns
    -------
    Cohort
        T1w scans as :func:`nbkit.phantom.scanned_again.prepared_cohort` makes them; covariate "mmse", one value a scan.

    Raises
    ------
    NbkitError
        If nobody has two scans here; by file, a wrong one or a cell that cannot be read.
    """
    manifest = manifest or load_manifest(NAME)
    people = roster(manifest)
    return prepared_cohort(
        manifest, people, profile, asked=manifest.subjects(everybody=False), left_out=_undated(manifest, people),
        n_jobs=n_jobs, cache=cache, progress=progress, kind="real scans", who=list(_WHO),
    )


def roster(manifest: Manifest) -> tuple[Subject, ...]:
    """Everybody in the order of the manifest: sex, scans with ages, MMSE by scan; no images.

    The age at a wave is the age at the first, in whole years as published, plus the decimal years since. A wave whose
    time is not published is not among them.
    """
    return tuple(_subject(manifest, who, sessions) for who, sessions in manifest.subjects().items())


def _subject(manifest: Manifest, who: str, sessions: Mapping[str, str]) -> Subject:
    facts = {session: manifest.by_path[path].facts for session, path in sessions.items()}
    told = {
        session: {n: number_at(own.get(n, ""), where=f"{manifest.name} {who} {session}: {n}") for n in _NUMBERS}
        for session, own in facts.items()
    }
    dated = sorted((s for s in told if told[s]["years"] is not None), key=lambda s: told[s]["years"])
    first = told[dated[0]] if dated else {"age": None}
    ages = {} if first["age"] is None else {s: first["age"] + told[s]["years"] - first["years"] for s in dated}
    scans = [Scan(who, session, round(age, 2), {}, diagnosis=_HEALTHY) for session, age in ages.items()]
    sex = sex_of(next(iter(facts.values())).get("sex", ""), where=f"{manifest.name} {who}: sex")
    mmse = [told[scan.session]["mmse"] for scan in scans]
    return Subject(who, sex, _HEALTHY, tuple(scans), {"converter": False, "onset_age": None, "mmse": mmse})


def _undated(manifest: Manifest, people: Sequence[Subject]) -> dict[str, str]:
    """Why scans of the manifest are in nobody's list."""
    listed = {(s.id, scan.session) for s in people for scan in s.scans}
    return {
        f"{who} {session}": "its time is not published" for who, sessions in manifest.subjects().items()
        for session, path in sessions.items() if (who, session) not in listed and manifest.find(path)
    }
