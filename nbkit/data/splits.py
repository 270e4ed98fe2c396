"""Splits by subject: cross-validation folds, nested validation, and the check that nobody sits on both sides."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nbkit.core.checks import check_disjoint, require
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.seeds import numpy_generator

LEAVE_ONE_OUT = "leave-one-out"


_FEWEST = 3
"""Visits without which nothing can be seen to change and then be predicted."""


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


def folds(cohort: Cohort, k: int, *, seed: int, group_of: Callable[[Subject], str] | None = None) -> list[Fold]:
    """Cross-validation folds by subject, stratified by diagnosis.

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
    group_of : callable, optional
        ``group_of(subject)`` names what must stay together, e.g. :func:`person_of` where several subjects are made from
        one real person. Groups are then dealt out whole, the largest first, in a random order among equals; `k`
        counts against groups, and strata play no part. Where every group is one subject, nothing changes.

    Raises
    ------
    NbkitError
        For fewer than two subjects (or groups) or two folds.
    """
    require(k >= 2, "folds: k", expected="at least 2 folds", found=k, remedy="Ask for 2 folds or more.")
    groups: dict[str, list[str]] = defaultdict(list)
    for subject in cohort:
        groups[str(group_of(subject)) if group_of else subject.id].append(subject.id)
    alone = len(groups) == len(cohort)
    require(
        len(groups) >= 2, f"folds: cohort {cohort.name}", expected=f"at least 2 {'subjects' if alone else 'groups'}",
        found=", ".join(groups) or "none", remedy="One person cannot be split: fetch or add more people.",
    )
    if len(groups) < 2 * k:
        names = sorted(cohort.ids if alone else groups)
        tests = [(name,) if alone else groups[name] for name in names]
        return _named(tests, LEAVE_ONE_OUT if alone else "leave-one-group-out")
    hands: list[list[str]] = [[] for _ in range(k)]
    if alone:
        for turn, subject in enumerate(_dealing_order(cohort, seed)):
            hands[turn % k].append(subject)
        return _named(hands, f"{k}-fold, stratified by diagnosis")
    shuffled = [str(g) for g in numpy_generator(seed, "folds", "groups").permutation(sorted(groups))]
    for name in sorted(shuffled, key=lambda g: -len(groups[g])):
        min(hands, key=len).extend(groups[name])
    return _named(hands, f"{k}-fold, whole groups")


def _dealing_order(cohort: Cohort, seed: int) -> list[str]:
    strata: dict[str, list[str]] = defaultdict(list)
    for subject in cohort:
        strata[str(subject.diagnosis)].append(subject.id)
    order = []
    for stratum, ids in sorted(strata.items(), key=lambda item: (len(item[1]), item[0])):
        order += [str(i) for i in numpy_generator(seed, "folds", "diagnosis", stratum).permutation(sorted(ids))]
    return order


def _named(tests: Sequence[Sequence[str]], kind: str) -> list[Fold]:
    everyone = sorted(i for test in tests for i in test)
    return [
        Fold(f"fold{n}", tuple(i for i in everyone if i not in test), tuple(sorted(test)), kind)
        for n, test in enumerate(tests, 1)
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

    Where nobody has as many, those with three. Who is looked at thus depends on nothing that was measured.
    """
    hands: dict[str, list[str]] = {}
    most_visits = max((len(subject.scans) for subject in cohort), default=0)
    enough = visits if most_visits >= visits else min(visits, _FEWEST)
    for subject in cohort:
        if len(subject.scans) >= enough:
            hands.setdefault(subject.diagnosis, []).append(subject.id)
    turns = range(max(map(len, hands.values()), default=0))
    order = [hand[k] for k in turns for hand in hands.values() if k < len(hand)]
    return cohort.subset(order[:most])
