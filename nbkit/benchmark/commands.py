"""``nbkit benchmark write | judge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nbkit.benchmark.ageing import COHORTS, HISTORIES, open_task
from nbkit.benchmark.write import WANTED, write

app = typer.Typer(no_args_is_help=True, help="A task as plain files, and forecasts of any tool judged on one page.")
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Jobs = Annotated[int, typer.Option(help="People simulated or prepared side by side.")]


@app.command("write")
def write_command(
    task: Annotated[str, typer.Argument(help="ageing, or a version of it: ageing-1.")],
    to: Annotated[Path, typer.Option(help="Folder to write; a new one, or one of the same task.")],
    cohort: Annotated[str, typer.Option(help=f"{', '.join(COHORTS)}.")] = "embedded",
    history: Annotated[str, typer.Option(help=f"Scans shown of a test person: {' or '.join(HISTORIES)}.")] = "one",
    profile: Annotated[str, typer.Option(help="Size of cohort and grid: smoke, laptop, overnight or paper.")] = "laptop",
    seed: Annotated[int | None, typer.Option(help="Other people: a task nobody trained on; 7 by default.")] = None,
    n_jobs: Jobs = 1, device: Device = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace another data set of nbkit in the folder.")] = False,
) -> None:
    """Write a task as a plain BIDS data set: what may be seen, what is wanted, and none of the true futures."""
    asked = open_task(
        cohort, task=task, profile=profile, seed=seed, history=history, device=device, n_jobs=n_jobs)
    folder = to.expanduser()
    write(folder, asked, overwrite=overwrite)
    typer.echo(
        f"{asked.rules.id} ({asked.rules.hash[:12]}): {len(asked.train)} training people, {len(asked.test)} test people, "
        f"{len(asked.asked())} forecasts asked for\n{asked.truth_said}\n"
        f"begin with {folder / 'README.md'}; {folder / WANTED} says what is wanted"
    )
