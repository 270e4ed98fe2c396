"""sleepy_brain, hrv_er: older people scanned twice within weeks: how much of a difference is noise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nbkit.core.checks import known, require
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.data.manifest import Manifest, load_manifest
from nbkit.data.participants import number_at, sex_of
from nbkit.data.text_tables import read_text_table
from nbkit.phantom.scanned_again import prepared_cohort

TABLE = "participants.tsv"
_HEALTHY = "CN"


@dataclass(frozen=True)
class Design:
    """How a data set says who is who.

    Attributes
    ----------
    sessions : tuple of str
        First and second.
    id, group, older, sex, mmse : str
        Columns of :data:`TABLE`, and the value of `group` of older people; columns may be named otherwise in capitals.
    exclude : str
        Column by session, in which 1 means that its scan should be left out; "" where there is none.
    apart : str
        What lies between the sessions.
    """

    sessions: tuple[str, str]
    id: str
    group: str
    older: str
    sex: str
    apart: str
    mmse: str = ""
    exclude: str = ""


DESIGNS: Mapping[str, Design] = {
    "sleepy_brain": Design(
        ("1", "2"), "participant_id|participant", "AgeGroup", "Old", "Sex", mmse="MMSE",
        apart="Two sessions some four weeks apart, one of them after a night of little sleep, in an order drawn by "
        "lot: not ageing",
    ),
    "hrv_er": Design(
        ("pre", "post"), "participant_id", "age_group", "OA", "gender",
        exclude="QC_ses-{session}_anat-wholebrain_1excludeRecommend_0goodTouse",
        apart="Before and after five weeks of breathing training",
    ),
}
NAMES = tuple(DESIGNS)


def build(
    name: str, profile: str, *, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True,
    manifest: Manifest | None = None,
) -> Cohort:
    """The older people of a data set of whom both scans are here, without ages, which are published as groups alone.

    Parameters
    ----------
    name : {"sleepy_brain", "hrv_er"}
    profile, n_jobs, cache, progress, manifest
        As for :func:`nbkit.cohorts.dlbs.build`.

    Raises
    ------
    NbkitError
        If the table or everybody's second scan is missing, with the command that fetches them; for a table without the
        columns; by file, a wrong one.
    """
    manifest = manifest or load_manifest(known(name, DESIGNS, "retest: name"))
    place = manifest.locate(TABLE)
    require(
        place is not None, f"{name}: {TABLE}", expected="the table that says who is old", found="none here",
        remedy=f"Run `nbkit data fetch {name}`.",
    )
    people, left_out = roster(name, manifest, place)
    unverified = f"Who is old says {TABLE}, of which no hash is published: it is used as it was fetched"
    return prepared_cohort(
        manifest, people, profile, asked=[s.id for s in people], left_out=left_out, n_jobs=n_jobs, cache=cache,
        progress=progress, kind="test-retest", who=[DESIGNS[name].apart, unverified],
    )


def roster(name: str, manifest: Manifest, table: Path) -> tuple[tuple[Subject, ...], dict[str, str]]:
    """Older people with two sessions, without images, and by name who of them is left out, and why."""
    design, sessions = DESIGNS[name], manifest.subjects()
    rows, people, left_out = _rows(table, design), [], {}
    for who in sessions:
        row = rows.get(who)
        if row is None:
            left_out[who] = f"not in {TABLE}"
        elif row[design.group].lower() == design.older.lower():
            bad = [s for s in design.sessions if design.exclude and row[design.exclude.format(session=s)] == "1"]
            if bad:
                left_out[who] = f"session {' and '.join(bad)}: its authors recommend to exclude the scan"
            else:
                people.append(_subject(who, row, design))
    require(
        bool(people), f"{table.name}: {design.group}", expected=f"people of the group {design.older}", found="none",
        remedy=f"Delete {table} and run `nbkit data fetch {name}` again.",
    )
    return tuple(people), left_out


def older(manifest: Manifest) -> list[str]:
    """Ids of those whose scans are worth fetching; the table is fetched first."""
    place = manifest.fetch([TABLE], progress=False)[TABLE]
    return [subject.id for subject in roster(manifest.name, manifest, place)[0]]


def _rows(table: Path, design: Design) -> dict[str, Mapping[str, str]]:
    """Rows by person, under the names of the design."""
    frame = read_text_table(table, (), tabs=True)
    wanted = [design.id, design.group, design.sex, *filter(None, [design.mmse])]
    wanted += [design.exclude.format(session=s) for s in design.sessions if design.exclude]
    found = {name: _column(frame, name) for name in wanted}
    absent = [name.split("|")[0] for name, column in found.items() if column is None]
    require(
        not absent, f"{table.name}: columns", expected=", ".join(name.split("|")[0] for name in wanted),
        found=f"no {', '.join(absent)}",
        remedy=f"The table of another release, or no table: delete {table} and fetch it again.",
    )
    frame = frame[list(found.values())].set_axis(list(found), axis="columns")
    names = "sub-" + frame[design.id].str.removeprefix("sub-")
    return {who: row for who, row in zip(names, frame.to_dict("records"), strict=True)}


def _column(frame: pd.DataFrame, name: str) -> str | None:
    """The column of one of several names, whatever its capitals."""
    return next((c for c in frame if re.fullmatch(name, c, re.IGNORECASE)), None)


def _subject(who: str, row: Mapping[str, str], design: Design) -> Subject:
    scans: Sequence[Scan] = [Scan(who, session, None, {}, diagnosis=_HEALTHY) for session in design.sessions]
    mmse = number_at(row[design.mmse], where=f"{TABLE} {who}: {design.mmse}") if design.mmse else None
    covariates = {} if mmse is None else {"mmse": [mmse] * len(scans)}
    sex = sex_of(row[design.sex], where=f"{TABLE} {who}: {design.sex}")
    return Subject(who, sex, _HEALTHY, tuple(scans), covariates)
