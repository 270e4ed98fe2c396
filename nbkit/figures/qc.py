"""One scan at a glance, for the page of `nbkit data check`: three planes, mask outline, left and right named."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image

from nbkit.core.checks import require
from nbkit.core.volume import Volume
from nbkit.figures.slices import canonical
from nbkit.figures.style import LESION, Picture, look, new_figure

PLANES = {"sagittal": (0, "P", "A"), "coronal": (1, "L", "R"), "axial": (2, "L", "R")}
OUTLINE, GREYS, REDS = LESION, 40, 16


@look()
def scan_picture(image: Volume, mask: Volume | None = None, *, width_mm: float = 150.0) -> Picture:
    """Sagittal, coronal and axial cut through the middle of the brain, in neurological orientation, true to mm.

    Parameters
    ----------
    image : Volume
        One channel, any axis order.
    mask : Volume, optional
        On the same grid; its outline is drawn and its centre is cut. Without it, the centre of the bright part.
    """
    image = canonical(image)
    if mask is not None:
        mask = canonical(mask)
        image.check_grid(mask, "scan_picture: image and mask")
    values = image.data[0].detach().cpu().float().numpy()
    inside = mask.data[0].bool().cpu().numpy() if mask is not None else None
    centre = _centre(values if inside is None else inside.astype(np.float32))
    low, high = np.percentile(values, (1, 99.5))
    sizes = _sizes(image)
    share = [w for w, _ in sizes]
    height_mm = width_mm / sum(share) * max(h for _, h in sizes)
    figure = new_figure(width_mm, height_mm, layout=None)
    left, gap = 0.0, 0.008
    for (name, (axis, first, last)), (w, h) in zip(PLANES.items(), sizes, strict=True):
        width = w / sum(share)
        axes = figure.add_axes((left + gap / 2, 0.0, width - gap, 1.0))
        left += width
        _draw(axes, np.take(values, centre[axis], axis), (w, h), (low, max(high, low + 1e-6)))
        if inside is not None:
            _outline(axes, np.take(inside, centre[axis], axis), (w, h))
        _name(axes, first, last, name)
    return figure


def png(figure: Picture, *, dpi: int = 84) -> bytes:
    """The figure as a PNG of few colours: some 30 KB for a head."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="black")
    picture = Image.open(buffer).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def _palette() -> Image.Image:
    """Greys, and the outline's red over them: a palette made from the picture would drop a thin line."""
    greys = np.linspace(0, 255, GREYS)[:, None].repeat(3, 1)
    under = np.linspace(0, 255, REDS // 2)[:, None]
    red = 255 * np.array(to_rgb(OUTLINE))
    colours = np.concatenate([greys, *(a * red[None] + (1 - a) * under for a in (1.0, 0.6))])
    image = Image.new("P", (1, 1))
    image.putpalette(colours.round().astype(np.uint8).tobytes())
    return image


def _centre(weight: np.ndarray) -> list[int]:
    """Index at the centre of mass, per axis; only values above the mean count."""
    weight = np.clip(weight - weight.mean(), 0, None)
    require(
        bool(weight.sum() > 0), "scan_picture: image", expected="an image with contrast", found="a constant one",
        remedy="Look at the file: its conversion may have failed.",
    )
    profiles = (weight.sum(tuple(a for a in range(3) if a != axis)) for axis in range(3))
    return [round(float((p * np.arange(p.size)).sum() / p.sum())) for p in profiles]


def _sizes(image: Volume) -> list[tuple[float, float]]:
    """Width and height in mm of the sagittal, coronal and axial cut."""
    x, y, z = (n * s for n, s in zip(image.shape, image.spacing, strict=True))
    return [(y, z), (x, z), (x, y)]


def _draw(axes: Axes, cut: np.ndarray, size: tuple[float, float], limits: tuple[float, float]) -> None:
    axes.imshow(cut.T, cmap="gray", vmin=limits[0], vmax=limits[1], extent=(0, size[0], 0, size[1]), aspect="equal")
    axes.set_axis_off()


def _outline(axes: Axes, cut: np.ndarray, size: tuple[float, float]) -> None:
    if cut.any() and not cut.all():
        (nx, ny), (w, h) = cut.shape, size
        x, y = (np.arange(nx) + 0.5) * w / nx, (np.arange(ny) + 0.5) * h / ny
        axes.contour(x, y, cut.T.astype(float), [0.5], colors=[OUTLINE], linewidths=0.8)


def _name(axes: Axes, first: str, last: str, plane: str) -> None:
    box = {"facecolor": "black", "alpha": 0.55, "pad": 1.2, "edgecolor": "none"}
    for x, text, side in ((0.02, first, "left"), (0.98, last, "right")):
        axes.text(x, 0.5, text, transform=axes.transAxes, ha=side, va="center", color="white", fontsize=8, bbox=box)
    axes.text(
        0.5, 0.99, plane, transform=axes.transAxes, ha="center", va="top", color="white", fontsize=6.5, bbox=box,
    )
