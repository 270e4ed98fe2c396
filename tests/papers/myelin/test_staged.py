"""Generators in a row, discriminators of patches, windows: what each sees, no seams, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import torch_generator
from nbkit.papers.myelin.networks import StridedUNet
from nbkit.papers.myelin.staged import StagedGenerator, TiledDiscriminator, build_critic, build_generator, slide

SIZES = {"width": 4, "levels": 2, "norm": "batch", "dropout": 0.0, "attention_pool": 1, "head": "linear"}


class Weighted(nn.Module):
    """Sum of channels, each times its number."""

    def forward(self, x):
        return (x * torch.arange(1, x.shape[1] + 1)[:, None, None, None]).sum(1, keepdim=True)


def chain(noisy: bool, stages: int) -> StagedGenerator:
    net = StagedGenerator(noisy=noisy)
    net.stages.extend(Weighted() for _ in range(stages))
    return net


def test_a_refiner_sees_inputs_and_image_and_no_noise():
    x, z = torch.randn(1, 2, 3, 3, 3), torch.randn(1, 1, 3, 3, 3)
    inside = torch.rand(1, 1, 3, 3, 3) > 0.3
    first = (x[:, :1] + 2 * x[:, 1:] + 3 * z) * inside
    second = (x[:, :1] + 2 * x[:, 1:] + 3 * first) * inside
    torch.testing.assert_close(chain(True, 1)(x, inside, noise=z), first)
    torch.testing.assert_close(chain(True, 2)(x, inside, noise=z), second)
    torch.testing.assert_close(chain(False, 1)(x, inside, noise=z), (x[:, :1] + 2 * x[:, 1:]) * inside)


def test_starting_from_a_made_image_is_the_same_chain():
    x, inside = torch.randn(1, 2, 3, 3, 3), torch.ones(1, 1, 3, 3, 3, dtype=torch.bool)
    net = chain(False, 3)
    begun = chain(False, 1)(x, inside)
    torch.testing.assert_close(net(x, inside, start=(1, begun)), net(x, inside))
    torch.testing.assert_close(net(x, inside, stop=1), begun)


@pytest.mark.parametrize(("network", "name"), [
    ("dnn", "Sequential"), ("unet", "StridedUNet"), ("sagan", "ResidualAttentionUNet"),
])
def test_generators_by_name_with_weights_from_the_generator_alone(network, name):
    nets = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        nets.append(build_generator(network, 3, draws=torch_generator(7, "w"), **SIZES))
    assert type(nets[0]).__name__ == name
    for a, b in zip(*(n.state_dict().values() for n in nets)):
        assert torch.equal(a, b)
    assert nets[0](torch.randn(1, 3, 9, 8, 8)).shape == (1, 1, 9, 8, 8)


def test_the_dnn_has_two_layers_of_seven_cubed_kernels():
    net = build_generator("dnn", 4, draws=torch_generator(7, "w"), **SIZES | {"width": 64})
    assert [tuple(m.weight.shape) for m in net if isinstance(m, nn.Conv3d)] == [
        (64, 4, 7, 7, 7), (64, 64, 7, 7, 7), (1, 64, 1, 1, 1)]


def test_critics_are_drawn_alike():
    critics = [
        build_critic(2, patch=(4, 4, 4), widths=(3, 5), residual=True, attention_pool=1, norm="batch",
                     draws=torch_generator(1, "c")) for _ in range(2)
    ]
    for a, b in zip(*(c.state_dict().values() for c in critics)):
        assert torch.equal(a, b)


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


WHOLE, WINDOW = (40, 24, 24), (16, 16, 16)


def image(seed=0):
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, 5, 3, 3, generator=draws)
    return F.interpolate(coarse, size=WHOLE, mode="trilinear") + 0.01 * torch.randn(1, 3, *WHOLE, generator=draws)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    return StridedUNet(3, first=8, levels=2, norm="none", dropout=0.0).eval()


@torch.no_grad()
def seam(net, x, overlap) -> float:
    """Mean step between planes where a window begins or ends, the largest over the largest anywhere else."""
    steps = slide(net, x, WINDOW, overlap=overlap).diff(dim=2).abs().mean((0, 1, 3, 4))
    border = torch.zeros(len(steps), dtype=torch.bool)
    border[round(WINDOW[0] * (1 - overlap)) - 1 :: round(WINDOW[0] * (1 - overlap))] = True
    return float(steps[border].max() / steps[~border].max())


@pytest.mark.parametrize("seed", range(3))
def test_there_is_no_seam_where_windows_overlap_and_one_where_they_do_not(net, seed):
    """Steps at borders of windows stay below those of the image elsewhere; without overlap they are twice as large."""
    x = image(seed)
    smooth = seam(net, x, 0.5)
    assert smooth < 0.6 and seam(net, x, 0.0) > 2 * smooth


def test_a_local_network_is_not_changed_at_all():
    x = image()
    torch.testing.assert_close(slide(lambda v: 2 * v[:, :1] + v[:, 1:2].square(), x, WINDOW),
                               2 * x[:, :1] + x[:, 1:2].square())


def test_windows_have_their_size_and_small_volumes_are_done_at_once(net):
    sizes = []

    def spy(v):
        sizes.append(tuple(v.shape[2:]))
        return v[:, :1]

    slide(spy, image(), WINDOW)
    assert set(sizes) == {WINDOW} and len(sizes) > 1
    sizes.clear()
    assert slide(spy, image(), None).shape == (1, 1, *WHOLE)
    slide(spy, image()[..., :8], (64, 64, 64))
    assert sizes == [WHOLE, (40, 24, 8)]
