"""README's table of what trainings cost is what the script counts; the counting itself against closed forms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.benchmarks.costs import PEAK, SHARE, SINGLE, Cost, measured, table

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_table_in_the_readme_is_what_the_script_prints():
    assert table() in README.read_text(encoding="utf-8"), "python -m tests.benchmarks.costs prints it"


def test_a_linear_layer_costs_what_its_products_do():
    def build():
        net, x = nn.Linear(1000, 500, bias=False), torch.empty(64, 1000)
        return [net], lambda: iter([(net, net(x))])

    found = measured(build, steps=10, half=False)
    assert found.parameters == 500_000
    assert found.flops == 2 * 2 * 64 * 1000 * 500, "forward, and the weights' gradient: the input needs none"
    # weights, two moments and gradient, and what Adam makes of them on the way
    assert 4 * 4 * 500_000 <= found.peak < 7 * 4 * 500_000


def test_hours_follow_from_the_peak_or_from_launches():
    seconds = 1e15 / (PEAK * SHARE)
    assert Cost(1, 1, 10**15, 100, half=True, kernels=1).hours == pytest.approx(100 * seconds / 3600)
    assert Cost(1, 1, 10**15, 100, half=False, kernels=1).hours == pytest.approx(100 * seconds / SINGLE / 3600)
    assert Cost(1, 1, 1, 3600, half=True, kernels=1000).hours == pytest.approx(0.005)
