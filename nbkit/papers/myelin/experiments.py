"""Tables and figures of chapter 3 (Wei et al., Med. Image Anal. 2019) as tidy frames, from cross-validated scores.

`scores` is :func:`nbkit.training.crossval.scores_frame` of systems scored by :class:`MyelinScore`; to leave people or
systems out, pass fewer of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.tidy import paired, stacked, tidy, where
from nbkit.core.volume import Volume
from nbkit.data.synthesis import on_grid
from nbkit.metrics.stats import two_sample_p
from nbkit.papers.myelin.metrics import CONTROLS, REGIONS, ControlNorm, Course, MyelinScore

UNITS = {
    "mse": "DVR²", "mse_brain": "DVR²", "psnr": "dB", "percent": "%", "percent_t0": "%", "percent_t1": "%",
    "dice": "Dice", "chance": "Dice", "mae": "DVR", "discrepancy": "DVR", "mean": "DVR",
    "sharpness": "share of the true energy",
}
"""Of a metric, or of what its name begins with; all others are fractions."""
DISCREPANCIES = {f"discrepancy_{region}": region for region in REGIONS}
UNANSWERED = {
    "wei2019m.data.dose": "a simulated scan has no dose", "wei2019m.fig3_8.dice.example": "other patients",
    "wei2019m.text.patches": "counts of patches that no network here sees", "wei2019m.text.p": "which test is not said",
}
"""Beginnings of ids that no run answers, and why."""
ENDS = ("floor", "reach", "reach_tenfold")
"""Systems of a room (:mod:`nbkit.papers.synthesis.room`) that are neither trained nor controls."""
_ROOMS = {
    "mse": (("wei2019m.table3_1.mse.", "wei2019m.fig3_5.mse.iteration"), "MSE over the image, DVR²", "lower"),
    "psnr": (("wei2019m.table3_1.psnr.",), "PSNR, dB", "higher"),
    **{metric: ((f"wei2019m.table3_2.{region}.", f"wei2019m.fig3_5.{region}.iteration"),
                f"discrepancy of mean DVR, {region}", "lower") for metric, region in DISCREPANCIES.items()},
    "discrepancy_wm_nawm": (("wei2019m.fig3_7.abs.wm_nawm.",), "discrepancy of mean DVR, wm_hc and nawm", "lower"),
    "dice_demyelinated": (("wei2019m.fig3_8.dice.",), "Dice of demyelinated voxels", "higher"),
}


def numbered(frame: pd.DataFrame, ids: Mapping[str, str]) -> pd.DataFrame:
    """The rows of the metrics in `ids`, with unit and id: ``{"mse": "wei2019m.table3_1.mse.{system}"}``."""
    parts = []
    for metric, pattern in ids.items():
        rows = where(frame, metric=metric)
        # the person's part is what its own scale takes out: there is no second time
        rows = rows[rows["system"] != "person"] if metric.endswith("_own") else rows
        unit = UNITS.get(metric) or UNITS.get(metric.split("_")[0], "fraction")
        parts.append(rows.assign(id=[pattern.format(system=name) for name in rows["system"]], unit=unit))
    return stacked(*parts)


def image_quality(scores: pd.DataFrame) -> pd.DataFrame:
    """Table 3.1: MSE (Eq. 3.8) and PSNR (Eq. 3.9) over whole images; and the MSE inside the brain, which is ours.

    Of both MSE also what is left after each person's own scale and offset.
    """
    return numbered(scores, {
        "mse": "wei2019m.table3_1.mse.{system}", "psnr": "wei2019m.table3_1.psnr.{system}",
        "mse_own": "wei2019m.table3_1.mse_own.{system}", "mse_brain": "wei2019m.brain.mse.{system}",
        "mse_brain_own": "wei2019m.brain.mse_own.{system}",
    })


def looks(scores: pd.DataFrame) -> pd.DataFrame:
    """Figure 3.4 as a measure: gradient energy inside the brain over that of the true map."""
    shown = scores[~scores["system"].isin(("person", "reach_tenfold"))]
    return numbered(shown, {"sharpness": "wei2019m.looks.sharpness.{system}"})


def rooms(ends: pd.DataFrame, chapter: Mapping[str, Any] = _ROOMS) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """What :meth:`nbkit.claims.observe.Run.room` asks for, of every measure that methods are compared by.

    Parameters
    ----------
    ends : DataFrame
        Of :func:`nbkit.papers.synthesis.room.room`.
    """
    pooled, found = ends["metric"].isin(("discrepancy_wm_hc", "discrepancy_nawm")), []
    ends = stacked(ends, ends[pooled].assign(metric="discrepancy_wm_nawm"))
    for metric, (of, measure, better) in chapter.items():
        rows = numbered(ends, {metric: of[0] + "{system}"})
        rows = rows[rows["system"] != "person"] if metric == "dice_demyelinated" else rows
        if {"mean", "control", "reach"} <= set(rows["role"]):
            found.append((rows, {"of": of, "measure": measure, "better": better}))
    return found


def region_errors(scores: pd.DataFrame) -> pd.DataFrame:
    """Table 3.2: discrepancy of mean DVR by region, also after each person's own scale and offset.

    And, ours, the mean absolute error over lesion voxels.
    """
    ids = {metric: f"wei2019m.table3_2.{region}.{{system}}" for metric, region in DISCREPANCIES.items()}
    ids |= {f"{metric}_own": f"wei2019m.table3_2.{region}_own.{{system}}" for metric, region in DISCREPANCIES.items()}
    return numbered(scores, ids | {"mae_lesions": "wei2019m.voxels.mae_lesions.{system}"})


def region_gains(scores: pd.DataFrame, against: str = "refiner") -> pd.DataFrame:
    """Discrepancy of each system minus that of `against` on the same person, in NAWM and in lesions."""
    parts = [paired(where(scores, metric=metric), against) for metric in DISCREPANCIES if metric != "discrepancy_wm_hc"]
    return numbered(stacked(*parts), {
        metric: f"wei2019m.gain.{region}.{{system}}" for metric, region in DISCREPANCIES.items() if region != "wm_hc"
    })


def refinements(
    scores: pd.DataFrame, chain: Sequence[str] = ("cgan", "refiner", "refiner2", "refiner3")
) -> pd.DataFrame:
    """Figure 3.5: MSE and discrepancies by number of refinements; rows of metric "gain": what each took away.

    Further columns: structure (region, or "whole image"), iteration (0: the Sketcher).
    """
    names = {"mse": "mse"} | DISCREPANCIES
    found = scores[scores["system"].isin(chain) & scores["metric"].isin(names)]
    found = numbered(found, {metric: f"wei2019m.fig3_5.{name}" for metric, name in names.items()})
    found["iteration"] = found["system"].map({name: k for k, name in enumerate(chain)})
    found["structure"] = found["metric"].map({"mse": "whole image"} | DISCREPANCIES)
    key = ["structure", "subject", "iteration"]
    before = found.assign(iteration=found["iteration"] + 1).set_index(key)["value"].rename("before")
    gains = found.join(before, on=key, how="inner").sort_values("iteration", kind="stable")
    steps = [f"{k - 1}{k}" for k in gains["iteration"]]
    gains = gains.assign(value=gains["before"] - gains["value"], id=gains["id"] + ".gain" + steps, metric="gain")
    found["id"] += ".iteration" + found["iteration"].astype(str)
    return stacked(found, gains.drop(columns="before"))


def region_means(
    scores: pd.DataFrame, systems: Sequence[str] = ("refiner", "unet", "cgan", "dnn")
) -> pd.DataFrame:
    """Figure 3.6: mean DVR by region, true (system "truth") and predicted; the region is in the column structure."""
    made, parts = scores[scores["system"].isin(systems)], []
    for region in REGIONS:
        true = where(made, metric=f"true_mean_{region}", system=systems[0]).assign(system="truth")
        parts += [rows.assign(structure=region) for rows in (true, where(made, metric=f"mean_{region}"))]
    found = stacked(*parts)
    ids = "wei2019m.fig3_6." + found["structure"] + "." + found["system"]
    return found.assign(id=ids, metric="mean", unit="DVR")


def region_tests(means: pd.DataFrame, systems: Sequence[str] = ("truth", "refiner")) -> pd.DataFrame:
    """The t-tests of Figure 3.6, two-sided; and the controls' mean as a level to compare patients' NAWM with."""
    parts = []
    for system in systems:
        groups = {r: where(means, system=system, structure=r).set_index("subject")["value"] for r in REGIONS}
        for one, other in (("nawm", "wm_hc"), ("lesions", "nawm")):
            name = f"wei2019m.fig3_6.p.{one}_vs_{other}.{system}"
            parts.append(tidy(two_sample_p(groups[one], groups[other]), id=name, unit="p", system=system, metric="p"))
        level = dict.fromkeys(groups["nawm"].index, groups["wm_hc"].mean())
        parts.append(tidy(level, id=f"wei2019m.fig3_6.wm_hc_level.{system}", unit="DVR", system=system, metric="mean"))
    return stacked(*parts).dropna(subset="value")


def agreement(means: pd.DataFrame) -> pd.DataFrame:
    """Figure 3.7: predicted minus true means of :func:`region_means` (metric "bias"), and their sizes ("abs").

    Column structure: "lesions", or "wm_nawm" for white matter of controls and NAWM of patients together; column true:
    the true mean.
    """
    key = ["structure", "subject"]
    true = where(means, system="truth").set_index(key)["value"].rename("true")
    gaps = means[means["system"] != "truth"].join(true, on=key)
    group = gaps["structure"].replace({"wm_hc": "wm_nawm", "nawm": "wm_nawm"})
    ids = "wei2019m.fig3_7.bias." + group + "." + gaps["system"]
    bias = gaps.assign(value=gaps["value"] - gaps["true"], metric="bias", structure=group, id=ids)
    sizes = where(bias, structure="wm_nawm")
    ids = sizes["id"].str.replace(".bias.", ".abs.")
    return stacked(bias, sizes.assign(value=sizes["value"].abs(), metric="abs", id=ids))


def demyelination(scores: pd.DataFrame, norm: ControlNorm, system: str = "refiner") -> pd.DataFrame:
    """Figure 3.8: demyelinated share of the lesions (%) and Dice with the truth, by system.

    With it the true share (system "truth"), the Dice of as many voxels at random as `system` finds ("chance"), and the
    share of control white matter below the threshold ("control WM"), which belongs to nobody.
    """
    scores = scores[scores["system"] != "person"]
    own = where(scores, system=system)
    true = where(own, metric="true_percent").assign(system="truth", metric="percent")
    chance = where(own, metric="dice_chance").assign(system="chance", metric="dice_demyelinated")
    found = numbered(stacked(true, scores, chance), {
        "percent": "wei2019m.fig3_8.percent.{system}", "dice_demyelinated": "wei2019m.fig3_8.dice.{system}",
    })
    return stacked(found, chance_floor(norm, "wei2019m.fig3_8.chance_floor"))


def chance_floor(norm: ControlNorm, id: str, metric: str = "percent") -> pd.DataFrame:
    """Share of control white matter that lies below its own threshold (%): what the rule finds where nothing is."""
    return tidy(100 * norm.chance_floor, id=id, unit="%", system="control WM", metric=metric)


def dice_ends(dice: pd.DataFrame) -> dict[str, str]:
    """The subjects with the "highest Dice" and the "lowest Dice" among rows of one system and metric."""
    values = dice.set_index("subject")["value"]
    return {"highest Dice": values.idxmax(), "lowest Dice": values.idxmin()}


def examples(
    people: Cohort, found: Mapping[str, Mapping[str, Course]], system: str, chosen: Mapping[str, str]
) -> dict[str, tuple[Scan, Course, Course]]:
    """First scan, true and predicted maps of chosen patients, by label: what maps are drawn from.

    Parameters
    ----------
    found : mapping
        Of :func:`nbkit.papers.myelin.index_experiments.courses`.
    chosen : mapping of label to subject id
    """
    true, ours = found["truth"], found[system]
    return {label: (people.subject(s).baseline, true[s], ours[s]) for label, s in chosen.items()}


def attention_saliency(model: Any, scan: Scan) -> Volume:
    """|∂Loss/∂I_M| of the generator, the maximum over the input contrasts (Wei thesis 3.2.3, Eq. 3.7).

    Loss is the voxelwise term of the system's last stage with its own weighting of regions. The adversarial term is
    left out: the text asks for the prediction loss, and discriminators are not kept after training. The gradient
    passes through all stages.

    Parameters
    ----------
    model : a fitted MyelinSynthesizer
        Or whatever has ``config.inputs``, ``example(scan)`` and a differentiable ``loss(inputs, example)``.

    Returns
    -------
    Volume
        Not negative, in units of the loss per z-score; 0 outside the mask "brain".
    """
    example = model.example(scan)
    inputs = example.inputs[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.loss(inputs, example).sum(), inputs)
    strongest = gradient[0, : len(model.config.inputs)].abs().amax(0)
    return on_grid(strongest, mask=scan.mask("brain"), step="attention saliency map")


def lesion_share(saliency: Volume, lesions: Volume) -> float:
    """Share of the total saliency inside the lesions, 0 to 1; NaN without a lesion or without any saliency."""
    saliency.check_grid(lesions, "lesion_share: saliency and lesions")
    inside, values = lesions.data[0].bool(), saliency.data[0].double()
    total = float(values.sum())
    return float(values[inside].sum()) / total if bool(inside.any()) and total > 0 else float("nan")


def saliency_maps(results: Mapping[str, Any], people: Sequence[Subject]) -> dict[str, dict[str, Volume]]:
    """Attention saliency by name of the loss and subject, of the model that has not seen them."""
    return {
        loss: {s.id: attention_saliency(result.model_for(s.id), s.baseline) for s in people}
        for loss, result in results.items()
    }


def saliency_shares(maps: Mapping[str, Mapping[str, Volume]], people: Sequence[Subject]) -> pd.DataFrame:
    """Figure 3.9: share of the saliency inside lesions and ventricles, by loss; and of the brain's voxels ("voxels").

    `people` without such a region are left out.
    """
    parts = []
    for region in ("lesions", "ventricles"):
        masks = {s.id: s.baseline.masks[region] for s in people if region in s.baseline.masks}
        masks = {s: mask for s, mask in masks.items() if mask.data.any()}
        brains = {s.id: s.baseline.mask("brain") for s in people}
        sizes = {s: int(mask.data.sum()) / int(brains[s].data.sum()) for s, mask in masks.items()}
        parts.append(tidy(sizes, system="voxels", metric="share", structure=region))
        for loss, by_subject in maps.items():
            shares = {s: lesion_share(by_subject[s], mask) for s, mask in masks.items()}
            labels = {"unit": "share of the saliency", "system": loss, "metric": "share", "structure": region}
            parts.append(tidy(shares, id=f"wei2019m.fig3_9.share.{region}.{loss}", **labels))
    return stacked(*parts)


def contrast_sets(scores: pd.DataFrame, all_contrasts: str = "refiner") -> pd.DataFrame:
    """Tables 3.3 and 3.4: the Refiner on MTR, on MTR and RD ("mtr", "mtr_rd") and on all; what each step gains.

    Of :data:`ENDS`, where there are any, the errors on all contrasts.
    """
    found = scores[scores["system"].isin(("mtr", "mtr_rd", all_contrasts, *ENDS))].replace({all_contrasts: "mtr_dti"})
    ids = {"mse": "wei2019m.table3_3.mse.{system}", "psnr": "wei2019m.table3_3.psnr.{system}"}
    ids |= {metric: f"wei2019m.table3_4.{region}.{{system}}" for metric, region in DISCREPANCIES.items()}
    parts, gains = [numbered(found, ids)], {"mse": "table3_3.gain.{step}"}
    gains |= {metric: f"table3_4.gain.{{step}}.{region}" for metric, region in DISCREPANCIES.items()}
    for step, before, after in (("rd", "mtr", "mtr_rd"), ("fa_ad", "mtr_rd", "mtr_dti")):
        for metric, id in gains.items():
            errors = found[found["system"].isin((before, after)) & (found["metric"] == metric)]
            gained = numbered(paired(errors, after), {metric: f"wei2019m.{id.format(step=step)}"})
            parts.append(gained.assign(metric="gain"))
    return stacked(*parts)


def cohort_facts(people: Cohort, prefix: str = "wei2019m") -> pd.DataFrame:
    """Sections 3.3.1 and 4.2.4: patients and controls, women and ages; `prefix` is that of the ledger."""
    parts = []
    for group, diagnosis in {"patients": "MS", "controls": "HC"}.items():
        members, short = [s for s in people if s.diagnosis == diagnosis], diagnosis.lower()
        women, ages = [s for s in members if s.sex == "F"], {s.id: s.baseline.age for s in members if s.baseline.age}
        parts += [
            tidy(len(members), id=f"{prefix}.data.{group}", unit="people"),
            tidy(len(women), id=f"{prefix}.data.women.{short}", unit="people"),
            tidy(ages, id=f"{prefix}.data.age.{short}", unit="years"),
        ]
    return stacked(*parts)


def sizes_table(configs: Mapping[str, Any]) -> pd.DataFrame:
    """What generators are made of and how they are trained, a column for each :class:`~nbkit.papers.myelin.Config`."""
    columns = {}
    for name, c in configs.items():
        drawn = c.crop and c.crops == "focus"
        steps = f"{c.epochs * c.crops_per_epoch // c.batch}" if drawn else f"{c.epochs} × all"
        columns[name] = {
            "feature maps of the first level": str(round((c.width or 32) / c.slim)),
            "a training step sees": f"a crop of {'×'.join(map(str, c.crop))}" if c.crop else "a whole image",
            "steps of each stage": steps, "learning rates": f"{c.learning_rate:g}, {c.refiner_learning_rate:g}",
            "normalisation": c.norm, "dropout": f"{c.dropout:g}", "last layer": c.head,
            "loss over patches": c.patch_loss, "z-scores by all voxels of": c.zscores,
        }
    return pd.DataFrame(columns)


def alternatives(scores: pd.DataFrame, base: Mapping[str, str]) -> pd.DataFrame:
    """What another choice moves: MSE and lesion discrepancy of each system in `base` minus those of its base."""
    parts = []
    for metric in ("mse", "discrepancy_lesions"):
        for other, ours in base.items():
            rows = scores[scores["system"].isin((other, ours)) & (scores["metric"] == metric)]
            parts.append(numbered(paired(rows, ours), {metric: ""}))
    return stacked(*parts)


def missing_contrast(
    result: Any, people: Cohort, ids: Sequence[str], contrasts: Sequence[str], score: MyelinScore
) -> pd.DataFrame:
    """MSE (DVR²) on `ids`, predicted with each contrast left out, and with none; column setting says which.

    `result` is of a system that was trained on incomplete sets and takes the same contrasts.
    """
    parts = []
    for left_out in (*contrasts, None):
        found = {}
        for subject in map(people.subject, ids):
            given = {name: image for name, image in subject.baseline.images.items() if name != left_out}
            made = result.model_for(subject.id).synthesize(given, mask=subject.baseline.mask("brain"))
            found[subject.id] = score(subject, made)["mse"]
        setting = f"without {left_out}" if left_out else "with all"
        parts.append(tidy(found, unit="DVR²", system="incomplete", metric="mse", setting=setting))
    return stacked(*parts)


def most_lesion_first(people: Iterable[Subject]) -> list[Subject]:
    """Patients by the number of their lesion voxels at the first scan, most first."""
    patients = [s for s in people if s.diagnosis not in CONTROLS]
    return sorted(patients, key=lambda s: -int(s.baseline.mask("lesions").data.sum()))


def reasons(means: pd.DataFrame, lesions: float, patient: str) -> list[str]:
    """Why verdicts fall as they do, in sentences: means of :func:`region_means`, share of lesions in the brain."""
    true = where(means, system="truth", subject=patient).set_index("structure")["value"]
    return [
        f"Lesions fill {100 * lesions:.2f} % of a patient's brain, and a third of the weighted loss hangs on them: "
        "their error falls only if it can be learned from so few voxels.",
        f"The true DVR of lesions is {true['lesions']:.3f} in the patient shown, that of NAWM {true['nawm']:.3f}: a "
        "method that misses lesions altogether errs by their difference.",
        "Where linear regression is ahead, a network of this size and training has not learned what a weighted sum of "
        "four contrasts tells.",
    ]
