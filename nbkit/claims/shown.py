"""A picture that a notebook shows and a results folder keeps."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

PNG_BYTES, DPI = 250_000, 180
COLOURS = (256, 128, 64, 32)
"""Sizes of the palette, tried in turn: fewer colours are hardly seen, fewer dots are."""
NEAR_WHITE = 8
"""What differs from white by less becomes white: a page must not show where a picture begins."""


class Savable(Protocol):
    """Anything that saves itself as a picture the way a matplotlib Figure does."""

    def savefig(self, path: Path, **options: Any) -> None:
        """Write the picture to `path`."""


def save_png(figure: Savable, path: Path, *, most: int = PNG_BYTES) -> None:
    """Write the figure at 180 dots per inch, in as many colours as keep the file below `most` bytes, of 32 at least.

    No dithering: it would cost more than the palette saves. The colours are those that cover the picture best, so that
    a thin line keeps its own, and white stays white. A looping picture is left as it saves itself.
    """
    figure.savefig(path, dpi=DPI, format="png")
    with Image.open(path) as drawn:
        if getattr(drawn, "n_frames", 1) > 1:
            return
        picture = drawn.convert("RGB")
    for count in COLOURS:
        few = picture.quantize(count, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        table = np.reshape(few.getpalette(), (-1, 3))
        table[np.abs(table - 255).max(axis=1) < NEAR_WHITE] = 255
        few.putpalette(table.ravel().tolist())
        few.save(path, format="png", optimize=True, dpi=(DPI, DPI))
        if path.stat().st_size <= most:
            break


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
