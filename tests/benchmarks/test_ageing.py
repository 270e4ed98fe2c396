"""One more simulated follow-up, and one transport, on the whole template at 2 mm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nbkit.geometry.flow import Velocity
from nbkit.geometry.transport import transport
from nbkit.phantom.ageing import Rates, simulate_trajectory
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.regions import AGEING_PARAMETERS, Regions, fill_skull, template_maps

AGEING = load_parameters(AGEING_PARAMETERS)


@pytest.fixture(scope="module")
def brain() -> Regions:
    return fill_skull(*template_maps(load_template(load_parameters()), AGEING, spacing=2))[0]


@pytest.mark.benchmark(group="a person with a simulated follow-up, 2 mm")
def test_a_follow_up(benchmark, brain):
    rows = AGEING.section("rate.AD")
    rates = Rates({name: rows[row][0] / 100 for name, row in AGEING.section("structure").items()}, 0.0)
    benchmark.pedantic(simulate_trajectory, args=(brain, rates, [70, 71]), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="transport by pole ladder, 2 mm")
def test_transport(benchmark, brain):
    """Of a smooth field along one of up to about 15 mm, both still at the border."""
    shape, affine = brain.maps.shape, brain.maps.affine
    window = torch.einsum("i,j,k->ijk", *(torch.hann_window(n, periodic=False) for n in shape))
    coarse = torch.randn(2, 3, 6, 7, 6, generator=torch.Generator().manual_seed(0))
    change, along = (Velocity(window * size * F.interpolate(c[None], size=shape, mode="trilinear"))
                     for size, c in zip((5, 8), coarse, strict=True))
    benchmark.pedantic(transport, args=(change, along), kwargs={"affine": affine}, rounds=3, warmup_rounds=1)
