"""A looping picture: one brain over ages on several courses, with its change and a volume, as an animated PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from PIL import Image

from nbkit.core.checks import require
from nbkit.core.volume import Volume
from nbkit.figures.charts import INK, looks, titled
from nbkit.figures.marks import marks, needs
from nbkit.figures.mosaics import Tile, bare_axes, draw_tile
from nbkit.figures.slices import Scale, View, difference_scale, dimmed, grey_scale, view_at
from nbkit.figures.style import Picture, look, new_figure

LOOP_DPI, COLOURS, FRAME_MS, LAST_MS = 96, 128, 350, 1400
TILE_MM, CHART_MM, HEAD_MM = 33.0, 52.0, 5.0
NEAR_WHITE = 8
"""What differs from white by less becomes white."""


class Loop:
    """Pictures that follow one another for ever; saves itself as an animated PNG, which browsers play.

    Parameters
    ----------
    frames : sequence of Picture
        All of one size; the last one stays longer.
    """

    def __init__(self, frames: Sequence[Picture]) -> None:
        require(
            len(frames) > 1, "Loop: frames", expected="at least two", found=len(frames), remedy="Ask for more ages.",
        )
        self.frames = list(frames)

    def savefig(self, path: Any, **options: Any) -> None:
        """Write the animation, at 96 dots per inch whatever is asked: it is looked at on screens."""
        first, *others = self._drawn()
        shown = [FRAME_MS] * len(others) + [LAST_MS]
        first.save(path, format="png", save_all=True, append_images=others, duration=shown, loop=0, optimize=True)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer)
        return buffer.getvalue()

    def _drawn(self) -> list[Image.Image]:
        """The frames in one palette, that of the last one, whose changes have all colours."""
        pictures = []
        for frame in self.frames:
            buffer = io.BytesIO()
            frame.savefig(buffer, format="png", dpi=LOOP_DPI)
            pictures.append(Image.open(buffer).convert("RGB"))
        palette = pictures[-1].quantize(COLOURS, dither=Image.Dither.NONE)
        table = np.reshape(palette.getpalette(), (-1, 3))
        table[np.abs(table - 255).max(axis=1) < NEAR_WHITE] = 255
        palette.putpalette(table.ravel().tolist())
        return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


@look()
def ageing_loop(
    courses: Mapping[str, Sequence[Volume]], ages: Sequence[float], volumes: pd.DataFrame, *, brain: Volume,
    ylabel: str, unit: str = "a.u.", level_mm: float = 14.0, plane: str = "axial",
) -> Loop:
    """One brain over ages: each course's image, its change since the first age below, and a volume with a moving dot.

    Parameters
    ----------
    courses : mapping of str to sequence of Volume
        By course ("HC", "AD" or any name), an image for each age.
    ages : sequence of float
        Years, rising.
    volumes : DataFrame
        Columns "model" (the course), "age" and "value", for the chart.
    brain : Volume
        Mask on the grid of the images.
    ylabel, unit : str
        Of the chart, and of the intensities.
    level_mm, plane
        Of the slice, in world coordinates.

    Raises
    ------
    NbkitError
        If a course has not one image for each age, or for fewer than two ages.
    """
    needs(volumes, ("model", "age", "value"), "ageing_loop")
    for name, images in courses.items():
        require(
            len(images) == len(ages) > 1, f"ageing_loop: {name}", expected=f"one image for each of {len(ages)} ages",
            found=len(images), remedy="Ask for the same two or more ages on every course.",
        )
    view, first = view_at(brain, level_mm, plane=plane), next(iter(courses.values()))[0]
    grey = grey_scale(first, brain)
    changes = {name: [image.with_data(image.data.float() - images[0].data.float()) for image in images]
               for name, images in courses.items()}
    last = [images[-1] for images in changes.values()]
    scale = difference_scale(last, brain, label=f"change ({unit})", signed=True)
    scales = grey, scale
    frames = [_frame({n: (courses[n][k], changes[n][k], courses[n][0]) for n in courses}, age, volumes, view, scales,
                     ylabel) for k, age in enumerate(ages)]
    return Loop(frames)


def _frame(
    shown: Mapping[str, tuple[Volume, Volume, Volume]], age: float, volumes: pd.DataFrame, view: View,
    scales: tuple[Scale, Scale], ylabel: str,
) -> Picture:
    """One age: images, changes over the first image, and the chart."""
    grey, change = scales
    tall = TILE_MM * view.size_mm[1] / view.size_mm[0]
    width, height = 6.0 + len(shown) * (TILE_MM + 1.0) + CHART_MM, 2 * (tall + 1.0) + HEAD_MM + 1.0
    figure = new_figure(width, height, layout=None)
    for column, (mark, (image, gap, start)) in enumerate(zip(marks(shown).values(), shown.values(), strict=True)):
        left = 6.0 + column * (TILE_MM + 1.0)
        for row, tile in enumerate((Tile(image, view, grey), Tile(gap, view, change, under=(start, dimmed(grey))))):
            axes = bare_axes(figure, (left, 1.0 + (1 - row) * (tall + 1.0), TILE_MM, tall))
            draw_tile(axes, tile, view.size_mm)
            for x, letter in ((0.04, "L"), (0.92, "R")) if column == 0 else ():
                axes.text(x, 0.93, letter, transform=axes.transAxes, color="white", fontsize=7)
            if row == 0:
                axes.set_title(f"{mark.title}, {age:.0f} years", pad=2.5)
    for row, said in enumerate(("image", "change")):
        figure.text(2.5 / width, (1.0 + (1.5 - row) * (tall + 1.0)) / height, said, rotation=90, va="center")
    chart = (width - CHART_MM + 13.0, 11.0, CHART_MM - 15.0, height - 19.0)
    axes = figure.add_axes([v / full for v, full in zip(chart, (width, height) * 2, strict=True)])
    palette = looks(volumes["model"])["palette"]
    now = volumes[(volumes["age"] - age).abs() < 1e-6]
    sns.lineplot(titled(volumes, "model"), x="age", y="value", hue="model", style="model", palette=palette, ax=axes)
    sns.scatterplot(titled(now, "model"), x="age", y="value", hue="model", palette=palette, s=36, edgecolor=INK,
                    legend=False, ax=axes, zorder=5)
    axes.set(xlabel="age (years)", ylabel=ylabel)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, title=None, borderaxespad=0.2)
    return figure
