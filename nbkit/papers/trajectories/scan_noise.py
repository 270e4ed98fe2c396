"""How much of a difference is noise: two scans of a person who did not age between them, measured as forecasts are.

A forecast of a real scan is never nearer to it than a second scan would be: below these differences no forecast can be
judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from nbkit.core.protocols import Cohort, Subject, VolumeReader
from nbkit.core.tidy import COLUMNS, stacked, tidy
from nbkit.metrics.regions import by_structure
from nbkit.papers.trajectories.image_scores import image_scores

UNITS = {"ssim": "SSIM", "psnr": "dB", "mae": "share of peak"}
VOLUME, PERCENT = "volume", "% of the volume"
_Z, _FETCH = 1.96, "nbkit data fetch sleepy_brain --people 10"


def differences(twice: Sequence[Cohort], reader: VolumeReader | None) -> pd.DataFrame:
    """Of each person's first two scans: SSIM, PSNR and MAE in the brain, and second minus first volume by structure.

    Images are scored as forecasts are, the first scan as the forecast of the second; volumes are read from both by the
    same reader, in % of their mean.

    Parameters
    ----------
    twice : sequence of Cohort
        People scanned twice without ageing between (``run.scanned_twice()``); none gives an empty frame.
    reader : VolumeReader, optional
        Without one there are no volumes.

    Returns
    -------
    DataFrame
        Tidy, with the columns "structure", "setting", which is the name of the cohort, and "note": who they are.
    """
    frames = [frame for cohort in twice for frame in _of_cohort(cohort, reader)]
    return stacked(*frames) if frames else pd.DataFrame(columns=[*COLUMNS, "structure", "setting", "note"])


def _of_cohort(cohort: Cohort, reader: VolumeReader | None) -> Iterator[pd.DataFrame]:
    told = {"system": "second scan", "setting": cohort.name, "note": _who(cohort)}
    scores = {subject.id: _images(subject) for subject in cohort}
    for metric, unit in UNITS.items():
        values = {who: found[metric] for who, found in scores.items()}
        yield tidy(values, id=f"scan_noise.{cohort.name}.{metric}", unit=unit, metric=metric, structure="", **told)
    read = {subject.id: _changes(subject, reader) for subject in cohort} if reader else {}
    for name in next(iter(read.values()), {}):
        values = {who: found[name] for who, found in read.items() if not math.isnan(found[name])}
        yield tidy(values, id=f"scan_noise.{cohort.name}.{name}", unit=PERCENT, metric=VOLUME, structure=name, **told)


def _who(cohort: Cohort) -> str:
    """What the cohort says of its people, and whose scans they are."""
    facts = cohort.provenance
    return ". ".join(filter(None, [*facts.get("who", [facts.get("kind", "")]), facts.get("attribution", "")]))


def _images(subject: Subject) -> dict[str, float]:
    first, second = subject.scans[:2]
    return image_scores(first, second, first.image("T1w"))


def _changes(subject: Subject, reader: VolumeReader) -> dict[str, float]:
    """Second minus first volume in % of their mean, by structure; NaN where both are empty."""
    first, second = (by_structure(reader.volumes(s.image("T1w"), mask=s.mask("brain"))) for s in subject.scans[:2])
    sums = {name: first[name] + second[name] for name in first}
    return {name: 200 * (second[name] - first[name]) / total if total else math.nan for name, total in sums.items()}


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """By cohort and measure: how many pairs, mean and SD, and of volumes how far 95 % of pairs lie apart at most.

    The last is the repeatability coefficient, 1.96 times the root mean square of the differences (Bland & Altman,
    Lancet 327:307-310, 1986). Of nobody, one row that says so.
    """
    nobody = {"cohort": "nobody", "measure": f"was scanned twice (`{_FETCH}` brings people who were)", "pairs": 0}
    rows = [] if len(found) else [nobody]
    for (setting, metric, name), part in found.groupby(["setting", "metric", "structure"], sort=False):
        values = part.loc[part["value"].abs() < math.inf, "value"]  # PSNR of one scan twice is no number
        apart = _Z * float((values**2).mean()) ** 0.5 if metric == VOLUME else math.nan
        rows.append({
            "cohort": setting, "measure": f"{name or metric} ({part['unit'].iloc[0]})", "pairs": len(part),
            "mean": values.mean(), "SD": values.std(), "95 % of pairs within ±": apart,
        })
    columns = ["cohort", "measure", "pairs", "mean", "SD", "95 % of pairs within ±"]
    return pd.DataFrame(rows, columns=columns).set_index(["cohort", "measure"]).round(4)


def said(found: pd.DataFrame) -> str:
    """What the table means, in sentences; what to fetch where nobody was scanned twice."""
    if found.empty:
        return (
            f"Not known here: nobody was scanned twice within weeks. `{_FETCH}` "
            "(1.1 GB) or `nbkit data fetch hrv_er` (older people before and after five weeks, about 1 GB) brings "
            "people who were; then run this notebook again."
        )
    table, volumes = summary(found).reset_index(), found["metric"].eq(VOLUME).any()
    lines = []
    for cohort, part in table.groupby("cohort", sort=False):
        ssim = part[part["measure"].str.startswith("ssim")].iloc[0]
        widest = part.dropna().sort_values("95 % of pairs within ±")
        wide = "" if widest.empty else (
            f"; volumes of 95 % of pairs within ±{widest.iloc[0, -1]:.1f} % ({widest.iloc[0, 1].split(' (')[0]}) to "
            f"±{widest.iloc[-1, -1]:.1f} % ({widest.iloc[-1, 1].split(' (')[0]})"
        )
        who = found.loc[found["setting"] == cohort, "note"].iloc[0]
        lines.append(f"{cohort}, {ssim['pairs']} pairs: SSIM of two scans {ssim['mean']:.3f}{wide}. {who}.")
    lines.append("A forecast that is nearer than that to a real scan is lucky, not better."
                 + ("" if volumes else " Volumes are not read here: no segmenter has learned from labels."))
    return " ".join(lines)
