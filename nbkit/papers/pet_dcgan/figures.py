"""Real and synthetic PET slices beside each other: examples, training, joint histograms, nearest neighbours.

Images are those of :class:`nbkit.data.pet_slices.Slices`: tensors (n, 1, S, S) in [−1, 1], first axis to the right,
second upwards, −1 an uptake ratio of 0 and 1 one of `suvr_max`. All of a figure share one colour scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patheffects import withStroke

from nbkit.core.checks import require
from nbkit.figures.mosaics import bare_axes
from nbkit.figures.style import FULL_MM, Picture, look, new_figure

CMAP, SUVR_LABEL = "inferno", "uptake ratio (SUVR)"
SIDES = {"axial": "LR", "coronal": "LR", "sagittal": "PA"}
_GAP, _HEAD, _BAR, _EDGE = 0.7, 4.6, 15.0, 0.8
"""Millimetres between images, above a block of them, for the colour bar, and at the figure's edge."""


@look()
def example_slices(images: Mapping[str, torch.Tensor], *, suvr_max: float, width_mm: float = FULL_MM) -> Picture:
    """Rows of slices by view, with the letters of their sides (Islam and Zhang, Fig. 1).

    Parameters
    ----------
    images : mapping of str to torch.Tensor
        By view: (n, 1, S, S).
    suvr_max : float
    width_mm : float
    """
    rows = [(view, [_uptake(images[view], suvr_max)]) for view in images]
    figure, axes = _sheet(rows, heads=[""], high=suvr_max, width_mm=width_mm)
    for first, view in zip(axes, images, strict=True):
        _sides(first[0][0], SIDES.get(view, ""))
    return figure


@look()
def generator_progress(
    snapshots: Mapping[int, torch.Tensor], *, suvr_max: float, real: torch.Tensor | None = None,
    width_mm: float = FULL_MM * 0.75,
) -> Picture:
    """What a generator makes of the same noise after more and more steps (Fig. 4).

    Parameters
    ----------
    snapshots : mapping of int to torch.Tensor
        By number of steps: (n, 1, S, S), column by column of the same noise.
    suvr_max : float
    real : torch.Tensor, optional
        (n, 1, S, S), shown below as the last row.
    width_mm : float
    """
    count = len(next(iter(snapshots.values())))
    rows = [(f"{step:,}".replace(",", " "), [_uptake(x, suvr_max)]) for step, x in sorted(snapshots.items())]
    rows += [] if real is None else [("real", [_uptake(real[:count], suvr_max)])]
    return _sheet(rows, heads=["steps of training, from above"], high=suvr_max, width_mm=width_mm)[0]


@look()
def real_and_synthetic(
    real: Mapping[str, torch.Tensor], synthetic: Mapping[str, torch.Tensor], *, suvr_max: float, columns: int = 5,
    width_mm: float = FULL_MM,
) -> Picture:
    """Real slices on the left, synthetic ones on the right, a block for each stage (Figs. 6, 7 and 8).

    Parameters
    ----------
    real, synthetic : mapping of str to torch.Tensor
        By stage, the same ones in both: (n, 1, S, S).
    suvr_max : float
    columns : int
        On each side; further images stand in further rows.
    width_mm : float

    Raises
    ------
    NbkitError
        If the stages of the two differ.
    """
    require(
        list(real) == list(synthetic), "real_and_synthetic: synthetic", expected=f"the stages {', '.join(real)}",
        found=", ".join(synthetic), remedy="Draw synthetic images of the stages that are shown.",
    )
    rows = []
    for stage in real:
        sides = [_uptake(x[stage], suvr_max) for x in (real, synthetic)]
        for start in range(0, max(map(len, sides)), columns):
            rows.append(("" if start else stage, [side[start : start + columns] for side in sides]))
    return _sheet(rows, heads=["a  real", "b  synthetic"], high=suvr_max, width_mm=width_mm)[0]


@look()
def neighbour_sheet(
    synthetic: torch.Tensor, training: torch.Tensor, held_out: torch.Tensor, *,
    distances: Sequence[tuple[float, float]], suvr_max: float, width_mm: float = FULL_MM * 0.75,
) -> Picture:
    """Synthetic slices above the nearest training slice and the nearest one of people never seen.

    A generator that memorises has its training slices in the second row, and distances to them that are much smaller.

    Parameters
    ----------
    synthetic, training, held_out : torch.Tensor
        (n, 1, S, S), column by column.
    distances : sequence of (float, float)
        Of each synthetic slice to the two below it.
    suvr_max : float
    width_mm : float
    """
    rows = [
        (label, [_uptake(x, suvr_max)]) for label, x in
        (("synthetic", synthetic), ("nearest\ntraining", training), ("nearest\nheld-out", held_out))
    ]
    figure, axes = _sheet(rows, heads=[""], high=suvr_max, width_mm=width_mm)
    for row, pair in zip(axes[1:], zip(*distances, strict=True), strict=True):
        for place, distance in zip(row[0], pair, strict=True):
            _note(place, 0.04, 0.03, f"{distance:.3g}", ha="left", va="bottom")
    return figure


def neighbour_counts(images: torch.Tensor, *, bins: int = 64) -> np.ndarray:
    """Pixels by their intensity (rows) and that of the neighbour on their right (columns), (bins, bins).

    The paper shows a "2D-histogram of a sample real and synthetic image" and does not say of what; this is one with
    both axes intensities, which sees contrast, and sharpness by its width about the diagonal.

    Parameters
    ----------
    images : torch.Tensor
        (n, 1, S, S) in [−1, 1].
    bins : int
        Of equal width over the range.
    """
    x = images.detach().cpu().numpy()
    pairs = x[:, :, :-1].ravel(), x[:, :, 1:].ravel()
    return np.histogram2d(*pairs, bins=bins, range=[[-1, 1], [-1, 1]])[0]


@look()
def joint_histograms(
    images: Mapping[str, torch.Tensor], *, suvr_max: float, bins: int = 64, width_mm: float = FULL_MM * 0.8
) -> Picture:
    """Share of pixels by intensity and right neighbour's intensity, on one logarithmic scale (Fig. 9).

    Parameters
    ----------
    images : mapping of str to torch.Tensor
        By name, e.g. "a  real" and "b  synthetic": (n, 1, S, S).
    suvr_max : float
    bins : int
    width_mm : float
    """
    shares = {name: (counts := neighbour_counts(x, bins=bins)) / counts.sum() for name, x in images.items()}
    low = min(s[s > 0].min() for s in shares.values())
    figure = new_figure(width_mm, 0.93 * width_mm / len(shares))
    places = figure.subplots(1, len(shares), sharex=True, sharey=True, squeeze=False)[0]
    norm = LogNorm(low, max(s.max() for s in shares.values()))
    for axes, (name, share) in zip(places, shares.items(), strict=True):
        drawn = axes.imshow(share.T, cmap="viridis", norm=norm, extent=(0, suvr_max, 0, suvr_max), aspect="equal")
        axes.set(title=name, xlabel=SUVR_LABEL)
    places[0].set_ylabel("of the pixel on its right")
    figure.colorbar(drawn, ax=list(places), label="share of pixels", shrink=0.8)
    return figure


def _uptake(images: torch.Tensor, suvr_max: float) -> list[np.ndarray]:
    """Images as uptake ratios, each (S, S) with rows from below."""
    require(
        images.ndim == 4 and images.shape[1] == 1, "figures of slices: images", expected="shape (n, 1, S, S)",
        found=tuple(images.shape), remedy="Pass images of a table of slices; of volumes, cut planes first.",
    )
    return [x.T for x in ((images[:, 0].detach().cpu().numpy() + 1) / 2 * suvr_max)]


def _sheet(
    rows: Sequence[tuple[str, Sequence[Sequence[np.ndarray]]]], *, heads: Sequence[str], high: float, width_mm: float
) -> tuple[Picture, list[list[list[Axes]]]]:
    """Rows of one or more blocks of images, a head above each block, one colour bar; and the axes of each."""
    widths = [max(len(blocks[k]) for _, blocks in rows) for k in range(len(heads))]
    lines = max(label.count("\n") + 1 for label, _ in rows)
    left = 3.6 * lines + 1.6 if any(label for label, _ in rows) else _EDGE
    between = 5 * _GAP * (len(heads) - 1)
    cell = (width_mm - left - _BAR - between) / sum(widths) - _GAP
    top = _HEAD if any(heads) else _EDGE
    height = top + len(rows) * (cell + _GAP) + _EDGE
    figure, drawn = new_figure(width_mm, height, layout=None), []
    for i, (label, blocks) in enumerate(rows):
        bottom, x, places = height - top - (i + 1) * (cell + _GAP), left, []
        if label:
            at = ((left - 1.2) / width_mm, (bottom + cell / 2) / height)
            figure.text(*at, label, rotation=90, ha="right", va="center", ma="center")
        for block, count in zip(blocks, widths, strict=True):
            spots = [bare_axes(figure, (x + k * (cell + _GAP), bottom, cell, cell)) for k in range(len(block))]
            for axes, image in zip(spots, block, strict=True):
                axes.imshow(image, cmap=CMAP, vmin=0, vmax=high, interpolation="nearest")
            places.append(spots)
            x += count * (cell + _GAP) + 5 * _GAP
        drawn.append(places)
    x = left
    for head, count in zip(heads, widths, strict=True):
        figure.text(x / width_mm, 1 - 1.0 / height, head, ha="left", va="top", fontsize=8.5)
        x += count * (cell + _GAP) + 5 * _GAP
    tall = min(60.0, height - top - 4.0)
    _bar(figure, high, (width_mm - _BAR + 1.5, (height - top - tall) / 2 + 0.4, 2.4, tall))
    return figure, drawn


def _bar(figure: Picture, high: float, place_mm: tuple[float, float, float, float]) -> None:
    axes = bare_axes(figure, place_mm)
    bar = figure.colorbar(ScalarMappable(Normalize(0, high), CMAP), cax=axes)
    bar.set_label(SUVR_LABEL if place_mm[3] > 28 else "SUVR", labelpad=2, fontsize=7)
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=5)
    bar.ax.tick_params(labelsize=6.5, length=2, pad=1.5)


def _sides(axes: Axes, letters: str) -> None:
    for x, letter, side in zip((0.04, 0.96), letters, ("left", "right"), strict=False):
        _note(axes, x, 0.96, letter, ha=side, va="top")


def _note(axes: Axes, x: float, y: float, text: str, *, ha: str, va: str) -> None:
    halo = [withStroke(linewidth=1.2, foreground="black")]
    style = {"transform": axes.transAxes, "color": "white", "fontsize": 6.5, "path_effects": halo}
    axes.text(x, y, text, ha=ha, va=va, **style)
