"""Region losses against closed forms and MONAI."""

import torch
from monai.losses import DiceLoss

from nbkit.losses.regions import class_dice_loss, masked_bce, soft_dice_loss


def data(seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 1, 4, 5, 6, generator=g)
    return logits, (torch.rand(3, 1, 4, 5, 6, generator=g) > 0.7).float()


def test_soft_dice_equals_monai_inside_a_full_mask():
    logits, target = data()
    reference = DiceLoss(sigmoid=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0)(logits, target).flatten()
    torch.testing.assert_close(soft_dice_loss(logits, target, torch.ones_like(target)), reference)


def test_perfect_and_empty_segmentations_cost_nothing():
    _, target = data()
    ones = torch.ones_like(target)
    assert soft_dice_loss((target * 2 - 1) * 50, target, ones).abs().max() < 1e-5
    assert soft_dice_loss(torch.full_like(target, -50.0), target * 0, ones).abs().max() < 1e-5


def test_bce_equals_torch_and_ignores_voxels_outside_the_mask():
    logits, target = data()
    mask = torch.zeros_like(target)
    mask[..., :3, :, :] = 1
    inside = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[..., :3, :, :], target[..., :3, :, :], reduction="none"
    ).flatten(1).mean(1)
    torch.testing.assert_close(masked_bce(logits, target, mask), inside)
    wild = torch.where(mask.bool(), logits, torch.full_like(logits, 1e4))
    torch.testing.assert_close(masked_bce(wild, target, mask), inside)


def test_class_dice_equals_monai_without_background():
    g = torch.Generator().manual_seed(2)
    logits, classes = torch.randn(2, 5, 4, 5, 6, generator=g), torch.randint(0, 5, (2, 1, 4, 5, 6), generator=g)
    reference = DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0,
    )(logits, classes)
    torch.testing.assert_close(class_dice_loss(logits, classes), reference.flatten(1).mean(1))
