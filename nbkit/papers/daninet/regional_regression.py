"""Regions of a slice that change alike, and one support vector regressor for each.

Ravi et al., "Degenerative Adversarial NeuroImage Nets" (MICCAI 2019), section 2.4. Images are slices (S, S) in [0, 1]
with background 0: of z-scores a region's sum may vanish, and then no ratio means anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from sklearn.cluster import AgglomerativeClustering
from sklearn.compose import TransformedTargetRegressor
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from nbkit.core.checks import known, require
from nbkit.papers.daninet.regional_rates import AgeBins, History, RegionalRates, true_ratios

REACHES = ("direct", "chained")
_MOST_IMAGES = 64
_FEWEST_PAIRS = 5
_STIFFNESS = 10.0


def region_masks(images: np.ndarray, brain: np.ndarray, *, count: int, grow: int) -> np.ndarray:
    """Overlapping regions of pixels whose intensity varies alike over training images.

    Ward's hierarchical clustering joins neighbouring pixels into `count` parts; a pixel's features are its means over
    3×3 pixels of the brain in at most 64 images, evenly chosen. The paper's regions come from "hierarchical clustering
    of local intensity" and overlap, which clusters do not: here each grows by `grow` pixels inside the brain.

    Parameters
    ----------
    images : numpy.ndarray
        (N, S, S) in [0, 1].
    brain : numpy.ndarray
        (S, S) bool: the pixels that are clustered.
    count : int
        Number of regions R; 128 as published.
    grow : int
        Pixels (steps to one of four neighbours); 0 leaves the regions apart.

    Returns
    -------
    numpy.ndarray
        (R, S, S) bool; together they cover the brain.
    """
    chosen = images[_evenly(len(images), _MOST_IMAGES)]
    regions = np.zeros((count, *brain.shape), dtype=bool)
    regions[:, brain] = np.arange(count)[:, None] == _clusters(_local_means(chosen, brain), brain, count)
    cross = ndimage.generate_binary_structure(2, 1)[None]
    for _ in range(grow):
        regions = ndimage.binary_dilation(regions, cross) & brain
    return regions


def _local_means(images: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Mean over the brain's pixels among 3×3 around every pixel of the brain, (pixels, N)."""
    inside = brain.astype(np.float64)[None]
    sums, counts = (ndimage.uniform_filter(m, size=(1, 3, 3), mode="constant") for m in (images * inside, inside))
    return (sums[:, brain] / counts[:, brain]).T


def _clusters(features: np.ndarray, brain: np.ndarray, count: int) -> np.ndarray:
    """Cluster of every pixel of `brain` by its `features` (pixels, N)."""
    graph = grid_to_graph(*brain.shape, mask=brain)
    with warnings.catch_warnings():
        # a slice may cut the brain into several pieces: they are joined where they are most alike, and it warns
        warnings.filterwarnings("ignore", message="the number of connected components")
        return AgglomerativeClustering(n_clusters=count, connectivity=graph, linkage="ward").fit_predict(features)


def fit_regional_rates(
    sequences: Sequence[History], *, masks: np.ndarray, bins: AgeBins, monotone: bool, diagnoses: int = 4,
    reach: str = "direct", most_pairs: int = 1000,
) -> RegionalRates:
    """Learn each region's ratio of intensities between two ages, and tabulate it at the centres of `bins`.

    One support vector regressor per region: (age at the younger scan, age at the older, diagnosis) to
    (Σ older + ε) / (Σ younger + ε) over the region's pixels, from all pairs of one person's scans. The paper states no
    settings. Here: radial basis functions, inputs and ratios standardised, tube 0.1, γ = 1 / inputs, and C = 10. With
    the usual 1 the two ages, nearly the same number, are hardly told apart, and a third to a half of a planted change
    over three years went missing.

    Parameters
    ----------
    sequences : sequence of (ages, images, diagnosis)
        By person: years (n,), slices (n, S, S) in [0, 1], code from 0 to `diagnoses` - 1.
    masks : numpy.ndarray
        (R, S, S) bool.
    bins : AgeBins
    monotone : bool
        True, as published: pairs in which the region gets brighter are left out of that region's regression. Where
        noise is of the size of the change, this alone predicts darkening.
    diagnoses : int
        D, the number of codes.
    reach : {"direct", "chained"}
        How bins far apart are predicted. "direct", as published: by one call, although nobody was followed for so
        long, and far from its data such a regressor falls back to one ratio for all. "chained": by the product of the
        predictions from each bin to the next.
    most_pairs : int
        Pairs a regression uses at most, chosen evenly in order of the years between scans: its cost grows with their
        square.

    Raises
    ------
    NbkitError
        If nobody has scans at two ages.

    Notes
    -----
    A region with fewer than 5 pairs is taken not to change: its ratios are 1.
    """
    known(reach, REACHES, "fit_regional_rates: reach")
    regions = np.asarray(masks, dtype=bool)
    told, ratios = _pairs(sequences, regions)
    younger, older = np.triu_indices(bins.count, k=1)
    asked = np.array([(bins.centres[p], bins.centres[a], d) for d in range(diagnoses) for p, a in zip(younger, older)])
    table = np.ones((diagnoses, bins.count, bins.count, len(regions)))
    for region, seen in enumerate(ratios.T):
        kept = np.flatnonzero(seen <= 1) if monotone else np.arange(len(seen))
        kept = kept[_evenly(len(kept), most_pairs)]
        if len(kept) >= _FEWEST_PAIRS:
            table[:, younger, older, region] = _predicted(told[kept], seen[kept], asked).reshape(diagnoses, -1)
    table = _chained(table) if reach == "chained" else table
    return RegionalRates(torch.from_numpy(regions).float(), torch.from_numpy(table).float(), bins)


def _predicted(told: np.ndarray, ratios: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Ratios (q,) of pairs `asked` (q, 3), by a regressor that was `told` (n, 3) `ratios` (n,)."""
    machine = make_pipeline(StandardScaler(), SVR(kernel="rbf", C=_STIFFNESS, epsilon=0.1, gamma="scale"))
    return TransformedTargetRegressor(machine, transformer=StandardScaler()).fit(told, ratios).predict(asked)


def _chained(table: np.ndarray) -> np.ndarray:
    """Ratios (D, A, A, R) between any two bins as products of those between neighbours."""
    steps = np.arange(table.shape[1] - 1)
    lasting = np.cumprod(table[:, steps, steps + 1], axis=1)
    since_first = np.concatenate([np.ones_like(lasting[:, :1]), lasting], axis=1)
    between = since_first[:, None] / since_first[:, :, None]
    later = np.triu(np.ones(table.shape[1:3], dtype=bool), k=1)[None, :, :, None]
    return np.where(later, between, 1.0)


def _pairs(sequences: Sequence[History], masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, 3) and ratios (n, R) of all pairs of one person's scans, in order of the years between them."""
    told, ratios = [], []
    for ages, images, code in sequences:
        years, seen = true_ratios(ages, images, masks)
        told.append(np.column_stack([years, np.full(len(years), code)]))
        ratios.append(seen)
    require(
        sum(map(len, told)) > 0, "fit_regional_rates: sequences", expected="somebody scanned at two ages or more",
        found="none", remedy="Train on people with follow-up scans.",
    )
    pairs = np.concatenate(told)
    # by years apart: chosen evenly from an order by person, pairs of visits at fixed intervals would be all of a kind
    order = np.argsort((pairs[:, 1] - pairs[:, 0]).round(2), kind="stable")
    return pairs[order], np.concatenate(ratios)[order]


def _evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` indices, evenly spread."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(int)
