"""Demyelination and remyelination in MS lesions from a PET map of myelin, and how a predicted map is scored.

A lesion voxel is demyelinated when its DVR lies below the mean minus one standard deviation of control white matter at
the same distance from the CSF (Bodini et al. 2016; Wei thesis 4.2.5); the distance takes out the partial volume that
pulls white matter near CSF down. The rule calls about 16 % of normal Gaussian voxels demyelinated:
:attr:`ControlNorm.chance_floor` says how many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import statsmodels.api as sm
import torch
from scipy import ndimage

from nbkit.core.checks import require
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume, bounding_box
from nbkit.metrics.image import mse, psnr
from nbkit.metrics.level import own_level
from nbkit.metrics.overlap import dice
from nbkit.metrics.sharpness import sharpness
from nbkit.metrics.volumes import region_mean

CONTROLS = ("HC", "CN")
TARGET = "DVR"
REGIONS = {"wm_hc": "wm", "nawm": "nawm", "lesions": "lesions"}
"""Region of the tables -> mask of a scan; the first is of controls only, the others of patients only."""
LEAST_VOXELS = 30
"""A bin of distances with fewer control voxels says too little of their spread, and is left out."""


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
        gap, width = kept[:, None] - kept[None], smooth_mm / bin_mm
        kernel = np.exp(-0.5 * (gap / width) ** 2) if width > 0 else np.eye(kept.size)

        def smoothed(values: np.ndarray) -> np.ndarray:
            return kernel @ np.bincount(bins, weights=values)[kept] / (kernel @ counts[kept])

        centres, mean = smoothed(distance), smoothed(values)
        residual = values - np.interp(distance, centres, mean)
        sd = np.sqrt(smoothed(residual**2))
        below = residual < -np.interp(distance, centres, sd)
        return cls(centres, mean, sd, float(below.mean()), len(controls))

    def threshold(self, distance: Volume) -> Volume:
        """Mean − 1 SD at each voxel's distance from CSF (mm), interpolated; constant beyond the first and last bin."""
        level = np.interp(distance.numpy(), self.centres, self.mean - self.sd)
        return distance.with_data(torch.from_numpy(level).float(), "demyelination threshold")

    def demyelinated(self, scan: Scan, *, image: Volume | None = None, lesions: Volume | None = None) -> Volume:
        """Demyelinated lesion voxels of a scan, from its true DVR or `image`, in its own lesions or in `lesions`."""
        level = self.threshold(csf_distance(scan.mask("csf"), scan.mask("brain")))
        return demyelinated(image or scan.image(TARGET), lesions or scan.mask("lesions"), level)


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


def control_norm(cohort: Cohort) -> ControlNorm:
    """The norm of the true DVR of all controls (HC or CN) at baseline; a cohort without controls is refused."""
    controls = [s.baseline for s in cohort if s.diagnosis in CONTROLS]
    return ControlNorm.fit([(s.image(TARGET), s.mask("wm"), s.mask("csf"), s.mask("brain")) for s in controls])


def demyelinated(dvr: Volume, lesions: Volume, threshold: Volume) -> Volume:
    """Lesion voxels whose DVR lies below `threshold` at that voxel; a boolean Volume."""
    for name, volume in (("lesions", lesions), ("threshold", threshold)):
        dvr.check_grid(volume, f"demyelinated: dvr and {name}")
    return dvr.with_data(lesions.data.bool() & (dvr.data < threshold.data), "demyelinated")


def demyelinated_fraction(demyelinated: Volume, lesions: Volume) -> float:
    """Share of the lesion voxels of the baseline that are demyelinated at a visit, 0 to 1; NaN without lesions."""
    lesions.check_grid(demyelinated, "demyelinated_fraction: demyelinated map and lesions")
    inside = lesions.data.bool()
    return _share(demyelinated.data.bool() & inside, inside)


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
    def maps(self) -> dict[str, Volume]:
        """The maps at "t0" and "t1", and the voxels that are "demyelinating" and "remyelinating" between the two."""
        if self.d1 is None:
            return {"t0": self.d0}
        lost, back = self.d1.data & ~self.d0.data & self.lesions.data.bool(), self.d0.data & ~self.d1.data
        changes = {"demyelinating": self.d0.with_data(lost), "remyelinating": self.d0.with_data(back)}
        return {"t0": self.d0, "t1": self.d1, **changes}


def change_indices(course: Course) -> dict[str, float]:
    """Indices of myelin content and its change between two scans (Wei thesis 4.2.5); NaN where nothing can be divided.

    Returns
    -------
    dict
        ``percent_t0``, ``percent_t1``: demyelinated share of the lesion voxels of the baseline (%). As fractions
        ``global_change``: t1 − t0, positive where demyelination prevails; ``dynamic_demyelination``,
        ``dynamic_remyelination``: voxels that became so, of all lesion voxels; the same of the voxels that could
        change (``dynamic_demyelination_normal``, ``dynamic_remyelination_demyelinated``): the thesis's "proportion of
        normally myelinated voxels" can be read either way. Only the first without a second scan.
    """
    inside = course.lesions.data.bool()
    maps = {name: volume.data.bool() & inside for name, volume in course.maps.items()}
    before = maps["t0"]
    found = {"percent_t0": 100 * _share(before, inside)}
    if course.d1 is None:
        return found
    lost, back = maps["demyelinating"], maps["remyelinating"]
    return found | {
        "percent_t1": 100 * _share(maps["t1"], inside),
        "global_change": _share(maps["t1"], inside) - _share(before, inside),
        "dynamic_demyelination": _share(lost, inside), "dynamic_demyelination_normal": _share(lost, inside & ~before),
        "dynamic_remyelination": _share(back, inside), "dynamic_remyelination_demyelinated": _share(back, before),
    }


def _share(part: torch.Tensor, whole: torch.Tensor) -> float:
    total = int(whole.sum())
    return int(part.sum()) / total if total else np.nan


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

    def __call__(self, subject: Subject, prediction: Volume) -> Mapping[str, float]:
        """Metric -> value for the baseline scan.

        ``mse`` (DVR², every voxel of the image as published, Eq. 3.8) and ``psnr`` (dB, peak = maximum of the true
        image, Eq. 3.9); ``mse_brain`` inside the brain. For wm_hc (controls), nawm and lesions (patients):
        ``mean_*`` and ``true_mean_*`` (DVR) and ``discrepancy_*``, the absolute difference of the two, in which errors
        inside a region cancel (Tables 3.2, 3.4, 4.2b). ``mae_lesions``: mean over lesion voxels of the absolute
        difference. ``percent``, ``true_percent``: demyelinated share of the lesions (%); ``dice_demyelinated``: overlap
        of the two maps, and ``dice_chance``, what as many voxels chosen at random would reach. ``sharpness``: gradient
        energy in the brain over that of the true map. ``*_own``: errors after the scale and offset that fit this person
        best in the brain, which no input tells. NaN where this subject has no such region.
        """
        scan = subject.baseline
        truth = scan.image(TARGET)
        truth.check_grid(prediction, f"{subject.id}: prediction and true {TARGET}")
        a, b, brain = *(v.data.float()[None] for v in (prediction, truth)), scan.mask("brain").data.bool()[None]
        return {
            "mse": float(mse(a, b)), "psnr": float(psnr(a, b, data_range=float(b.max()))),
            "mse_brain": float(mse(a, b, mask=brain)), "sharpness": float(sharpness(a, b, mask=brain)),
            **_region_scores(subject, prediction, truth), **self._demyelination(scan, prediction),
            **_own_scores(subject, prediction, truth),
        }

    def _demyelination(self, scan: Scan, prediction: Volume) -> dict[str, float]:
        lesions = scan.masks.get("lesions")
        if lesions is None or not lesions.data.any():
            return dict.fromkeys(("percent", "true_percent", "dice_demyelinated", "dice_chance"), np.nan)
        ours, true = self.norm.demyelinated(scan, image=prediction), self.norm.demyelinated(scan)
        shares = demyelinated_fraction(ours, lesions), demyelinated_fraction(true, lesions)
        return {
            "percent": 100 * shares[0], "true_percent": 100 * shares[1],
            "dice_demyelinated": overlap(ours, true), "dice_chance": chance_dice(*shares),
        }


def _region_scores(subject: Subject, prediction: Volume, truth: Volume) -> dict[str, float]:
    scan, healthy, found = subject.baseline, subject.diagnosis in CONTROLS, {}
    for name, mask in REGIONS.items():
        asked = (name == "wm_hc") == healthy
        ours, true = (region_mean(v, scan.mask(mask)) if asked else np.nan for v in (prediction, truth))
        found |= {f"mean_{name}": ours, f"true_mean_{name}": true, f"discrepancy_{name}": abs(ours - true)}
    gap = truth.with_data((prediction.data.float() - truth.data.float()).abs())
    return found | {"mae_lesions": np.nan if healthy else region_mean(gap, scan.mask("lesions"))}


def _own_scores(subject: Subject, prediction: Volume, truth: Volume) -> dict[str, float]:
    brain = subject.baseline.mask("brain")
    fitted = own_level(prediction, truth, brain)
    a, b, inside = fitted.data.float()[None], truth.data.float()[None], brain.data.bool()[None]
    gaps = {f"{k}_own": v for k, v in _region_scores(subject, fitted, truth).items() if k.startswith("discrepancy")}
    return {"mse_own": float(mse(a, b)), "mse_brain_own": float(mse(a, b, mask=inside)), **gaps}


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
    columns = {
        "coefficient": fit.params, "standard_error": fit.bse, "t": fit.tvalues, "p": fit.pvalues,
        "beta": fit.params * np.r_[1, scale],
    }
    return pd.DataFrame(columns, index=["intercept", *x]).iloc[1:].assign(n=y.size)


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
