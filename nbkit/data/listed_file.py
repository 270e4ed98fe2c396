"""A file that a manifest lists, and whether what is on disk is that file."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import Self

import pydantic


class ManifestFile(pydantic.BaseModel, frozen=True, extra="forbid"):
    """One file.

    Parameters
    ----------
    path : str
        Relative, as upstream.
    bytes : int, optional
        Size, where known.
    sha256, git_sha1, md5 : str, optional
        The published hash; the first that is given is checked.
    unverified : bool
        No hash was published: its SHA-256 is written down at the first download, and a change after that is noticed.
    version : str
        S3 version id, where the address has one.
    participant, session : str
        Whose scan it is, where `layout` does not say.
    more : bool
        Not fetched unless asked for.
    facts : mapping
        Further columns that the manifest declares.
    """

    path: str = pydantic.Field(pattern=r"^[\w.+-]+(/[\w.+-]+)*$")
    bytes: int | None = pydantic.Field(default=None, gt=0)
    sha256: str | None = pydantic.Field(default=None, pattern=r"^[0-9a-f]{64}$")
    git_sha1: str | None = pydantic.Field(default=None, pattern=r"^[0-9a-f]{40}$")
    md5: str | None = pydantic.Field(default=None, pattern=r"^[0-9a-f]{32}$")
    unverified: bool = False
    version: str = pydantic.Field(default="", pattern=r"^[\w.-]*$")
    participant: str = pydantic.Field(default="", pattern=r"^[\w-]*$")
    session: str = ""
    more: bool = False
    facts: dict[str, str] = {}

    @pydantic.model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        if ".." in self.path.split("/"):
            raise ValueError(f"{self.path} leaves the data folder")
        if self.unverified == bool(self.sha256 or self.git_sha1 or self.md5):
            raise ValueError(f"{self.path} needs sha256 or git_sha1 or md5, or else unverified")
        return self

    @property
    def digest(self) -> str:
        """The hash that is checked, with its kind: ``"sha256:..."``; ``"unverified"`` where none is known."""
        kinds = ("sha256", "git_sha1", "md5")
        return next((f"{kind}:{value}" for kind in kinds if (value := getattr(self, kind))), "unverified")

    @property
    def run(self) -> int:
        """Number of the run in its BIDS name; 0 without one."""
        found = re.search(r"_run-(\d+)", self.path)
        return int(found[1]) if found else 0


_verified: set[tuple] = set()


def forget() -> None:
    """Every hash is computed again."""
    _verified.clear()


def matches(place: Path, file: ManifestFile) -> bool:
    """Whether the content has the published hash, or that of its first download; remembered until the file changes."""
    stat, kept = place.stat(), first_hash(place)
    expected = file.digest
    if file.unverified:
        if not kept.is_file():
            return True
        expected = kept.read_text(encoding="ascii").strip()
    key = (str(place), stat.st_ino, stat.st_size, stat.st_mtime_ns, expected)
    if key in _verified:
        return True
    kind, _, published = expected.partition(":")
    if hashed(place, kind) != published:
        return False
    _verified.add(key)
    return True


def hashed(place: Path, kind: str) -> str:
    """Hexadecimal hash of a file: "sha256", "md5", or "git_sha1" (of a git blob)."""
    start = {"sha256": hashlib.sha256, "md5": functools.partial(hashlib.md5, usedforsecurity=False)}
    content = hashlib.sha1(b"blob %d\0" % place.stat().st_size) if kind == "git_sha1" else start[kind]()
    with place.open("rb") as stream:
        hashlib.file_digest(stream, lambda: content)
    return content.hexdigest()


def first_hash(place: Path) -> Path:
    """Where the hash of an unverified file is kept."""
    return place.with_name(f".{place.name}.first")
