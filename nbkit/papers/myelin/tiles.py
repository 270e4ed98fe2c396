"""Patches of half overlap that cover an image, as chapter 4 trains on them (Wei thesis 4.3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch

from nbkit.core.seeds import torch_generator
from nbkit.papers.myelin.stages import StageSettings
from nbkit.training.crops import CropSampler, Example, pad_to, stack

Box = tuple[int, int, int]


def corners(shape: Sequence[int], size: Sequence[int], *, overlap: float = 0.5) -> list[Box]:
    """Lowest corners of boxes of `size` that cover `shape`, sharing `overlap` of an edge; the last one ends with it.

    `shape` is at least `size`; both in voxels.
    """
    starts = []
    for n, s in zip(shape, size, strict=True):
        step = max(1, round(s * (1 - overlap)))
        starts.append(sorted({*range(0, n - s, step), n - s}))
    return list(product(*starts))


def patches_of(examples: Sequence[Example], settings: StageSettings) -> CropSampler | PatchGrid:
    """What gives the batches of an epoch: whole images, crops at random, or all patches of half overlap."""
    shared = {"batch": settings.batch, "seed": settings.seed}
    if settings.crop is None or settings.crops == "focus":
        return CropSampler(examples, crop=settings.crop, crops_per_epoch=settings.crops_per_epoch, **shared)
    return PatchGrid(examples, size=settings.crop, **shared)


class PatchGrid:
    """Batches of all patches of all examples, once an epoch in an order that depends only on (seed, epoch).

    Parameters
    ----------
    examples : sequence of Example
        Padded with zeros at the far ends where they are smaller than a patch.
    size : tuple of int
        Edges of a patch in voxels.
    batch : int
    seed : int
    """

    def __init__(self, examples: Sequence[Example], *, size: Box, batch: int, seed: int) -> None:
        self.examples = [replace(pad_to(e, size), focus=None) for e in examples]
        self.size, self.batch, self.seed = size, batch, seed
        self.patches = [(i, c) for i, e in enumerate(self.examples) for c in corners(e.mask.shape[1:], size)]

    def epoch(self, number: int) -> Iterator[Example]:
        """Batches of epoch `number`: Example whose tensors have a leading batch axis (B, C, x, y, z)."""
        order = torch.randperm(len(self.patches), generator=torch_generator(self.seed, "patches", number)).tolist()
        for start in range(0, len(order), self.batch):
            yield stack([self._cut(*self.patches[k]) for k in order[start : start + self.batch]])

    def _cut(self, number: int, corner: Box) -> Example:
        box = (slice(None), *(slice(c, c + s) for c, s in zip(corner, self.size, strict=True)))
        example = self.examples[number]
        return Example(example.inputs[box], example.target[box], example.mask[box])
