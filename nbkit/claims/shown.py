"""A picture that a notebook shows and a results folder keeps."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Savable(Protocol):
    """Anything that saves itself as a picture the way a matplotlib Figure does."""

    def savefig(self, path: Path, **options: Any) -> None:
        """Write the picture to `path`."""


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
