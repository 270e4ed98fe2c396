"""Images and labels through files: orientation, exact labels, and every way a file can be wrong."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import nifti

SHAPE = (4, 5, 6)


def values(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def affine_of(axcodes: str, spacing=(0.9, 1.1, 3.0)) -> np.ndarray:
    turn = nib.orientations.axcodes2ornt(tuple(axcodes))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for voxel, (world, flip) in enumerate(turn):
        affine[int(world), voxel] = flip * spacing[voxel]
    affine[:3, 3] = [10, -20, 30]
    return affine


def oblique(angle: float = 0.3) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    return turn @ affine_of("LPS")


def write(path, array, affine, *, sform=1, qform=1):
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, path)
    return path


FRAMES = {"RAS": affine_of("RAS"), "LAS": affine_of("LAS"), "LPS": affine_of("LPS"), "PIR": affine_of("PIR"),
          "oblique": oblique()}


@pytest.mark.parametrize("frame", FRAMES)
def test_every_voxel_keeps_its_place_in_the_world(tmp_path, frame):
    source, affine = values(), FRAMES[frame]
    volume = nifti.read_image(write(tmp_path / "a.nii.gz", source, affine))
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert volume.data.dtype == torch.float32
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    back = np.linalg.inv(volume.affine)
    there = np.rint(world @ back[:3, :3].T + back[:3, 3]).astype(int)
    np.testing.assert_array_equal(volume.numpy()[tuple(there.T)], source[tuple(index.T)])
    shape, grid = nifti.read_grid(tmp_path / "a.nii.gz")
    assert shape == volume.shape
    np.testing.assert_allclose(grid, volume.affine)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (4, 0)])
def test_saving_like_the_source_gives_back_its_array_affine_and_codes(tmp_path, frame, codes):
    source = write(tmp_path / "a.nii.gz", values(), FRAMES[frame], sform=codes[0], qform=codes[1])
    nifti.save_image(tmp_path / "b.nii.gz", nifti.read_image(source), like=source)
    a, b = nib.load(source), nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(b.dataobj), np.asarray(a.dataobj))
    np.testing.assert_allclose(b.affine, a.affine, atol=1e-5)
    assert (int(b.header["sform_code"]), int(b.header["qform_code"])) == codes
    assert b.header.get_xyzt_units()[0] == "mm"
    assert b.header.get_data_dtype() == np.float32


@settings(max_examples=25, deadline=None)
@given(low=st.sampled_from([0, -40]), high=st.sampled_from([1, 60, 255, 256, 32767]), seed=st.integers(0, 99))
def test_labels_come_back_exactly_without_scaling(tmp_path_factory, low, high, seed):
    path = tmp_path_factory.mktemp("labels") / "l.nii.gz"
    labels = np.random.default_rng(seed).integers(low, high + 1, SHAPE)
    labels[0, 0, :2] = low, high
    nifti.save_labels(path, Volume(torch.from_numpy(labels), FRAMES["RAS"]))
    header = nib.load(path).header
    assert header.get_data_dtype() == (np.uint8 if low >= 0 and high < 256 else np.int16)
    assert header.get_slope_inter() == (None, None)
    again = nifti.read_labels(path)
    assert again.data.dtype == torch.int32
    np.testing.assert_array_equal(again.numpy(), labels)


def test_boolean_and_empty_masks_are_labels(tmp_path):
    for mask in (torch.ones(SHAPE, dtype=torch.bool), torch.zeros(SHAPE, dtype=torch.bool)):
        path = nifti.save_labels(tmp_path / "m.nii", Volume(mask))
        assert torch.equal(nifti.read_labels(path).data[0].bool(), mask)


def test_labels_saved_the_usual_way_are_refused(tmp_path):
    labels = np.random.default_rng(0).integers(0, 60, (8, 8, 8))
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(labels.astype(float) + 0.25, np.eye(4), header), tmp_path / "bad.nii.gz")
    with pytest.raises(NbkitError, match=r"bad\.nii\.gz: expected whole label numbers.*nearest neighbour"):
        nifti.read_labels(tmp_path / "bad.nii.gz")


def nan_file(path):
    array = values()
    array[1, 2, 3] = np.nan
    return write(path, array, np.eye(4))


def truncated_file(path):
    write(path, values((30, 30, 30)), np.eye(4))
    path.write_bytes(path.read_bytes()[:20_000])
    return path


def corrupt_file(path):
    write(path, values((30, 30, 30)), np.eye(4))
    content = bytearray(path.read_bytes())
    content[5000:5200] = bytes(200)
    path.write_bytes(content)
    return path


def text_file(path):
    path.write_text("<html>404</html>")
    return path


BAD = {
    "NaN": (nan_file, "1 NaN or infinite"),
    "constant": (lambda p: write(p, np.full(SHAPE, 3.0, np.float32), np.eye(4)), "constant image"),
    "truncated": (truncated_file, "cannot be read.*truncated or damaged"),
    "corrupt": (corrupt_file, "cannot be read.*truncated or damaged"),
    "text": (text_file, "cannot be read"),
    "4D": (lambda p: write(p, values((*SHAPE, 2)), np.eye(4)), "expected one 3D image"),
    "unoriented": (lambda p: write(p, values(), np.eye(4), sform=0, qform=0), "Left and right"),
    "missing": (lambda p: p, "no such file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_by_name_with_a_remedy(tmp_path, kind):
    make, message = BAD[kind]
    path = make(tmp_path / "scan.nii.gz")
    with pytest.raises(NbkitError, match=rf"scan\.nii\.gz.*{message}"):
        nifti.read_image(path)


def test_a_trailing_axis_of_one_is_no_fourth_dimension(tmp_path):
    path = write(tmp_path / "a.nii.gz", values((*SHAPE, 1)), np.eye(4))
    assert nifti.read_image(path).shape == SHAPE


@pytest.mark.parametrize(
    ("volume", "name", "message"),
    [
        (Volume(torch.rand(2, *SHAPE)), "a.nii.gz", "one channel"),
        (Volume(torch.full(SHAPE, torch.nan)), "a.nii.gz", "finite values to save"),
        (Volume(torch.rand(SHAPE)), "a.mgz", "ending in .nii"),
    ],
)
def test_images_that_cannot_be_saved_leave_what_is_there(tmp_path, volume, name, message):
    (tmp_path / name).write_bytes(b"kept")
    with pytest.raises(NbkitError, match=message):
        nifti.save_image(tmp_path / name, volume)
    assert (tmp_path / name).read_bytes() == b"kept"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_label_values_and_fractions_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(NbkitError, match="whole label numbers"):
        nifti.save_labels(tmp_path / "l.nii.gz", Volume(torch.rand(SHAPE)))
    with pytest.raises(NbkitError, match="labels from -32768 to 32767"):
        nifti.save_labels(tmp_path / "l.nii.gz", Volume(torch.full(SHAPE, 40_000)))


def test_saving_like_a_file_on_another_grid_is_refused(tmp_path):
    source = write(tmp_path / "a.nii.gz", values(), FRAMES["LPS"])
    volume = nifti.read_image(source)
    moved = Volume(volume.data, volume.affine + np.eye(4) * 0.5)
    with pytest.raises(NbkitError, match=r"like a\.nii\.gz.*the same affine"):
        nifti.save_image(tmp_path / "b.nii.gz", moved, like=source)
    with pytest.raises(NbkitError, match="the same shape"):
        nifti.save_image(tmp_path / "b.nii.gz", Volume(torch.rand(3, 3, 3), volume.affine), like=source)


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(NbkitError, match="a folder that can be written to"):
        nifti.save_image(tmp_path / "file" / "a.nii.gz", Volume(torch.rand(SHAPE)))
