"""The tables and figures of the paper as tidy frames, from cross-validated scores (Wei thesis, 2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.tidy import by_subject, stacked, tidy, where
from nbkit.core.volume import Volume
from nbkit.metrics.overlap import dice
from nbkit.nets.fcn import count_parameters
from nbkit.papers.flair import forest_synthesis, lesion_segmenter, modality_propagation
from nbkit.papers.flair.conv_synthesis import Config, ConvSynthesizer, build_network
from nbkit.papers.flair.metrics import contrast_ratios
from nbkit.papers.flair.saliency import p3s_maps, saliency_shares
from nbkit.papers.synthesis import linear
from nbkit.training.crossval import FoldLike, Result
from nbkit.training.fitted import fitted

METHODS = ("rf", "mp", "mlp", "unet", "fcn")
"""The five systems that the paper compares."""
CONTROLS = ("linear", "t2_linear", "mean")
"""Ours: regression on all inputs, on T2-w alone, and no input at all."""
WIDTHS = {"width32": "width32", "fcn": "width64", "width96": "width96"}
DEPTHS = {"depth2": "depth2", "fcn": "depth3", "depth4": "depth4", "depth6": "depth6"}
SHORT = {"T1w": "t1", "T1SE": "t1se", "T2w": "t2", "PDw": "pd", "DIR": "dir", "T1wCE": "t1ce"}
COMBINATIONS = (
    ("T1w", "DIR"), ("T2w", "DIR"), ("T1w", "T2w"), ("T1w", "T2w", "DIR"), ("T1w", "T2w", "PDw"), ("T1w", "T1wCE"),
)
UNET, MLP = {"network": "unet", "width": 16, "depth": 2}, {"network": "mlp", "width": 100, "depth": 2}
TIMED = "CPU, other jobs beside; includes scaling"


def most_lesions(cohort: Cohort) -> Subject:
    """The subject with the largest lesions."""
    return max(cohort, key=lambda subject: int(subject.baseline.mask("lesions").data.sum()))


def rivals(fcn: Config, *, profile: str) -> dict[str, Any]:
    """The paper's systems by name, unfitted, from the inputs of `fcn`, and the controls that it lacks."""
    given, plain = {"inputs": fcn.inputs, "seed": fcn.seed}, linear.Config(inputs=fcn.inputs)
    return {
        "rf": forest_synthesis.ForestSynthesizer(forest_synthesis.Config.for_profile(profile, **given)),
        "mp": modality_propagation.ModalityPropagation(modality_propagation.Config.for_profile(profile, **given)),
        "mlp": ConvSynthesizer(fcn.changed(**MLP)), "unet": ConvSynthesizer(fcn.changed(**UNET)),
        "fcn": ConvSynthesizer(fcn), "linear": linear.LinearSynthesizer(plain),
        "t2_linear": linear.LinearSynthesizer(plain.changed(inputs=("T2w",))),
        "mean": linear.LinearSynthesizer(plain.changed(inputs=())),
    }


def fewer_inputs(inputs: Sequence[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """What Table 2.4 leaves out: under "a" each sequence once, under "c" the combinations of legacy data sets."""
    combined = {"_".join(map(SHORT.get, c)): c for c in COMBINATIONS if set(c) <= set(inputs)}
    return {"a": {f"no_{SHORT[name]}": tuple(i for i in inputs if i != name) for name in inputs}, "c": combined}


def without_dir(systems: Mapping[str, Any]) -> dict[str, Any]:
    """The forest, the MLP and the U-Net without DIR (Table 2.4b); none for a cohort that has no DIR."""
    left = tuple(i for i in systems["rf"].config.inputs if i != "DIR")
    changed = {f"{name}_no_dir": systems[name] for name in ("rf", "mlp", "unet") if left != systems["rf"].config.inputs}
    return {name: type(system)(system.config.changed(inputs=left)) for name, system in changed.items()}


def missing_inputs(ids: Iterable[str], inputs: Sequence[str]) -> dict[str, str]:
    """Published ids that need a sequence which is not among `inputs`, with that sequence; Table 2.4b needs DIR."""
    found: dict[str, str] = {}
    for name in (name for name in Config().inputs if name not in inputs):
        named = [i for i in ids if SHORT[name] in i.split(".")[3].split("_")]
        found |= dict.fromkeys([*named, *["wei2019.table2_4b"] * (name == "DIR")], name)
    return found


def numbered(
    scores: pd.DataFrame, place: str, systems: Mapping[str, str] | Iterable[str], *, metric: str = "mse",
    unit: str = "z²",
) -> pd.DataFrame:
    """Scores of `systems` under their ids, ``wei2019.PLACE.METRIC.SYSTEM``.

    Parameters
    ----------
    scores : DataFrame
        Of :func:`nbkit.training.crossval.scores_frame`.
    place : str
        Table or figure: "table2_2a".
    systems : mapping of name to name, or names
        Which systems, in which order, and what the table calls them.
    """
    named = systems if isinstance(systems, Mapping) else {name: name for name in systems}
    frames = [
        where(scores, system=name, metric=metric).assign(id=f"wei2019.{place}.{metric}.{called}", unit=unit)
        for name, called in named.items()
    ]
    return stacked(*frames)


def by_fold(frame: pd.DataFrame) -> pd.DataFrame:
    """The same numbers under the ids of their folds, as Tables 2.2 and 2.4 print them."""
    return frame.assign(id=frame["id"] + "." + frame["fold"])


def table_2_2(scores: pd.DataFrame) -> pd.DataFrame:
    """Error (a) and structural similarity (b) of the paper's systems, and of the controls it lacks."""
    systems = (*METHODS, *CONTROLS)
    errors = numbered(scores, "table2_2a", systems)
    return stacked(errors, numbered(scores, "table2_2b", systems, metric="ssim", unit="SSIM"))


def table_2_1(scores: pd.DataFrame, results: Mapping[str, Result]) -> pd.DataFrame:
    """Width: error, and seconds for one image on this machine; any system called ``"width16"`` or so is a row more."""
    widths = WIDTHS | {name: name for name in scores["system"].unique() if name.startswith("width")}
    seconds = [
        tidy(results[name].seconds, id=f"wei2019.table2_1.seconds.{called}", system=name, metric="seconds", unit="s",
             note=TIMED) for name, called in widths.items()
    ]
    return stacked(numbered(scores, "table2_1", widths), *seconds)


def parameter_counts() -> pd.DataFrame:
    """Parameters of the published widths, and of the U-Net that Section 2.3.2 mentions."""
    networks = {f"table2_1.parameters.width{width}": Config(width=width) for width in (32, 64, 96)}
    networks["text.parameters.unet"] = Config(**UNET)
    return stacked(*[
        tidy(count_parameters(build_network(config)), id=f"wei2019.{name}", metric="parameters", unit="parameters")
        for name, config in networks.items()
    ])


def figure_2_3(results: Mapping[str, Result], systems: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Validation error along training, a row an epoch that was watched: epoch, setting, fold, value (z²).

    `systems` maps names of results to settings; the depths of the paper by default. Empty where nobody was left to
    validate on.
    """
    named = systems or {name: f"{called.removeprefix('depth')} layers" for name, called in DEPTHS.items()}
    rows = [
        (epoch, setting, fold, value) for name, setting in named.items()
        for fold, history in results[name].histories.items()
        for epoch, value in zip(history["epochs"], history["validation"], strict=False)
    ]
    return pd.DataFrame(rows, columns=["epoch", "setting", "fold", "value"])


def gain_free(scores: pd.DataFrame) -> pd.DataFrame:
    """The error once one factor per subject, fitted to the true image, has absorbed the scanner's gain."""
    return numbered(scores, "table2_2a", (*METHODS, *CONTROLS, "own_scale"), metric="mse_rescaled")


def gain_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean error of each system, as it is and after one factor per subject."""
    columns = {"mse": "MSE (z²)", "mse_rescaled": "MSE after one factor per subject (z²)"}
    kept = scores[scores["metric"].isin(columns)].groupby(["system", "metric"])["value"].mean().unstack()
    kept = kept.loc[[*METHODS, *CONTROLS, "own_scale"], list(columns)].rename(columns=columns)
    return kept.rename(index={"own_scale": "3D FCN, each image scaled by itself"}).rename_axis(columns=None)


def table_2_3(scores: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    """Lesion contrast (Eq. 2.4) of the paper's systems and of the true FLAIR, for subjects with lesions."""
    patients = [cohort.subject(s) for s in by_subject(scores, system="fcn", metric="ratio1")]
    true = {s.id: contrast_ratios(s, s.baseline.image("FLAIR")) for s in patients}
    rows = [("", s, "truth", metric, v, "", "") for s, ratios in true.items() for metric, v in ratios.items()]
    both = stacked(scores, pd.DataFrame(rows, columns=scores.columns))
    systems = (*METHODS, "truth")
    return stacked(*[numbered(both, "table2_3", systems, metric=m, unit="ratio") for m in ("ratio1", "ratio2")])


def lesions_found(
    cohort: Cohort, folds: Sequence[FoldLike], synthetic: Mapping[str, Volume], *,
    config: lesion_segmenter.Config, cache: Cache | None = None,
) -> dict[str, dict[str, Volume]]:
    """Lesions that a segmenter finds on each patient's "truth" and "synthetic" image (Wei thesis 2.3.2).

    Parameters
    ----------
    cohort : Cohort
    folds : sequence of folds
        The segmenter of a fold is trained on the true images of its training subjects.
    synthetic : mapping of str to Volume
        Synthetic image by subject id, predicted by models of the same folds.

    Returns
    -------
    dict
        Subject id to masks by image, for subjects with lesions.
    """
    found = {}
    for fold in folds:
        segmenter = fitted(lesion_segmenter.LesionSegmenter(config), cohort.subset(fold.train_ids), cache=cache)
        for subject in cohort.subset(fold.test_ids):
            scan = subject.baseline
            if bool(scan.mask("lesions").data.any()):
                images = {"truth": scan.image(config.contrast), "synthetic": synthetic[subject.id]}
                brain = scan.mask("brain")
                found[subject.id] = {name: segmenter.segment(v, mask=brain) for name, v in images.items()}
    return found


def figure_2_5(cohort: Cohort, found: Mapping[str, Mapping[str, Volume]]) -> pd.DataFrame:
    """Dice of the lesions found: true against synthetic image, and each against the reference mask.

    0 when neither mask has a lesion. `found` is what :func:`lesions_found` gives.
    """
    pairs = {"dice": ("truth", "synthetic"), "dice_truth": ("truth", "mask"), "dice_synthetic": ("synthetic", "mask")}
    masks = {s: {**images, "mask": cohort.subject(s).baseline.mask("lesions")} for s, images in found.items()}
    frames = []
    for metric, (a, b) in pairs.items():
        values = {s: _overlap(m[a], m[b]) for s, m in masks.items()}
        frames.append(tidy(values, id=f"wei2019.fig2_5.{metric}.lesions", system="fcn", metric=metric, unit="Dice"))
    return stacked(*frames)


def _overlap(a: Volume, b: Volume) -> float:
    return float(dice(a.data.bool()[None], b.data.bool()[None]).nan_to_num(0.0))


def dice_table(agreement: pd.DataFrame) -> pd.DataFrame:
    """Number of patients, mean, SD and range of each Dice of :func:`figure_2_5`."""
    said = {"dice": "true vs synthetic", "dice_truth": "true vs reference", "dice_synthetic": "synthetic vs reference"}
    table = agreement.groupby("metric", sort=False)["value"].agg(["count", "mean", "std", "min", "max"])
    return table.rename(said)


def saliency(result: Result, cohort: Cohort) -> dict[str, dict[str, Volume]]:
    """P3S maps of every subject, by the network that never saw it: subject id to map by input."""
    return {subject.id: p3s_maps(result.model_for(subject.id), subject.baseline) for subject in cohort}


def figure_2_6(cohort: Cohort, maps: Mapping[str, Mapping[str, Volume]]) -> pd.DataFrame:
    """Each input's share of the saliency, in the brain and in the CSF. `maps` is what :func:`saliency` gives."""
    frames = []
    for region, metric in (("brain", "saliency"), ("csf", "saliency_csf")):
        shares = {s: saliency_shares(m, cohort.subject(s).baseline.mask(region)) for s, m in maps.items()}
        for name in next(iter(shares.values())):
            values, id = {s: share[name] for s, share in shares.items()}, f"wei2019.fig2_6.{metric}.{SHORT[name]}"
            frames.append(tidy(values, id=id, system=name, metric=metric, unit="share of the saliency"))
    return stacked(*frames)


def predicted(
    results: Mapping[str, Result], systems: Iterable[str], cohort: Cohort, subject: str
) -> dict[str, Volume]:
    """One subject's image as each of `systems` predicts it, by a model that never saw it."""
    return {name: results[name].predictions(cohort, [subject])[subject] for name in systems}


def table_2_4(scores: pd.DataFrame, inputs: Sequence[str]) -> pd.DataFrame:
    """Errors with one sequence removed (a), without DIR (b) and from combinations of sequences (c)."""
    fewer = fewer_inputs(inputs)
    parts = {"a": {name: name for name in fewer["a"]}, "c": {name: name for name in fewer["c"]}}
    if "DIR" in inputs:
        parts["b"] = {f"{name}_no_dir": name for name in ("rf", "mlp", "unet")} | {"no_dir": "fcn"}
    return stacked(*[numbered(scores, f"table2_4{part}", systems) for part, systems in parts.items() if systems])


def choices() -> pd.DataFrame:
    """What the paper leaves open, by name of the variant that takes the other way."""
    rows = {
        "watch_test": ("whom early stopping watches", "training subjects held out", "the test fold, as the paper did"),
        "own_scale": ("z-scores over what", "all training images of a sequence", "each image by itself"),
        "relu": (
            "ReLU after the output layer (Sec. 2.2.1)", "no: half of the z-scores are negative",
            "yes, as the text reads",
        ),
        "last": ("weights kept", "of the lowest validation error", "of the last epoch"),
    }
    return pd.DataFrame(rows, index=["left open", "our choice", "the other way"]).T


def sizes(fcn: Config) -> pd.DataFrame:
    """How large the network is and how long it trains: as published, and in this run."""
    return pd.DataFrame({"published": _size(Config()), "this run": _size(fcn)}).T


def _size(c: Config) -> dict[str, Any]:
    crops = f"{c.crops_per_epoch} crops of {'×'.join(map(str, c.crop))}" if c.crop else "every image"
    return {
        "feature maps of a hidden layer": c.width // c.slim, "most epochs": c.epochs, "an epoch": crops,
        "learning rate": c.learning_rate,
    }


def about_gain(scores: pd.DataFrame) -> list[str]:
    """What the errors say about gain and training, as sentences."""
    rows = gain_table(scores).map("{:.3f}".format)
    (fcn, free), (forest, forest_free), (linear_, linear_free) = rows.loc[["fcn", "rf", "linear"]].to_numpy()
    own, own_free = rows.iloc[-1]
    return [
        f"Scaled over the cohort, the FCN's error is {fcn} z², the forest's {forest}.",
        f"With one factor per subject taken out they are {free} and {forest_free}: the rest of the first is gain.",
        f"The FCN on images scaled by themselves has {own}, and {own_free} with the factor taken out.",
        f"Linear regression on all inputs has {linear_} and {linear_free}.",
        "A network that loses to linear regression is short of training, or has learned the gains of its few subjects.",
    ]
