"""``nbkit benchmark write | predict | judge``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from nbkit import shipped
from nbkit.benchmark import small_page
from nbkit.benchmark.ageing import COHORTS, HISTORIES, Ageing, open_task
from nbkit.benchmark.contrast import BESIDE, TARGETS, open_contrast
from nbkit.benchmark.controls import DIAGNOSIS, MEAN, NO_CHANGE
from nbkit.benchmark.entries import Entrant, called, read_entrants
from nbkit.benchmark.judge_page import write_page
from nbkit.benchmark.pet import HELD, TRAINING, open_pet
from nbkit.benchmark.pet import MEAN as MEAN_IMAGE
from nbkit.benchmark.predict import predict
from nbkit.benchmark.scoring import PIXELS, Judged, judged
from nbkit.benchmark.slice import CONTROLS as SLICE_CONTROLS
from nbkit.benchmark.slice import open_slice
from nbkit.benchmark.tables import forgotten_lines
from nbkit.benchmark.tasks import LATEST, rules
from nbkit.benchmark.write import WANTED, write
from nbkit.core.checks import NbkitError, known, require
from nbkit.core.config import PROFILES
from nbkit.core.files import write_text
from nbkit.data.derivatives import DESCRIPTION
from nbkit.data.sidecars import read_object
from nbkit.entrants import enter
from nbkit.figures import marks
from nbkit.figures.marks import title_of
from nbkit.papers.trajectories.head_to_head import CONTROLS, TITLES
from nbkit.papers.trajectories.ranking import NO_FORECAST, beaten, standings
from nbkit.systems import SYSTEMS

app = typer.Typer(no_args_is_help=True, help="A task as plain files, and forecasts of any tool judged on one page.")
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Weights = Annotated[str, typer.Option(help=shipped.SAID)]
Jobs = Annotated[int, typer.Option(help="People simulated or prepared side by side.")]
ALL, NONE, ENTERED = "all", "none", "entrant"
RESERVED = (NO_CHANGE, MEAN, DIAGNOSIS, PIXELS, *NO_FORECAST, "autoencoder", "truth")
"""Names of what always stands on the page."""
SMALL_RESERVED = (*BESIDE, *SLICE_CONTROLS, MEAN_IMAGE, TRAINING, HELD, NO_CHANGE, "truth")


_FIELDS: Mapping[str, tuple[str, ...]] = {"ageing": ("History",), "contrast": ("Target",)}
"""What else the identity of a task holds."""


@app.command("write")
def write_command(
    task: Annotated[str, typer.Argument(help=f"{', '.join(LATEST)}, or a version of one: ageing-1.")],
    to: Annotated[Path, typer.Option(help="Folder to write; a new one, or one of the same task.")],
    cohort: Annotated[str, typer.Option(help=f"{', '.join(COHORTS)} (dlbs for ageing alone).")] = "embedded",
    history: Annotated[str, typer.Option(help=f"ageing: scans shown of a person, {' or '.join(HISTORIES)}.")] = "one",
    target: Annotated[str, typer.Option(help=f"contrast: {' or '.join(TARGETS)}.")] = "FLAIR",
    profile: Annotated[str, typer.Option(help=f"Size of cohort and grid: {', '.join(PROFILES)}.")] = "laptop",
    seed: Annotated[int | None, typer.Option(help="Other people: a task nobody trained on; 7 by default.")] = None,
    n_jobs: Jobs = 1, device: Device = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace another data set of nbkit in the folder.")] = False,
) -> None:
    """Write a task as a plain BIDS data set: what may be seen, what is wanted, and none of the truth."""
    asked = _opened({
        "Task": rules(task).id, "Level": cohort, "Profile": profile, "Seed": seed, "History": history, "Target": target,
    }, device, n_jobs)
    folder = to.expanduser()
    said = write(folder, asked, overwrite=overwrite) if type(asked) is Ageing else asked.write(
        folder, overwrite=overwrite)
    typer.echo(f"{asked.rules.id} ({asked.rules.hash[:12]}): {said}\n{asked.truth_said}\n"
               f"begin with {folder / 'README.md'}; {folder / WANTED} says what is wanted")


@app.command("predict")
def predict_command(
    folder: Annotated[Path, typer.Argument(help="What `nbkit benchmark write ageing` wrote.")],
    model: Annotated[str, typer.Option(help="my_model.py:MyModel, or the name that an installed package offers.")],
    to: Annotated[Path, typer.Option(help="Folder of forecasts to write.")],
    n_jobs: Jobs = 1, device: Device = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace forecasts of another model or task.")] = False,
) -> None:
    """Let a Python model learn from a task and write its forecasts as files, for `judge` or to be passed on."""
    task = task_of(folder.expanduser(), device=device, n_jobs=n_jobs)
    require(type(task) is Ageing, "nbkit benchmark predict", expected="a task of ageing", found=task.rules.id,
            remedy="Models of other tasks enter notebooks 01 to 03: MODEL=my_contrast.py:MyContrast.")
    found = enter(model, task.train, seed=task.seed, device=device, profile=task.profile)
    said = [line.replace("**", "") for line in found.lines()]
    require(len(found) == 1, "--model", expected="one model that learns and answers", found=" ".join(said).rstrip("."),
            remedy="Give one address; each model has a folder of its own.")
    (one,) = found.values()
    left_out = predict(to.expanduser(), task, one, overwrite=overwrite)
    for line in (*said, *left_out, f"judge with: nbkit benchmark judge {folder} {to}"):
        typer.echo(line)


@app.command("judge")
def judge_command(
    folder: Annotated[Path, typer.Argument(help="What `nbkit benchmark write` wrote.")],
    predictions: Annotated[list[Path], typer.Argument(help="Folders of forecasts: volumes.tsv, images, or both.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("page.html"),
    systems: Annotated[str, typer.Option(help=(
        f"ageing: the papers' systems beside them, trained if not kept: none, all, or {', '.join(SYSTEMS)}."))] = NONE,
    scores: Annotated[Path | None, typer.Option(help="Also write every person's scores, as CSV.")] = None,
    ranks: Annotated[Path | None, typer.Option(help="Also write who stands where, as CSV.")] = None,
    n_jobs: Jobs = 1, device: Device = "auto", weights: Weights = shipped.SHIPPED,
) -> None:
    """Check forecasts of any tool, score them beside our controls and systems, and write one page."""
    shipped.use(weights)
    task = task_of(folder.expanduser(), device=device, n_jobs=n_jobs)
    judge = _judge_ageing if type(task) is Ageing else _judge_small
    frame, standing, page = judge(
        task, [path.expanduser() for path in predictions], _systems(systems), out.expanduser())
    if scores is not None:
        write_text(scores, frame.drop(columns="id").to_csv(index=False))
    if ranks is not None:
        write_text(ranks, standing.drop(columns="setting").to_csv(index=False, float_format="%.6g"))
    typer.echo(f"{task.rules.id} ({task.rules.hash[:12]}); {task.truth_said}\nopen {page}")


def _systems(words: str) -> tuple[str, ...]:
    names = tuple(SYSTEMS) if words == ALL else () if words == NONE else tuple(words.split(","))
    for name in names:
        known(name, (*SYSTEMS, ALL, NONE), "--systems")
    return tuple(name for name in names if name not in RESERVED)


def _judge_ageing(
    task: Ageing, folders: Sequence[Path], names: tuple[str, ...], out: Path
) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    entrants: list[Entrant] = []
    for path in folders:
        taken = [n for name in (*RESERVED, *names) for n in (name, title_of(name))] + [e.name for e in entrants]
        entrants += read_entrants(path, task, taken=taken)
    lacking = task.bench.lacking(names) if names else []
    if lacking:
        typer.echo(f"to be trained first on {len(task.train)} people ({task.profile}), then kept: {', '.join(lacking)}")
    _mark(entrant.name for entrant in entrants)
    found = judged(task, entrants, systems=names)
    told = task.rules.told["metrics"]
    ranks = standings(found.main, control=NO_CHANGE, seed=told["bootstrap_seed"])
    entered, ours = [e.name for e in entrants], [name for name in found.systems if name not in CONTROLS]
    kinds = dict.fromkeys(ours, "system of a paper") | dict.fromkeys(entered, ENTERED)
    ranks = in_words(ranks[ranks["metric"].isin(told["ranked"])], TITLES, kinds)
    won = beaten(found.main, entered, ours, seed=told["bootstrap_seed"])
    ranks = ranks.merge(won, how="left", on=["metric", "system"])
    for line in (*standing_lines(ranks), *forgotten_lines(found)):
        typer.echo(line)
    return found.main, ranks, write_page(out, found)


def _mark(names: Iterable[str]) -> None:
    """One colour and marker each on the whole page; an export of a system of ours has them already."""
    for name in names:
        with suppress(NbkitError):
            marks.enter(name)


def _judge_small(
    task: Any, folders: Sequence[Path], _: tuple[str, ...], out: Path
) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    entries, taken = [], [n for name in (*SMALL_RESERVED, *NO_FORECAST) for n in (name, title_of(name))]
    for path in folders:
        name, images = task.read(path)
        entries.append((called(name, path.resolve().name, taken), images))
        taken.append(entries[-1][0])
    _mark(name for name, _ in entries)
    found = task.judge(entries)
    ranks = in_words(found.ranks, found.titles, dict.fromkeys(found.names, ENTERED))
    for line in (*standing_lines(ranks), *found.forgotten):
        typer.echo(line)
    return found.frame, ranks, small_page.write_small_page(out, found)


def _opened(told: Mapping[str, Any], device: str, n_jobs: int) -> Any:
    """The task that an identity tells."""
    kind = told["Task"].rpartition("-")[0]
    common = {"task": told["Task"], "profile": told["Profile"], "seed": told["Seed"], "n_jobs": n_jobs}
    if kind == "ageing":
        return open_task(told["Level"], history=told["History"], device=device, **common)
    if kind == "pet":
        return open_pet(told["Level"], **common)
    if kind == "slice":
        return open_slice(told["Level"], device=device, **common)
    return open_contrast(told["Level"], target=told["Target"], **common)


def task_of(folder: Path, *, device: str = "auto", n_jobs: int = 1) -> Any:
    """The task that a data set holds, with its truth.

    Raises
    ------
    NbkitError
        For a folder that holds none, or one that this version would write differently.
    """
    require(
        (folder / DESCRIPTION).is_file(), f"{folder.name}", expected="a folder that `nbkit benchmark write` wrote",
        found=f"no {DESCRIPTION}", remedy="The data set of the task comes first, then the folders of forecasts.",
    )
    told: dict[str, Any] = read_object(folder / DESCRIPTION).get("nbkit", {})
    require(
        isinstance(told, dict) and "Task" in told, f"{folder.name}/{DESCRIPTION}: nbkit", expected="a task",
        found="none", remedy="The data set of the task comes first, then the folders of forecasts.",
    )
    for name in ("Level", "Profile", "Seed", *_FIELDS.get(str(told["Task"]).rpartition("-")[0], ())):
        require(name in told, f"{folder.name}/{DESCRIPTION}: nbkit", expected=f"the field {name!r}", found="none",
                remedy="Write the task again with --overwrite.")
    task = _opened(told, device, n_jobs)
    differs = [f"{name} {told.get(name)!r}, not {value!r}" for name, value in task.identity.items()
               if told.get(name) != value]
    require(
        not differs, f"{folder.name}/{DESCRIPTION}", expected="the task as this version of nbkit writes it",
        found="; ".join(differs), remedy="Write the task again with this version, or judge with the one that wrote it.",
    )
    return task


def in_words(ranks: pd.DataFrame, titles: Mapping[str, str], kinds: Mapping[str, str]) -> pd.DataFrame:
    """Standings with columns measure, title and kind (of who is in `kinds`; all others are controls), as people say."""
    said = {"measure": ranks["metric"].map(titles), "title": ranks["system"].map(title_of)}
    return ranks.assign(**said, kind=[kinds.get(name, "control") for name in ranks["system"]])


def standing_lines(ranks: pd.DataFrame) -> list[str]:
    """Who stands where, a line a measure."""
    return [
        f"{measure}: " + ", ".join(f"{r.title} {r.mean:.3g}" for r in part.itertuples())
        for measure, part in ranks.groupby("measure", sort=False)
    ]
