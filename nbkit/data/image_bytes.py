"""The bytes of image files, never more than a header asks for; and what a file is that holds no image."""

from __future__ import annotations

import gzip
import io
import os
from contextlib import contextmanager
from pathlib import Path

from nbkit.core.checks import NbkitError, require

_GZIP = b"\x1f\x8b"
_CHUNK = 2**24
PACKING = 1032
"""Most bytes that deflate makes one of (zlib's technical details)."""
_SPARE = 0.01
"""Share of the voxels' bytes that may follow them, as padding."""
_FORMATS = {
    b"PK\x03\x04": "a zip archive", b"BZh": "a bzip2 archive", b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive", b"NRRD": "an NRRD image", b"CDF\x01": "a MINC image",
    b"\x89HDF": "an HDF5 or MINC file", b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture",
}
_SIZES = {(n).to_bytes(4, order) for n in (348, 540) for order in ("little", "big")} | {b"\0\0\0\1"}
"""How NIfTI and FreeSurfer's images begin."""
_GET_AGAIN = "download or convert it again (`nbkit data verify` checks the open cohorts)."


def present(path: Path) -> Path:
    """`path`, if there is a file to read; a link whose content was never fetched is told from a missing file."""
    if path.is_symlink() and not path.exists():
        raise _not_fetched(path, "a link to content that is not here", "datalad get")
    require(
        path.is_file(), f"{path}", expected="an image file", found="a folder" if path.is_dir() else "no such file",
        remedy="Check the path; `nbkit data fetch` downloads the open cohorts.",
    )
    return path


@contextmanager
def readable(path: Path):
    """Whatever a library raises on the bytes of `path` comes out as one refusal that names the file."""
    try:
        yield
    except NbkitError:
        raise
    except PermissionError as error:
        raise NbkitError(
            f"{path}", expected="a file that may be read", found=error.strerror or "no permission",
            remedy="Change its permissions, or ask its owner.",
        ) from error
    except Exception as error:  # headers of strangers: OverflowError, KeyError, zlib.error, MemoryError ...
        raise damaged(path, f"one that cannot be read ({error or type(error).__name__})") from error


def damaged(path: Path, found: str) -> NbkitError:
    """The refusal of a file whose content cannot be what was once written."""
    return NbkitError(
        f"{path}", expected="a complete image file", found=found,
        remedy=f"The file is truncated or damaged: {_GET_AGAIN}",
    )


def first_bytes(path: Path, count: int) -> bytes:
    """Up to `count` bytes from the beginning, unpacked.

    Raises
    ------
    NbkitError
        For a missing file, and for one that is none, by what it is: a placeholder of git-lfs or git-annex, a web
        page, another format, or gzip where the name says otherwise.
    """
    with present(path).open("rb") as stream:
        raw = stream.read(max(count, 512))
    _check_kind(path, raw)
    packed, named = raw.startswith(_GZIP), path.name.lower().endswith((".gz", ".mgz"))
    plain = path.name.lower().endswith((".nii", ".hdr", ".img", ".mgh"))
    require(
        not (packed and plain), f"{path}", expected="an unpacked file, as the name says", found="gzip",
        remedy=f"Nothing is lost: rename it to {path.name}.gz.",
    )
    if named and not packed:
        raise _unpacked(path, raw)
    if packed:
        with _open(path) as stream:
            raw = _read(stream, count)
        _check_kind(path, raw)
    return raw[:count]


def voxel_bytes(path: Path, *, offset: int, count: int, exact: bool = True) -> bytearray:
    """`count` bytes from `offset` on, unpacked; memory grows with what the file holds, not with what is asked for.

    Parameters
    ----------
    exact : bool
        Refuse a file that goes on for more than a hundredth of `count`.

    Raises
    ------
    NbkitError
        If the file holds fewer or more bytes, or a gzip file is damaged, be it in its last bytes.
    """
    packed, size = _is_gzip(path), path.stat().st_size
    most = size * PACKING if packed else size
    if offset + count > most:
        told = f"{most} bytes" if not packed else f"{size} packed bytes, of which at most {most} come,"
        raise damaged(path, f"{told} where its header asks for {offset + count}")
    with _open(path) as stream:
        skipped = _skip(stream, offset)
        found = _read(stream, count)
        if len(found) < count:
            raise damaged(path, f"{skipped + len(found)} bytes where its header asks for {offset + count}")
        # to the end of a gzip file, because its checksum stands there
        rest = _skip(stream, int(_SPARE * count) + 1 if exact else 2**62)
    if exact and rest > _SPARE * count:
        raise damaged(path, f"more bytes than the {offset + count} that its header asks for")
    return found


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


def _open(path: Path) -> io.BufferedIOBase:
    return gzip.open(path, "rb") if _is_gzip(path) else path.open("rb")


def _read(stream: io.BufferedIOBase, count: int) -> bytearray:
    found = bytearray()
    while len(found) < count and (chunk := stream.read(min(_CHUNK, count - len(found)))):
        found += chunk
    return found


def _skip(stream: io.BufferedIOBase, count: int) -> int:
    """How many of `count` bytes there were to pass over."""
    passed = 0
    while passed < count and (chunk := stream.read(min(_CHUNK, count - passed))):
        passed += len(chunk)
    return passed


def _unpacked(path: Path, raw: bytes) -> NbkitError:
    """The refusal of a file named as gzip that is not."""
    if raw[:4] not in _SIZES:
        return damaged(path, "one that cannot be read: neither gzip nor an image")
    name = f"{path.name[:-4]}.mgh" if path.name.lower().endswith(".mgz") else path.name[: -len(".gz")]
    return NbkitError(
        f"{path}", expected="gzip, as the name says", found="an unpacked image",
        remedy=f"Nothing is lost: rename it to {name}.",
    )


def _not_fetched(path: Path, found: str, command: str) -> NbkitError:
    return NbkitError(
        f"{path}", expected="an image", found=found,
        remedy=f"The content was never fetched: `{command} {path.name}` in its folder brings it.",
    )


def _check_kind(path: Path, raw: bytes) -> None:
    text = raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:80].lower()
    if not raw:
        raise damaged(path, "an empty file")
    if raw.startswith(b"version https://git-lfs"):
        raise _not_fetched(path, "a git-lfs pointer", "git lfs pull --include")
    if b"annex/objects/" in raw[:400].replace(os.sep.encode(), b"/"):
        raise _not_fetched(path, "a git-annex pointer", "datalad get")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b'{"')):
        raise NbkitError(
            f"{path}", expected="an image",
            found=f"one that cannot be read: a web page or a message, {text[:30].decode('latin-1')!r}",
            remedy="The server sent a login page or an error in its place: log in and download it again.",
        )
    kind = next((name for start, name in _FORMATS.items() if raw.startswith(start)), None)
    kind = "a DICOM file" if raw[128:132] == b"DICM" else kind
    require(
        kind is None, f"{path}", expected="a NIfTI or FreeSurfer image", found=kind,
        remedy="Convert it first: dcm2niix for DICOM, nib-convert or mrconvert for other formats.",
    )
