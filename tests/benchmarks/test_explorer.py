"""Three moves of the explorer's slider at laptop size, two systems side by side, picture included."""

from __future__ import annotations

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


@pytest.mark.benchmark(group="three moves of the explorer, two systems")
def test_a_move(benchmark, explorer):
    panel = Panel(explorer, replace(explorer.start, beside="b"))
    benchmark.pedantic(panel.moves, args=(3,), rounds=7, warmup_rounds=1)
