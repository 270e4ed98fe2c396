"""Branches of the atlas generator: shapes, what a new one does, and which grids it takes."""

from __future__ import annotations

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.papers.inbrainsyn.atlas_net import TemplateBranch, VelocityBranch


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(4)


@pytest.mark.parametrize("shape", [(8, 16, 8), (10, 14, 12)])
def test_shapes(shape):
    branch = TemplateBranch(shape, width=4, blocks=1)
    assert branch(torch.rand(2, 1)).shape == (2, 1, *shape)
    velocity = VelocityBranch(width=4)(torch.randn(2, 2, *shape))
    assert velocity.shape == (2, 3, *(n // 2 for n in shape))


def test_published_sizes():
    branch = TemplateBranch((4, 4, 4))
    assert branch.constant.shape == (1, 8, 2, 2, 2) and len(branch.blocks) == 5
    assert branch.widen.weight.shape[0] == 32 and VelocityBranch().out.weight.shape[:2] == (3, 16)


def test_a_new_branch_gives_one_template_for_all_ages_and_a_trained_one_does_not():
    branch = TemplateBranch((8, 8, 8), width=4, blocks=1).eval()
    young, old = branch(torch.tensor([[0.6], [1.0]]))
    torch.testing.assert_close(young, old)
    assert young.abs().max() < 1
    torch.nn.init.normal_(branch.film.dense.weight)
    young, old = branch(torch.tensor([[0.6], [1.0]]))
    assert (young - old).abs().max() > 1e-3


def test_a_new_registration_hardly_moves():
    assert 0 < VelocityBranch(width=8)(torch.rand(1, 2, 16, 16, 16)).abs().max() < 1e-3


def test_an_odd_grid_is_refused():
    with pytest.raises(NbkitError, match=r"TemplateBranch: shape.*\(8, 9, 8\).*multiple of 8"):
        TemplateBranch((8, 9, 8))
