"""BIDS derivatives, out and in: prepared scans, masks, labels and predicted scans in folders that other tools read.

What BIDS has no entity for (the system, the age it was asked for) stands in ``desc-`` and, in full, in the sidecar of
every image. Tables are made from the sidecars alone, so that a data set can grow without forgetting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.core.checks import require
from nbkit.core.files import write_json, write_text
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.sidecars import read_object
from nbkit.data.text_tables import read_text_table

BIDS_VERSION = "1.10.0"
SPACE = "MNI152NLin2009aSym"
"""The template that nilearn ships, in whose world the scans of the ageing cohorts lie."""
REFERENCE = "http://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009"
DESCRIPTION = "dataset_description.json"
PREDICTED = "predicted"
"""What the ``desc-`` of an image begins with that is no scan but a forecast."""
AGAIN = "Export the data set again with --overwrite."
_T1W, _LABELS = "T1w", ("mask", "dseg")
_NAME = re.compile(
    r"sub-(?P<subject>[A-Za-z0-9]+)_ses-(?P<session>[A-Za-z0-9]+)_space-" + SPACE
    + r"(?:_desc-(?P<desc>[A-Za-z0-9]+))?_(?P<suffix>[A-Za-z0-9]+)\.nii\.gz"
)
_FORECAST = re.compile(PREDICTED + r"(?P<system>[A-Za-z0-9]*?)Age(?P<age>m?[0-9]+(?:p[0-9]+)?)")
_AGE = {"Description": "Age in years: at the scan, or that a prediction was made for", "Units": "year"}
_DIAGNOSIS = {"Description": "Diagnosis as the cohort names it"}
_COLUMNS = {
    "system": {"Description": "What predicted the image; n/a for a scan"}, "age": _AGE,
    "years_ahead": {"Description": "Since the last scan that the system was shown; n/a for a scan", "Units": "year"},
    "volumes_from": {"Description": "How the volumes of the row were read"},
}


@dataclass(frozen=True)
class Derived:
    """One image of a derivatives data set.

    Parameters
    ----------
    subject, session : str
        BIDS labels: letters and digits.
    suffix : {"T1w", "mask", "dseg"}
    desc : str
        "preproc", "brain", a prediction's (:func:`predicted_desc`), or "" for none.
    facts : mapping
        The sidecar, JSON-able.
    """

    subject: str
    session: str
    suffix: str
    desc: str
    facts: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Relative to the data set."""
        folder, name = f"sub-{self.subject}/ses-{self.session}", f"sub-{self.subject}_ses-{self.session}"
        desc = f"_desc-{self.desc}" if self.desc else ""
        return f"{folder}/anat/{name}_space-{SPACE}{desc}_{self.suffix}.nii.gz"

    @property
    def sidecar(self) -> str:
        """Path of the JSON beside the image."""
        return self.path.removesuffix(".nii.gz") + ".json"

    @property
    def uri(self) -> str:
        """BIDS URI within the data set."""
        return f"bids::{self.path}"

    @property
    def predicted(self) -> bool:
        """Whether it is a forecast rather than made from a scan of that session."""
        return self.desc.startswith(PREDICTED)

    def is_in(self, root: Path) -> bool:
        """Whether image and sidecar are there; the sidecar is written last."""
        return (root / self.path).is_file() and (root / self.sidecar).is_file()

    def write(self, root: Path, volume: Volume) -> None:
        """Write image, then sidecar, each whole or not at all; masks and label maps as integers."""
        if self.suffix in _LABELS:
            nifti.save_labels(root / self.path, volume.with_data(volume.data.int()))
        else:
            nifti.save_image(root / self.path, volume)
        write_json(root / self.sidecar, {"SpatialReference": REFERENCE, **self.facts})

    def read(self, root: Path) -> Volume:
        """The image, or the labels as int32."""
        return (nifti.read_labels if self.suffix in _LABELS else nifti.read_image)(Path(root) / self.path)


def labels_of(names: Iterable[str], what: str) -> dict[str, str]:
    """BIDS labels (letters and digits alone) of subjects or sessions; two names that fall together are refused."""
    names = list(names)
    found = {name: re.sub(r"[^A-Za-z0-9]", "", name) for name in names}
    first = {label: name for name, label in reversed(found.items())}
    wrong = [name for name, label in found.items() if not label or first[label] != name]
    require(
        not wrong, f"BIDS labels of {what}s", expected="names that differ in letters and digits",
        found=", ".join(f"{name!r} like {first[found[name]]!r}" if found[name] else repr(name) for name in wrong),
        remedy=f"BIDS knows letters and digits alone: rename one {what} of each pair.",
    )
    return found


def predicted_desc(system: str, age: float) -> str:
    """``predictedMrextrapBayesAge78p5`` for mrextrap_bayes at 78.5 years; ages go to hundredths of a year."""
    words, years = "".join(word.capitalize() for word in system.split("_")), f"{age:.2f}".rstrip("0").rstrip(".")
    return f"{PREDICTED}{words}Age{years.replace('.', 'p').replace('-', 'm')}"


def told_by(desc: str) -> tuple[str, float] | None:
    """What :func:`predicted_desc` put into a ``desc-``: the system as it is spelled there ("" for none) and the age."""
    match = _FORECAST.fullmatch(desc)
    return (match["system"], float(match["age"].replace("p", ".").replace("m", "-"))) if match else None


def write_tables(root: Path, names: Mapping[int, str]) -> None:
    """Tables of people, sessions, images with their volumes, descriptions and labels, from the sidecars in `root`.

    Parameters
    ----------
    root : path
    names : mapping of int to str
        What the codes of label maps mean; empty where there are none.
    """
    images = sorted(images_in(root), key=lambda image: (image.predicted, image.path))
    scans = [image for image in images if image.desc == "preproc"]
    people = {image.subject: image for image in sorted(scans, key=lambda s: s.facts["Age"], reverse=True)}
    _table(root / "participants", {f"sub-{name}": {
        "age": first.facts["Age"], "sex": first.facts["Sex"], "diagnosis": first.facts["Diagnosis"],
        "source_id": first.facts["SourceSubject"],
    } for name, first in sorted(people.items())}, "participant_id", {
        "age": {"Description": "Age at the first scan in years", "Units": "year"}, "diagnosis": _DIAGNOSIS,
        "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
        "source_id": {"Description": "The person in the cohort"},
    })
    about = {"age": _AGE, "diagnosis": _DIAGNOSIS, "source_id": {"Description": "The session in the cohort"}}
    write_json(root / "sessions.json", _told("Scans of a person", about))
    for name in people:
        rows = {f"ses-{s.session}": {
            "age": s.facts["Age"], "diagnosis": s.facts["Diagnosis"], "source_id": s.facts["SourceSession"],
        } for s in scans if s.subject == name}
        _table(root / f"sub-{name}" / f"sub-{name}_sessions", rows, "session_id")
    _write_images(root, [image for image in images if image.suffix == _T1W])
    said = {image.desc: _said(image) for image in images if image.desc}
    _table(root / "descriptions", {f"desc-{desc}": {"description": text} for desc, text in said.items()}, "desc_id", {
        "description": {"Description": "What the images so named are"},
    })
    if names:
        _table(root / "dseg", {str(code): {"name": name} for code, name in sorted(names.items())}, "index")
        write_json(root / "dseg.json", {"name": {"Description": "The structure"}, "SpatialReference": REFERENCE})


def _said(image: Derived) -> str:
    """What a description says of all images that share it."""
    facts = image.facts
    return f"{facts['System']} at {facts['PredictedAge']:g} years" if image.predicted else str(facts["Description"])


def _write_images(root: Path, images: list[Derived]) -> None:
    """``scans.tsv`` of every session: a row per image, a column per structure."""
    structures = dict.fromkeys(name for image in images for name in image.facts["Volumes"])
    volumes = {f"{name}_mm3": {"Description": f"Volume of {name}", "Units": "mm3"} for name in structures}
    write_json(root / "scans.json", _told("Scans and predictions, with their volumes", _COLUMNS | volumes))
    for subject, session in dict.fromkeys((image.subject, image.session) for image in images):
        rows = {
            image.path.split("/", 2)[2]: _row(image) | {
                f"{name}_mm3": image.facts["Volumes"].get(name) for name in structures}
            for image in images if (image.subject, image.session) == (subject, session)
        }
        place = root / f"sub-{subject}" / f"ses-{session}" / f"sub-{subject}_ses-{session}_scans"
        _table(place, rows, "filename")


def _row(image: Derived) -> dict[str, Any]:
    facts = image.facts
    return {
        "system": facts.get("System"), "age": facts["PredictedAge"] if image.predicted else facts["Age"],
        "years_ahead": facts.get("YearsAhead"), "volumes_from": facts["VolumesFrom"] or None,
    }


def _table(
    place: Path, rows: Mapping[str, Mapping[str, Any]], key: str, columns: Mapping[str, Any] | None = None
) -> None:
    """A TSV, and where its columns are told, the JSON of them; what is not known is n/a."""
    names = [key, *dict.fromkeys(name for row in rows.values() for name in row)]
    cells = [[first, *(_cell(row.get(name)) for name in names[1:])] for first, row in rows.items()]
    write_text(place.with_name(f"{place.name}.tsv"), "".join("\t".join(line) + "\n" for line in [names, *cells]))
    if columns is not None:
        write_json(place.with_name(f"{place.name}.json"), _told(f"Table of {place.name}", columns))


def _told(what: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    return {"Description": what, **columns}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.9g}"
    return "n/a" if value is None or value == "" else re.sub(r"\s+", " ", str(value))


def _image_files(root: Path) -> list[Path]:
    """Without what a process that was killed left half-made: hidden files, and whatever lies in hidden folders."""
    found = sorted(root.glob("sub-*/**/*.nii*"))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def images_in(root: Path, *, bare: bool = False) -> Iterator[Derived]:
    """Every image of a data set that its sidecar makes complete; names and folders must agree.

    With `bare`, images without a sidecar too, with no facts.

    Raises
    ------
    NbkitError
        By file: a name that says nothing, another folder, a sidecar that is none.
    """
    for path in _image_files(Path(root)):
        place, match = path.relative_to(root).as_posix(), _NAME.fullmatch(path.name)
        where = f"{Path(root).name}/{place}"
        require(
            match is not None, where, expected=f"a name such as sub-X_ses-Y_space-{SPACE}_desc-brain_mask.nii.gz",
            found=path.name, remedy="Move the file out of the data set.",
        )
        image = Derived(match["subject"], match["session"], match["suffix"], match["desc"] or "", {})
        require(
            image.path == place, where, expected=image.path, found=place, remedy="Move the file to its own folder.",
        )
        if (Path(root) / image.sidecar).is_file():
            yield replace(image, facts=read_object(Path(root) / image.sidecar, remedy=AGAIN))
        elif bare:
            yield image


@dataclass(frozen=True)
class Derivatives:
    """A data set as :func:`read_derivatives` found it.

    Parameters
    ----------
    root : Path
    description : mapping
        ``dataset_description.json``.
    images : tuple of Derived
    table : pandas.DataFrame
        All ``scans.tsv``: participant_id, session_id, filename, system ("n/a" for a scan), age, years_ahead,
        volumes_from and mm³ by structure; NaN for a number that is n/a.
    """

    root: Path
    description: Mapping[str, Any]
    images: tuple[Derived, ...]
    table: pd.DataFrame


def read_derivatives(root: Path | str) -> Derivatives:
    """Read back what an export wrote, strictly.

    Raises
    ------
    NbkitError
        By file: no derivatives data set, an image without sidecar, a source that is not there, a table that says
        another age or other images than there are.
    """
    root = Path(root)
    description = read_object(root / DESCRIPTION, remedy=AGAIN)
    require(
        description.get("DatasetType") == "derivative", f"{root.name}/{DESCRIPTION}: DatasetType",
        expected="'derivative'", found=repr(description.get("DatasetType")), remedy="Give a folder of derivatives.",
    )
    images = tuple(images_in(root))
    here = {image.path for image in images}
    every = {path.relative_to(root).as_posix() for path in _image_files(root)}
    _same(root, every, here, "a sidecar beside every image")
    sources = {uri.removeprefix("bids::") for image in images for uri in image.facts.get("Sources", ())}
    _same(root, sources | here, here, "every source among the images")
    tables = [_read_rows(path) for path in sorted(root.glob("sub-*/ses-*/*_scans.tsv"))]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["filename", "age"])
    pictured = {image.path: image for image in images if image.suffix == _T1W}
    _same(root, set(table["filename"]), set(pictured), "a row of scans.tsv for every image, and no other")
    for row in table.itertuples():
        age = _row(pictured[row.filename])["age"]
        require(
            abs(row.age - age) < 1e-3, f"{root.name}/{row.filename}: age", expected=f"{age:g}, as in its sidecar",
            found=f"{row.age:g} in scans.tsv", remedy=AGAIN,
        )
    return Derivatives(root, description, images, table)


def _same(root: Path, found: set[str], expected: set[str], what: str) -> None:
    odd = sorted(found ^ expected)
    require(
        not odd, root.name, expected=what, found=f"not so: {', '.join(odd[:5])}",
        remedy="Run the export again: it completes what is missing; or use --overwrite.",
    )


def _read_rows(path: Path) -> pd.DataFrame:
    """One ``scans.tsv`` with file names from the root, numbers as numbers."""
    table = read_text_table(path, ("filename", "system", "age"), tabs=True)
    subject, session = path.parts[-3:-1]
    words = [name for name in ("filename", "system", "volumes_from") if name in table.columns]
    numbers = {name: pd.to_numeric(table[name].replace("n/a", None)) for name in table.columns if name not in words}
    table = table.assign(**numbers, filename=[f"{subject}/{session}/{name}" for name in table["filename"]])
    table.insert(0, "participant_id", subject)
    table.insert(1, "session_id", session)
    return table
