"""What a file is that holds no image, said by name; and that nothing is unpacked beyond what a header asks for."""

from __future__ import annotations

import gzip
import os
import tracemalloc

import numpy as np
import pytest

from nbkit.core.checks import NbkitError
from nbkit.data import nifti
from nbkit.data.image_bytes import first_bytes, voxel_bytes
from tests.data.test_nifti import FRAMES, values, write

POINTERS = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", r"git lfs pull"),
    "annex": (b"/annex/objects/MD5E-s12345--abc.nii.gz\n", r"datalad get"),
    "annex, unlocked link": (b"../../.git/annex/objects/xk/9z/MD5E-s1--a.nii.gz/MD5E-s1--a.nii.gz", r"datalad get"),
    "login": (b"\n<!DOCTYPE html><html><title>Sign in</title>", r"web page.*log in and download it again"),
    "message": (b'{"error": "not authorised"}', r"message.*log in and download it again"),
    "zip": (b"PK\x03\x04" + bytes(600), r"a zip archive.*Convert it first"),
    "DICOM": (bytes(128) + b"DICM" + bytes(600), r"DICOM.*dcm2niix"),
    "empty": (b"", r"an empty file"),
    "noise": (bytes(range(1, 250)) * 4, r"cannot be read"),
}


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan"])
@pytest.mark.parametrize(("content", "message"), POINTERS.values(), ids=POINTERS)
def test_what_is_no_image_is_told_by_what_it_is(tmp_path, content, message, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NbkitError, match=rf"{name}: expected .*{message}") as caught:
        nifti.read_image(tmp_path / name)
    assert "rename" not in str(caught.value)


def test_a_gzipped_login_page_is_one_too(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"<html>please log in</html>"))
    with pytest.raises(NbkitError, match="log in and download"):
        nifti.read_grid(tmp_path / "a.nii.gz")


def test_names_that_contradict_the_content_ask_for_another_name(tmp_path):
    plain = write(tmp_path / "a.nii", values(), FRAMES["RAS"]).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    with pytest.raises(NbkitError, match=r"b\.nii\.gz.*rename it to b\.nii\."):
        nifti.read_image(tmp_path / "b.nii.gz")
    with pytest.raises(NbkitError, match=r"c\.nii.*rename it to c\.nii\.gz\."):
        nifti.read_image(tmp_path / "c.nii")


@pytest.mark.parametrize("name", ["A.NII.GZ", "A.Nii", "link"])
def test_capitals_and_links_without_an_ending_are_read(tmp_path, name):
    ending = ".nii.gz" if name.endswith("GZ") else ".nii"
    source = write(tmp_path / f"source{ending}", values(), FRAMES["LPS"])
    (tmp_path / name).symlink_to(source)
    np.testing.assert_array_equal(nifti.read_image(tmp_path / name).numpy(), nifti.read_image(source).numpy())


def test_a_link_whose_content_was_never_fetched_is_told_from_a_missing_file(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / ".git" / "annex" / "objects" / "MD5E-s1--x.nii.gz")
    with pytest.raises(NbkitError, match=r"a link to content that is not here.*datalad get a\.nii\.gz"):
        nifti.read_image(tmp_path / "a.nii.gz")
    with pytest.raises(NbkitError, match="found a folder"):
        nifti.read_image(tmp_path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_no_damaged_one(tmp_path):
    path = write(tmp_path / "a.nii", values(), FRAMES["RAS"])
    path.chmod(0)
    with pytest.raises(NbkitError, match="Change its permissions"):
        nifti.read_image(path)


@pytest.mark.parametrize(("name", "asked", "message"), [
    ("a.bin", 2**33, rf"{2**19} bytes where its header asks for {2**33 + 352}"),
    ("a.gz", 2**28, rf"{2**19} bytes where its header asks for {2**28 + 352}"),
    ("a.gz", 2**33, rf"packed bytes, of which at most \d+ come, where its header asks for {2**33 + 352}"),
])
def test_memory_follows_the_file_not_what_is_asked_of_it(tmp_path, name, asked, message):
    """Half a megabyte of noise; a header that asks for 8 GB gets a refusal, not 8 GB."""
    noise = np.random.default_rng(0).bytes(2**19)
    (tmp_path / name).write_bytes(gzip.compress(noise) if name.endswith("gz") else noise)
    tracemalloc.start()
    with pytest.raises(NbkitError, match=message):
        voxel_bytes(tmp_path / name, offset=352, count=asked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


def test_a_small_file_that_unpacks_to_much_is_read_no_further_than_asked(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(2**26)))
    tracemalloc.start()
    assert first_bytes(path, 540) == bytes(540)
    with pytest.raises(NbkitError, match="more bytes than the 1352 that its header asks for"):
        voxel_bytes(path, offset=352, count=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_a_wrong_checksum_at_the_end_of_a_gzip_file_is_seen(tmp_path):
    path = tmp_path / "a.gz"
    content = bytearray(gzip.compress(np.random.default_rng(0).bytes(5000)))
    path.write_bytes(content)
    assert len(voxel_bytes(path, offset=1000, count=4000)) == 4000
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        voxel_bytes(path, offset=1000, count=4000)
