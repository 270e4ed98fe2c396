"""Figures 2 and 4: how regions change with age, in scans and by the regressors, and how simulated courses run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import ndimage

from nbkit.core.protocols import Cohort, Subject, age_of
from nbkit.core.tidy import stacked, tidy
from nbkit.data.slices import DIAGNOSES, diagnosis_code
from nbkit.papers.daninet.aged_slices import SliceFrame
from nbkit.papers.daninet.experiments import key_of
from nbkit.papers.daninet.regional_rates import RegionalRates, followed_pairs, true_ratios

COURSES = {
    "csf": ("daninet.fig4.monotone.csf", "% of steps"), "regions": ("daninet.fig4.monotone.regions", "% of steps"),
    "csf_area": ("daninet.fig4.csf_area", "% of the brain"), "brighter": ("daninet.violations", "% of brain pixels"),
}
"""Where the measures of courses are recorded, and their units."""
_DARK = 0.4
"""Of the peak: below it, a pixel of a T1w slice is mostly fluid."""


def regional_pairs(people: Cohort, model: Any) -> pd.DataFrame:
    """True ratios of regional intensity, of all pairs of a person's scans.

    Parameters
    ----------
    people : Cohort
    model : DaniNet
        Whose regions and scale of intensities count.

    Returns
    -------
    pandas.DataFrame
        subject, diagnosis, younger, older (years), structure (number of the region), value: (Σ older + ε) /
        (Σ younger + ε).
    """
    frames, masks = [], model.rates.masks.numpy()
    for person in people:
        years, ratios = true_ratios(*_history(person, model.frame), masks)
        told = {"subject": person.id, "diagnosis": person.diagnosis, "younger": years[:, 0], "older": years[:, 1]}
        frames.append(pd.DataFrame(ratios).assign(**told))
    wide = pd.concat(frames, ignore_index=True)
    return wide.melt(["subject", "diagnosis", "younger", "older"], var_name="structure").astype({"structure": int})


def telling_regions(pairs: pd.DataFrame) -> list[int]:
    """Of :func:`regional_pairs`: the region that darkens most, and those at the first quarter and the middle of all."""
    order = pairs.groupby("structure")["value"].mean().sort_values().index
    return order[[0, len(order) // 4, len(order) // 2]].tolist()


def regional_courses(rates: RegionalRates, *, diagnoses: Sequence[str]) -> pd.DataFrame:
    """Predicted intensity of regions over age, relative to the first: diagnosis, age, structure, value."""
    curves = {
        name: pd.DataFrame(rates.ratios[diagnosis_code(name), 0].numpy()).assign(age=rates.bins.centres)
        for name in diagnoses
    }
    wide = pd.concat(curves, names=["diagnosis"]).reset_index("diagnosis")
    return wide.melt(["diagnosis", "age"], var_name="structure").astype({"structure": int})


def ratio_errors(pairs: pd.DataFrame, rates: Mapping[str, RegionalRates]) -> pd.DataFrame:
    """Mean |predicted − true ratio| of each person, by name of the rates; "constant" predicts 1.

    `pairs` are of :func:`regional_pairs`. Between the centres of age bins, logs of the tabulated ratios are
    interpolated linearly in both ages.
    """
    predicted = {name: _tabulated(pairs, table) for name, table in rates.items()} | {"constant": 1.0}
    frames = []
    for name, said in predicted.items():
        errors = (pairs["value"] - said).abs().groupby(pairs["subject"], sort=False).mean().to_dict()
        id = f"daninet.fig2.svr.error.{name}"
        frames.append(tidy(errors, id=id, unit="ratio, absolute", system=name, metric="ratio error"))
    return stacked(*frames)


def region_sizes(masks: torch.Tensor) -> pd.DataFrame:
    """How many regions (R, S, S) there are, and their mean size."""
    return stacked(
        tidy(len(masks), id="daninet.regions.count", unit="1", metric="regions"),
        tidy(float(masks.sum((1, 2)).mean()), id="daninet.regions.pixels", unit="pixels", metric="pixels"),
    )


def rates_in_words(pairs: pd.DataFrame, rates: Mapping[str, RegionalRates]) -> list[str]:
    """How often true ratios rise, and how much each set of rates says that regions lose."""
    rising = 100 * float((pairs["value"] > 1).mean())
    kept = {name: 100 * float(table.ratios[0, 0, -1].mean()) for name, table in rates.items()}
    said = ", ".join(f"{share:.1f} % by the {name} regressors" for name, share in kept.items())
    return [
        f"Of true pairs, {rising:.0f} % of regional ratios rise.",
        f"From the first bin to the last, CN, regions keep of their intensity, on average: {said}.",
    ]


def courses(models: Mapping[str, Any], people: Cohort, *, regions: torch.Tensor) -> pd.DataFrame:
    """How the simulated course of every person runs, by :func:`course_measures`, for models by name."""
    frames = []
    for name, model in models.items():
        images = model.personalised([p.baseline for p in people], [p.diagnosis for p in people])
        found = {
            person.id: course_measures(course, brain=_brain(person), regions=regions, peak=model.frame.peak)
            for person, course in zip(people, images, strict=True)
        }
        for metric, (id, unit) in COURSES.items():
            values = {person: measures[metric] for person, measures in found.items()}
            frames.append(tidy(values, id=f"{id}.{key_of(name)}", unit=unit, system=name, metric=metric))
    return stacked(*frames)


def smoothness(models: Mapping[str, Any], people: Cohort) -> pd.DataFrame:
    """How much simulated courses change from bin to bin, between any two bins, and the one over the other.

    Mean absolute difference inside the brain, % of the peak. A straight course of ten bins has a ratio of 3 / 11; bins
    that know nothing of each other have one of 1.
    """
    frames = []
    for name, model in models.items():
        images = model.personalised([p.baseline for p in people], [p.diagnosis for p in people])
        apart = {p.id: _apart(x[:, _brain(p)], model.frame.peak) for p, x in zip(people, images, strict=True)}
        for kind, unit in (("neighbours", "% of the peak"), ("any", "% of the peak"), ("ratio", "ratio")):
            values = {person: found[kind] for person, found in apart.items()}
            id = f"daninet.smooth.{kind}.{key_of(name)}"
            frames.append(tidy(values, id=id, unit=unit, system=name, metric=kind))
    return stacked(*frames)


def _apart(course: torch.Tensor, peak: float) -> dict[str, float]:
    """Of the brain's pixels (A, n) over all bins."""
    gaps = 100 * torch.cdist(course.double(), course.double(), p=1) / course.shape[1] / peak
    younger, older = torch.triu_indices(len(course), len(course), offset=1)
    near, whole = float(gaps.diagonal(1).mean()), float(gaps[younger, older].mean())
    return {"neighbours": near, "any": whole, "ratio": near / max(whole, 1e-9)}


def course_measures(
    images: torch.Tensor, *, brain: torch.Tensor, regions: torch.Tensor, peak: float
) -> dict[str, float]:
    """How one simulated course runs from bin to bin.

    Parameters
    ----------
    images : torch.Tensor
        (A, S, S) in the scans' unit, from the youngest bin to the oldest.
    brain : torch.Tensor
        (S, S) bool.
    regions : torch.Tensor
        (R, S, S).
    peak : float
        Intensity that becomes 1.

    Returns
    -------
    dict of str to float
        "csf": % of steps in which a pixel within one pixel of fluid darkens; "regions": % of steps in which a region
        does; "csf_area": dark area at the oldest age minus that at the youngest, % of the brain; "brighter": % of brain
        pixels that brighten by more than .05 of the peak between two ages, mean over all pairs.
    """
    x = (images / peak).clamp(0, 1).double() * brain
    dark = (x < _DARK) & brain
    near = F.max_pool2d(dark[:1].float(), 3, stride=1, padding=1)[0] > 0
    ring = near & ~dark[0] & brain
    steps = x.diff(dim=0)
    sums = torch.einsum("aij,rij->ar", x, regions.double()).diff(dim=0)
    return {
        "csf": 100 * float((steps[:, ring] < 0).double().mean()), "regions": 100 * float((sums < 0).double().mean()),
        "csf_area": 100 * float(dark[-1].sum() - dark[0].sum()) / float(brain.sum()),
        "brighter": 100 * brightness_changes(range(len(x)), x.numpy(), brain=brain.numpy())[0],
    }


def true_changes(people: Cohort, frame: SliceFrame) -> pd.DataFrame:
    """Share of brain pixels that brighten, and that darken, between scans of a person; noise alone gives both alike."""
    found = {p.id: brightness_changes(*_history(p, frame), brain=_brain(p).numpy()) for p in people}
    brighter, darker = ({name: 100 * both[k] for name, both in found.items()} for k in (0, 1))
    unit = {"unit": "% of brain pixels", "system": "truth"}
    return stacked(
        tidy(brighter, id="daninet.violations.true", metric="brighter", **unit), tidy(darker, metric="darker", **unit),
    )


def changes_in_words(changes: pd.DataFrame) -> list[str]:
    """The share that darkens, beside which :func:`true_changes` records the one that brightens."""
    darker = changes["value"][changes["metric"] == "darker"].mean()
    return [f"Between true scans, {darker:.1f} % of brain pixels darken by as much: noise alone would give both alike."]


def brightness_changes(
    ages: Sequence[float], images: np.ndarray, *, brain: np.ndarray, tolerance: float = 0.05
) -> tuple[float, float]:
    """How often one person's scans break what L_vox (Eq. 3) asks for: no pixel gets brighter with age.

    Parameters
    ----------
    ages : sequence of float
        (n,).
    images : numpy.ndarray
        (n, S, S) in [0, 1].
    brain : numpy.ndarray
        (S, S) bool, the pixels that count.
    tolerance : float
        Change of intensity up to which a pixel counts as unchanged: what noise alone does.

    Returns
    -------
    tuple of float
        Share of the brain's pixels that get brighter, and darker, mean over all pairs of scans at different ages.
    """
    younger, older = followed_pairs(ages)
    seen = images[:, brain]
    change = seen[older] - seen[younger]
    return float((change > tolerance).mean()), float((change < -tolerance).mean())


def _history(person: Subject, frame: SliceFrame) -> tuple[list[float], np.ndarray]:
    """Ages, and slices (n, S, S) from 0 to 1."""
    scans = person.scans
    return [age_of(scan) for scan in scans], np.stack([((frame.scaled(scan) + 1) / 2).numpy() for scan in scans])


def _brain(person: Subject) -> torch.Tensor:
    return person.baseline.mask("brain").data[0, ..., 0].bool()


def _tabulated(pairs: pd.DataFrame, rates: RegionalRates) -> np.ndarray:
    """Predicted ratio of every row of `pairs`."""
    logs = rates.ratios.double().log().numpy()
    logs = logs - logs.swapaxes(1, 2)  # a ratio backwards in time is one over that forwards
    centres = rates.bins.centres
    places = ((pairs[column] - centres[0]) / (centres[1] - centres[0]) for column in ("younger", "older"))
    at = [pairs["diagnosis"].map(DIAGNOSES), *places, pairs["structure"]]
    return np.exp(ndimage.map_coordinates(logs, at, order=1, mode="nearest"))
