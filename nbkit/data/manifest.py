"""Manifests: what a cohort consists of, where its files come from, and whether those here are the right ones.

A file is looked for in NBKIT_MIRROR first (read-only, the same relative paths as upstream), then in NBKIT_DATA; it is
checked against its published hash at every use.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pydantic
from tqdm.auto import tqdm

from nbkit.core.checks import NbkitError, closest, known, require
from nbkit.core.files import cache_folder, sole
from nbkit.core.project import FILES
from nbkit.core.shelf import sweep
from nbkit.core.toml_files import read_toml
from nbkit.data.fetched import at_fault_alone, download, set_aside
from nbkit.data.listed_file import ManifestFile, forget, matches
from nbkit.data.text_tables import read_text_table

MANIFESTS = FILES / "data_manifests"
_REFUSALS = 5
"""Files that may fail by themselves before a download stops."""


@dataclass(frozen=True)
class FileStatus:
    """One row of :meth:`Manifest.verify`; "unverified" is here, and no hash of it was published."""

    path: str
    state: Literal["ok", "unverified", "missing", "wrong size", "wrong hash"]
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
    repository, commit, release, base_url : str
        Where files are downloaded from, at a commit or a release; ``{commit}`` in `base_url` is filled in.
    expected : mapping
        Counts, e.g. ``{"subjects": 30, "files": 151}``, or those of the default set (``default_subjects``, ...).
    partial : bool
        Whether a run makes do with any of its people.
    columns : tuple of str
        Further columns of ``files.tsv``, which become the `facts` of its files.
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
    release: str = ""
    base_url: str = ""
    expected: dict[str, int] = {}
    layout: dict[str, str] = {}
    how_to_get: str = ""
    needs: dict[str, list[str]] = {}
    partial: bool = False
    columns: tuple[str, ...] = ()
    files: tuple[ManifestFile, ...] = ()

    @pydantic.model_validator(mode="after")
    def _counts_match(self) -> Self:
        if len(self.by_path) < len(self.files):
            raise ValueError("a path listed twice in files.tsv")
        counts = self.counts() if self.files else self.expected
        wrong = [f"{what}: expected {n}, found {counts.get(what)}" for what, n in self.expected.items()
                 if counts.get(what) != n]
        if wrong:
            raise ValueError(f"{'; '.join(wrong)}: correct the count, the layout or files.tsv")
        return self

    @functools.cached_property
    def by_path(self) -> dict[str, ManifestFile]:
        """The files by relative path."""
        return {file.path: file for file in self.files}

    @property
    def source(self) -> str:
        """Repository, with the commit or release."""
        return f"{self.repository} {f'at commit {self.commit}' if self.commit else f'release {self.release}'}"

    def counts(self) -> dict[str, int]:
        """How many people and files there are, in all and in the default set."""
        default = [file for file in self.files if not file.more]
        return {
            "subjects": len(self.subjects()), "files": len(self.files),
            "default_subjects": len(self.subjects(everybody=False)), "default_files": len(default),
        }

    def wanted(self, people: Collection[str] | None = None, *, everybody: bool = False) -> list[str]:
        """What to fetch: files of some people (by default the default set's, or everybody's), and those of nobody."""
        named = self.subjects()
        chosen = self.subjects(everybody=everybody) if people is None else people
        theirs = {path for roles in named.values() for path in roles.values()}
        theirs |= {path for path, file in self.by_path.items() if file.participant}
        asked = {path for who in chosen for path in named[known(who, named, f"{self.name}: people")].values()}
        return [path for path in self.by_path if path in asked or path not in theirs]

    def subjects(self, *, everybody: bool = True) -> dict[str, dict[str, str]]:
        """By subject, in order: role to relative path, of everybody or of the default set.

        Roles are the contrasts (or "mask:name") that `layout` finds in `files`; where files say whose they are, the
        sessions, each with its highest run.
        """
        found: dict[str, dict[str, str]] = {}
        for file in sorted(self.files, key=lambda file: file.run):
            if file.participant and (everybody or not file.more):
                found.setdefault(file.participant, {})[file.session] = file.path
        found = {who: dict(sorted(roles.items())) for who, roles in found.items()}
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
        if not matches(place, file):
            whose = "at its first download" if file.unverified else "published"
            return FileStatus(path, "wrong hash", place, f"its {file.digest.split(':')[0]} is not the one {whose}")
        return FileStatus(path, "unverified" if file.unverified else "ok", place)

    def verify(self) -> list[FileStatus]:
        """Check all files; every hash is computed, none is taken from an earlier check."""
        forget()
        return [self.status(path) for path in self.by_path]

    def locate(self, path: str) -> Path | None:
        """A verified file; None when it is not here. A wrong file is refused by name and hash, and left alone."""
        row = self.status(path)
        if row.state.startswith("wrong"):
            raise self._wrong(row)
        return row.found

    def fetch(self, paths: Iterable[str] | None = None, *, progress: bool = True) -> dict[str, Path]:
        """Bring files here and verify them; what is here already is not downloaded again.

        An interrupted download goes on where it stopped. A version id that the server refuses is left out: the hash
        decides. A wrong file in the data folder is kept as ``<name>.rejected``; one in the mirror is refused and not
        touched. A file that fails by itself does not keep the others from coming; it is named at the end.

        Parameters
        ----------
        paths : iterable of str, optional
            Relative paths; by default those of the default set (:meth:`wanted`).
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
        wanted, got, failed = list(self.wanted() if paths is None else paths), {}, []
        self._check_room(wanted)
        sweep(*{(data_folder() / self.folder / path).parent for path in wanted if path in self.by_path})
        for path in tqdm(wanted, desc=f"fetch {self.name}", unit="file", disable=not progress):
            try:
                got[path] = self._fetch_one(path)
            except NbkitError as error:
                failed.append(error)
                if not at_fault_alone(error) or len(failed) > _REFUSALS:
                    break
        if len(failed) == 1:
            raise failed[0]
        require(
            not failed, f"fetch {self.name}", expected=f"{len(wanted)} files", found="; ".join(map(str, failed)),
            remedy=f"{len(got)} others are here and verified; a cohort that runs on a part of its people runs on them.",
        )
        return got

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
        if row.state in ("ok", "unverified"):
            return row.found
        target = data_folder() / self.folder / path
        remedy = "Set NBKIT_DATA to a folder with room and permission to write; the download then goes on."
        try:
            with sole(target.with_name(f".{target.name}.lock"), remedy=remedy):
                return self._download(path, target)
        except OSError as error:
            raise NbkitError(
                f"{target.parent}", expected="a folder that can be written to", found=error.strerror or str(error),
                remedy=remedy,
            ) from error

    def _download(self, path: str, target: Path) -> Path:
        row = self.status(path)  # again: whoever held the lock may have brought it
        if row.state in ("ok", "unverified"):
            return row.found
        if row.state != "missing":
            if not row.found.is_relative_to(data_folder()):
                raise self._wrong(row)
            set_aside(row.found, row.found)
        return download(self.by_path[path], target, self.address(path), source=self.repository or self.base_url)

    def address(self, path: str) -> str:
        """Where a file is downloaded from."""
        version = self.by_path[path].version
        return self.base_url.replace("{commit}", self.commit) + path + (f"?versionId={version}" if version else "")

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
    told = read_toml(toml)
    listed = read_text_table(table, ("path",), tabs=True).to_dict("records") if table.exists() else []
    rows = [{key: value for key, value in row.items() if value} for row in listed]
    more = told.get("columns")
    for row in rows:
        facts = {name: row.pop(name) for name in (more if isinstance(more, list) else ()) if name in row}
        row |= {"facts": facts} if facts else {}
    try:
        return Manifest.model_validate(told | {"files": rows})
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
