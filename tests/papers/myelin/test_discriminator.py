"""The tiled discriminator: every patch by itself, whatever the size of the image."""

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.papers.myelin.discriminator import TiledDiscriminator


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
