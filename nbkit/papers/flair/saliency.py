"""Pulse-sequence-specific saliency (P3S) maps: how the error depends on each input (Wei thesis Eq. 2.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.papers.flair.conv_synthesis import ConvSynthesizer


def p3s_maps(model: ConvSynthesizer, scan: Scan) -> dict[str, Volume]:
    """Absolute gradient of the squared prediction error with respect to each input, |∂‖I − Î‖² / ∂I_source|.

    Inputs and target are z-scored by the model's own constants, so gradients of different contrasts compare. The map
    is zero wherever the fit is perfect: it shows where errors could still be moved, not only what is used. The error
    is that over the voxels that count in the model's loss.

    Returns
    -------
    dict of str to Volume
        One map per input contrast, non-negative, in units of z² per z; 0 outside the brain.
    """
    mask, config = scan.mask("brain"), model.config
    channels, inside = model.seen(scan.images, (*config.inputs, config.target), mask)
    channels, inside = channels.to(model.device), inside.float().to(model.device)
    inputs = channels[None, :-1].clone().requires_grad_()
    error = ((model.net.eval()(inputs) - channels[None, -1:]) * inside).square().sum()
    (gradient,) = torch.autograd.grad(error, inputs)
    return {
        name: model.placed(gradient[0, i].abs(), mask, f"P3S map of {name}") for i, name in enumerate(config.inputs)
    }


def saliency_shares(maps: Mapping[str, Volume], mask: Volume) -> dict[str, float]:
    """Each input's share of the total saliency inside `mask`; the shares sum to one."""
    inside = mask.data[0].bool()
    sums = {name: float(volume.data[0][inside].double().sum()) for name, volume in maps.items()}
    total = sum(sums.values())
    return {name: value / total for name, value in sums.items()}
