"""From contrasts to the arrays a voxel model sees, and back to an image on the scan's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from nbkit.core.volume import Volume, bounding_box
from nbkit.data.intensity import Standardiser

Box = tuple[slice, slice, slice]


def brain_box(mask: Volume) -> Box:
    """The bounding box of a brain mask: models never see the empty margin."""
    return bounding_box(mask.data[0].bool())


def brain_channels(
    contrasts: Mapping[str, Volume], names: Sequence[str], *, mask: Volume, standardiser: Standardiser,
) -> torch.Tensor:
    """Contrasts as channels (C, x, y, z): z-scored, 0 outside the mask, cropped to the brain's box.

    Raises
    ------
    NbkitError
        If a contrast is missing or lies on another grid than the mask.
    """
    return standardiser.stack(contrasts, names, mask=mask)[(slice(None), *brain_box(mask))]


def on_grid(values: torch.Tensor, *, mask: Volume, step: str) -> Volume:
    """Put (x, y, z) values of the brain's box back on the mask's grid; 0 outside the mask."""
    data = torch.zeros(mask.shape, dtype=torch.float32)
    data[brain_box(mask)] = values.detach().float().cpu()
    return mask.with_data((data * mask.data[0].bool())[None], step)
