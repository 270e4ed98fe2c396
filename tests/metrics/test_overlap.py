"""Dice against MONAI and by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_dice

from nbkit.core.checks import NbkitError
from nbkit.metrics.overlap import dice, dice_per_label


def masks(seed: int, share: float) -> torch.Tensor:
    """Three random masks."""
    return torch.rand(3, 1, 4, 5, 6, generator=torch.Generator().manual_seed(seed)) < share


@given(seed=st.integers(0, 2**31), share=st.floats(0.02, 0.98))
def test_dice_equals_monai_and_is_symmetric(seed, share):
    a, b = masks(seed, share), masks(seed + 1, 0.4)
    expected = compute_dice(a.float(), b.float(), include_background=True)[:, 0]
    assert torch.allclose(dice(a, b), expected.double(), atol=1e-6, equal_nan=True)
    assert torch.equal(dice(a, b), dice(b, a))


def test_dice_of_shifted_bars_and_of_nothing():
    bar, moved, empty = (torch.zeros(1, 1, 8, 2, 2, dtype=torch.bool) for _ in range(3))
    bar[:, :, :4], moved[:, :, 3:7] = True, True
    assert float(dice(bar, moved)) == 0.25
    assert float(dice(bar, bar)) == 1.0
    assert float(dice(bar, empty)) == 0.0
    assert torch.isnan(dice(empty, empty)).all()


def test_dice_per_label_goes_by_name():
    a = torch.tensor([0, 1, 1, 2, 2, 2]).reshape(1, 1, 6, 1, 1)
    b = torch.tensor([0, 1, 2, 2, 2, 0]).reshape(1, 1, 6, 1, 1)
    values = dice_per_label(a, b, {1: "GM", 2: "WM", 3: "lesion"})
    assert float(values["GM"]) == pytest.approx(2 / 3)
    assert float(values["WM"]) == pytest.approx(2 / 3)
    assert torch.isnan(values["lesion"]).all()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: dice(m.float(), m), r"dice: a: expected \(B, 1, X, Y, Z\) bool, found .* torch.float32"),
        (lambda m: dice(m, m[:2]), r"dice: b: expected shape \(3, 1, 4, 5, 6\), as a"),
        (lambda m: dice_per_label(m * 1, m * 0.5, {1: "GM"}), "dice_per_label: b: expected whole label numbers"),
    ],
)
def test_bad_input_is_refused(act, message):
    with pytest.raises(NbkitError, match=message):
        act(masks(0, 0.5))
