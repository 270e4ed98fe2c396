"""The networks of chapters 3 and 4: attention against the explicit softmax, sizes, weights, what dropout changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.nets.fcn import count_parameters
from nbkit.papers.myelin.networks import (
    FlexibleSelfAttention, SeededDropout, ResidualAttentionUNet, ResidualBlock, StridedUNet, padded, seed_dropout, unit,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(5)


NETS = {
    "strided": lambda **more: StridedUNet(3, first=4, levels=2, **more),
    "residual": lambda **more: ResidualAttentionUNet(3, first=4, levels=2, **more),
}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 12, 7)])
def test_any_size_in_the_same_size_out(make, shape):
    assert make()(torch.randn(2, 3, *shape)).shape == (2, 1, *shape)


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_every_weight_takes_part(make, norm):
    net = make(norm=norm, dropout=0.0)
    for module in net.modules():
        if isinstance(module, FlexibleSelfAttention):
            module.gamma.data.fill_(0.5)
    net(torch.randn(2, 3, 16, 12, 8)).square().sum().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # a normalisation takes any shift of the convolution before it away, and a softmax any shift of its logits
    assert [name for name in still if not name.endswith("bias")] == []


def test_number_of_weights_of_the_published_unet():
    """3³ convolutions with biases and two affine values per normalised map, level by level (Fig. 3.3 A)."""
    def conv(a, b):
        return 27 * a * b + b + 2 * b
    down = sum(conv(a, w) + conv(w, w) + conv(w, 2 * w) for a, w in ((4, 32), (64, 64), (128, 128)))
    up = sum(8 * 2 * w * w + 3 * w + conv(2 * w, w) + conv(w, w) for w in (32, 64, 128))
    assert count_parameters(StridedUNet(4)) == down + 2 * conv(256, 256) + up + 33


def test_maps_of_the_published_residual_net():
    net = ResidualAttentionUNet(4)
    assert [block.long[1][0].out_channels for block in net.down] == [32, 64, 128, 256]
    assert [block.long[1][0].out_channels for block in net.up] == [128, 64, 32, 16]
    assert [a.key.in_channels for a in net.attend] == [64, 64] and net.first[0].out_channels == 16


def test_attention_begins_as_nothing():
    """With γ = 0 the network is the one without attention."""
    with_it, without = NETS["residual"](), NETS["residual"](attention_pool=0)
    without.load_state_dict(with_it.state_dict(), strict=False)
    x = torch.randn(1, 3, 8, 8, 8)
    with_it.requires_grad_(False), without.requires_grad_(False)
    torch.testing.assert_close(with_it.eval()(x), without.eval()(x))
    with_it.attend[1].gamma.data.fill_(1.0)
    assert float((with_it(x) - without(x)).abs().max()) > 1e-4


@pytest.mark.parametrize(("up", "shape"), [(False, (2, 7, 4, 3, 2)), (True, (2, 7, 16, 12, 8))])
def test_a_residual_block_adds_its_short_connection(up, shape):
    block, x = ResidualBlock(3, 7, up=up, norm="none", dropout=0.0), torch.randn(2, 3, 8, 6, 4)
    y = block(x)
    assert y.shape == shape
    for p in block.long.parameters():
        p.data.zero_()
    conv = F.conv_transpose3d if up else F.conv3d
    torch.testing.assert_close(block(x), conv(x, block.short.weight, block.short.bias, stride=2))


def test_units_keep_the_printed_order():
    layers = unit(nn.Conv3d(1, 2, 3), norm="batch", dropout=0.5)
    assert [type(m).__name__ for m in layers] == ["Conv3d", "LeakyReLU", "BatchNorm3d", "SeededDropout"]
    assert layers[1].negative_slope == 0.2


def test_padding_is_zeros_at_the_far_ends():
    seen = []
    out = padded(lambda x: seen.append(x) or x, torch.ones(1, 1, 3, 4, 5), 4)
    assert seen[0].shape == (1, 1, 4, 4, 8) and float(seen[0].sum()) == 60 and out.shape == (1, 1, 3, 4, 5)


def test_dropout_takes_whole_maps_by_draws_of_its_own():
    x, drop = torch.ones(64, 50, 2, 2, 2), SeededDropout(0.3)
    seed_dropout(nn.Sequential(drop), torch.Generator().manual_seed(1), whole=True)
    first = drop(x)
    torch.manual_seed(99)
    seed_dropout(drop, torch.Generator().manual_seed(1), whole=True)
    assert torch.equal(drop(x), first)
    maps = first.flatten(2)
    assert torch.equal(maps.amin(2), maps.amax(2))
    torch.testing.assert_close(maps.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert float(maps.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(x), x)


def test_published_dropout_takes_single_values_by_draws_of_its_own():
    x, drop = torch.ones(8, 4, 6, 6, 6), SeededDropout(0.3)
    seed_dropout(drop, torch.Generator().manual_seed(1))
    first, second = drop(x), drop(x)
    torch.manual_seed(99)
    seed_dropout(drop, torch.Generator().manual_seed(1))
    assert torch.equal(drop(x), first) and not torch.equal(first, second)
    torch.testing.assert_close(first.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert float(first.mean()) == pytest.approx(1, abs=0.05) and (first.flatten(2).amin(2) == 0).all()


def test_the_published_head_is_a_leaky_relu_of_the_linear_one():
    torch.manual_seed(2)
    leaky, linear = (StridedUNet(2, first=2, levels=1, dropout=0.0, head=head).eval() for head in ("leaky", "linear"))
    linear.load_state_dict(leaky.state_dict())
    x = torch.randn(1, 2, 6, 6, 6)
    assert (linear(x) < 0).any()
    torch.testing.assert_close(leaky(x), torch.where(linear(x) < 0, 0.2 * linear(x), linear(x)))


def test_refusals():
    with pytest.raises(NbkitError, match="SeededDropout: rate"):
        SeededDropout(1.0)
    with pytest.raises(NbkitError, match="levels: expected at least 2"):
        ResidualAttentionUNet(1, levels=1)


def layer(channels=16, **more) -> FlexibleSelfAttention:
    torch.manual_seed(3)
    net = FlexibleSelfAttention(channels, **more)
    net.gamma.data.fill_(0.7)
    return net


def explicit(net: FlexibleSelfAttention, x: torch.Tensor) -> torch.Tensor:
    """The whole map β of Eq. 4.1, with explicit loops over cells for pooling and its reverse."""
    p, n = net.pool, x.shape[2:]
    cells = [-(-m // p) for m in n]
    key, query, value = (c(x) for c in (net.key, net.query, net.value))
    low = -torch.inf
    pooled = []
    for maps in (key, query, value):
        grown = F.pad(maps, [side for m in reversed(n) for side in (0, -m % p)], value=low)
        pooled.append(grown.reshape(*grown.shape[:2], cells[0], p, cells[1], p, cells[2], p).amax((3, 5, 7)).flatten(2))
    k, q, v = pooled
    beta = torch.softmax(torch.einsum("bci,bcj->bij", k, q), dim=1)  # over i, the places attended to
    o = torch.einsum("bij,bci->bcj", beta, v).unflatten(2, cells)
    places = [torch.arange(m) // p for m in n]
    o = o[:, :, places[0]][:, :, :, places[1]][..., places[2]]
    return net.gamma * net.back(o) + x


@pytest.mark.parametrize("settings", [
    {}, {"pool": 2}, {"pool": 3}, {"channels": 4},
])
def test_equals_the_explicit_softmax_with_its_gradients(settings):
    net = layer(**settings)
    x = torch.randn(2, net.back.out_channels, 4, 5, 6)
    results = []
    for act in (net, lambda x: explicit(net, x)):
        seen = x.clone().requires_grad_()
        y = act(seen)
        slopes = torch.autograd.grad(y.square().sum(), [seen, *net.parameters()])
        results.append((y, *slopes))
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_a_new_layer_changes_nothing_and_gamma_learns_first():
    net, x = FlexibleSelfAttention(8), torch.randn(1, 8, 3, 4, 5)
    y = net(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert float(net.gamma.grad.abs()) > 0 and not net.value.weight.grad.any()


def test_places_are_all_alike():
    """Without pooling, moving the voxels about moves the output alike: no place is nearer than another."""
    net, x = layer(), torch.randn(1, 16, 3, 4, 5)
    order = torch.randperm(60)
    moved = x.flatten(2)[..., order].view_as(x)
    torch.testing.assert_close(net(moved), net(x).flatten(2)[..., order].view_as(x))


def test_a_far_voxel_matters():
    net, x = layer().requires_grad_(False), torch.randn(1, 16, 2, 2, 30)
    changed = x.clone()
    changed[..., -1] += 3
    assert float((net(changed) - net(x))[..., 0].abs().max()) > 1e-3


@pytest.mark.parametrize("half", [False, True])
def test_large_logits_stay_finite(half):
    net, x = layer(), 300 * torch.randn(1, 16, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        assert net(x).isfinite().all()
