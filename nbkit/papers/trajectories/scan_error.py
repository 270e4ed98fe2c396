"""How far off the volumes are that the segmenter reads from real scans: measured on people it never saw, and kept.

The table lies beside the weights (``error.tsv``): by structure and voxel size, Dice against DLMUSE, bias, and the error
to be expected of one reading. What two readings of one person differ by is not in it: notebook 08 measures that on
people scanned twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from nbkit.core.protocols import Cohort, Scan, Segmenter
from nbkit.core.volume import Volume
from nbkit.data.shipped import shipped_folder
from nbkit.geometry.placement import place
from nbkit.metrics.regions import by_structure, dice_by_structure
from nbkit.papers.trajectories.design import has_labels
from nbkit.papers.trajectories.outlooks import read_at
from nbkit.papers.trajectories.regional_segmenter import RegionalSegmenter, own_error

NAME, READ = "scan_segmenter", "labels"
"""The weights, and what a cohort's provenance has where labels were read by them."""
SPACINGS = (2.0, 3.0, 5.0)
"""Voxel sizes (mm) that readings are judged at: that of training, and those of small profiles."""
COLUMNS = ("structure", "spacing_mm", "people", "dice", "bias_pct", "sd_pct", "error_pct")


def measured_error(segmenter: Segmenter, cohort: Cohort, *, spacings: Sequence[float] = SPACINGS) -> pd.DataFrame:
    """Agreement with the labels of people never seen, by structure (both sides as one) and voxel size.

    Parameters
    ----------
    segmenter : Segmenter
    cohort : Cohort
        Scans with labels and a mask "brain"; ``truth`` gives the volumes of the label maps.
    spacings : sequence of float
        mm; scans are laid on coarser grids of the same field of view.

    Returns
    -------
    pandas.DataFrame
        Columns :data:`COLUMNS`: mean Dice over people at the grid of the labels (NaN on others); mean, SD and root mean
        square over people of the relative error of the volume (%).
    """
    rows = []
    for subject in cohort:
        scan, true = subject.baseline, by_structure(cohort.truth[subject.id].volumes[0])
        for spacing in spacings:
            image, mask = coarsened(scan, spacing)
            found = by_structure(segmenter.volumes(image, mask=mask))
            same, overlap = image.shape == scan.labels.shape, {}
            if same:
                labels = segmenter.segment(image, mask=mask)
                overlap = dice_by_structure(labels, scan.labels, scan.label_names)
            rows += [(name, spacing, overlap.get(name, np.nan), 100 * (found[name] / true[name] - 1)) for name in true]
    table = pd.DataFrame(rows, columns=["structure", "spacing_mm", "dice", "error"])
    grouped = table.groupby(["structure", "spacing_mm"], sort=False)
    return pd.DataFrame({
        "people": grouped.size(), "dice": grouped["dice"].mean(), "bias_pct": grouped["error"].mean(),
        "sd_pct": grouped["error"].std(), "error_pct": grouped["error"].apply(lambda e: float(np.sqrt((e**2).mean()))),
    }).reset_index()


def coarsened(scan: Scan, spacing: float, *, contrast: str = "T1w") -> tuple[Volume, Volume]:
    """Image and brain of a scan on voxels of `spacing` mm over the same field of view; as they are if they fit."""
    image, mask = scan.image(contrast), scan.mask("brain")
    if np.allclose(image.spacing, spacing):
        return image, mask
    ratio = spacing / np.array(image.spacing)
    shape = tuple(int(n) for n in np.ceil(np.array(image.shape) / ratio))
    affine = image.affine @ np.diag([*ratio, 1.0])
    affine[:3, 3] = (image.affine @ np.array([*((ratio - 1) / 2), 1.0]))[:3]
    share = place(mask, np.eye(4), shape=shape, affine=affine)
    inside = share.with_data(share.data > 0.5)
    laid = place(image, np.eye(4), shape=shape, affine=affine)
    return laid.with_data(laid.data * inside.data), inside


def kept_error(spacing: float, *, folder: Path | None = None) -> pd.DataFrame:
    """The rows of the table that comes with the weights, by structure, for the voxel size nearest to `spacing` (mm)."""
    table = _table(folder or shipped_folder(NAME))
    nearest = min(table["spacing_mm"].unique(), key=lambda s: abs(s - spacing))
    return table[table["spacing_mm"] == nearest].set_index("structure")


def reading_error(segmenter: RegionalSegmenter, people: Cohort) -> pd.DataFrame:
    """What limits volumes read from scans of `people`: the segmenter's error on them, or the kept one without labels.

    By structure; on people with labels of their own, whom it was not trained on,
    :func:`~nbkit.papers.trajectories.regional_segmenter.own_error`, else :func:`kept_error` at their voxel size.
    """
    if _own_labels(people):
        return own_error(segmenter, people)
    return kept_error(people.subjects[0].baseline.image("T1w").spacing[0]).drop(columns="spacing_mm")


def whom(people: Cohort) -> str:
    """On whom :func:`reading_error` is measured, in words."""
    if _own_labels(people):
        return f"{len(people)} people of {people.name}"
    taught = "; it read the labels, too, that systems here learn from and are judged by" if has_labels(people) else ""
    return f"people of IXI{taught}"


def _own_labels(people: Cohort) -> bool:
    return has_labels(people) and READ not in people.provenance


def relative_error(spacing: float, *, folder: Path | None = None) -> dict[str, float]:
    """By structure, the error to be expected of a volume read at `spacing` mm; 1 is all of it."""
    return (kept_error(spacing, folder=folder)["error_pct"] / 100).to_dict()


def error_of(scan: Scan, closer: Sequence[Scan] = (), *, of: Cohort | None = None) -> dict[str, float]:
    """By structure, the relative error of what :func:`~nbkit.papers.trajectories.outlooks.measured` reads from a scan.

    Empty where the scan has labels of its own: there are none in a cohort (`of`) whose labels were read.
    """
    read = scan.labels is None or (of is not None and READ in of.provenance)
    return relative_error(read_at(scan, closer)) if read else {}


def told(volumes: Mapping[str, float], scan: Scan, closer: Sequence[Scan] = ()) -> tuple[pd.DataFrame, str]:
    """:func:`with_error` of the volumes read from a scan, and a caption that says at which voxel size."""
    spacing = read_at(scan, closer)
    caption = f"Volumes read from a scan at {spacing:g} mm, and the error to expect of them"
    return with_error(volumes, spacing).round(2), caption


def with_error(volumes: Mapping[str, float], spacing: float, *, folder: Path | None = None) -> pd.DataFrame:
    """Volumes (mm³) by structure as mL, each with the error to be expected of it.

    Parameters
    ----------
    volumes : mapping of str to float
        Read by the segmenter of real scans; sides are added up.
    spacing : float
        Voxel size of the image that was read (mm).

    Returns
    -------
    pandas.DataFrame
        By structure: "volume (mL)", "± error (mL)" (root mean square over people never seen), "bias (%)" and "Dice".
    """
    error, sums = kept_error(spacing, folder=folder), by_structure(volumes)
    names = [name for name in sums if name in error.index]
    ml = pd.Series({name: sums[name] / 1000 for name in names})
    known = error.loc[names]
    return pd.DataFrame({
        "volume (mL)": ml, "± error (mL)": ml * known["error_pct"] / 100, "bias (%)": known["bias_pct"],
        "Dice": kept_error(SPACINGS[0], folder=folder).loc[names, "dice"],
    }).rename_axis("structure")


@lru_cache(maxsize=4)
def _table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "error.tsv", sep="\t")
