"""The controls of a cohort against published volumes of cognitively normal people (DLMUSE, 5th to 95th centile)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from nbkit.core.checks import known, require
from nbkit.core.protocols import Cohort
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.regions import AGEING_PARAMETERS, structure_of, template_maps

NORM_PARAMETERS = Path(__file__).with_name("norm_parameters.toml")
CONTROL = "CN"
COLUMNS = ("structure", "subject", "age", "raw_mm3", "mm3", "low", "median", "high", "inside")


def band_at(structure: str, age: float) -> tuple[float, float, float]:
    """5th centile, median and 95th centile (mm³) of a structure at an age (years), linear between the norms' ages.

    Up to five years beyond the last age, its decade is continued; other ages are refused, and unknown structures.
    """
    norms = load_parameters(NORM_PARAMETERS)
    known(structure, norms.groups("band"), "band_at: structure")
    years, beyond = norms["age.years"], norms["age.tolerated"]
    require(
        years[0] <= age <= years[-1] + beyond, "band_at: age", expected=f"{years[0]:g} to {years[-1] + beyond:g} years",
        found=age, remedy="The norms end there: leave the visit out.",
    )
    left = min(int(np.searchsorted(years, age, side="right")) - 1, len(years) - 2)
    share = (age - years[left]) / (years[left + 1] - years[left])
    rows = (norms[f"band.{structure}.{name}"] for name in ("low", "median", "high"))
    return tuple(float(row[left] + share * (row[left + 1] - row[left])) for row in rows)


def norm_ratio(structure: str, age: float) -> float | None:
    """Median size of a structure, its sides together, at an age over that at the first age of the norms.

    None for a structure that the norms do not have.
    """
    norms = load_parameters(NORM_PARAMETERS)
    bands = [name for name in norms.groups("band") if structure_of(name) == structure]
    first = norms["age.years"][0]
    now, then = (sum(band_at(name, at)[1] for name in bands) for at in (age, first))
    return now / then if bands else None


@lru_cache(maxsize=1)
def definition_scales() -> Mapping[str, float]:
    """What our mm³ of each structure are multiplied by before they are held against DLMUSE.

    The regions of the phantom are approximations and cut the brain elsewhere. The factor is the one that gives the
    templates, taken as 45 years old and of a head of median size, the median of that age; it is the same at all ages
    and for all people, so it moves no slope and no spread.
    """
    norms, ageing = load_parameters(NORM_PARAMETERS), load_parameters(AGEING_PARAMETERS)
    regions, _ = template_maps(load_template(load_parameters()), ageing, spacing=4)
    volumes = regions.volumes
    head = norms["head.median"] / sum(volumes.values())
    return {
        name: norms[f"band.{name}.median"][0] / (head * _sum(volumes, name, norms)) for name in norms.groups("band")
    }


def _sum(volumes: Mapping[str, float], structure: str, norms: Parameters) -> float:
    return sum(volumes[region] for region in norms[f"band.{structure}.regions"])


def control_bands(cohort: Cohort, *, scales: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Volumes of every visit of the controls (CN at baseline) beside the norms of the age.

    Parameters
    ----------
    cohort : Cohort
        With ``truth[subject].volumes``, one dict of region to mm³ per visit.
    scales : mapping of str to float, optional
        Factor by structure; by default :func:`definition_scales`. Regions that are DLMUSE's own need ``{}``.

    Returns
    -------
    DataFrame
        :data:`COLUMNS`, one row per structure and visit: ``raw_mm3`` as simulated, ``mm3`` after scaling, the band
        in mm³, and whether ``mm3`` is inside.

    Raises
    ------
    NbkitError
        If nobody is a control, or an age is outside the norms.
    """
    norms, scales = load_parameters(NORM_PARAMETERS), definition_scales() if scales is None else scales
    controls = [s for s in cohort if s.diagnosis == CONTROL]
    require(
        bool(controls), f"control_bands: {cohort.name}", expected=f"people with diagnosis {CONTROL}", found="none",
        remedy="The norms are of cognitively normal people: use a cohort that has some.",
    )
    rows = [
        (structure, subject.id, scan.age, raw := _sum(volumes, structure, norms), raw * scales.get(structure, 1.0),
         *band_at(structure, scan.age))
        for structure in norms.groups("band") for subject in controls
        for scan, volumes in zip(subject.scans, cohort.truth[subject.id].volumes, strict=True)
    ]
    bands = pd.DataFrame(rows, columns=COLUMNS[:-1])
    return bands.assign(inside=bands["mm3"].between(bands["low"], bands["high"]))


def band_summary(bands: pd.DataFrame) -> pd.DataFrame:
    """One row per structure: share of visits inside, median of mm³ over the norm, and slopes in % per year.

    ``norm_slope`` and ``slope_between`` compare people of different ages (a line through all visits, and through the
    norm's medians at the same visits); ``slope_within`` is the mean of the lines through each person's own visits.
    All are over the norm's median at the same visits.
    """
    return pd.DataFrame([_summary(name, rows) for name, rows in bands.groupby("structure", sort=False)])


def _summary(structure: str, rows: pd.DataFrame) -> dict[str, object]:
    unit = rows["median"].mean() / 100
    within = [np.polyfit(own["age"], own["mm3"], 1)[0] for _, own in rows.groupby("subject")]
    return {
        "structure": structure, "inside": rows["inside"].mean(), "visits": len(rows),
        "over_norm": (rows["mm3"] / rows["median"]).median(),
        "norm_slope": np.polyfit(rows["age"], rows["median"], 1)[0] / unit,
        "slope_between": np.polyfit(rows["age"], rows["mm3"], 1)[0] / unit,
        "slope_within": float(np.mean(within)) / unit,
    }
