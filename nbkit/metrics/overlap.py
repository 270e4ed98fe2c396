"""Agreement of segmentations. One value per subject."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from nbkit.core.checks import check_labels, require


def dice(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Dice coefficient 2|A∩B| / (|A|+|B|) (Dice 1945) of boolean masks in 3D.

    Parameters
    ----------
    a, b : torch.Tensor
        (B, 1, X, Y, Z) bool.

    Returns
    -------
    torch.Tensor
        (B,) float64, from 0 to 1; NaN where both masks are empty: there is nothing to agree on, and calling it 1
        would reward a cohort for its controls.

    Raises
    ------
    NbkitError
        If shapes differ or a mask is not boolean.
    """
    for name, mask in (("a", a), ("b", b)):
        require(
            mask.dtype == torch.bool and mask.ndim == 5, f"dice: {name}", expected="(B, 1, X, Y, Z) bool",
            found=f"{tuple(mask.shape)} {mask.dtype}", remedy="Threshold probabilities first, and keep the batch axis.",
        )
    _check_shapes(a, b, "dice")
    a, b = a.flatten(1), b.flatten(1)
    return 2 * (a & b).sum(1).double() / (a.sum(1) + b.sum(1)).double()


def dice_per_label(a: torch.Tensor, b: torch.Tensor, names: Mapping[int, str]) -> dict[str, torch.Tensor]:
    """:func:`dice` of every label of two label maps (B, 1, X, Y, Z), by label name; `names` maps codes to names.

    Raises
    ------
    NbkitError
        If shapes differ or a map holds fractions.
    """
    check_labels(a, "dice_per_label: a")
    check_labels(b, "dice_per_label: b")
    _check_shapes(a, b, "dice_per_label")
    return {name: dice(a == code, b == code) for code, name in names.items()}


def _check_shapes(a: torch.Tensor, b: torch.Tensor, where: str) -> None:
    require(
        a.shape == b.shape, f"{where}: b", expected=f"shape {tuple(a.shape)}, as a", found=tuple(b.shape),
        remedy="Compare segmentations on one grid.",
    )
