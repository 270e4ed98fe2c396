"""The networks drawn from themselves: what leads to what (Fig. 2), their layers (Figs. 3 and 5), and their losses."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import nn

from nbkit.figures.charts import looks, panels
from nbkit.figures.drawing import HIDDEN, INPUT, OUTPUT, Layer, architecture_drawing, arrow, canvas
from nbkit.figures.marks import needs
from nbkit.figures.style import FULL_MM, Picture, look
from nbkit.papers.pet_dcgan.dcgan import Critic, Generator, traced

_ACTS = {nn.BatchNorm2d: "BN", nn.BatchNorm3d: "BN", nn.ReLU: "ReLU", nn.LeakyReLU: "LReLU", nn.Tanh: "tanh"}
_DIMS = {2: "²", 3: "³"}


def drawings(generator: Generator, critic: Critic) -> dict[int, tuple[str, Picture]]:
    """Title and picture of Figures 2, 3 and 5."""
    return {
        2: ("How images are made and judged", method_drawing(generator, critic)),
        3: ("The generator", network_drawing(generator)),
        5: ("The discriminator (LReLU: leaky ReLU); its sigmoid is part of the loss", network_drawing(critic)),
    }


def loss_curves(frame: pd.DataFrame) -> Picture:
    """Loss against training step, a panel for each side and a line for each network.

    Parameters
    ----------
    frame : DataFrame
        Columns "system", "metric" (the side), "step" and "value".
    """
    needs(frame, ("system", "metric", "step", "value"), "loss_curves")

    def draw(axes: Axes, side: str) -> None:
        mine = frame[frame["metric"] == side]
        palette = looks(mine["system"])["palette"]
        sns.lineplot(mine, x="step", y="value", hue="system", style="system", palette=palette, ax=axes)
        axes.set(xlabel="training step", ylabel="loss, running mean")

    return look()(panels)(list(dict.fromkeys(frame["metric"])), draw, columns=2)


@look()
def method_drawing(generator: Generator, critic: Critic, *, width_mm: float = FULL_MM) -> Picture:
    """Random numbers to a synthetic image, and real and synthetic images to a probability (Fig. 2)."""
    figure, axes = canvas(width_mm, 46.0)
    image = f"{generator.size}{_DIMS[generator.dims]} × {generator.channels}"
    half, centres = 13.0, [width_mm * (0.09 + 0.205 * k) for k in range(5)]
    for x, y, colour, words in (
        (centres[0], 12, INPUT, f"random numbers\n{generator.latent}, uniform"),
        (centres[1], 12, HIDDEN, f"generator\n{_count(generator)}"),
        (centres[2], 12, OUTPUT, f"synthetic image\n{image}"),
        (centres[2], 34, INPUT, "real image\nof one stage"),
        (centres[3], 23, HIDDEN, f"discriminator\n{_count(critic)}"),
        (centres[4], 23, OUTPUT, "real or\nsynthetic?"),
    ):
        _box(axes, x, y, colour, words, half)
    for (x, y), (to, at) in (
        ((centres[0], 12), (centres[1], 12)), ((centres[1], 12), (centres[2], 12)),
        ((centres[2], 12), (centres[3], 20)), ((centres[2], 34), (centres[3], 26)),
        ((centres[3], 23), (centres[4], 23)),
    ):
        arrow(axes, (x + half + 0.6, y), (to - half - 0.6, at))
    return figure


def network_drawing(net: Generator | Critic) -> Picture:
    """The layers of a network in the order in which they run, with the shapes of what they made (Figs. 3 and 5)."""
    power = _DIMS[net.dims]
    first = (Layer(f"z, {net.latent}", net.latent) if isinstance(net, Generator)
             else Layer(f"{net.size}{power}", net.channels, sheets=("image",)))
    stages: list[tuple[list[str], tuple[int, ...]]] = []
    for part, shape in traced(net):
        if hasattr(part, "kernel_size"):
            stages.append(([_convolution(part, power)], shape))
        elif type(part) in _ACTS:
            stages[-1][0].append(_ACTS[type(part)])
    layers = [
        Layer(f"{shape[1]}{power}" if shape[1] > 1 else "score", shape[0], _lines(words)) for words, shape in stages
    ]
    return architecture_drawing([first, *layers])


def _convolution(part: nn.Module, power: str) -> str:
    kind = "deconv" if getattr(part, "transposed", False) else "conv"
    return f"{kind} {part.kernel_size[0]}{power}\nstride {part.stride[0]}" if part.stride[0] > 1 else "dense"


def _lines(words: list[str]) -> str:
    return "\n".join([words[0], ", ".join(words[1:])]).rstrip("\n")


def _count(net: nn.Module) -> str:
    return f"{sum(p.numel() for p in net.parameters()):,} weights".replace(",", " ")


def _box(axes: Axes, x: float, y: float, colour: str, words: str, half: float) -> None:
    size = {"boxstyle": "round,pad=0,rounding_size=1.2", "facecolor": colour, "alpha": 0.35, "edgecolor": "none"}
    axes.add_patch(FancyBboxPatch((x - half, y - 6), 2 * half, 12, **size))
    axes.text(x, y, words, ha="center", va="center", fontsize=7, linespacing=1.4)
