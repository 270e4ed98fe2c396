"""The head-to-head's tables as tidy frames: scores of every trajectory system on the same people.

Systems stand under "system", how many scans were shown under "setting" ("one", "several"), what is measured under
"metric", and how under "reading": images in the "brain" or "whole", volumes "own" or "alike".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort, Segmenter
from nbkit.core.tidy import stacked, tidy, where
from nbkit.metrics.calibration import LEVELS, calibration, coverage
from nbkit.papers.trajectories.design import UNCERTAIN, UNLABELLED, Design
from nbkit.papers.trajectories.experiments import Scores, by_person, scored_trajectories
from nbkit.papers.trajectories.ranking import NO_FORECAST, standings

SAID: Mapping[str, str] = {"one": "one scan", "several": "several scans"}
CONTROLS = ("no_change", "pixel_ols", "pixel_population", "mrextrap_population", "mean_slope", "diagnosis_slope")
"""Systems that are nobody's claim."""
PLACES: Mapping[str, str] = {"ventricle": "lateral_ventricle", "hippocampus": "hippocampus"}
"""Structures whose volumes decide, by metric."""
TITLES: Mapping[str, str] = {
    "ventricle": "lateral ventricle, error (%)", "hippocampus": "hippocampus, error (%)", "ssim": "SSIM in the brain",
    "psnr": "PSNR (dB)", "mae": "MAE",
}
"""What decides; more is better of SSIM and PSNR alone."""
MINOR = ("hindsight", "brlp_one_sample", "no_pt", "pixel_ols")
PERCENT, MM3, OF_BRAIN = "% of the true volume, absolute", "mm³, absolute", "% of the brain"
SHOWN = ("lateral_ventricle", "hippocampus", "temporal")
BRLP_TABLES: Mapping[str, str] = {
    "brlp_internal_one": "BrLP, internal test set, one scan",
    "brlp_internal_several": "BrLP, internal test set, several scans", "brlp_samples": "BrLP, samples averaged",
    "brlp_by_diagnosis": "BrLP, internal test set, by diagnosis", "brlp_copying": "Copying the scan, by others",
}
PRINTED: Mapping[str, Mapping[str, str]] = {
    "one": {
        "brlp": "head_to_head.internal_one.ssim.brlp", "no_change": "head_to_head.copy.ssim.no_change",
        "inbrainsyn": "inbrainsyn.table1.ssim.inbrainsyn", "no_pt": "inbrainsyn.table1.ssim.no_pt",
        "countersynth": "head_to_head.internal_one.ssim.countersynth",
        "daninet3d": "head_to_head.internal_one.ssim.daninet",
    },
    "several": {"brlp": "head_to_head.internal_several.ssim.brlp"},
}
"""Where the SSIM of a system is printed, by setting."""
_NOT_OURS = {"sadm": "not one of our systems"}
_RIVALS = ("brlp", "countersynth", "daninet3d")
_NO_ID = ("hindsight", "reach", "reach_tenfold")
_PRINTED_AS = {"daninet3d": "daninet"}
"""BrLP's tables have a DaniNet that was measured in three dimensions."""
_UNANSWERED = {
    "external": "a run has one set of people", "ablation": "BrLP is not trained again without its parts here",
    "others": "not our experiment", "samples": "this run averages another number of samples",
    "by_diagnosis": "nobody of this stage is predicted, or the volume is in the tables of structures",
}
_UNITS = {
    "ssim": "SSIM", "psnr": "dB", "mae": "share of peak", "dice": "Dice", "mse": "1",
    "sharpness": "gradient energy over that of the true scan",
}
_STAGES = {"CN": "cn", "SMC": "cn", "EMCI": "mci", "LMCI": "mci", "AD": "ad"}


def tidy_scores(scores: Mapping[str, Scores]) -> pd.DataFrame:
    """By setting, everything measured of each person, mean over visits: errors of volumes without their sign, images.

    Columns besides those of a tidy frame: setting, reading, diagnosis and, of volumes, structure; the lateral ventricle
    is the metric "ventricle". Nothing has an id yet (:func:`deciding`, :func:`brlp_tables`).
    """
    rows = []
    for setting, found in scores.items():
        wrong = {"error_pct": PERCENT, "error_mm3": MM3, "error_brain_pct": OF_BRAIN} if len(found.regions) else {}
        for column, unit in wrong.items():
            table = found.regions.assign(**{column: found.regions[column].abs()})
            part = by_person(table, column, by=("diagnosis", "structure", "reading"), unit=unit, setting=setting)
            rows.append(part.assign(metric=part["structure"].replace("lateral_ventricle", "ventricle")))
        visits = found.visits.assign(mse_whole=10 ** (-found.visits["psnr_whole"] / 10))
        for column in ("ssim", "psnr", "mae", "sharpness", "ssim_whole", "psnr_whole", "mae_whole", "mse_whole"):
            metric, _, whole = column.partition("_")
            told = {"metric": metric, "reading": whole or "brain", "unit": _UNITS[metric], "setting": setting}
            rows.append(by_person(visits, column, by=("diagnosis",), **told))
    return stacked(*rows)


def deciding(scored: pd.DataFrame) -> pd.DataFrame:
    """What ranks and decides: errors of two volumes read alike, images in the brain; hindsight is no forecast."""
    part = scored[scored["metric"].isin(TITLES) & scored["reading"].isin(("alike", "brain"))]
    part = part[~part["unit"].isin((MM3, OF_BRAIN))]
    part = part[(part["system"] != "hindsight") | (part["reading"] == "alike")]
    return named(part, "head_to_head.{setting}.{metric}.{system}")


def sharpness_scores(scored: pd.DataFrame) -> pd.DataFrame:
    """How sharp every system's images are beside the true visit: gradient energy over its, 1 for as sharp."""
    return named(where(scored, metric="sharpness"), "head_to_head.{setting}.{metric}.{system}")


def named(rows: pd.DataFrame, id: str) -> pd.DataFrame:
    """`rows` under the ids that `id` makes of their columns; hindsight has none, and rooms record the reach."""
    ids = ["" if row["system"] in _NO_ID else id.format(**row) for row in rows.to_dict("records")]
    return rows.assign(id=ids)


def structure_table(scored: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Mean error of every structure by system: in % and mm³ read alike, and in % by each system's own reading."""
    parts = {"error (%), alike": (PERCENT, "alike"), "error (mm³), alike": (MM3, "alike"),
             "error (%), own": (PERCENT, "own")}
    tables = {
        title: where(scored, setting=setting, unit=unit, reading=reading)
        .pivot_table("value", "structure", "system", sort=False)
        for title, (unit, reading) in parts.items()
    }
    return pd.concat(tables)


def tables(scored: pd.DataFrame, main: pd.DataFrame, setting: str) -> dict[str, pd.DataFrame]:
    """Errors by structure, where there are volumes, and by diagnosis."""
    volumes = {"structures": structure_table(scored, setting)} if (scored["unit"] == PERCENT).any() else {}
    return volumes | {"diagnosis": by_diagnosis(main, setting)}


def by_diagnosis(main: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Means over people by diagnosis at baseline: volumes read alike, and SSIM in the brain."""
    rows = where(main, setting=setting)
    rows = rows[(rows["system"] != "hindsight") & ~rows["metric"].isin(("psnr", "mae"))]
    return rows.pivot_table("value", ["metric", "diagnosis"], "system").rename(index=TITLES, level=0).round(4)


def read_alike(found: Scores, structures: Sequence[str]) -> pd.DataFrame:
    """Visits of some structures read alike, with the absolute error "miss" (% of the true volume)."""
    rows = where(found.regions, reading="alike")
    return rows[rows["structure"].isin(structures)].assign(miss=rows["error_pct"].abs())


def ahead(found: Scores, metric: str, *, without: Sequence[str] = MINOR) -> pd.DataFrame:
    """Visits read alike of the structure of a metric, for errors by years ahead; lesser systems are left out."""
    rows = read_alike(found, [PLACES[metric]])
    return rows[~rows["model"].isin(without)]


def first_people(found: Scores, systems: Sequence[str], *, most: int = 3) -> pd.DataFrame:
    """Volumes of the first person of each diagnosis under some systems, read alike."""
    rows = read_alike(found, SHOWN)
    first = rows.groupby("diagnosis", sort=False)["subject"].first()[:most]
    return rows[rows["subject"].isin(first) & rows["model"].isin(systems)]


def slice_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Each person's mean over visits on one slice, of a table with the columns ssim_brain, psnr and mae."""
    columns = {"ssim": "ssim_brain", "psnr": "psnr", "mae": "mae"}
    found = (by_person(rows, c, metric=m, unit=_UNITS[m], setting="slice") for m, c in columns.items())
    return named(stacked(*found), "head_to_head.{setting}.{metric}.{system}")


def brlp_tables(scored: pd.DataFrame, *, samples: int) -> pd.DataFrame:
    """BrLP's measures: MSE and SSIM of the whole image, errors of volumes in % of the brain; `samples` averaged."""
    images = scored[(scored["reading"] == "whole") & scored["metric"].isin(("mse", "ssim"))]
    volumes = scored[(scored["unit"] == OF_BRAIN) & (scored["reading"] == "alike")]
    rows = stacked(images, volumes)
    rows = rows.assign(system=rows["system"].replace(_PRINTED_AS))
    internal = named(rows, "head_to_head.internal_{setting}.{metric}.{system}")
    return stacked(internal, _brlp_again(scored, samples))


def _brlp_again(scored: pd.DataFrame, samples: int) -> pd.DataFrame:
    """From one scan: BrLP's samples averaged, BrLP by stage of the disease, and the scan copied."""
    one = where(scored, setting="one")
    whole, ventricle = where(one, reading="whole"), where(one, reading="alike", metric="ventricle", unit=PERCENT)
    both = stacked(where(whole, metric="ssim"), ventricle)
    m = {"brlp": ("ours", samples), "brlp_one_sample": ("m1", 1)}
    averaged = [
        named(where(both, system=system), f"head_to_head.samples.{{metric}}.{place}").assign(note=f"m = {count}")
        for system, (place, count) in m.items()
    ]
    told = whole[(whole["metric"] == "ssim") & whole["system"].isin(("brlp", "daninet3d"))]
    told = told.assign(stage=told["diagnosis"].map(_STAGES), system=told["system"].replace(_PRINTED_AS))
    stages = named(told, "head_to_head.by_diagnosis.ssim.{stage}.{system}")
    copied = where(whole, system="no_change")
    copied = named(copied[copied["metric"] != "mse"], "head_to_head.copy.{metric}.no_change")
    return stacked(*averaged, stages, copied)


def table1_rows(
    models: Mapping[str, Any], test: Cohort, *, design: Design, main: pd.DataFrame, segmenter: Segmenter
) -> pd.DataFrame:
    """What InBrainSyn's ledger asks of its rivals: rows of its Table 1, everybody's sharpness, longitudinal models.

    Parameters
    ----------
    models : mapping of str to TrajectoryModel
        Fitted, "inbrainsyn" and rivals among them; people on its healthy course are asked for whom it has an answer.
    test : Cohort
    design : Design
        At most so many people as its ``healthy``, every later visit from the first scan.
    main : DataFrame
        As :func:`deciding` gives it: InBrainSyn from the last scan seen beside least squares through several.
    segmenter : Segmenter
    """
    carrier = models["inbrainsyn"]
    able = [s.id for s in test if s.diagnosis in carrier.config.healthy and len(s.scans) > 1 and carrier.covers(s)]
    people, asked = test.subset(able[: design.healthy]), {n: models[n] for n in ("inbrainsyn", *_RIVALS) if n in models}
    key = {name: getattr(getattr(m, "space", None), "constants", dict)() for name, m in asked.items()}
    visits = scored_trajectories(asked, people, key=key, segmenter=segmenter).visits
    rivals = visits[visits["model"].isin(_RIVALS)]
    id = "inbrainsyn.table1.{metric}.{system}"
    rows = [by_person(rivals, c, id=id, unit=_UNITS[c]) for c in ("psnr", "ssim", "mae", "dice")]
    sharp = by_person(visits, "sharpness", id="inbrainsyn.{metric}.{system}", unit=_UNITS["sharpness"])
    long = main[main["metric"].isin(("ssim", "ventricle")) & main["system"].isin(("inbrainsyn", "mrextrap_ols"))]
    long = named(where(long, setting="several"), "inbrainsyn.longitudinal.{metric}.{system}")
    return stacked(*rows, sharp, long)


def never_run(ids: Iterable[str], *, labelled: bool = True) -> dict[str, str]:
    """Why a number of the ledger has no run of ours, by id or its beginning."""
    unread = {} if labelled else {"head_to_head": UNLABELLED}
    ours = {id: _NOT_OURS[last] for id in ids if (last := id.rpartition(".")[2]) in _NOT_OURS}
    return ours | {f"head_to_head.{place}": reason for place, reason in _UNANSWERED.items()} | unread


def history_scores(alone: Scores, main: pd.DataFrame) -> pd.DataFrame:
    """Error of the same visits from the last scan alone ("one") and from all scans up to it ("several")."""
    rows = stacked(deciding(tidy_scores({"one": alone})), where(main, setting="several"))
    rows = rows[rows["metric"].isin(PLACES) & rows["system"].isin(UNCERTAIN)]
    return named(rows, "head_to_head.history.{metric}.{system}.{setting}")


def differences(rows: pd.DataFrame, column: str, more: str, less: str) -> pd.DataFrame:
    """Each person's value where `column` is `more`, minus that where it is `less`; by setting, metric and system."""
    keys = [key for key in ("setting", "metric", "system", "subject") if key != column]
    wide = rows.pivot(index=keys, columns=column, values="value")
    return (wide[more] - wide[less]).rename("value").reset_index()


def reading_gaps(scored: pd.DataFrame) -> pd.DataFrame:
    """Error (% of the true volume) of the own reading minus that of reading alike."""
    rows = where(scored, unit=PERCENT)
    return differences(rows[rows["metric"].isin(PLACES)], "reading", "own", "alike").dropna(subset="value")


def coverage_scores(forecasts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Each person's share of volumes inside the central interval of each level, the nominal share, and spread.

    The metric "spread_vs_error" is how far the spread of images drawn follows their error.
    """
    told, rows = {"unit": "share of volumes", "metric": "coverage"}, []
    for level in LEVELS:
        end = f"level{100 * level:.0f}"
        for setting, system, part in _parts(forecasts):
            id = f"head_to_head.coverage.{setting}.{system}.{end}"
            rows.append(tidy(coverage(part, level=level), id=id, system=system, setting=setting, level=level, **told))
        people = dict.fromkeys(part["subject"], level)
        rows.append(tidy(people, id=f"head_to_head.coverage.nominal.{end}", system="nominal", level=level, **told))
    spread = by_person(forecasts["one"], "spread_vs_error", id="head_to_head.spread.error.{system}", unit="1")
    return stacked(*rows, spread)


def coverage_table(forecasts: Mapping[str, pd.DataFrame], *, seed: int = 0) -> pd.DataFrame:
    """Coverage by setting, system and level, with the width and the score of the intervals (mm³)."""
    parts = _parts(forecasts)
    return pd.DataFrame([
        {"from": SAID[setting], "system": system, **row}
        for setting, system, part in parts for row in calibration(part, seed=seed)
    ])


def _parts(forecasts: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for setting, rows in forecasts.items():
        for system, part in rows[rows["structure"].isin(SHOWN)].groupby("model", sort=False):
            yield setting, system, part


def cost_scores(scores: Mapping[str, Scores]) -> pd.DataFrame:
    """Seconds of a predicted scan by person, and from one scan the largest share of folded voxels of what deforms."""
    rows = []
    for setting, found in scores.items():
        seconds = by_person(found.visits, "seconds", metric="seconds", unit="s", setting=setting)
        rows.append(named(seconds, "head_to_head.time.{metric}.{setting}.{system}"))
    visits = scores["one"].visits
    visits = visits[visits["model"].isin(("inbrainsyn", "no_pt", "countersynth"))]
    worst = visits.groupby(["model", "subject"], as_index=False)["folds"].max()
    return stacked(*rows, by_person(worst, "folds", id="head_to_head.folds.{system}", unit="share of brain voxels"))


def cost_table(scores: Mapping[str, Scores], memory: Mapping[str, float]) -> pd.DataFrame:
    """Folding, seconds and memory (MiB, by system) per predicted scan."""
    columns = {"folded voxels, largest share": ("folds", "max"), "smallest Jacobian": ("smallest_jacobian", "min"),
               "seconds per scan": ("seconds", "mean")}
    tables = {SAID[s]: found.visits.groupby("model", sort=False).agg(**columns) for s, found in scores.items()}
    table = pd.concat(tables, names=["from", "system"]).drop(index=list(NO_FORECAST), level=1, errors="ignore")
    return table.assign(**{"peak tensors (MiB)": table.index.get_level_values(1).map(memory)})


def reasons(main: pd.DataFrame, scores: Mapping[str, Scores], *, seed: int = 0) -> list[str]:
    """Why verdicts fall as they do, in sentences with the numbers of this run; `main` as of :func:`deciding`."""
    lines, ranks = [], standings(main, control="no_change", seed=seed)
    for (setting, metric), table in ranks.groupby(["setting", "metric"], sort=False):
        if metric not in ("psnr", "mae"):
            words = table.groupby("against control")["system"].agg(", ".join)
            better, worse = words.get("better", "none"), words.get("worse", "none")
            lines.append(f"From {SAID[setting]}, {TITLES[metric]}: better than no change: {better}; worse: {worse}.")
    return lines + [_growth(setting, found) for setting, found in scores.items() if len(found.regions)]


def _growth(setting: str, found: Scores) -> str:
    rows = where(found.regions, reading="alike", structure="lateral_ventricle")
    rows = rows.assign(miss=rows["error_pct"].abs()).groupby("model")[["miss", "change_pct", "true_change_pct"]].mean()
    seen = rows.loc["hindsight"]
    systems = [n for n in ("mrextrap_bayes", "brlp", "inbrainsyn", "countersynth", "daninet3d") if n in rows.index]
    said = [f"{n} says {rows.loc[n, 'change_pct']:.1f} %" for n in systems]
    return (
        f"From {SAID[setting]} the ventricles truly grow by {seen['true_change_pct']:.1f} % on average; the segmenter "
        f"sees {seen['change_pct']:.1f} % of it on the true scans and then misses single volumes by "
        f"{seen['miss']:.1f} %; {', '.join(said)}."
    )
