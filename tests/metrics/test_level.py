"""A person's own scale and offset: least squares, inside the mask only."""

import numpy as np
import torch

from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.metrics.level import own_level
from tests.papers.conftest import SHAPE


def test_the_own_level_is_numpys_straight_line():
    g = torch_generator(0, "level")
    x, y = (Volume(torch.randn(1, *SHAPE, generator=g)) for _ in "xy")
    mask = x.with_data(torch.rand(1, *SHAPE, generator=g) > 0.4)
    out = own_level(x, y, mask).data
    line = np.polyfit(x.data[mask.data].numpy().astype(float), y.data[mask.data].numpy().astype(float), 1)
    np.testing.assert_allclose(out[mask.data], np.polyval(line, x.data[mask.data].numpy()), atol=1e-5)
    flat = own_level(x.with_data(torch.ones_like(x.data)), y, mask).data[mask.data]
    np.testing.assert_allclose(flat, y.data[mask.data].mean(), atol=1e-5)
    assert not out[~mask.data].any()
