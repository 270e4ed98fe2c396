"""The patch discriminator: shapes, normalisation, and the projection of a condition."""

from __future__ import annotations

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.nets.discriminators import PatchDiscriminator, TiledDiscriminator


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


def tiled(**more) -> TiledDiscriminator:
    return TiledDiscriminator(3, **{"patch": (4, 8, 4), "widths": (4, 6), **more})


KINDS = {"convolutions": {}, "residual with attention": {"residual": True}}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_patch_is_judged_by_itself(kind):
    """Changing one patch changes its logit alone, and a patch cut out is judged as it was in the whole."""
    net, x = tiled(**kind).eval(), torch.randn(2, 3, 8, 16, 12)
    logits = net(x)
    assert logits.shape == (2, 2 * 2 * 3)
    changed = x.clone()
    changed[1, :, 4:8, :8, 4:8] += 1  # patch (1, 0, 1): number 1·6 + 0·3 + 1
    moved = (net(changed) - logits).abs() > 1e-7
    assert moved.nonzero().tolist() == [[1, 7]]
    torch.testing.assert_close(net(x[1:, :, 4:8, :8, 4:8]), logits[1:, 7:8])


def test_tiles_are_the_image_cut_up_with_zeros_at_the_far_ends():
    x = torch.randn(1, 3, 7, 8, 5)
    tiles = tiled().tiles(x)
    assert tiles.shape == (1, 4, 3, 4, 8, 4)
    torch.testing.assert_close(tiles[0, 3, :, :3, :, :1], x[0, :, 4:, :, 4:])
    assert not tiles[0, 3, :, 3:].any() and not tiles[0, 3, ..., 1:].any()
    torch.testing.assert_close(tiles.sum(), x.sum())


def test_attention_reaches_across_a_patch():
    net, x = tiled(residual=True).eval(), torch.randn(1, 3, 4, 8, 4)
    attend = next(m for m in net.body if type(m).__name__ == "FlexibleSelfAttention")
    assert attend.gamma.item() == 0 and not any(type(m).__name__ == "FlexibleSelfAttention" for m in tiled().body)
    before = net(x)
    attend.gamma.data.fill_(2.0)
    assert not torch.equal(net(x), before)
    assert len(tiled(residual=True, attention_pool=0).body) == len(net.body) - 1


def test_a_patch_that_cannot_be_halved_is_refused():
    with pytest.raises(NbkitError, match="TiledDiscriminator: patch: expected multiples of 4 voxels, found"):
        tiled(patch=(4, 6, 4))
