"""A lone item is convolved as torch does it, and by oneDNN where that pays."""

import pytest
import torch
from torch import nn

from nbkit.nets.conv import Conv3d, in_company
from tests.flops import Convolutions

SHAPES = {"worth it": (8, 12, 12, 12), "too small": (2, 4, 4, 4), "large": (16, 40, 40, 4)}


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding_mode": "reflect"}, {"bias": False}], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_is_torch_convolution_values_and_gradients(shape, options):
    mine = Conv3d(shape[0], 6, 3, padding=1, **options)
    theirs = nn.Conv3d(shape[0], 6, 3, padding=1, **options)
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(3))
    seen = []
    for net in (mine, theirs):
        given = x.clone().requires_grad_()
        out = net(given)
        (out * out.detach().sin()).sum().backward()
        seen.append((out.detach(), given.grad, net.weight.grad))
    for ours, other in zip(*seen, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_a_lone_item_that_is_worth_it_leaves_the_loop():
    x = torch.randn(1, 8, 12, 12, 12)
    for net, left in ((nn.Conv3d(8, 8, 3, padding=1), 1.0), (Conv3d(8, 8, 3, padding=1), 0.0)):
        with Convolutions() as seen:
            net(x).sum().backward()
        assert seen.share_left() == left


def test_networks_of_other_libraries_are_taken_along():
    net = nn.Sequential(nn.Conv3d(2, 4, 3), nn.Sequential(nn.Conv3d(4, 4, 1)), nn.Conv2d(4, 4, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert [type(m) for m in in_company(net).modules() if isinstance(m, (nn.Conv3d, nn.Conv2d))] == [
        Conv3d, Conv3d, nn.Conv2d]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def litter() -> None:
    """Leave NaN behind in memory that is free again."""
    for size in 2 ** torch.arange(8, 21, 2):
        del (kept := [torch.full((int(size),), float("nan")) for _ in range(10)])[:]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=str)
@pytest.mark.parametrize("shape", [(2, 2, 1), (2, 4, 4), (4, 2, 1)], ids=str)
def test_on_small_grids_bfloat16_gradients_do_not_depend_on_what_was_in_memory(shape, layout):
    x = torch.randn(2, 16, *shape, generator=torch.Generator().manual_seed(3)).to(memory_format=layout)
    net = Conv3d(16, 16, 3, padding=1).to(memory_format=layout)
    plain = nn.Conv3d(16, 16, 3, padding=1)
    plain.load_state_dict(net.state_dict())
    plain(x).square().mean().backward()
    for _ in range(3):
        net.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            litter()
            out = net(x)
        out.float().square().mean().backward()
        torch.testing.assert_close(net.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-5)
