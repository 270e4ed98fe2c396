"""FiLM: nothing at zero, (1 + γ)x + β otherwise; the largest singular value of every normalised kernel is one."""

from __future__ import annotations

import pytest
import torch

from nbkit.nets.film import FiLM, FiLMConv, FiLMResidual, embedding


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(4)


def test_a_new_film_changes_nothing():
    x = torch.randn(2, 5, 3, 4, 2)
    assert torch.equal(FiLM(7, 5)(x, torch.randn(2, 7)), x)


def test_film_scales_and_shifts_each_map_by_the_condition():
    film, x, c = FiLM(1, 2), torch.randn(2, 2, 3, 3, 3), torch.tensor([[1.0], [2.0]])
    film.dense.weight.data = torch.tensor([[0.5], [-1.0], [3.0], [0.0]])
    film.dense.bias.data = torch.tensor([0.0, 0.0, 0.0, 7.0])
    out = film(x, c)
    for subject, age in enumerate([1.0, 2.0]):
        torch.testing.assert_close(out[subject, 0], (1 + 0.5 * age) * x[subject, 0] + 3 * age)
        torch.testing.assert_close(out[subject, 1], (1 - age) * x[subject, 1] + 7)


def test_embedding_has_four_layers_with_a_leak():
    net = embedding()
    assert [m.negative_slope for m in net if isinstance(m, torch.nn.LeakyReLU)] == [0.2] * 4
    assert net(torch.zeros(3, 1)).shape == (3, 64)


def test_kernels_have_unit_norm():
    layer = FiLMConv(6, 9, condition=4)
    for _ in range(50):
        layer(torch.randn(1, 6, 4, 4, 4), torch.zeros(1, 4))
    layer.eval()
    assert torch.linalg.matrix_norm(layer.conv.weight.flatten(1), ord=2).item() == pytest.approx(1, abs=0.01)


def test_borders_reflect():
    """A kernel of equal weights leaves a constant image constant up to the border, as zeros outside would not."""
    layer = FiLMConv(1, 1, condition=1, linear=True)
    out = layer(torch.ones(1, 1, 5, 5, 5), torch.zeros(1, 1))
    assert out.std().item() == pytest.approx(0, abs=1e-6) and out.abs().mean() > 1e-3


def test_a_residual_block_adds_to_its_input():
    block, x, c = FiLMResidual(3, condition=2).eval(), torch.randn(2, 3, 4, 4, 4), torch.randn(2, 2)
    torch.testing.assert_close(block(x, c), x + block.second(block.first(x, c), c))
    block.second.film.dense.bias.data[:3] = -1
    torch.testing.assert_close(block(x, c), x)


def test_the_condition_of_one_subject_does_not_reach_another():
    layer = FiLMConv(2, 3, condition=2).eval()
    torch.nn.init.normal_(layer.film.dense.weight)
    x, c = torch.randn(2, 2, 4, 4, 4), torch.randn(2, 2)
    torch.testing.assert_close(layer(x, c)[1:], layer(x[1:], c[1:]))
