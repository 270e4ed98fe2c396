"""Images that came back: named as BIDS derivatives, on the grid of the scans, with a brain in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbkit.benchmark.ageing import FORECAST, START, Ageing, Asked
from nbkit.benchmark.faults import Faults
from nbkit.core.checks import closest, require
from nbkit.core.volume import Volume
from nbkit.data.derivatives import Derived, images_in, predicted_desc, told_by
from nbkit.data.nifti import read_grid, read_image

_LIKELY = (1 / 3, 3.0)
"""Median within the brain over that of the last scan shown: beyond this, the image has another scale."""


def forecast_images(folder: Path, task: Ageing, faults: Faults) -> dict[str, dict[Asked, Path]]:
    """By system, the forecasts in a folder, each read once and checked; faults are noted by file.

    Other images (scans, masks, labels, as an export writes them) are passed over. A system is called as its sidecars
    say ("System"), or as ``desc-predictedNAMEAge...`` does, or "".
    """
    found: dict[str, dict[Asked, Path]] = {}
    images: list[Derived] = []
    with faults.noted():
        images = [i for i in images_in(folder, bare=True) if i.predicted and i.suffix == "T1w"]
    for image in images:
        where = f"{folder.name}/{image.path}"
        with faults.noted():
            system, key = _asked(image, task, where)
            own = found.setdefault(system, {})
            require(
                key not in own, where, expected="one image of a person and an age",
                found=f"another: {own[key].name if key in own else ''}", remedy="Remove one of the two.",
            )
            own[key] = folder / image.path
            last = task.last(task.by_label[image.subject])
            check_image(folder / image.path, like=last.image("T1w"), mask=last.mask("brain"), where=where, scaled=True)
    return found


def _asked(image: Derived, task: Ageing, where: str) -> tuple[str, Asked]:
    """The system, and the person and age that were asked for."""
    trained = image.subject in task.labels.values() and image.subject not in task.by_label
    require(
        image.subject in task.by_label, f"{where}: subject", expected="a test person of wanted.tsv",
        found=f"{image.subject!r}{', a training person' if trained else ''}",
        remedy=f"{'' if trained else closest(image.subject, task.by_label)}Hand in those whom wanted.tsv lists.",
    )
    told = told_by(image.desc)
    require(
        told is not None, f"{where}: desc", expected=predicted_desc("", 72.35), found=repr(image.desc),
        remedy="The age stands in the name: 72p35 for 72.35 years.",
    )
    name, age = told
    person = task.by_label[image.subject]
    ages = {a: what for what in (START, FORECAST) for label, a in task.asked(what) if label == image.subject}
    nearest = min(ages, key=lambda a: abs(a - age))
    require(
        abs(nearest - age) < 0.0051, f"{where}: age", found=f"{age:g}",
        expected=f"an age of wanted.tsv: {', '.join(f'{a:g}' for a in sorted(ages))}",
        remedy="Copy the ages of wanted.tsv into the names as they stand.",
    )
    session = task.session(person, task.last(person))
    require(
        image.session == session, f"{where}: session", expected=f"ses-{session}, the last scan shown",
        found=f"ses-{image.session}", remedy="Name the session that wanted.tsv gives.",
    )
    _check_sidecar(image.facts, age, where)
    return str(image.facts.get("System", name)), (image.subject, nearest)


def _check_sidecar(facts: Mapping[str, Any], age: float, where: str) -> None:
    said = facts.get("PredictedAge", age)
    good = isinstance(said, int | float) and abs(said - age) < 0.0051
    require(good, f"{where}: PredictedAge", expected=f"{age:g}, as in its name", found=repr(said),
            remedy="Name and sidecar say the same age, or the sidecar says none.")


def check_image(path: Path, *, like: Volume, mask: Volume, where: str, scaled: bool = False) -> Volume:
    """The image; one on another grid than `like`, or with nothing inside `mask`, is refused.

    With `scaled`, one that is on another scale than `like` too.

    Raises
    ------
    NbkitError
        By file: besides the above what :func:`~nbkit.data.nifti.read_image` refuses (not an image, not 3D, not real,
        not finite, constant).
    """
    shape, affine = read_grid(path)
    gap = abs(affine - like.affine).max() if tuple(shape) == tuple(like.shape) else float("inf")
    require(
        gap <= 1e-2, f"{where}: grid", found=f"{tuple(shape)}" if gap == float("inf") else f"affine off by {gap:.3g}",
        expected=f"the grid of the scans, {tuple(like.shape)} and its affine",
        remedy="Resample the forecast onto the scan of the last session shown.",
    )
    image, brain = read_image(path), mask.data.bool()
    inside, scan = image.data[brain].float(), like.data[brain].float()
    require(
        bool((inside > 0).any()), f"{where}: brain", expected="an image of a brain", found="nothing above 0 within it",
        remedy="Look at the file: the forecast is empty where the last scan has its brain.",
    )
    ratio, (low, high) = float(inside.median() / scan.median()) if scaled else 1.0, _LIKELY
    require(
        low < ratio < high, f"{where}: intensity", expected="the scale of the scans, white matter 1",
        found=f"{ratio:.3g} times as bright (median in the brain)", remedy="Hand images in on the scale they came in.",
    )
    return image
