"""Region losses against closed forms and MONAI."""

import pytest
import torch
from monai.losses import DiceLoss

from nbkit.core.checks import NbkitError
from nbkit.losses.regions import (
    adaptive_l1, adaptive_weights, class_dice_loss, masked_bce, mean_l1, roi_l1, soft_dice_loss,
)


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


def regional(seed=4):
    """Prediction, target and three disjoint regions that cover the image; the second subject has no lesion."""
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 1, 4, 5, 6, generator=g), torch.randn(2, 1, 4, 5, 6, generator=g)
    codes = torch.randint(0, 3, (2, 4, 5, 6), generator=g)
    codes[1][codes[1] == 0] = 2
    return a, b, torch.stack([codes == k for k in range(3)], dim=1)


def test_l1_equals_torch_per_subject():
    a, b, _ = regional()
    expected = torch.stack([torch.nn.functional.l1_loss(x, y) for x, y in zip(a, b)])
    torch.testing.assert_close(mean_l1(a, b), expected)


def test_roi_l1_is_the_sum_of_regional_means_and_skips_what_is_not_there():
    a, b, rois = regional()
    gaps = (a - b).abs()[:, 0]
    expected = [sum(gaps[i][roi].mean() for roi in rois[i] if roi.any()) for i in range(2)]
    assert not rois[1, 0].any()
    torch.testing.assert_close(roi_l1(a, b, rois), torch.stack(expected))


def test_an_empty_lesion_mask_gives_no_slope_and_no_nan():
    a, b, rois = regional()
    a.requires_grad_()
    roi_l1(a, b, rois)[1].backward()
    assert a.grad.isfinite().all()
    slope = a.grad[1, 0].abs()
    for k in (1, 2):
        torch.testing.assert_close(slope[rois[1, k]].sum(), torch.tensor(1.0))


def test_one_lesion_voxel_weighs_as_much_as_all_the_rest_together():
    """What the thesis says of small lesions: Eq. 3.5 counts a region, however small, like the others."""
    rois = torch.zeros(1, 3, 4, 5, 6, dtype=torch.bool)
    rois[0, 0, 0, 0, 0] = True
    rois[0, 2] = ~rois[0, 0]
    zero, one, rest = torch.zeros(1, 1, 4, 5, 6), rois[:, :1].float(), rois[:, 2:].float()
    assert roi_l1(one, zero, rois).item() == roi_l1(rest, zero, rois).item() == 1
    weights = adaptive_weights([1, 0, 119])
    assert adaptive_l1(one, zero, rois, weights=weights).item() == pytest.approx(119 / 120 / 240, rel=1e-5)
    assert adaptive_l1(rest, zero, rois, weights=weights).item() == pytest.approx(1 / 120 * 119 / 240, rel=1e-5)


def test_adaptive_weights_of_the_thesis_shares():
    """Lesions .5 %, NAWM 18 %, other 81.5 %: ω = .995, .82, .185; they sum to two, hence the half in Eq. 4.4."""
    weights = adaptive_weights([0.5, 18, 81.5])
    torch.testing.assert_close(weights, torch.tensor([0.995, 0.82, 0.185]))
    assert weights.sum().item() == pytest.approx(2)


def test_adaptive_l1_equals_a_loop_over_voxels():
    a, b, rois = regional()
    weights = torch.tensor([0.9, 0.7, 0.4])
    omega = torch.zeros(2, 4, 5, 6)
    for k in range(3):
        omega[rois[:, k]] = weights[k]
    expected = (omega * (a - b).abs()[:, 0]).mean((1, 2, 3)) / 2
    torch.testing.assert_close(adaptive_l1(a, b, rois, weights=weights), expected)


@pytest.mark.parametrize("counts", [[0, 0, 0], [1, -1, 5]])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(NbkitError, match="adaptive_weights: counts"):
        adaptive_weights(counts)
