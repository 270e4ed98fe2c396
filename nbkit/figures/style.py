"""One look for every figure: sizes in mm, one colour and marker per system, readable names, bare figures.

Figures are made without pyplot, so nothing is registered globally and nothing has to be closed; a notebook
shows one because :class:`Picture` knows how to draw itself.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

FULL_MM, HALF_MM = 180.0, 88.0
DPI = 150

RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same picture on every machine
    "font.size": 8.0, "axes.titlesize": 8.5, "axes.labelsize": 8.0, "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "figure.titlesize": 9.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "axes.edgecolor": "#444444",
    "axes.axisbelow": True, "axes.grid": False, "grid.color": "#DDDDDD", "grid.linewidth": 0.5,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
    "xtick.color": "#333333", "ytick.color": "#333333", "text.color": "#111111", "axes.labelcolor": "#111111",
    "lines.linewidth": 1.4, "lines.markersize": 4.0, "legend.frameon": False, "legend.handlelength": 1.6,
    "figure.facecolor": "white", "savefig.facecolor": "white", "image.origin": "lower", "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class Mark:
    """How one system is drawn everywhere: never by colour alone."""

    title: str
    colour: str
    marker: str


# Okabe & Ito's eight colours, distinguishable with any colour vision, and a grey for the weakest control.
SYSTEMS: dict[str, Mark] = {
    "fcn": Mark("3D FCN", "#0072B2", "o"),
    "unet": Mark("3D U-Net", "#D55E00", "s"),
    "rf": Mark("Random forest", "#009E73", "^"),
    "mlp": Mark("Voxelwise MLP", "#CC79A7", "D"),
    "mp": Mark("Modality propagation", "#E69F00", "v"),
    "linear": Mark("Linear, all inputs", "#56B4E9", "P"),
    "t2_linear": Mark("Linear, T2-w only", "#B3A800", "X"),
    "mean": Mark("Training mean", "#8C8C8C", "."),
    "truth": Mark("True FLAIR", "#000000", "*"),
}
MYELIN: dict[str, Mark] = {
    "dnn": Mark("2-layer DNN", "#CC79A7", "D"),
    "unet_w": Mark("3D U-Net, weighted L1", "#661100", "H"),
    "cgan": Mark("Sketcher (cGAN)", "#009E73", "^"),
    "cgan_w": Mark("Sketcher, weighted L1", "#B3A800", "X"),
    "refiner": Mark("Sketcher-Refiner", "#0072B2", "o"),
    "refiner_cgan": Mark("Refiner cGAN", "#332288", "8"),
    "cfsagan": Mark("CF-SAGAN", "#E69F00", "v"),
    "refiner_cfsagan": Mark("Refiner CF-SAGAN", "#882255", "p"),
}
"""Systems of myelin PET; with the U-Net and the controls of SYSTEMS, no two share a colour or a marker."""
CYCLE = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"),
         ("#56B4E9", "P"), ("#B3A800", "X"), ("#8C8C8C", "p"))

CONTRASTS = {
    "T1w": "T1-w", "T1SE": "T1SE", "T2w": "T2-w", "PDw": "PD", "DIR": "DIR", "FLAIR": "FLAIR",
    "T1wCE": "T1-w post-contrast", "DVR": "[¹¹C]PIB DVR",
}
MASKS = {
    "wm": "white matter", "wm_hc": "WM of controls", "nawm": "normal-appearing WM", "lesions": "lesions",
    "gm": "grey matter", "csf": "CSF",
}
SHORT_INPUTS = {"t1": "T1-w", "t1se": "T1SE", "t2": "T2-w", "pd": "PD", "dir": "DIR", "t1ce": "T1-w post-contrast"}

LESION = "#F0142F"


def look():
    """Context manager (and decorator) that applies the project's matplotlib settings and restores the user's."""
    return mpl.rc_context(RC)


class Picture(Figure):
    """A matplotlib Figure that shows itself in a notebook and is saved with the project's settings."""

    def savefig(self, *args: Any, **options: Any) -> None:
        """Save as :meth:`matplotlib.figure.Figure.savefig` does, under the project's settings."""
        with look():
            super().savefig(*args, **options)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width_mm: float = FULL_MM, height_mm: float = 80.0, *, layout: str | None = "constrained") -> Picture:
    """An empty figure of the given size in mm, at 150 dots per inch."""
    return Picture(figsize=(width_mm / 25.4, height_mm / 25.4), dpi=DPI, layout=layout)


def marks(names: Iterable[str], known: Mapping[str, Mark] = SYSTEMS) -> dict[str, Mark]:
    """Colour and marker of each name: a known one keeps its own, others take what is left of the cycle."""
    names, known = list(names), {**MYELIN, **known}
    taken = {known[n].colour for n in names if n in known}
    free = [pair for pair in CYCLE if pair[0] not in taken] or list(CYCLE)
    others = [n for n in names if n not in known]
    spare = {n: Mark(title_of(n), *free[i % len(free)]) for i, n in enumerate(others)}
    return {n: known.get(n) or spare[n] for n in names}


def title_of(name: str) -> str:
    """What a reader sees for a system, contrast, mask or combination: ``"t1_dir"`` becomes ``"T1-w + DIR"``.

    ``"no_dir"`` becomes ``"without DIR"``; a name that is not known is shown as it is.
    """
    if name in SYSTEMS or name in MYELIN:
        return (SYSTEMS.get(name) or MYELIN[name]).title
    if name in CONTRASTS or name in MASKS:
        return CONTRASTS.get(name) or MASKS[name]
    without, parts = name.startswith("no_"), name.removeprefix("no_").split("_")
    if not all(p in SHORT_INPUTS for p in parts):
        return name
    return ("without " if without else "") + " + ".join(SHORT_INPUTS[p] for p in parts)


def wrapped(text: str, width_mm: float, *, size_pt: float = 8.5) -> str:
    """Break `text` into lines that fit `width_mm` (mean letter width of DejaVu Sans: 0.58 of the size)."""
    letters = int(width_mm / (0.58 * size_pt * 25.4 / 72))
    return "\n".join(textwrap.wrap(text, max(letters, 6), break_long_words=False)) or text
