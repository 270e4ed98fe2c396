"""Pictures small enough for a page that fetches nothing."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import BinaryIO, NamedTuple

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageSequence

ACROSS, QUALITY = 900, 65
"""Pixels across and quality of a picture: a hundred and twenty of them stay below five megabytes."""


class Embedded(NamedTuple):
    """A picture as an address that holds it, and its size in pixels."""

    data: str
    width: int
    height: int


def embedded(path: Path | str | BinaryIO, *, most: int = ACROSS) -> Embedded:
    """A picture file as WebP in a ``data:`` address, at most `most` pixels wide; a looping picture loops."""
    data, width, height = smaller(path, most=most)
    return Embedded(address(data), width, height)


def smaller(path: Path | str, *, most: int = ACROSS) -> tuple[bytes, int, int]:
    """A picture file as WebP, at most `most` pixels wide, with its width and height; a looping picture loops."""
    with Image.open(path) as opened:
        frames = [(frame.convert("RGB"), frame.info.get("duration", 0)) for frame in ImageSequence.Iterator(opened)]
    width, height = frames[0][0].size
    if width > most:
        width, height = most, round(height * most / width)
    first, *others = [frame.resize((width, height), Image.Resampling.LANCZOS) for frame, _ in frames]
    moving = {"save_all": True, "append_images": others, "duration": [ms for _, ms in frames], "loop": 0}
    return webp(first, quality=QUALITY, **(moving if others else {})), width, height


def webp(picture: Image.Image, *, quality: int | None = None, **more: object) -> bytes:
    """A picture as WebP; lossless without a `quality` (0 to 100). `more` is Pillow's."""
    stream = io.BytesIO()
    picture.save(stream, "WEBP", method=6, **({"lossless": True} if quality is None else {"quality": quality}), **more)
    return stream.getvalue()


def grey_levels(levels: np.ndarray) -> str:
    """Grey levels (rows, columns; uint8) as WebP without loss in a ``data:`` address."""
    return address(webp(Image.fromarray(levels)))


def colours(name: str, count: int = 33) -> list[list[int]]:
    """So many colours along a colour map, each as red, green and blue (0 to 255)."""
    return (255 * mpl.colormaps[name](np.linspace(0, 1, count))[:, :3]).round().astype(int).tolist()


def address(data: bytes) -> str:
    """WebP as a ``data:`` address."""
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
