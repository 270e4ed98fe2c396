"""The patch discriminator: shapes, normalisation, and the projection of a condition."""

from __future__ import annotations

import pytest
import torch

from nbkit.nets.discriminators import PatchDiscriminator


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(4)


def small(condition: int = 0) -> PatchDiscriminator:
    return PatchDiscriminator(widths=(4, 6), features=5, condition=condition)


def test_published_widths():
    net = PatchDiscriminator(condition=1)
    sizes = [m.weight.shape[0] for m in net.body if isinstance(m, torch.nn.Conv3d)]
    assert sizes == [64, 128, 256, 512, 64] and net.project.weight.shape == (64, 1)


@pytest.mark.parametrize(("shape", "patches"), [((16, 24, 8), (4, 6, 2)), ((9, 10, 11), (3, 3, 3))])
def test_scores_are_a_map_of_patches(shape, patches):
    assert small()(torch.randn(2, 1, *shape)).shape == (2, 1, *patches)


def test_a_patch_sees_only_its_surroundings():
    net, x = small().eval(), torch.randn(1, 1, 32, 8, 8)
    changed = x.clone()
    changed[:, :, :4] = 0
    gap = (net(x) - net(changed)).abs().amax(dim=(0, 1, 3, 4))
    assert gap[0] > 0 and (gap[4:] == 0).all()


def test_every_layer_has_unit_norm():
    net = small(condition=1)
    for _ in range(100):
        net(torch.randn(1, 1, 8, 8, 8), torch.ones(1, 1))
    net.eval()
    layers = [m for m in net.modules() if isinstance(m, torch.nn.Conv3d | torch.nn.Linear)]
    norms = [torch.linalg.matrix_norm(m.weight.flatten(1), ord=2).item() for m in layers]
    assert len(norms) == 5 and norms == pytest.approx([1] * 5, abs=0.01)


def test_the_projection_is_the_inner_product_with_the_embedded_condition():
    net, x = small(condition=2).eval(), torch.randn(3, 1, 8, 8, 8)
    c = torch.randn(3, 2)
    maps, e = net.body(x), net.project(c)
    expected = net.score(maps) + (maps * e[:, :, None, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(net(x, c), expected)
    torch.testing.assert_close(net(x, torch.zeros(3, 2)), net.score(maps))
    assert (net(x, c) - net(x, 2 * c)).abs().max() > 1e-3
