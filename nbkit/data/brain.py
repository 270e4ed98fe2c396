"""The brain of a T1w scan that comes without a mask: found once by deepbet's networks, checked, and kept."""

from __future__ import annotations

import hashlib
import logging

import numpy as np

from nbkit.core.checks import require
from nbkit.core.device import pick_device
from nbkit.core.files import Cache
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume, bounding_box
from nbkit.data import brain_network, brain_threshold, lazy
from nbkit.data.pieces import depth, largest_piece

log = logging.getLogger(__name__)

KIND = "brains"
_FILE = "brain.safetensors"
LITRES = (0.6, 2.5)
"""What a human brain with its fluid measures, generously."""
NECK_MM, LEAK = 5.0, 0.1
"""Half-width of the neck by which a leak hangs on, and the share of a mask that may hang on by one."""


def finder() -> str:
    """What finds brains here, for cache keys."""
    network = f"{brain_network.PACKAGE} {brain_network.VERSION}"
    return network if brain_network.installed() else "threshold and distance"


def find_brain(t1w: Volume, *, device: str | None = None) -> Volume:
    """Brain with its fluid, from a T1w scan of any orientation, by :func:`nbkit.data.brain_network.network_brain`.

    Where the package with the networks' weights is not installed, a warning says so, and the brain is found by
    threshold and distance, which is less exact and fails on one scan in ten.

    Parameters
    ----------
    t1w : Volume
        One channel, finite, not constant.
    device : str, optional
        As :func:`nbkit.core.device.pick_device` takes it.

    Returns
    -------
    Volume
        Boolean, on the grid of `t1w`.

    Raises
    ------
    NbkitError
        If what is found has not the size of a human brain, or leaks into face or neck.
    """
    if brain_network.installed():
        return checked(brain_network.network_brain(t1w, device=pick_device(device)), found=True)
    log.warning(
        "%s is not installed: brains are found by threshold and distance, which fails on one scan in ten. "
        "Install its weights with `%s`, or give brain masks.", brain_network.PACKAGE, brain_network.REMEDY,
    )
    return checked(brain_threshold.threshold_brain(t1w), found=True)


def kept_brain(t1w: Volume, *, cache: Cache | None = None) -> Volume:
    """:func:`find_brain` of a scan, read from the cache when it was found before.

    The mask that `nbkit data check` draws is thus the one that a run uses.
    """
    key = {
        "voxels": hashlib.sha256(t1w.data.numpy().tobytes() + t1w.affine.tobytes()).hexdigest(),
        "shape": list(t1w.shape), "finder": finder(), "source": module_digest(__name__),
    }
    return (cache or Cache()).get(
        KIND, key, lambda folder: lazy.save_volumes(folder / _FILE, {"brain": find_brain(t1w)}),
        lambda folder: lazy.load_volume(folder / _FILE, "brain"),
    )


def checked(brain: Volume, *, found: bool = False) -> Volume:
    """A boolean mask of the size of a human brain; others are refused, and if it was `found`, those that leak too.

    A mask that somebody gave may be of tissue alone, which sulci part; so it is not asked for its shape.
    """
    litres = float(brain.data.sum()) * brain.voxel_volume / 1e6
    remedy = (
        "Give a brain mask or a label map of this scan (Source.brain), made with whatever tool suits your scanner, "
        "and look at its outline on the page of `nbkit data check`."
    )
    require(
        LITRES[0] <= litres <= LITRES[1], "brain mask", expected=f"{LITRES[0]} to {LITRES[1]} litres of brain",
        found=f"{litres:.2f}", remedy=remedy,
    )
    share = leak(brain) if found else 0.0
    require(
        share <= LEAK, "brain mask", expected=f"a compact brain, at most {LEAK:.0%} of it beyond a neck of "
        f"{2 * NECK_MM:g} mm", found=f"{share:.0%}: it leaks into face, neck or scalp", remedy=remedy,
    )
    return brain


def leak(brain: Volume, *, neck_mm: float = NECK_MM) -> float:
    """Share of a mask that is lost when it is peeled by `neck_mm` and its largest piece grown back as far.

    A brain keeps nearly all of itself. What hangs on by a neck thinner than twice `neck_mm`, as tongue, eyes and scalp
    do where a mask leaks, is cut off.
    """
    mask = np.pad(brain.crop(bounding_box(brain.data[0])).data[0].numpy(), 1)
    core = largest_piece(depth(mask, brain.spacing) > neck_mm)
    if not core.any():
        return 1.0
    grown = mask & (depth(~core, brain.spacing) <= neck_mm + min(brain.spacing) / 2)
    return 1 - float(grown.sum() / mask.sum())
