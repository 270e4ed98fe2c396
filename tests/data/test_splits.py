"""Folds: the published composition, and what holds for any cohort."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Subject
from nbkit.data import splits


def cohort_of(**counts: int) -> Cohort:
    subjects = [Subject(f"{d}{n:02d}", "F", d, ()) for d, count in counts.items() for n in range(count)]
    return Cohort("test", tuple(subjects), "embedded")


def test_twenty_patients_and_four_controls_split_as_published():
    folds = splits.folds(cohort_of(MS=20, HC=4), 5, seed=7)
    patients = [sum(i.startswith("MS") for i in f.test_ids) for f in folds]
    controls = [sum(i.startswith("HC") for i in f.test_ids) for f in folds]
    assert patients == [4, 4, 4, 4, 4]
    assert controls == [1, 1, 1, 1, 0]
    assert [len(f.train_ids) for f in folds] == [19, 19, 19, 19, 20]
    assert folds[0].kind == "5-fold, stratified by diagnosis"


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=4), k=st.integers(2, 6), seed=st.integers(0, 2**31),
)
def test_every_subject_is_tested_once_and_strata_are_level(counts, k, seed):
    cohort = cohort_of(**dict(zip("ABCD", counts, strict=False)))
    if len(cohort) < 2 * k:
        return
    folds = splits.folds(cohort, k, seed=seed)
    assert sorted(i for f in folds for i in f.test_ids) == sorted(cohort.ids)
    assert all(set(f.train_ids) | set(f.test_ids) == set(cohort.ids) for f in folds)
    for stratum in ("", *"ABCD"):
        sizes = [sum(i.startswith(stratum) for i in f.test_ids) for f in folds]
        assert max(sizes) - min(sizes) <= 1


def test_order_of_the_cohort_does_not_matter_and_the_seed_does():
    cohort = cohort_of(MS=20, HC=4)
    turned = cohort.subset(reversed(cohort.ids))
    assert splits.folds(cohort, 5, seed=3) == splits.folds(turned, 5, seed=3)
    assert splits.folds(cohort, 5, seed=3) != splits.folds(cohort, 5, seed=4)


def test_a_small_cohort_is_split_leave_one_out():
    folds = splits.folds(cohort_of(MS=2), 5, seed=7)
    assert [f.test_ids for f in folds] == [("MS00",), ("MS01",)]
    assert {f.kind for f in folds} == {"leave-one-out"}
    assert splits.folds(cohort_of(MS=10), 5, seed=7)[0].kind.startswith("5-fold")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: splits.folds(c, 1, seed=7), "at least 2 folds"),
        (lambda c: splits.folds(c.subset(["MS00"]), 5, seed=7), "at least 2 subjects"),
        (lambda c: splits.inner_split(["a"], 0.2, seed=7), "fixed number of epochs"),
        (lambda c: splits.inner_split(["a", "a"], 0.2, seed=7), "each once"),
        (lambda c: splits.inner_split(["a", "b"], 1.0, seed=7), "a share between 0 and 1"),
        (lambda c: splits.check_disjoint(["a", "b", "c"], ["c", "d", "b"]), "found b, c"),
        (lambda c: splits.Fold("fold1", ("a",), ("a",), "by hand"), "fold1"),
    ],
)
def test_bad_splits_are_refused(call, message):
    with pytest.raises(NbkitError, match=message):
        call(cohort_of(MS=6))


@given(n=st.integers(2, 30), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
def test_inner_split_keeps_someone_on_both_sides(n, fraction, seed):
    ids = [f"s{i}" for i in range(n)]
    fit, validation = splits.inner_split(ids, fraction, seed=seed)
    assert sorted(fit + validation) == sorted(ids)
    assert fit and validation
    assert abs(len(validation) - fraction * n) <= 1
    assert splits.inner_split(ids[::-1], fraction, seed=seed) == (fit, validation)


def test_subject_hash_depends_on_the_set_only():
    assert splits.subject_hash(["a", "b"]) == splits.subject_hash(["b", "a"])
    assert splits.subject_hash(["a", "b"]) != splits.subject_hash(["ab"])
    assert len(splits.subject_hash(["a"])) == 12


# groups


def relatives(people: int, each: int) -> Cohort:
    """Subjects made from real people: `each` of every one, of alternating diagnoses."""
    subjects = [
        Subject(f"v{p}-{k}", "F", ("CN", "AD")[k % 2], (), {"person": f"p{p}"})
        for p in range(people) for k in range(each)
    ]
    return Cohort("relatives", tuple(subjects), "open")


@given(people=st.integers(2, 12), each=st.integers(2, 4), k=st.integers(2, 4), seed=st.integers(0, 99))
def test_relatives_stay_on_one_side(people, each, k, seed):
    cohort = relatives(people, each)
    split = splits.folds(cohort, k, seed=seed, group_of=splits.person_of)
    assert sorted(i for f in split for i in f.test_ids) == sorted(cohort.ids)
    for fold in split:
        sides = [{cohort.subject(i).covariates["person"] for i in ids} for ids in (fold.train_ids, fold.test_ids)]
        assert sides[0].isdisjoint(sides[1])
        assert sorted((*fold.train_ids, *fold.test_ids)) == sorted(cohort.ids)
    counts = [len(f.test_ids) for f in split]
    assert max(counts) - min(counts) <= each
    assert {f.kind for f in split} == {"leave-one-group-out" if people < 2 * k else f"{k}-fold, whole groups"}


def test_subjects_without_relatives_are_split_as_ever():
    alone = Cohort("alone", tuple(Subject(f"s{i}", "F", "CN", ()) for i in range(9)), "open")
    assert splits.folds(alone, 3, seed=1, group_of=splits.person_of) == splits.folds(alone, 3, seed=1)


def test_one_real_person_cannot_be_split():
    with pytest.raises(NbkitError, match="at least 2 groups, found p0"):
        splits.folds(relatives(1, 5), 2, seed=0, group_of=splits.person_of)


def test_people_are_dealt_by_diagnosis():
    visits = {f"{d}{n}": (SimpleNamespace(),) * (4 if n else 3) for d in ("AD", "CN") for n in range(4)}
    group = Cohort("test", tuple(Subject(i, None, i[:2], scans) for i, scans in visits.items()), "embedded")
    assert splits.dealt(group, 3).ids == ("AD1", "CN1", "AD2")
    assert len(splits.dealt(group, None)) == 6 and splits.dealt(group, 5, visits=3).ids[0] == "AD0"
    few = group.subset([name for name in group.ids if name.endswith("0")])
    assert splits.dealt(few, None).ids == ("AD0", "CN0"), "nobody has four visits: three will do"
    two = Cohort("two", (Subject("a", None, "CN", (SimpleNamespace(),) * 2),), "embedded")
    assert len(splits.dealt(two, None)) == 0
