"""Perceptual distance: laws, a hand-made network, LPIPS weights from a file; the divergence against torch's."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.distributions import Normal, kl_divergence

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import torch_generator
from nbkit.losses.perceptual import (
    SliceFeatures, draw_slices, find_features, kl_to_standard_normal, lpips_features, perceptual_distance,
    random_features,
)

ALEX = {"slice1.0": (64, 3, 11), "slice2.3": (192, 64, 5), "slice3.6": (384, 192, 3), "slice4.8": (256, 384, 3),
        "slice5.10": (256, 256, 3)}
STRIDES, PADS = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)


def images(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch_generator(1)
    x = torch.rand(shape, generator=generator)
    return x, x + 0.2 * torch.randn(shape, generator=generator)


def every(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(torch.arange(n) for n in x.shape[2:])


def lpips_state() -> dict[str, torch.Tensor]:
    """Random tensors under the names of the lpips package."""
    generator, state = torch_generator(2), {}
    for i, (name, (out, into, kernel)) in enumerate(ALEX.items()):
        state[f"net.{name}.weight"] = torch.randn(out, into, kernel, kernel, generator=generator) / (into**0.5 * kernel)
        state[f"net.{name}.bias"] = 0.1 * torch.randn(out, generator=generator)
        state[f"lin{i}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=generator)
    return state


def lpips_by_hand(state: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """LPIPS of two grey images (N, 1, H, W) in [0, 1], step by step as Zhang et al. describe it."""
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    a, b = (((2 * i - 1).expand(-1, 3, -1, -1) - shift) / scale for i in (x, y))
    total = 0
    for i, name in enumerate(ALEX):
        if i in (1, 2):
            a, b = (F.max_pool2d(t, 3, 2) for t in (a, b))
        weight, bias = state[f"net.{name}.weight"], state[f"net.{name}.bias"]
        a, b = (F.relu(F.conv2d(t, weight, bias, stride=STRIDES[i], padding=PADS[i])) for t in (a, b))
        u, v = (t / (t.square().sum(1, keepdim=True).sqrt() + 1e-10) for t in (a, b))
        total = total + F.conv2d((u - v) ** 2, state[f"lin{i}.model.1.weight"]).mean(dim=(1, 2, 3))
    return total


def test_one_stage_by_hand():
    """A pixelwise network with two channels, x and 1: the angle between (x, 1) and (y, 1), squared chord."""
    conv = nn.Conv2d(1, 2, 1)
    conv.weight.data, conv.bias.data = torch.tensor([0.5, 0.0]).view(2, 1, 1, 1), torch.tensor([0.5, 1.0])
    weights = [torch.tensor([2.0, 3.0])]
    net = SliceFeatures([nn.Sequential(conv, nn.ReLU())], weights, shift=(0.0,), scale=(1.0,), name="")
    x, y = images(2, 1, 4, 5, 6)
    y = y.clamp(0, 1)
    a, b = (F.normalize(torch.stack([i, torch.ones_like(i)]), dim=0) for i in (x, y))
    wanted = ((a - b).square() * torch.tensor([2.0, 3.0]).view(2, 1, 1, 1, 1, 1)).sum(0).flatten(1).mean(1)
    torch.testing.assert_close(perceptual_distance(net, x, y, slices=every(x)), wanted)


def test_laws():
    net, (x, y) = random_features(), images(2, 1, 9, 10, 11)
    there, back = (perceptual_distance(net, *pair, slices=every(x)) for pair in ((x, y), (y, x)))
    assert there.shape == (2,) and bool((there > 0).all()) and bool((there <= 2).all())
    torch.testing.assert_close(there, back)
    assert not perceptual_distance(net, x, x, slices=every(x)).any()


def test_each_subject_by_itself():
    net, (x, y) = random_features(), images(3, 1, 9, 10, 11)
    slices = draw_slices(x.shape[2:], 3, torch_generator(0))
    together = perceptual_distance(net, x, y, slices=slices)
    alone = [perceptual_distance(net, x[i : i + 1], y[i : i + 1], slices=slices) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_only_the_chosen_slices_count():
    net, (x, _) = random_features(), images(1, 1, 9, 10, 11)
    y = x.clone()
    y[:, :, 4] += 0.5
    none = torch.tensor([], dtype=torch.long)
    assert float(perceptual_distance(net, x, y, slices=(torch.tensor([3, 5]), none, none))) == 0
    assert float(perceptual_distance(net, x, y, slices=(torch.tensor([4]), none, none))) > 0


def test_gradients_reach_the_first_image_and_no_weights():
    net, (x, y) = random_features(), images(1, 1, 8, 8, 8)
    x, y = x.requires_grad_(), y.requires_grad_()
    perceptual_distance(net, x, y, slices=every(x)).sum().backward()
    assert float(x.grad.abs().sum()) > 0 and y.grad is None
    assert not any(p.requires_grad for p in net.parameters())


def test_blur_counts_beyond_its_absolute_difference():
    """Of two changes with the same mean absolute difference, lost edges cost more than a shift of the level."""
    net = random_features()
    x = (images(1, 1, 16, 16, 16)[0] > 0.5).float() * 0.6 + 0.2
    blurred = F.avg_pool3d(F.pad(x, [1] * 6, mode="replicate"), 3, stride=1)
    shifted = x + (blurred - x).abs().mean()
    blur, level = (perceptual_distance(net, x, y, slices=every(x)) for y in (blurred, shifted))
    assert float(blur) > 1.2 * float(level)


def test_slices_are_drawn_without_repetition():
    drawn = draw_slices((6, 4, 9), 5, torch_generator(0))
    assert [len(set(d.tolist())) for d in drawn] == [5, 4, 5]
    assert all(torch.equal(a, b) for a, b in zip(drawn, draw_slices((6, 4, 9), 5, torch_generator(0)), strict=True))


def test_lpips_weights_are_used_as_lpips_does(tmp_path):
    state = lpips_state()
    save_file(state, tmp_path / "lpips.safetensors")
    net, (x, y) = lpips_features(tmp_path / "lpips.safetensors"), images(1, 1, 35, 36, 40)
    none = torch.tensor([], dtype=torch.long)
    found = perceptual_distance(net, x, y, slices=(none, none, torch.tensor([3, 20])))
    wanted = lpips_by_hand(state, *(t[0, 0].movedim(2, 0)[[3, 20], None] for t in (x, y))).mean()
    torch.testing.assert_close(found[0], wanted)
    assert net.name == "LPIPS 0.1 (AlexNet)"


def test_lpips_needs_slices_of_some_size(tmp_path):
    save_file(lpips_state(), tmp_path / "lpips.safetensors")
    x, y = images(1, 1, 40, 20, 40)
    with pytest.raises(NbkitError, match="at least 31 voxels.*perceptual='random'"):
        perceptual_distance(lpips_features(tmp_path / "lpips.safetensors"), x, y, slices=every(x))


@pytest.mark.parametrize(("change", "words"), [
    ({"net.slice3.6.bias": None}, r"net\.slice3\.6\.bias.*no such tensor"),
    ({"lin4.model.1.weight": torch.zeros(1, 9, 1, 1)}, r"lin4\.model\.1\.weight \(1, 256, 1, 1\), found \(1, 9"),
])
def test_lpips_weights_that_lack_a_part(tmp_path, change, words):
    state = {k: v for k, v in (lpips_state() | change).items() if v is not None}
    save_file(state, tmp_path / "lpips.safetensors")
    with pytest.raises(NbkitError, match=words):
        lpips_features(tmp_path / "lpips.safetensors")


def test_where_features_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    assert find_features("auto").name == find_features("random").name == "random features, seed 0"
    with pytest.raises(NbkitError, match="use perceptual='random'"):
        find_features(str(tmp_path / "none.safetensors"))
    (tmp_path / "weights").mkdir()
    save_file(lpips_state(), tmp_path / "weights" / "lpips_alex.safetensors")
    assert find_features("auto").name == "LPIPS 0.1 (AlexNet)"
    assert find_features("random").name == "random features, seed 0"


def test_random_features_are_the_same_everywhere():
    a, b = random_features(), random_features()
    torch.rand(5)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_divergence_is_torchs():
    generator = torch_generator(3)
    mean, sd = torch.randn(2, 4, 3, 2, 5, generator=generator), 0.1 + torch.rand(2, 4, 3, 2, 5, generator=generator)
    wanted = kl_divergence(Normal(mean, sd), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mean, sd), wanted)
    assert float(kl_to_standard_normal(torch.zeros(1, 4), torch.ones(1, 4))) == 0
