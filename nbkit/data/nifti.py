"""NIfTI in and out: the one door for image files of strangers, and the only writers of images and labels."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel import orientations, volumeutils

from nbkit.core.checks import NbkitError, check_finite, check_labels, check_same_grid, require
from nbkit.core.files import atomic
from nbkit.core.volume import Volume
from nbkit.data.image_bytes import readable, voxel_bytes
from nbkit.data.nifti_header import closest_turn, read_layout

log = logging.getLogger(__name__)
_EXACT = 2**24
"""Whole numbers above it are not all float32."""


def read_image(path: Path | str) -> Volume:
    """Read a 3D image, reoriented to the closest canonical (RAS) axis order.

    Parameters
    ----------
    path : path
        NIfTI-1 or NIfTI-2, ``.nii`` or a pair ``.hdr`` and ``.img``, or FreeSurfer's ``.mgh``, each also gzipped; a
        name without ending is read by its content.

    Returns
    -------
    Volume
        float32, shape (1, X, Y, Z), in the file's own intensity unit: scl_slope · x + scl_inter where scl_slope is
        neither 0 nor NaN, else as stored.

    Raises
    ------
    NbkitError
        Naming the file: missing, not fetched, damaged or not an image; not 3D, complex, coloured; without orientation,
        or with an sform and a qform of opposite handedness or other voxel sizes; NaN, constant.
    """
    values, affine = _read(Path(path))
    check_finite(values, str(path))
    return Volume(torch.from_numpy(values), affine, (f"read {Path(path).name}",))


def read_labels(path: Path | str) -> Volume:
    """Read a 3D label image or mask as int32, reoriented to RAS; fractions are refused by file name.

    An image that is 0 everywhere is accepted: a control has an empty lesion mask.
    """
    values, affine = _read(Path(path))
    check_labels(values, str(path))
    most = float(np.abs(values).max())
    require(
        most <= _EXACT, str(path), expected=f"labels up to {_EXACT}", found=f"{most:g}", remedy="Renumber the labels.",
    )
    return Volume(torch.from_numpy(values).to(torch.int32), affine, (f"read {Path(path).name}",))


def read_grid(path: Path | str) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine that :func:`read_image` would return, from the header alone."""
    layout = read_layout(Path(path))
    turn, affine = layout.canonical()
    shape = np.array(layout.shape)[np.argsort(turn[:, 0])]
    return tuple(shape.tolist()), affine


def header_doubt(path: Path | str) -> NbkitError | None:
    """What a header leaves in doubt though the image is read: a qform that is not quite the sform."""
    return read_layout(Path(path)).doubt


def read_orientation(path: Path | str) -> str:
    """Axis codes of the file as it is stored, before reorientation: "LAS" runs to Left, Anterior, Superior."""
    return "".join(nib.aff2axcodes(read_layout(Path(path)).affine))


def save_image(path: Path | str, volume: Volume, *, like: Path | str | None = None) -> Path:
    """Write a one-channel image as float32 with a fresh header, atomically.

    Parameters
    ----------
    path : path
        Ends in ``.nii`` or ``.nii.gz``.
    volume : Volume
        One channel, finite.
    like : path, optional
        Source file on the same grid: the output takes back its axis order, affine and space codes.

    Raises
    ------
    NbkitError
        For several channels, a name that is not NIfTI, or a grid that differs from that of `like`.
    """
    values = _single(volume, str(path)).to(torch.float32)
    require(
        bool(torch.isfinite(values).all()), f"{path}", expected="finite values to save", found="NaN or infinity",
        remedy="Look for the step that made them: the volume's history lists what was done.",
    )
    return _write(Path(path), values.numpy(), volume.affine, like)


def save_labels(path: Path | str, volume: Volume, *, like: Path | str | None = None) -> Path:
    """Write labels as uint8 (or int16 where needed) with a fresh header and no scaling, atomically.

    Scaling slopes and inherited float headers are what turns label 17 into 16.9996; see :func:`save_image`
    for `path` and `like`.
    """
    values = _single(volume, str(path))
    check_labels(values, str(path))
    low, high = int(values.min()), int(values.max())
    require(
        -(2**15) <= low and high < 2**15, f"{path}", expected="labels from -32768 to 32767", found=f"{low} to {high}",
        remedy="Renumber the labels.",
    )
    kind = np.uint8 if low >= 0 and high < 256 else np.int16
    return _write(Path(path), values.numpy().astype(kind), volume.affine, like)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values (X, Y, Z) as contiguous float32, and the affine, in canonical order."""
    layout = read_layout(path)
    if layout.doubt is not None:
        log.warning("%s", layout.doubt.at(f"{path.name}: sform and qform"))
    with readable(path), np.errstate(all="ignore"):
        content = voxel_bytes(
            layout.file, offset=layout.offset, count=layout.count * layout.kind.itemsize, exact=layout.exact)
        stored = np.frombuffer(content, layout.kind).reshape(layout.shape, order="F")
        values = volumeutils.apply_read_scaling(stored, *layout.scale).astype(np.float32, copy=False)
    turn, affine = layout.canonical()
    return np.ascontiguousarray(orientations.apply_orientation(values, turn)), affine


def _single(volume: Volume, where: str) -> torch.Tensor:
    require(
        volume.data.shape[0] == 1, where, expected="one channel", found=f"{volume.data.shape[0]} channels",
        remedy="Save each channel to its own file.",
    )
    return volume.data[0].detach().cpu()


def _write(path: Path, values: np.ndarray, affine: np.ndarray, like: Path | str | None) -> Path:
    require(
        path.name.endswith((".nii", ".nii.gz")), f"{path}", expected="a name ending in .nii or .nii.gz",
        found=path.name, remedy="Add the ending.",
    )
    codes = (2, 0)
    if like is not None:
        values, affine, codes = _as_source(values, affine, Path(like), str(path))
    image = nib.Nifti1Image(np.ascontiguousarray(values), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=codes[0])
    image.set_qform(affine, code=codes[1])
    with atomic(path) as part:
        nib.save(image, part)
    return path


def _as_source(values: np.ndarray, affine: np.ndarray, like: Path, where: str):
    """Turn canonical `values` back into the axis order of the file `like`."""
    source, (shape, canonical) = read_layout(like), read_grid(like)
    check_same_grid(values.shape, affine, shape, canonical, f"{where}: like {like.name}")
    back = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), closest_turn(source.affine))
    return orientations.apply_orientation(values, back), source.affine, source.codes
