"""DCGAN: shapes at the published sizes, plain PyTorch beside it, and networks side by side that do not mix."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import torch_generator
from nbkit.papers.pet_dcgan.dcgan import ClassNorm, Critic, Generator, draw_weights, stacked, unstacked


def made(kind, seed=0, size=16, widths=(6, 4), **options):
    net = kind(size, widths, channels=2, **({"latent": 5} if kind is Generator else {}), **options)
    return draw_weights(net, torch_generator(seed, kind.__name__), sd=0.3)


@pytest.mark.parametrize(("size", "widths"), [(64, (8, 6, 4, 2)), (128, (8, 6, 4, 3, 2))])
def test_images_are_as_large_as_published_and_lie_between_minus_one_and_one(size, widths):
    generator = draw_weights(Generator(size, widths), torch_generator(1), sd=0.5)
    images = generator(torch.rand(3, 1, 100))
    assert images.shape == (3, 1, 3, size, size) and images.abs().max() <= 1 and images.std() > 0.01
    assert Critic(size, widths[::-1])(images).shape == (3, 1)


def test_volumes_come_from_the_same_class_of_networks():
    volumes = made(Generator, dims=3, kernel=3)(torch.rand(2, 1, 5))
    assert volumes.shape == (2, 1, 2, 16, 16, 16)
    assert made(Critic, dims=3, kernel=3)(volumes).shape == (2, 1)


def test_the_published_sizes_have_the_parameters_of_their_layers():
    counts = [sum(p.numel() for p in net.parameters()) for net in (
        Generator(128, (1024, 512, 256, 128, 64)), Critic(128, (64, 128, 256, 512, 1024)))]
    maps, shrink = (1024, 512, 256, 128, 64, 3), (3, 64, 128, 256, 512, 1024)
    dense = 100 * 1024 * 16 + 1024 + sum(25 * a * b + b for a, b in zip(maps, maps[1:])) + 2 * sum(maps[:-1])
    scores = sum(25 * a * b + b for a, b in zip(shrink, shrink[1:])) + 2 * sum(shrink[2:]) + 1024 * 16 + 1
    assert counts == [dense, scores]


def test_a_generator_is_its_layers_in_plain_pytorch():
    net, z = made(Generator, widths=(6, 4)), torch.rand(7, 1, 5)
    x = (z[:, 0] @ net.dense.weight.flatten(1)).view(7, 6, 4, 4) + net.dense.bias[:, None, None]
    for norm, layer in zip(net.norms, net.deconvolutions):
        x = F.batch_norm(x, None, None, norm.norm.weight, norm.norm.bias, training=True).relu()
        x = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=2, output_padding=1)
    assert torch.allclose(net(z)[:, 0], x.tanh(), atol=1e-6)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_critic_is_its_layers_in_plain_pytorch(norm_first):
    net, x = made(Critic, widths=(4, 6), norm_first=norm_first), torch.rand(5, 1, 2, 16, 16)
    first, second = (m for m in net.body if isinstance(m, torch.nn.Conv2d))
    y = F.conv2d(x[:, 0], first.weight, first.bias, stride=2, padding=2)
    y = F.leaky_relu(F.batch_norm(y, None, None, training=True) if norm_first else y, 0.2)
    y = F.leaky_relu(F.batch_norm(F.conv2d(y, second.weight, second.bias, stride=2, padding=2), None, None,
                                  training=True), 0.2)
    assert torch.allclose(net(x)[:, 0], y.flatten(1) @ net.dense.weight.flatten() + net.dense.bias, atol=1e-5)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("kind", [Generator, Critic])
def test_networks_side_by_side_are_the_networks_alone(kind, classes):
    alone = [made(kind, seed, classes=classes).double() for seed in range(3)]
    for net in alone:  # classes that differ, so that a mixed-up one is seen
        for name, value in net.named_parameters():
            if name.split(".")[-1] in ("scale", "shift"):
                value.data += 0.3 * torch.randn(value.shape, generator=torch_generator(9, name), dtype=value.dtype)
    together = kind(16, (6, 4), channels=2, groups=3, classes=classes, **({"latent": 5} if kind is Generator else {}))
    together.double().load_state_dict(stacked([net.state_dict() for net in alone]))
    x = torch.rand(6, 3, *((5,) if kind is Generator else (2, 16, 16)), dtype=torch.float64)
    label = torch.tensor([0, 2, 1, 1, 0, 2]) if classes else None
    apart = torch.cat([net(x[:, k : k + 1], label) for k, net in enumerate(alone)], dim=1)
    assert torch.allclose(together(x, label), apart, atol=1e-10)
    for out in (together(x, label), apart):
        out.square().sum().backward()
    slopes = stacked([{n: p.grad for n, p in net.named_parameters()} for net in alone])
    for name, value in together.named_parameters():
        assert torch.allclose(value.grad, slopes[name], atol=1e-9), name


def test_weights_go_together_and_apart_again():
    states = [made(Generator, seed, classes=2).state_dict() for seed in range(3)]
    for before, after in zip(states, unstacked(stacked(states), 3), strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before) and before.keys() == after.keys()


def test_a_class_changes_scale_and_shift_of_its_rows_only():
    norm, x = ClassNorm(3, 2, 2), torch.randn(4, 3, 5, 5)
    norm.scale.data[:, 1], norm.shift.data[:, 1] = 2.0, torch.tensor([1.0, 2.0, 3.0])
    plain = F.batch_norm(x, None, None, training=True)
    out = norm(x, torch.tensor([0, 1, 0, 1]))
    assert torch.allclose(out[[0, 2]], plain[[0, 2]], atol=1e-6)
    assert torch.allclose(out[[1, 3]], 2 * plain[[1, 3]] + torch.tensor([1.0, 2, 3])[:, None, None], atol=1e-5)


def test_a_projection_adds_the_class_weights_of_the_summed_maps():
    net, x = made(Critic, classes=2).eval(), torch.rand(3, 1, 2, 16, 16)
    maps = net.body(x[:, 0]).sum(dim=(2, 3))
    scores = [net(x, torch.full((3,), c)) for c in (0, 1)]
    assert torch.allclose((scores[1] - scores[0])[:, 0], maps @ (net.project[:, 1] - net.project[:, 0]), atol=1e-5)


def test_weights_have_the_published_spread_and_follow_their_generator():
    a, b = (draw_weights(Critic(64, (16, 32, 64, 64)), torch_generator(4)) for _ in range(2))
    weights = torch.cat([p.detach().flatten() for p in a.parameters() if p.ndim > 2])
    assert abs(float(weights.std()) - 0.02) < 2e-4 and abs(float(weights.mean())) < 2e-4
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
    other = copy.deepcopy(a)
    draw_weights(other, torch_generator(5))
    assert not torch.equal(other.dense.weight, a.dense.weight)


@pytest.mark.parametrize("kind", [Generator, Critic])
def test_a_size_that_widths_do_not_reach_is_refused(kind):
    with pytest.raises(NbkitError, match="64 pixels for 4 widths"):
        kind(128, (8, 8, 8, 8))
    with pytest.raises(NbkitError, match="an odd number above 1"):
        kind(64, (8, 8, 8, 8), kernel=4)
