"""Random sub-volumes of images, drawn around voxels of a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from nbkit.core.seeds import torch_generator


@dataclass(frozen=True)
class Example:
    """One subject ready for training, cropped to its brain.

    Parameters
    ----------
    inputs : torch.Tensor
        (C, X, Y, Z).
    target : torch.Tensor
        (1, X, Y, Z).
    mask : torch.Tensor
        (1, X, Y, Z) bool; the loss counts only these voxels.
    focus : torch.Tensor or None
        (1, X, Y, Z) bool; every second crop is centred on one of these voxels when there are any.
    """

    inputs: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    focus: torch.Tensor | None = None


class CropSampler:
    """Batches of crops; the draw of an epoch depends only on (seed, epoch).

    Parameters
    ----------
    examples : sequence of Example
    crop : tuple of int or None
        Crop shape in voxels. None gives whole images, one per batch, in random order (the published way).
    batch : int
        Crops per step.
    crops_per_epoch : int
        Crops drawn in one epoch; ignored for whole images, where an epoch is one pass over the subjects.
    seed : int
    """

    def __init__(
        self, examples: Sequence[Example], *, crop: tuple[int, int, int] | None, batch: int, crops_per_epoch: int,
        seed: int,
    ) -> None:
        self.examples = [pad_to(e, crop) for e in examples] if crop else list(examples)
        self.crop, self.batch, self.crops_per_epoch, self.seed = crop, batch, crops_per_epoch, seed
        self.places = [e.mask[0].nonzero() for e in self.examples]
        self.focus = [e.focus[0].nonzero() if e.focus is not None else None for e in self.examples]

    def epoch(self, number: int) -> Iterator[Example]:
        """Batches of epoch `number`: Example whose tensors have a leading batch axis (B, C, x, y, z)."""
        generator = torch_generator(self.seed, "crops", number)
        if self.crop is None:
            for i in torch.randperm(len(self.examples), generator=generator).tolist():
                yield stack([self.examples[i]])
            return
        for start in range(0, self.crops_per_epoch, self.batch):
            count = min(self.batch, self.crops_per_epoch - start)
            yield stack([self._draw(start + k, generator) for k in range(count)])

    def _draw(self, number: int, generator: torch.Generator) -> Example:
        i = int(torch.randint(len(self.examples), (), generator=generator))
        focused = number % 2 == 1 and self.focus[i] is not None and len(self.focus[i])
        places = self.focus[i] if focused else self.places[i]
        centre = places[int(torch.randint(len(places), (), generator=generator))]
        shape = torch.tensor(self.examples[i].mask.shape[1:])
        size = torch.tensor(self.crop)
        corner = torch.minimum((centre - size // 2).clamp(min=0), shape - size)
        box = (slice(None), *(slice(int(c), int(c + s)) for c, s in zip(corner, size)))
        return _each(self.examples[i], lambda t: t[box])


def _each(example: Example, act) -> Example:
    focus = None if example.focus is None else act(example.focus)
    return Example(act(example.inputs), act(example.target), act(example.mask), focus)


def stack(examples: Sequence[Example]) -> Example:
    """Examples of one shape as one Example with a batch axis; `focus` is not needed by a step and dropped."""
    parts = [torch.stack([getattr(e, name) for e in examples]) for name in ("inputs", "target", "mask")]
    return Example(*parts)


def pad_to(example: Example, shape: tuple[int, int, int]) -> Example:
    """Pad with zeros at the far ends until every axis is at least as long as `shape`."""
    short = [max(0, s - n) for s, n in zip(shape, example.mask.shape[1:])]
    pads = [side for s in reversed(short) for side in (0, s)]
    return example if not any(short) else _each(example, lambda t: F.pad(t, pads))
