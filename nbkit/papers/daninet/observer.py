"""An automated observer in place of the survey's experts: which simulated slice is the closest to the follow-up?

Ravì et al. (MICCAI 2019) showed experts the input, the follow-up and three simulations, and asked for the one that is
closest to the follow-up, or none. Three judges give that answer here by rule. None of them is a person; the survey for
people is in the widgets.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from nbkit.core.checks import require
from nbkit.core.tidy import stacked, tidy
from nbkit.core.volume import Volume
from nbkit.losses.perceptual import SliceFeatures, perceptual_distance
from nbkit.metrics.image import ssim
from nbkit.papers.daninet.experiments import Case, key_of
from nbkit.papers.daninet.regional_rates import EPSILON

JUDGES = ("features", "ssim", "profile")
NONE = "none"
_DEEP = 31  # copies of the slice: features of LPIPS ask for so many voxels along every axis, and see one slice only


def observe(case: Case, *, features: SliceFeatures, peak: float, regions: torch.Tensor) -> pd.DataFrame:
    """Let three judges choose the candidate that is the closest to the truth, or none.

    A judge chooses none when even its best candidate is farther from the truth than the baseline is, which is how
    "not happy with any" is read. Between equal distances a candidate wins over none, and the earlier of two candidates
    over the later. Nothing is random.

    - ``features``: perceptual distance of the slices (:func:`nbkit.losses.perceptual.perceptual_distance`);
    - ``ssim``: 1 − SSIM in the brain, 11 × 11 pixels, range 1;
    - ``profile``: mean over regions of |ratio − true ratio|, a ratio being (Σ image + ε) / (Σ baseline + ε) over
      a region, with ε = 0.1 as in Eq. 4.

    Parameters
    ----------
    case : Case
    features : SliceFeatures
        E.g. of :func:`nbkit.losses.perceptual.find_features`.
    peak : float
        Intensity that becomes 1; images are clipped to [0, 1] thereafter, and are 0 outside the brain.
    regions : torch.Tensor
        Masks (R, S, S).

    Returns
    -------
    DataFrame
        One row per judge and candidate, and one per judge for ``"none"``: judge, candidate, distance (in the judge's
        unit; of "none" that of the baseline) and chosen (true in one row of each judge).

    Raises
    ------
    NbkitError
        For no candidates, one named "none", or an empty brain.
    """
    require(
        len(case.candidates) > 0 and NONE not in case.candidates, "observe: candidates", found=list(case.candidates),
        expected=f"at least one simulation, none of them called {NONE!r}", remedy="Name them by system.",
    )
    inside, rows = case.brain.data[:1].bool(), []
    shown = {name: _scaled(image, inside, peak) for name, image in {**case.candidates, NONE: case.baseline}.items()}
    truth, sums = _scaled(case.truth, inside, peak), regions.detach().cpu().double()
    for judge in JUDGES:
        # the baseline comes last: it must be strictly closer
        far = {n: _distance(judge, image, truth, shown[NONE], inside, features, sums) for n, image in shown.items()}
        chosen = min(far, key=far.__getitem__)
        rows += [{"judge": judge, "candidate": n, "distance": far[n], "chosen": n == chosen} for n in far]
    return pd.DataFrame(rows)


def observed(
    cases: Sequence[Case], *, features: SliceFeatures, peak: float, regions: torch.Tensor
) -> pd.DataFrame:
    """How often each judge of :func:`observe` chose each candidate, % of a person's follow-ups, as a tidy frame.

    A person with several follow-ups counts once; a candidate never chosen has 0, so that the values of two candidates
    are paired over people. All cases have the same candidates.
    """
    tables = [observe(c, features=features, peak=peak, regions=regions).assign(subject=c.subject) for c in cases]
    frames = []
    for (judge, name), rows in pd.concat(tables).groupby(["judge", "candidate"], sort=False):
        shares = 100 * rows.groupby("subject", sort=False)["chosen"].mean()
        id = f"daninet.survey.observer.{judge}.{key_of(name)}"
        frames.append(tidy(shares.to_dict(), id=id, unit="%", system=name, metric=judge))
    return stacked(*frames)


def _scaled(image: Volume, inside: torch.Tensor, peak: float) -> torch.Tensor:
    """(1, 1, S, S, 1) in [0, 1], 0 outside the brain."""
    return torch.where(inside, (image.data[:1].detach().cpu().float() / peak).clamp(0, 1), 0.0)[None]


def _distance(
    judge: str, image: torch.Tensor, truth: torch.Tensor, baseline: torch.Tensor, inside: torch.Tensor,
    features: SliceFeatures, regions: torch.Tensor,
) -> float:
    """How far an image is from the truth; 0 when they are equal."""
    if judge == "ssim":
        return 1 - float(ssim(image, truth, data_range=1.0, mask=inside[None], dims=2))
    if judge == "features":
        slices = (torch.tensor([], dtype=torch.long),) * 2 + (torch.tensor([0]),)
        deep = (x.expand(*x.shape[:-1], _DEEP) for x in (image, truth))
        return float(perceptual_distance(features, *deep, slices=slices))
    sums = [torch.einsum("xy,rxy->r", x[0, 0, :, :, 0].double(), regions) + EPSILON for x in (image, truth, baseline)]
    return float((sums[0] / sums[2] - sums[1] / sums[2]).abs().mean())
