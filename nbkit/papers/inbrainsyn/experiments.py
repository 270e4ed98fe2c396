"""The article's Table 1 and what it says in words, each as a tidy frame whose rows carry the ids of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from nbkit.core.device import side_by_side
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.tidy import paired, stacked, tidy, where
from nbkit.core.volume import Volume
from nbkit.geometry.futures import Futures
from nbkit.papers.inbrainsyn.aged import AgedTemplate
from nbkit.papers.inbrainsyn.atlas_gan import AtlasGAN
from nbkit.papers.inbrainsyn.inbrainsyn import GROUPS, Config, InBrainSyn, Transition
from nbkit.papers.inbrainsyn.kernel_template import KernelTemplate
from nbkit.papers.inbrainsyn.known_truth import transport_experiment
from nbkit.papers.inbrainsyn.templates import Judged
from nbkit.papers.trajectories.controls import NoChange
from nbkit.papers.trajectories.design import NOBODY_ILL, UNLABELLED, anybody_ill, has_labels
from nbkit.papers.trajectories.experiments import (
    Scores, bend_age, folded_share, futures_of, per_subject, rate_between, scored_trajectories, volume_curve,
    yearly_change,
)
from nbkit.papers.trajectories.entered import beside, entered, entered_scores
from nbkit.papers.trajectories.image_room import image_room, image_rooms
from nbkit.papers.trajectories.limits import rows_of
from nbkit.papers.trajectories.room import after, forecast_room
from nbkit.training.fitted import fitted

UNITS = {"psnr": "dB", "ssim": "SSIM", "mae": "share of peak", "dice": "Dice"}
STRUCTURES = {"ventricle": "lateral_ventricle", "hippocampus": "hippocampus"}
NOT_HERE = {
    **{f"inbrainsyn.table1.{metric}.{rival}": "fitted and scored on the same people by notebook 08"
       for rival in ("brlp", "countersynth", "daninet3d") for metric in UNITS},
    "inbrainsyn.longitudinal": "compared with systems that use a history by notebook 08",
    "inbrainsyn.sharpness": "measured on the rivals by notebook 08",
    "inbrainsyn.faq": "a template has no true image to be compared with",
    "inbrainsyn.stars": "stars of others, given without a measurement; ours stand beside them in notebook 08",
}
"""Printed numbers that no run of ours has, and why."""
UNKNOWN = {
    f"inbrainsyn.{place}": "the true change is known of simulated people only" for place in ("precision", "transport")
}
OF_THE_ILL = tuple(f"inbrainsyn.{place}" for place in ("fig", "early", "transition", "topology.folds_transition"))
"""Beginnings of ids that need a course with disease and labels to read it by."""
CHOICES = {
    "full": ("How far the ladder carries", "half, as published", "all the way"),
    "no_transport": ("Whether it carries at all", "yes", "no: the change stays where it is in the template"),
    "wrong_sign": ("Sign of the way, for fields that pull back", "negated", "as the formula is printed"),
    "rungs": ("Steps of the ladder", "below a voxel (the article's code)", "below half a voxel (Lorenzi & Pennec)"),
    "squarings": ("Squarings of the flow", "7 (the article's code)", "as many as the field needs"),
    "unsmoothed": ("The scan first", "smoothed, σ 0.75 mm (the article's code)", "as it is"),
    "whole": ("Where SSIM is taken", "union of the brain masks", "whole volume"),
}
"""By system: what is left open, our choice, the other way."""
TOPOLOGY = {
    "folds": ("max", "topology.folds", "share of brain voxels"), "seconds": ("mean", "speed.seconds", "s"),
    "smallest_jacobian": ("min", "topology.smallest_jacobian", "1"),
}
SETTINGS = {"squarings": "1", "rung_voxels": "voxels", "smooth_mm": "mm"}
VARIANTS = {
    "no_pt": {"transport": "direct"}, "no_transport": {"transport": "none"}, "full": {"transport": "full"},
    "wrong_sign": {"transport": "wrong"}, "rungs": {"rung_voxels": 0.5}, "squarings": {"squarings": None},
    "unsmoothed": {"smooth_mm": 0.0},
}
"""By system: the settings it changes."""
CODE = ("rungs", "squarings", "unsmoothed")
SHOWN = ("floor", "reach", "reach tenfold", "diagnosis slope", "best control, own scale")
TRANSITION = {
    "transition.asked_age": "years", "transition.bend_age": "years", "transition.ventricle.rate.before": "%/year",
    "transition.ventricle.rate.after": "%/year", "topology.folds_transition": "share of brain voxels",
}


def template_kinds(profile: str, *, seed: int, device: str = "auto") -> dict[str, AgedTemplate]:
    """Templates as published ("gan"), and by kernel regression, as the control ("kernel"); not fitted."""
    return {
        "gan": AtlasGAN(AtlasGAN.settings.for_profile(profile, seed=seed, device=device)),
        "kernel": KernelTemplate(KernelTemplate.settings.for_profile(profile, device=device)),
    }


def learned(template: AgedTemplate, settings: Config, cohort: Cohort) -> InBrainSyn:
    """InBrainSyn with templates like `template`, fitted to `cohort` or read from the cache."""
    return fitted(cohort=cohort, **learning(template, settings, cohort))


def learning(template: AgedTemplate, settings: Config, cohort: Cohort) -> dict[str, Any]:
    """What :func:`~nbkit.training.fitted.fitted` is given for InBrainSyn with templates like `template`.

    There is a template of each group of which the cohort has visits: where nobody is ill, that of the healthy alone.
    """
    kind, config = type(template), template.config
    both = InBrainSyn(settings, templates={group: kind(config) for group in GROUPS})
    there = {group: model for group, model in both.templates.items() if both.visits(cohort, group)}
    return {
        "model": InBrainSyn(settings, templates=there) if there else both,
        "load": partial(InBrainSyn.load, template_types=[kind]), "key": config.as_dict(),
        "sources": [kind.__module__],
    }


def not_here(people: Cohort) -> dict[str, str]:
    """Beginnings of ids that a run of notebook 06 on these people lacks, and why."""
    labelled, ill = has_labels(people), anybody_ill(people)
    found = NOT_HERE | ({} if people.truth else UNKNOWN)
    found |= {} if labelled and ill else dict.fromkeys(OF_THE_ILL, UNLABELLED if ill else NOBODY_ILL)
    return found if labelled else found | {"inbrainsyn.table1.dice": UNLABELLED}


def variants(ours: InBrainSyn) -> dict[str, InBrainSyn]:
    """The fitted system under other settings (:data:`VARIANTS`), No-PT among them."""
    return {name: ours.variant(**changes) for name, changes in VARIANTS.items()}


def compared(systems: Mapping[str, InBrainSyn], chosen: Judged) -> dict[str, Any]:
    """InBrainSyn with the templates judged, its variants, no change, and InBrainSyn with the other templates."""
    ours = systems[chosen.name]
    models = {"inbrainsyn": ours, **variants(ours), "no_change": NoChange()}
    return models | {f"{chosen.rival}_templates": systems[chosen.rival]}


def settings(ours: InBrainSyn) -> pd.DataFrame:
    """What the article's code sets, as the fitted system has it; a system that chooses by itself has no number."""
    had = {name: getattr(ours.config, name) for name in SETTINGS}
    return stacked(*(
        tidy(float(value), id=f"inbrainsyn.settings.{name}", unit=SETTINGS[name], system="inbrainsyn", metric=name)
        for name, value in had.items() if value is not None
    ))


def people_followed(cohort: Cohort) -> pd.DataFrame:
    """By diagnosis at the first scan: the longest follow-up (years), and who is demented later but not at first."""
    rows = [(s.diagnosis, s.scans[-1].age - s.baseline.age, bool(s.covariates.get("converter"))) for s in cohort]
    frame = pd.DataFrame(rows, columns=["diagnosis", "longest", "converters"])
    return frame.groupby("diagnosis", sort=False).agg({"longest": "max", "converters": "sum"}).round(1)


def ages_said(model: InBrainSyn) -> str:
    """The ages that the templates cover, in a sentence."""
    spans = ", ".join(f"{group} {low:.1f} to {high:.1f}" for group, (low, high) in model.age_ranges.items())
    return f"Ages of training visits: {spans} years. Templates are not extrapolated."


def who_is_asked(
    systems: Sequence[InBrainSyn], cohort: Cohort, most: tuple[int | None, int | None] = (None, None)
) -> tuple[list[str], list[str]]:
    """People with a later visit whom all systems can answer for: the first ids of those on the HC and AD course."""
    able = [s for s in cohort if len(s.scans) > 1 and all(system.covers(s) for system in systems)]
    courses = systems[0].config.healthy, systems[0].config.diseased
    return tuple([s.id for s in able if s.diagnosis in course][:n] for course, n in zip(courses, most, strict=True))


def scored(
    models: Mapping[str, Any], predicted: Cohort, people: Cohort, *, kinds: Mapping[str, AgedTemplate], bench: Any
) -> Scores:
    """Every later visit of the people predicted, from the first scan alone, by every model; kept.

    Users' models among them paint images: their volumes and labels are read by the ``segmenter`` of `bench`, if any.
    """
    mine, truth = entered(models), {s.id: people.truth[s.id].volumes for s in predicted} if people.truth else None
    key = {name: kind.config.digest() for name, kind in kinds.items()}
    models = {name: model for name, model in models.items() if name not in mine}
    found = scored_trajectories(models, predicted, true_volumes=truth, key=key)
    if not mine:
        return found
    return beside(found, entered_scores(mine, predicted, key="", true_volumes=truth, segmenter=bench.segmenter))


def table1(visits: pd.DataFrame, *, diagnoses: Sequence[str]) -> pd.DataFrame:
    """Table 1: PSNR, SSIM, MAE and Dice of every model, per person of these diagnoses (mean over visits)."""
    rows = visits[visits["diagnosis"].isin(diagnoses)]
    return stacked(*(
        tidy(per_subject(rows, metric, model=model), id=f"inbrainsyn.table1.{metric}.{model}", unit=unit,
             system=model, metric=metric)
        for metric, unit in UNITS.items() for model in rows["model"].unique()
    ))


def courses(visits: pd.DataFrame, *, healthy: Sequence[str]) -> pd.DataFrame:
    """Means over visits of everything that is scored on images, by course and model."""
    course = visits["diagnosis"].isin(healthy).map({True: "HC", False: "AD"}).rename("course")
    return visits.groupby([course, "model"], sort=False)[[*UNITS, "folds", "seconds"]].mean().round(4)


def image_ends(
    train: Cohort, people: Cohort, free: Mapping[tuple[str, str], Volume], *, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Arguments of ``Run.room`` for PSNR, SSIM and MAE of Table 1; `free`: visits without noise, where known."""
    ends = image_room(train, people, id="inbrainsyn.table1.{metric}.{system}", free=free, seed=seed)
    return image_rooms(ends, "inbrainsyn.table1.{metric}.")


def regional_volumes(regions: pd.DataFrame) -> pd.DataFrame:
    """Absolute error of the volumes of ventricles and hippocampus (% of the true one), per person and model.

    Parameters
    ----------
    regions : DataFrame
        As trajectories are scored, with a column "miss": the absolute "error_pct".
    """
    return stacked(*(
        tidy(per_subject(regions, "miss", structure=name, model=model), id=f"inbrainsyn.volumes.{short}.{model}",
             unit="% of the true volume", system=model, metric="miss", structure=name)
        for short, name in STRUCTURES.items() for model in regions["model"].unique()
    ))


def room(train: Cohort, people: Cohort, *, strangers: Cohort | None = None, seed: int = 0) -> pd.DataFrame:
    """What could be won at all on volumes at every later visit from one scan; the true volumes are the floor."""
    return forecast_room(
        train, people, asked=after(1), id="inbrainsyn.volumes.{place}.{system}", strangers=strangers,
        structures=tuple(STRUCTURES.values()), seed=seed,
    )


def rooms(ends: pd.DataFrame) -> list[dict[str, Any]]:
    """Arguments of ``Session.room`` for every structure of :func:`room`."""
    said = "error of the {}, % of the true volume"
    return [
        {"frame": where(ends, structure=name), "of": (f"inbrainsyn.volumes.{short}.",),
         "measure": said.format(name.replace("_", " "))} for short, name in STRUCTURES.items()
    ]


def volume_errors(regions: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute error by structure and model (%), beside the ends of :func:`room` where they are known.

    What the article's code sets moves hardly a volume: those variants stand among the open points alone.
    """
    errors = regions.pivot_table("miss", "structure", "model", sort=False)
    errors = errors.drop(columns=[name for name in CODE if name in errors])
    known = rows_of(ends).unstack(sort=False)
    return errors.join(known[[name for name in SHOWN if name in known]]).round(2)


def topology(visits: pd.DataFrame) -> pd.DataFrame:
    """What InBrainSyn's deformations are like: folds, smallest Jacobian determinant, and seconds, per person."""
    people = visits[visits["model"] == "inbrainsyn"].groupby("subject", sort=False)
    return stacked(*(
        tidy(people[metric].agg(how).to_dict(), id=f"inbrainsyn.{id}", unit=unit, system="inbrainsyn", metric=metric)
        for metric, (how, id, unit) in TOPOLOGY.items()
    ))


def topology_said(found: pd.DataFrame) -> str:
    """:func:`topology` in a sentence."""
    least, most, mean = (found.groupby("metric")["value"].agg(how) for how in ("min", "max", "mean"))
    return (
        f"Smallest determinant of all predictions: {least['smallest_jacobian']:.2f}; folded voxels: at most "
        f"{100 * most['folds']:.3f} %; {mean['seconds']:.1f} s per predicted scan."
    )


def who_can_turn(model: InBrainSyn, cohort: Cohort, *, years: float) -> list[Scan]:
    """First scans, with labels, of people not demented whose next `years` the templates of both groups cover."""
    early = [s.baseline for s in cohort if s.diagnosis in (*model.config.healthy, "EMCI")]
    early = [scan for scan in early if scan.labels is not None]
    return [scan for scan in early if all(model.answers(scan, [scan.age + years], group) for group in GROUPS)]


def what_if_courses(*, turn: float) -> dict[str, Callable[[Scan], str | Transition]]:
    """Healthy, with disease, and with disease from `turn` years after the scan on."""
    return {"HC": lambda scan: "HC", "AD": lambda scan: "AD", "HC→AD": lambda scan: Transition(scan.age + turn)}


def what_if(futures: Mapping[str, Mapping[str, Futures]]) -> pd.DataFrame:
    """What-if futures: yearly change of ventricles and hippocampus by course, per person.

    Parameters
    ----------
    futures : mapping of subject to mapping of course to Futures
    """
    paces = {s: {course: yearly_change(future) for course, future in some.items()} for s, some in futures.items()}
    return stacked(*(
        tidy({s: pace[course][name] for s, pace in paces.items()}, id=f"inbrainsyn.fig.{short}.rate.{course.lower()}",
             unit="%/year", system="inbrainsyn", metric="rate", structure=name, setting=course)
        for short, name in STRUCTURES.items() for course in GROUPS
    ))


def volume_curves(futures: Mapping[str, Futures]) -> pd.DataFrame:
    """Volumes over age of one person's futures: columns age, structure, mm3, change_pct, and model, the course."""
    curves = (volume_curve(future).assign(model=course) for course, future in futures.items())
    return pd.concat(curves, ignore_index=True)


def transition(model: InBrainSyn, scans: Sequence[Scan], *, turn: float = 4.0, until: int = 8) -> pd.DataFrame:
    """Transition: where the ventricles' curve bends when disease sets in after `turn` years, pace on both sides, folds.

    One prediction a year up to `until` years; the bend is the knot of the broken line that fits best.
    """
    futures = futures_of(model, scans, {"turn": what_if_courses(turn=turn)["HC→AD"]}, years=range(1, until + 1))
    found: dict[str, dict[str, float]] = {name: {} for name in TRANSITION}
    for scan in scans:
        future, asked = futures[scan.subject]["turn"], scan.age + turn
        curve = volume_curve(future).query("structure == 'lateral_ventricle'")
        sides = (rate_between(curve, *span) for span in ((scan.age, asked), (asked, scan.age + until)))
        values = (asked, bend_age(curve["age"], curve["change_pct"]), *sides, folded_share(future))
        for name, value in zip(TRANSITION, values, strict=True):
            found[name][scan.subject] = value
    return stacked(*(
        tidy(found[name], id=f"inbrainsyn.{name}", unit=unit, system="inbrainsyn", metric=name.split(".", 1)[1])
        for name, unit in TRANSITION.items()
    ))


def known_truth(model: InBrainSyn, cohort: Cohort, *, years: float = 5.0) -> pd.DataFrame:
    """Known truth: error of every variant of transport over the size of the true change, per person and structure.

    Each person's own velocity (``cohort.truth``) is the change of the template, the way to the person that of `model`.
    Metrics are "field", the displacement, and "growth", the logarithm of its Jacobian determinant; the brain as a whole
    is recorded.
    """
    tables = side_by_side(lambda subject: transport_experiment(
        cohort.truth[subject.id].velocity, model.way(subject.baseline), labels=subject.baseline.labels,
        names=subject.baseline.label_names, years=years,
    ).assign(subject=subject.id), cohort)
    errors = pd.concat(tables).rename(columns={"variant": "system", "region": "structure"})
    long = errors.melt(
        ["subject", "system", "structure"], ["field_error", "growth_error"], var_name="metric"
    ).assign(metric=lambda rows: rows["metric"].str.removesuffix("_error"), unit="1")
    ids = "inbrainsyn.transport." + long["metric"] + "." + long["system"]
    return long.assign(id=ids.where(long["structure"] == "brain", ""))


def field_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Of :func:`known_truth`, the mean error of the displacement over the true one, by structure and variant."""
    return where(errors, metric="field").pivot_table("value", "structure", "system", sort=False).round(3)


def open_points(
    visits: pd.DataFrame, regions: pd.DataFrame | None, *, templates: str, rival: str,
    healthy: Sequence[str] = Config.healthy,
) -> pd.DataFrame:
    """What the paper leaves open: the other way minus ours, paired by person of the `healthy` diagnoses.

    Metrics are SSIM and, where structures are known, the absolute error of the ventricles' volume (%).

    Parameters
    ----------
    visits, regions : DataFrame
        Of :func:`table1` and :func:`regional_volumes`.
    templates, rival : str
        Kind of templates in use, and the other kind, whose model is called ``f"{rival}_templates"``.
    """
    rows = visits[visits["diagnosis"].isin(healthy)]
    whole = tidy(per_subject(rows, "ssim_whole", model="inbrainsyn"), system="whole")
    ssim = stacked(where(table1(rows, diagnoses=healthy), metric="ssim"), whole)
    moved = [paired(ssim, "inbrainsyn").assign(metric="other − ours, SSIM")]
    if regions is not None:
        volumes = where(regional_volumes(regions[regions["diagnosis"].isin(healthy)]), structure="lateral_ventricle")
        moved.append(paired(volumes, "inbrainsyn").assign(metric="other − ours, ventricle error in %"))
    frame, choices = stacked(*moved), {**CHOICES, f"{rival}_templates": ("Templates", templates, rival)}
    said = pd.DataFrame.from_dict(choices, "index", columns=["left open", "our choice", "the other way"])
    said = said[said.index.isin(frame["system"])]
    return frame.assign(id="", unit="").join(said, on="system", how="right")


def why(regions: pd.DataFrame | None, errors: pd.DataFrame | None, *, rival: str) -> list[str]:
    """Why the verdicts fall as they do, in sentences with the numbers of this run.

    Parameters
    ----------
    regions, errors : DataFrame or None
        Of :func:`regional_volumes` and from :func:`known_truth`; None where nothing is known.
    rival : str
        The other kind of templates.
    """
    lines = []
    if regions is not None:
        ventricle = where(regions, structure="lateral_ventricle").groupby("model")
        mean = ventricle[["miss", "change_pct", "true_change_pct"]].mean()
        titles = {"inbrainsyn": "InBrainSyn", f"{rival}_templates": f"With {rival} templates it", "no_pt": "No-PT"}
        lines = [
            f"{title} lets the ventricles grow by {mean.change_pct[name]:.1f} % where the truth is "
            f"{mean.true_change_pct[name]:.1f} %, and misses single volumes by {mean.miss[name]:.1f} %."
            for name, title in titles.items()
        ]
        lines.append(f"Repeating the baseline misses them by {mean.miss['no_change']:.1f} %.")
    if errors is not None:
        brain = where(errors, metric="field", structure="brain").groupby("system")["value"].mean() * 100
        lines.append(
            f"Where the truth is known, the published half leaves {brain['half']:.0f} % of the displacement wrong, "
            f"full transport {brain['full']:.0f} %, none {brain['none']:.0f} %, the wrong sign {brain['wrong']:.0f} %."
        )
    return lines or ["No structures are known here."]
