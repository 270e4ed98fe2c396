"""Generators in a row: what each stage sees, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import torch_generator
from nbkit.papers.myelin.staged import StagedGenerator, build_critic, build_generator

SIZES = {"width": 4, "levels": 2, "norm": "batch", "dropout": 0.0, "attention_pool": 1}


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


def test_the_dnn_has_seven_cubed_kernels():
    net = build_generator("dnn", 4, draws=torch_generator(7, "w"), **SIZES | {"width": 64})
    assert [tuple(m.weight.shape) for m in net if isinstance(m, nn.Conv3d)] == [
        (64, 4, 7, 7, 7), (64, 64, 7, 7, 7), (1, 64, 7, 7, 7)]


def test_critics_are_drawn_alike():
    critics = [
        build_critic(2, patch=(4, 4, 4), widths=(3, 5), residual=True, attention_pool=1, norm="batch",
                     draws=torch_generator(1, "c")) for _ in range(2)
    ]
    for a, b in zip(*(c.state_dict().values() for c in critics)):
        assert torch.equal(a, b)


def test_an_unknown_network_is_refused():
    with pytest.raises(NbkitError, match="build_generator: network.*Did you mean 'unet'"):
        build_generator("unett", 3, draws=torch_generator(7, "w"), **SIZES)
