"""Labels for real scans that carry none, as the segmenter of real scans reads them, kept in the cache."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from nbkit.core.config import digest
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Segmenter
from nbkit.core.recent import fingerprint
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume
from nbkit.data.lazy import load_volume, save_volumes
from nbkit.data.shipped import weights_list
from nbkit.papers.trajectories import scan_error, scan_segmenter

KIND, _FILE = "read_labels", "labels.safetensors"


def read_labels(people: Cohort, *, device: str = "auto") -> Cohort:
    """The same people; where no scan carries labels, with those that the segmenter of real scans finds.

    Systems learn from such labels, and are judged by them, with the same segmenter as reader of what they paint
    (:class:`nbkit.systems.Bench`). What the reading errs by stands in ``reference/weights/scan_segmenter``.
    """
    if any(scan.labels is not None for person in people for scan in person.scans):
        return people
    return with_labels(people, scan_segmenter.shipped(device=device), key=weights_list()[scan_error.NAME]["sha256"])


def with_labels(
    people: Cohort, reader: Segmenter, *, key: str, cache: Cache | None = None, progress: bool = True,
    contrast: str = "T1w",
) -> Cohort:
    """The same people, every scan with labels: its own, or else those that `reader` finds, on the grid of the scan.

    What learns from labels or counts them then serves real scans too; what such labels err by is the reader's own error
    (:mod:`nbkit.papers.trajectories.scan_error`), and stands beside what is made of them.

    Parameters
    ----------
    people : Cohort
    reader : Segmenter
    key : str
        What tells this reader from others, such as the hash of its weights; part of the cache key and of ``data_hash``.
    cache : Cache, optional
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    Cohort
        `people` itself where all scans have labels; else ``provenance["labels"]`` says where they come from.
    """
    bare = [scan for person in people for scan in person.scans if scan.labels is None]
    if not bare:
        return people
    bar = tqdm(total=len(bare), desc="labels", unit="scan", disable=not progress)

    def labelled(scan: Scan) -> Scan:
        if scan.labels is not None:
            return scan
        image, mask = scan.image(contrast), scan.mask("brain")
        record = [fingerprint(image), fingerprint(mask), key, module_digest(__name__, type(reader).__module__)]
        make = partial(_make, reader, image, mask)
        labels = (cache or Cache()).get(KIND, record, make, lambda folder: load_volume(folder / _FILE, "labels"))
        bar.update()
        return replace(scan, labels=labels, label_names=dict(reader.names))

    with bar:
        read = tuple(replace(person, scans=tuple(map(labelled, person.scans))) for person in people)
    told = {scan_error.READ: f"read by {type(reader).__name__} {key[:12]}"}
    if "data_hash" in people.provenance:
        told["data_hash"] = digest([people.provenance["data_hash"], key])
    return replace(people, subjects=read, provenance={**people.provenance, **told})


def _make(reader: Segmenter, image: Volume, mask: Volume, folder: Path) -> None:
    labels = reader.segment(image, mask=mask)
    save_volumes(folder / _FILE, {"labels": labels.with_data(labels.data.to(torch.uint8).reshape(1, *labels.shape))})
