"""Demyelination and remyelination in MS lesions from a PET map of myelin (Bodini et al. 2016; Wei thesis 4.2.5).

A lesion voxel is demyelinated when its DVR lies below the mean minus one standard deviation of control white matter at
the same distance from the CSF; the distance takes out the partial volume that pulls white matter near CSF down. The
rule calls about 16 % of normal Gaussian voxels demyelinated: :attr:`ControlNorm.chance_floor` says how many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import statsmodels.api as sm
import torch
from scipy import ndimage

from nbkit.core.checks import check_keys, known, require
from nbkit.core.protocols import Scan, age_of
from nbkit.core.volume import Volume, bounding_box

LEAST_VOXELS = 30
"""A bin of distances with fewer control voxels says too little of their spread, and is left out."""
COLUMNS = ("coefficient", "standard_error", "t", "p", "beta", "n")


def csf_distance(csf: Volume, brain: Volume) -> Volume:
    """Distance from the centre of each brain voxel to that of the nearest CSF voxel, in mm; 0 in CSF and outside.

    Parameters
    ----------
    csf, brain : Volume
        Boolean masks on one grid; CSF outside the brain mask does not count.

    Raises
    ------
    NbkitError
        If grids differ, or the brain holds no CSF.
    """
    brain.check_grid(csf, "csf_distance: csf and brain")
    inside = brain.data[0].bool()
    fluid = csf.data[0].bool() & inside
    require(
        bool(fluid.any()), "csf_distance: csf", expected="at least one CSF voxel in the brain", found="none",
        remedy="Check that the CSF mask belongs to this brain.",
    )
    box = bounding_box(inside)
    away = ndimage.distance_transform_edt(~fluid[box].numpy(), sampling=csf.spacing)
    distance = torch.zeros(brain.data.shape, dtype=torch.float32)
    distance[0][box] = torch.from_numpy(away).float()
    return brain.with_data(distance * inside, "distance to CSF (mm)")


@dataclass(frozen=True, eq=False)
class ControlNorm:
    """What the DVR of control white matter is at each distance from the CSF.

    Attributes
    ----------
    centres : numpy.ndarray
        (K,) mean distance of the voxels of each bin, mm, ascending.
    mean, sd : numpy.ndarray
        (K,) over the pooled voxels of all controls.
    chance_floor : float
        Share of control white-matter voxels below the threshold themselves; 0.159 if they were Gaussian.
    n : int
        Number of controls.
    """

    centres: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    chance_floor: float
    n: int

    @classmethod
    def fit(
        cls, controls: Sequence[tuple[Volume, Volume, Volume, Volume]], *, bin_mm: float = 1.0, smooth_mm: float = 1.0,
    ) -> Self:
        """Pool the white-matter voxels of all controls by their distance from CSF.

        Mean and SD are smoothed over distance by a Gaussian, each bin with the weight of its voxels; the SD is that of
        the voxels around the smoothed mean. A profile that is linear in the distance stays as it is.

        Parameters
        ----------
        controls : sequence of (DVR, white matter, CSF, brain)
            Volumes of each control on one grid; the last three are masks.
        bin_mm, smooth_mm : float
            Width of a bin, and SD of the Gaussian over bins (0: none). Neither is published.

        Raises
        ------
        NbkitError
            Without controls, for grids that differ, or when no bin has 30 voxels.
        """
        require(
            len(controls) > 0, "ControlNorm.fit: controls", expected="at least one control", found="none",
            remedy="The threshold is that of healthy controls: a cohort without them has none.",
        )
        values, distance = (np.concatenate(v) for v in zip(*(_white_matter(*c) for c in controls), strict=True))
        bins = (distance / bin_mm).astype(int)
        counts = np.bincount(bins)
        kept = np.flatnonzero(counts >= LEAST_VOXELS)
        require(
            kept.size > 0, "ControlNorm.fit: controls", expected=f"a bin of distances with {LEAST_VOXELS} voxels",
            found=f"at most {counts.max()}", remedy="Pass more controls or wider bins (bin_mm).",
        )
        weigh = _Smoother(bins, kept, smooth_mm / bin_mm)
        centres, mean = weigh.mean(distance), weigh.mean(values)
        residual = values - np.interp(distance, centres, mean)
        sd = np.sqrt(weigh.mean(residual**2))
        below = residual < -np.interp(distance, centres, sd)
        return cls(centres, mean, sd, float(below.mean()), len(controls))

    def threshold(self, distance: Volume) -> Volume:
        """Mean − 1 SD at each voxel's distance from CSF (mm), interpolated; constant beyond the first and last bin."""
        level = np.interp(distance.numpy(), self.centres, self.mean - self.sd)
        return distance.with_data(torch.from_numpy(level).float(), "demyelination threshold")


@dataclass(frozen=True)
class _Smoother:
    """Means by bin, smoothed over the bins `kept` by a Gaussian of `width` bins that weighs each by its voxels."""

    bins: np.ndarray
    kept: np.ndarray
    width: float

    def mean(self, values: np.ndarray) -> np.ndarray:
        """(K,) smoothed mean of one value per voxel."""
        sums, counts = (np.bincount(self.bins, weights=w)[self.kept] for w in (values, np.ones_like(values)))
        gap = self.kept[:, None] - self.kept[None]
        kernel = np.exp(-0.5 * (gap / self.width) ** 2) if self.width > 0 else np.eye(self.kept.size)
        return kernel @ sums / (kernel @ counts)


def _white_matter(dvr: Volume, wm: Volume, csf: Volume, brain: Volume) -> tuple[np.ndarray, np.ndarray]:
    """DVR and distance from CSF of the white-matter voxels of one control, float64."""
    for name, volume in (("white matter", wm), ("CSF", csf), ("brain", brain)):
        dvr.check_grid(volume, f"ControlNorm.fit: DVR and {name}")
    inside = wm.data.bool() & brain.data.bool()
    require(
        bool(inside.any()), "ControlNorm.fit: white matter", expected="at least one voxel", found="an empty mask",
        remedy="Check the white-matter mask of this control.",
    )
    return tuple(v.data[inside].double().numpy() for v in (dvr, csf_distance(csf, brain)))


def demyelinated(dvr: Volume, lesions: Volume, threshold: Volume) -> Volume:
    """Lesion voxels whose DVR lies below `threshold` at that voxel; a boolean Volume."""
    for name, volume in (("lesions", lesions), ("threshold", threshold)):
        dvr.check_grid(volume, f"demyelinated: dvr and {name}")
    return dvr.with_data(lesions.data.bool() & (dvr.data < threshold.data), "demyelinated")


def demyelinated_fraction(demyelinated: Volume, lesions: Volume) -> float:
    """Share of lesion voxels that are demyelinated, 0 to 1; NaN without lesions.

    Parameters
    ----------
    demyelinated : Volume
        Map at either time point.
    lesions : Volume
        Lesion mask of the baseline: the denominator at both time points.
    """
    sick, inside = _within(lesions, demyelinated)
    return _share(sick, inside)


def global_change(d0: Volume, d1: Volume, lesions: Volume) -> float:
    """Demyelinated share at t1 minus that at t0, −1 to 1: positive where demyelination prevails; NaN without lesions.

    `d0`, `d1` are the demyelinated maps of :func:`demyelinated` at the two time points.
    """
    return demyelinated_fraction(d1, lesions) - demyelinated_fraction(d0, lesions)


def dynamic_demyelination(d0: Volume, d1: Volume, lesions: Volume, *, denominator: str = "lesions") -> float:
    """Voxels normal at t0 and demyelinated at t1, as a share (0 to 1) of a denominator.

    Parameters
    ----------
    denominator : {"lesions", "normal"}
        Of all lesion voxels of the baseline, or of those that were normal at t0: the thesis's "proportion of normally
        myelinated voxels" can be read either way.
    """
    known(denominator, ("lesions", "normal"), "dynamic_demyelination: denominator")
    before, after, inside = _within(lesions, d0, d1)
    return _share(~before & after & inside, inside if denominator == "lesions" else inside & ~before)


def dynamic_remyelination(d0: Volume, d1: Volume, lesions: Volume, *, denominator: str = "lesions") -> float:
    """Voxels demyelinated at t0 and normal at t1, as a share (0 to 1) of a denominator.

    Parameters
    ----------
    denominator : {"lesions", "demyelinated"}
        Of all lesion voxels of the baseline, or of those that were demyelinated at t0.
    """
    known(denominator, ("lesions", "demyelinated"), "dynamic_remyelination: denominator")
    before, after, inside = _within(lesions, d0, d1)
    return _share(before & ~after, inside if denominator == "lesions" else before)


def _within(lesions: Volume, *maps: Volume) -> tuple[torch.Tensor, ...]:
    """The maps inside the lesions, and the lesions."""
    for volume in maps:
        lesions.check_grid(volume, "metrics.myelin: demyelinated map and lesions")
    inside = lesions.data.bool()
    return (*(volume.data.bool() & inside for volume in maps), inside)


def _share(part: torch.Tensor, whole: torch.Tensor) -> float:
    total = int(whole.sum())
    return int(part.sum()) / total if total else np.nan


def check_order(scan0: Scan, scan1: Scan) -> None:
    """Refuse two time points of different people, or of which the second is not the later one by age."""
    where = f"{scan0.subject}: {scan0.session} and {scan1.session}"
    require(
        scan0.subject == scan1.subject, where, expected="two scans of one person", found=f"one of {scan1.subject}",
        remedy="Pair the scans by subject.",
    )
    ages = age_of(scan0), age_of(scan1)
    require(
        ages[0] < ages[1], where, expected="a second scan at a later age", found=f"{ages[0]:g}, then {ages[1]:g} years",
        remedy="Swap the two, or give ages as decimal years: the index of change has a direction.",
    )


def myelin_discrepancy(true_means: Mapping[str, float], predicted_means: Mapping[str, float]) -> dict[str, float]:
    """|predicted − true mean DVR| of each region of one subject (Tables 3.2, 3.4, 4.2b); NaN where a mean is.

    The tables print its mean over subjects. Means of regions are compared, not voxels: errors inside a region cancel.
    """
    check_keys(predicted_means, true_means, "myelin_discrepancy: predicted_means")
    check_keys(true_means, predicted_means, "myelin_discrepancy: true_means")
    return {region: abs(predicted_means[region] - mean) for region, mean in true_means.items()}


def regress(response: Sequence[float], covariates: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Multiple linear regression with an intercept, as in Table 4.3 (ordinary least squares, statsmodels).

    Parameters
    ----------
    response : sequence of float
        One value per subject, e.g. EDSS.
    covariates : mapping of str to sequence of float
        In the same order; categories as numbers (sex as 0 and 1).

    Returns
    -------
    DataFrame
        A row per covariate: coefficient (unit of the response per unit of the covariate), standard_error, t, two-sided
        p with n − k − 1 degrees of freedom, beta (the coefficient times SD of the covariate over SD of the response),
        n (subjects).

    Raises
    ------
    NbkitError
        For lengths that differ, values that are not finite, too few subjects, or a covariate that is constant or a sum
        of the others.
    """
    y, x = np.asarray(response, float), {k: np.asarray(v, float) for k, v in covariates.items()}
    _check_regression(y, x)
    fit = sm.OLS(y, sm.add_constant(np.column_stack(list(x.values())))).fit()
    scale = np.array([v.std() for v in x.values()]) / y.std()
    columns = (fit.params[1:], fit.bse[1:], fit.tvalues[1:], fit.pvalues[1:], fit.params[1:] * scale, y.size)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)), index=pd.Index(x, name="covariate"))


def _check_regression(y: np.ndarray, x: Mapping[str, np.ndarray]) -> None:
    for name, values in {"response": y, **x}.items():
        good = values.shape == y.shape == (y.size,) and bool(np.isfinite(values).all())
        require(
            good, f"regress: {name}", expected=f"{y.size} finite values, one per subject",
            found=f"shape {values.shape}, {int((~np.isfinite(values)).sum())} not finite",
            remedy="Leave out subjects that lack a value, in the response and in every covariate.",
        )
        require(
            values.size > 1 and np.ptp(values) > 0, f"regress: {name}", expected="values that differ",
            found="a constant", remedy="Leave a constant covariate out: the intercept is there already.",
        )
    require(
        y.size > len(x) + 1, "regress: response", expected=f"more than {len(x) + 1} subjects", found=y.size,
        remedy="Use fewer covariates or more subjects.",
    )
    centred = np.column_stack([(v - v.mean()) / v.std() for v in x.values()])
    require(
        np.linalg.matrix_rank(centred) == len(x), "regress: covariates", found=f"{len(x)} that are not",
        expected="covariates none of which is a sum of the others", remedy="Leave one of them out.",
    )
