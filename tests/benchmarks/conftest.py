"""Speed beside peers: every contender of a group is timed in this same run, and the ratios are printed.

A benchmark marks its group and says who it is, e.g.::

    @pytest.mark.benchmark(group="patch search")
    @pytest.mark.parametrize("who", ["nbkit", "scikit-learn brute", "scikit-learn kd_tree"])
    def test_patch_search(benchmark, who): ...

A group without a peer is told as a multiple of a unit of work timed in the same run, beside the multiple last
committed in ``last.json`` (written anew by ``make bench KEEP=1``). Nothing here fails on a time: machines differ.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

OURS = "nbkit"
LAST = Path(__file__).with_name("last.json")


def contender(bench) -> str:
    """Who is timed: the parameter in the test's brackets, else the test's name."""
    return bench.param or OURS


def unit_of_work() -> float:
    """Seconds of a convolution and a resampling on this machine, as now loaded: the median of nine."""
    x, w = torch.rand(2, 16, 40, 40, 40), torch.rand(16, 16, 3, 3, 3)
    taken = []
    with torch.inference_mode():
        for _ in range(10):
            start = time.perf_counter()
            F.interpolate(F.conv3d(x, w, padding=1), scale_factor=0.5, mode="trilinear")
            taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def by_group(benchmarks: Iterable) -> dict[str, dict[str, float]]:
    """Median seconds by group and contender."""
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    for bench in benchmarks:
        groups[bench.group or "ungrouped"][contender(bench)] = bench.stats.median
    return groups


def ratio_lines(groups: dict[str, dict[str, float]], unit: float, last: dict[str, float]) -> Iterator[str]:
    """One line per contender: our time over a peer's (below 1: we are faster), or over the unit of work."""
    for group, seconds in groups.items():
        ours = next((name for name in seconds if name.startswith(OURS)), None)
        for name, value in seconds.items():
            beside = f"nbkit / {name} = {seconds[ours] / value:.2f}" if ours and name != ours else ""
            if len(seconds) == 1:
                before = f", last committed {last[group]:.2f}" if group in last else ""
                beside = f"{value / unit:.2f} units of work{before}"
            yield f"{group:<46} {name:<30} {value * 1e3:>12.3f} ms  {beside}"


def machine() -> str:
    """What the numbers were taken on."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    return (
        f"{(models or [platform.processor() or platform.machine()])[0]}, {torch.get_num_threads()} torch threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the ratios under the usual tables."""
    session = getattr(config, "_benchmarksession", None)
    groups = by_group(session.benchmarks) if session else {}
    if not groups:
        return
    unit, last = unit_of_work(), json.loads(LAST.read_text()) if LAST.exists() else {}
    terminalreporter.section("nbkit beside its peers (median of this run)")
    terminalreporter.write_line(f"{machine()}; a unit of work is {unit * 1e3:.1f} ms")
    for line in ratio_lines(groups, unit, last):
        terminalreporter.write_line(line)
    if os.environ.get("KEEP") == "1":
        alone = {group: round(next(iter(s.values())) / unit, 2) for group, s in groups.items() if len(s) == 1}
        LAST.write_text(json.dumps(last | alone, indent=1, sort_keys=True) + "\n")
