"""Pictures small enough for a page that fetches nothing."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

ACROSS, QUALITY = 1000, 75
"""Pixels across and quality of a picture: a hundred of them stay below five megabytes."""


class Embedded(NamedTuple):
    """A picture as an address that holds it, and its size in pixels."""

    data: str
    width: int
    height: int


def embedded(path: Path | str, *, most: int = ACROSS) -> Embedded:
    """A picture file as WebP in a ``data:`` address, at most `most` pixels wide."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > most:
        picture = picture.resize((most, round(picture.height * most / picture.width)), Image.Resampling.LANCZOS)
    return Embedded(address(webp(picture, quality=QUALITY)), *picture.size)


def webp(picture: Image.Image, *, quality: int | None = None) -> bytes:
    """A picture as WebP; lossless without a `quality` (0 to 100)."""
    stream = io.BytesIO()
    picture.save(stream, "WEBP", method=4, **({"lossless": True} if quality is None else {"quality": quality}))
    return stream.getvalue()


def address(data: bytes) -> str:
    """WebP as a ``data:`` address."""
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
