"""A person's own level: the scale and offset of an image that was never acquired, which no input carries."""

from __future__ import annotations

import torch

from nbkit.core.volume import Volume


def own_level(prediction: Volume, truth: Volume, mask: Volume) -> Volume:
    """`prediction` after the scale and offset that bring it nearest to `truth` inside `mask`; 0 outside."""
    inside = mask.data.bool()
    x, y = (image.data[inside].double() for image in (prediction, truth))
    spread = (x - x.mean()).square().sum()
    scale = ((x - x.mean()) * (y - y.mean())).sum() / spread if spread > 0 else torch.tensor(0.0)
    fitted = (prediction.data.double() - x.mean()) * scale + y.mean()
    return prediction.with_data((fitted * inside).float(), "own scale and offset")
