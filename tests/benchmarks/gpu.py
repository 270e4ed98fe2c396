"""What a machine with a GPU and little time is for: ``make gpu NB=05,08 PROFILE=overnight MINUTES=60 TO=folder``.

First one training step of every system, timed, beside what :mod:`tests.benchmarks.costs` counts; then the notebooks
named, at the profile named, and the weights they trained. All lands in one folder, to be brought back. No network is
needed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from nbkit.core.device import autocast, pick_device
from nbkit.runner.provenance import ROOT, collect
from tests.benchmarks import costs

STEPS = 5
NBKIT = [sys.executable, "-m", "nbkit.cli"]


def timed(build: Any, *, steps: int, half: bool, device: torch.device) -> dict[str, float]:
    """Median seconds of a true step on `device`, and the most memory it held (bytes; 0 on a CPU)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.device(device):
        nets, updates = build()
        for net in nets:
            net.to(device)
        optimisers = {id(net): torch.optim.Adam(net.parameters()) for net in nets}
        taken = []
        for _ in range(STEPS):
            start = time.perf_counter()
            with autocast(device, half):
                turns = updates()
            while True:
                with autocast(device, half):
                    turn = next(turns, None)
                if turn is None:
                    break
                turn[1].float().mean().backward()
                optimisers[id(turn[0])].step()
                for net in nets:
                    net.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {"seconds": sorted(taken)[len(taken) // 2], "peak": peak, "steps": steps}


def rows(profile: str, device: torch.device, *, names: Sequence[str], until: float) -> list[dict[str, Any]]:
    """A row for every system: seconds and memory of a step here, beside what is counted; none begins after `until`."""
    found: list[dict[str, Any]] = []
    for name in names:
        cost_of = costs.SYSTEMS[name][1]
        if time.monotonic() > until:
            found.append({"system": name, "error": "no time left"})
            continue
        counted = cost_of(profile)
        try:
            with mock.patch.object(costs, "measured", partial(timed, device=device)):
                here = cost_of(profile)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            found.append({"system": name, "error": str(error).splitlines()[0]})
            continue
        found.append({
            "system": name, "profile": profile, "device": device.type, **here,
            "teraflops_per_s": counted.flops / here["seconds"] / 1e12, "counted_flops": counted.flops,
            "counted_peak": counted.peak, "hours": here["seconds"] * here["steps"] / 3600,
        })
    return found


def commands(nb: str, profile: str, device: str, to: Path) -> list[list[str]]:
    """What runs after the rows: the notebooks, what they found as a reference, and the weights they trained."""
    place = ["--profile", profile, "--out", str(to / "results")]
    return [
        [*NBKIT, "run", "--nb", nb, "--device", device, *place],
        [*NBKIT, "reference", *place, "--to", str(to / "reference")],
        [*NBKIT, "train", "--nb", nb, "--profile", profile],
    ]


def main(given: Sequence[str] | None = None) -> int:
    """The rows within ten minutes, then the notebooks within the minutes given; the number of commands that failed."""
    asked = _parser().parse_args(given)
    device = pick_device(asked.device)
    asked.to.mkdir(parents=True, exist_ok=True)
    names = [n for n in costs.SYSTEMS if not asked.systems or n in asked.systems.split(";")]
    table = rows(asked.profile, device, names=names, until=time.monotonic() + 8 * 60)
    text = json.dumps({"rows": table, "machine": collect()}, indent=1, default=str)
    (asked.to / "benchmark.json").write_text(text, encoding="utf-8")
    for row in table:
        print(" ".join(f"{key}={value:.3g}" if isinstance(value, float) else f"{value}" for key, value in row.items()))
    failed, end = 0, time.monotonic() + 60 * asked.minutes
    for command in commands(asked.nb, asked.profile, asked.device, asked.to) if asked.nb else ():
        failed += _within(command, end - time.monotonic())
    for name in ("reference/weights", "data_manifests/weights.toml") if asked.nb else ():
        _copied(ROOT / name, asked.to / name)
    print(f"bring back {asked.to}")
    return failed


def _within(command: Sequence[str], seconds: float) -> bool:
    """Whether it failed or was ended: by SIGTERM, upon which a run writes what it has."""
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            return process.wait(max(seconds, 1.0)) != 0
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            return True


def _copied(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to, dirs_exist_ok=True)
    elif source.exists():
        shutil.copy(source, to)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nb", default="", help="numbers of notebooks; none: the rows alone")
    parser.add_argument("--profile", default="overnight")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=60.0, help="for the notebooks")
    parser.add_argument("--systems", default="", help="some rows only, parted by semicolons")
    parser.add_argument("--to", type=Path, default=Path("gpu-run"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
