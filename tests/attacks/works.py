"""Work that can be interrupted anywhere: each takes a folder, does it, or goes on with it, and tells what came out."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from nbkit import export, systems
from nbkit.claims.observe import Run
from nbkit.claims.verdicts import judge_folder
from nbkit.core.files import Cache
from nbkit.core.volume import Volume
from nbkit.data import manifest
from nbkit.data.lazy import load_volume, save_volumes
from nbkit.runner.execute import reproduce
from nbkit.training.resume import resumable
from tests import test_export
from tests.data.loopback import serving
from tests.runner import conftest as books
from tests.training import test_resume

CONTENT = {"a/one.bin": bytes(range(256)) * 900, "two.bin": b"two" * 99_000}


def cache(folder: Path) -> Any:
    """An entry of two files, made where it is not there."""

    def make(part: Path) -> None:
        draw = torch.Generator().manual_seed(1)
        image = Volume(torch.rand(24, 24, 24, generator=draw), np.diag([2.0, 2, 2, 1]))
        save_volumes(part / "v.safetensors", {"T1w": image, "FLAIR": image.with_data(image.data * 2)})
        (part / "told.txt").write_text("x" * 50_000)

    shelf = Cache(folder / "cache")
    found = shelf.get("kind", {"a": 1}, make, lambda f: load_volume(f / "v.safetensors", "FLAIR"))
    return float(found.data.double().sum()), sorted(p.name for p in (folder / "cache" / "kind").iterdir())


def training(folder: Path) -> Any:
    """A network that is trained, a checkpoint after every epoch, and kept in the cache."""

    def make(part: Path) -> None:
        with resumable(folder / "cache" / "training" / "one", every_s=0):
            _, _, records = test_resume.run()
        (part / "records.txt").write_text(repr(records))

    found = Cache(folder / "cache").get("kind", {"a": 1}, make, lambda f: (f / "records.txt").read_text())
    assert list((folder / "cache" / "training").iterdir()) == []
    return found


def download(folder: Path) -> Any:
    """Two files of a manifest from a server of this machine."""
    os.environ |= {"NBKIT_DATA": str(folder / "data")}
    os.environ.pop("NBKIT_MIRROR", None)
    sums = {path: hashlib.sha256(content).hexdigest() for path, content in CONTENT.items()}
    files = [manifest.ManifestFile(path=p, bytes=len(CONTENT[p]), sha256=known) for p, known in sums.items()]
    with serving(CONTENT) as server:
        study = manifest.Manifest(
            name="study", title="t", access="open", licence="CC0", attribution="a", folder="study",
            base_url=f"{server.address}/", files=tuple(files),
        )
        found = study.fetch(progress=False)
    return _tree(folder / "data"), sorted(found)


def exported(folder: Path) -> Any:
    """A BIDS data set of simulated people and what two systems predict."""
    made = {"countersynth": test_export.Swelling, "no_change": test_export.NoChange}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(systems.Bench, "lacking", lambda self, names: [])
        patch.setattr(systems.Bench, "model", lambda self, name: made[name]().fit(self.train))
        patch.setattr(systems.Bench, "part", lambda self, name: test_export.Reader())
        patch.setattr(export, "cohort_for", lambda *_, **__: test_export.balls())
        export.command("balls", folder / "bids", profile="smoke", system=",".join(made), people="all", ahead="2")
    test_export.read_derivatives(folder / "bids")
    return _tree(folder / "bids")


def records(folder: Path) -> Any:
    """What a notebook records, and its judgement."""
    run = Run(folder / "results", notebook="01_a", cohort="embedded", profile="smoke", seed=1, paper="wei2019_flair")
    for name, shift in (("fcn", 0.0), ("rf", 0.4)):
        run.number(f"wei2019.table2_2a.mse.{name}", {f"s{k}": k + shift for k in range(9)}, unit="z²")
    run.table("t", pd.DataFrame({"a": [1.5, 2.5]}), caption="A table")
    drawn = Figure()
    drawn.subplots().plot([1, 2])
    run.figure("f", drawn, caption="A figure")
    judge_folder(folder / "results")
    return _tree(folder / "results")


def notebook(folder: Path) -> Any:
    """Two notebooks through the runner, with the report."""
    os.environ |= {"NBKIT_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}
    tempfile.tempdir = None
    for name in ("cache", "tmp", "books"):
        (folder / name).mkdir(exist_ok=True)
    paths = []
    for stem, method in (("01_a", "fcn"), ("02_b", "rf")):
        cells = [books.PARAMETERS, books.RECORD.format(stem=stem, method=method)]
        book = nbformat.v4.new_notebook(cells=[
            nbformat.v4.new_code_cell(c, id=f"c{k}", metadata={"tags": ["parameters"]} if not k else {})
            for k, c in enumerate(cells)])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        paths.append(folder / "books" / f"{stem}.ipynb")
        nbformat.write(book, paths[-1])
    result = reproduce(paths, out_dir=folder / "out", profile="smoke")
    assert result.exit_code == 0, [s.error for s in result.stamps]
    kept = ("observations.jsonl", "scorecard.json", "tables/01_a_table.csv", "tables/02_b_table.csv")
    assert (folder / "out" / "index.html").stat().st_size > 1000
    assert list((folder / "tmp").iterdir()) == []
    return [hashlib.sha256((folder / "out" / name).read_bytes()).hexdigest() for name in kept]


WORKS: dict[str, Callable[[Path], Any]] = {
    "cache": cache, "training": training, "download": download, "export": exported, "records": records,
    "notebook": notebook,
}


def _tree(folder: Path) -> list[tuple[str, str]]:
    """Every file and its content, hidden ones too; pictures and dates apart."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [(p.relative_to(folder).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]
