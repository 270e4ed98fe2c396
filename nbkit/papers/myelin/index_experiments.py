"""Tables and figures of chapter 4 (Wei et al., NeuroImage 2020) as tidy frames: losses, two visits, change, disability.

Maps at two visits become courses (:func:`courses`), those become :func:`indices` and :func:`map_agreement`, and what a
table or figure prints is rows of these two with ids. All ids are those of the ledger; rows of systems that it lacks
are recorded with ``published=True`` only where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from nbkit.core.checks import check_keys, require
from nbkit.core.protocols import Cohort, Subject, age_of
from nbkit.core.tidy import COLUMNS, by_subject, stacked, tidy, where
from nbkit.core.volume import Volume
from nbkit.metrics.image import mse
from nbkit.papers.myelin.experiments import ENDS, chance_floor, numbered
from nbkit.papers.myelin.experiments import cohort_facts as everybody
from nbkit.papers.myelin.metrics import (
    CONTROLS, ControlNorm, Course, chance_dice, change_indices, demyelinated_fraction, overlap, regress,
)

Predictions = Mapping[str, Volume]
OURS = "refiner_cfsagan"
VISITS = ("t0", "t1")
DYNAMIC = ("demyelination", "remyelination")
CHANGES = (
    "global_change", "dynamic_demyelination", "dynamic_demyelination_normal", "dynamic_remyelination",
    "dynamic_remyelination_demyelinated",
)
"""Indices that need a second scan; fractions from −1 to 1."""
UNANSWERED = {
    "wei2020.fig4_4.dice.example": "other patients", "wei2020.text.bodini": "another study's patients",
    "wei2020.data.dose": "a simulated scan has no dose",
    "wei2020.settings.overlap": "crops at random places overlap as they fall",
}
"""Beginnings of ids that no run answers, and why."""
ROOMS = {
    "mse": (("wei2020.table4_1.mse.", "wei2020.table4_2a.", "wei2020.text.mse."), "MSE over the image, DVR²", "lower"),
    "psnr": (("wei2020.table4_1.psnr.",), "PSNR, dB", "higher"),
    "discrepancy_lesions": (("wei2020.lesions.", "wei2020.table4_2b.", "wei2020.text.lesions."),
                            "discrepancy of mean DVR in lesions", "lower"),
    "dice_demyelinated": (("wei2020.fig4_4.dice_t0.",), "Dice of demyelinated voxels at t0", "higher"),
}
"""For :func:`~nbkit.papers.myelin.experiments.rooms`: beginnings of ids, the measure, which is better."""


def cohort_facts(people: Cohort) -> pd.DataFrame:
    """Section 4.2.4: patients and controls, who was scanned twice, and how long after."""
    patients = [s for s in people if s.diagnosis == "MS"]
    twice = [s for s in patients if len(s.scans) > 1]
    months = {s.id: 12 * (age_of(s.scans[1]) - age_of(s.scans[0])) for s in twice}
    return stacked(
        everybody(people, "wei2020"), tidy(len(twice), id="wei2020.data.patients_t1", unit="people"),
        tidy(len(patients) - len(twice), id="wei2020.data.patients_lost", unit="people"),
        tidy(months, id="wei2020.data.interval", unit="months"),
    )


def image_quality(scores: pd.DataFrame) -> pd.DataFrame:
    """Table 4.1: MSE and PSNR over whole images; and, ours, the discrepancy of mean DVR in lesions.

    Of both errors also what is left after each person's own scale and offset.
    """
    return numbered(scores, {
        "mse": "wei2020.table4_1.mse.{system}", "psnr": "wei2020.table4_1.psnr.{system}",
        "mse_own": "wei2020.table4_1.mse_own.{system}", "discrepancy_lesions": "wei2020.lesions.{system}",
        "discrepancy_lesions_own": "wei2020.lesions_own.{system}",
    })


def looks(scores: pd.DataFrame) -> pd.DataFrame:
    """Figure 4.3 B as a measure: gradient energy inside the brain over that of the true map."""
    shown = scores[~scores["system"].isin(("person", "reach_tenfold"))]
    return numbered(shown, {"sharpness": "wei2020.looks.sharpness.{system}"})


def text_numbers(scores: pd.DataFrame, system: str = OURS, again: str = "refiner2_cfsagan") -> pd.DataFrame:
    """Sections 4.3.2 and 4.4: by how many percent of means `system` is better, and what a second refinement does."""
    means, parts = scores.groupby(["metric", "system"])["value"].mean(), []
    for rival in ("dnn", "unet"):
        for metric, sign in (("mse", -1), ("psnr", 1)):
            gain = 100 * sign * (means[metric, system] - means[metric, rival]) / means[metric, rival]
            name = f"wei2020.text.improvement.{metric}.{rival}"
            parts.append(tidy(gain, id=name, unit="%", system=system, metric=metric))
    ids = {"mse": "wei2020.text.mse.{system}", "discrepancy_lesions": "wei2020.text.lesions.{system}"}
    return stacked(*parts, numbered(where(scores, system=again), ids))


def loss_table(scores: pd.DataFrame, networks: Sequence[str] = ("unet", "cgan", "cfsagan")) -> pd.DataFrame:
    """Tables 4.2a and 4.2b: MSE and lesion discrepancy of each network under L1 (its plain name), "_wl1", "_nwl1".

    With them those of the controls and of :data:`ENDS`, where there are any.
    """
    beside = scores[scores["system"].isin(("linear", "mean", *ENDS))]
    ids = {"mse": "wei2020.table4_2a.bound.{system}", "discrepancy_lesions": "wei2020.table4_2b.bound.{system}"}
    parts = [numbered(beside, ids)]
    for network in networks:
        for loss in ("l1", "wl1", "nwl1"):
            rows = where(scores, system=network if loss == "l1" else f"{network}_{loss}")
            cell = f"{network}.{loss}"
            ids = {"mse": f"wei2020.table4_2a.{cell}", "discrepancy_lesions": f"wei2020.table4_2b.{cell}"}
            parts.append(numbered(rows, ids).assign(setting=loss))
    return stacked(*parts)


def courses(
    people: Cohort, visits: Mapping[str, tuple[Predictions, Predictions]], norm: ControlNorm
) -> dict[str, dict[str, Course]]:
    """Demyelinated maps of every patient with lesions, by system ("truth" first) and subject.

    Parameters
    ----------
    visits : mapping of system to (first, second)
        Predicted DVR by subject id. Subjects that the first lacks are left out, and one that the second lacks counts
        as one without a second scan.
    norm : ControlNorm
        Always of true PET.

    Raises
    ------
    NbkitError
        For an unknown subject, images on another grid, or a second scan that is not later by age.
    """
    patients = [s for s in people if s.diagnosis not in CONTROLS and s.baseline.mask("lesions").data.any()]
    require(
        len(patients) > 0, "courses: people", expected="at least one patient with lesions", found="none",
        remedy="Pass the cohort with its patients.",
    )
    found = {"truth": {s.id: _course(s, norm) for s in patients}}
    for name, (first, second) in visits.items():
        check_keys({**first, **second}, people.ids, f"courses: {name}")
        found[name] = {s.id: _course(s, norm, (first[s.id], second.get(s.id))) for s in patients if s.id in first}
    return found


def _course(subject: Subject, norm: ControlNorm, images: Sequence[Volume | None] | None = None) -> Course:
    lesions, before = subject.baseline.mask("lesions"), norm.demyelinated(subject.baseline, image=images and images[0])
    if len(subject.scans) < 2 or (images and images[1] is None):
        return Course(lesions, before, None)
    first, second = subject.scans[:2]
    require(
        age_of(first) < age_of(second), f"{subject.id}: {first.session} and {second.session}",
        expected="a second scan at a later age", found=f"{first.age:g}, then {second.age:g} years",
        remedy="Swap the two, or give ages as decimal years: the index of change has a direction.",
    )
    return Course(lesions, before, norm.demyelinated(second, image=images and images[1], lesions=lesions))


def indices(found: Mapping[str, Mapping[str, Course]]) -> pd.DataFrame:
    """:func:`~nbkit.papers.myelin.metrics.change_indices` of every system and patient, where they are defined."""
    return _frame(
        (subject, system, metric, value) for system, people in found.items() for subject, course in people.items()
        for metric, value in change_indices(course).items()
    )


def map_agreement(found: Mapping[str, Mapping[str, Course]]) -> pd.DataFrame:
    """Dice of the maps from predicted with those from true PET, by system and patient, where they are defined.

    Metrics ``dice_t0`` and ``dice_t1`` (demyelinated voxels), ``dice_demyelinating`` and ``dice_remyelinating`` (voxels
    that changed), and for each ``chance_*``, what as many voxels chosen at random would reach.
    """
    rows = []
    for system, people in found.items():
        for subject, course in people.items() if system != "truth" else ():
            true = found["truth"][subject].maps
            for name, ours in course.maps.items():
                shares = [demyelinated_fraction(v, course.lesions) for v in (ours, true[name])]
                rows.append((subject, system, f"dice_{name}", overlap(ours, true[name])))
                rows.append((subject, system, f"chance_{name}", chance_dice(*shares)))
    return _frame(rows)


def _frame(rows) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["subject", "system", "metric", "value"]).dropna(subset="value")
    return frame.assign(id="", unit="")[list(COLUMNS)].reset_index(drop=True)


def static_demyelination(
    index: pd.DataFrame, alike: pd.DataFrame, norm: ControlNorm, system: str = OURS
) -> pd.DataFrame:
    """Figure 4.4: demyelinated share (%) and Dice at both visits; chance is that of `system`."""
    chance = where(alike, system=system).assign(system="chance")
    floor = "wei2020.fig4_4.chance_floor"
    parts = [chance_floor(norm, floor, "percent_t0"), chance_floor(norm, "", "percent_t1")]
    for t in VISITS:
        parts.append(numbered(index, {f"percent_{t}": f"wei2020.fig4_4.percent_{t}.{{system}}"}))
        parts.append(numbered(alike, {f"dice_{t}": f"wei2020.fig4_4.dice_{t}.{{system}}"}))
        parts.append(numbered(chance, {f"chance_{t}": f"wei2020.fig4_4.dice_{t}.{{system}}"}))
    return stacked(*parts)


def changes(index: pd.DataFrame, system: str = OURS) -> pd.DataFrame:
    """Figure 4.5: indices of change, whether their direction is right in `system`, and the extremes of the truth."""
    found = numbered(index, {name: f"wei2020.fig4_5.{name}.{{system}}" for name in CHANGES})
    true, ours = (by_subject(index, system=name, metric="global_change") for name in ("truth", system))
    right = {s: 1.0 if value * ours.get(s, np.nan) > 0 else -1.0 for s, value in true.items()}
    missed = max((abs(true[s]) for s, sign in right.items() if sign < 0), default=0.0)
    ends = {"lowest": min(true.values()), "highest": max(true.values()), "misclassified": missed} if true else {}
    labels = {"system": "truth", "metric": "global_change", "unit": "fraction"}
    return stacked(
        found, tidy(right, id="wei2020.fig4_5.direction", unit="+1 right, −1 wrong", system=system, metric="direction"),
        *(tidy(value, id=f"wei2020.fig4_5.global_change.{name}", **labels) for name, value in ends.items()),
    )


def change_agreement(alike: pd.DataFrame, system: str = OURS) -> pd.DataFrame:
    """Section 4.3.5: Dice of the voxels that changed, by system; chance is that of `system`."""
    chance = where(alike, system=system).assign(system="chance")
    kinds = ("demyelinating", "remyelinating")
    return stacked(
        numbered(alike, {f"dice_{k}": f"wei2020.text.dice_{k}.{{system}}" for k in kinds}),
        numbered(chance, {f"chance_{k}": f"wei2020.text.dice_{k}.{{system}}" for k in kinds}),
    )


def null_experiment(
    still: Cohort | None, results: Mapping[str, Any], visits: Mapping[str, tuple[Predictions, Predictions]],
    norm: ControlNorm, system: str = OURS,
) -> pd.DataFrame:
    """Indices and agreement where nothing changed between two visits: what they say then, threshold noise alone says.

    Parameters
    ----------
    still : Cohort or None
        The same people with a second scan without change; None (own scans cannot be scanned again) gives no rows.
    visits : mapping
        Of :func:`nbkit.papers.myelin.visits.two_visits`: first scans are what they were.
    """
    if still is None:
        return _frame([])
    again = results[system].predictions(still, visit=1)
    found = courses(still, {system: (visits[system][0], again)}, norm)
    ids = {name: f"wei2020.null.{name}.{{system}}" for name in (*CHANGES, "percent_t0", "percent_t1")}
    dices = {f"dice_{kind}": f"wei2020.null.dice_{kind}.{{system}}" for kind in ("demyelinating", "remyelinating")}
    return stacked(numbered(indices(found), ids), numbered(map_agreement(found), dices))


def null_table(index: pd.DataFrame, null: pd.DataFrame, systems: Sequence[str] = ("truth", OURS)) -> pd.DataFrame:
    """Means over patients of every index of change, with change and when nothing changed, by system."""
    tables = {}
    for said, frame in {"changed": index, "nothing changed": null}.items():
        means = frame.groupby(["system", "metric"])["value"].mean()
        tables |= {(said, name): means[name].reindex(CHANGES) for name in systems if name in means}
    return pd.DataFrame(tables)


def with_levels(index: pd.DataFrame, null: pd.DataFrame, systems: Sequence[str] = ("truth", OURS)) -> pd.DataFrame:
    """Indices of `systems`, and the mean true ones when nothing changed as rows that belong to nobody."""
    means = where(null, system="truth").groupby("metric")["value"].mean()
    levels = (tidy(mean, system="nothing changed, true PET", metric=name) for name, mean in means.items())
    return stacked(index[index["system"].isin(systems)], *levels)


def edss_regression(people: Cohort, values: Mapping[str, float]) -> pd.DataFrame:
    """Multiple regression of baseline EDSS on one index, with age, sex and T2 lesion load, as in Table 4.3.

    Parameters
    ----------
    people : Cohort
        Patients with the covariates ``age`` (years at t0), ``edss`` and ``t2_load_ml``.
    values : mapping of subject to float
        An index of :data:`CHANGES`; enters in %, as the size of the printed coefficients suggests.

    Returns
    -------
    DataFrame
        Of :func:`~nbkit.papers.myelin.metrics.regress`, with the rows index (per %), age (per year), sex (women 1,
        men 0) and t2_load (per mm³).
    """
    table = pd.DataFrame({s: {**people.subject(s).covariates, "sex": people.subject(s).sex} for s in values}).T
    for name in ("sex", "age", "edss", "t2_load_ml"):
        lacking = list(values) if name not in table else list(table.index[table[name].isna()])
        require(
            not lacking, f"edss_regression: {name}", expected="a value for every patient", found=f"none for {lacking}",
            remedy="Add it to the table of subjects, or leave these patients out.",
        )
    return regress(table["edss"], {
        "index": 100 * np.array(list(values.values())), "age": table["age"], "sex": table["sex"] == "F",
        "t2_load": 1000 * table["t2_load_ml"],
    })


def edss_pseudovalues(people: Cohort, values: Mapping[str, float]) -> dict[str, float]:
    """A value per patient whose mean estimates β of one index on EDSS: n β − (n − 1) β without that patient.

    Jackknife pseudo-values (Tukey 1958) of the standardised coefficient of :func:`edss_regression`, so that a claim
    about β can be judged over patients like any other.
    """
    n, whole = len(values), float(edss_regression(people, values).loc["index", "beta"])
    without = {s: edss_regression(people, {k: v for k, v in values.items() if k != s}) for s in values}
    return {s: n * whole - (n - 1) * float(found.loc["index", "beta"]) for s, found in without.items()}


CELLS = {"coefficient": "coefficient", "standard_error": "se", "t": "t", "p": "p", "beta": "beta"}
ROWS = {"index": ("", "EDSS per %"), "age": ("age.", "EDSS per year"), "sex": ("gender.", "EDSS"),
        "t2_load": ("t2_load.", "EDSS per mm³")}
"""Rows and columns of Table 4.3: our names, their part of the id, and the unit of a coefficient."""


def enough_for_edss(people: Cohort, index: pd.DataFrame) -> bool:
    """Whether seven patients or more have two scans, and all patients an EDSS: four covariates need as many."""
    twice = where(index, system="truth", metric="global_change")
    return len(twice) > 6 and all(s.covariates.get("edss") is not None for s in people if s.diagnosis not in CONTROLS)


def disability(people: Cohort, index: pd.DataFrame, system: str = OURS) -> pd.DataFrame:
    """Tables 4.3a (true PET) and 4.3b (`system`): every cell, and pseudo-values of β; no rows for too few people."""
    parts = [index.iloc[:0]]
    for place, name in {"table4_3a": "truth", "table4_3b": system}.items() if enough_for_edss(people, index) else ():
        found = {}
        for kind in DYNAMIC:
            values, start = by_subject(index, system=name, metric=f"dynamic_{kind}"), f"wei2020.{place}.{kind}"
            fit = edss_regression(people, values)
            for (row, (part, per)), (cell, short) in product(ROWS.items(), CELLS.items()):
                unit = {"t": "t", "p": "p", "beta": "β"}.get(cell, per)
                parts.append(tidy(fit.loc[row, cell], id=f"{start}.{part}{short}", unit=unit, system=name, metric=cell))
            found[kind] = edss_pseudovalues(people, values)
            parts.append(tidy(found[kind], id=f"{start}.pseudovalues", unit="β", system=name, metric="pseudovalue"))
        both = {s: found["demyelination"][s] + beta for s, beta in found["remyelination"].items()}
        beside = f"wei2020.{place}.demyelination.beside"
        parts.append(tidy(both, id=beside, unit="β", system=name, metric="both pseudovalues"))
    return stacked(*parts)


def disability_checks(
    people: Cohort, index: pd.DataFrame, still: Cohort | None, null: pd.DataFrame
) -> pd.DataFrame:
    """EDSS on each true index, with both denominators, with change and where nothing changed; a row per regression."""
    if not enough_for_edss(people, index):
        return pd.DataFrame({"maps": ["none: too few patients"]})
    rows = []
    for maps, cohort, frame in (("true PET", people, index), ("nothing changed, true PET", still, null)):
        for name in CHANGES[1:] if cohort is not None else ():
            fit = edss_regression(cohort, by_subject(frame, system="truth", metric=name)).loc["index"]
            rows.append({"maps": maps, "index": name, **fit})
    return pd.DataFrame(rows)


def null_betas(checks: pd.DataFrame) -> pd.DataFrame:
    """β of both dynamic indices where nothing changed, of :func:`disability_checks`."""
    still = checks[checks["maps"] == "nothing changed, true PET"]
    return stacked(_frame([]), *(
        tidy(beta, id=f"wei2020.null.beta.{kind}.truth", unit="β", system="truth", metric="beta")
        for kind in DYNAMIC for beta in (still["beta"][still["index"] == f"dynamic_{kind}"] if len(still) else ())
    ))


def planted(people: Cohort, index: pd.DataFrame, system: str = OURS) -> pd.DataFrame:
    """A row per patient scanned twice: the index of remyelination that was planted, and what PET and prediction see.

    The planted one is that of the simulation's states, without a threshold; EDSS beside it. No rows for real people.
    """
    known = {
        s.id: people.truth[s.id]["facts"]["course"]["remyelination"] for s in people
        if people.truth and s.diagnosis not in CONTROLS and len(s.scans) > 1
    }
    true, ours = (by_subject(index, system=name, metric="dynamic_remyelination") for name in ("truth", system))
    columns = {"planted index": known, "from true PET": true, "from predicted PET": ours,
               "EDSS": {s: people.subject(s).covariates.get("edss") for s in known}}
    return pd.DataFrame(columns, dtype=float).dropna()


def rank_correlations(pairs: pd.DataFrame) -> pd.DataFrame:
    """Of the columns of :func:`planted`; the pairs themselves where there are fewer than three."""
    return pairs.corr(method="spearman").round(2) if len(pairs) > 2 else pairs


def reasons(still: Cohort | None, index: pd.DataFrame, null: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """Why verdicts fall as they do, in sentences with the numbers of this run; none without a null experiment."""
    if still is None:
        return []
    twice = [[scan.image("DVR").data[None] for scan in s.scans[:2]] for s in still if len(s.scans) > 1]
    noise = np.mean([float(mse(first, second)) / 2 for first, second in twice])
    lines = [
        f"A perfect prediction would have an MSE of about {noise:.4f} DVR², the noise of the scan it is compared with."
    ]
    for kind in DYNAMIC:
        a, b = (where(f, system="truth", metric=f"dynamic_{kind}")["value"].mean() for f in (index, null))
        lines.append(f"Index of dynamic {kind}: {a:.3f} of the lesion voxels with change, {b:.3f} when nothing changed;"
                     f" threshold noise is {100 * b / a:.0f} % of it.")
    if len(pairs) > 2:
        first = pairs.corr(method="spearman").iloc[0]
        lines.append(f"The planted index of remyelination has a rank correlation of {first.iloc[1]:.2f} with what true"
                     f" PET shows of it, and of {first.iloc[2]:.2f} with what prediction shows.")
    return lines
