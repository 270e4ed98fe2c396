"""Whether templates age as their people do, and so whose templates InBrainSyn is judged with.

The test looks at templates and training scans alone, before any prediction is scored: the fluid of the ventricles is
read alike in both, and its growth per year compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from scipy.ndimage import binary_dilation, distance_transform_edt

from nbkit.core.checks import known
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.tidy import stacked, tidy
from nbkit.core.volume import Volume
from nbkit.metrics.regions import structure
from nbkit.papers.inbrainsyn.aged import CONTRAST, persons
from nbkit.papers.inbrainsyn.inbrainsyn import InBrainSyn

LEAST = 0.5
"""Share of the cohort's growth that templates must show, in its direction and in every group, to be judged."""
DEPTH_MM = 20.0
"""Farther from the edge of the brain fluid is that of the ventricles more than of sulci."""
VENTRICLE = "lateral_ventricle"
AGES, MOST = 5, 100
CHOICES = ("auto", "gan", "kernel")


@dataclass(frozen=True)
class VentricleFluid:
    """Reads the volume of the ventricles' fluid (mm³) from a T1w image, where fluid is dark.

    Attributes
    ----------
    deep, place : numpy.ndarray
        (X, Y, Z) bool: voxels at least :data:`DEPTH_MM` from the edge of the brain; and where fluid is counted: the
        lateral ventricles of all scans and a voxel around them, or without labels all that is deep.
    fluid, tissue, bright : float
        Intensities: 1st centile, median and 90th centile of what is deep, over the scans. An image is scaled to that
        90th centile first; then a voxel counts whole up to a quarter of the way from fluid to tissue, not at all from
        three quarters on, and by its share between.
    voxel_mm3 : float
    """

    deep: np.ndarray
    place: np.ndarray
    fluid: float
    tissue: float
    bright: float
    voxel_mm3: float

    @classmethod
    def of(cls, scans: Sequence[Scan]) -> Self:
        """Learn where and how dark from `scans` on one grid, with brain masks and, if all have them, labels.

        At most :data:`MOST` of them are looked at, evenly spread.
        """
        scans = scans[:: -(-len(scans) // MOST)]
        masks = np.mean([scan.mask("brain").numpy() > 0 for scan in scans], axis=0)
        spacing = scans[0].image(CONTRAST).spacing
        depth = distance_transform_edt(masks > 0.5, sampling=spacing)
        deep = depth >= min(DEPTH_MM, depth.max() / 2)
        seen = np.concatenate([scan.image(CONTRAST).numpy()[deep] for scan in scans])
        labelled = all(scan.labels is not None for scan in scans)
        place = binary_dilation(np.any([_ventricles(scan) for scan in scans], axis=0)) if labelled else deep
        place = place if place.any() else deep
        return cls(deep, place, *map(float, np.quantile(seen, (0.01, 0.5, 0.9))), float(np.prod(spacing)))

    def __call__(self, image: Volume) -> float:
        """Volume in mm³."""
        gain = self.bright / np.quantile(image.numpy()[self.deep], 0.9)
        share = (self.tissue - gain * image.numpy()[self.place]) / (self.tissue - self.fluid)
        return float(np.clip(2 * share - 0.5, 0, 1).sum() * self.voxel_mm3)


def _ventricles(scan: Scan) -> np.ndarray:
    codes = [code for code, name in scan.label_names.items() if structure(name) == VENTRICLE]
    return np.isin(scan.labels.numpy(), codes)


def ageing(system: InBrainSyn, cohort: Cohort) -> pd.DataFrame:
    """How fast the ventricles' fluid grows with age in each group's templates, and in the people they learned from.

    Both are slopes of the logarithm of the volume on age, by least squares: of people with a level for each, from their
    visits, or where nobody came twice across people; templates are read at ages that are evenly spread over those of
    the visits.

    Parameters
    ----------
    system : InBrainSyn
        Fitted.
    cohort : Cohort
        The training people, whose scans carry the mask "brain".

    Returns
    -------
    DataFrame
        By "group": "templates" and "cohort", both in % per year, and "share", the one over the other.
    """
    rows = {}
    for group, model in system.templates.items():
        scans = system.visits(cohort, group)
        fluid, people = VentricleFluid.of(scans), persons(scans)
        twice = [visits for visits in people.values() if len(visits) > 1] or [scans]
        seen = _slope([[(scan.age, fluid(scan.image(CONTRAST))) for scan in visits] for visits in twice])
        ages = np.linspace(*system.age_ranges[group], AGES)
        made = _slope([[(age, fluid(model.template(age))) for age in ages]])
        rows[group] = {"templates": made, "cohort": seen, "share": made / seen}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")


def _slope(courses: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Least-squares slope of ln volume on age, in % per year, with a level for each course; NaN where ages are one."""
    points = [np.array([(age, np.log(max(mm3, 1.0))) for age, mm3 in course]) for course in courses]
    age, log = np.concatenate([course - course.mean(axis=0) for course in points]).T
    spread = np.sum(age**2)
    return 100 * float(np.sum(age * log) / spread) if spread > 0 else float("nan")


def age_enough(frame: pd.DataFrame, *, least: float = LEAST) -> bool:
    """Whether the templates of every group show at least the share `least` of the cohort's growth, of its sign."""
    return bool((frame["share"] >= least).all())


@dataclass(frozen=True)
class Judged:
    """Whose templates are judged.

    Attributes
    ----------
    name, rival : str
        Kind judged, and the other one.
    table : DataFrame
        :func:`ageing` of every kind, with the column "kind" first.
    said : str
        The decision in a sentence.
    """

    name: str
    rival: str
    table: pd.DataFrame
    said: str

    @property
    def shares(self) -> pd.DataFrame:
        """How much of the cohort's growth the templates of each kind and group show, to be recorded."""
        return stacked(*(
            tidy(row.share, id=f"inbrainsyn.templates.share.{row.kind}.{row.group.lower()}",
                 unit="share of the cohort's growth", system=f"{row.kind} templates", metric="growth")
            for row in self.table.itertuples() if np.isfinite(row.share)
        ))


def judged_templates(systems: Mapping[str, InBrainSyn], cohort: Cohort, *, templates: str = "auto") -> Judged:
    """The kind of templates that InBrainSyn is judged with: "gan", as published, where they age; else "kernel".

    Parameters
    ----------
    systems : mapping of {"gan", "kernel"} to InBrainSyn
        Fitted to `cohort`, with one kind of templates each.
    templates : {"auto", "gan", "kernel"}
        "auto" leaves it to the test (:func:`age_enough` of :func:`ageing`); a kind is judged whatever the test says.
    """
    known(templates, CHOICES, "templates")
    tables = {kind: ageing(system, cohort) for kind, system in systems.items()}
    enough = age_enough(tables["gan"])
    name = {"auto": "gan" if enough else "kernel"}.get(templates, templates)
    rival = next(kind for kind in systems if kind != name)
    table = pd.concat(tables, names=["kind"]).reset_index()
    return Judged(name, rival, table, _said(tables["gan"], enough, templates, name))


def _said(gan: pd.DataFrame, enough: bool, templates: str, name: str) -> str:
    shares = ", ".join(f"{group} {row.templates:+.2f} % per year of {row.cohort:+.2f}" for group, row in gan.iterrows())
    told = "asked for" if templates != "auto" else "as published" if enough else "because Atlas-GAN's do not age enough"
    return (
        f"Growth of the ventricles' fluid in Atlas-GAN's templates, beside that of their people: {shares}. At least "
        f"{100 * LEAST:.0f} % in every group is asked: {'they age' if enough else 'they do not age'}. Judged: {name} "
        f"templates, {told}."
    )
