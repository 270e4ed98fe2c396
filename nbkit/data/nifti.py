"""NIfTI in and out: the only module that touches nibabel, and the only writers of images and labels."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel import orientations

from nbkit.core.checks import NbkitError, check_finite, check_labels, check_same_grid, require
from nbkit.core.files import atomic
from nbkit.core.volume import Volume

_BROKEN = (OSError, EOFError, ValueError, zlib.error, gzip.BadGzipFile, nib.filebasedimages.ImageFileError)


def read_image(path: Path | str) -> Volume:
    """Read a 3D image, reoriented to the closest canonical (RAS) axis order.

    Parameters
    ----------
    path : path
        A ``.nii`` or ``.nii.gz`` file; other formats that nibabel knows are read as well.

    Returns
    -------
    Volume
        float32, shape (1, X, Y, Z), in the file's own intensity unit.

    Raises
    ------
    NbkitError
        Naming the file: missing, truncated or not an image, not 3D, without orientation, NaN, constant.
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
    return Volume(torch.from_numpy(values).to(torch.int32), affine, (f"read {Path(path).name}",))


def read_grid(path: Path | str) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine that :func:`read_image` would return, from the header alone."""
    image = _open(Path(path))
    turn, affine = _canonical(image)
    shape = np.array(image.shape[:3])[np.argsort(turn[:, 0])]
    return tuple(shape.tolist()), affine


def read_orientation(path: Path | str) -> str:
    """Axis codes of the file as it is stored, before reorientation: "LAS" runs to Left, Anterior, Superior."""
    return "".join(nib.aff2axcodes(_open(Path(path)).affine))


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


def _open(path: Path) -> nib.spatialimages.SpatialImage:
    require(
        path.is_file(), f"{path}", expected="an image file", found="no such file",
        remedy="Check the path; `nbkit data fetch` downloads the open cohorts.",
    )
    try:
        image = nib.load(path)
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    require(
        len(image.shape) >= 3 and all(n == 1 for n in image.shape[3:]), f"{path}", expected="one 3D image",
        found=f"shape {image.shape}", remedy="Save each time point or channel as its own 3D file.",
    )
    affine_ok = np.isfinite(image.affine).all() and abs(np.linalg.det(image.affine[:3, :3])) > 1e-9
    require(
        any(_codes(image)) and bool(affine_ok), f"{path}", expected="an orientation (sform or qform) in the header",
        found="none" if affine_ok else "an affine that cannot be inverted",
        remedy="Left and right cannot be told apart: convert the scan again from DICOM.",
    )
    return image


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values (X, Y, Z) as contiguous float32, and the affine, in canonical order."""
    image = _open(path)
    try:
        if path.suffix in (".gz", ".mgz"):
            # nibabel stops before the end of a gzip stream, and so never sees a wrong checksum
            image = type(image).from_bytes(gzip.decompress(path.read_bytes()))
        values = np.asarray(image.dataobj, dtype=np.float32)
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    turn, affine = _canonical(image)
    return np.ascontiguousarray(orientations.apply_orientation(values.reshape(image.shape[:3]), turn)), affine


def _canonical(image: nib.spatialimages.SpatialImage) -> tuple[np.ndarray, np.ndarray]:
    """How nibabel turns the axes to RAS, and the affine thereafter."""
    turn = orientations.io_orientation(image.affine)
    return turn, image.affine @ orientations.inv_ornt_aff(turn, image.shape[:3])


def _codes(image: nib.spatialimages.SpatialImage) -> tuple[int, int]:
    """Of sform and qform; other formats have one orientation, which counts as an sform."""
    header = image.header
    return (int(header["sform_code"]), int(header["qform_code"])) if isinstance(image, nib.Nifti1Image) else (1, 0)


def _unreadable(path: Path, error: Exception) -> NbkitError:
    return NbkitError(
        f"{path}", expected="a complete image file", found=f"one that cannot be read ({error})",
        remedy="The file is truncated or damaged: download or convert it again "
        "(`nbkit data verify` checks the open cohorts).",
    )


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
    source, (shape, canonical) = _open(like), read_grid(like)
    check_same_grid(values.shape, affine, shape, canonical, f"{where}: like {like.name}")
    back = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.io_orientation(source.affine))
    return orientations.apply_orientation(values, back), source.affine, _codes(source)
