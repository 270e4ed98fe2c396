"""What could be won at all in notebook 07: in likeness to real people, in telling stages, and in classifying them.

A generator of a stage can at best give other people of that stage; a classifier can at best use what the slices tell.
Where people are simulated both are known, from the people themselves and from ten times as many strangers. Nobody's own
scale counts: no image is a prediction of a person, and a class has no scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nbkit.core.checks import check_disjoint, require
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import numpy_generator
from nbkit.core.tidy import stacked, tidy, where
from nbkit.data.pet_slices import Slices
from nbkit.data.splits import Fold
from nbkit.papers.pet_dcgan.augmentation_study import CHANCE, CLASS_MEAN, EVERY_VIEW
from nbkit.papers.pet_dcgan.features import SliceFeatureNet
from nbkit.papers.pet_dcgan.metrics import pairwise_quality

OTHER_STAGE, MEAN_IMAGE = "other_stage", "mean_image"
REACH, TENFOLD, FLOOR = "reach", "reach_tenfold", "floor"
ROLES: Mapping[str, str] = {
    OTHER_STAGE: "mean", MEAN_IMAGE: "control", REACH: "reach", TENFOLD: "reach", FLOOR: "floor",
}
UNITS = {"psnr": "dB", "ssim": "SSIM", "distance": "feature units", "accuracy": "%"}
PLACES = 8
"""A slice is seen as means over so many parts of each edge."""


def likeness_room(
    train: Slices, held_out: Slices, *, stage: str, strangers: Slices | None = None, most: int = 200, seed: int = 0
) -> pd.DataFrame:
    """PSNR and SSIM of held-out people's slices of a stage with images that nobody had to generate.

    "other_stage" (role mean): training people of the other stages; "mean_image" (control): the mean training image of
    the stage, level and view, which no person looks like; "reach": training people of the stage; "reach_tenfold":
    strangers of the stage; "floor": other held-out people of the stage. Values are means over a random image, as in the
    setting "random" of :func:`nbkit.papers.pet_dcgan.experiments.quality`.

    Parameters
    ----------
    train, held_out : Slices
        By person, of all stages; nobody in both.
    stage : str
    strangers : Slices, optional
        Of ``run.strangers()``, cut alike.
    most : int
        Images of a view compared with, at random.
    seed : int

    Returns
    -------
    DataFrame
        Tidy, metrics "psnr" and "ssim" (higher is better), with the columns "stage" and "role"; ids
        ``islam2020.quality.psnr.random.reach.cn``. For a room take one metric:
        ``run.room(where(frame, metric="psnr"), of="islam2020.quality.psnr.random", better="higher", ...)``.
    """
    check_disjoint(train.subjects, held_out.subjects, where="likeness_room")
    frames = []
    for view in dict.fromkeys(held_out.view):
        own = held_out.select(stages=stage, view=view)
        for name, (images, owners) in _sets(train, held_out, strangers, stage, view, most, seed).items():
            others = torch.from_numpy(np.array(own.subject)[:, None] != np.array(owners))
            for metric, values in zip(("psnr", "ssim"), pairwise_quality(own.images, images), strict=True):
                each = torch.where(others, values, 0).sum(dim=1) / others.sum(dim=1)
                frames.append(pd.DataFrame({
                    "subject": own.subject, "system": name, "metric": metric, "value": each.tolist()}))
    means = pd.concat(frames).groupby(["metric", "system", "subject"], sort=False)["value"].mean().reset_index()
    return _named(means, stage, "islam2020.quality.{metric}.random.{system}.{stage}")


def stage_room(
    train: Slices, held_out: Slices, *, stage: str, strangers: Slices | None = None, seed: int = 0
) -> pd.DataFrame:
    """Distance from held-out people's slices of a stage to the nearest of equally many images nobody had to generate.

    Systems and roles of :func:`likeness_room`, distances in the feature space of
    :func:`nbkit.papers.pet_dcgan.experiments.feature_scores` (lower is better); ids
    ``islam2020.stage.distance.reach.cn``.
    """
    check_disjoint(train.subjects, held_out.subjects, where="stage_room")
    net, there = SliceFeatureNet().fit(train.images), held_out.select(stages=stage)
    sets = _sets(train, held_out, strangers, stage, None, None, seed)
    size = min(len(owners) for name, (_, owners) in sets.items() if name != MEAN_IMAGE)
    rng, frames = numpy_generator(seed, "stage room", stage), []
    for name, (images, owners) in sets.items():
        kept = rng.permutation(len(owners))[:size]
        others = torch.from_numpy(np.array(there.subject)[:, None] != np.array(owners)[kept])
        apart = torch.cdist(net(there.images), net(images[torch.from_numpy(kept)]))
        nearest = torch.where(others, apart, torch.inf).amin(dim=1)
        frames.append(pd.DataFrame({"subject": there.subject, "system": name, "value": nearest.tolist()}))
    means = pd.concat(frames).groupby(["system", "subject"], sort=False)["value"].mean().reset_index()
    return _named(means.assign(metric="distance"), stage, "islam2020.stage.distance.{system}.{stage}")


def classifier_room(
    accuracy: pd.DataFrame, slices: Slices, splits: Sequence[Fold], *, pair: tuple[str, str] = ("CN", "AD"),
    view: str = EVERY_VIEW, strangers: Slices | None = None, truth: Cohort | None = None, seed: int = 0,
) -> pd.DataFrame:
    """Accuracy on people never seen: of chance and class means as found, and of what the slices tell strong learners.

    "reach" and "reach_ridge", gradient boosting and a ridge classifier on regional means of a person's slices,
    trained on the training people of every split; "reach_tenfold" and "reach_tenfold_ridge" on strangers; "floor",
    the ridge classifier on the true uptake and sizes that were drawn, which no scan shows so well.

    Parameters
    ----------
    accuracy : DataFrame
        Of :func:`nbkit.papers.pet_dcgan.augmentation_experiments.classified`, the stages as they are.
    slices : Slices
        Those of the study.
    splits : sequence of Fold
        Those of the study.
    pair : (str, str)
    view : str
        One view, or all.
    strangers : Slices, optional
        Cut alike.
    truth : Cohort, optional
        Simulated, with all people of `slices`; without it there is no floor.
    seed : int

    Returns
    -------
    DataFrame
        Tidy, metric "accuracy" (higher is better), with the column "role"; ids
        ``islam2020.augmentation.accuracy.all.reach``.
    """
    found = where(accuracy, metric="accuracy", view=view, share=1.0)
    require(
        {CHANCE, CLASS_MEAN} <= set(found["system"]), "classifier_room: accuracy", expected=f"{CHANCE}, {CLASS_MEAN}",
        found=sorted(found["system"].unique()), remedy="Give what classified(study(...)) says of all real people.",
    )
    rows = found.assign(role=found["system"].map({CHANCE: "mean", CLASS_MEAN: "control"}).fillna(""))
    table, id = _regional(slices.select(stages=pair), view), "islam2020.augmentation.accuracy."
    learners = {REACH: _boosting, f"{REACH}_ridge": _ridge}
    answers = {name: _over_splits(table, splits, pair, make, seed) for name, make in learners.items()}
    if strangers:
        many = _regional(strangers.select(stages=pair), view)
        for name, make in learners.items():
            learned = make(seed).fit(np.stack([*many["x"]]), many["stage"] == pair[1])
            people = _tested(table, splits)
            answers[name.replace(REACH, TENFOLD)] = _right(learned, people, pair)
    if truth:
        answers[FLOOR] = _over_splits(_drawn(truth, table), splits, pair, _ridge, seed)
    place = view.replace(EVERY_VIEW, "all")
    return stacked(rows, *(
        tidy(right, id=f"{id}{place}.{name}", unit=UNITS["accuracy"], system=name, metric="accuracy", view=view,
             share=1.0, role="floor" if name == FLOOR else "reach") for name, right in answers.items()
    ))


def _sets(
    train: Slices, held_out: Slices, strangers: Slices | None, stage: str, view: str | None, most: int | None, seed: int
) -> dict[str, tuple[torch.Tensor, tuple[str, ...]]]:
    """Images, and whose each is, by system; at most so many of each, at random. One person alone has no floor."""
    past, there = (table.select(stages=stage, view=view) for table in (train, held_out))
    tables = {OTHER_STAGE: train.select(stages=set(train.stage) - {stage}, view=view), REACH: past}
    tables |= {TENFOLD: strangers.select(stages=stage, view=view)} if strangers else {}
    tables |= {FLOOR: there} if len(there.subjects) > 1 else {}
    rng = numpy_generator(seed, "room", stage, view or "")
    kept = {name: table.at(rng.permutation(len(table))[:most].tolist()) for name, table in tables.items()}
    means = _mean_images(past)
    return {name: (t.images, t.subject) for name, t in kept.items()} | {MEAN_IMAGE: (means, ("mean",) * len(means))}


def _mean_images(slices: Slices) -> torch.Tensor:
    """The mean image of every view and level."""
    planes = list(zip(slices.view, slices.level_mm, strict=True))
    groups = [[k for k, own in enumerate(planes) if own == plane] for plane in dict.fromkeys(planes)]
    return torch.stack([slices.images[group].mean(dim=0) for group in groups])


def _named(frame: pd.DataFrame, stage: str, id: str) -> pd.DataFrame:
    ids = [id.format(stage=stage.lower(), **row) for row in frame.to_dict("records")]
    return frame.assign(
        id=ids, unit=frame["metric"].map(UNITS), stage=stage, role=frame["system"].map(ROLES))


def _regional(slices: Slices, view: str) -> pd.DataFrame:
    """By person: stage, and means over parts of all slices ("x"), in the order of planes."""
    seen = slices if view == EVERY_VIEW else slices.select(view=view)
    parts = F.adaptive_avg_pool2d(seen.images, PLACES).flatten(1).numpy()
    names = np.array(seen.subject)
    rows = [(name, seen.stage_of[name], parts[names == name].ravel()) for name in seen.subjects]
    return pd.DataFrame(rows, columns=["subject", "stage", "x"]).set_index("subject")


def _drawn(truth: Cohort, table: pd.DataFrame) -> pd.DataFrame:
    """The same people by what was drawn: ln uptake of every structure over normal, and ln growth of sizes."""
    rows = []
    for name in table.index:
        facts = truth.truth[name]
        levels = [np.log(value) for key, value in sorted(facts.items()) if key.startswith("factor.")]
        rows.append(np.array([*levels, *(np.log(v) for _, v in sorted(facts["size_change"].items()))]))
    return table.assign(x=rows)


def _boosting(seed: int) -> Any:
    return HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=150, max_leaf_nodes=8, l2_regularization=1.0, max_features=0.2, random_state=seed)


def _ridge(seed: int) -> Any:
    return make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 13)))


def _over_splits(
    table: pd.DataFrame, splits: Sequence[Fold], pair: tuple[str, str], make: Callable[[int], Any], seed: int
) -> dict[str, float]:
    """100 for each test person who is told right, by those who train in the person's split."""
    right: dict[str, list[float]] = {}
    for split in splits:
        check_disjoint(split.train_ids, split.test_ids, where=f"classifier_room: {split.name}")
        past, there = (table[table.index.isin(ids)] for ids in (split.train_ids, split.test_ids))
        learned = make(seed).fit(np.stack([*past["x"]]), past["stage"] == pair[1])
        for name, value in _right(learned, there, pair).items():
            right.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in right.items()}


def _tested(table: pd.DataFrame, splits: Sequence[Fold]) -> pd.DataFrame:
    return table[table.index.isin({name for split in splits for name in split.test_ids})]


def _right(learned: Any, people: pd.DataFrame, pair: tuple[str, str]) -> dict[str, float]:
    said = learned.predict(np.stack([*people["x"]]))
    return dict(zip(people.index, 100.0 * (said == (people["stage"] == pair[1]).to_numpy()), strict=True))
