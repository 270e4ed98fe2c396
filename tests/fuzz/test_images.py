"""Images: a refusal by file, or an image with the sizes and place of its header, in memory that the file bounds."""

from __future__ import annotations

import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from nbkit.data import nifti
from nbkit.data.image_bytes import PACKING
from tests.data.test_nifti import FRAMES, SHAPE
from tests.fuzz.damage import Door

SPARE = 40_000_000
"""Bytes that reading takes whatever the file: what is read at once, twice."""
TIMES = 16
"""Bytes of memory per byte of the unpacked file at most: uint8 that a slope makes float64, and float32 of that."""


def _whole(kind: type, dtype: type, slope: float | None = None) -> bytes:
    image = kind(np.arange(1, 1 + np.prod(SHAPE)).reshape(SHAPE).astype(dtype), FRAMES["LAS"])
    if slope:
        image.header.set_slope_inter(slope, 3.0)
    return image.to_bytes()


ONE, TWO, MGH = nib.Nifti1Image, nib.Nifti2Image, nib.MGHImage
PLAIN = {
    "a.nii": [_whole(ONE, np.int16), _whole(ONE, np.uint8, 0.5), _whole(ONE, np.float32), _whole(TWO, np.float64)],
    "a.mgh": [_whole(MGH, np.float32), _whole(MGH, np.uint8)],
}
FILES = [(name, raw, None) for name, raws in PLAIN.items() for raw in raws]
FILES += [(name.replace(".mgh", ".mgz").replace(".nii", ".nii.gz"), raw, gzip.compress) for name, raw, _ in FILES]
FILES += [(name, gzip.compress(raw), None) for name, raw, pack in FILES if pack]


@pytest.mark.slow
def test_images(tmp_path):
    door = Door("images", [raw for _, raw, _ in FILES])
    for number, (which, raw) in enumerate(door):
        name, _, pack = FILES[which]
        path = tmp_path / name
        path.write_bytes(pack(raw, 1) if pack else raw)
        measured = number % 8 == 0
        if measured:
            tracemalloc.start()
        door.tries(which, raw, lambda path=path: _look(path))
        if measured:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            packed = path.read_bytes()[:2] == b"\x1f\x8b"
            assert peak < SPARE + TIMES * path.stat().st_size * (PACKING if packed else 1), (name, number)
    door.close()


def _look(path) -> None:
    shape, affine = nifti.read_grid(path)
    nifti.header_doubt(path)
    assert len(nifti.read_orientation(path)) == 3
    volume = nifti.read_image(path)
    assert volume.shape == shape and bool(volume.data.isfinite().all())
    np.testing.assert_array_equal(volume.affine, affine)
    head = gzip.open(path).read(600) if path.read_bytes()[:2] == b"\x1f\x8b" else path.read_bytes()[:600]
    kind = MGH if head[:4] == b"\0\0\0\1" else TWO if b"n+2" in head[4:8] else ONE
    told = kind.header_class(head[: {MGH: 284, TWO: 540, ONE: 348}[kind]], check=False).get_data_shape()
    assert sorted(volume.shape) == sorted(int(n) for n in told[:3])
    labels = nifti.read_labels(path)
    assert labels.shape == shape and np.array_equal(labels.data.numpy(), volume.data.numpy())


@pytest.mark.slow
def test_pairs(tmp_path):
    image = nib.Nifti1Pair(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), FRAMES["RAS"])
    nib.save(image, tmp_path / "a.img")
    good = [tmp_path / name for name in ("a.hdr", "a.img")]
    door = Door("pairs", [file.read_bytes() for file in good], share=4)
    for which, raw in door:
        good[which].write_bytes(raw)
        door.tries(which, raw, lambda which=which: [_agree(file) for file in good])
        good[which].write_bytes(door.wholes[which])
    door.close()


def _agree(path) -> None:
    shape, affine = nifti.read_grid(path)
    volume = nifti.read_image(path)
    assert volume.shape == shape and np.array_equal(volume.affine, affine) and bool(volume.data.isfinite().all())
