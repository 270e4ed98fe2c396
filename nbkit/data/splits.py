"""Splits by subject: cross-validation folds, nested validation, and the check that nobody sits on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nbkit.core.checks import check_disjoint, known, require
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.seeds import numpy_generator

STRATA = ("diagnosis", "sex")
LEAVE_ONE_OUT = "leave-one-out"


@dataclass(frozen=True)
class Fold:
    """Who trains and who is tested.

    Parameters
    ----------
    name : str
        "fold1", "fold2", ...
    train_ids, test_ids : tuple of str
        Subject ids, disjoint.
    kind : str
        "5-fold, stratified by diagnosis" or "leave-one-out": goes into captions and provenance.
    """

    name: str
    train_ids: tuple[str, ...]
    test_ids: tuple[str, ...]
    kind: str

    def __post_init__(self) -> None:
        check_disjoint(self.train_ids, self.test_ids, where=self.name)


def person_of(subject: Subject) -> str:
    """The real person that a subject is, or is made from: covariate "person", else the subject itself."""
    return str(subject.covariates.get("person", subject.id))


def folds(
    cohort: Cohort, k: int, *, seed: int, by: str = "diagnosis", group_of: Callable[[Subject], str] | None = None,
) -> list[Fold]:
    """Cross-validation folds by subject, stratified.

    Subjects are shuffled within each stratum and dealt out in turn, the rarest stratum first, so that
    fold sizes, and the number of each stratum per fold, differ by at most one. With 20 patients and 4
    controls, five folds have the composition of Wei 2019, section 2.2.3: four folds of five subjects
    with one control each, and one of four patients. The order of `cohort` does not matter.

    Parameters
    ----------
    cohort : Cohort
    k : int
        Number of folds, at least 2. A cohort of fewer than 2·k subjects is split leave-one-out instead.
    seed : int
    by : {"diagnosis", "sex"}
    group_of : callable, optional
        ``group_of(subject)`` names what must stay together, e.g. :func:`person_of` where several subjects are made from
        one real person. Groups are then dealt out whole, the largest first, in a random order among equals; `k`
        counts against groups, and strata play no part. Where every group is one subject, nothing changes.

    Raises
    ------
    NbkitError
        For fewer than two subjects (or groups) or two folds, or an unknown stratum.
    """
    known(by, STRATA, "folds: by")
    groups = _grouped(cohort, group_of)
    if groups:
        return _group_folds(groups, k, seed=seed, where=f"folds: cohort {cohort.name}")
    require(k >= 2, "folds: k", expected="at least 2 folds", found=k, remedy="Ask for 2 folds or more.")
    require(
        len(cohort) >= 2, f"folds: cohort {cohort.name}", expected="at least 2 subjects", found=len(cohort),
        remedy="One subject cannot be split: fetch or add more subjects.",
    )
    if len(cohort) < 2 * k:
        return _named([(i,) for i in sorted(cohort.ids)], LEAVE_ONE_OUT)
    hands: list[list[str]] = [[] for _ in range(k)]
    for turn, subject in enumerate(_dealing_order(cohort, by, seed)):
        hands[turn % k].append(subject)
    return _named([tuple(sorted(hand)) for hand in hands], f"{k}-fold, stratified by {by}")


def _grouped(cohort: Cohort, group_of: Callable[[Subject], str] | None) -> dict[str, list[str]]:
    """Subject ids by group; empty when every subject is a group of its own."""
    groups: dict[str, list[str]] = {}
    for subject in cohort if group_of else ():
        groups.setdefault(str(group_of(subject)), []).append(subject.id)
    return groups if len(groups) < len(cohort) else {}


def _group_folds(groups: dict[str, list[str]], k: int, *, seed: int, where: str) -> list[Fold]:
    """Folds of whole groups; fewer than 2·k groups are left out one at a time."""
    require(k >= 2, "folds: k", expected="at least 2 folds", found=k, remedy="Ask for 2 folds or more.")
    require(
        len(groups) >= 2, where, expected="at least 2 groups", found=", ".join(groups),
        remedy="One real person cannot be split: add more people.",
    )
    if len(groups) < 2 * k:
        return _named([tuple(sorted(groups[name])) for name in sorted(groups)], "leave-one-group-out")
    shuffled = [str(g) for g in numpy_generator(seed, "folds", "groups").permutation(sorted(groups))]
    hands: list[list[str]] = [[] for _ in range(k)]
    for name in sorted(shuffled, key=lambda g: -len(groups[g])):
        min(hands, key=len).extend(groups[name])
    return _named([tuple(sorted(hand)) for hand in hands], f"{k}-fold, whole groups")


def _dealing_order(cohort: Cohort, by: str, seed: int) -> list[str]:
    strata: dict[str, list[str]] = {}
    for subject in cohort:
        strata.setdefault(str(getattr(subject, by)), []).append(subject.id)
    order = []
    for stratum, ids in sorted(strata.items(), key=lambda item: (len(item[1]), item[0])):
        order += [str(i) for i in numpy_generator(seed, "folds", by, stratum).permutation(sorted(ids))]
    return order


def _named(tests: Sequence[tuple[str, ...]], kind: str) -> list[Fold]:
    everyone = sorted(i for test in tests for i in test)
    return [
        Fold(f"fold{n}", tuple(i for i in everyone if i not in test), test, kind) for n, test in enumerate(tests, 1)
    ]


def inner_split(train_ids: Sequence[str], fraction: float, *, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split training subjects into those to fit and those to validate on (nested validation).

    Parameters
    ----------
    train_ids : sequence of str
        At least two subjects.
    fraction : float
        Share to validate on, in (0, 1); at least one subject stays on each side.
    seed : int

    Returns
    -------
    tuple
        ``(fit_ids, validation_ids)``, each sorted.
    """
    require(
        0 < fraction < 1, "inner_split: fraction", expected="a share between 0 and 1", found=fraction,
        remedy="Use for example 0.2.",
    )
    require(
        len(set(train_ids)) == len(train_ids) >= 2, "inner_split: train_ids",
        expected="at least 2 subjects, each once", found=", ".join(train_ids) or "none",
        remedy="With one training subject train for a fixed number of epochs instead of stopping early.",
    )
    n = min(max(round(fraction * len(train_ids)), 1), len(train_ids) - 1)
    shuffled = [str(i) for i in numpy_generator(seed, "inner_split").permutation(sorted(train_ids))]
    return tuple(sorted(shuffled[n:])), tuple(sorted(shuffled[:n]))


def subject_hash(ids: Iterable[str]) -> str:
    """Twelve hex digits of a set of subjects, whatever their order: goes beside trained weights."""
    return hashlib.sha256("\0".join(sorted(ids)).encode()).hexdigest()[:12]


def dealt(cohort: Cohort, most: int | None, *, visits: int = 4) -> Cohort:
    """At most so many people with `visits` or more, dealt by diagnosis in turn, in the order of the cohort.

    Who is looked at thus depends on nothing that was measured.
    """
    hands: dict[str, list[str]] = {}
    for subject in cohort:
        if len(subject.scans) >= visits:
            hands.setdefault(subject.diagnosis, []).append(subject.id)
    turns = range(max(map(len, hands.values()), default=0))
    order = [hand[k] for k in turns for hand in hands.values() if k < len(hand)]
    return cohort.subset(order[:most])
