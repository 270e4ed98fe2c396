"""Headers of strangers: right values and places, or a refusal by file, field and remedy."""

from __future__ import annotations

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.data import nifti
from tests.data.test_nifti import FRAMES, SHAPE, affine_of, values, write

FIELDS = {name: (kind, offset) for name, kind, offset in (
    ("dim", "8h", 40), ("datatype", "h", 70), ("pixdim", "8f", 76), ("vox_offset", "f", 108), ("scl_slope", "f", 112),
    ("scl_inter", "f", 116), ("xyzt_units", "B", 123), ("qform_code", "h", 252), ("sform_code", "h", 254),
    ("quatern", "3f", 256), ("srow_x", "4f", 280), ("magic", "4s", 344),
)}
COUNTS = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def patched(path, array=COUNTS, affine=FRAMES["LAS"], **fields):
    """A small NIfTI-1 file with some fields of its header overwritten, little-endian."""
    content = bytearray(write(path, array, affine).read_bytes())
    for name, value in fields.items():
        kind, offset = FIELDS[name]
        struct.pack_into(f"<{kind}", content, offset, *(value if isinstance(value, tuple) else (value,)))
    path.write_bytes(content)
    return path


SCALES = {
    "none": (1.0, 0.0, 1, 0), "slope and intercept": (0.25, -3.0, 0.25, -3), "negative": (-2.0, 10.0, -2, 10),
    "0 is none": (0.0, 7.0, 1, 0), "NaN is none": (np.nan, np.nan, 1, 0), "NaN slope": (np.nan, 5.0, 1, 0),
}


@pytest.mark.parametrize(("slope", "inter", "times", "plus"), SCALES.values(), ids=SCALES)
def test_scaling_is_that_of_the_standard(tmp_path, slope, inter, times, plus):
    path = patched(tmp_path / "a.nii", affine=FRAMES["RAS"], scl_slope=slope, scl_inter=inter)
    np.testing.assert_allclose(nifti.read_image(path).numpy(), times * COUNTS + plus, rtol=1e-6)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("family", [nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair])
def test_every_type_byte_order_and_version_gives_the_same_voxels(tmp_path, kind, order, family):
    header = family.header_class(endianness=order)
    header.set_data_dtype(np.dtype(kind))
    image = family((COUNTS - 20 * (kind[0] != "u")).astype(kind), FRAMES["LPS"], header)
    name = "a.img" if family is nib.Nifti1Pair else "a.nii"
    nib.save(image, tmp_path / name)
    assert nib.load(tmp_path / name).header.endianness == order
    volume = nifti.read_image(tmp_path / name)
    np.testing.assert_array_equal(volume.numpy()[::-1, ::-1], np.asarray(image.dataobj, np.float32))
    np.testing.assert_allclose(volume.affine, nib.as_closest_canonical(image).affine, atol=1e-5)


@pytest.mark.parametrize("given", ["img", "hdr"])
@pytest.mark.parametrize("packed", [(), ("img",), ("img", "hdr")])
def test_pairs_are_read_from_either_name_gzipped_or_not(tmp_path, given, packed):
    nib.save(nib.Nifti1Pair(COUNTS, FRAMES["RAS"]), tmp_path / "a.img")
    for ending in packed:
        old = tmp_path / f"a.{ending}"
        old.with_name(f"a.{ending}.gz").write_bytes(gzip.compress(old.read_bytes()))
        old.unlink()
    path = tmp_path / (f"a.{given}.gz" if given in packed else f"a.{given}")
    np.testing.assert_array_equal(nifti.read_image(path).numpy(), COUNTS)
    for other in tmp_path.glob("a.*"):
        if other != path:
            other.unlink()
    with pytest.raises(NbkitError, match=r"expected a pair of \.hdr and \.img"):
        nifti.read_image(path)


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
def test_freesurfers_images_are_read_where_they_have_an_orientation(tmp_path, name):
    nib.save(nib.MGHImage(values(), FRAMES["oblique"]), tmp_path / name)
    source = nib.as_closest_canonical(nib.load(tmp_path / name))
    volume = nifti.read_image(tmp_path / name)
    np.testing.assert_array_equal(volume.numpy(), np.asarray(source.dataobj))
    np.testing.assert_allclose(volume.affine, source.affine, atol=1e-4)
    content = bytearray(nib.load(tmp_path / name).to_bytes())
    content[28:30] = bytes(2)
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.mgz" else content)
    with pytest.raises(NbkitError, match=rf"{name}: goodRASFlag: expected an orientation.*Left and right"):
        nifti.read_image(tmp_path / name)


def test_analyze_pairs_have_no_orientation(tmp_path):
    nib.save(nib.AnalyzeImage(COUNTS, np.diag([-2.0, 2, 2, 1])), tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        with pytest.raises(NbkitError, match=r"Analyze 7\.5.*Left and right cannot be told apart"):
            nifti.read_image(tmp_path / name)


def kind_of(dtype):
    return lambda path: write(path, np.ones(SHAPE, dtype), FRAMES["RAS"])


REFUSED = {
    "complex64": (kind_of(np.complex64), r"a\.nii: datatype.*complex numbers.*Save the magnitude"),
    "complex128": (kind_of(np.complex128), r"datatype.*complex numbers.*Save the magnitude"),
    "RGB": (kind_of([("R", "u1"), ("G", "u1"), ("B", "u1")]), r"datatype.*colours \(RGB\).*grey image"),
    "RGBA": (kind_of([(c, "u1") for c in "RGBA"]), r"datatype.*colours"),
    "float128": (lambda p: patched(p, datatype=1536), r"datatype.*float128.*float32"),
    "unknown type": (lambda p: patched(p, datatype=77), r"datatype.*the unknown code 77"),
    "no type": (lambda p: patched(p, datatype=0), r"datatype.*the unknown code 0"),
    "vox_offset 0": (lambda p: patched(p, vox_offset=0), r"vox_offset: expected 352 or more, found 0"),
    "vox_offset 100": (lambda p: patched(p, vox_offset=100), r"vox_offset|vox offset"),
    "vox_offset NaN": (lambda p: patched(p, vox_offset=np.nan), r"vox_offset|cannot be read"),
    "vox_offset far": (lambda p: patched(p, vox_offset=1e9), r"bytes where its header asks for"),
    "scl_inter NaN": (lambda p: patched(p, scl_slope=2, scl_inter=np.nan), r"scl_inter: expected a finite.*found nan"),
    "scl_inter infinite": (lambda p: patched(p, scl_slope=2, scl_inter=np.inf), r"scl_inter: .*found inf"),
    "dim huge": (lambda p: patched(p, dim=(3, 32767, 32767, 32767, 1, 1, 1, 1)), r"dim: expected at most 1073741824"),
    "dim large": (lambda p: patched(p, dim=(3, 900, 900, 900, 1, 1, 1, 1)), r"bytes where its header asks for 145800"),
    "dim small": (lambda p: patched(p, dim=(3, 4, 5, 3, 1, 1, 1, 1)), r"more bytes than the 472 that its header asks"),
    "dim negative": (lambda p: patched(p, dim=(3, -4, 5, 6, 1, 1, 1, 1)), r"dim: expected sizes above 0"),
    "dim zero": (lambda p: patched(p, dim=(3, 4, 0, 6, 1, 1, 1, 1)), r"dim: expected sizes above 0"),
    "4D": (lambda p: write(p, values((*SHAPE, 2)), FRAMES["RAS"]), r"one 3D image, found shape \(4, 5, 6, 2\)"),
    "2D": (lambda p: write(p, values((4, 5)), FRAMES["RAS"]), r"one 3D image, found shape \(4, 5\)"),
    "half": (lambda p: p.write_bytes(write(p, COUNTS, np.eye(4)).read_bytes()[:400]) and p, r"400 bytes where .* 592"),
    "half a header": (lambda p: p.write_bytes(write(p, COUNTS, np.eye(4)).read_bytes()[:200]) and p, r"truncated"),
    "srow NaN": (lambda p: patched(p, srow_x=(np.nan, 0, 0, 0)), r"a\.nii"),
    "flat": (lambda p: patched(p, srow_x=(0, 0, 0, 0)), r"cannot be inverted|voxel size|left and right"),
    "quaternion": (lambda p: patched(p, quatern=(3, 3, 3)), r"cannot be read"),
    "unit": (lambda p: patched(p, xyzt_units=5), r"xyzt_units.*unknown code 5"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_headers_that_cannot_be_trusted_are_refused_by_field(tmp_path, make, message):
    path = make(tmp_path / "a.nii")
    with pytest.raises(NbkitError, match=message) as caught:
        nifti.read_image(path)
    assert str(path) in str(caught.value) and len(caught.value.remedy) > 10


@pytest.mark.parametrize(("unit", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (2 + 8, 1)])
def test_world_coordinates_are_millimetres_whatever_the_unit(tmp_path, unit, factor):
    path = patched(tmp_path / "a.nii", affine=affine_of("RAS", (1, 1, 1)), xyzt_units=unit)
    assert nifti.read_image(path).spacing == pytest.approx((factor,) * 3)


def forms(path, sform, qform, *, pixdim=None, shape=SHAPE):
    image = nib.Nifti1Image(values(shape), sform)
    image.set_qform(qform, 1)
    image.set_sform(sform, 1, update_affine=False)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    if pixdim:
        struct.pack_into("<3f", content, 80, *pixdim)
        struct.pack_into("<h", content, 252, 0)
    path.write_bytes(content)
    return path


RAS, LAS, LPS = (affine_of(frame, (1, 1, 1)) for frame in ("RAS", "LAS", "LPS"))
TORN = {
    "mirrored": (RAS, LAS, r"left and right on the same side, found RAS by the sform and LAS by the qform"),
    "turned about": (RAS, LPS, r"left and right on the same side, found RAS by the sform and LPS by the qform"),
    "sizes": (RAS, RAS @ np.diag([1.6, 1.6, 1.6, 1]),
              r"one voxel size, found 1×1×1 mm by the sform and 1\.6×1\.6×1\.6 mm"),
    "one size by 1.1 %": (RAS, RAS @ np.diag([1, 1, 1.011, 1]), r"one voxel size.*1×1×1\.011 mm"),
}


@pytest.mark.parametrize(("sform", "qform", "message"), TORN.values(), ids=TORN)
def test_sform_and_qform_of_other_hand_or_size_are_refused_with_both(tmp_path, sform, qform, message):
    path = forms(tmp_path / "a.nii.gz", sform, qform)
    for read in (nifti.read_image, nifti.read_labels, nifti.read_grid):
        with pytest.raises(NbkitError, match=rf"a\.nii\.gz: sform and qform: expected {message}"):
            read(path)


def test_pixdim_counts_without_a_qform_unless_nobody_set_it(tmp_path):
    with pytest.raises(NbkitError, match="one voxel size, found 1×1×1 mm by the sform and 1.6×1.6×1.6 mm"):
        nifti.read_image(forms(tmp_path / "a.nii", RAS, RAS, pixdim=(1.6, 1.6, 1.6)))
    sform = RAS @ np.diag([1.6, 1.6, 1.6, 1])
    for unset in (0.0, 1.0):
        path = forms(tmp_path / "b.nii", sform, sform, pixdim=(unset,) * 3)
        assert nifti.read_image(path).spacing == pytest.approx((1.6,) * 3)


def test_a_small_quarrel_is_told_with_both_and_the_sform_is_used(tmp_path, caplog):
    moved = RAS.copy()
    moved[:3, 3] += (0, 4, 3)
    path = forms(tmp_path / "a.nii", RAS, moved)
    np.testing.assert_allclose(nifti.read_image(path).affine, RAS)
    assert "corners up to 5 mm apart" in caplog.text and "the sform is used" in caplog.text
    assert "RAS by the sform and RAS by the qform" in str(nifti.header_doubt(path))
    almost = RAS @ np.diag([1, 1, 1.009, 1])
    assert "1×1×1.009 mm" in str(nifti.header_doubt(forms(tmp_path / "b.nii", RAS, almost, shape=(9, 9, 40))))
    assert nifti.header_doubt(write(tmp_path / "c.nii", values(), FRAMES["oblique"])) is None


@pytest.mark.parametrize("stored", ["RAS", "ARS", "LAS", "ALS", "SRA"])
@pytest.mark.parametrize("wobble", [0.0, 1e-6, -1e-6, 3e-3, -3e-3])
def test_a_head_at_45_degrees_is_turned_alike_however_it_is_stored_and_rounded(tmp_path, stored, wobble):
    """Nearest axes are tied at 45 degrees: a mask and its image must get the same ones."""
    frame, c = affine_of("RAS", (1, 1, 1)), np.sqrt(0.5)
    about_z = np.eye(4)
    about_z[:2, :2] = [[c + wobble, -c + wobble], [c - wobble, c + wobble]]
    source = nib.Nifti1Image(values((5, 5, 5)), about_z @ frame)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(stored))
    image = source.as_reoriented(turn)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(values((5, 5, 5)), np.round(about_z, 12) @ frame), tmp_path / "plain.nii")
    volume, plain = nifti.read_image(tmp_path / "a.nii"), nifti.read_image(tmp_path / "plain.nii")
    np.testing.assert_allclose(volume.affine, plain.affine, atol=1e-2)
    np.testing.assert_array_equal(volume.numpy(), plain.numpy())
    assert nifti.read_grid(tmp_path / "a.nii")[0] == volume.shape


@settings(max_examples=60, deadline=None)
@given(angles=st.tuples(*[st.floats(-0.6, 0.6)] * 3), stored=st.sampled_from(["RAS", "LPS", "PIR", "ASL"]))
def test_away_from_ties_axes_are_turned_as_nibabel_does(tmp_path_factory, angles, stored):
    turn = nib.affines.from_matvec(nib.eulerangles.euler2mat(*angles), (1, 2, 3))
    image = nib.Nifti1Image(values(), turn @ affine_of(stored, (1, 1, 1)))
    path = tmp_path_factory.mktemp("turned") / "a.nii"
    nib.save(image, path)
    theirs, ours = nib.as_closest_canonical(image), nifti.read_image(path)
    if np.sort(np.abs(theirs.affine[:3, :3]), axis=0)[-1].min() > 0.75:
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
        np.testing.assert_array_equal(ours.numpy(), np.asarray(theirs.dataobj))
