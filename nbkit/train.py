"""Weights that come with the project, made again: `nbkit train mrextrap`."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from nbkit import shipped
from nbkit.cohorts import cohort_for, ixi_heads
from nbkit.core.checks import known, require
from nbkit.core.files import atomic, cache_folder, write_text
from nbkit.core.protocols import Cohort
from nbkit.core.source import ROOT
from nbkit.data.pet_slices import slice_table
from nbkit.data.shipped import FOLDER, LIST, weights_list
from nbkit.data.splits import folds, person_of, subject_hash
from nbkit.papers.daninet import trained as dani
from nbkit.papers.daninet.experiments import key_of
from nbkit.papers.flair import Config as FLAIR
from nbkit.papers.flair import ConvSynthesizer, setting_experiments
from nbkit.papers.pet_dcgan import Config as PET
from nbkit.papers.pet_dcgan import experiments as pet
from nbkit.papers.trajectories import scan_error
from nbkit.papers.trajectories.scan_segmenter import Config, ScanSegmenter
from nbkit.shipped import CARD, probe, stands_for
from nbkit.systems import Bench
from nbkit.training import together
from nbkit.training.checkpoint import Saved, save_checkpoint
from nbkit.training.fitted import fitted

SCAN_SEGMENTER = scan_error.NAME
LEVELS = ("embedded", "open")
PARTS, FOLDS, SEED = 4, 5, 7
"""One of so many parts of the heads is never learned from; folds of notebook 01; that of all trainings."""


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
        reached = so_far() if together.rank() == 0 else None
        model = fitted(ScanSegmenter(Config()), learn, fit=lambda model, people: model.fit(people, so_far=reached))
    table = scan_error.measured_error(model, unseen)
    if together.rank() == 0:
        keep(model, learn, table=table, folder=FOLDER / scan_error.NAME,
             facts={"never_seen": int(table["people"].max()), "finished": not collect})
    return table


def ageing(
    part: str, *, profile: str = "laptop", level: str = "embedded", collect: bool = False, n_jobs: int = 1
) -> pd.DataFrame:
    """Train what notebooks 05, 08 and 09 use of `part` (:class:`nbkit.systems.Bench`) for longer than they would.

    Where `profile` is "laptop", by :data:`LONGER`; the others train as they say.

    Returns
    -------
    pandas.DataFrame
        Hours, and the last error on training people kept back, where some are.
    """
    _nothing_to_collect(part, collect)
    bench = Bench(cohort_for(level, task="ageing", profile=profile, n_jobs=n_jobs), profile)
    shipped.use(shipped.SHIPPED)  # BrLP is built on the autoencoder that notebooks will read
    asked, long = bench.job(part), bench.job(part, **(LONGER[part] if profile == "laptop" else {}))
    shipped.use(shipped.TRAIN)
    return _made("-".join([part, level, *[profile] * (profile != "laptop")]), bench.train, asked, long)


def flair(*, profile: str = "laptop", collect: bool = False, n_jobs: int = 1) -> pd.DataFrame:
    """Train the FCN of notebook 01, at laptop at its published width, fold by fold; gives what :func:`ageing` does."""
    _nothing_to_collect("flair", collect)
    people = cohort_for("embedded", task="flair", profile=profile, seed=SEED, n_jobs=n_jobs)
    inputs = tuple(name for name in people.subjects[0].baseline.images if name != "FLAIR")
    fcn, rows = FLAIR.for_profile(profile, inputs=inputs, seed=SEED), []
    kinds = {f"flair-embedded-{profile}": {}}
    if profile == "laptop":
        long, own = setting_experiments.LONG.values()
        kinds = {"flair-embedded": long, "flair-own-embedded": own}
    for (kind, changes), fold in product(kinds.items(), folds(people, FOLDS, seed=SEED)):
        job = {"model": ConvSynthesizer(fcn.changed(**changes))}
        rows.append(_made(f"{kind}-{fold.name}", people.subset(fold.train_ids), job, job))
    return pd.concat(rows)


def dcgan(*, profile: str = "laptop", collect: bool = False, n_jobs: int = 1) -> pd.DataFrame:
    """Train the generators of slices of notebook 07; gives what :func:`ageing` does."""
    _nothing_to_collect("dcgan", collect)
    people = cohort_for("embedded", task="pet", profile=profile, seed=SEED, n_jobs=n_jobs)
    levels, parts = pet.levels_and_parts(profile)
    settings = PET.for_profile(profile, seed=SEED)
    learn = people.subset(folds(people, parts, seed=SEED, group_of=person_of)[0].train_ids)
    table = slice_table(people, per_view=levels, size=settings.size).select(subjects=learn.ids)
    table = table.of_people({s.id: person_of(s) for s in people})
    longer = settings.changed(**(LONGER["dcgan"] if profile == "laptop" else {})).kinds
    rows, end = [], [profile] * (profile != "laptop")
    for name, config in settings.kinds.items():
        asked, long = (pet.job(name, c, table, learn) for c in (config, longer[name]))
        rows.append(_made("-".join(["dcgan", name, "embedded", *end]), learn, asked, long))
    return pd.concat(rows)


def daninet(
    *, profile: str = "laptop", level: str = "embedded", collect: bool = False, n_jobs: int = 1
) -> pd.DataFrame:
    """Train the networks of Table 1 of notebook 04; gives what :func:`ageing` does."""
    _nothing_to_collect("daninet", collect)
    people = cohort_for(level, task="ageing", profile=profile, seed=SEED, n_jobs=n_jobs)
    _, learn, _ = dani.in_slices(people, profile=profile, seed=SEED)
    rows, end = [], [profile] * (profile != "laptop")
    for name in dani.NETWORKS:
        asked = dani.network(name, profile, seed=SEED)
        long = type(asked)(asked.config.changed(**(LONGER["daninet"] if profile == "laptop" else {})))
        rows.append(_made("-".join(["daninet", key_of(name), level, *end]), learn, {"model": asked}, {"model": long}))
    return pd.concat(rows)


def _nothing_to_collect(part: str, collect: bool) -> None:
    require(
        not collect, "nbkit train --collect", expected="scan_segmenter, whose training leaves weights on its way",
        found=part, remedy="Leave --collect away: a training that was killed goes on.",
    )


def _made(name: str, learn: Cohort, asked: Mapping[str, Any], long: Mapping[str, Any]) -> pd.DataFrame:
    """Train by `long`, keep the weights in place of what is `asked` for; the row says hours and error."""
    start = time.monotonic()
    model = fitted(**{"cohort": learn, **long})
    hours, folder = (time.monotonic() - start) / 3600, FOLDER / name
    if together.rank() == 0:
        wanted = stands_for(asked["model"].config.as_dict(), asked.get("key"))
        facts = {"finished": True, "hours": round(hours, 2), "processes": together.count()}
        keep(model, learn, folder=folder, card={"stands_for": wanted}, facts=facts)
        _golden(folder, long.get("load") or type(model).load, learn)
    together.wait()
    watched = model.history.get("validation") or [float("nan")]
    return pd.DataFrame({"weights": [name], "hours": hours, "error": watched[-1]})


def keep(
    model: Saved, learn: Cohort, *, facts: Mapping[str, Any], folder: Path, listing: Path = LIST,
    card: Mapping[str, Any] | None = None, table: pd.DataFrame | None = None,
) -> Path:
    """Write a system (half precision), its card and its table of errors into `folder`, and list it with `facts`."""
    half = {}
    for key, value in model._tensors().items():
        half[key] = value.half() if value.dtype == torch.float32 else value
    save_checkpoint(
        folder, half, system=type(model).__name__, config=model.config.as_dict(), constants=model._constants(),
        training_subjects=model.trained_on, history=model.history,
    )
    if table is not None:
        with atomic(folder / "error.tsv") as part:
            table.to_csv(part, sep="\t", index=False, float_format="%.4g")
    if card is not None:
        write_text(folder / CARD, json.dumps(card))
    weights = folder / "weights.safetensors"
    entry = {
        "system": type(model).__name__, "sha256": _sha256(weights), "bytes": weights.stat().st_size,
        "config": model.config.digest(), "training_subjects": subject_hash(learn.ids), "people": len(learn),
        "cohort": learn.name, "data_hash": learn.provenance["data_hash"], **facts,
        "commit": _commit(), "torch": torch.__version__, "machine": f"{platform.machine()}, CPU",
        "attribution": learn.provenance["attribution"],
    }
    listed = {**weights_list(), folder.name: entry}
    return write_text(listing, _HEADER + "\n".join(_section(n, e) for n, e in sorted(listed.items())))


def _golden(folder: Path, load: Callable[[Path], Any], learn: Cohort) -> None:
    """Note in the card what the kept weights give."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    numbers = [float(f"{value:.5g}") for value in probe(load(folder), learn)]
    write_text(folder / CARD, json.dumps({**card, "gives": numbers}, indent=1))


def chosen(name: str | None, notebooks: str) -> list[str]:
    """Which trainings are asked for: one by name, or those of notebooks ("05,08"; "all")."""
    if name is not None:
        return [known(name, TRAININGS, "nbkit train")]
    asked = USED if notebooks == "all" else [known(n.strip(), USED, "nbkit train --nb") for n in notebooks.split(",")]
    return list(dict.fromkeys(part for notebook in asked for part in USED[notebook]))


def trained(
    parts: Sequence[str], *, profile: str, collect: bool, n_jobs: int, level: str = "embedded"
) -> Iterator[pd.DataFrame]:
    """Train one after the other, with the processes that ``torchrun`` started; the first of them tells the tables.

    Raises
    ------
    NbkitError
        Where people of the `level` "open" are asked for and a part learns from simulated ones, or real heads, alone.
    """
    known(level, LEVELS, "nbkit train --cohort")
    for part in parts:
        require(
            level == "embedded" or part in _OF_AGEING, f"nbkit train {part} --cohort", expected="embedded", found=level,
            remedy=f"Name one of {', '.join(_OF_AGEING)}.",
        )
    with together.joined():
        for part in parts:
            options = {} if part == SCAN_SEGMENTER else {"profile": profile}
            options |= {"level": level} if part in _OF_AGEING else {}
            table = TRAININGS[part](collect=collect, n_jobs=n_jobs, **options)
            if together.rank() == 0:
                yield table


LONGER: Mapping[str, Mapping[str, Any]] = {
    "mrextrap": {"epochs": 1_000, "adversarial_from": 850, "warm_up": 10, "averaged": 0.995, "watched": 6},
    "segmenter": {"steps": 2_000},
    "brlp": {"diffusion_steps": 5_000, "control_steps": 5_000},
    "countersynth": {"epochs": 200},
    "dcgan": {"epochs": 6_000, "batch": 32, "averaged": 0.999, "snapshot_images": 6},  # shown: six
    "daninet": {"epochs": 2_000},
}
"""What the weights that come with the project change in the settings of the profile they stand in for."""
_AGEING = ("mrextrap", "segmenter", "brlp", "countersynth")
_OF_AGEING = (*_AGEING, "daninet")
TRAININGS = {
    SCAN_SEGMENTER: scan_segmenter, "flair": flair, **{part: partial(ageing, part) for part in _AGEING},
    "dcgan": dcgan, "daninet": daninet,
}
"""What `nbkit train` can make, by name."""
USED = {"01": ("flair",), "04": ("daninet",), "05": _AGEING[:2], "07": ("dcgan",), "08": _AGEING, "09": _AGEING}
"""What notebooks read, in the order of training."""
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
