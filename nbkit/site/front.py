"""The three pictures that README.md shows: small copies of what the reference holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from nbkit.claims.shown import save_png
from nbkit.core.checks import require

FRONT = {"flair": ("fig2_4_longer", 0.484), "futures": ("what_if", 1.0), "pet": ("conditional", 1.0)}
"""Figures of notebooks 01, 06 and 07 by the names README.md gives them, and how much of their height is shown."""
FRONT_OF = "laptop-embedded"
"""The reference that they come from."""
ACROSS, BYTES = 760, 300_000
"""Pixels across of each, and what all may weigh together."""


@dataclass(frozen=True)
class _Smaller:
    path: Path
    share: float

    def savefig(self, path: Path, **options: Any) -> None:
        with Image.open(self.path) as whole:
            picture = whole.crop((0, 0, whole.width, round(self.share * whole.height)))
            size = ACROSS, round(picture.height * ACROSS / picture.width)
            picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(path, format="png")


def front_pictures(reference: Path | str, to: Path | str) -> list[Path]:
    """Write small copies of :data:`FRONT` from a folder of pictures; those that it lacks stay as they are.

    Raises
    ------
    NbkitError
        If they would weigh more than :data:`BYTES` together.
    """
    reference, to = Path(reference), Path(to)
    to.mkdir(parents=True, exist_ok=True)
    for name, (figure, share) in FRONT.items():
        if (reference / f"{figure}.png").is_file():
            save_png(_Smaller(reference / f"{figure}.png", share), to / f"{name}.png", most=BYTES // len(FRONT))
    written = sorted(to / f"{name}.png" for name in FRONT if (to / f"{name}.png").is_file())
    heavy = sum(path.stat().st_size for path in written)
    require(
        heavy <= BYTES, f"front_pictures: {to.name}", expected=f"{BYTES // 1000} kB together",
        found=f"{heavy / 1000:.0f} kB", remedy="Name another picture in nbkit/site/front.py, or make them smaller.",
    )
    return written
