"""Speed beside peers: every contender of a group is timed in this same run, and the ratios are printed.

A benchmark marks its group and says who it is, e.g.::

    @pytest.mark.benchmark(group="patch search")
    @pytest.mark.parametrize("who", ["nbkit", "scikit-learn brute", "scikit-learn kd_tree"])
    def test_patch_search(benchmark, who): ...

and keeps any limit the project promises as an ordinary assertion in a test of its own.
"""

from __future__ import annotations

import platform
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

OURS = "nbkit"


def contender(bench) -> str:
    """Who is timed: the parameter in the test's brackets, else the test's name."""
    return bench.param or bench.name


def ratio_lines(benchmarks: Iterable) -> Iterator[str]:
    """One line per peer: our median time over theirs (below 1: we are faster)."""
    groups = defaultdict(dict)
    for bench in benchmarks:
        groups[bench.group or "ungrouped"][contender(bench)] = bench.stats.median
    for group, seconds in groups.items():
        ours = next((name for name in seconds if name.startswith(OURS)), None)
        for name, value in seconds.items():
            beside = f"  nbkit / {name} = {seconds[ours] / value:.2f}" if ours and name != ours else ""
            yield f"{group:<32} {name:<28} {value * 1e3:>12.3f} ms{beside}"


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
    lines = list(ratio_lines(session.benchmarks)) if session else []
    if lines:
        terminalreporter.section("nbkit beside its peers (median of this run)")
        terminalreporter.write_line(machine())
        for line in lines:
            terminalreporter.write_line(line)
