"""Flexible self-attention against the explicit softmax of Eqs. 4.1-4.3, its laws, and its refusals."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nbkit.core.checks import NbkitError
from nbkit.papers.myelin.attention import FlexibleSelfAttention


def layer(channels=16, **more) -> FlexibleSelfAttention:
    torch.manual_seed(3)
    net = FlexibleSelfAttention(channels, **more)
    net.gamma.data.fill_(0.7)
    return net


def explicit(net: FlexibleSelfAttention, x: torch.Tensor) -> torch.Tensor:
    """The whole map β of Eq. 4.1, head by head, with explicit loops over cells for pooling and its reverse."""
    p, n = net.pool, x.shape[2:]
    cells = [-(-m // p) for m in n]
    key, query, value = (c(x) for c in (net.key, net.query, net.value))
    low = -torch.inf
    pooled = []
    for maps in (key, query, value):
        grown = F.pad(maps, [side for m in reversed(n) for side in (0, -m % p)], value=low)
        pooled.append(grown.reshape(*grown.shape[:2], cells[0], p, cells[1], p, cells[2], p).amax((3, 5, 7)).flatten(2))
    out = []
    for k, q, v in zip(*(m.chunk(net.heads, 1) for m in pooled)):
        beta = torch.softmax(torch.einsum("bci,bcj->bij", k, q), dim=1)  # over i, the places attended to
        out.append(torch.einsum("bij,bci->bcj", beta, v))
    o = torch.cat(out, 1).unflatten(2, cells)
    places = [torch.arange(m) // p for m in n]
    o = o[:, :, places[0]][:, :, :, places[1]][..., places[2]]
    return net.gamma * net.back(o) + x


@pytest.mark.parametrize("settings", [
    {}, {"pool": 2}, {"pool": 3}, {"heads": 2, "reduction": 4}, {"reduction": 1}, {"heads": 4, "reduction": 16},
])
def test_equals_the_explicit_softmax_with_its_gradients(settings):
    net, x = layer(**settings), torch.randn(2, 16, 4, 5, 6)
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


@pytest.mark.parametrize(("settings", "words"), [
    ({"pool": 0}, "pool: expected at least 1, found 0"), ({"heads": 0}, "heads: expected at least 1"),
    ({"heads": 3, "reduction": 2}, "a divisor of the 8 reduced maps, found 3"),
])
def test_refusals(settings, words):
    with pytest.raises(NbkitError, match=words):
        FlexibleSelfAttention(16, **settings)
