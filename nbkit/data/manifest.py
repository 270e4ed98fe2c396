"""Manifests: what a cohort consists of, where its files come from, and whether those here are the right ones.

A file is looked for in NBKIT_MIRROR first (read-only, the same relative
paths as upstream), then in NBKIT_DATA; it is checked against its published hash at every use.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import logging
import os
import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pooch
import pydantic
import requests
from tqdm.auto import tqdm

from nbkit.core.checks import NbkitError, closest, known, require
from nbkit.core.files import cache_folder, sole
from nbkit.data.download import receive

log = logging.getLogger(__name__)

MANIFESTS = Path(__file__).resolve().parents[2] / "data_manifests"
_RETRIES = 2


class ManifestFile(pydantic.BaseModel, frozen=True, extra="forbid"):
    """One file: relative path, size where known, and its SHA-256 or else its git blob SHA-1."""

    path: str = pydantic.Field(pattern=r"^[\w.+-]+(/[\w.+-]+)*$")
    bytes: int | None = pydantic.Field(default=None, gt=0)
    sha256: str | None = pydantic.Field(default=None, pattern=r"^[0-9a-f]{64}$")
    git_sha1: str | None = pydantic.Field(default=None, pattern=r"^[0-9a-f]{40}$")

    @pydantic.model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        if ".." in self.path.split("/"):
            raise ValueError(f"{self.path} leaves the data folder")
        if not (self.sha256 or self.git_sha1):
            raise ValueError(f"{self.path} needs sha256 or git_sha1")
        return self

    @property
    def digest(self) -> str:
        """The hash that is checked, with its kind: ``"sha256:..."`` or ``"git_sha1:..."``."""
        return f"sha256:{self.sha256}" if self.sha256 else f"git_sha1:{self.git_sha1}"


@dataclass(frozen=True)
class FileStatus:
    """One row of :meth:`Manifest.verify`: `state` is ok, missing, wrong size or wrong hash."""

    path: str
    state: Literal["ok", "missing", "wrong size", "wrong hash"]
    found: Path | None = None
    detail: str = ""


class Manifest(pydantic.BaseModel, frozen=True, extra="forbid"):
    """A cohort's ``cohort.toml`` and ``files.tsv``.

    Parameters
    ----------
    name, title, access, licence, attribution, citation
        What it is, who may use it, and how it must be cited.
    folder : str
        Name of its folder below NBKIT_MIRROR and NBKIT_DATA.
    repository, commit, base_url : str
        Where files are downloaded from; ``{commit}`` in `base_url` is filled in.
    expected : mapping
        Counts, e.g. ``{"subjects": 30, "files": 151}``.
    layout : mapping
        Contrast or ``"mask:name"`` to relative path, with ``{subject}`` in it.
    how_to_get : str
        Steps to a restricted cohort.
    needs : mapping
        Tables that a restricted cohort must bring, and their columns.
    files : tuple of ManifestFile
        From ``files.tsv``; empty for cohorts that are simulated or restricted.
    """

    name: str
    title: str
    access: Literal["embedded", "open", "restricted"]
    licence: str
    attribution: str
    citation: tuple[str, ...] = ()
    folder: str = ""
    repository: str = ""
    commit: str = ""
    base_url: str = ""
    expected: dict[str, int] = {}
    layout: dict[str, str] = {}
    how_to_get: str = ""
    needs: dict[str, list[str]] = {}
    files: tuple[ManifestFile, ...] = ()

    @pydantic.model_validator(mode="after")
    def _counts_match(self) -> Self:
        if len(self.by_path) < len(self.files):
            raise ValueError("a path listed twice in files.tsv")
        counts = {"subjects": len(self.subjects()), "files": len(self.files)} if self.files else self.expected
        wrong = [f"{what}: expected {n}, found {counts.get(what)}" for what, n in self.expected.items()
                 if counts.get(what) != n]
        if wrong:
            raise ValueError(f"{'; '.join(wrong)}: correct the count, the layout or files.tsv")
        return self

    @functools.cached_property
    def by_path(self) -> dict[str, ManifestFile]:
        """The files by relative path."""
        return {file.path: file for file in self.files}

    def subjects(self) -> dict[str, dict[str, str]]:
        """By subject, in order: contrast (or "mask:name") to relative path, as `layout` finds them in `files`."""
        found: dict[str, dict[str, str]] = {}
        for role, template in self.layout.items():
            pattern = re.compile(r"(?P<subject>[^/]+)".join(map(re.escape, template.split("{subject}", 1))))
            for path in self.by_path:
                if match := pattern.fullmatch(path):
                    found.setdefault(match["subject"], {})[role] = path
        return dict(sorted(found.items()))

    def find(self, path: str) -> Path | None:
        """Where a file is on this machine, unchecked: the mirror first, then the data folder; None if nowhere."""
        require(
            path in self.by_path, f"manifest {self.name}", expected="the path of one of its files", found=repr(path),
            remedy=f"{closest(path, self.by_path)}data_manifests/{self.name}/files.tsv lists them.",
        )
        places = (root / self.folder / path for root in (mirror_folder(), data_folder()) if root)
        return next((place for place in places if place.is_file()), None)

    def status(self, path: str) -> FileStatus:
        """Whether a file is here and is the right one."""
        place, file = self.find(path), self.by_path[path]
        if place is None:
            return FileStatus(path, "missing")
        size = place.stat().st_size
        if file.bytes is not None and size != file.bytes:
            return FileStatus(path, "wrong size", place, f"{size} bytes instead of {file.bytes}")
        if not _matches(place, file):
            return FileStatus(path, "wrong hash", place, f"its {file.digest.split(':')[0]} is not the published one")
        return FileStatus(path, "ok", place)

    def verify(self) -> list[FileStatus]:
        """Check all files; every hash is computed, none is taken from an earlier check."""
        _verified.clear()
        return [self.status(path) for path in self.by_path]

    def locate(self, path: str) -> Path | None:
        """A verified file; None when it is not here. A wrong file is refused by name and hash, and left alone."""
        row = self.status(path)
        if row.state not in ("ok", "missing"):
            raise self._wrong(row)
        return row.found

    def fetch(self, paths: Iterable[str] | None = None, *, progress: bool = True) -> dict[str, Path]:
        """Bring files here and verify them; what is here already is not downloaded again.

        An interrupted download goes on where it stopped. A wrong file in the data folder is kept as
        ``<name>.rejected``; one in the mirror is refused and not touched.

        Parameters
        ----------
        paths : iterable of str, optional
            Relative paths; all files by default.
        progress : bool
            Show a progress bar.

        Returns
        -------
        dict
            Relative path to verified file.

        Raises
        ------
        NbkitError
            For a restricted cohort, an unknown path, no network, or a file that is not the published one.
        """
        require(
            self.access != "restricted", f"fetch {self.name}", expected="an open cohort", found="a restricted one",
            remedy=f"Apply for the data ({self.repository or 'see its manifest'}) and pass their folder instead.",
        )
        wanted = list(self.by_path if paths is None else paths)
        self._check_room(wanted)
        bar = tqdm(wanted, desc=f"fetch {self.name}", unit="file", disable=not progress)
        return {path: self._fetch_one(path) for path in bar}

    def _check_room(self, paths: Iterable[str]) -> None:
        need = sum(self.by_path[path].bytes or 0 for path in paths if self.find(path) is None)
        there = next(p for p in (data_folder(), *data_folder().parents) if p.exists())
        free = shutil.disk_usage(there).free
        require(
            need < free, f"{data_folder()}", expected=f"{need / 1e9:.2f} GB of room for {self.name}",
            found=f"{free / 1e9:.2f} GB free", remedy="Free some, or set NBKIT_DATA to a folder on a larger disk.",
        )

    def _fetch_one(self, path: str) -> Path:
        row = self.status(path)
        if row.state == "ok":
            return row.found
        target = data_folder() / self.folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with sole(target.with_name(f".{target.name}.lock")):
                return self._download(path, target)
        except OSError as error:
            raise NbkitError(
                f"{target.parent}", expected="a folder that can be written to", found=error.strerror or str(error),
                remedy="Set NBKIT_DATA to a folder with room and permission to write; the download then goes on.",
            ) from error

    def _download(self, path: str, target: Path) -> Path:
        row = self.status(path)  # again: whoever held the lock may have brought it
        if row.state == "ok":
            return row.found
        if row.state != "missing":
            if not row.found.is_relative_to(data_folder()):
                raise self._wrong(row)
            _set_aside(row.found, row.found)
        pooch.get_logger().setLevel(logging.WARNING)
        source = pooch.create(
            path=target.parent, base_url="", registry={target.name: None}, retry_if_failed=_RETRIES,
            urls={target.name: self.base_url.format(commit=self.commit) + path},
        )
        try:
            source.fetch(target.name, downloader=functools.partial(_resume, self.by_path[path], target))
        except requests.exceptions.RequestException as error:
            raise NbkitError(
                path, expected=f"a download from {self.repository or self.base_url}", found=str(error),
                remedy="Check the network and run the command again: it goes on where it stopped. "
                "Or set NBKIT_MIRROR to a folder that holds the files.",
            ) from error
        return target

    def _wrong(self, row: FileStatus) -> NbkitError:
        ours = row.found.is_relative_to(data_folder())
        return NbkitError(
            f"{row.found}", expected=f"{self.by_path[row.path].digest}", found=f"{row.state} ({row.detail})",
            remedy=f"Run `nbkit data fetch {self.name}`: it keeps this file as {row.found.name}.rejected and "
            "downloads it again." if ours else
            "The mirror's copy is truncated or altered; it was not used and not touched. Replace it, "
            f"or unset NBKIT_MIRROR and run `nbkit data fetch {self.name}`.",
        )


def list_manifests() -> list[str]:
    """Names of the cohorts that have a manifest."""
    return sorted(file.parent.name for file in MANIFESTS.glob("*/cohort.toml"))


def load_manifest(name: str) -> Manifest:
    """A cohort's manifest by name, with did-you-mean."""
    return read_manifest(MANIFESTS / known(name, list_manifests(), "load_manifest: name"))


@functools.cache
def read_manifest(folder: Path) -> Manifest:
    """Read and check ``cohort.toml`` and, where there is one, ``files.tsv`` of a folder.

    Raises
    ------
    NbkitError
        Naming the file and each wrong or unknown entry, a path listed twice, or counts that do not match.
    """
    toml, table = folder / "cohort.toml", folder / "files.tsv"
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(lines, delimiter="\t")]
    try:
        return Manifest(**tomllib.loads(toml.read_text(encoding="utf-8")), files=rows)
    except pydantic.ValidationError as error:
        raise NbkitError(
            str(toml), expected="a valid manifest", found="; ".join(map(_fault, error.errors())),
            remedy="Correct these entries, or those of files.tsv.",
        ) from error


def _fault(error: Mapping[str, Any]) -> str:
    """One wrong entry, with the nearest valid name."""
    place = [str(part) for part in error["loc"]]
    near = closest(place[-1], [*Manifest.model_fields, *ManifestFile.model_fields]) if place else ""
    return f"{'.'.join(place)}: {error['msg']} {near}".strip()


def mirror_folder() -> Path | None:
    """NBKIT_MIRROR, a folder that serves files from disk; None when it is not set."""
    name = os.environ.get("NBKIT_MIRROR")
    if not name:
        return None
    folder = Path(name).expanduser().absolute()
    require(
        folder.is_dir(), "NBKIT_MIRROR", expected="a folder", found=f"{name}, which is not there",
        remedy="Correct the path, or unset NBKIT_MIRROR to download instead.",
    )
    return folder


def data_folder() -> Path:
    """Where downloads are kept: NBKIT_DATA, else ``data`` in the cache folder."""
    return Path(os.environ.get("NBKIT_DATA") or cache_folder() / "data").expanduser().absolute()


_verified: set[tuple] = set()


def _matches(place: Path, file: ManifestFile) -> bool:
    """Whether the content has the published hash; remembered in this process until the file changes."""
    stat = place.stat()
    key = (str(place), stat.st_ino, stat.st_size, stat.st_mtime_ns, file.digest)
    if key in _verified:
        return True
    content = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % stat.st_size)
    with place.open("rb") as stream:
        hashlib.file_digest(stream, lambda: content)
    if content.hexdigest() != (file.sha256 or file.git_sha1):
        return False
    _verified.add(key)
    return True


def _set_aside(place: Path, name: Path) -> Path:
    rejected = name.with_name(name.name + ".rejected")
    log.warning("%s is not the published file: kept as %s", name.name, rejected.name)
    return place.replace(rejected)


def _resume(file: ManifestFile, target: Path, url: str, output_file: str, _pooch: pooch.Pooch) -> None:
    """A pooch downloader that continues a partial file and hands over only the published content.

    pooch knows no git blob hashes and deletes what fails its check, so the check is made here.
    """
    part = target.with_name(target.name + ".part")
    receive(url, part, limit=file.bytes)
    if not _matches(part, file):
        longer = file.bytes and part.stat().st_size > file.bytes
        raise NbkitError(
            file.path, expected=f"a download with {file.digest}",
            found=f"more than its {file.bytes} bytes" if longer else "other content",
            remedy=f"It was kept as {_set_aside(part, target)} and is not used. Run the command again; "
            "if it fails again, a proxy may be altering downloads.",
        )
    part.replace(output_file)
