"""Tiny notebooks, written as they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

PARAMETERS = """profile = "laptop"
cohort = "embedded"
seed = 7
device = "auto"
out_dir = "results"
factor = 2.0
names = ["a", "b"]
n_jobs = 1  # inert: speed only
"""
RECORD = """import sys
from nbkit.claims.observe import Run
run = Run(out_dir, notebook={stem!r}, cohort=cohort, profile=profile, seed=seed, paper="wei2019_flair")
from nbkit.core.seeds import numpy_generator
draw = numpy_generator(seed, "test").normal(size=8)
run.number("wei2019.table2_2a.mse.{method}", {{f"s{{i}}": factor * 10 + x for i, x in enumerate(draw)}}, unit="z²")
import pandas as pd
run.table("{stem}_table", pd.DataFrame({{"a": [1.5, 2.5]}}, index=["x", "y"]), caption="A table.")
"""


@pytest.fixture
def write_notebook(tmp_path: Path) -> Callable[..., Path]:
    """``write_notebook("01_a", cell, ...)`` writes a notebook with a parameters cell and these code cells."""
    folder = tmp_path / "note books"
    folder.mkdir()

    def write(stem: str, *cells: str, parameters: str = PARAMETERS) -> Path:
        tagged = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
        book = nbformat.v4.new_notebook(cells=[tagged, *map(nbformat.v4.new_code_cell, cells)])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, folder / f"{stem}.ipynb")
        return folder / f"{stem}.ipynb"

    return write


@pytest.fixture
def recorder(write_notebook: Callable[..., Path]) -> Callable[..., Path]:
    """``recorder("01_a", method="fcn")`` writes a notebook that records one number and one table."""

    def write(stem: str, *more: str, method: str = "fcn") -> Path:
        return write_notebook(stem, RECORD.format(stem=stem, method=method), *more)

    return write
