"""How simulated slices are scored: images against follow-ups, what each part of DaniNet adds, and how courses run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from nbkit.core.checks import known, require
from nbkit.core.protocols import Cohort, Scan, Subject, age_of
from nbkit.core.volume import Volume, bounding_box
from nbkit.papers.daninet.aged_slices import SliceFrame
from nbkit.data.slices import cut, diagnosis_code
from nbkit.metrics.image import SSIM_RADIUS, mae, psnr, ssim
from nbkit.papers.daninet.regional_rates import History, RegionalRates, monotone_violations

COMPONENTS = ("P", "C", "T")
_DARK = 0.4
"""Of the peak: below it, a pixel of a T1w slice is mostly fluid."""


def key_of(variant: str) -> str:
    """The name under which a column of Table 1 is recorded: "p_c_t" for "P-C-T", "caae" for "[9]"."""
    return "caae" if variant == "[9]" else variant.lower().replace("-", "_")


class OnSlice:
    """A system of volumes, asked about slices of its people: it sees their whole scans, and its answers are cut.

    Parameters
    ----------
    model : TrajectoryModel
    cohort : Cohort
        The volumes that the slices are of.
    where
        ``level_mm``, ``size`` and ``spacing_mm``, as for :func:`nbkit.data.slices.sliced`.
    """

    def __init__(self, model: Any, cohort: Cohort, **where: Any) -> None:
        self.model, self.cohort, self.where = model, cohort, where

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One slice per age; people are found by id and visits by session, strangers are refused by name."""
        sessions = {scan.session for scan in history}
        seen = [scan for scan in self.cohort.subject(history[0].subject).scans if scan.session in sessions]
        return [cut(image, **self.where) for image in self.model.predict(seen, ages, diagnosis)]


def score_slices(
    models: Mapping[str, Any], cohort: Cohort, *, peak: float, years: float = 2.0, contrast: str = "T1w",
    progress: bool = True,
) -> pd.DataFrame:
    """Predict every later visit of every subject from the first slice, with every model.

    Parameters
    ----------
    models : mapping of str to TrajectoryModel
        By name.
    cohort : Cohort
        Slices (1, S, S, 1) of test people, none of them trained on.
    peak : float
        Intensity that becomes 1; the range of PSNR and SSIM.
    years : float
        Visits nearer to the first are left out. The paper's test people have one at two years or later.
    contrast : str
    progress : bool
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per subject, visit and model: subject, session, diagnosis, age, years, model; ssim over the bounding box
        of both brains and ssim_brain inside them (11 × 11 pixels), psnr (dB) and mae (of the peak) inside them.

    Raises
    ------
    NbkitError
        For a subject without such a visit.
    """
    rows = []
    for subject in tqdm(cohort, desc="slices", unit="person", disable=not progress):
        first, later = subject.baseline, _later(subject, years)
        ages = [age_of(scan) for scan in later]
        for name, model in models.items():
            images = model.predict((first,), ages, subject.diagnosis)
            for scan, image in zip(later, images, strict=True):
                where = {
                    "subject": subject.id, "session": scan.session, "diagnosis": subject.diagnosis,
                    "age": age_of(scan), "years": age_of(scan) - age_of(first), "model": name,
                }
                rows.append(where | _scores(image, scan, first, peak, contrast))
    return pd.DataFrame(rows)


def component_gains(scores: pd.DataFrame, column: str = "ssim") -> dict[str, dict[str, float]]:
    """What P, C and T add each: component -> subject -> mean over the four pairs of columns that differ by it alone.

    `scores` is a table of :func:`score_slices` whose models are all columns of Table 1, by their names.
    """
    known(column, scores.columns, "component_gains: column")
    means = scores.groupby(["model", "subject"], sort=False)[column].mean()
    sets = {name: frozenset(name.split("-")) - {"[9]"} for name in scores["model"].unique()}
    gains = {}
    for part in COMPONENTS:
        pairs = [
            (more, less) for more, has in sets.items() for less, lacks in sets.items()
            if lacks < has and has - lacks == {part}
        ]
        require(
            len(pairs) == 4, f"component_gains: {part}", expected="all eight columns of Table 1",
            found=", ".join(sets), remedy="Score every configuration.",
        )
        gains[part] = (sum(means[more] - means[less] for more, less in pairs) / len(pairs)).to_dict()
    return gains


def histories(cohort: Cohort, frame: SliceFrame) -> dict[str, History]:
    """By subject id: ages (n,), slices (n, S, S) from 0 to 1, code of the diagnosis at baseline."""
    return {
        person.id: (
            [age_of(scan) for scan in person.scans],
            np.stack([((frame.scaled(scan) + 1) / 2).numpy() for scan in person.scans]),
            diagnosis_code(person.diagnosis),
        )
        for person in cohort
    }


def regional_pairs(
    people: Mapping[str, History], masks: np.ndarray, *, epsilon: float = 0.1
) -> pd.DataFrame:
    """True ratios of regional intensity for all pairs of a person's scans.

    Parameters
    ----------
    people : mapping of str to (ages, images, diagnosis)
    masks : numpy.ndarray
        (R, S, S).
    epsilon : float
        ε of Eq. 4.

    Returns
    -------
    pandas.DataFrame
        subject, region, diagnosis (code), younger, older (years), ratio: (Σ older + ε) / (Σ younger + ε).
    """
    rows, flat = [], np.reshape(masks, (len(masks), -1)).T.astype(np.float64)
    for name, (ages, images, code) in people.items():
        sums = np.reshape(images, (len(ages), -1)) @ flat + epsilon
        for i, j in zip(*np.nonzero(np.less.outer(ages, ages)), strict=True):
            ratios = sums[j] / sums[i]
            rows.append(pd.DataFrame({
                "subject": name, "region": np.arange(len(masks)), "diagnosis": code, "younger": ages[i],
                "older": ages[j], "ratio": ratios,
            }))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def ratio_errors(pairs: pd.DataFrame, rates: Mapping[str, RegionalRates]) -> dict[str, dict[str, float]]:
    """Mean |predicted − true ratio| of each person: name of the rates -> subject -> error; "constant" predicts 1.

    Between the centres of age bins, logs of the tabulated ratios are interpolated linearly in both ages.
    """
    found = {name: (pairs["ratio"] - _tabulated(pairs, table)).abs() for name, table in rates.items()}
    found["constant"] = (pairs["ratio"] - 1).abs()
    return {name: errors.groupby(pairs["subject"], sort=False).mean().to_dict() for name, errors in found.items()}


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
    history = (list(range(len(x))), x.numpy(), 0)
    return {
        "csf": 100 * float((steps[:, ring] < 0).double().mean()), "regions": 100 * float((sums < 0).double().mean()),
        "csf_area": 100 * float(dark[-1].sum() - dark[0].sum()) / float(brain.sum()),
        "brighter": 100 * float(monotone_violations([history], brain=brain.numpy())["brighter"][0]),
    }


def _later(subject: Subject, years: float) -> list[Scan]:
    first = age_of(subject.baseline)
    later = [scan for scan in subject.scans[1:] if age_of(scan) - first >= years]
    require(
        len(later) > 0, f"score_slices: {subject.id}", expected=f"a visit {years:g} years after the first, or later",
        found=f"{len(subject.scans)} scans", remedy="Leave the subject out of the test set.",
    )
    return later


def _scores(image: Volume, scan: Scan, first: Scan, peak: float, contrast: str) -> dict[str, float]:
    image.check_grid(scan.image(contrast), f"score_slices: {scan.subject}: prediction and truth")
    brain = (first.mask("brain").data | scan.mask("brain").data).bool()[None]
    a, b = ((volume.data.float() / peak)[None].cpu() for volume in (image, scan.image(contrast)))
    box = (slice(None), slice(None), *_square(brain[0, 0]))
    return {
        "ssim": float(ssim(a[box], b[box], data_range=1.0, dims=2)),
        "ssim_brain": float(ssim(a, b, data_range=1.0, mask=brain, dims=2)),
        "psnr": float(psnr(a, b, data_range=1.0, mask=brain)), "mae": float(mae(a, b, mask=brain)),
    }


def _square(brain: torch.Tensor) -> tuple[slice, slice, slice]:
    """The brain's box, grown so that windows centred at its edge fit."""
    x, y, _ = bounding_box(brain, margin=SSIM_RADIUS)
    return x, y, slice(0, brain.shape[2])


def _tabulated(pairs: pd.DataFrame, rates: RegionalRates) -> np.ndarray:
    """Predicted ratio of every row of `pairs`."""
    logs = rates.ratios.double().log().numpy()
    logs = logs - logs.swapaxes(1, 2)  # a ratio backwards in time is one over that forwards
    low, high = ([rates.bins.mixture(age) for age in pairs[column]] for column in ("younger", "older"))
    (i, a), (j, b) = (map(np.array, zip(*side, strict=True)) for side in (low, high))
    code, region = pairs["diagnosis"].to_numpy(), pairs["region"].to_numpy()
    last = rates.bins.count - 1
    total = np.zeros(len(pairs))
    for p, u in ((i, a), (np.minimum(i + 1, last), 1 - a)):
        for q, v in ((j, b), (np.minimum(j + 1, last), 1 - b)):
            total += u * v * logs[code, p, q, region]
    return np.exp(total)
