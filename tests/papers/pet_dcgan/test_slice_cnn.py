"""The classifier of slices: one score each, that knows where on the slice something is."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from nbkit.core.seeds import torch_generator
from nbkit.nets.weights import draw_weights
from nbkit.papers.pet_dcgan.augmentation_study import SliceCNN


def net(**options):
    return draw_weights(SliceCNN(widths=(4, 6), **options), torch_generator(1), sd=None)


def test_it_is_its_layers_in_plain_pytorch():
    model, x = net(), torch.rand(5, 1, 32, 32)
    first, second = (m for m in model.body if isinstance(m, torch.nn.Conv2d))
    y = F.conv2d(x, first.weight, first.bias, stride=2, padding=2)
    y = F.batch_norm(y, None, None, training=True).relu()
    y = F.batch_norm(F.conv2d(y, second.weight, second.bias, stride=2, padding=1), None, None, training=True).relu()
    y = F.avg_pool2d(y, 2).flatten(1) @ model.dense.weight[0] + model.dense.bias
    assert torch.allclose(model(x), y, atol=1e-5)


def test_slices_of_any_size_have_one_score_each():
    assert net(channels=3)(torch.rand(4, 3, 64, 64)).shape == net()(torch.rand(4, 1, 32, 32)).shape == (4,)


def test_the_same_spot_elsewhere_has_another_score():
    spot = torch.zeros(2, 1, 32, 32)
    spot[0, :, 6:10, 6:10] = spot[1, :, 22:26, 22:26] = 1
    one, other = net().eval()(spot).tolist()
    assert abs(one - other) > 1e-3
