"""mslesseg: 75 people with MS in T1w, T2w and FLAIR with lesion masks, some scanned again, from the archive you give.

The layout is read from public descriptions and from programs that read it; the archive itself was not at hand.
"""

from __future__ import annotations

import csv
import io
import logging
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from nbkit.core.checks import NbkitError, known, require
from nbkit.core.config import PROFILES, digest
from nbkit.core.files import Cache
from nbkit.core.protocols import SEXES, Cohort, Scan, Subject
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume
from nbkit.data import nifti, tissue
from nbkit.data.lazy import Shelf
from nbkit.data.text_tables import number
from nbkit.phantom.study import facts_of, made_folders, store, stored

log = logging.getLogger(__name__)

NAME = "mslesseg"
CONTRASTS = {"T1": "T1w", "T2": "T2w", "FLAIR": "FLAIR"}
PEOPLE, SCANS = 75, 115
ADDRESS = "https://doi.org/10.6084/m9.figshare.27919209"
HOW_TO_GET = (
    f"Download `MSLesSeg Dataset.zip` (1.5 GB) from {ADDRESS} and give its path: "
    "COHORT='/path/to/MSLesSeg Dataset.zip', or the folder that it unpacks to."
)
CREDITS = {
    "source": ADDRESS, "licence": "CC BY 4.0",
    "attribution": "Images: MSLesSeg, University of Catania (Guarnera et al. 2025), CC BY 4.0",
    "citation": [
        "Guarnera F, Rondinella A, Crispino E, et al. MSLesSeg: baseline and benchmarking of a new Multiple Sclerosis "
        "Lesion Segmentation dataset. Scientific Data 2025;12:920. doi:10.1038/s41597-025-05250-y",
    ],
}
_TABLE = "info_dataset/clinical_data.csv"
_COLUMNS = ("Patient", "Timepoint", "Age", "Sex", "MS Type", "EDSS")
_IMAGE = re.compile(
    r"(?P<root>(?:[^/]+/)*?)(?:train/(?P<who>P\d+)/(?P<visit>T\d+)/(?P=who)_(?P=visit)|test/(?P<alone>P\d+)/(?P=alone))"
    r"_(?P<role>T1|T2|FLAIR|MASK)\.nii\.gz"
)
_FIRST = "T1"
_LARGEST = 2**30
"""Bytes of a file that an archive may unpack to; a volume of floats of this data set has 29 MB."""
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
Visit = tuple[str, str]


def is_archive(path: Path | str) -> bool:
    """Whether a path is a zip, or a folder laid out as this data set (``train/P1/T1``, ``test/P54``)."""
    path = Path(path).expanduser()
    inner = ("train/P*/T*", "test/P*", "*/train/P*/T*", "*/test/P*")
    return path.suffix.lower() == ".zip" or (path.is_dir() and any(next(path.glob(p), None) for p in inner))


def state(path: Path | str) -> list[Any]:
    """Changes when a file of the archive does, without reading it."""
    path = _there(Path(path).expanduser())
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]


def build(
    path: Path | str, profile: str, *, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True
) -> Cohort:
    """The people of the archive, each visit a scan with T1w, T2w, FLAIR, the lesion mask and a tissue split.

    Images are skull-stripped, on one grid of 1 mm in MNI space; profile "paper" keeps it, "laptop" and "smoke" average
    blocks to 2 and 3 mm. Masks are made as those of open_ms. Ages, sexes, course and EDSS are those of
    ``info_dataset/clinical_data.csv`` where it is there. Its division into train and test people is that of a challenge
    and is not used: splits here are by subject.

    Parameters
    ----------
    path : path
        ``MSLesSeg Dataset.zip`` of figshare, which is read in place, or the folder it unpacks to, whole or in part.
    profile : {"smoke", "laptop", "overnight", "paper"}
    n_jobs : int
        Scans prepared at a time, the first time; afterwards they come from the cache.
    cache : Cache, optional

    Raises
    ------
    NbkitError
        By file: no such archive, damaged, with names that lead elsewhere, another data set, a visit that lacks an
        image, grids that differ.
    """
    known(profile, PROFILES, f"{NAME}: profile")
    archive, shelf = Archive.of(Path(path).expanduser()), Shelf()
    visits, told = archive.visits(), archive.clinical()
    files = {visit: {role: archive.files[name] for role, name in roles.items()} for visit, roles in visits.items()}
    source = module_digest(__name__)
    keys = [{"visit": v, "profile": profile, "files": own, "source": source} for v, own in files.items()]
    jobs = [partial(_prepare, archive, roles, "/".join(visit), profile) for visit, roles in visits.items()]
    folders = made_folders(NAME, profile, keys, jobs, cache=cache or Cache(), n_jobs=n_jobs, progress=progress)
    of_visit = dict(zip(visits, folders, strict=True))
    people = dict.fromkeys(who for who, _ in visits)
    subjects = tuple(_subject(who, [v for v in visits if v[0] == who], of_visit, told, shelf) for who in people)
    present = f"{len(people)} of {PEOPLE} people, {len(visits)} of {SCANS} scans present"
    log.info("%s: %s", NAME, present)
    return Cohort(NAME, subjects, "open", CREDITS | {
        "present": present, "profile": profile, "data_hash": digest([sorted(files.items()), sorted(told.items())]),
        "masks": "brain: not 0 in any contrast; lesions: published; wm, gm, csf, nawm: split of T1w as in open_ms",
        "spacing_mm": list(subjects[0].baseline.images["FLAIR"].spacing),
    })


@dataclass(frozen=True)
class Archive:
    """The files of a zip or a folder.

    Parameters
    ----------
    path : Path
    files : mapping of str to (int, int)
        Name with forward slashes to bytes and CRC-32.
    """

    path: Path
    files: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, path: Path) -> Archive:
        """List and check a zip, or the images and the table of a folder."""
        if _there(path).is_dir():
            inside = {p.relative_to(path).as_posix(): p for p in sorted(path.rglob("*")) if p.is_file()}
            ours = {name: p for name, p in inside.items() if _IMAGE.fullmatch(name) or name.endswith(_TABLE)}
            return cls(path, {name: (p.stat().st_size, _crc(p)) for name, p in ours.items()})
        with cls(path, {})._zip() as opened:
            found = opened.infolist()
        for info in found:
            _check_member(path.name, info)
        names = [info.filename for info in found]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        require(
            not twice, path.name, expected="each file once", found=f"{', '.join(twice[:3])} twice", remedy=HOW_TO_GET,
        )
        inner = [name for name in names if name.lower().endswith(".zip")]
        ours = [info for info in found if _IMAGE.fullmatch(info.filename) or info.filename.endswith(_TABLE)]
        require(
            bool(ours) or not inner, path.name, expected="the images themselves", found=f"a zip of {', '.join(inner)}",
            remedy="Unpack it once, and give `MSLesSeg Dataset.zip`, which lies in it.",
        )
        return cls(path, {info.filename: (info.file_size, info.CRC) for info in ours})

    def visits(self) -> dict[Visit, dict[str, str]]:
        """By person and visit, in order, the name of each role's file; a visit that lacks one is refused."""
        matches = [m for name in self.files if (m := _IMAGE.fullmatch(name))]
        roots = sorted({m["root"] for m in matches})
        require(
            len(roots) == 1, self.path.name,
            expected="train/P1/T1/P1_T1_FLAIR.nii.gz and so on, test/P54/P54_FLAIR.nii.gz and so on",
            found=f"{len(roots)} such folders: {', '.join(roots)}" if roots else "no such file",
            remedy=f"It may be MSLesSeg_RAW.zip, or another data set. {HOW_TO_GET}",
        )
        found: dict[Visit, dict[str, str]] = {}
        for m in matches:
            found.setdefault((m["who"] or m["alone"], m["visit"] or _FIRST), {})[m["role"]] = m.string
        ordered = sorted(found, key=lambda visit: [int(part[1:]) for part in visit])
        for visit in ordered:
            lacking = [role for role in (*CONTRASTS, "MASK") if role not in found[visit]]
            require(
                not lacking, f"{self.path.name}: {'/'.join(visit)}", expected="T1, T2, FLAIR and MASK",
                found=f"no {', '.join(lacking)}", remedy="Unpack the archive again, or move this visit's folder away.",
            )
        return {visit: found[visit] for visit in ordered}

    def clinical(self) -> dict[Visit, dict[str, Any]]:
        """By person and visit what the table says: age, sex, course, EDSS; empty without a table."""
        name = next((name for name in self.files if name.endswith(_TABLE)), None)
        if name is None:
            log.warning("%s: no %s: ages and sexes are not known", self.path.name, _TABLE)
            return {}
        with self.at(name) as place:
            text = place.read_bytes().decode("utf-8-sig", errors="replace")
        header, *rows = csv.reader(io.StringIO(text), delimiter=";")
        lacking = [column for column in _COLUMNS if column not in map(str.strip, header)]
        require(
            not lacking, f"{self.path.name}: {name}", expected=f"the columns {', '.join(_COLUMNS)}, with semicolons",
            found=f"no {', '.join(lacking)}", remedy=HOW_TO_GET,
        )
        places = [[*map(str.strip, header)].index(column) for column in _COLUMNS]
        cells = [[row[k].strip() for k in places] for row in rows if len(row) > max(places)]
        return {(who, visit): _facts(*rest) for who, visit, *rest in cells if who}

    @contextmanager
    def at(self, name: str) -> Iterator[Path]:
        """A file of the archive as a path, for as long as it is needed; its sum is checked."""
        if self.path.is_dir():
            yield self.path / name
            return
        with tempfile.TemporaryDirectory(prefix="nbkit-") as folder, self._zip() as opened:
            place = Path(folder) / PurePosixPath(name).name
            try:
                place.write_bytes(opened.read(name))
            except _BROKEN as error:
                raise self._damaged(f"{self.path.name}: {name}", error) from error
            yield place

    def read(self, name: str, reader: Callable[[Path], Volume]) -> Volume:
        """An image of the archive; refused by its name there."""
        with self.at(name) as place:
            try:
                return reader(place)
            except NbkitError as error:
                raise error.at(f"{self.path.name}: {name}") from error

    @contextmanager
    def _zip(self) -> Iterator[zipfile.ZipFile]:
        try:
            opened = zipfile.ZipFile(self.path)
        except _BROKEN as error:
            raise self._damaged(self.path.name, error) from error
        with opened:
            yield opened

    @staticmethod
    def _damaged(where: str, error: Exception) -> NbkitError:
        return NbkitError(
            where, expected="a complete zip", found=f"one that cannot be read ({error})",
            remedy=f"The download is truncated or damaged. {HOW_TO_GET}",
        )


def _there(path: Path) -> Path:
    require(
        path.exists(), f"{NAME}: {path.name}", expected="the archive or its folder", found="no such file",
        remedy=HOW_TO_GET,
    )
    return path


def _check_member(archive: str, info: zipfile.ZipInfo) -> None:
    """Refuse what leads out of the archive, needs a password, is a link, or would fill the disk."""
    name, parts = info.filename, PurePosixPath(info.filename).parts
    elsewhere = name.startswith("/") or ".." in parts or "\\" in info.orig_filename or re.match(r"[A-Za-z]:", name)
    faults = {
        "a name that leads elsewhere": elsewhere, "a link": stat.S_ISLNK(info.external_attr >> 16),
        "an encrypted file": info.flag_bits & 1, f"{info.file_size / 1e9:.1f} GB": info.file_size > _LARGEST,
    }
    found = [fault for fault, there in faults.items() if there]
    require(
        not found, f"{archive}: {name!r}", expected="plain files below the archive's own folder",
        found="; ".join(found), remedy=f"Nothing was unpacked. {HOW_TO_GET}",
    )


def _crc(path: Path) -> int:
    """CRC-32 of a file, the sum that a zip keeps: folder and zip then share what was prepared."""
    total = 0
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            total = zlib.crc32(chunk, total)
    return total


def _facts(age: str, sex: str, course: str, edss: str) -> dict[str, Any]:
    return {"age": number(age), "sex": sex.upper() if sex.upper() in SEXES else None, "course": course or None,
            "edss": number(edss)}


def _prepare(archive: Archive, roles: Mapping[str, str], visit: str, profile: str, folder: Path) -> None:
    images = {contrast: archive.read(roles[role], nifti.read_image) for role, contrast in CONTRASTS.items()}
    lesions = archive.read(roles["MASK"], nifti.read_labels)
    for role, volume in (*images.items(), ("MASK", lesions)):
        images["FLAIR"].check_grid(volume, f"{archive.path.name}: {visit}: {role} against its FLAIR")
    store(folder, *tissue.visit_with_lesions(images, lesions, profile, where=f"{archive.path.name}: {visit}"))


def _subject(
    who: str, visits: Sequence[Visit], folders: Mapping[Visit, Path], told: Mapping[Visit, Mapping[str, Any]],
    shelf: Shelf,
) -> Subject:
    facts = [told.get(visit, {}) for visit in visits]
    ages = [fact.get("age") for fact in facts]
    good = all(age is not None and 1.2 < age <= 120 for age in ages) and ages == sorted(ages)
    if told and not good:
        log.warning("%s: %s: ages %s do not rise from visit to visit, or are none: not used", NAME, who, ages)
    scans = tuple(Scan(
        who, visit[1], age if good else None, stored(folders[visit], "image", tuple(CONTRASTS.values()), shelf),
        stored(folders[visit], "mask", tissue.MASKS, shelf),
    ) for visit, age in zip(visits, ages, strict=True))
    covariates = facts_of(folders[visits[0]]) | {
        "course": facts[0].get("course"), "edss": [fact.get("edss") for fact in facts],
    }
    return Subject(who, facts[0].get("sex"), "MS", scans, covariates)
