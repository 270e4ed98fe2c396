"""How training scans are varied."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.geometry.warp import grid_positions
from nbkit.papers.countersynth.augment import SCALE, SHIFT, placed, standardised, varied

AFFINE = np.diag([2.0, 3.0, 2.5, 1.0])


def test_standardised_over_all_voxels_of_each_image():
    images = torch.rand(2, 1, 6, 7, 8) * torch.tensor([3.0, 50.0]).reshape(2, 1, 1, 1, 1) + 4
    found = standardised(images).flatten(1)
    torch.testing.assert_close(found.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(1, correction=0), torch.ones(2))
    assert standardised(torch.full((1, 1, 3, 3, 3), 7.0)).abs().max() == 0


def test_with_probability_zero_nothing_is_varied_and_with_one_everything():
    image = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(varied(image, np.random.default_rng(1), share=0.0, affine=AFFINE), image)
    first, again = (varied(image, np.random.default_rng(1), share=1.0, affine=AFFINE) for _ in range(2))
    assert torch.equal(first, again) and not torch.allclose(first, image, atol=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_place_is_a_turn_a_move_and_a_scale(seed):
    """Beside the shift of the middle, squared lengths change by the scales alone: within 10 % either way."""
    image = torch.zeros(1, 1, 7, 9, 11)
    field = placed(image, np.random.default_rng(seed), AFFINE)
    places = grid_positions((7, 9, 11), AFFINE)
    middle = (0, slice(None), 3, 4, 5)
    assert (field[middle].abs() <= torch.tensor([2.0, 3.0, 2.5]) * SHIFT + 1e-3).all()
    moved, still = places + field - (places + field)[middle][None, :, None, None, None], places - places[middle][
        None, :, None, None, None]
    ratio = (moved.norm(dim=1) / still.norm(dim=1).clamp(min=1e-6))[still.norm(dim=1) > 0]
    assert ratio.min() >= 1 - SCALE - 1e-4 and ratio.max() <= 1 + SCALE + 1e-4
    matrix = torch.linalg.lstsq(still.flatten(2)[0].T, moved.flatten(2)[0].T).solution.T
    gram = matrix.T @ matrix
    assert (gram - torch.diag(gram.diagonal())).abs().max() < 1e-4, "axes stay perpendicular before they are turned"
    assert torch.linalg.det(matrix) > 0 and not torch.allclose(matrix, torch.diag(matrix.diagonal()), atol=1e-3)
