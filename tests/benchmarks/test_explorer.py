"""How long a move of the explorer's slider takes at laptop size, two systems side by side, picture included."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.files import Cache
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.papers.trajectories.outlooks import Carried, Outlooks, Seen
from nbkit.papers.trajectories.controls import NoChange
from nbkit.phantom.longitudinal import GRIDS
from nbkit.widgets.explorer import Explorer, Person
from nbkit.widgets.panel import Panel

SPACING, SHAPE = GRIDS["laptop"]
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
YEARS = (0, 2, 4, 6, 8, 10)


def _image(seed: int) -> Volume:
    return Volume(torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)), AFFINE)


@pytest.fixture
def explorer(tmp_path) -> Explorer:
    labels, names = Volume((_image(9).data > 0.5).to(torch.int16), AFFINE), {1: "hippocampus"}
    scans = [Scan("sub-01", str(k), 70.0 + k, {"T1w": _image(k)}, {}, labels, names) for k in range(3)]
    volumes = [{"hippocampus": 7000.0}] * 3
    seen = {"sub-01": Seen(scans[:2], volumes[1])}
    system = Outlooks(Carried(NoChange()), seen, courses={"HC": "HC"}, years=YEARS, cache=Cache(tmp_path))
    return Explorer([Person.of(scans, volumes, seen=2)], {"a": system, "b": system}, courses=["HC"],
                    structures=["hippocampus"], horizon=10.0, trained=(55.0, 78.0))


def test_a_move_takes_less_than_a_fifth_of_a_second(explorer, capsys):
    waits = Panel(explorer, replace(explorer.start, beside="b")).moves(21)
    with capsys.disabled():
        size = "×".join(map(str, SHAPE))
        print(f"\nexplorer at {size}, two systems: a move takes {statistics.median(waits):.0f} ms (median of 21), "
              f"{max(waits):.0f} ms at most", end="")
    assert statistics.median(waits) < 200
