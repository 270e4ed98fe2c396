"""A picture that a notebook shows and a results folder keeps."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

PNG_BYTES, DPI = 400_000, 180
COLOURS = (256, 128)
"""Sizes of the palette, tried in turn: fewer colours are hardly seen, fewer dots are, and steps of grey below 128."""
NEAR_WHITE = 8
"""What differs from white by less becomes white: a page must not show where a picture begins."""


class Savable(Protocol):
    """Anything that saves itself as a picture the way a matplotlib Figure does."""

    def savefig(self, path: Path, **options: Any) -> None:
        """Write the picture to `path`."""


def save_png(figure: Savable, path: Path, *, most: int = PNG_BYTES) -> None:
    """Write the figure at 180 dots per inch, in 256 colours, or in 128 where the file would pass `most` bytes.

    No dithering: it would cost more than the palette saves. White stays white. A looping picture is left as it saves
    itself.
    """
    figure.savefig(path, dpi=DPI, format="png")
    with Image.open(path) as drawn:
        if getattr(drawn, "n_frames", 1) > 1:
            return
        picture = drawn.convert("RGB")
    for count in COLOURS:
        few = picture.quantize(palette=_palette(picture, count), dither=Image.Dither.NONE)
        few.save(path, format="png", optimize=True, dpi=(DPI, DPI))
        if path.stat().st_size <= most:
            break


def _palette(picture: Image.Image, count: int) -> Image.Image:
    """Half the colours for what most dots are, so that greys stay grey; half to cover all, so that a thin line keeps
    its own."""
    half, methods = count // 2, (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE)
    colours = [picture.quantize(half, method=method, dither=Image.Dither.NONE).getpalette() for method in methods]
    table = np.concatenate([np.reshape(part, (-1, 3))[:half] for part in colours])
    table[np.abs(table - 255).max(axis=1) < NEAR_WHITE] = 255
    palette = Image.new("P", (1, 1))
    palette.putpalette(table.ravel().tolist())
    return palette


@dataclass(frozen=True)
class Shown:
    """A saved picture with its caption; a notebook shows both, with the caption as alternative text."""

    path: Path
    caption: str

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.path.read_bytes()).decode()
        text = html.escape(self.caption)
        image = f'<img src="data:image/png;base64,{data}" alt="{text}" style="max-width: 100%; width: 180mm">'
        return f'<figure style="margin: 0">{image}<figcaption style="max-width: 180mm">{text}</figcaption></figure>'
