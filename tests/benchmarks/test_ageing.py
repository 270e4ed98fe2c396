"""Seconds of one simulated follow-up and of one transport on the whole template at 2 mm."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from nbkit.geometry.flow import Velocity
from nbkit.geometry.transport import rungs, transport
from nbkit.phantom.ageing import Rates, simulate_trajectory
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.regions import AGEING_PARAMETERS, Regions, fill_skull, template_maps

AGEING = load_parameters(AGEING_PARAMETERS)


@pytest.fixture(scope="module")
def brain() -> Regions:
    return fill_skull(*template_maps(load_template(load_parameters()), AGEING, spacing=2))[0]


def mean_rates(diagnosis: str) -> Rates:
    rows = AGEING.section(f"rate.{diagnosis}")
    return Rates({name: rows[row][0] / 100 for name, row in AGEING.section("structure").items()}, 0.0)


def median_seconds(act: Callable[[], object], times: int = 3) -> float:
    act()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def test_a_follow_up_takes_less_than_one_and_a_half_seconds(brain, capsys):
    """What one more visit costs; the velocity field, found once for a person, is printed beside it."""
    first, more = (
        median_seconds(lambda ages=ages: simulate_trajectory(brain, mean_rates("AD"), ages))
        for ages in ([70, 71], [70, 71, 72])
    )
    shape = "×".join(map(str, brain.maps.shape))
    with capsys.disabled():
        print(f"\nfollow-up at 2 mm ({shape}): {more - first:.2f} s a visit; a person with one {first:.2f} s", end="")
    assert more - first < 1.5


def test_transport_takes_less_than_five_seconds(brain, capsys):
    """Of a smooth field along one of up to about 15 mm, both still at the border."""
    shape, affine = brain.maps.shape, brain.maps.affine
    still = [torch.hann_window(n, periodic=False) for n in shape]
    window = torch.einsum("i,j,k->ijk", *still)
    coarse = torch.randn(2, 3, 6, 7, 6, generator=torch.Generator().manual_seed(0))
    change, along = (window * size * F.interpolate(c[None], size=shape, mode="trilinear")
                     for size, c in zip((5, 8), coarse, strict=True))
    seconds = median_seconds(lambda: transport(Velocity(change), Velocity(along), affine=affine))
    with capsys.disabled():
        steps = rungs(Velocity(along), affine=affine)
        print(f"\ntransport at 2 mm ({'×'.join(map(str, shape))}), {steps} rungs: {seconds:.2f} s", end="")
    assert seconds < 5
