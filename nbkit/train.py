"""Weights that come with the project, made again: `nbkit train scan_segmenter`."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from nbkit.cohorts import ixi_heads
from nbkit.core.checks import require
from nbkit.core.files import atomic, cache_folder, write_text
from nbkit.core.protocols import Cohort
from nbkit.core.source import ROOT
from nbkit.data.shipped import FOLDER, LIST, weights_list
from nbkit.data.splits import folds
from nbkit.papers.trajectories import scan_error
from nbkit.papers.trajectories.scan_segmenter import Config, ScanSegmenter
from nbkit.training.checkpoint import save_checkpoint
from nbkit.training.fitted import fitted

PARTS, SEED = 4, 7
"""One of so many parts of the heads is never learned from."""


def heads(*, n_jobs: int = 1) -> tuple[Cohort, Cohort]:
    """The real heads that the segmenter of scans learns from, and those that it never sees."""
    people = ixi_heads.build(n_jobs=n_jobs)
    fold = folds(people, PARTS, seed=SEED)[0]
    return tuple(replace(people.subset(ids), truth=people.truth) for ids in (fold.train_ids, fold.test_ids))


def so_far() -> Path:
    """Where a training leaves the weights it has reached."""
    return cache_folder() / "so_far" / scan_error.NAME


def scan_segmenter(*, collect: bool = False, n_jobs: int = 1) -> pd.DataFrame:
    """Train the segmenter of real scans, or go on; keep its weights and what it errs by, and list them.

    Parameters
    ----------
    collect : bool
        Keep the weights that a training (of another process, perhaps) has reached by now, and do not train.
    n_jobs : int
        Heads prepared at a time, the first time.

    Returns
    -------
    pandas.DataFrame
        Its error on people never seen (:func:`nbkit.papers.trajectories.scan_error.measured_error`).
    """
    learn, unseen = heads(n_jobs=n_jobs)
    if collect:
        require(
            so_far().is_dir(), "nbkit train --collect", expected="weights of a training on the way",
            found=f"none at {so_far()}", remedy="Start it with `nbkit train scan_segmenter`, and wait some minutes.",
        )
        model = ScanSegmenter.load(so_far())
    else:
        model = fitted(ScanSegmenter(Config()), learn, fit=lambda model, people: model.fit(people, so_far=so_far()))
    table = scan_error.measured_error(model, unseen)
    keep(model, table, learn, finished=not collect)
    return table


def keep(
    model: ScanSegmenter, table: pd.DataFrame, learn: Cohort, *, finished: bool, folder: Path = FOLDER,
    listing: Path = LIST,
) -> Path:
    """Write weights (half precision), settings and the table of errors into `folder`, and list them."""
    name, half = scan_error.NAME, {}
    for key, value in model._tensors().items():
        half[key] = value.half() if value.is_floating_point() else value
    save_checkpoint(
        folder / name, half, system=type(model).__name__, config=model.config.as_dict(),
        constants=model._constants(), training_subjects=model.trained_on,
    )
    with atomic(folder / name / "error.tsv") as part:
        table.to_csv(part, sep="\t", index=False, float_format="%.4g")
    entry = {
        "system": type(model).__name__, "sha256": _sha256(folder / name / "weights.safetensors"),
        "bytes": (folder / name / "weights.safetensors").stat().st_size, "config": model.config.digest(),
        "training_subjects": model.trained_on, "people": len(learn), "never_seen": int(table["people"].max()),
        "cohort": learn.name, "data_hash": learn.provenance["data_hash"], "finished": finished,
        "commit": _commit(), "torch": torch.__version__, "machine": f"{platform.machine()}, CPU",
        "attribution": learn.provenance["attribution"],
    }
    listed = {**weights_list(), name: entry}
    return write_text(listing, _HEADER + "\n".join(_section(n, e) for n, e in sorted(listed.items())))


TRAININGS = {scan_error.NAME: scan_segmenter}
"""What `nbkit train` can make, by name."""
_HEADER = """# Weights that come with the project (reference/weights/NAME): hashes, what they learned from, and how.
# Written by `nbkit train NAME`; read and verified by nbkit/data/shipped.py.

"""


def _section(name: str, entry: dict[str, Any]) -> str:
    lines = [f"{key} = {_toml(value)}" for key, value in entry.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else '"' + str(value).replace('"', "'") + '"'


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _commit() -> str:
    found = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
