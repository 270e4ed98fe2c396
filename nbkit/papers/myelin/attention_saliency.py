"""Visual attention saliency maps: where the loss of a generator depends on its inputs (Wei thesis 3.2.3, Eq. 3.7)."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.data.synthesis import on_grid
from nbkit.training.crops import Example


class Explained(Protocol):
    """A fitted system whose own training loss is a function of its inputs; ``config.inputs`` names them."""

    config: Any

    def example(self, scan: Scan) -> Example:
        """The scan as training saw it, the contrasts as its first channels."""

    def loss(self, inputs: torch.Tensor, example: Example) -> torch.Tensor:
        """The loss (1,) at inputs (1, C, x, y, z), differentiable."""


def attention_saliency(model: Explained, scan: Scan) -> Volume:
    """|∂Loss/∂I_M| of the generator, the maximum over the input contrasts.

    Loss is the voxelwise term of the system's last stage with its own weighting of regions. The adversarial term is
    left out: the text asks for the prediction loss, and discriminators are not kept after training. The gradient
    passes through all stages.

    Returns
    -------
    Volume
        Not negative, in units of the loss per z-score; 0 outside the mask "brain".
    """
    example = model.example(scan)
    inputs = example.inputs[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.loss(inputs, example).sum(), inputs)
    strongest = gradient[0, : len(model.config.inputs)].abs().amax(0)
    return on_grid(strongest, mask=scan.mask("brain"), step="attention saliency map")


def lesion_share(saliency: Volume, lesions: Volume) -> float:
    """Share of the total saliency inside the lesions, 0 to 1; NaN without a lesion or without any saliency."""
    saliency.check_grid(lesions, "lesion_share: saliency and lesions")
    inside, values = lesions.data[0].bool(), saliency.data[0].double()
    total = float(values.sum())
    return float(values[inside].sum()) / total if bool(inside.any()) and total > 0 else float("nan")
