"""What the study of augmentation says, as tidy frames: accuracy and area under the curve of every test person, gains.

The paper gives one accuracy with synthetic images and says that it is 10 % more than without; everything else here are
the controls that such a gain owes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.core.checks import known
from nbkit.core.protocols import Cohort
from nbkit.core.stats import bootstrap_mean, paired_difference
from nbkit.core.tidy import stacked, tidy, where
from nbkit.data.pet_slices import Slices, person_stage, slice_table
from nbkit.data.splits import Fold
from nbkit.papers.pet_dcgan.augmentation_study import CHANCE, CLASS_MEAN, EVERY_VIEW, PLAIN, REAL, SYNTHETIC
from nbkit.papers.pet_dcgan.generator_experiments import OPEN
from nbkit.papers.pet_dcgan.room import classifier_room

UNITS = {"accuracy": "%", "auc": "1"}
SHARES = {"quarter": 0.25, "half": 0.5, "full": 1.0}
NAMES = {REAL: "real", SYNTHETIC: "synthetic", PLAIN: "plain", CLASS_MEAN: "class_mean", CHANCE: "chance"}
"""Arms of the augmentation study as ids have them."""
DRAWERS = {"separate": "one DCGAN per stage, told nothing (published)", "conditional": "one conditional DCGAN"}


def cut(people: Cohort | None, *, pair: Sequence[str] = ("CN", "AD"), **options: Any) -> Slices | None:
    """Slices of the people of two stages, by :func:`nbkit.data.pet_slices.slice_table`; None of nobody."""
    if people is None:
        return None
    return slice_table(people.subset([s.id for s in people if person_stage(s) in pair]), **options)


def classified(subjects: pd.DataFrame, *, shuffled: bool = False) -> pd.DataFrame:
    """Accuracy and AUC of every test person, the mean over repeats, by view, arm and share of real people.

    Parameters
    ----------
    subjects : DataFrame
        Of :func:`nbkit.papers.pet_dcgan.augmentation_study.study`.
    shuffled : bool
        Of a study whose stages were dealt anew: a control.

    Returns
    -------
    DataFrame
        Tidy: system is the arm, "real_subjects" their mean number over folds; ids of all real people.
    """
    labels = ["view", "arm", "share", "subject"]
    counts = subjects.groupby(labels[:3])["real_subjects"].transform("mean")
    each = subjects.assign(real_subjects=counts, accuracy=100 * subjects["correct"], auc=subjects["placement"])
    means = each.groupby(labels, sort=False)[["real_subjects", "accuracy", "auc"]].mean().reset_index()
    frame = means.melt([*labels, "real_subjects"], var_name="metric").dropna().rename(columns={"arm": "system"})
    named = frame["system"].map({REAL: "shuffled"} if shuffled else NAMES).where(frame["share"] == 1)
    ids = "islam2020.augmentation." + frame["metric"] + "." + frame["view"].replace(EVERY_VIEW, "all") + "." + named
    stages = "dealt anew" if shuffled else "as they are"
    return frame.assign(id=ids.fillna(""), unit=frame["metric"].map(UNITS), stages=stages)


def gains(found: pd.DataFrame) -> pd.DataFrame:
    """Section 4: accuracy over all views with and without synthetic images, and the gain by share of real people."""
    every = where(found, view=EVERY_VIEW, metric="accuracy")
    arms = {name: where(every, share=share).pivot(index="subject", columns="system", values="value")
            for name, share in SHARES.items() if share in set(every["share"])}
    full = arms[known("full", arms, "gains: share of real people")]
    said = {f"augmentation.gain.{name}": (by[SYNTHETIC] - by[REAL], "points") for name, by in arms.items()} | {
        "text.accuracy.gain": (full[SYNTHETIC] - full[REAL], "points"), "text.accuracy.real": (full[REAL], "%"),
        "text.accuracy.synthetic": (full[SYNTHETIC], "%"), "augmentation.ten_points": (full[REAL] + 10, "%"),
    }
    return stacked(*(tidy(x.to_dict(), id=f"islam2020.{name}", unit=unit) for name, (x, unit) in said.items()))


def intervals(*frames: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean accuracy of all real people with its bootstrap 95 % interval, by view, arm and what the stages are."""
    every, rows = where(pd.concat(frames), metric="accuracy", share=1.0), []
    by = ["stages", "view", "system", "real_subjects"]
    for key, part in every.groupby(by, sort=False)["value"]:
        mean = bootstrap_mean(part.to_numpy(), seed=seed)
        rows.append((*key, mean.value, mean.low, mean.high, mean.n))
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "n"])


def as_printed(published: Mapping[str, float]) -> dict[str, float]:
    """Accuracy by arm, of published numbers by id."""
    return {arm: published[f"islam2020.text.accuracy.{NAMES[arm]}"] for arm in (SYNTHETIC, REAL)}


def rooms(
    accuracy: pd.DataFrame, slices: Slices, splits: Sequence[Fold], *, people: Cohort, strangers: Slices | None = None,
    seed: int = 0,
) -> list[tuple[pd.DataFrame, Mapping[str, Any]]]:
    """What :meth:`nbkit.claims.observe.Run.room` asks for, of each view and of all: frames and what they measure.

    Parameters
    ----------
    accuracy : DataFrame
        Of :func:`classified`.
    slices, splits, strangers
        As of :func:`nbkit.papers.pet_dcgan.room.classifier_room`.
    people : Cohort
        Those in the slices; where they are simulated, what was drawn of them is the floor.
    """
    found = []
    for view in dict.fromkeys(accuracy["view"]):
        place = view.replace(EVERY_VIEW, "all")
        of = [f"islam2020.augmentation.accuracy.{place}"]
        of += ["islam2020.augmentation.ten_points", "islam2020.text.accuracy"] if view == EVERY_VIEW else []
        frame = classifier_room(
            accuracy, slices, splits, view=view, strangers=strangers, truth=people if people.truth else None, seed=seed,
        )
        found.append((frame, {"of": of, "measure": f"accuracy of CN against AD, {view}, %", "better": "higher"}))
    return found


def choices(found: pd.DataFrame, others: pd.DataFrame, *, kind: str) -> pd.DataFrame:
    """What two readings of the study move: who draws its images, and what "10% more" means.

    Parameters
    ----------
    found : DataFrame
        Of :func:`classified`, with the study's generator.
    others : DataFrame
        Of a study of all real people of some folds, with the other of :data:`DRAWERS`.
    kind : str
        Of the study's generator.

    Returns
    -------
    DataFrame
        Rows of :func:`nbkit.papers.pet_dcgan.generator_experiments.open_points`.
    """
    every = where(found, view=EVERY_VIEW, metric="accuracy", share=1.0)
    by = every.pivot(index="subject", columns="system", values="value")
    theirs = where(classified(others), view=EVERY_VIEW, metric="accuracy", share=1.0, system=SYNTHETIC)
    theirs = theirs.set_index("subject")["value"]
    moved = paired_difference(theirs, by.loc[theirs.index, SYNTHETIC])
    reading = bootstrap_mean(1.1 * by[REAL] - (by[REAL] + 10))
    (other,) = set(DRAWERS) - {kind}
    rows = [
        ("Who draws for the classifier, accuracy with synthetic images", DRAWERS[kind], DRAWERS[other], moved),
        ("'10% more', accuracy that it asks for", "ten points more", "1.1 times", reading),
    ]
    return pd.DataFrame([(*row[:3], row[3].value, row[3].low, row[3].high) for row in rows], columns=OPEN)
