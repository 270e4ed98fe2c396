"""How a predicted [11C]PIB map is scored: error, mean DVR by region, demyelinated voxels (Wei thesis 3.3, 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from nbkit.core.checks import check_keys, known, require
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.metrics.image import mse, psnr
from nbkit.papers.myelin.metrics import (
    ControlNorm, check_order, csf_distance, demyelinated, demyelinated_fraction, dynamic_demyelination,
    dynamic_remyelination, global_change, myelin_discrepancy, regress,
)
from nbkit.metrics.overlap import dice
from nbkit.metrics.volumes import region_mean

CONTROLS = ("HC", "CN")
TARGET = "DVR"
MASKS = {"wm_hc": "wm", "nawm": "nawm", "lesions": "lesions"}
"""Region of the tables -> mask of a scan; the first is of controls only, the others of patients only."""
CHANGES = (
    "global_change", "dynamic_demyelination", "dynamic_demyelination_normal", "dynamic_remyelination",
    "dynamic_remyelination_demyelinated",
)
"""Indices that need a second scan; fractions from −1 to 1."""

Predictions = Mapping[str, Volume]


class MyelinScore:
    """Scores of one predicted DVR map; call it as ``score(subject, prediction)``.

    Parameters
    ----------
    cohort : Cohort
        Its controls' true PET gives the threshold of demyelination, as in the papers; no model sees it.

    Attributes
    ----------
    norm : ControlNorm
    """

    def __init__(self, cohort: Cohort) -> None:
        self.norm = control_norm(cohort)
        self.__qualname__ = f"MyelinScore({self.norm.mean.sum():.9g}, {self.norm.sd.sum():.9g}, {self.norm.n})"

    def __call__(self, subject: Subject, prediction: Volume, scan: Scan | None = None) -> Mapping[str, float]:
        """Metric -> value for the baseline scan, or for `scan`.

        ``mse`` (DVR², every voxel of the image as published, Eq. 3.8) and ``psnr`` (dB, peak = maximum of the true
        image, Eq. 3.9); ``mse_brain`` inside the brain. For wm_hc (controls), nawm and lesions (patients):
        ``mean_*`` and ``true_mean_*`` (DVR) and ``discrepancy_*``, the absolute difference of the two. ``mae_lesions``:
        mean over lesion voxels of the absolute difference. ``percent``, ``true_percent``: demyelinated share of the
        lesions (%); ``dice_demyelinated``: overlap of the two maps, and ``dice_chance``, what as many voxels chosen at
        random would reach. NaN where this subject has no such region.
        """
        scan = scan or subject.baseline
        truth = scan.image(TARGET)
        truth.check_grid(prediction, f"{subject.id}: prediction and true {TARGET}")
        return {
            **_errors(prediction, truth, scan), **_regions(subject, scan, prediction, truth),
            **_demyelination(scan, prediction, truth, self.norm),
        }


def control_norm(cohort: Cohort) -> ControlNorm:
    """The norm of the true DVR of all controls (HC or CN) at baseline; a cohort without controls is refused."""
    controls = [s.baseline for s in cohort if s.diagnosis in CONTROLS]
    return ControlNorm.fit([(s.image(TARGET), s.mask("wm"), s.mask("csf"), s.mask("brain")) for s in controls])


def demyelinated_map(
    scan: Scan, norm: ControlNorm, *, image: Volume | None = None, lesions: Volume | None = None
) -> Volume:
    """Demyelinated lesion voxels of a scan, from its true DVR or from `image`, in its own lesions or in `lesions`."""
    return demyelinated(image or scan.image(TARGET), lesions or scan.mask("lesions"), _threshold(scan, norm))


def _threshold(scan: Scan, norm: ControlNorm) -> Volume:
    return norm.threshold(csf_distance(scan.mask("csf"), scan.mask("brain")))


def _errors(prediction: Volume, truth: Volume, scan: Scan) -> dict[str, float]:
    a, b = (v.data.float()[None] for v in (prediction, truth))
    brain = scan.mask("brain").data.bool()[None]
    return {
        "mse": float(mse(a, b)), "psnr": float(psnr(a, b, data_range=float(b.max()))),
        "mse_brain": float(mse(a, b, mask=brain)),
    }


def _regions(subject: Subject, scan: Scan, prediction: Volume, truth: Volume) -> dict[str, float]:
    healthy = subject.diagnosis in CONTROLS
    wanted = {name: mask for name, mask in MASKS.items() if (name == "wm_hc") == healthy}
    ours, true = (
        {n: region_mean(v, scan.mask(wanted[n])) if n in wanted else np.nan for n in MASKS} for v in (prediction, truth)
    )
    gaps = myelin_discrepancy(true, ours)
    gap = truth.with_data((prediction.data.float() - truth.data.float()).abs())
    return {
        **{f"mean_{n}": v for n, v in ours.items()}, **{f"true_mean_{n}": v for n, v in true.items()},
        **{f"discrepancy_{n}": v for n, v in gaps.items()},
        "mae_lesions": np.nan if healthy else region_mean(gap, scan.mask("lesions")),
    }


def _demyelination(scan: Scan, prediction: Volume, truth: Volume, norm: ControlNorm) -> dict[str, float]:
    lesions = scan.masks.get("lesions")
    if lesions is None or not lesions.data.any():
        return dict.fromkeys(("percent", "true_percent", "dice_demyelinated", "dice_chance"), np.nan)
    level = _threshold(scan, norm)
    ours, true = (demyelinated(v, lesions, level) for v in (prediction, truth))
    shares = demyelinated_fraction(ours, lesions), demyelinated_fraction(true, lesions)
    return {
        "percent": 100 * shares[0], "true_percent": 100 * shares[1],
        "dice_demyelinated": overlap(ours, true), "dice_chance": chance_dice(*shares),
    }


def overlap(a: Volume, b: Volume) -> float:
    """Dice of two boolean maps on one grid; NaN where both are empty."""
    a.check_grid(b, "overlap: a and b")
    return float(dice(a.data.bool()[None], b.data.bool()[None]))


def chance_dice(p: float, q: float) -> float:
    """Dice expected of two maps that hold the shares p and q of one region at random: 2pq / (p + q); NaN for none."""
    return 2 * p * q / (p + q) if p + q > 0 else np.nan


class Course(NamedTuple):
    """Demyelinated maps of one patient inside the lesions of the baseline; `d1` is None without a second scan."""

    lesions: Volume
    d0: Volume
    d1: Volume | None

    @property
    def demyelinating(self) -> Volume | None:
        """Voxels normal at t0 and demyelinated at t1; None without a second scan."""
        return None if self.d1 is None else self.d0.with_data(self.d1.data & ~self.d0.data & self.lesions.data.bool())

    @property
    def remyelinating(self) -> Volume | None:
        """Voxels demyelinated at t0 and normal at t1; None without a second scan."""
        return None if self.d1 is None else self.d0.with_data(self.d0.data & ~self.d1.data)


MAPS: dict[str, Callable[[Course], Volume | None]] = {
    "t0": lambda c: c.d0, "t1": lambda c: c.d1, "demyelinating": lambda c: c.demyelinating,
    "remyelinating": lambda c: c.remyelinating,
}
"""The maps of a patient that can agree."""


def courses(
    cohort: Cohort, predictions_t0: Predictions | None = None, predictions_t1: Predictions | None = None,
    norm: ControlNorm | None = None,
) -> dict[str, Course]:
    """Demyelinated maps of every patient with lesions, by subject id, from true PET or from predictions.

    Parameters
    ----------
    cohort : Cohort
    predictions_t0, predictions_t1 : mapping of subject id to Volume, optional
        Predicted DVR; None reads the true one. Subjects that `predictions_t0` lacks are left out, and a subject that
        `predictions_t1` lacks counts as one without a second scan.
    norm : ControlNorm, optional
        Default :func:`control_norm` of the cohort; always of true PET.

    Raises
    ------
    NbkitError
        For an unknown subject, images on another grid, or a second scan that is not later by age.
    """
    norm, found = norm or control_norm(cohort), {}
    for name, given in (("predictions_t0", predictions_t0), ("predictions_t1", predictions_t1)):
        check_keys(given or (), cohort.ids, f"courses: {name}")
    for subject in cohort:
        asked = subject.diagnosis not in CONTROLS and (predictions_t0 is None or subject.id in predictions_t0)
        if asked and subject.baseline.mask("lesions").data.any():
            found[subject.id] = _course(subject, predictions_t0, predictions_t1, norm)
    require(
        len(found) > 0, "courses: cohort", expected="at least one patient with lesions", found="none",
        remedy="Pass the cohort with its patients, and predictions of their scans.",
    )
    return found


def _course(subject: Subject, first: Predictions | None, second: Predictions | None, norm: ControlNorm) -> Course:
    lesions = subject.baseline.mask("lesions")
    before = demyelinated_map(subject.baseline, norm, image=(first or {}).get(subject.id))
    if len(subject.scans) < 2 or (second is not None and subject.id not in second):
        return Course(lesions, before, None)
    scan = subject.scans[1]
    check_order(subject.baseline, scan)
    return Course(lesions, before, demyelinated_map(scan, norm, image=(second or {}).get(subject.id), lesions=lesions))


def indices(
    cohort: Cohort, predictions_t0: Predictions | None = None, predictions_t1: Predictions | None = None,
    norm: ControlNorm | None = None,
) -> pd.DataFrame:
    """Indices of myelin content and its change of every patient with lesions (Wei thesis 4.2.5); see :func:`courses`.

    Returns
    -------
    DataFrame
        A row per patient: subject, percent_t0 and percent_t1 (demyelinated share of the lesions of t0, %), and as
        fractions global_change (t1 − t0), dynamic_demyelination and dynamic_remyelination of all lesion voxels, and the
        same of the voxels that could change (dynamic_demyelination_normal, dynamic_remyelination_demyelinated). NaN in
        all that needs a second scan for patients without one.
    """
    found = courses(cohort, predictions_t0, predictions_t1, norm)
    rows = [{"subject": s, **_indices(course)} for s, course in found.items()]
    return pd.DataFrame(rows, columns=["subject", "percent_t0", "percent_t1", *CHANGES])


def _indices(course: Course) -> dict[str, float]:
    lesions, d0, d1 = course
    row = {"percent_t0": 100 * demyelinated_fraction(d0, lesions)}
    if d1 is None:
        return row
    maps = (d0, d1, lesions)
    values = (
        global_change(*maps), dynamic_demyelination(*maps), dynamic_demyelination(*maps, denominator="normal"),
        dynamic_remyelination(*maps), dynamic_remyelination(*maps, denominator="demyelinated"),
    )
    return row | {"percent_t1": 100 * demyelinated_fraction(d1, lesions), **dict(zip(CHANGES, values, strict=True))}


def map_agreement(
    cohort: Cohort, predictions_t0: Predictions, predictions_t1: Predictions | None = None,
    norm: ControlNorm | None = None,
) -> pd.DataFrame:
    """Dice of the maps from predicted with those from true PET, per patient; see :func:`courses`.

    Parameters
    ----------
    predictions_t1 : mapping of subject id to Volume, optional
        None compares the baseline only.

    Returns
    -------
    DataFrame
        A row per patient: subject, dice_t0 and dice_t1 (demyelinated voxels), dice_demyelinating and dice_remyelinating
        (voxels that changed), and for each chance_*, what as many voxels chosen at random would reach. NaN without a
        second scan, and where both maps are empty.
    """
    norm = norm or control_norm(cohort)
    ours, true = courses(cohort, predictions_t0, predictions_t1 or {}, norm), courses(cohort, norm=norm)
    rows = [{"subject": s, **_agreement(course, true[s])} for s, course in ours.items()]
    return pd.DataFrame(rows, columns=["subject", *(f"{kind}_{m}" for m in MAPS for kind in ("dice", "chance"))])


def _agreement(ours: Course, true: Course) -> dict[str, float]:
    row = {}
    for name, of in MAPS.items():
        pair = of(ours), of(true)
        if None not in pair:
            row[f"dice_{name}"] = overlap(*pair)
            row[f"chance_{name}"] = chance_dice(*(demyelinated_fraction(v, ours.lesions) for v in pair))
    return row


def edss_regression(cohort: Cohort, table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Multiple regression of baseline EDSS on one index, with age, sex and T2 lesion load, as in Table 4.3.

    Parameters
    ----------
    cohort : Cohort
        Patients with the covariates ``age`` (years at t0), ``edss`` and ``t2_load_ml``.
    table : DataFrame
        Of :func:`indices`; patients without a value are left out.
    column : str
        One of :data:`CHANGES`; enters in %, as the size of the printed coefficients suggests.

    Returns
    -------
    DataFrame
        Of :func:`nbkit.papers.myelin.metrics.regress`, with the rows index (per %), age (per year), sex (women 1, men 0) and
        t2_load (per mm³).
    """
    known(column, CHANGES, "edss_regression: column")
    rows = table[table[column].notna()]
    people = [cohort.subject(s) for s in rows["subject"]]
    for name in ("sex", "age", "edss", "t2_load_ml"):
        lacking = [p.id for p in people if {"sex": p.sex, **p.covariates}.get(name) is None]
        require(
            not lacking, f"edss_regression: {name}", expected="a value for every patient", found=f"none for {lacking}",
            remedy="Add it to the table of subjects, or leave these patients out.",
        )
    covariates = {
        "index": 100 * rows[column].to_numpy(), "age": [p.covariates["age"] for p in people],
        "sex": [float(p.sex == "F") for p in people], "t2_load": [1000 * p.covariates["t2_load_ml"] for p in people],
    }
    return regress([p.covariates["edss"] for p in people], covariates)


def edss_pseudovalues(cohort: Cohort, table: pd.DataFrame, column: str) -> dict[str, float]:
    """A value per patient whose mean estimates β of one index on EDSS: n β − (n − 1) β without that patient.

    Jackknife pseudo-values (Tukey 1958) of the standardised coefficient of :func:`edss_regression`, so that a claim
    about β can be judged over patients like any other.
    """
    rows = table[table[column].notna()]
    n, whole = len(rows), float(edss_regression(cohort, rows, column).loc["index", "beta"])
    without = {s: edss_regression(cohort, rows[rows["subject"] != s], column) for s in rows["subject"]}
    return {s: n * whole - (n - 1) * float(found.loc["index", "beta"]) for s, found in without.items()}
