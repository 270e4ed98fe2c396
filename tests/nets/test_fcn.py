"""The networks of the FLAIR paper: published sizes, shapes, receptive fields."""

import pytest
import torch

from nbkit.core.seeds import torch_generator
from nbkit.nets.fcn import count_parameters, fcn, initialise
from nbkit.nets.unet import UNet


@pytest.mark.parametrize(("width", "count"), [(32, 60_577), (64, 231_745), (96, 513_505)])
def test_parameter_counts_of_table_2_1(width, count):
    assert count_parameters(fcn(5, width=width, depth=3)) == count


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_receptive_field_grows_by_two_voxels_a_layer(depth):
    net = initialise(fcn(1, width=4, depth=depth), torch_generator(1, "net")).double()
    x = torch.rand(1, 1, 17, 17, 17, generator=torch_generator(1, "x"), dtype=torch.float64, requires_grad=True)
    net(x)[0, 0, 8, 8, 8].backward()
    reach = x.grad[0, 0].abs().nonzero()
    assert int((reach - 8).abs().max()) <= depth + 1
    assert x.grad[0, 0, 8 - depth - 2].abs().sum() == 0


def test_kernel_one_is_voxelwise():
    net = initialise(fcn(2, width=8, depth=2, kernel=1), torch_generator(1, "net"))
    x = torch.rand(1, 2, 4, 5, 6, generator=torch_generator(1, "x"))
    shuffled = x.flatten(2)[..., torch.randperm(120, generator=torch_generator(1, "p"))]
    order = torch.randperm(120, generator=torch_generator(1, "p"))
    torch.testing.assert_close(net(x).flatten(2)[..., order], net(shuffled.reshape_as(x)).flatten(2))


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 7, 5), (12, 10, 6)])
def test_unet_keeps_any_shape(shape):
    net = UNet(3, first=2, levels=2)
    assert net(torch.zeros(2, 3, *shape)).shape == (2, 1, *shape)


def test_unet_skips_carry_fine_detail():
    """A checkerboard is invisible after pooling: it can only reach the output through the skip connections."""
    net = initialise(UNet(1, first=4, levels=2), torch_generator(1, "net"))
    board = (torch.arange(8)[:, None, None] + torch.arange(8)[:, None] + torch.arange(8)) % 2
    out = net(board[None, None].float())
    assert out[..., 2:6, 2:6, 2:6].std() > 1e-3


def test_same_seed_same_weights_other_seed_other_weights():
    draws = [initialise(fcn(2, width=4, depth=2), torch_generator(s, "w"))[0].weight for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_glorot_bounds():
    conv = initialise(fcn(5, width=64, depth=1), torch_generator(3, "w"))[0]
    bound = (6 / (27 * (5 + 64))) ** 0.5
    assert bound * 0.95 < float(conv.weight.detach().abs().max()) <= bound
    assert not conv.bias.any()
