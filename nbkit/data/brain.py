"""The brain of a T1w scan that comes without a mask: found once by deepbet's networks, checked, and kept."""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache

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
_FINDERS = (brain_network.__name__, brain_threshold.__name__)
LITRES = (0.6, 2.5)
"""What a human brain with its fluid measures, generously."""
MOST_SHRINKING, LEAST_TISSUE = 1.3, 0.6
"""Of 40 IXI heads 1.04 to 1.19 and .70 or more; leaking into the face 1.4 to 2.2; grown by 12 mm into the scalp .48."""
_PEELS_MM, _TISSUE = (3.5, 4.5), (0.5, 1.6)


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
        Boolean, on the grid of `t1w`; not yet :func:`checked`.

    Raises
    ------
    NbkitError
        If nothing like a brain is found.
    """
    if brain_network.installed():
        return brain_network.network_brain(t1w, device=pick_device(device))
    _warn()
    return brain_threshold.threshold_brain(t1w)


@lru_cache(maxsize=1)
def _warn() -> None:
    """Once a process."""
    log.warning(
        "%s is not installed: brains are found by threshold and distance, which fails on one scan in ten. "
        "Install its weights with `%s`, or give brain masks.", brain_network.PACKAGE, brain_network.REMEDY,
    )


def kept_brain(t1w: Volume, *, cache: Cache | None = None) -> Volume:
    """:func:`find_brain` of a scan, read from the cache when it was found before.

    `nbkit data check` draws and checks this very mask, so what is drawn is what a run uses.
    """
    key = {
        "voxels": hashlib.sha256(t1w.data.numpy().tobytes() + t1w.affine.tobytes()).hexdigest(),
        "shape": list(t1w.shape), "finder": finder(), "source": module_digest(*_FINDERS),
    }
    return (cache or Cache()).get(
        KIND, key, lambda folder: lazy.save_volumes(folder / _FILE, {"brain": find_brain(t1w)}),
        lambda folder: lazy.load_volume(folder / _FILE, "brain"),
    )


def checked(brain: Volume, *, t1w: Volume | None = None) -> Volume:
    """A boolean mask of the size of a human brain; others are refused.

    Parameters
    ----------
    brain : Volume
    t1w : Volume, optional
        The scan that `brain` was found in, on the same grid: then a mask that leaks (:func:`leak`), or takes in scalp
        and bone, is refused too. A mask that somebody gave may be of tissue alone, and is not asked.

    Raises
    ------
    NbkitError
        Naming the volume, or what leaks.
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
    if t1w is not None:
        shrinks, tissue = leak(t1w, brain)
        require(
            shrinks <= MOST_SHRINKING and tissue >= LEAST_TISSUE, "brain mask", expected="brain alone, which shrinks "
            f"{MOST_SHRINKING:g}-fold at most when it is peeled, and is tissue by {LEAST_TISSUE:.0%} or more",
            found=f"{shrinks:.2f}-fold and {tissue:.0%}: it leaks into face, neck or scalp", remedy=remedy,
        )
    return brain


def leak(t1w: Volume, brain: Volume) -> tuple[float, float]:
    """How many times the tissue in a mask shrinks when it is peeled one millimetre more, and the tissue's share of it.

    Tissue is what has about the intensity of the middle of the mask. It is peeled by 3.5 mm, its largest piece is grown
    back within it, and so again with 4.5 mm: a brain loses little, while face and neck hang on by what is thin.
    """
    box = bounding_box(brain.data[0], margin=1)
    values, mask, spacing = t1w.crop(box).data[0].numpy(), brain.crop(box).data[0].numpy(), brain.spacing
    deep = depth(mask, spacing)
    middle = np.median(values[deep > deep.max() / 2])
    tissue = mask & (values > _TISSUE[0] * middle) & (values < _TISSUE[1] * middle)
    inner = depth(tissue, spacing)
    sizes = []
    for peel in _PEELS_MM:
        core = largest_piece(inner > peel)
        grown = tissue & (depth(~core, spacing) <= peel + min(spacing) / 2) if core.any() else core
        sizes.append(int(grown.sum()))
    return sizes[0] / max(sizes[1], 1), sizes[0] / max(int(mask.sum()), 1)
