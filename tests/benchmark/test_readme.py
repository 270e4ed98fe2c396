"""The blocks of README's "Enter your own model" run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def block(begins: str) -> str:
    """The code block of the section that holds some words."""
    section = README.read_text(encoding="utf-8").split("### Enter your own model")[1].split("\n## ")[0]
    found = [text for text in re.findall(r"```\w*\n(.*?)```", section, re.DOTALL) if begins in text]
    assert len(found) == 1
    return found[0]


@pytest.mark.slow
def test_the_door_without_python(tmp_path):
    nbkit = tmp_path / ".venv" / "bin" / "nbkit"
    nbkit.parent.mkdir(parents=True)
    nbkit.write_text(f'#!/bin/sh\nexec {sys.executable} -m nbkit.cli "$@"\n')
    nbkit.chmod(0o755)
    where = os.environ | {"PYTHONPATH": str(README.parent)}
    done = subprocess.run(
        ["bash", "-e", "-c", block("nbkit benchmark write")], cwd=tmp_path, env=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "mine" / "volumes.tsv").read_text().splitlines()
    assert lines[0] == "subject\tage\tregion\tvalue" and len(lines) == 1 + 2 * 24
    assert "lateral ventricle, error (%):" in done.stdout and "mine" in done.stdout
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Who stands where" in text and "open truth" in text
