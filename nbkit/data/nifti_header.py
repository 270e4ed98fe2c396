"""What the headers of image files say: sizes, types, scaling, and one affine or a refusal by field."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import orientations

from nbkit.core.checks import NbkitError, require
from nbkit.data.image_bytes import damaged, first_bytes, present, readable

_silent = logging.Logger("nibabel header", logging.CRITICAL + 1)

_NUMBERS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""NIfTI's codes of data types that hold one number a voxel."""
_NO_NUMBERS = {
    **dict.fromkeys((32, 1792, 2048), ("complex numbers", "Save the magnitude as an image of its own.")),
    **dict.fromkeys((128, 2304), ("colours (RGB)", "Give the grey image that the coloured one was made from.")),
    1536: ("float128", "Save it as float32."),
}
_MAGIC = {b"n+1\0": nib.Nifti1Header, b"ni1\0": nib.Nifti1Header, b"n+2\0": nib.Nifti2Header,
          b"ni2\0": nib.Nifti2Header}
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Millimetres in NIfTI's units of space: unknown, metre, millimetre, micron."""
_VOXELS = 2**30
"""Most voxels of an image, 1024 × 1024 × 1024: 4 GB as float32."""
_VOXEL_MM, _FLAT, _FAR_MM = (1e-3, 1e3), 0.1, 1e6
"""Bounds of what an affine can be: voxel sizes, volume of the three unit axes, distance of the first voxel."""
_SIZE_GAP, _PLACE_GAP_MM = 0.01, 0.1
"""Of sform and qform: voxel sizes that differ by more are refused; corners that lie farther apart are told."""
_TIE = 0.05
"""Sums of three cosines that differ by less are equal: an axis at 45° has two names, and rounding must not choose."""


@dataclass(frozen=True)
class Layout:
    """What a header says, in the file's own axis order.

    Parameters
    ----------
    file : Path
        That holds the voxels.
    shape : tuple of int
        (X, Y, Z).
    kind : numpy.dtype
        Of a stored voxel.
    offset : int
        Bytes before the first voxel.
    scale : tuple
        Slope and intercept; None for no scaling.
    affine : numpy.ndarray
        4×4, voxel to world, mm.
    codes : tuple of int
        Of sform and qform.
    exact : bool
        Whether nothing may follow the voxels.
    doubt : NbkitError or None
        What is odd, though the image is read.
    """

    file: Path
    shape: tuple[int, ...]
    kind: np.dtype
    offset: int
    scale: tuple[float | None, float | None]
    affine: np.ndarray
    codes: tuple[int, int]
    exact: bool
    doubt: NbkitError | None = None

    @property
    def count(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def canonical(self) -> tuple[np.ndarray, np.ndarray]:
        """How nibabel turns the axes to RAS, and the affine thereafter."""
        turn = closest_turn(self.affine)
        return turn, self.affine @ orientations.inv_ornt_aff(turn, self.shape)


def read_layout(path: Path) -> Layout:
    """The layout of the image in `path`, from its header alone.

    Raises
    ------
    NbkitError
        By file and field, for whatever keeps the file from being one 3D image of real numbers with a place in the
        world.
    """
    with readable(path), np.errstate(all="ignore"):
        header_file, data_file = _pair(path)
        block = bytes(first_bytes(header_file, 540))
        magic = next((m for m in (block[344:348], block[4:8]) if m in _MAGIC), None)
        if magic is not None:
            return _nifti_layout(path, data_file, block, _MAGIC[magic])
        if block[:4] == b"\0\0\0\1":
            return _mgh_layout(path, block)
        if len(block) < 348:
            raise damaged(path, f"{len(block)} bytes, which cannot be read: a header has more")
        require(
            {348, 540}.isdisjoint(int.from_bytes(block[:4], order) for order in ("little", "big")), f"{path}",
            expected="an orientation (sform or qform) in the header", found="Analyze 7.5, which has none",
            remedy="Left and right cannot be told apart: convert the scan again from DICOM, to NIfTI.",
        )
        raise damaged(path, "one that cannot be read: it begins as no NIfTI or FreeSurfer image does")


def files_of(path: Path) -> tuple[Path, ...]:
    """The file, and of a pair ``.hdr`` and ``.img`` the other one too: whatever an image's content lies in."""
    try:
        return tuple(dict.fromkeys(_pair(path)))
    except (NbkitError, OSError):  # whoever reads it says what is missing
        return (path,)


def _pair(path: Path) -> tuple[Path, Path]:
    """Files of the header and of the voxels; two for ``.hdr`` and ``.img``, be they gzipped or not."""
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith((".hdr", ".img")):
        return path, path
    beside = {p.name.lower().removesuffix(".gz"): p for p in sorted(present(path).parent.iterdir())} | {name: path}
    found = {ending: beside[name[:-4] + ending] for ending in (".hdr", ".img") if name[:-4] + ending in beside}
    require(
        len(found) == 2, f"{path}", expected="a pair of .hdr and .img", found="one of the two",
        remedy="Bring the other file beside it.",
    )
    return found[".hdr"], found[".img"]


def _nifti_layout(path: Path, data_file: Path, block: bytes, kind: type) -> Layout:
    header = kind(block[: kind.sizeof_hdr], check=False)
    shape = _three(path, tuple(int(n) for n in header.get_data_shape()))
    code = int(header["datatype"])
    what, remedy = _NO_NUMBERS.get(code, (f"the unknown code {code}", "The header is damaged: convert it again."))
    require(
        code in _NUMBERS, f"{path}: datatype", expected="one number a voxel: integers, float32 or float64", found=what,
        remedy=remedy,
    )
    header.check_fix(logger=_silent, error_level=40)
    offset = float(header["vox_offset"])
    least = 0 if data_file != path or path.name.lower().removesuffix(".gz").endswith(".img") else kind.single_vox_offset
    require(
        least <= offset < 2**31, f"{path}: vox_offset", expected=f"{least} or more", found=f"{offset:g}",
        remedy="The header does not say where the voxels begin: convert the scan again (dcm2niix).",
    )
    slope, inter = (float(header[name]) for name in ("scl_slope", "scl_inter"))
    scaled = slope != 0 and np.isfinite(slope)
    require(
        not scaled or bool(np.isfinite(inter)), f"{path}: scl_inter", expected="a finite number beside the scl_slope "
        f"{slope:g}", found=f"{inter:g}", remedy="The intensities cannot be known: convert the scan again.",
    )
    affine, codes, doubt = _nifti_affine(path, header, shape)
    dtype = np.dtype(_NUMBERS[code]).newbyteorder(header.endianness)
    return Layout(
        data_file, shape, dtype, int(offset),
        (slope, inter) if scaled else (None, None), affine, codes, True, doubt,
    )


def _nifti_affine(
    path: Path, header: nib.Nifti1Header, shape: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[int, int], NbkitError | None]:
    """The affine in mm, that of the sform if it has one; and its quarrel with qform and pixdim, if it is small."""
    codes = int(header["sform_code"]), int(header["qform_code"])
    require(
        any(codes), f"{path}", expected="an orientation (sform or qform) in the header", found="none",
        remedy="Left and right cannot be told apart: convert the scan again from DICOM.",
    )
    unit = int(header["xyzt_units"]) % 8
    require(
        unit in _UNITS_MM, f"{path}: xyzt_units", expected="millimetres", found=f"the unknown code {unit}",
        remedy="The header is damaged: convert the scan again.",
    )
    scale = np.diag([_UNITS_MM[unit]] * 3 + [1.0])
    sform, qform = (None if form is None else _sound(path, scale @ form) for form in (
        header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]))
    if sform is None:
        return qform, codes, None
    sizes = np.abs(np.array(header["pixdim"][1:4], dtype=float)) * _UNITS_MM[unit]
    return sform, codes, _quarrel(path, sform, qform, sizes, shape)


def _quarrel(
    path: Path, sform: np.ndarray, qform: np.ndarray | None, sizes: np.ndarray, shape: tuple[int, ...]
) -> NbkitError | None:
    """Refuse other voxel sizes, and left for right, in sform and qform; a smaller difference comes back in words."""
    by_sform = np.linalg.norm(sform[:3, :3], axis=0)
    unset = qform is None and len(set(sizes.tolist())) == 1 and sizes[0] in (0.0, 1.0)
    gap = 0.0 if unset else float(np.abs(sizes / by_sform - 1).max())
    told = " and ".join("×".join(f"{s:.4g}" for s in each) + f" mm by {name}" for each, name in (
        (by_sform, "the sform"), (sizes, "pixdim and the qform")))
    where, remedy = f"{path}: sform and qform", "Find out which one is right, and convert the scan again from DICOM."
    require(gap <= _SIZE_GAP, where, expected="one voxel size", found=told, remedy=f"Volumes hang on it. {remedy}")
    if qform is None:
        return None
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    swapped = (sform[0, :3] / by_sform) @ (qform[0, :3] / np.linalg.norm(qform[:3, :3], axis=0)) < 0
    codes = " and ".join(f"{''.join(nib.aff2axcodes(form))} by the {name}" for form, name in (
        (sform, "sform"), (qform, "qform")))
    require(
        not mirrored and not swapped, where, expected="left and right on the same side", found=codes, remedy=remedy)
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])])
    apart = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max())
    if apart <= _PLACE_GAP_MM:
        return None
    return NbkitError(
        where, expected="one place in the world", found=f"corners up to {apart:.3g} mm apart ({codes}; {told}); the "
        "sform is used", remedy="Nothing to do if the sform was made on purpose, by a registration.",
    )


def _mgh_layout(path: Path, block: bytes) -> Layout:
    header = nib.freesurfer.mghformat.MGHHeader(block[:284], check=False)
    require(
        int.from_bytes(block[28:30], "big") == 1, f"{path}: goodRASFlag", expected="an orientation in the header",
        found="none", remedy="Left and right cannot be told apart: convert the scan again from DICOM.",
    )
    code, kinds = int(header["type"]), {0: "u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
    require(
        code in kinds, f"{path}: type", expected="one number a voxel", found=f"the code {code}",
        remedy="Convert it to NIfTI (mri_convert).",
    )
    shape = _three(path, tuple(int(n) for n in header["dims"]))
    affine = _sound(path, header.get_affine().astype(float))
    return Layout(path, shape, np.dtype(kinds[code]), 284, (None, None), affine, (1, 0), False)


def _three(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The sizes of one 3D image that memory can hold."""
    require(
        len(shape) >= 3 and all(n == 1 for n in shape[3:]), f"{path}", expected="one 3D image",
        found=f"shape {shape}", remedy="Save each time point or channel as its own 3D file.",
    )
    require(
        min(shape) > 0, f"{path}: dim", expected="sizes above 0", found=f"shape {shape}",
        remedy="The header is damaged: convert the scan again.",
    )
    require(
        shape[0] * shape[1] * shape[2] <= _VOXELS, f"{path}: dim", expected=f"at most {_VOXELS} voxels",
        found=f"shape {shape[:3]}", remedy="If the header is right, cut the image to the head or average voxels.",
    )
    return shape[:3]


def _sound(path: Path, affine: np.ndarray) -> np.ndarray:
    """An affine that an image can have."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    good = np.isfinite(affine).all() and _VOXEL_MM[0] <= sizes.min() <= sizes.max() <= _VOXEL_MM[1]
    good = good and np.abs(affine[:3, 3]).max() < _FAR_MM
    require(
        bool(good) and abs(np.linalg.det(affine[:3, :3] / sizes)) > _FLAT, f"{path}: affine",
        expected=f"three axes, voxels of {_VOXEL_MM[0]:g} to {_VOXEL_MM[1]:g} mm",
        found=f"an affine that cannot be inverted or trusted, {np.array2string(affine[:3], precision=3)}",
        remedy="The header is damaged: convert the scan again from DICOM.",
    )
    return affine


def closest_turn(affine: np.ndarray) -> np.ndarray:
    """As ``nibabel.io_orientation``, but two files on one grid are turned alike, however they are stored and rounded.

    Of the six ways to name the axes the one that turns least; of several, as for a head at 45°, the one of greatest
    sense of rotation, a property of the world that neither storage nor rounding can change.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    ways = []
    for voxel_axes in permutations(range(3)):  # voxel_axes[w] runs along world axis w
        turned = cosines[:, voxel_axes]
        signs = np.where(np.diag(turned) < 0, -1.0, 1.0)
        turned = turned * signs
        sense = turned[1, 0] - turned[0, 1], turned[0, 2] - turned[2, 0], turned[2, 1] - turned[1, 2]
        ways.append((float(np.trace(turned)), sense, voxel_axes, signs))
    most = max(way[0] for way in ways)
    _, _, voxel_axes, signs = max((way for way in ways if way[0] > most - _TIE), key=lambda way: way[1])
    turn = np.empty((3, 2))
    turn[list(voxel_axes)] = np.column_stack([range(3), signs])
    return turn
