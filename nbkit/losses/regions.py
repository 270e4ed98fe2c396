"""Losses over regions; one value per subject."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def soft_dice_loss(logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 − soft Dice of sigmoid(logits) against a binary target inside a mask (Milletari et al. 2016).

    Parameters
    ----------
    logits, target, mask : torch.Tensor
        (B, 1, X, Y, Z); target and mask in {0, 1}.

    Returns
    -------
    torch.Tensor
        (B,) in [0, 1]; one voxel is added above and below, so two empty maps give 0.
    """
    p = (logits.float().sigmoid() * mask).flatten(1)
    t = (target.float() * mask).flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def masked_bce(logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy inside the mask; tensors (B, 1, X, Y, Z) -> (B,)."""
    inside = mask.flatten(1).float()
    values = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none").flatten(1)
    return (values * inside).sum(1) / inside.sum(1).clamp(min=1)


def class_dice_loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """1 − the mean over classes of the soft Dice of softmax(logits), background (class 0) left out.

    Parameters
    ----------
    logits : torch.Tensor
        (B, 1 + K, X, Y, Z).
    classes : torch.Tensor
        (B, 1, X, Y, Z), indices 0…K.

    Returns
    -------
    torch.Tensor
        (B,) in [0, 1]; one voxel is added above and below in every class.
    """
    p = logits.float().softmax(1).flatten(2)[:, 1:]
    t = F.one_hot(classes[:, 0].long(), logits.shape[1]).movedim(-1, 1).flatten(2)[:, 1:].to(p)
    return 1 - ((2 * (p * t).sum(2) + 1) / (p.sum(2) + t.sum(2) + 1)).mean(1)
