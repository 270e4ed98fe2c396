"""Generators beside each other, as tidy frames: told the view or not, one for each stage or one for all, slices or
volumes; what training costs, and what the paper leaves open."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pandas as pd

from nbkit.core.device import side_by_side
from nbkit.core.stats import paired_difference
from nbkit.core.tidy import stacked, tidy, where
from nbkit.data.pet_slices import Slices
from nbkit.papers.pet_dcgan.experiments import UNITS, draw_like, feature_scores, over_stages, quality
from nbkit.papers.pet_dcgan.pet_dcgan import PetDCGAN
from nbkit.papers.pet_dcgan.settings import Config

OPEN = ["left open", "one choice", "the other", "other − one", "low", "high"]
CHAIN = (("separate", "told"), ("told", "averaged"), ("averaged", "conditional"))
"""Generators that differ in one thing."""
TITLES = {"separate": "one DCGAN per stage, told nothing (published)",
          "told": "one DCGAN per stage, told the view",
          "averaged": "one DCGAN per stage, told the view, averaged weights",
          "conditional": "one conditional DCGAN, averaged weights",
          "volume": "3D, conditional, slices of volumes"}


def drawn_by(models: Mapping[str, PetDCGAN], real: Slices, *, seed: int) -> dict[str, Slices]:
    """:func:`draw_like` of every generator of slices; "told" is "averaged" with its last weights."""
    flat = {name: model for name, model in models.items() if model.config.dims == 2}
    flat["told"] = flat["averaged"].of_last_weights()
    return {name: draw_like(model, real, seed=seed) for name, model in flat.items()}


def qualities(drawn: Mapping[str, Slices], real: Slices, *, judged: str, seed: int = 0) -> dict[str, pd.DataFrame]:
    """:func:`quality` of every generator; that of real images, the same for all, is with the one that is judged."""
    def one(name: str) -> pd.DataFrame:
        systems = ("generated", "real") if name == judged else ("generated",)
        return quality(drawn[name], real, seed=seed, systems=systems)

    return dict(zip(drawn, side_by_side(one, drawn), strict=True))


def generators(
    drawn: Mapping[str, Slices], real: Mapping[str, tuple[Slices, Slices]], *,
    scored: Mapping[str, pd.DataFrame] | None = None, seed: int = 0,
) -> pd.DataFrame:
    """Generators beside each other: means over stages of quality (random real images) and of feature scores.

    Parameters
    ----------
    drawn : mapping of generator to Slices
    real : mapping of generator to (training, held-out) Slices
        By person, of the same resolution.
    scored : mapping of generator to DataFrame, optional
        What :func:`qualities` found.
    seed : int
    """
    rows, known = [], scored or {}
    for name, (train, held_out) in real.items():
        pairs = known[name] if name in known else quality(drawn[name], held_out, seed=seed, systems=("generated",))
        pairs = where(pairs, setting="random")
        sets = feature_scores(drawn[name], train=train, held_out=held_out, seed=seed)
        means = stacked(pairs, sets).groupby(["metric", "system", "subject"])["value"].mean()
        means = means.groupby(["metric", "system"]).mean()
        for metric in ("frechet", "coverage", "density", "ssim", "psnr"):
            id, unit = f"islam2020.generators.{metric}.{name}", UNITS.get(metric, "1")
            rows.append(tidy(means[metric, "generated"], id=id, unit=unit, metric=metric, system=name))
        strange = means["frechet", "real"]
        rows.append(tidy(strange, unit=UNITS["frechet"], metric="frechet of real people", system=name))
    return stacked(*rows)


def by_generator(compared: pd.DataFrame) -> pd.DataFrame:
    """:func:`generators` as a table: a row for each generator, a column for each measure."""
    table = compared.pivot(index="system", columns="metric", values="value")
    return table.loc[[name for name in TITLES if name in table.index]].rename(TITLES)


def cost(kinds: Mapping[str, tuple[Config, Slices]], *, judged: str, repeats: int = 6) -> pd.DataFrame:
    """Seconds for a two-hundredth of the epochs of the separate networks, and as many steps of the other kinds.

    Parameters
    ----------
    kinds : mapping of str to (Config, Slices or Volumes)
        As of :func:`trained`.
    judged : str
        Which of them are the separate networks; their slowest stage is timed by itself too.
    repeats : int
        Turns that the kinds take, after a first one that does not count.
    """
    kinds = {"separate": kinds[judged], "conditional": kinds["conditional"], "volume": kinds["volume"]}
    steps = max(2, kinds["separate"][0].epochs // 200)
    alone = {f"stage {stage}": (kinds["separate"][0], kinds["separate"][1].select(stages=stage))
             for stage in dict.fromkeys(kinds["separate"][1].stage)}
    rows = []
    for turn in range(repeats + 1):
        spent = {name: _seconds(*job, steps) for name, job in {**kinds, **alone}.items()}
        slowest = max(spent.pop(name) for name in alone)
        rows += [(f"islam2020.seconds.{name}", f"repeat {turn}", value)
                 for name, value in {**spent, "slowest": slowest}.items() if turn]
    return pd.DataFrame(rows, columns=["id", "subject", "value"]).assign(metric="seconds", unit="s")


def _seconds(config: Config, table: Slices, steps: int) -> float:
    quick = config.changed(epochs=steps, batches_per_epoch=1, snapshots=2)
    begun = time.perf_counter()
    PetDCGAN(quick).fit(table)
    return time.perf_counter() - begun


def open_points(
    scored: Mapping[str, pd.DataFrame], compared: pd.DataFrame, *, judged: str, also: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What the paper leaves open and how far the other choice moves the number, 95 % interval over people.

    Parameters
    ----------
    scored : mapping of generator to DataFrame
        Of :func:`qualities`; those of :data:`CHAIN` at least.
    compared : DataFrame
        Of :func:`generators`.
    judged : str
        Which generator this run's numbers are of.
    also : DataFrame, optional
        More such rows (:func:`nbkit.papers.pet_dcgan.augmentation_experiments.choices`).
    """
    rows, means = [], {kind: over_stages(frame) for kind, frame in scored.items()}
    for metric in ("psnr", "ssim"):
        by = {(kind, *labels): part.set_index("subject")["value"] for kind, frame in means.items()
              for labels, part in where(frame, metric=metric).groupby(["setting", "system"])}
        ours = by[judged, "random", "generated"]
        ways = [
            ("Which real image", "a random one of the stage", "the nearest", ours, by[judged, "nearest", "generated"]),
            ("What it is compared with", "generated images", "real images of other people", ours,
             by[judged, "random", "real"]),
        ] + [
            ("Generator", TITLES[one], TITLES[other], *(by[kind, "random", "generated"] for kind in (one, other)))
            for one, other in CHAIN
        ]
        for left, one, other, first, second in ways:
            moved = paired_difference(second.loc[first.index], first)
            rows.append((f"{left}, {metric.upper()}", one, other, moved.value, moved.low, moved.high))
    frechet = where(compared, metric="frechet").set_index("system")["value"]
    rows += [("Generator, Fréchet distance", TITLES[one], TITLES[other], frechet[other] - frechet[one], None, None)
             for one, other in CHAIN]
    return pd.concat([pd.DataFrame(rows, columns=OPEN), also], ignore_index=True)
