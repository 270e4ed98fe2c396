"""Between two outlooks everything lies on straight lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.papers.trajectories.outlook import Outlook, between
from nbkit.core.volume import Volume


def outlook(seed: int, size: float, *, shape=(4, 5, 6)) -> Outlook:
    image = Volume(torch.rand(shape, generator=torch.Generator().manual_seed(seed)), np.eye(4), (f"made {seed}",))
    return Outlook(image, {"hippocampus": size, "thalamus": 2 * size}, {"hippocampus": size / 10})


def test_a_share_of_the_way():
    first, second = outlook(1, 100.0), outlook(2, 80.0)
    middle = between(first, second, 0.25)
    torch.testing.assert_close(middle.image.data, 0.75 * first.image.data + 0.25 * second.image.data)
    assert middle.volumes == {"hippocampus": 95.0, "thalamus": 190.0} and middle.spread == {"hippocampus": 9.5}
    assert middle.image.history[-1] == "0.75 of this and 0.25 of: made 2"


def test_the_ends_are_the_outlooks_themselves():
    first, second = outlook(1, 100.0), outlook(2, 80.0)
    assert between(first, second, 0.0) is first and between(first, second, 1.0) is second


def test_two_grids_are_refused():
    with pytest.raises(NbkitError, match="between: first and second"):
        between(outlook(1, 1.0), outlook(2, 1.0, shape=(4, 5, 7)), 0.5)
