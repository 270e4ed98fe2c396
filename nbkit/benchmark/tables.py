"""What the page says in numbers: pairs of entrants, TADPOLE's three, intervals, cost, who was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from nbkit.benchmark.entries import COSTS
from nbkit.benchmark.scoring import Judged
from nbkit.core.stats import ALPHA, MIN_SUBJECTS, bootstrap_p, holm, paired_difference
from nbkit.core.tidy import where
from nbkit.figures.charts import interval_text, number
from nbkit.figures.marks import region_title, title_of
from nbkit.metrics.tadpole import LEVEL, coverage_probability_accuracy, mean_absolute_error, weighted_error_score
from nbkit.papers.trajectories.head_to_head import PERCENT, TITLES
from nbkit.papers.trajectories.ranking import BETTER, NO_FORECAST, complete

DRAWS = 2000
_ENDS = ("lower", "upper")


def forecast_rows(found: Judged, name: str, region: str) -> pd.DataFrame:
    """Every volume of a region that somebody forecast beside the truth: subject, age, value, true, lower, upper (mm³).

    Where an interval is lacking though others have one, no change stands as sure as the narrowest of them and as wrong
    as it is: to leave somebody out never pays.
    """
    rows = where(found.scores.regions, model=name, structure=region, reading="alike")
    rows = rows[["subject", "age", "mm3", "true_mm3"]].set_axis(["subject", "age", "value", "true"], axis=1)
    told = found.told.get(name)
    if told is None or not len(told) or told["lower"].isna().all():
        return rows.assign(lower=np.nan, upper=np.nan)
    own = told[told["region"] == region]
    people = {label: person.id for label, person in found.task.by_label.items()}
    ends = own.assign(subject=own["label"].map(people)).set_index(["subject", "age"])[list(_ENDS)]
    keys = pd.MultiIndex.from_arrays([rows["subject"], rows["age"].round(2)])
    rows[list(_ENDS)] = ends.reindex(keys).to_numpy(float)
    lost, width = rows["lower"].isna(), (rows["upper"] - rows["lower"]).min()
    # beside the truth, so that it does not hold it
    rows.loc[lost, "lower"] = rows.loc[lost, ["value", "true"]].max(axis=1) + 1e-6 * width
    rows.loc[lost, "upper"] = rows.loc[lost, "lower"] + width
    return rows


def three_numbers(rows: pd.DataFrame) -> dict[str, float]:
    """TADPOLE's numbers of :func:`forecast_rows`; NaN for what needs an interval that there is not."""
    values = {n: rows[n].to_numpy(float) for n in ("value", "true", *_ENDS)}
    found = {"mae": mean_absolute_error(values["value"], values["true"]), "wes": np.nan, "cpa": np.nan}
    if np.isfinite(values["lower"]).all():
        ends = values["lower"], values["upper"], values["true"]
        found["wes"] = weighted_error_score(values["value"], *ends)
        found["cpa"] = coverage_probability_accuracy(*ends)
    return found


def _resampled(rows: pd.DataFrame, seed: int) -> dict[str, tuple[float, float]]:
    """95 % bootstrap interval over people of each of the three numbers."""
    error = (rows["value"] - rows["true"]).abs()
    weight = 1 / (rows["upper"] - rows["lower"])
    held = ((rows["lower"] <= rows["true"]) & (rows["true"] <= rows["upper"])).astype(float)
    sums = pd.DataFrame({"n": 1.0, "error": error, "weight": weight, "weighted": weight * error, "held": held})
    table = sums.groupby(rows["subject"]).sum(min_count=1).to_numpy(float)
    drawn = np.random.default_rng(seed).integers(0, len(table), (DRAWS, len(table)))
    n, error, weight, weighted, held = np.moveaxis(table[drawn].sum(axis=1), -1, 0)
    values = {"mae": error / n, "wes": weighted / weight, "cpa": np.abs(held / n - LEVEL)}
    return {name: tuple(np.percentile(x, [2.5, 97.5])) for name, x in values.items()}


def tadpole_table(found: Judged, region: str) -> pd.DataFrame:
    """Mean absolute error (mm³), weighted error score (mm³) and coverage probability accuracy, best error first."""
    rows, seed = [], found.task.rules.told["metrics"]["bootstrap_seed"]
    regions = where(found.scores.regions, structure=region, reading="alike")
    for name in regions["model"].unique():
        own = forecast_rows(found, name, region)
        numbers, spread = three_numbers(own), _resampled(own, seed)
        few = own["subject"].nunique() < MIN_SUBJECTS
        said = {
            title: "–" if np.isnan(numbers[key]) else number(numbers[key])
            + ("" if few else f" [{number(spread[key][0])}, {number(spread[key][1])}]")
            for key, title in (("mae", "mean absolute error (mm³)"), ("wes", "weighted error score (mm³)"),
                               ("cpa", "coverage probability accuracy"))
        }
        rows.append((numbers["mae"], {"system": title_of(name), **said, "forecasts": len(own),
                                      "people": own["subject"].nunique()}))
    table = pd.DataFrame([row for _, row in sorted(rows, key=lambda pair: pair[0])])
    return table.set_index("system")


def coverage_rows(found: Judged, regions: tuple[str, ...]) -> pd.DataFrame:
    """Each person's share of volumes inside the 50 % interval, by system: tidy rows for the chart of coverage."""
    rows = []
    for name, told in found.told.items():
        if len(told) and told["lower"].notna().any():
            own = pd.concat([forecast_rows(found, name, region) for region in regions
                             if (told["region"] == region).any()] or [pd.DataFrame()])
            if len(own):
                held = (own["lower"] <= own["true"]) & (own["true"] <= own["upper"])
                share = held.groupby(own["subject"]).mean()
                width = (100 * (own["upper"] - own["lower"]) / own["true"]).mean()
                rows += [{"system": name, "subject": s, "level": LEVEL, "value": v, "width": width}
                         for s, v in share.items()]
    return pd.DataFrame(rows, columns=["system", "subject", "level", "value", "width"])


def pairs_table(main: pd.DataFrame, names: Sequence[str], titles: Mapping[str, str], *, seed: int = 0) -> pd.DataFrame:
    """Every two entrants on the same people: mean difference of their errors by person, p after Holm over all pairs.

    Parameters
    ----------
    main : DataFrame
        Tidy scores of what is ranked.
    names : sequence of str
        The entrants.
    titles : mapping of str to str
        Metrics, in order, and what readers see.
    seed : int
        Of the bootstrap.
    """
    rows = []
    for metric in (m for m in titles if m in set(main["metric"])):
        part = main[(main["metric"] == metric) & main["system"].isin(names)]
        here = [name for name in names if name in set(part["system"])]
        sign = 1 if BETTER.get(metric) == "greater" else -1
        for pair in combinations(here, 2):
            both = complete(part[part["system"].isin(pair)])
            one, other = (sign * both[name] for name in pair)
            gain = paired_difference(one, other, seed=seed)
            rows.append((titles[metric], pair, gain, bootstrap_p(one, other, seed=seed)))
    if not rows:
        return pd.DataFrame()
    told = []
    for (measure, pair, gain, _), p in zip(rows, holm([row[-1] for row in rows]), strict=True):
        apart = p < ALPHA and gain.n >= MIN_SUBJECTS and (gain.low > 0 or gain.high < 0)
        word = f"{title_of(pair[gain.value < 0])} is better" if apart else "not told apart"
        told.append({"measure": measure, "pair": " – ".join(map(title_of, pair)),
                     "gain of the first": interval_text(gain), "p (Holm)": number(p), "": word})
    return pd.DataFrame(told).set_index(["measure", "pair"])


def structure_table(found: Judged) -> pd.DataFrame:
    """Mean error of every region (%, mean over people) by system."""
    rows = where(found.scored, unit=PERCENT, reading="alike")
    table = rows[~rows["system"].isin(("hindsight",))].pivot_table("value", "structure", "system", sort=False)
    return table.rename(index=region_title, columns=title_of)


def readings_table(found: Judged) -> pd.DataFrame:
    """Of entrants with volumes and images: error (%) of the volumes told, and of those read from the images."""
    both = [e.name for e in found.entrants if e.images and len(e.volumes)]
    rows = found.scored[(found.scored["unit"] == PERCENT) & found.scored["system"].isin(both)]
    if not len(rows):
        return pd.DataFrame()
    table = rows.pivot_table("value", ["system", "structure"], "reading")
    return table.rename(columns={"alike": "told", "own": "read from its images"}, index=region_title, level=1)


def costs_table(found: Judged) -> pd.DataFrame:
    """What entrants told of their cost, and the seconds a forecast that our systems took."""
    visits = found.scores.visits
    ours = visits[visits["model"].isin(found.systems)] if len(visits) else visits
    rows = {
        title_of(e.name): {f"{name.replace('_', ' ')}": e.cost.get(name) for name in COSTS} | {"from": "as told"}
        for e in found.entrants if e.cost
    }
    measured = ours.groupby("model", sort=False)["seconds"].mean() if len(ours) else {}
    for name, seconds in dict(measured).items():
        rows[title_of(name)] = {"seconds per forecast": seconds, "from": "measured, one CPU thread"}
    return pd.DataFrame.from_dict(rows, orient="index").dropna(axis=1, how="all")


def people_table(found: Judged) -> pd.DataFrame:
    """People by diagnosis: training, test, and the forecasts asked of them."""
    task = found.task
    asked = pd.Series([task.by_label[label].diagnosis for label, _ in task.asked()]).value_counts()
    groups: Mapping[str, pd.Series] = {
        "training": pd.Series([p.diagnosis for p in task.train]).value_counts(),
        "test": pd.Series([p.diagnosis for p in task.test]).value_counts(), "forecasts asked": asked,
    }
    return pd.DataFrame(groups).fillna(0).astype(int)


def forgotten_lines(found: Judged) -> list[str]:
    """Whom an entrant or system has no forecast of, and that this counts as no change."""
    lines = []
    for name in found.lacking:
        people = found.forgotten(name)
        said = ", ".join(f"sub-{label} ({count})" for label, count in people.items())
        lines.append(f"{title_of(name)}: no forecast of {len(people)} of {len(found.task.test)} people, scored as "
                     f"no change: {said}")
    return lines


def person_errors(found: Judged, name: str) -> pd.Series:
    """Each person's mean error by the first measure that an entrant is ranked on, in the order of size."""
    main = found.main[(found.main["system"] == name) & ~found.main["system"].isin(NO_FORECAST)]
    metric = next(m for m in TITLES if m in set(main["metric"]))
    values = main[main["metric"] == metric].set_index("subject")["value"]
    return (-values if BETTER.get(metric) == "greater" else values).sort_values()
