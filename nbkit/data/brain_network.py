"""The brain on a T1w scan by the two networks of deepbet (MIT licence): its weights, our inference.

Only the weights of the wheel are used. They are TorchScript, are found through the record of the installed package,
and are loaded when their hashes are those written here; none of the package's own code is imported, so that neither its
window nor its LGPL helpers are needed.

References
----------
Fisch L, Zumdick S, Barkhau C, et al. deepbet: Fast brain extraction of T1-weighted MRI using convolutional neural
networks. Comput Biol Med 179:108845, 2024.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage, optimize

from nbkit.core.checks import require
from nbkit.core.device import one_thread
from nbkit.core.volume import Volume
from nbkit.data.pieces import largest_piece

PACKAGE, VERSION = "deepbet", "1.0.2"
REMEDY = f"pip install --no-deps {PACKAGE}=={VERSION}"
BOX, MASK = "data/models/bbox_model.pt", "data/models/model.pt"
SHA256 = {
    BOX: "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    MASK: "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
_SMALL, _LARGE = (128, 128, 128), (256, 256, 256)
_QUANTILES, _LEVEL, _SPREAD = (0.005, 0.995), 0.449, 0.226
_ROW, _MARGIN = 0.02, 0.1
"""Share of a plane that the brain must fill to count, and what is added to the box on every side."""


def installed() -> bool:
    """Whether the package that holds the weights is installed."""
    try:
        metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return False
    return True


def network_brain(t1w: Volume, *, device: torch.device) -> Volume:
    """The brain, its fluid included, of a T1w scan in any orientation.

    Parameters
    ----------
    t1w : Volume
        One channel, finite and not constant.
    device : torch.device
        On the CPU one thread computes, so that the mask does not depend on how many there are.

    Returns
    -------
    Volume
        Boolean, on the grid of `t1w`; one piece without holes.

    Raises
    ------
    NbkitError
        If the package's files are missing or not those of the release, or nothing like a brain is found.
    """
    turn, flips = _canonical(t1w.affine)
    values = torch.nan_to_num(t1w.data[0].float()).permute(turn).flip(flips)
    with torch.inference_mode(), one_thread():
        small = F.interpolate(values[None, None], _SMALL, mode="nearest-exact")
        low, high = (float(small.quantile(q)) for q in _QUANTILES)
        require(
            high > low, "brain", expected="a T1w scan of a head", found=f"99 % of the voxels at {low:.4g}",
            remedy="Check that this is the whole T1w image, and not a mask or a cut-out.",
        )
        rough = _asked(BOX, small, low, high, device)
        box = _box(largest_piece(rough > 0.5, corners=True), values.shape)
        shares = _asked(MASK, F.interpolate(values[box][None, None], _LARGE, mode="nearest-exact"), low, high, device)
        cut = F.interpolate(torch.from_numpy(shares)[None, None], values[box].shape, mode="nearest-exact")[0, 0]
    inside = np.zeros(values.shape, dtype=bool)
    inside[box] = ndimage.binary_fill_holes(largest_piece(cut.numpy() > 0.5, corners=True))
    back = torch.from_numpy(inside).flip(flips).permute(*np.argsort(turn).tolist()).contiguous()
    return t1w.with_data(back[None], f"brain by {PACKAGE} {VERSION}")


def _asked(name: str, image: torch.Tensor, low: float, high: float, device: torch.device) -> np.ndarray:
    """What a network says of an image (1, 1, X, Y, Z) whose range is `low` to `high`: shares of brain (X, Y, Z)."""
    scaled = ((image.to(device) - low) / (high - low)).clamp(0, 1)
    scaled = _SPREAD * (scaled - scaled.mean()) / scaled.std() + _LEVEL
    return _network(name, str(device))(scaled)[0, 1].cpu().numpy()


@lru_cache(maxsize=4)
def _network(name: str, device: str) -> torch.jit.ScriptModule:
    path = _weights(name)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    require(
        found == SHA256[name], f"{path}", expected=f"the weights of {PACKAGE} {VERSION}, sha256 {SHA256[name]}",
        found=found, remedy=f"{REMEDY} --force-reinstall",
    )
    return torch.jit.load(str(path), map_location=device).eval()


def _weights(name: str) -> Path:
    files = {file.as_posix(): file for file in metadata.distribution(PACKAGE).files or ()}
    path = Path(files[name].locate()) if name in files else Path(name)
    require(
        path.is_file(), f"{PACKAGE}: {name}", expected=f"the weights of {PACKAGE} {VERSION}", found="no such file",
        remedy=f"{REMEDY} --force-reinstall",
    )
    return path


def _canonical(affine: np.ndarray) -> tuple[tuple[int, ...], list[int]]:
    """Order of the array's axes that is nearest to right, anterior, superior, and which of the ordered ones to flip."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    world, turn = optimize.linear_sum_assignment(-np.abs(cosines))
    return tuple(turn.tolist()), [k for k in world.tolist() if cosines[k, turn[k]] < 0]


def _box(mask: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Box of the brain on the image's own grid, with its margin, from the mask on the small one."""
    box = []
    for axis, size in enumerate(shape):
        others = tuple(a for a in range(3) if a != axis)
        rows = np.flatnonzero(mask.mean(axis=others) > _ROW)
        require(
            rows.size > 0, "brain", expected="a T1w scan of a head", found="nothing like a brain in it",
            remedy="Check the orientation in the header and that the head is inside the image.",
        )
        scale = np.float32(size) / np.float32(mask.shape[axis])
        centre = np.round(scale * np.float32((rows[-1] + 1 + rows[0]) / 2))
        half = np.round(np.float32(1 + 2 * _MARGIN) * (scale * np.float32(rows[-1] + 1 - rows[0]))) / 2
        box.append(slice(max(0, int(centre - half)), min(size, int(centre + half))))
    return tuple(box)
