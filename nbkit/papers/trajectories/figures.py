"""The head-to-head drawn: its method, who stands where, errors by years ahead, coverage, and one visit by everybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nbkit.core.checks import require
from nbkit.core.protocols import Scan, Subject
from nbkit.core.stats import Interval, bootstrap_mean
from nbkit.core.tidy import where
from nbkit.core.volume import Volume
from nbkit.figures.ageing import LEVELS_MM
from nbkit.figures.charts import (
    BOUNDS, INK, LINES, SOFT, counted_means, coverage_plot, error_along, forest_plot, interval, interval_text, number,
    panels,
)
from nbkit.figures.marks import ENTERED, marks, needs, title_of
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.overview import region_heatmap
from nbkit.figures.pipeline import Box, pipeline_drawing
from nbkit.figures.slices import dimmed, grey_scale, rival_scale, thumbnails, view_at
from nbkit.figures.trajectories import person_trajectories, with_truth
from nbkit.figures.style import FULL_MM, Picture, look, new_figure
from nbkit.papers.trajectories.head_to_head import (
    CONTROLS, PERCENT, PLACES, PRINTED, SAID, SHOWN, TITLES, ahead, differences, first_people,
)
from nbkit.papers.trajectories.experiments import Scores
from nbkit.papers.trajectories.ranking import BETTER, NO_FORECAST, complete, standings

TIED = "#EFEFEF"
_MEASURED = {"sharpness": "of the truth's gradient energy", "accuracy": "% mean error of volumes", "speed": "s a scan"}
ROW_MM, HEAD_MM = 6.0, 30.0
"""Height of one system, and of what stands above and below them."""


def method_drawing(people: Iterable[Subject] = ()) -> Picture:
    """How the head-to-head compares systems, with first scans of `people`."""
    pictures = thumbnails(*(person.baseline for person in islice(people, 3)))
    boxes = [
        Box("train", "training people, one split", 0, 0, "input", pictures[1:]),
        Box("test", "test people: one scan, or several", 0, 1, "input", pictures[:1]),
        Box("systems", "systems and controls, fitted", 1, 0, "learned"),
        Box("segmenter", "one segmenter", 2, 0, "learned"), Box("images", "images at later visits", 1, 1),
        Box("read", "growth, read alike", 2, 1), Box("scores", "paired by person, Holm", 3, 1, "output"),
    ]
    arrows = [("train", "systems", "fit"), ("systems", "images", "predict"), ("test", "images", ""),
              ("images", "read", ""), ("segmenter", "read", ""), ("read", "scores", "truth")]
    return pipeline_drawing(boxes, arrows)


def horizon_intervals(scores: pd.DataFrame, column: str, *, edges: Sequence[float], seed: int = 0) -> pd.DataFrame:
    """Each person's mean of a column by model and years ahead, for :func:`error_by_horizon`.

    Parameters
    ----------
    scores : DataFrame
        Columns "subject", "model", "years" (ahead) and `column`, NaN where there is no score.
    column : str
    edges : sequence of float
        Years at which one horizon ends and the next begins; rows beyond them are left out. A horizon stands at the
        mean of the years in it, and each subject counts once in it.
    seed : int
        Of the bootstrap that makes the intervals; kept in ``attrs``.

    Returns
    -------
    DataFrame
        Columns "system", "years", "subject", "value".
    """
    needs(scores, ("subject", "model", "years", column), "horizon_intervals")
    scores = scores.assign(horizon=pd.cut(scores["years"], list(edges), labels=False))
    scores = scores.dropna(subset=["horizon", column])
    places = scores.groupby("horizon")["years"].mean()
    means = scores.groupby(["model", "horizon", "subject"], sort=False)[column].mean()
    frame = means.rename("value").rename_axis(["system", "years", "subject"]).reset_index()
    frame = frame.assign(years=frame["years"].map(places))
    frame.attrs["seed"] = seed
    return frame


def error_by_horizon(errors: pd.DataFrame, ylabel: str, *, xlabel: str = "years ahead") -> Picture:
    """Error of each system against how far ahead it predicts; `errors` is what :func:`horizon_intervals` gives."""
    seed = errors.attrs.get("seed", 0)
    return error_along(errors, ylabel, x="years", xlabel=xlabel, tick=".1f", seed=seed)


@look()
def horizon_grid(
    scores: Mapping[str, Scores], *, edges: Sequence[float] = (0, 1.5, 3, 5, 7.5, 10.5), seed: int = 0
) -> Picture:
    """Errors of volumes by years ahead, read alike: a row a setting, a column a structure, one scale a structure.

    Spans of one person are left out: no mean stands there, and a line through it would be that person's.

    Raises
    ------
    NbkitError
        If there are no volumes.
    """
    asked = {
        f"{metric.capitalize()}, from {SAID[setting]}": horizon_intervals(ahead(found, metric), "miss", edges=edges)
        for setting, found in scores.items() if len(found.regions) for metric in PLACES
    }
    require(
        len(asked) > 0, "horizon_grid: scores", expected="volumes of structures", found="images alone",
        remedy="Leave the picture out where the scans carry no labels.",
    )

    def draw(axes: Axes, name: str) -> None:
        people = asked[name].groupby("years")["subject"].transform("nunique")
        shown = asked[name][people > 1] if (people > 1).any() else asked[name]
        counted_means(axes, shown, x="years", by="system", tick=".1f", seed=seed)
        axes.set(xlabel="years ahead", ylabel="absolute error (%)")

    figure = panels(list(asked), draw, columns=len(PLACES), height_mm=58.0)
    for k in range(len(PLACES)):
        column = figure.axes[k::len(PLACES)]
        top = max(axes.get_ylim()[1] for axes in column)
        for axes in column:
            axes.set_ylim(0, top)
    return figure


def volume_pictures(
    scores: Mapping[str, Scores], scored: pd.DataFrame, *, seed: int = 0
) -> Iterator[tuple[str, str, Picture]]:
    """Name, caption and picture of what is said of volumes read alike; nothing where the scans carry no labels.

    `scored` is the tidy frame of `scores`, by setting.
    """
    if not any(len(found.regions) for found in scores.values()):
        return
    yield "horizon", "Errors of volumes by years ahead", horizon_grid(scores, seed=seed)
    rows = where(scored, setting="several", unit=PERCENT, reading="alike")
    rows = rows[~rows["system"].isin(NO_FORECAST)]
    yield "region_errors", "Mean error of every structure, from several scans", region_heatmap(
        rows, "absolute error (% of the true volume)")
    yield "volumes_several", "Volumes of one person of each diagnosis", volumes_plot(scores["several"])


@look()
def ranking_plot(
    scores: pd.DataFrame, ranks: pd.DataFrame, setting: str, *, metrics: Sequence[str] | None = None,
    published: Mapping[str, Any] | None = None, seed: int = 0,
) -> Picture:
    """One panel per metric, systems from best to worst: mean and 95 % interval over people.

    Controls are hollow. The grey band holds those that paired differences do not tell apart from the first, however far
    apart the means look. Published SSIM is written beside its system, off the scale: it is of other people.
    Floor and reach among `scores` are lines; where there is no floor, so is what reading the true scan costs
    ("hindsight").

    Parameters
    ----------
    scores, ranks : DataFrame
        A tidy frame, and what :func:`~nbkit.papers.trajectories.ranking.standings` makes of it.
    setting : str
        Which is drawn.
    metrics : sequence of str, optional
        Which, in order; by default volumes and SSIM, or all where there are no volumes. Those without a rank are passed
        over.
    published : mapping, optional
        Numbers of the ledger by id, each with its ``value``; PRINTED in the module of the head-to-head says whose.
    seed : int
        Of the bootstrap.
    """
    needs(ranks, ("setting", "metric", "system", "tied", "people"), "ranking_plot")
    scores, ranks = where(scores, setting=setting), where(ranks, setting=setting)
    found = set(ranks["metric"])
    chosen = metrics or (["ventricle", "hippocampus", "ssim"] if "ventricle" in found else TITLES)
    shown = [metric for metric in chosen if metric in found]
    figure = new_figure(FULL_MM, HEAD_MM + ROW_MM * ranks["system"].nunique())
    for axes, metric in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        table = where(ranks, metric=metric)
        _ranked(axes, where(scores, metric=metric), table, seed)
        if metric == "ssim" and published:
            ids = PRINTED[setting]
            _printed(axes, [published[ids[s]].value if s in ids else None for s in table["system"]])
        side = "better →" if BETTER.get(metric) == "greater" else "← better"
        axes.set_xlabel(f"{TITLES[metric]}\n{side}   n = {table['people'].iloc[0]}")
    figure.legend(handles=_key(set(scores["system"])), loc="outside upper center", ncols=3)
    return figure


def _ranked(axes: Axes, scores: pd.DataFrame, ranks: pd.DataFrame, seed: int) -> None:
    systems, drawn = list(ranks["system"]), marks(ranks["system"])
    values = complete(scores[scores["system"].isin(systems)])
    for level, (system, tied) in enumerate(zip(systems, ranks["tied"], strict=True)):
        if tied:
            axes.axhspan(level - 0.5, level + 0.5, color=TIED, linewidth=0)
        colour, hollow = drawn[system].colour, system in CONTROLS
        sns.pointplot(
            x=values[system].to_numpy(), y=np.full(len(values), level), orient="y", native_scale=True, ax=axes,
            errorbar=lambda x: interval(x, seed=seed), err_kws={"color": INK, "linewidth": 1.2}, color=colour,
            markers=drawn[system].marker, markerfacecolor="white" if hollow else colour, markersize=6,
            markeredgecolor=colour if hollow else INK, markeredgewidth=1.3 if hollow else 0.6, linestyle="none",
        )
    ends = scores[scores["system"].isin(NO_FORECAST)].groupby("system")["value"].mean().to_dict()
    if "floor" in ends:
        ends.pop("hindsight", None)
    # named in the legend: beside the lines, names of near ones would cover each other
    for name, value in ends.items():
        axes.axvline(value, **_bound(name))
    titles = [title_of(s).replace(", ", ",\n") + (" (control)" if s in CONTROLS else "") for s in systems]
    axes.margins(x=0.08)
    axes.set(ylim=(len(systems) - 0.5, -0.5), ylabel="")
    axes.set_yticks(range(len(systems)), titles, fontsize=6.5, linespacing=0.95)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _printed(axes: Axes, values: Sequence[float | None]) -> None:
    """Published values at the right of their systems."""
    beside = axes.secondary_yaxis("right")
    said = ["" if value is None else f"published\n{number(value)}" for value in values]
    beside.set_yticks(range(len(said)), said, fontsize=6, linespacing=0.95)
    beside.tick_params(length=0)
    beside.spines["right"].set_visible(False)


def _bound(name: str) -> dict[str, Any]:
    return {"color": SOFT, "linewidth": 0.9, "linestyle": BOUNDS.get(name, LINES[1]), "zorder": 1.5}


def _key(systems: set[str]) -> list[Line2D | Patch]:
    mark = {"marker": "o", "markersize": 5}
    ends = [name for name in NO_FORECAST if name in systems and not (name == "hindsight" and "floor" in systems)]
    return [
        Line2D([], [], color=INK, markerfacecolor=SOFT, linewidth=1.2, label="mean, 95 % interval (n ≥ 6)", **mark),
        Line2D([], [], color="none", markerfacecolor="white", markeredgecolor=SOFT, label="control", **mark),
        Patch(facecolor=TIED, edgecolor="#CCCCCC", label="not told apart from the first"),
        *(Line2D([], [], label=title_of(name), **_bound(name)) for name in ends),
    ]


def standings_table(
    ranks: pd.DataFrame, setting: str, *, scores: pd.DataFrame | None = None, seed: int = 0
) -> pd.DataFrame:
    """Standings of one setting in words: by metric and system, best first, the mean and the gain over the control.

    Beneath the systems stand the floor and the reach, where `scores` (the tidy frame of the ranks) has them.
    """
    rows = where(ranks, setting=setting)
    columns = {"mean [95 %]": ["mean", "low", "high"], "gain over the control": ["gain", "gain_low", "gain_high"]}
    table = pd.DataFrame({
        title: [interval_text(Interval(*row)) for row in rows[[*names, "people"]].to_numpy()]
        for title, names in columns.items()
    })
    table["mean [95 %]"] = table["mean [95 %]"].str.replace("+", "")
    word = rows["against control"].to_numpy()
    table["gain over the control"] = (table["gain over the control"] + " " + word).where(word != "–", "–")
    names = [rows["metric"].map(TITLES), rows["system"].map(title_of)]
    table = table.set_axis(pd.MultiIndex.from_arrays(names, names=["measure", "system"]))
    ends = _ends(where(scores, setting=setting), seed) if scores is not None else table[:0]
    return pd.concat([part for measure in dict.fromkeys(names[0]) for part in
                      (table.xs(measure, drop_level=False), ends[ends.index.get_level_values(0) == measure])])


def _ends(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Floor and reach in the words of a standings table; hindsight where there is no floor."""
    rows = scores[scores["system"].isin(NO_FORECAST) & scores["metric"].isin(TITLES)]
    both = set(rows.loc[rows["system"] == "floor", "metric"])
    rows = rows[(rows["system"] != "hindsight") | ~rows["metric"].isin(both)]
    words = [
        (TITLES[metric], title_of(system), interval_text(bootstrap_mean(part["value"], seed=seed)).replace("+", ""),
         "–") for (metric, system), part in rows.groupby(["metric", "system"])
    ]
    columns = ["measure", "system", "mean [95 %]", "gain over the control"]
    return pd.DataFrame(words, columns=columns).set_index(columns[:2])


def ranked(
    scores: pd.DataFrame, setting: str, *, control: str = "no_change", published: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[Picture, pd.DataFrame]:
    """Ranking of one setting and its :func:`standings_table`; `scores` tidy, `published` as for ranking_plot."""
    rows = where(scores, setting=setting)
    ranks = standings(rows, control=control, seed=seed)
    picture = ranking_plot(rows, ranks, setting, published=published, seed=seed)
    return picture, standings_table(ranks, setting, scores=rows, seed=seed)


def star_table(ours: pd.DataFrame, published: Mapping[str, Any]) -> pd.DataFrame:
    """By quality and system: the article's stars, ours, our rank, and what was measured.

    Parameters
    ----------
    ours : DataFrame
        As :func:`nbkit.papers.trajectories.stars.stars` gives it.
    published : mapping
        Numbers of the ledger by id, each with its ``value``.
    """
    rows = []
    for row in ours.to_dict("records"):
        printed = getattr(published.get(row["id"]), "value", None)
        rows.append({
            "quality": row["metric"], "system": title_of(row["system"]),
            "published": "★" * int(printed) if printed else "–", "ours": "★" * int(row["value"]),
            "rank": f"{row['rank']} of {(ours['metric'] == row['metric']).sum()}",
            "measured": f"{row['measured']:.3g} {_MEASURED[row['metric']]}",
        })
    return pd.DataFrame(rows).set_index(["quality", "system"])


def gains_table(rows: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Mean differences with their intervals in words: setting and system as rows, metrics as columns."""
    means = rows.groupby(["setting", "system", "metric"], sort=False)["value"]
    table = means.agg(lambda x: interval_text(bootstrap_mean(x, seed=seed))).unstack(sort=False)
    return table.rename(index=SAID, level=0).rename_axis(index=["from", "system"])


def volumes_plot(
    found: Scores, systems: Sequence[str] = ("mrextrap_bayes", "brlp", "inbrainsyn", "countersynth")
) -> Picture:
    """Volumes of the first person of each diagnosis, read alike, in % of the volume at the last scan seen.

    Beside `systems` stand users' models.
    """
    return person_trajectories(with_truth(first_people(found, [*systems, *ENTERED])), structures=SHOWN)


def history_plot(history: pd.DataFrame, *, seed: int = 0) -> Picture:
    """What a history buys: error from several scans minus that from one, a dot a person."""
    gains = differences(history, "setting", "several", "one")
    gains = gains.assign(system=gains["metric"] + ", " + gains["system"].map(title_of))
    xlabel = "error from several scans − error from one (% of the true volume)"
    return forest_plot(gains, xlabel, better=("several scans", "one scan"), seed=seed)


def coverage(covered: pd.DataFrame, *, seed: int = 0) -> Picture:
    """How often intervals hold the truth, from one scan and from several; what has no setting is left out.

    Parameters
    ----------
    covered : DataFrame
        Columns "system", "setting", "level" and "value": each person's share inside.
    """
    needs(covered, ("system", "setting", "level", "value"), "coverage")
    covered = covered.dropna(subset=["setting", "level"])
    said = covered["system"].map(title_of) + ", " + covered["setting"].map(SAID)
    return coverage_plot(covered.assign(system=said), seed=seed)


def lineup(
    last: Scan, target: Scan, predictions: Mapping[str, Volume], *, levels_mm: Mapping[str, float] = LEVELS_MM
) -> Picture:
    """The last scan seen, the true later one and every prediction of it, a column each; below them what they miss.

    One grey scale (of the last scan) and one of prediction − truth serve all; under the last scan stands what it would
    miss itself.

    Parameters
    ----------
    last, target : Scan
        With T1w, white matter being 1, and the mask "brain", on one grid.
    predictions : mapping of str to Volume
        By system, on the same grid.
    levels_mm : mapping of str to float
        World level of the slice by plane.

    Raises
    ------
    NbkitError
        Without predictions, or for one on another grid.
    """
    require(
        len(predictions) > 0, "lineup: predictions", expected="an image by at least one model", found="none",
        remedy="Ask a model to predict the age of the target.",
    )
    seen, truth = last.image("T1w"), target.image("T1w")
    for name, image in {"last scan": seen, **predictions}.items():
        image.check_grid(truth, f"lineup: {name} and target")
    brain = last.mask("brain")
    brain = brain.with_data(brain.data.bool() | target.mask("brain").data.bool())
    images = [seen, truth, *predictions.values()]
    gaps = [None if image is truth else image.with_data(image.data.float() - truth.data.float()) for image in images]
    grey = grey_scale(seen, brain)
    miss = rival_scale([[gap] for gap in gaps if gap is not None], brain, label="1 = white matter")
    ages = [f"seen, {last.age:.1f}\N{NO-BREAK SPACE}y", f"true, {target.age:.1f}\N{NO-BREAK SPACE}y"]
    titles = [*ages, *map(title_of, predictions)]
    rows = []
    for level, view in enumerate(view_at(brain, mm, plane=plane) for plane, mm in levels_mm.items()):
        heads = titles if level == 0 else [""] * len(titles)
        rows.append(Row(tuple(Tile(i, view, grey, title=t) for i, t in zip(images, heads, strict=True))))
        rows.append(Row(tuple(g and Tile(g, view, miss, under=(truth, dimmed(grey))) for g in gaps), "− truth"))
    return panel(rows)
