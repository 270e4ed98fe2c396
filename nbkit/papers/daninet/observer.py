"""An automated observer in place of the survey's experts: which simulated slice is the closest to the follow-up?

Ravì et al. (MICCAI 2019) showed experts the input, the follow-up and three simulations, and asked for the one that is
closest to the follow-up, or none. Three judges give that answer here by rule. None of them is a person; the survey for
people is in the widgets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
import torch

from nbkit.core.checks import require
from nbkit.core.volume import Volume
from nbkit.losses.perceptual import SliceFeatures, perceptual_distance
from nbkit.metrics.image import ssim

JUDGES = ("features", "ssim", "profile")
NONE = "none"
EPSILON = 0.1
"""Of the regional ratios, as in Eq. 4."""
_DEEP = 31  # copies of the slice: features of LPIPS ask for so many voxels along every axis, and see one slice only


@dataclass(frozen=True, eq=False)
class Case:
    """One question to the observer.

    Parameters
    ----------
    subject, session : str
        Whose follow-up it is.
    truth, baseline : Volume
        The follow-up and the input, one slice each: data (1, S, S, 1), on one grid, in the scans' own unit.
    candidates : mapping of str to Volume
        Simulations of the follow-up, by configuration.
    brain : Volume
        Mask on that grid; what lies outside counts for nobody.
    """

    subject: str
    session: str
    truth: Volume
    baseline: Volume
    candidates: Mapping[str, Volume]
    brain: Volume


def observe(
    truth: Volume, baseline: Volume, candidates: Mapping[str, Volume], *, brain: Volume, features: SliceFeatures,
    peak: float, regions: torch.Tensor | None = None,
) -> pd.DataFrame:
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
    truth, baseline, candidates, brain
        As in :class:`Case`.
    features : SliceFeatures
        E.g. of :func:`nbkit.losses.perceptual.find_features`.
    peak : float
        Intensity that becomes 1; images are clipped to [0, 1] thereafter, and are 0 outside the brain.
    regions : torch.Tensor, optional
        Masks (R, S, S); without them there is no judge ``profile``.

    Returns
    -------
    DataFrame
        One row per judge and candidate, and one per judge for ``"none"``: judge, candidate, distance (in the judge's
        unit; of "none" that of the baseline) and chosen (true in one row of each judge).

    Raises
    ------
    NbkitError
        Without candidates, for one named "none", images on different grids or of more than one slice, an empty brain,
        regions of another size, or a peak that is not positive.
    """
    _check(truth, baseline, candidates, brain, regions, peak)
    inside = brain.data[:1].bool()
    scaled = {name: _scaled(image, inside, peak) for name, image in {**candidates, NONE: baseline}.items()}
    true, rows = _scaled(truth, inside, peak), []
    for judge in JUDGES if regions is not None else JUDGES[:-1]:
        far = {name: _distance(judge, image, true, scaled[NONE], inside, features, regions)
               for name, image in scaled.items()}
        chosen = min(far, key=far.__getitem__)  # the baseline comes last: it must be strictly closer
        rows += [{"judge": judge, "candidate": name, "distance": far[name], "chosen": name == chosen} for name in far]
    return pd.DataFrame(rows)


def observed(
    cases: Iterable[Case], *, features: SliceFeatures, peak: float, regions: torch.Tensor | None = None
) -> pd.DataFrame:
    """What :func:`observe` says of every case, with the columns subject and session before.

    Raises
    ------
    NbkitError
        Without cases, for one that comes twice, and as :func:`observe`.
    """
    tables, seen = [], set()
    for case in cases:
        key = (case.subject, case.session)
        require(
            key not in seen, "observed: cases", expected="each follow-up once", found=f"{'/'.join(key)} twice",
            remedy="Give the second one a session of its own.",
        )
        seen.add(key)
        table = observe(case.truth, case.baseline, case.candidates, brain=case.brain, features=features, peak=peak,
                        regions=regions)
        table.insert(0, "subject", case.subject)
        table.insert(1, "session", case.session)
        tables.append(table)
    require(
        len(tables) > 0, "observed: cases", expected="at least one follow-up", found="none",
        remedy="Pass the simulations of the test people.",
    )
    return pd.concat(tables, ignore_index=True)


def observed_shares(table: pd.DataFrame) -> pd.DataFrame:
    """How often each judge chose each candidate, for every subject: columns subject, judge, candidate, percent.

    A subject with several follow-ups counts once, with the share of them; candidates never chosen have 0, so that the
    values of two candidates are paired over subjects.

    Parameters
    ----------
    table : DataFrame
        Of :func:`observed`.

    Raises
    ------
    NbkitError
        If a column is missing, or not every follow-up was given the same candidates.
    """
    needed = ("subject", "session", "judge", "candidate", "chosen")
    missing = [name for name in needed if name not in table]
    require(
        not missing, "observed_shares: table", expected=f"the columns {', '.join(needed)}",
        found=f"no {', '.join(missing)}", remedy="Pass what observed returned.",
    )
    asked = table.groupby(["subject", "session", "judge"], sort=False)["candidate"].agg(frozenset)
    require(
        asked.nunique() <= 1, "observed_shares: table", expected="the same candidates at every follow-up",
        found=f"{asked.nunique()} different sets", remedy="Compare configurations on the same people.",
    )
    shares = table.groupby(["subject", "judge", "candidate"], sort=False)["chosen"].mean() * 100
    return shares.rename("percent").reset_index()


def _scaled(image: Volume, inside: torch.Tensor, peak: float) -> torch.Tensor:
    """(1, 1, S, S, 1) in [0, 1], 0 outside the brain."""
    return torch.where(inside, (image.data[:1].detach().cpu().float() / peak).clamp(0, 1), 0.0)[None]


def _distance(
    judge: str, image: torch.Tensor, truth: torch.Tensor, baseline: torch.Tensor, inside: torch.Tensor,
    features: SliceFeatures, regions: torch.Tensor | None,
) -> float:
    """How far an image is from the truth; 0 when they are equal."""
    if judge == "ssim":
        return 1 - float(ssim(image, truth, data_range=1.0, mask=inside[None], dims=2))
    if judge == "features":
        slices = (torch.tensor([], dtype=torch.long),) * 2 + (torch.tensor([0]),)
        deep = (x.expand(*x.shape[:-1], _DEEP) for x in (image, truth))
        return float(perceptual_distance(features, *deep, slices=slices))
    grown, wanted = (_sums(x, regions) / _sums(baseline, regions) for x in (image, truth))
    return float((grown - wanted).abs().mean())


def _sums(image: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Intensity of every region and ε, (R,)."""
    return torch.einsum("xy,rxy->r", image[0, 0, :, :, 0].double(), regions.detach().cpu().double()) + EPSILON


def _check(
    truth: Volume, baseline: Volume, candidates: Mapping[str, Volume], brain: Volume, regions: torch.Tensor | None,
    peak: float,
) -> None:
    require(
        len(candidates) > 0 and NONE not in candidates, "observe: candidates", found=list(candidates),
        expected=f"at least one simulation, none of them called {NONE!r}", remedy="Name them by configuration.",
    )
    require(
        truth.shape[2] == 1, "observe: truth", expected="one axial slice, shape (S, S, 1)", found=truth.shape,
        remedy="Cut the slice first (nbkit.data.slices.cut).",
    )
    for name, image in [("baseline", baseline), ("brain", brain), *candidates.items()]:
        truth.check_grid(image, f"observe: truth and {name}")
    require(
        bool(brain.data.any()), "observe: brain", expected="at least one pixel", found="an empty mask",
        remedy="Check that the mask belongs to this slice.",
    )
    require(
        regions is None or tuple(regions.shape[1:]) == truth.shape[:2], "observe: regions",
        expected=f"masks of shape (R, {truth.shape[0]}, {truth.shape[1]})",
        found=None if regions is None else tuple(regions.shape), remedy="Pass the regions of the same slice grid.",
    )
    require(
        peak > 0, "observe: peak", expected="a positive intensity", found=peak,
        remedy="Give the peak that the model learned, or the bright end of white matter.",
    )
