"""Losses over regions; one value per subject."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from nbkit.core.checks import require


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


def mean_l1(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference over all voxels (Wei thesis Eq. 3.4); tensors (B, 1, X, Y, Z) -> (B,)."""
    return (prediction.float() - target.float()).abs().flatten(1).mean(1)


def roi_l1(prediction: torch.Tensor, target: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
    """Sum over regions of the mean absolute difference in each (Wei thesis Eq. 3.5, "weighted L1").

    The further 1/M of the printed equation, M voxels of the image, is dropped: the means are normalised already, and
    with it the term would vanish beside the adversarial one.

    Parameters
    ----------
    prediction, target : torch.Tensor
        (B, 1, X, Y, Z).
    rois : torch.Tensor
        (B, R, X, Y, Z) bool: lesions, normal-appearing white matter and everything else. A region without a voxel,
        such as the lesions of a control, adds nothing.

    Returns
    -------
    torch.Tensor
        (B,)
    """
    gaps = (prediction.float() - target.float()).abs().flatten(2)
    inside = rois.flatten(2).to(gaps)
    return ((gaps * inside).sum(2) / inside.sum(2).clamp(min=1)).sum(1)


def adaptive_weights(counts: Sequence[float]) -> torch.Tensor:
    """ω = 1 − m_ROI / m (Wei thesis Eq. 4.4) from the voxels m_ROI of regions that make up the image; (R,).

    Raises
    ------
    NbkitError
        If a count is negative or all are zero.
    """
    m = torch.tensor([float(c) for c in counts], dtype=torch.float64)
    require(
        bool((m >= 0).all()) and float(m.sum()) > 0, "adaptive_weights: counts",
        expected="numbers of voxels, not all zero", found=list(counts), remedy="Count the voxels of every region.",
    )
    return (1 - m / m.sum()).float()


def adaptive_l1(
    prediction: torch.Tensor, target: torch.Tensor, rois: torch.Tensor, *, weights: torch.Tensor
) -> torch.Tensor:
    """Half the mean over voxels of ω |difference|, each region with its ω (Wei thesis Eq. 4.4).

    Parameters
    ----------
    prediction, target : torch.Tensor
        (B, 1, X, Y, Z).
    rois : torch.Tensor
        (B, R, X, Y, Z) bool, disjoint; voxels outside all of them cost nothing.
    weights : torch.Tensor
        (R,), see :func:`adaptive_weights`.

    Returns
    -------
    torch.Tensor
        (B,)
    """
    gaps = (prediction.float() - target.float()).abs().flatten(2)
    omega = (rois.flatten(2).to(gaps) * weights.to(gaps)[:, None]).sum(1, keepdim=True)
    return (omega * gaps).flatten(1).mean(1) / 2
