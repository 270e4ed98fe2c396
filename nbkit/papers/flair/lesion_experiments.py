"""Figure 2.5: lesions that a segmenter of true FLAIR finds on true and on synthetic images (Wei thesis, 2.3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from nbkit.core.checks import require
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.tidy import stacked, tidy
from nbkit.core.volume import Volume
from nbkit.metrics.overlap import dice
from nbkit.papers.flair.lesion_segmenter import Config, LesionSegmenter
from nbkit.training.crossval import FoldLike
from nbkit.training.fitted import fitted

EXCELLENT = 0.7
"""Dice above which Zijdenbos et al. 1994 (IEEE TMI 13:716) call agreement excellent."""
TRUTH, METHOD = "truth", "fcn"
"""The true image, and the system whose images the paper segments."""


def lesions_found(
    cohort: Cohort, folds: Sequence[FoldLike], synthetic: Mapping[str, Mapping[str, Volume]], *, config: Config,
    cache: Cache | None = None,
) -> dict[str, dict[str, Volume]]:
    """Lesions that a segmenter finds on each patient's true image ("truth") and on those of each system.

    Parameters
    ----------
    cohort : Cohort
    folds : sequence of folds
        The segmenter of a fold is trained on the true images of its training subjects.
    synthetic : mapping of str to mapping of str to Volume
        By system, synthetic images by subject id, predicted by models of the same folds.

    Returns
    -------
    dict
        Subject id to masks by image, for subjects with lesions.
    """
    found = {}
    for fold in folds:
        segmenter = fitted(LesionSegmenter(config), cohort.subset(fold.train_ids), cache=cache)
        for subject in cohort.subset(fold.test_ids):
            scan = subject.baseline
            if bool(scan.mask("lesions").data.any()):
                images = {TRUTH: scan.image(config.contrast)} | {n: made[subject.id] for n, made in synthetic.items()}
                brain = scan.mask("brain")
                found[subject.id] = {name: segmenter.segment(v, mask=brain) for name, v in images.items()}
    return found


def agreement(cohort: Cohort, found: Mapping[str, Mapping[str, Volume]]) -> pd.DataFrame:
    """Dice of the lesions found: each system's image against the true one, and all against the reference mask.

    0 when neither mask has a lesion. `found` is what :func:`lesions_found` gives. Ids of systems other than the paper's
    end in their name.

    Raises
    ------
    NbkitError
        If nobody has lesions.
    """
    require(
        bool(found), f"cohort {cohort.name}: masks \"lesions\"", expected="a patient with lesions at least",
        found="none among those tested", remedy="Give patients with lesions, or leave Figure 2.5 out.",
    )
    masks = {s: {**images, "mask": cohort.subject(s).baseline.mask("lesions")} for s, images in found.items()}
    systems = [name for name in next(iter(found.values())) if name != TRUTH]
    pairs = [("dice_truth", TRUTH, "mask", METHOD)]
    for name in systems:
        pairs += [("dice", TRUTH, name, name), ("dice_synthetic", name, "mask", name)]
    frames = {}
    for metric, a, b, name in pairs:
        values = {s: _overlap(m[a], m[b]) for s, m in masks.items()}
        id = f"wei2019.fig2_5.{metric}.lesions" + (f".{name}" if name != METHOD else "")
        frames[id] = tidy(values, id=id, system=name, metric=metric, unit="Dice")
    first = frames["wei2019.fig2_5.dice.lesions"]
    above = first.assign(value=first["value"] - EXCELLENT, metric="agreement", id="wei2019.fig2_5.agreement.lesions")
    return stacked(*frames.values(), above)


def _overlap(a: Volume, b: Volume) -> float:
    return float(dice(a.data.bool()[None], b.data.bool()[None]).nan_to_num(0.0))


def dice_table(dices: pd.DataFrame, titles: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Number of patients, mean, SD and range of each Dice of :func:`agreement`; `titles`: what systems are called."""
    known = {METHOD: "synthetic", **(titles or {})}
    said = {"dice": "true vs {}", "dice_truth": "true vs reference", "dice_synthetic": "{} vs reference"}
    mine = dices[dices["metric"].isin(said)]
    rows = [said[m].format(known.get(s, s)) for m, s in zip(mine["metric"], mine["system"], strict=True)]
    return mine.groupby(rows, sort=False)["value"].agg(["count", "mean", "std", "min", "max"])
