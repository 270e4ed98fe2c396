"""The methods of the myelin chapters, drawn anew: Figures 3.2, 3.3, 4.1 and 4.2 of Wei's thesis."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np

from nbkit.core.protocols import Subject
from nbkit.figures.pipeline import Box, pipeline_drawing
from nbkit.figures.slices import thumbnails
from nbkit.figures.style import Picture


def sketcher_refiner_drawing(people: Iterable[Subject] = ()) -> Picture:
    """Sketcher-Refiner GANs: what is fed to what, and what each is trained against (Figs. 3.2 and 3.3).

    Two maps of the first of `people` stand in it.
    """
    boxes = [
        Box("mri", "MTR, FA, RD, AD", 0, 0, "input", _maps(people, 0)), Box("noise", "noise z", 0, 1, "input"),
        Box("sketcher", "Sketcher: 3D U-Net", 1, 0, "learned"), Box("sketch", "sketch", 2, 0),
        Box("refiner", "Refiner: 3D U-Net", 3, 0, "learned"), Box("map", "DVR map", 4, 0, "output"),
        Box("judge1", "patch discriminator, L1", 2, 1, "learned"),
        Box("judge2", "patch discriminator, weighted L1", 4, 1, "learned"),
    ]
    return pipeline_drawing(boxes, [
        ("mri", "sketcher", ""), ("noise", "sketcher", ""), ("sketcher", "sketch", ""),
        ("sketch", "refiner", "+ MRI"), ("refiner", "map", ""), ("judge1", "sketch", ""), ("judge2", "map", ""),
    ])


def cf_sagan_drawing(people: Iterable[Subject] = ()) -> Picture:
    """CF-SAGAN: trained at t0, applied at t0 and t1 by the model that saw neither scan of a patient.

    Two maps of each visit of the first of `people` who came twice stand in it.
    """
    twice = [person for person in people if len(person.scans) > 1]
    boxes = [
        Box("mri", "MTR, FA, RD, AD at t0", 0, 0, "input", _maps(twice, 0)),
        Box("late", "MTR, FA, RD, AD at t1", 0, 1, "input", _maps(twice, 1)),
        Box("sketcher", "CF-SAGAN, L1", 1, 0, "learned"), Box("refiner", "CF-SAGAN, NWL1", 2, 0, "learned"),
        Box("map0", "DVR at t0", 3, 0), Box("map1", "DVR at t1", 3, 1),
        Box("norm", "threshold from controls' PET", 2, 1, "input"),
        Box("change", "demyelinating, remyelinating voxels", 4, 0, "output"),
        Box("edss", "regression on EDSS", 4, 1, "output"),
    ]
    return pipeline_drawing(boxes, [
        ("mri", "sketcher", "train, t0"), ("late", "sketcher", "apply"), ("sketcher", "refiner", ""),
        ("refiner", "map0", ""), ("refiner", "map1", ""), ("norm", "map1", ""), ("map0", "change", ""),
        ("map1", "change", ""), ("change", "edss", ""),
    ])


def _maps(people: Iterable[Subject], visit: int) -> list[np.ndarray]:
    return thumbnails(*(person.scans[visit] for person in islice(people, 1)), contrasts=("MTR", "FA"))


def unet_drawing() -> Picture:
    """Generator and discriminator of chapter 3 (Fig. 3.3 A and B); skip connections join levels of equal size."""
    boxes = [
        Box("in", "MR images (noise z, or sketch)", 0, 0, "input"),
        *(Box(f"down{k}", f"2 × 3³, {n} maps\nthen stride 2", k, 0, "learned")
          for k, n in ((1, 32), (2, 64), (3, 128))),
        Box("bottom", "2 × 3³, 256 maps", 4, 1, "learned"),
        *(Box(f"up{k}", f"deconvolution\nthen 2 × 3³, {n} maps", k, 2, "learned")
          for k, n in ((3, 128), (2, 64), (1, 32))),
        Box("out", "1³ convolution, leaky ReLU: DVR", 0, 2, "output"),
        Box("pair", "MR images and a DVR map", 0, 3, "input"), Box("cut", "patches, none overlapping", 1, 3),
        Box("judge", "3³ convolution, norm, leaky ReLU, halving", 2, 3, "learned"),
        Box("dense", "fully connected, two-way softmax", 3, 3, "learned"),
        Box("verdict", "true or made, summed over patches", 4, 3, "output"),
    ]
    return pipeline_drawing(boxes, [
        ("in", "down1", ""), ("down1", "down2", ""), ("down2", "down3", ""), ("down3", "bottom", ""),
        ("bottom", "up3", ""), ("up3", "up2", ""), ("up2", "up1", ""), ("up1", "out", ""),
        *((f"down{k}", f"up{k}", "joined") for k in (1, 2, 3)),
        ("pair", "cut", ""), ("cut", "judge", ""), ("judge", "dense", ""), ("dense", "verdict", ""),
    ])


def attention_drawing() -> Picture:
    """The flexible self-attention layer (Fig. 4.1, Eqs. 4.1 to 4.3)."""
    boxes = [
        Box("x", "feature maps x", 0, 1, "input"),
        *(Box(name, f"{name}: 1³ convolution, C/8 maps", 1, row, "learned")
          for row, name in enumerate(("key", "query", "value"))),
        *(Box(f"pool {name}", "max pooling by p", 2, row) for row, name in enumerate(("key", "query", "value"))),
        Box("map", "attention map: softmax(keyᵀ query)", 3, 0), Box("o", "o: mean of values by attention", 3, 2),
        Box("back", "up-pooling by p, back to C maps", 4, 2, "learned"), Box("y", "y = γ o + x", 4, 1, "output"),
    ]
    return pipeline_drawing(boxes, [
        *(("x", name, "") for name in ("key", "query", "value")),
        *((name, f"pool {name}", "") for name in ("key", "query", "value")),
        ("pool key", "map", ""), ("pool query", "map", ""), ("pool value", "o", ""), ("map", "o", ""),
        ("o", "back", ""), ("back", "y", ""),
    ])


def sagan_drawing() -> Picture:
    """Generator and discriminator of CF-SAGAN (Fig. 4.2); long connections join levels of equal size."""
    boxes = [
        Box("in", "MR images", 0, 0, "input"), Box("first", "3³ convolution, 16 maps", 1, 0, "learned"),
        Box("d1", "2 ResDown, 32 and 64 maps", 2, 0, "learned"),
        Box("a1", "flexible self-attention", 3, 0, "learned"),
        Box("d2", "2 ResDown, 128 and 256 maps", 4, 0, "learned"),
        Box("u1", "2 ResUp, 128 and 64 maps", 4, 1, "learned"), Box("a2", "flexible self-attention", 3, 1, "learned"),
        Box("u2", "2 ResUp, 32 and 16 maps", 2, 1, "learned"), Box("last", "3³ convolution", 1, 1, "learned"),
        Box("out", "DVR map", 0, 1, "output"),
        Box("pair", "MR images and a DVR map", 0, 2, "input"), Box("cut", "patches, none overlapping", 1, 2),
        Box("j1", "ResDown, self-attention", 2, 2, "learned"), Box("j2", "ResDown, fully connected", 3, 2, "learned"),
        Box("verdict", "true or made, smoothed labels", 4, 2, "output"),
    ]
    return pipeline_drawing(boxes, [
        ("in", "first", ""), ("first", "d1", ""), ("d1", "a1", ""), ("a1", "d2", ""), ("d2", "u1", ""),
        ("u1", "a2", ""), ("a2", "u2", ""), ("u2", "last", ""), ("last", "out", ""), ("first", "last", "joined"),
        ("d1", "u2", "joined"), ("a1", "a2", "joined"), ("pair", "cut", ""), ("cut", "j1", ""), ("j1", "j2", ""),
        ("j2", "verdict", ""),
    ])
