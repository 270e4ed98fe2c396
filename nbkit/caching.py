"""`nbkit cache`: what finished work takes on disk, and its removal. Rank 6."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from nbkit.core import shelf
from nbkit.core.checks import known
from nbkit.core.files import cache_folder
from nbkit.data.manifest import data_folder
from nbkit.runner.execute import LOGS

app = typer.Typer(invoke_without_command=True, help="Finished work kept on disk; alone, it shows what is there.")


@app.callback()
def cache(context: typer.Context) -> None:
    """Finished work kept on disk."""
    if context.invoked_subcommand is None:
        cache_info()


@app.command("info")
def cache_info() -> None:
    """How much each kind of finished work takes, what dead runs left, and where the logs are."""
    root = cache_folder()
    typer.echo(f"{root}")
    total = 0
    for folder in _kinds():
        size = shelf.size(folder)
        total += size
        typer.echo(f"{folder.name:<24} {len(shelf.entries_of(folder)):>5} entries {size / 1e6:>10.1f} MB")
    limit = shelf.limit_bytes() / 1e9
    typer.echo(f"{total / 1e9:.1f} of {limit:g} GB (NBKIT_CACHE_GB); what was used longest ago goes first")
    if logs := list((root / LOGS).glob("*.log")):
        typer.echo(f"{len(logs)} logs of failed notebooks in {root / LOGS}")
    if left := shelf.leftovers(*shelf.places(root)):
        typer.echo(f"{len(left)} leftovers of killed runs: `nbkit cache clear` removes them, as the next run does")


@app.command("clear")
def cache_clear(kind: Annotated[str, typer.Argument(help="One kind; all and logs by default.")] = "") -> None:
    """Remove finished work; it is made again when needed. Downloads stay, and files that are not ours."""
    kinds = {folder.name: folder for folder in _kinds()}
    chosen = [known(kind, kinds, "cache clear: kind")] if kind else list(kinds)
    shelf.sweep(*([kinds[kind]] if kind else shelf.places(cache_folder())))
    for name in chosen:
        for entry in shelf.entries_of(kinds[name]):
            shutil.rmtree(entry)
        if not any(kinds[name].iterdir()):
            kinds[name].rmdir()
        typer.echo(f"removed {name}")
    for log in () if kind else (cache_folder() / LOGS).glob("*.log"):
        log.unlink()


def _kinds() -> list[Path]:
    root, downloads = cache_folder(), data_folder()
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.is_symlink()) if root.is_dir() else []
    return [p for p in folders if p != downloads and (shelf.entries_of(p) or shelf.leftovers(p))]
