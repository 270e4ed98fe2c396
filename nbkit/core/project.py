"""Where the files that come with the project are: in the clone, or, in an installed wheel, beside the code."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
FILES = _PACKAGE.parent if (_PACKAGE.parent / "data_manifests").is_dir() else _PACKAGE / "_project"
"""Folder with ``data_manifests``, ``notebooks`` and ``reference``, laid out as in the repository."""
