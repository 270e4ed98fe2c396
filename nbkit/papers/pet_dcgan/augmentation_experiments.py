"""What the study of augmentation says, as tidy frames: accuracy and area under the curve of every test person, gains.

The paper gives one accuracy with synthetic images and says that it is 10 % more than without; everything else here are
the controls that such a gain owes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from nbkit.core.checks import known
from nbkit.core.stats import bootstrap_mean, paired_difference
from nbkit.core.tidy import stacked, tidy, where
from nbkit.papers.pet_dcgan.augmentation_study import CHANCE, CLASS_MEAN, EVERY_VIEW, PLAIN, REAL, SYNTHETIC
from nbkit.papers.pet_dcgan.experiments import OPEN

UNITS = {"accuracy": "%", "auc": "1"}
SHARES = {"quarter": 0.25, "half": 0.5, "full": 1.0}
NAMES = {REAL: "real", SYNTHETIC: "synthetic", PLAIN: "plain", CLASS_MEAN: "class_mean", CHANCE: "chance"}
"""Arms of the augmentation study as ids have them."""


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


def intervals(frame: pd.DataFrame, by: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Means of a tidy frame over people with their bootstrap 95 % intervals, a row for each group."""
    means = {key: bootstrap_mean(x.to_numpy(), seed=seed) for key, x in frame.groupby(list(by), sort=False)["value"]}
    rows = [(*key, m.value, m.low, m.high, m.n) for key, m in means.items()]
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "n"])


def choices(found: pd.DataFrame, published_kind: pd.DataFrame, kind: str) -> pd.DataFrame:
    """What two readings of the study move: who draws its images, and what "10% more" means.

    Parameters
    ----------
    found : DataFrame
        Of :func:`classified`, with the study's generator.
    published_kind : DataFrame
        The same of some of the people, all real ones, with a DCGAN per stage that is told nothing.
    kind : str
        The study's generator, in words.

    Returns
    -------
    DataFrame
        Rows of :func:`nbkit.papers.pet_dcgan.experiments.open_points`.
    """
    every = where(found, view=EVERY_VIEW, metric="accuracy", share=1.0)
    by = every.pivot(index="subject", columns="system", values="value")
    theirs = where(published_kind, view=EVERY_VIEW, metric="accuracy", share=1.0, system=SYNTHETIC)
    theirs = theirs.set_index("subject")["value"]
    moved = paired_difference(theirs, by.loc[theirs.index, SYNTHETIC])
    reading = bootstrap_mean(1.1 * by[REAL] - (by[REAL] + 10))
    rows = [
        ("Who draws for the classifier, accuracy with synthetic images", kind, "one per stage, told nothing", moved),
        ("'10% more', accuracy that it asks for", "ten points more", "1.1 times", reading),
    ]
    return pd.DataFrame([(*row[:3], row[3].value, row[3].low, row[3].high) for row in rows], columns=OPEN)
