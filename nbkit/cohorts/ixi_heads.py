"""Real T1w heads of 40 healthy adults (IXI) with DLMUSE labels, prepared as an own scan would be; nothing is simulated.

What a segmenter of real scans learns from and is measured on; :mod:`nbkit.cohorts.ixi_ageing` ages the same people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.source import module_digest
from nbkit.core.volume import bounding_box
from nbkit.data import nifti
from nbkit.data.brain import finder
from nbkit.data.lazy import Shelf, load_volume
from nbkit.data.manifest import Manifest, load_manifest
from nbkit.data.participants import all_files
from nbkit.data.preprocess import Config, Reference, prepare
from nbkit.phantom.acquisition import Box
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.atlas import template_reference
from nbkit.phantom.longitudinal import brain_of, labels_of
from nbkit.phantom.muse import Codes, codes_of, laid_on, people_of, regions_of
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.reading import reading_box
from nbkit.phantom.regions import sided
from nbkit.phantom.study import Study, facts_of, half, store, stored

NAME, FILES = "ixi_heads", "ixi_ageing"
"""Of the cohort, and of the manifest of its files."""
PARAMETERS = Path(__file__).with_name("ixi_ageing.toml")
_LEAST = 0.98
"""Share of a head's labels that lies inside the grid."""


class Measured(NamedTuple):
    """mm³ by region at every visit, counted on the voxels of the label map itself."""

    ages: tuple[float, ...]
    volumes: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class Person:
    """Whom a cache entry belongs to."""

    id: str
    sex: str
    age: float


def build(
    *, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True, manifest: Manifest | None = None
) -> Cohort:
    """One scan a person at 2 mm: T1w, labels of the structures that simulated cohorts have, and two brain masks.

    The scan is prepared as an own one: brain found, N4, white-matter peak at 1, laid rigidly on the template's grid.
    The image is not cut: outside its brain every voxel repeats the nearest inside. ``masks["brain"]`` is the brain as
    found; ``masks["skull"]`` what DLMUSE labels, filled. Labels are of whole voxels, the likeliest; ``truth`` has the
    volumes of the label map before any interpolation.

    Raises
    ------
    NbkitError
        By person and file: missing, wrong, on another grid, badly aligned.
    """
    manifest = manifest or load_manifest(FILES)
    box = reading_box()
    parameters, roles, table = load_parameters(PARAMETERS), manifest.subjects(), people_of(manifest)
    study = Study(NAME, "2mm", 0, module_digest(__name__), parameters, box, cache)
    people = [Person(name, *table[name]) for name in sorted(table)]
    files = {p.id: all_files(manifest, roles[p.id].values()) for p in people}
    codes = codes_of(manifest, parameters)
    make = partial(
        _make, files=files, box=box, codes=codes, cache=cache,
        reference=template_reference(load_template(load_parameters())),
    )
    hashes = {name: [finder(), *(manifest.by_path[path].digest for path in own)] for name, own in files.items()}
    folders = study.made(
        people, make, depends=lambda person: hashes[person.id], n_jobs=n_jobs, progress=progress,
    )
    shelf, names = Shelf(), dict(enumerate(sided(codes), start=1))
    read = [_read(person, folder, names, shelf) for person, folder in zip(people, folders, strict=True)]
    return study.cohort(
        read, hashes, [manifest], kind="real scans with labels", labels="DLMUSE, merged",
        intensity="1 = white-matter peak of the scan",
    )


def _make(
    person: Person, folder: Path, *, files: Mapping[str, Mapping[str, Path]], reference: Reference, codes: Codes,
    box: Box, cache: Cache | None,
) -> None:
    image, mask = files[person.id].values()
    t1w, labels = nifti.read_image(image), nifti.read_labels(mask)
    t1w.check_grid(labels, f"{mask} against {image.name}")
    scan = prepare(t1w, reference, config=Config(alignment="rigid"), cache=cache)
    sharp = regions_of(labels.crop(bounding_box(labels.data[0] > 0)), codes, scan.matrix)
    regions = laid_on(box, sharp, scan.matrix, where=f"{NAME}: {labels.history[0]}", least=_LEAST)
    shape, affine = box
    store(folder, {
        "image": {"T1w": half(scan.uncut_on(shape, affine))},
        "labels": {"0": labels_of(regions)},
        "mask": {"brain": scan.brain_on(shape, affine), "skull": brain_of(regions)},
    }, {"volumes": sharp.volumes})


def _read(
    person: Person, folder: Path, names: Mapping[int, str], shelf: Shelf
) -> tuple[Subject, Measured]:
    labels = load_volume(folder / "person.safetensors", "labels.0")
    scan = Scan(
        person.id, "M000", person.age, stored(folder, "image", ("T1w",), shelf),
        stored(folder, "mask", ("brain", "skull"), shelf), labels, names, "CN",
    )
    return Subject(person.id, person.sex, "CN", (scan,)), Measured((person.age,), (facts_of(folder)["volumes"],))
