"""One listed file brought here: resumed, checked against its hash, set aside when it is another."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import pooch
import requests

from nbkit.core.checks import NbkitError
from nbkit.core.files import write_text
from nbkit.core.shelf import unfinished
from nbkit.data.download import receive
from nbkit.data.listed_file import ManifestFile, first_hash, hashed, matches

log = logging.getLogger(__name__)

_RETRIES = 2


def download(file: ManifestFile, target: Path, url: str, *, source: str) -> Path:
    """Bring one file to `target`; a download that was interrupted goes on where it stopped.

    A version id (``?versionId=...``) that the server refuses is left out: the hash decides.

    Raises
    ------
    NbkitError
        For no network, or other content, which is kept as ``<name>.rejected``.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    bring = functools.partial(_resume, file, target)
    try:
        # pooch's temporary file, which a kill leaves, lies in a folder that the next start removes
        with unfinished(target.parent, target.name) as folder:
            shelf = pooch.create(
                path=folder, base_url="", registry={target.name: None}, retry_if_failed=_RETRIES,
                urls={target.name: url},
            )
            shelf.fetch(target.name, downloader=bring)
            (folder / target.name).replace(target)
    except requests.exceptions.RequestException as error:
        raise NbkitError(
            file.path, expected=f"a download from {source}", found=str(error),
            remedy="Check the network and run the command again: it goes on where it stopped. "
            "Or set NBKIT_MIRROR to a folder that holds the files.",
        ) from error
    return target


def at_fault_alone(error: NbkitError) -> bool:
    """Whether one file failed, not the network or the disk."""
    return not isinstance(error.__cause__, OSError) or isinstance(error.__cause__, requests.HTTPError)


def set_aside(place: Path, name: Path) -> Path:
    """Keep a wrong file as ``<name>.rejected``; returns where."""
    rejected = name.with_name(name.name + ".rejected")
    log.warning("%s is not the published file: kept as %s", name.name, rejected.name)
    first_hash(name).unlink(missing_ok=True)
    return place.replace(rejected)


def _resume(file: ManifestFile, target: Path, url: str, output_file: str, _pooch: pooch.Pooch) -> None:
    """A pooch downloader that continues a partial file and hands over only the published content.

    pooch knows no git blob hashes and deletes what fails its check, so the check is made here.
    """
    part = target.with_name(target.name + ".part")
    if file.unverified:
        part.unlink(missing_ok=True)  # nothing would notice that two halves do not belong together
    receive(url, part, limit=file.bytes)
    if not matches(part, file):
        longer = file.bytes and part.stat().st_size > file.bytes
        raise NbkitError(
            file.path, expected=f"a download with {file.digest}",
            found=f"more than its {file.bytes} bytes" if longer else "other content",
            remedy=f"It was kept as {set_aside(part, target)} and is not used. Run the command again; "
            "if it fails again, a proxy may be altering downloads.",
        )
    if file.unverified:
        log.warning("%s: no hash of it was published, so it was not checked; from now on it must not change", file.path)
        write_text(first_hash(target), f"sha256:{hashed(part, 'sha256')}\n")
    part.replace(output_file)
