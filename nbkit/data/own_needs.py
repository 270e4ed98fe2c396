"""What of own data each task can use, who is left out and why, and for which notebooks the rest suffices.

The run of a notebook and ``nbkit data check`` ask the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from nbkit.core.checks import NbkitError, counted, require
from nbkit.core.protocols import Cohort, Subject
from nbkit.data.check import read_own
from nbkit.data.findings import Finding, Reading
from nbkit.data.own_scans import subjects_of
from nbkit.data.pet import read_pet
from nbkit.data.splits import folds
from nbkit.data.tables import MASK, is_mask

HEALTHY = ("CN", "HC")
"""Diagnoses without lesions."""
TARGET, ANATOMY, BRAIN, LESIONS = "FLAIR", "T1w", f"{MASK}brain", f"{MASK}lesions"
MYELIN = (ANATOMY, "MTR", "FA", "RD", "AD", "DVR", *(f"{MASK}{m}" for m in ("brain", "lesions", "nawm", "wm", "csf")))
_LINES = 40
_DEFAULTS = {"profile": "laptop", "seed": 7}


@dataclass(frozen=True)
class Usable:
    """What a task takes of a table.

    Parameters
    ----------
    table : pandas.DataFrame
        The rows that are read.
    left_out : mapping of str to tuple of str
        Who (``subject`` or ``subject/session``), by reason.
    lacks : str
        Why the rest does not suffice, "" where it does.
    """

    table: pd.DataFrame
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lacks: str = ""

    @property
    def people(self) -> int:
        """How many can be used."""
        return self.table["subject"].nunique() if len(self.table) else 0

    def counts(self) -> dict[str, int]:
        """How many are left out, by reason: what results may say."""
        return {reason: len(who) for reason, who in self.left_out.items()}


def for_ageing(table: pd.DataFrame) -> Usable:
    """Every visit with a T1w image and an age."""
    reasons: dict[str, list[str]] = {}
    for (subject, session), rows in table.groupby(["subject", "session"], sort=True):
        why = "visits without T1w" if ANATOMY not in set(rows["contrast"]) else (
            "visits without an age" if rows["age_years"].isna().any() else "")
        reasons.setdefault(why, []).append(f"{subject}/{session}")
    good = set(reasons.pop("", ()))
    kept = table[(table["subject"] + "/" + table["session"]).isin(good) & table["contrast"].isin((ANATOMY, BRAIN))]
    lacks = "" if good else "T1w images of visits with an age: other contrasts do not help a model of ageing"
    return Usable(kept, {why: tuple(who) for why, who in reasons.items()}, lacks)


def for_flair(table: pd.DataFrame) -> Usable:
    """Everybody whose first visit has FLAIR, T1w and a lesion mask (controls need none), in the contrasts all have."""
    reasons: dict[str, list[str]] = {}
    first = _first_visits(table)
    for subject, rows in first.groupby("subject", sort=True):
        reasons.setdefault(_why_no_flair(rows), []).append(subject)
    good = first[first["subject"].isin(reasons.pop("", ()))]
    shared = [set(rows["contrast"]) for _, rows in _images(good).groupby("subject")]
    shared = set.intersection(*shared) if shared else set()
    for contrast in sorted(set(_images(good)["contrast"]) - shared):
        without = sorted(set(good["subject"]) - set(good.loc[good["contrast"] == contrast, "subject"]))
        reasons[f"{contrast}, which some do not have, is no input; people without it"] = without
    kept = good[good["contrast"].map(lambda name: is_mask(name) or name in shared).astype(bool)]
    return Usable(kept, {why: tuple(who) for why, who in reasons.items()}, _lacking_flair(kept))


def _images(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["contrast"].map(is_mask).astype(bool)]


def _first_visits(table: pd.DataFrame) -> pd.DataFrame:
    by_age = table.sort_values(["subject", "age_years", "session"], kind="stable")
    first = by_age.drop_duplicates("subject").set_index("subject")["session"]
    return table[table["session"] == table["subject"].map(first)]


def _why_no_flair(rows: pd.DataFrame) -> str:
    there = set(rows["contrast"])
    if TARGET not in there:
        return f"people without {TARGET} at the first visit"
    if ANATOMY not in there:
        return f"people without {ANATOMY} at the first visit, from which brain and tissues are read"
    healthy = rows["diagnosis"].iloc[0] in HEALTHY
    return "" if healthy or LESIONS in there else f"patients without {LESIONS} at the first visit"


def _lacking_flair(kept: pd.DataFrame) -> str:
    people = kept["subject"].nunique()
    if people < 2:
        return f"at least two people with {TARGET}, {ANATOMY} and {LESIONS} (in a CSV), found {people}"
    return "" if (kept["contrast"] == LESIONS).any() else f"at least one patient with {LESIONS}"


def for_myelin(table: pd.DataFrame) -> Usable:
    """Everybody whose visits have all contrasts and masks of notebooks 02 and 03."""
    reasons: dict[str, list[str]] = {}
    for (subject, session), rows in table.groupby(["subject", "session"], sort=True):
        missing = [name for name in MYELIN if name not in set(rows["contrast"])]
        reasons.setdefault(f"visits without {', '.join(missing)}" if missing else "", []).append(f"{subject}/{session}")
    good = set(reasons.pop("", ()))
    kept = table[(table["subject"] + "/" + table["session"]).isin(good)]
    groups = set(kept["diagnosis"])
    lacks = "" if {"MS", "HC"} <= groups else (
        f"patients (MS) and controls (HC) with {', '.join(MYELIN)}; found {', '.join(sorted(groups)) or 'nobody'}")
    return Usable(kept, {why: tuple(who) for why, who in reasons.items()}, lacks)


def restricted(cohort: Cohort, usable: Usable) -> Cohort:
    """The visits that can be used, and in the provenance how many are left out, by reason.

    Raises
    ------
    NbkitError
        If the rest does not suffice; what is needed is said.
    """
    require(
        not usable.lacks, cohort.name, expected=usable.lacks, found=counted(usable.counts()) or "nobody left out",
        remedy="`nbkit data check` says who lacks what.",
    )
    good = set(zip(usable.table["subject"], usable.table["session"], strict=True))
    subjects = (replace(s, scans=tuple(v for v in s.scans if (v.subject, v.session) in good)) for s in cohort)
    return told(replace(cohort, subjects=tuple(s for s in subjects if s.scans)), usable.counts())


def told(cohort: Cohort, reasons: Mapping[str, int]) -> Cohort:
    """The cohort with further reasons why somebody is left out in its provenance."""
    whole = dict(Counter(cohort.provenance.get("left_out", {})) + Counter(reasons))
    said = [f"Left out: {counted(whole)}; `nbkit data check` says who"]
    return replace(cohort, provenance=cohort.provenance | ({"left_out": whole, "who": said} if whole else {}))


TASKS: Mapping[str, Callable[[pd.DataFrame], Usable]] = {
    "flair": for_flair, "myelin": for_myelin, "ageing": for_ageing,
}
_VISITS = {"05": 4, "06": 2, "08": 4, "09": 3}
"""Visits that a notebook asks of somebody among its test people, at the default profile."""


def suffices(reading: Reading, path: Path, found: Iterable[Finding] = ()) -> dict[str, Usable]:
    """By number of the notebook, what it can use of a data set; ``lacks`` says what is missing.

    `found` are the findings of images (:func:`nbkit.data.check.look_at_images`): a scan that is refused serves nobody.
    Splits are those of the default profile and seed.
    """
    table, spoilt = _without_spoilt(reading.table, found)
    by_task = {task: _with(of(table), spoilt) for task, of in TASKS.items()}
    images = _images(table)
    told = {"00": Usable(images, spoilt, "" if len(images) else "an image"), "01": by_task["flair"]}
    twice = by_task["myelin"].table.groupby("subject")["session"].nunique() > 1
    told["02"] = by_task["myelin"]
    told["03"] = told["02"] if told["02"].lacks or twice.any() else _lacking(told["02"], "somebody with two visits")
    ageing = by_task["ageing"]
    for number in ("04", *_VISITS):
        told[number] = ageing if ageing.lacks else _lacking(ageing, _no_test_person(ageing.table, number))
    return dict(sorted((told | {"07": _pet(path)}).items()))


def in_words(reading: Reading, path: Path, found: Iterable[Finding]) -> list[str]:
    """For each notebook, how many people it takes and whom it leaves out by name, or what it needs."""
    if any(f.refused for f in reading.findings):
        return ["no notebook runs before what is refused in tables and headers is mended"]
    told = suffices(reading, path, found)
    none = all(usable.lacks for number, usable in told.items() if number != "00")
    return [
        f"notebook {number}: " + (f"needs {usable.lacks}" if usable.lacks else f"people: {usable.people}") + "".join(
            f"; {why}: {', '.join(who)}" for why, who in usable.left_out.items())
        for number, usable in told.items()
    ] + ["no notebook but 00 can run on these data"] * none


def account(path: Path) -> list[str]:
    """Who of a data set is read, and everybody and everything that is refused or left out, by name, with the reason.

    Empty for what is no data set of scans at all, which the notebooks refuse in their own words.
    """
    try:
        reading = read_own(path)
    except NbkitError:
        return []
    people = reading.table["subject"].nunique()
    told = [f"{'refused' if f.refused else 'left out'}: {f}" for f in reading.findings if f.refused or f.left_out]
    rest = [f"and {len(told) - _LINES} more: `nbkit data check`"] if len(told) > _LINES else []
    return [f"{reading.name}: {people} of {len(reading.subjects)} people can be read", *told[:_LINES], *rest]


def _without_spoilt(table: pd.DataFrame, found: Iterable[Finding]) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """The rows whose image can be used, and the others by name."""
    bad = {(f.subject, f.where) for f in found if f.refused}
    spoilt = pd.Series([pair in bad for pair in zip(table["subject"], table["place"], strict=True)], table.index, bool)
    names = table.loc[spoilt, ["subject", "session", "contrast"]].agg(" ".join, axis=1) if spoilt.any() else ()
    return table[~spoilt], {"scans that cannot be used": tuple(names)} if spoilt.any() else {}


def _with(usable: Usable, more: Mapping[str, tuple[str, ...]]) -> Usable:
    return Usable(usable.table, {**more, **usable.left_out}, usable.lacks)


def _lacking(usable: Usable, lacks: str) -> Usable:
    return Usable(usable.table, usable.left_out, lacks)


def _no_test_person(table: pd.DataFrame, number: str) -> str:
    """Why nobody among the test people of the first fold can be predicted; "" where somebody can."""
    people = Cohort("own", subjects_of(table, source="own", profile=_DEFAULTS["profile"]), "restricted")
    if len(people) < 2:
        return f"at least two people, found {len(people)}"
    split = folds(people, 3, seed=_DEFAULTS["seed"])[0]
    known = {people.subject(name).diagnosis for name in split.train_ids}
    test = [s for s in people.subset(split.test_ids) if s.diagnosis in known]
    if any(_able(subject, number) for subject in test):
        return ""
    able = sum(_able(subject, number) for subject in people)
    asked = "a visit two years or more after the first" if number == "04" else f"{_VISITS[number]} visits"
    return f"a test person with {asked}, and others of the same diagnosis to learn from; {able} people have as much"


def _able(subject: Subject, number: str) -> bool:
    ages: Sequence[float] = [scan.age for scan in subject.scans]
    return ages[-1] - ages[0] >= 2 if number == "04" else len(ages) >= _VISITS[number]


def _pet(path: Path) -> Usable:
    try:
        files = read_pet(path) if path.is_dir() else ()
    except NbkitError as error:
        return Usable(pd.DataFrame(), lacks=f"{error.expected}; found {error.found}"[:300])
    people = pd.DataFrame({"subject": [file.subject for file in files]})
    return Usable(people, lacks="" if files else "a BIDS folder with FDG scans in pet/")
