"""A folder for strangers' files, and a figure's memory of them that ends with the test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbkit.figures import marks


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """``stranger(source)`` writes a file with a class ``Mine`` and gives its address; every test has its own cache."""
    monkeypatch.setattr(marks, "ENTERED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache"))

    def write(source: str, name: str = "mine") -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return f"{tmp_path}/{name}.py:Mine"

    return write
