"""How near generated images are to real ones, as single images and as sets, and whether they are copies.

Pairs are compared in pixels (PSNR, SSIM), sets in a feature space that the caller states
(:class:`nbkit.papers.pet_dcgan.features.SliceFeatureNet`). A number between unpaired images means little alone: hold it
against the same number between real images of different people. How well a classifier tells two stages apart is one
value per person too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf

from nbkit.core.checks import check_disjoint, require
from nbkit.core.seeds import numpy_generator
from nbkit.core.windows import filter_valid, gaussian_kernel
from nbkit.metrics.image import SSIM_K1, SSIM_K2, SSIM_RADIUS, SSIM_SIGMA

DATA_RANGE = 2.0
"""Of images in [−1, 1]."""


def pairwise_quality(generated: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """PSNR (dB) and SSIM of every generated image with every real one.

    PSNR is 10·log10(2² / MSE) over all pixels, background included; infinite for equal images. SSIM is that of
    :func:`nbkit.metrics.image.ssim` with ``dims=2``: Gaussian window of 11×11 pixels, mean over the interior.
    Filtered moments of each image are made once, so that a pair costs one filter instead of four.

    Parameters
    ----------
    generated, real : torch.Tensor
        (G, 1, S, S) and (R, 1, S, S) in [−1, 1].

    Returns
    -------
    psnr, ssim : torch.Tensor
        (G, R) float64 each.

    Raises
    ------
    NbkitError
        For other shapes, or images smaller than the window.
    """
    for name, images in (("generated", generated), ("real", real)):
        good = images.ndim == 4 and images.shape[1] == 1 and images.shape[2:] == real.shape[2:]
        require(
            good and min(images.shape[2:]) > 2 * SSIM_RADIUS, f"pairwise_quality: {name}", found=tuple(images.shape),
            expected=f"images (N, 1, S, S) of one size, more than {2 * SSIM_RADIUS} pixels a side",
            remedy="Give one-channel slices; of three equal channels take the first.",
        )
    x, y = (images.double() / DATA_RANGE for images in (generated, real))
    error = torch.stack([(y - image).square().flatten(1).mean(dim=1) for image in x])
    moments = [_moments(images) for images in (x, y)]
    ssim = torch.stack([_ssim_row(image, y, *(m[i] for m in moments[0]), moments[1]) for i, image in enumerate(x)])
    return -10 * torch.log10(error), ssim


def _filtered(images: torch.Tensor) -> torch.Tensor:
    kernels = (gaussian_kernel(SSIM_SIGMA),) * 2 + (gaussian_kernel(0),)
    return filter_valid(images[..., None], kernels)[:, 0, ..., 0]


def _moments(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Local mean and variance (N, s, s)."""
    mean = _filtered(images)
    return mean, _filtered(images.square()) - mean.square()


def _ssim_row(
    image: torch.Tensor, others: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor,
    of_others: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """SSIM (R,) of one image (1, S, S) with `others` (R, 1, S, S), all in units of the data range."""
    means, variances = of_others
    covariance = _filtered(image * others) - mean * means
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    top = (2 * mean * means + c1) * (2 * covariance + c2)
    return (top / ((mean**2 + means**2 + c1) * (variance + variances + c2))).mean(dim=(1, 2))


def joint_histogram(images: torch.Tensor, *, bins: int = 32) -> torch.Tensor:
    """Shares (N, bins, bins) of an image's pixels by intensity and that of the neighbour on the right (first axis).

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, S, S) in [−1, 1], which the bins divide evenly.
    """
    levels = ((images[:, 0] + 1) / 2 * bins).long().clamp(0, bins - 1)
    pairs = (levels[:, :-1] * bins + levels[:, 1:]).flatten(1)
    return torch.stack([row.bincount(minlength=bins**2) for row in pairs]).unflatten(1, (bins, bins)) / pairs.shape[1]


def strangers(values: torch.Tensor, allowed: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a random real image gives on average ("random"), and the nearest by this measure ("nearest").

    More real images bring nearer ones: compare only what was held against equally many.

    Parameters
    ----------
    values : torch.Tensor
        (G, R) of :func:`pairwise_quality`.
    allowed : torch.Tensor
        (G, R) bool: the pairs that count, those of different people.

    Returns
    -------
    dict
        Two of (G,).

    Raises
    ------
    NbkitError
        For an image without a real one to compare it with.
    """
    require(
        bool(allowed.any(dim=1).all()), "strangers: allowed", expected="a real image of somebody else for everybody",
        found="somebody without", remedy="Compare images of at least two people.",
    )
    mean = torch.where(allowed, values, 0).sum(dim=1) / allowed.sum(dim=1)
    return {"random": mean, "nearest": torch.where(allowed, values, -torch.inf).amax(dim=1)}


def frechet_gaussians(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """Squared Fréchet distance of two normal distributions, |μa − μb|² + tr(A + B − 2 (A½ B A½)½).

    The root is taken through eigenvalues of symmetric matrices, clipped at 0, which stays real where A and B are
    singular.

    References
    ----------
    Dowson & Landau, J Multivariate Anal 12:450-455, 1982; Heusel et al., NeurIPS 2017.
    """
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ covariance_b @ root)
    shared = np.sqrt(np.clip(inner, 0, None)).sum()
    distance = np.square(mean_a - mean_b).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared
    return float(max(distance, 0.0))


def frechet_distance(features_a: torch.Tensor, features_b: torch.Tensor) -> float:
    """Squared Fréchet distance of two sets of features, each taken as a normal distribution.

    Covariances are shrunk towards a multiple of the identity by as much as their sample asks for (Ledoit & Wolf, J
    Multivariate Anal 88:365-411, 2004), because samples here are hardly larger than the number of features. What is
    left of the bias still grows as samples shrink: compare only distances from sets of the same sizes.

    Parameters
    ----------
    features_a, features_b : torch.Tensor
        (N, D) and (M, D).

    Raises
    ------
    NbkitError
        For fewer than two images, or features of different length.
    """
    a, b = (x.numpy() for x in _features("frechet_distance", a=features_a, b=features_b))
    return frechet_gaussians(a.mean(axis=0), ledoit_wolf(a)[0], b.mean(axis=0), ledoit_wolf(b)[0])


class DensityCoverage(NamedTuple):
    """Fidelity and diversity of a set of generated images.

    Parameters
    ----------
    density : float
        About 1 for images that lie where real ones do, more where real ones are dense, 0 where none are.
    coverage : float
        Share of real images with a generated one near, 0-1.
    """

    density: float
    coverage: float


def density_coverage(features_real: torch.Tensor, features_fake: torch.Tensor, *, k: int = 5) -> DensityCoverage:
    """Density and coverage: how many balls around real images hold a generated one, and which balls hold any.

    The ball of a real image reaches to its `k`-th nearest other real image.

    Parameters
    ----------
    features_real, features_fake : torch.Tensor
        (N, D) with N above `k`, and (M, D).
    k : int
        Naeem et al. choose 5.

    Raises
    ------
    NbkitError
        For too few real images or features of different length.

    References
    ----------
    Naeem et al., Reliable fidelity and diversity metrics for generative models, ICML 2020.
    """
    real, fake = _features("density_coverage", real=features_real, fake=features_fake)
    require(
        1 <= k < len(real), "density_coverage: k", expected=f"from 1 to {len(real) - 1}, below the real images",
        found=k, remedy="Use more real images, or a smaller k.",
    )
    radius = _distances(real, real).kthvalue(k + 1, dim=1).values  # the nearest of all is the image itself
    inside = (_distances(fake, real) <= radius).double()
    return DensityCoverage(float((inside.sum(dim=1) / k).mean()), float(inside.amax(dim=0).mean()))


class Memorisation(NamedTuple):
    """Whether generated images repeat the training images: they do where `share` is above `high`.

    Parameters
    ----------
    ratios : torch.Tensor
        (F,) distance to the nearest training image over that to the nearest held-out one.
    share : float
        Share of generated images that are nearer to a training image than to any held-out one.
    expected : float
        The same if the split meant nothing: training images over all images.
    low, high : float
        95 % interval of that share over random splits of the same people.
    """

    ratios: torch.Tensor
    share: float
    expected: float
    low: float
    high: float

    @property
    def flagged(self) -> bool:
        """Whether `share` is above `high`: by chance in one set of 40."""
        return self.share > self.high


def memorisation(
    features_fake: torch.Tensor, features_train: torch.Tensor, features_heldout: torch.Tensor, *,
    groups_train: Sequence[str], groups_heldout: Sequence[str], draws: int = 2000, seed: int = 0,
) -> Memorisation:
    """Are generated images nearer to the training images than images of other people are?

    If training and held-out people are alike to the generator, the nearest of all real images is a training image
    as often as training images are among them, however unequal the sets. Random splits of the same people into sets
    of these sizes say how far that share strays by chance. Hold out a good part: where nearly everybody trains, the
    share is near 1 by chance too, and nothing can be flagged.

    Parameters
    ----------
    features_fake, features_train, features_heldout : torch.Tensor
        (F, D), (N, D), (M, D).
    groups_train, groups_heldout : sequence of str
        Whose image each is; slices of one person change sides together.
    draws : int
        Random splits.
    seed : int

    Raises
    ------
    NbkitError
        For empty sets, features of different length, groups that do not fit, or a person on both sides.
    """
    sets = {"fake": features_fake, "train": features_train, "heldout": features_heldout}
    fake, train, heldout = _features("memorisation", at_least=1, **sets)
    counts = len(groups_train), len(groups_heldout)
    require(
        counts == (len(train), len(heldout)), "memorisation: groups", found=counts, remedy="Give everybody's subject.",
        expected=f"{len(train)} and {len(heldout)}, one per image",
    )
    check_disjoint(groups_train, groups_heldout, where="memorisation: groups")
    to_train, to_heldout = (_distances(fake, reals).amin(dim=1) for reals in (train, heldout))
    nearest = _distances(fake, torch.cat([train, heldout])).argmin(dim=1)
    share, expected = float((nearest < len(train)).double().mean()), len(train) / sum(counts)
    groups = [*groups_train, *groups_heldout]
    chance = _share_by_chance(nearest.numpy(), groups, len(train), draws=draws, seed=seed)
    return Memorisation(to_train / to_heldout, share, expected, *chance)


def _share_by_chance(
    nearest: np.ndarray, groups: Sequence[str], count: int, *, draws: int, seed: int
) -> tuple[float, float]:
    """2.5 and 97.5 % of the share of `nearest` among the training people, over random splits of the people.

    A split takes people in random order until it has as many images as the training set, within half a person.
    """
    people = list(dict.fromkeys(groups))
    owner = np.array([people.index(g) for g in groups])
    images, chosen = np.bincount(owner, minlength=len(people)), np.bincount(owner[nearest], minlength=len(people))
    rng = numpy_generator(seed, "memorisation")
    order = rng.permuted(np.tile(np.arange(len(people)), (draws, 1)), axis=1)
    before = np.cumsum(images[order], axis=1) - images[order] / 2
    shares = (chosen[order] * (before <= count)).sum(axis=1) / len(nearest)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def placements(scores: Sequence[float], positive: Sequence[bool]) -> np.ndarray:
    """Each subject's share of the subjects of the other class on the right side of its score; ties count half.

    The mean over positive subjects, that over negative ones and that over all are the area under the ROC curve
    (Hanley and Hajian-Tilaki 1997; DeLong et al. 1988), so that intervals and paired comparisons of areas are those of
    means over subjects.

    Parameters
    ----------
    scores : sequence of float
        (N,), higher for the positive class.
    positive : sequence of bool
        (N,).

    Returns
    -------
    numpy.ndarray
        (N,) in [0, 1]; NaN throughout when one class is missing.

    Raises
    ------
    NbkitError
        If lengths differ or a score is not finite.
    """
    s, is_positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    require(
        s.ndim == 1 and s.shape == is_positive.shape and bool(np.isfinite(s).all()), "placements: scores",
        expected="one finite score per subject", found=f"{s.shape} scores of {is_positive.shape} subjects",
        remedy="Give scores and classes in the same order.",
    )
    if not 0 < is_positive.sum() < s.size:
        return np.full(s.size, np.nan)
    above = (s[:, None] > s[None]) + 0.5 * (s[:, None] == s[None])
    return np.where(is_positive, above[:, ~is_positive].mean(axis=1), above[is_positive].mean(axis=0))


def _distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (A, B), exactly 0 between equal rows; the quicker matrix product is off by some 1e-8."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _features(where: str, *, at_least: int = 2, **sets: torch.Tensor) -> list[torch.Tensor]:
    """The sets in double precision, after checks."""
    length = next(iter(sets.values())).shape[-1]
    for name, values in sets.items():
        good = values.ndim == 2 and len(values) >= at_least and values.shape[1] == length
        require(
            good and bool(torch.isfinite(values).all()), f"{where}: {name}",
            expected=f"finite features (N, {length}) of at least {at_least} images", found=tuple(values.shape),
            remedy="Give one row of features per image, of one network.",
        )
    return [values.detach().double().cpu() for values in sets.values()]
