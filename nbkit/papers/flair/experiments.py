"""The tables and figures of the paper as tidy frames, from cross-validated scores (Wei thesis, 2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort, Subject
from nbkit.core.tidy import COLUMNS, by_subject, stacked, tidy, where
from nbkit.core.volume import Volume
from nbkit.nets.fcn import count_parameters
from nbkit.papers.flair import forest_synthesis, modality_propagation
from nbkit.papers.flair.conv_synthesis import Config, ConvSynthesizer, build_network
from nbkit.papers.flair.metrics import FlairScore, contrast_ratios
from nbkit.papers.flair.saliency import p3s_maps, saliency_shares
from nbkit.papers.synthesis import linear, room
from nbkit.training.crossval import FoldLike, Result

METHODS = ("rf", "mp", "mlp", "unet", "fcn")
"""The five systems that the paper compares."""
CONTROLS = ("linear", "t2_linear", "mean")
"""Ours: regression on all inputs, on T2-w alone, and no input at all."""
BESIDE = ("own_scale", "longer", "longer_own")
"""Ours: the FCN with each image scaled by itself, and where weights come with the project, wider and trained longer."""
ENDS = ("person", "reach", "reach_tenfold", "floor")
"""Ours: what could be reached at all (:mod:`nbkit.papers.synthesis.room`)."""
ROLES = room.ROLES | {"t2_linear": "control"}
TITLES = {
    "own_scale": "3D FCN, each image scaled by itself", "longer": "3D FCN, published width, trained for longer",
    "longer_own": "the same, each image scaled by itself", "reach": "Reach: boosting, same people",
    "reach_tenfold": "Reach: boosting, ten times as many people", "floor": "Floor: the truth without noise",
}
WIDTHS = {"width32": "width32", "fcn": "width64", "width96": "width96"}
DEPTHS = {"depth2": "depth2", "fcn": "depth3", "depth4": "depth4", "depth6": "depth6"}
SHORT = {"T1w": "t1", "T1SE": "t1se", "T2w": "t2", "PDw": "pd", "DIR": "dir", "T1wCE": "t1ce"}
COMBINATIONS = (
    ("T1w", "DIR"), ("T2w", "DIR"), ("T1w", "T2w"), ("T1w", "T2w", "DIR"), ("T1w", "T2w", "PDw"), ("T1w", "T1wCE"),
)
UNET, MLP = {"network": "unet", "width": 16, "depth": 2}, {"network": "mlp", "width": 100, "depth": 2}
TIMED = "CPU, other jobs beside; includes scaling"


def middle_patients(cohort: Cohort) -> list[Subject]:
    """The two patients of median lesion volume (of an odd number the next larger too); the first subject if none."""
    volume = {subject.id: int(subject.baseline.mask("lesions").data.sum()) for subject in cohort}
    patients = sorted((s for s in cohort if volume[s.id]), key=lambda subject: volume[subject.id])
    middle = (len(patients) - 1) // 2
    return patients[max(middle, 0):middle + 2] or [cohort.subjects[0]]


def rivals(fcn: Config, *, profile: str) -> dict[str, Any]:
    """The paper's systems by name, unfitted, from the inputs of `fcn`, and the controls that it lacks."""
    shared = {"inputs": fcn.inputs, "over": fcn.over}
    given, plain = {**shared, "seed": fcn.seed}, linear.Config(**shared)
    # a cohort without T2-w has no such control
    t2 = {"t2_linear": linear.LinearSynthesizer(plain.changed(inputs=("T2w",)))} if "T2w" in fcn.inputs else {}
    return {
        "rf": forest_synthesis.ForestSynthesizer(forest_synthesis.Config.for_profile(profile, **given)),
        "mp": modality_propagation.ModalityPropagation(modality_propagation.Config.for_profile(profile, **given)),
        "mlp": ConvSynthesizer(fcn.changed(**MLP)), "unet": ConvSynthesizer(fcn.changed(**UNET)),
        "fcn": ConvSynthesizer(fcn), "linear": linear.LinearSynthesizer(plain),
        **t2, "mean": linear.LinearSynthesizer(plain.changed(inputs=())),
    }


def fewer_inputs(inputs: Sequence[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """What Table 2.4 leaves out: under "a" each sequence once, under "c" the combinations of legacy data sets.

    Where one sequence is all there is, nothing can be left out (:func:`missing_inputs` says so).
    """
    combined = {"_".join(map(short, c)): c for c in COMBINATIONS if set(c) <= set(inputs)}
    left = {f"no_{short(name)}": tuple(i for i in inputs if i != name) for name in inputs}
    return {"a": {name: some for name, some in left.items() if some}, "c": combined}


def short(contrast: str) -> str:
    """The name of a sequence in ids: the paper's, else its own in small letters and digits."""
    return SHORT.get(contrast, "".join(c for c in contrast.lower() if c.isalnum()))


def without_dir(systems: Mapping[str, Any]) -> dict[str, Any]:
    """The forest, the MLP and the U-Net without DIR (Table 2.4b); none for a cohort that has no DIR."""
    left = tuple(i for i in systems["rf"].config.inputs if i != "DIR")
    changed = {f"{name}_no_dir": systems[name] for name in ("rf", "mlp", "unet") if left != systems["rf"].config.inputs}
    return {name: type(system)(system.config.changed(inputs=left)) for name, system in changed.items()}


def missing_inputs(ids: Iterable[str], inputs: Sequence[str]) -> dict[str, str]:
    """Published ids that need a sequence which is not among `inputs`, with that sequence; Table 2.4b needs DIR.

    Of a single input nothing is left without it: what its ids lack is another sequence.
    """
    found: dict[str, str] = {}
    alone = {inputs[0]: f"sequence beside {inputs[0]}"} if len(inputs) == 1 else {}
    for name, lacks in ({n: n for n in Config().inputs if n not in inputs} | alone).items():
        named = [i for i in ids if short(name) in "_".join(i.split(".")[3:4]).split("_")]
        found |= dict.fromkeys([*named, *["wei2019.table2_4b"] * (name == "DIR")], lacks)
    return found


def ends(
    cohort: Cohort, folds: Sequence[FoldLike], fcn: Config, *, profile: str, score: FlairScore,
    fewer: Mapping[str, Sequence[str]], strangers: Cohort | None = None,
    noise_free: Mapping[tuple[str, str], Volume] | None = None, n_jobs: int = 1,
) -> pd.DataFrame:
    """What could be reached at all, as rows of scores: systems :data:`ENDS`, and the reach from fewer inputs.

    `fewer` names sets of inputs: ``"no_t1"`` becomes the system ``"reach_no_t1"``; without DIR there is the line too.
    """
    given = {"over": fcn.over, "normalise": fcn.normalise, "seed": fcn.seed}
    config = room.Config.for_profile(profile, inputs=fcn.inputs, **given)
    shared = {"score": score, "n_jobs": n_jobs}
    frames = [room.room(cohort, folds, config=config, strangers=strangers, noise_free=noise_free, only=ENDS, **shared)]
    for name, inputs in fewer.items():
        only = ("reach", "linear") if name == "no_dir" else ("reach",)
        found = room.room(cohort, folds, config=config.changed(inputs=tuple(inputs)), only=only, **shared)
        frames.append(found.assign(system=found["system"] + f"_{name}"))
    return stacked(*frames).drop(columns="role")


def rooms(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """The ends of both measures of Table 2.2, each end with its role: what ``run.room`` is given."""
    found = []
    for place, metric, unit in (("table2_2a", "mse", "z²"), ("table2_2b", "ssim", "SSIM")):
        frame = numbered(scores, place, tuple(ROLES), metric=metric, unit=unit)
        found.append({"frame": frame.assign(role=frame["system"].map(ROLES)), "of": (f"wei2019.{place}.{metric}.",)})
    found[0] |= {"measure": "squared error of FLAIR (z²)", "of": (*found[0]["of"], "wei2019.table2_1.mse.")}
    found[1] |= {"measure": "SSIM of FLAIR", "better": "higher"}
    return found


def lines(scores: pd.DataFrame, *, less: str = "") -> dict[str, float]:
    """Mean error of the floor and of the better reach, for lines across a chart.

    `less` that of a system, where the chart shows differences to it.
    """
    means = where(scores, metric="mse").groupby("system")["value"].mean()
    best = means.reindex(["reach", "reach_tenfold"]).idxmin()
    zero = means[less] if less else 0.0
    return {name: float(means[name] - zero) for name in (best, "floor") if name in means}


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
    frames = [scores.iloc[:0]] + [
        where(scores, system=name, metric=metric).assign(id=f"wei2019.{place}.{metric}.{called}", unit=unit)
        for name, called in named.items()
    ]
    return stacked(*frames)


def by_fold(frame: pd.DataFrame) -> pd.DataFrame:
    """The same numbers under the ids of their folds, as Tables 2.2 and 2.4 print them."""
    return frame.assign(id=frame["id"] + "." + frame["fold"])


def table_2_2(scores: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """Error (a) and structural similarity (b) of the paper's systems, our controls, `more`, and the ends."""
    systems = (*METHODS, *CONTROLS, *more, *ENDS)
    errors = numbered(scores, "table2_2a", systems)
    return stacked(errors, numbered(scores, "table2_2b", systems, metric="ssim", unit="SSIM"))


def folds_won(scores: pd.DataFrame, system: str = "unet") -> pd.DataFrame:
    """In how many folds `system` is the best of the paper's five (Section 2.3.2)."""
    found = []
    for metric, best in (("mse", "idxmin"), ("ssim", "idxmax")):
        means = where(scores, metric=metric).query("system in @METHODS").groupby(["fold", "system"])["value"].mean()
        won = int((getattr(means.unstack(), best)(axis=1) == system).sum())
        found.append(tidy(won, id=f"wei2019.text.folds.{system}_best_{metric}", system=system, metric=metric,
                          unit="folds"))
    return stacked(*found)


def about_blur(blur: pd.DataFrame) -> str:
    """Means of :func:`blur` in a sentence."""
    made, true = (where(blur, system=name)["value"].mean() for name in ("fcn", "truth"))
    return f"Gradient energy over that of the true scan: synthetic images {made:.2f}, true ones {true:.2f}."


def blur(scores: pd.DataFrame) -> pd.DataFrame:
    """Sharpness of the FCN's images and of the true ones; on simulated people the latter without their noise."""
    made = where(scores, system="fcn", metric="sharpness")
    clean = where(scores, system="floor", metric="sharpness")
    both = stacked(made, (clean if len(clean) else made.assign(value=1.0)).assign(system="truth"))
    return numbered(both, "text", ("fcn", "truth"), metric="sharpness", unit="ratio")


def table_2_1(scores: pd.DataFrame, results: Mapping[str, Result]) -> pd.DataFrame:
    """Width: error, and seconds for one image on this machine; any system called ``"width16"`` or so is a row more."""
    widths = WIDTHS | {name: name for name in scores["system"].unique() if name.startswith("width")}
    seconds = [
        tidy(results[name].seconds, id=f"wei2019.table2_1.seconds.{called}", system=name, metric="seconds", unit="s",
             note=TIMED) for name, called in widths.items()
    ]
    beside = {name: name for name in ("linear", "mean", *ENDS[1:])}
    own = numbered(scores, "table2_1", widths | {"linear": "linear"}, metric="mse_own")
    return stacked(numbered(scores, "table2_1", widths | beside), own, *seconds)


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


def convergence(results: Mapping[str, Result]) -> pd.DataFrame:
    """Figure 2.3 in numbers, for each person that was watched: validation error at the end, epochs until it had fallen.

    Fallen: 95 % of the way from its start to its lowest, read between strips on a straight line. A person whom several
    folds watched counts once, by the mean. Empty where nobody was left to validate on.
    """
    rows = [
        (f"wei2019.fig2_3.{metric}.{called}", person, name, metric, value, unit)
        for name, called in DEPTHS.items() for history in results[name].histories.values()
        for person, errors in history.get("watched", {}).items()
        for metric, value, unit in (
            ("mse", errors[-1], "z²"), ("epochs", _fallen(history["epochs"], errors), "epochs"),
        )
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.groupby([c for c in COLUMNS if c != "value"], sort=False, as_index=False)["value"].mean()


def _fallen(epochs: Sequence[int], errors: Sequence[float], share: float = 0.95) -> float:
    if min(errors) == errors[0]:
        return float(epochs[-1])  # never fell
    level = errors[0] - share * (errors[0] - min(errors))
    k = next(i for i, error in enumerate(errors) if error <= level)
    part = (errors[k - 1] - level) / (errors[k - 1] - errors[k])
    return epochs[k - 1] + part * (epochs[k] - epochs[k - 1])


def own_levels(scores: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """The error once each person's own scale and offset, fitted to the true image, are taken out."""
    systems = (*METHODS, *CONTROLS, *more, *BESIDE, *ENDS[1:])
    return numbered(scores, "table2_2a", systems, metric="mse_own")


def gain_table(scores: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """Mean error of each system, as it is and with each person's own scale and offset taken out."""
    columns = {"mse": "MSE (z²)", "mse_own": "MSE, own scale and offset (z²)"}
    kept = scores[scores["metric"].isin(columns)].groupby(["system", "metric"])["value"].mean().unstack()
    order = [name for name in (*METHODS, *CONTROLS, *more, *BESIDE, *ENDS[1:]) if name in kept.index]
    kept = kept.loc[order, list(columns)].rename(columns=columns)
    return kept.rename(index=TITLES).rename_axis(columns=None)


def table_2_3(scores: pd.DataFrame, cohort: Cohort, more: Sequence[str] = ()) -> pd.DataFrame:
    """Lesion contrast (Eq. 2.4) of the paper's systems, `more` and the true FLAIR, for subjects with lesions."""
    patients = [cohort.subject(s) for s in by_subject(scores, system="fcn", metric="ratio1")]
    true = {s.id: contrast_ratios(s, s.baseline.image("FLAIR")) for s in patients}
    rows = [("", s, "truth", metric, v, "", "") for s, ratios in true.items() for metric, v in ratios.items()]
    both = stacked(scores, pd.DataFrame(rows, columns=scores.columns))
    systems = (*METHODS, "truth", "linear", *more, *ENDS[1:])
    return stacked(*[numbered(both, "table2_3", systems, metric=m, unit="ratio") for m in ("ratio1", "ratio2")])


def saliency(result: Result, cohort: Cohort) -> dict[str, dict[str, Volume]]:
    """P3S maps of every subject, by the network that never saw it: subject id to map by input."""
    return {subject.id: p3s_maps(result.model_for(subject.id), subject.baseline) for subject in cohort}


def figure_2_6(cohort: Cohort, maps: Mapping[str, Mapping[str, Volume]]) -> pd.DataFrame:
    """Each input's share of the saliency, in the brain and in the CSF. `maps` is what :func:`saliency` gives."""
    frames = []
    for region, metric in (("brain", "saliency"), ("csf", "saliency_csf")):
        shares = {s: saliency_shares(m, cohort.subject(s).baseline.mask(region)) for s, m in maps.items()}
        for name in next(iter(shares.values())):
            values, id = {s: share[name] for s, share in shares.items()}, f"wei2019.fig2_6.{metric}.{short(name)}"
            frames.append(tidy(values, id=id, system=name, metric=metric, unit="share of the saliency"))
    return stacked(*frames)


def predicted(
    results: Mapping[str, Result], cohort: Cohort, subject: str, systems: Iterable[str] = METHODS
) -> dict[str, Volume]:
    """One subject's image as each of `systems` that ran predicts it, by a model that never saw it."""
    return {name: results[name].predictions(cohort, [subject])[subject] for name in systems if name in results}


def table_2_4(scores: pd.DataFrame, inputs: Sequence[str]) -> pd.DataFrame:
    """Errors with one sequence removed (a), without DIR (b) and from combinations of sequences (c).

    Each as it is, and with each person's own scale and offset taken out; and the reach from the same sequences.
    """
    fewer = fewer_inputs(inputs)
    all_inputs = {"fcn": "fcn", "reach": "reach", "floor": "floor"}
    parts = {"a": {name: name for name in fewer["a"]}, "c": {name: name for name in fewer["c"]}}
    frames = []
    for part, systems in parts.items():
        reaches = {f"reach_{name}": name for name in systems}
        alike = numbered(scores, f"table2_4{part}", reaches)
        frames += [numbered(scores, f"table2_4{part}", systems | all_inputs if systems else {}),
                   numbered(scores, f"table2_4{part}", systems, metric="mse_own"),
                   alike.assign(id=alike["id"].str.replace(".mse.", ".mse_reach."))]
    if "DIR" in inputs:
        systems = {f"{name}_no_dir": name for name in ("rf", "mlp", "unet", "linear", "reach")} | {"no_dir": "fcn"}
        frames.append(numbered(scores, "table2_4b", systems | {"floor": "floor"}))
        networks = {name: called for name, called in systems.items() if called in METHODS}
        frames.append(numbered(scores, "table2_4b", networks, metric="mse_own"))
    return stacked(*frames)
