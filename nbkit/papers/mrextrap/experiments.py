"""The figures of the paper and their controls as tidy frames (Kapoor, Macke and Baumgartner, Figs. 1 and 2).

Structures are the paper's four; ids shorten their names (:data:`PLACES`). ``ours`` is a fitted
:class:`~nbkit.papers.mrextrap.mrextrap.MRExtrap`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort, Scan, Subject, TrajectoryModel, VolumeReader
from nbkit.core.tidy import paired, stacked, tidy, where
from nbkit.core.volume import Volume
from nbkit.metrics.calibration import LEVELS, central_interval, coverage, cross_conformal
from nbkit.papers.mrextrap import volumes
from nbkit.papers.mrextrap.likeness import between_people, held_out
from nbkit.papers.mrextrap.metrics import agreement, explained_by_latents
from nbkit.papers.mrextrap.volumes import (
    NO_CHANGE, FourVolumes, Truth, forecast_volumes, interpolated_volumes, person_curve, shown,
)
from nbkit.papers.trajectories.calibration import kept_forecasts
from nbkit.papers.trajectories.controls import NoChange
from nbkit.papers.trajectories.entered import entered, kept_entered
from nbkit.papers.trajectories.pixel_regression import ESTIMATORS, Config, PixelRegression, average_images
from nbkit.training.fitted import fitted
from nbkit.training.kept import kept_tables

PLACES = {
    "lateral_ventricle": "ventricle", "hippocampus": "hippocampus", "grey_matter": "grey", "white_matter": "white",
}
FLOORS = ("hindsight", "autoencoder")
"""No forecasts: the true follow-up as the segmenter reads it, and the same after the autoencoder."""
LIMIT = 0.95
"""A line is bent where the straight one between its ends explains less of it; the paper colours such lines red and does
not say from where on."""
SIZES = {"smoke": (2, 2, 2), "laptop": (16, None, 6)}
"""By profile: people forecast for, people whose intervals are judged (None: all), futures drawn."""
ALL, DRAWN, MENDED = "all four", "as drawn", "other test people"


def people_counts(people: Cohort, train: Cohort) -> pd.DataFrame:
    """How much there is to learn from."""
    counts = {"scans": sum(len(s.scans) for s in people), "people": len(people), "training_people": len(train)}
    return stacked(*[tidy(n, id=f"mrextrap.data.{name}", metric=name, unit="1") for name, n in counts.items()])


def settings(ours: Any) -> pd.DataFrame:
    """What the paper prints of its training, as the fitted model had it."""
    c = ours.config
    had = {
        "beta1": c.perceptual_weight, "beta2": c.adversarial_weight, "beta3": c.kl_weight, "epochs": c.epochs,
        "adversarial_from": c.adversarial_from, "latent_channels": ours.space.latent_shape[0],
    }
    return stacked(*[tidy(x, id=f"mrextrap.settings.{name}", metric=name, unit="1") for name, x in had.items()])


def first_ages(**groups: Cohort) -> pd.DataFrame:
    """Age at the first scan (years) by group: count, mean, SD and quartiles."""
    ages = {name.replace("_", " "): pd.Series([s.baseline.age for s in group]) for name, group in groups.items()}
    return pd.DataFrame({name: values.describe() for name, values in ages.items()}).round(2)


def with_known_diagnosis(test: Cohort, train: Cohort) -> Cohort:
    """Test people whose diagnosis somebody in training has who was scanned again."""
    known = {subject.diagnosis for subject in train if len(subject.scans) > 1}
    return test.subset([subject.id for subject in test if subject.diagnosis in known])


def forecasters(ours: Any, other: Any, train: Cohort, *, profile: str) -> dict[str, TrajectoryModel]:
    """The trained model under each estimator, the `other` critic's, and the same lines through voxels."""
    models = {f"mrextrap_{name}": ours.estimating(name) for name in ("ols", "bayes", "population")}
    models |= {"mrextrap_anchored": ours.estimating("ols", anchored=True), "mrextrap_lsgan": other.estimating("ols")}
    for name in ESTIMATORS:
        models[f"pixel_{name}"] = fitted(PixelRegression(Config.for_profile(profile, estimator=name)), train)
    return models


def about_training(ours: Any) -> str:
    """What the model learned from, and how small its latents are, as a sentence."""
    shape, (low, high) = "×".join(map(str, ours.space.latent_shape)), ours.ages
    return (
        f"Trained on scans at {low:.1f} to {high:.1f} years; latents of {shape}, one cell {ours.space.net.factor} "
        f"voxels wide; perceptual loss: {ours.features}."
    )


def about_latents(shares: pd.DataFrame) -> str:
    """The mean shares of :func:`figure_1b`, as a sentence."""
    here, away = (100 * shares["value"][shares["setting"] == place].mean() for place in ("in_place", "shifted"))
    return f"Latents explain {here:.0f} % of the image's variance in place, two cells away {away:.0f} %."


def interpolations(ours: Any) -> dict[str, Callable[[Scan, Scan, float], Volume]]:
    """From one scan to another: through latents, and by plain averages of the images as the control."""
    return {
        "latent": ours.interpolate,
        "image": lambda a, b, alpha: average_images(a.image("T1w"), b.image("T1w"), alpha),
    }


def between(ours: Any, person: Subject, alphas: Sequence[float]) -> dict[str, dict[float, Volume]]:
    """Figure 1c: images from a person's first scan (α = 0) to the last (α = 1), by way and α."""
    first, last = person.scans[0], person.scans[-1]
    return {way: {a: mix(last, first, a) for a in alphas} for way, mix in interpolations(ours).items()}


def seen_and_later(person: Subject) -> tuple[Scan, tuple[Scan, ...]]:
    """The last scan that is shown, and the two visits after it, or the one."""
    seen = shown([person])
    return person.scans[seen - 1], person.scans[seen : seen + 2]


def ages_seen(person: Subject) -> tuple[float, float]:
    """Ages at the first scan and at the last that is shown."""
    return person.baseline.age, seen_and_later(person)[0].age


def predicted(models: Mapping[str, TrajectoryModel], person: Subject) -> dict[str, list[Volume]]:
    """A person's next two visits after those shown, by lines through latents and voxels, and by no change.

    Anchored, the decoded change is added to the last scan: what the autoencoder cannot encode hides it otherwise.
    """
    asked = {n: models[n] for n in ("mrextrap_anchored", "mrextrap_ols", "pixel_ols")} | {NO_CHANGE: NoChange()}
    seen, ages = person.scans[: shown([person])], [scan.age for scan in seen_and_later(person)[1]]
    return {name: model.predict(seen, ages, person.diagnosis) for name, model in asked.items()}


def measured(
    models: Mapping[str, TrajectoryModel], people: Cohort, *, ours: Any, reader: FourVolumes, truth: Truth,
    alphas: Sequence[float], key: Any, rivals: Mapping[str, TrajectoryModel] | None = None,
) -> dict[str, pd.DataFrame]:
    """Everything that forecasts and interpolations of these people give, worked out once and kept.

    Parameters
    ----------
    models : mapping of str to TrajectoryModel
        Users' models among them are asked by themselves.
    rivals : mapping of str to TrajectoryModel, optional
        Asked from the last scan alone, as they know no more than one (DaniNet).

    Returns
    -------
    dict of str to DataFrame
        "between" (:func:`~nbkit.papers.mrextrap.volumes.interpolated_volumes`); "all" and "scans"
        (:func:`~nbkit.papers.mrextrap.volumes.forecast_volumes`), the latter by number of scans seen; "likeness" and
        "held_out" (:mod:`~nbkit.papers.mrextrap.likeness`).
    """
    rivals, mine = rivals or {}, entered(models)
    models = {name: model for name, model in models.items() if name not in mine}
    given = {"segmenter": reader, "truth": truth}
    floors = {"hindsight": lambda scan: scan.image("T1w"), "autoencoder": ours.reconstruct}
    counted = {name: models[name] for name in ("mrextrap_ols", "mrextrap_bayes")}
    found = kept_tables("latent", lambda: {
        "between": interpolated_volumes(interpolations(ours), people, segmenter=reader, alphas=alphas),
        "all": forecast_volumes(models, people, designs=["all"], floors=floors, **given),
        "scans": pd.concat([
            forecast_volumes(counted, people, designs=["latest", "first"], **given),
            forecast_volumes(rivals, people, designs=["last"], **given).query("model in @rivals"),
        ]),
        "likeness": between_people(ours, people), "held_out": held_out(ours, people),
    }, cohort=people, models={**models, **rivals, "reader": reader}, key=[key, alphas],
        sources=[volumes.__name__, "nbkit.papers.mrextrap.likeness"])
    theirs = kept_entered("latent", lambda: {
        name: forecast_volumes(mine, people, designs=designs, **given).query("model in @mine").dropna(subset="miss")
        for name, designs in (("all", ["all"]), ("scans", ["latest", "first"]))
    }, models=mine, also={"reader": reader}, cohort=people, key=key, sources=[volumes.__name__]) if mine else {}
    return found | {name: pd.concat([found[name], theirs[name]]) for name in theirs}


def figure_1b(model: Any, cohort: Cohort) -> pd.DataFrame:
    """Share of a person's image that the latents explain where they lie, and two cells away."""
    shares = {
        place: {s.id: explained_by_latents(model, s.baseline, shift=shift) for s in cohort}
        for place, shift in (("in_place", 0), ("shifted", 2))
    }
    return stacked(*[
        tidy(values, id=f"mrextrap.fig1b.explained.{place}", metric="explained", setting=place,
             unit="share of variance") for place, values in shares.items()
    ])


def similarity(likeness: pd.DataFrame, aligned: pd.DataFrame) -> pd.DataFrame:
    """Whose scan the image between two is like, and how near predictions come to held-out scans (:func:`measured`)."""
    return stacked(*[
        rows.assign(id=f"mrextrap.{place}." + rows["system"], unit="SSIM", metric="ssim")
        for place, rows in (("fig1c.likeness", likeness), ("held_out.ssim", aligned))
    ])


def figure_1d(straight: pd.DataFrame, *, limit: float = LIMIT) -> pd.DataFrame:
    """How far off the line volumes run by either way, the volume half-way by way of the latents, and who is bent.

    `straight` is what :func:`~nbkit.papers.mrextrap.metrics.straightness` gives; a person is bent (1, else 0) where a
    line through latents has an r² below `limit`.
    """
    bent = where(straight, way="latent").groupby("subject", sort=False)["r2"].agg(lambda r2: float((r2 < limit).any()))
    frames = [tidy(bent.to_dict(), id="mrextrap.fig1d.bent", unit="share of people", metric="bent", system="latent")]
    for metric, column, unit in (("bend", "bend_pct", "% of the volume"), ("r2", "r2", "1")):
        frames += [_recorded(part, column, f"fig1d.{{}}.{metric}.{way}", unit, system=way, metric=metric)
                   for way, part in straight.groupby("way", sort=False)]
    latent = where(straight, way="latent")
    for metric in ("middle", "chord", "mean"):
        frames.append(_recorded(latent, f"{metric}_mm3", f"fig1d.{{}}.{metric}", "mm³", system="latent", metric=metric))
    return stacked(*frames)


def _recorded(table: pd.DataFrame, column: str, id: str, unit: str, **labels: Any) -> pd.DataFrame:
    """One column of a table with "subject" and "structure" as a tidy frame; the id names the structure by its place."""
    ids = ["mrextrap." + id.format(PLACES[name]) for name in table["structure"]]
    frame = pd.DataFrame({"id": ids, "subject": table["subject"].to_numpy(), "value": table[column].to_numpy()})
    return frame.assign(unit=unit, structure=table["structure"].to_numpy(), **labels).dropna(subset="value")


def bends(straight: pd.DataFrame) -> pd.DataFrame:
    """Interpolations over people: distance from the line, change from end to end, and what half-way is off."""
    off = 100 * (straight["middle_mm3"] / straight["chord_mm3"] - 1)
    table = straight.assign(off=off).groupby(["structure", "way"], sort=False).agg(**{
        "off the line (%)": ("bend_pct", "mean"), "worst person (%)": ("bend_pct", "max"),
        "change, end to end (%)": ("change_pct", "mean"), "median r²": ("r2", "median"),
        "half-way − mean of the scans (%)": ("off", "mean"),
    })
    return table.round(3)


def true_pace(people: Cohort, truth: Truth) -> pd.DataFrame:
    """True change from the first to the last visit, % per year, by structure."""
    rows = [
        (s.id, name, 100 * (truth[s.id][-1][name] / truth[s.id][0][name] - 1) / (s.scans[-1].age - s.scans[0].age))
        for s in people for name in PLACES
    ]
    table = pd.DataFrame(rows, columns=["subject", "structure", "pace"])
    return table.groupby("structure", sort=False)["pace"].agg(["mean", "std", "min", "max"]).round(2)


def one_person(
    models: Mapping[str, Any], person: Subject, *, reader: VolumeReader, truth: Truth, draws: int
) -> pd.DataFrame:
    """Figure 2b: a person's volumes over age after the scans shown, by the posterior and by least squares.

    Returns
    -------
    DataFrame
        "structure", "age", "model" ("truth" too), "mm3"; of the posterior "low" and "high", its 95 % interval.
    """
    seen, ages = shown([person]), [scan.age for scan in person.scans]
    given = {"seen": seen, "segmenter": reader, "truth": truth}
    rows = [(name, age, v) for age, true in zip(ages, truth[person.id], strict=True) for name, v in true.items()]
    true = pd.DataFrame(rows, columns=["structure", "age", "mm3"])
    sure = person_curve(models["mrextrap_bayes"], person, ages=ages[seen - 1 :], draws=draws, **given)
    low, high = central_interval(sure["mean"], sure["sd"], count=sure["count"], level=0.95)
    plain = person_curve(models["mrextrap_ols"], person, ages=ages, **given)
    sure = sure.assign(model="mrextrap_bayes", low=low, high=high)
    return pd.concat([true.assign(model="truth"), sure, plain.assign(model="mrextrap_ols")])


def figure_2b(last: pd.DataFrame) -> pd.DataFrame:
    """True and predicted change since the last scan seen, when all scans but the last are."""
    ols, bayes = (where(last, model=f"mrextrap_{name}") for name in ("ols", "bayes"))
    parts = {"true": (ols, "true_change_pct"), "ols": (ols, "change_pct"), "bayes": (bayes, "change_pct")}
    return stacked(*[
        _recorded(rows, column, f"fig2b.{{}}.{name}", "%", system=name, metric="change")
        for name, (rows, column) in parts.items()
    ])


def controls(last: pd.DataFrame) -> pd.DataFrame:
    """Absolute error of every model, and of those that see the target, in % of the true volume."""
    return stacked(*[
        _recorded(rows, "miss", f"miss.{{}}.{model.removeprefix('mrextrap_')}", "% of the true volume", system=model,
                  metric="miss") for model, rows in last.groupby("model", sort=False)
    ])


def differences(misses: pd.DataFrame, structures: Sequence[str] = ("lateral_ventricle", "hippocampus")) -> pd.DataFrame:
    """Each person's error minus that of least squares, of all who forecast; `misses` is what :func:`controls` gives."""
    misses = misses[~misses["system"].isin(FLOORS)]
    return stacked(*[paired(where(misses, structure=name), against="mrextrap_ols") for name in structures])


def by_scans(last: pd.DataFrame, scans: pd.DataFrame) -> pd.DataFrame:
    """Forecasts by "design" and number of "scans": of all but the last scan, and of fewer; no change beside them."""
    full = last[last["model"].isin(["mrextrap_ols", "mrextrap_bayes", NO_CHANGE])]
    return pd.concat([scans, full.assign(design="latest"), full.assign(design="first")])


def means_by_scans(counted: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute error (%) of the rows of :func:`by_scans`, a column a number of scans."""
    return counted.pivot_table("miss", ["structure", "design", "model"], "scans", sort=False).round(2)


def figure_2c(counted: pd.DataFrame) -> pd.DataFrame:
    """Absolute error by number of scans seen, of the rows of :func:`by_scans`; rivals know one scan."""
    groups = counted[counted["model"] != NO_CHANGE].groupby(["design", "model", "scans"], sort=False)
    frames = []
    for (design, model, k), rows in groups:
        id = f"{design}.{model.removeprefix('mrextrap_')}.k{k}" if model.startswith("mrextrap_") else model[:7]
        frames.append(_recorded(rows, "miss", f"fig2c.{{}}.{id}", "% of the true volume", system=model, metric="miss",
                                setting=design, scans=k))
    return stacked(*frames)


def without_forecast(ids: Iterable[str], found: pd.DataFrame) -> dict[str, str]:
    """Ids of Figure 2c that `found` lacks, and why."""
    asked = [i for i in ids if ".fig2c." in i and (i.endswith("daninet") or ".latest." in i or ".first." in i)]
    lacking = [i for i in asked if i not in set(found["id"])]
    return {
        i: "no DaniNet in three dimensions was trained here" if i.endswith("daninet")
        else f"nobody was forecast for from {i.rpartition('.k')[2]} scans" for i in lacking
    }


def judged(
    model: Any, people: Cohort, *, reader: FourVolumes, truth: Truth, draws: int, key: Any
) -> pd.DataFrame:
    """What the model's draws say of the last visit after so many scans as are shown, beside true volumes; kept."""
    return kept_forecasts(
        {"mrextrap_bayes": model}, people, segmenter=reader, seen=shown(people), true_volumes=truth, key=key,
        options={"mrextrap_bayes": {"draws": draws}},
    )


def intervals(judged: pd.DataFrame, parts: Sequence[Collection[str]]) -> pd.DataFrame:
    """Forecasts of volumes with their spread as drawn, and mended by what the other parts of the people say.

    Parameters
    ----------
    judged : DataFrame
        Of :func:`nbkit.papers.trajectories.calibration.drawn_volumes`.
    parts : sequence of collection of str
        Subjects; none where one person alone is judged, and nobody is there to mend by.

    Returns
    -------
    DataFrame
        The rows of `judged` for each "setting" (:data:`DRAWN`, :data:`MENDED`) and nominal "level", with "factor" and
        the "sd" times it.
    """
    tables = [judged.assign(setting=DRAWN, level=level, factor=1.0) for level in LEVELS]
    for level in LEVELS if parts else ():
        factor = cross_conformal(judged, parts, level=level)
        tables.append(judged.assign(setting=MENDED, level=level, sd=judged["sd"] * factor, factor=factor))
    return pd.concat(tables)


def uncertainty(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Share of each person's true volumes inside the intervals of :func:`intervals`; ids for the mended ones."""
    frames = []
    for (setting, level), table in forecasts.groupby(["setting", "level"], sort=False):
        for name, part in [*table.groupby("structure", sort=False), (ALL, table)]:
            place = f".{PLACES[name]}" if name in PLACES else ""
            id = f"mrextrap.coverage.{100 * level:g}{place}" if setting == MENDED else ""
            frames.append(tidy(coverage(part, level=level), id=id, metric="coverage", unit="share of forecasts",
                               structure=name, setting=setting, level=level))
        if setting == MENDED:
            nominal = dict.fromkeys(table["subject"].unique(), level)
            frames.append(tidy(nominal, id=f"mrextrap.nominal.{100 * level:g}", metric="nominal", level=level,
                               setting=setting, unit="share of forecasts"))
    return stacked(*frames)


def by_level(frame: pd.DataFrame, column: str, index: Sequence[str]) -> pd.DataFrame:
    """Means of a column by nominal level, a column each ("50 %")."""
    table = frame.groupby([*index, "level"], sort=False)[column].mean().unstack()
    return table.rename(columns=lambda level: f"{100 * level:g} %").rename_axis(columns=None).round(2)


def choices() -> pd.DataFrame:
    """What the paper leaves open, by the model that takes the other way."""
    rows = {
        "mrextrap_anchored": ("what the autoencoder cannot encode", "lost", "of the last scan, added to the forecast"),
        "mrextrap_lsgan": ("adversarial loss", "cross-entropy (Isola, whom the paper cites)", "least squares"),
        "mrextrap_bayes": ("whose slope", "the person's, as published", "weighed against the diagnosis's"),
        "mrextrap_population": ("whose slope", "the person's, as published", "the diagnosis's alone"),
        "pixel_ols": ("where lines are drawn", "latents, as published", "voxels"),
    }
    return pd.DataFrame(rows, index=["left open", "our choice", "the other way"]).T


def about_errors(last: pd.DataFrame, straight: pd.DataFrame) -> list[str]:
    """What decides the verdicts, as sentences: true change, errors, what reading costs, and distances from the line."""
    lines, facts = [], agreement(last)
    for name in PLACES:
        change = where(last, structure=name, model=NO_CHANGE)["true_change_pct"]
        miss, pace = facts.loc[name, "miss (%)"].map("{:.2f} %".format), facts.loc[(name, "autoencoder"), "pace"]
        lines.append(
            f"**{name.replace('_', ' ')}**: true change to the last visit {change.mean():.1f} % (SD between people "
            f"{change.std():.1f}). Error: no change {miss[NO_CHANGE]}, the diagnosis's slope "
            f"{miss['mrextrap_population']}, least squares {miss['mrextrap_ols']}, posterior {miss['mrextrap_bayes']}, "
            f"voxels {miss['pixel_ols']}. Reading the true follow-up itself misses {miss['hindsight']}, after the "
            f"autoencoder {miss['autoencoder']}; through it changes keep {pace:.2f} of their size."
        )
    bend = straight.groupby(["structure", "way"], sort=False)["bend_pct"].mean().unstack()
    said = [f"{row.Index.replace('_', ' ')} {row.latent:.2f} and {row.image:.2f} %" for row in bend.itertuples()]
    return [*lines, f"**Off the line between two scans**, latents and plain averages: {', '.join(said)}."]
