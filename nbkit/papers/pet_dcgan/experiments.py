"""The paper's tables and figures as tidy frames, and what it could not ask: scores of generated PET slices against real
slices of people the generator never saw, and a classifier tested on people of whom nothing was learned.

Islam and Zhang (Brain Informatics 2020) print PSNR 32.83 and SSIM .7748 between generated and real images, which
belong to nobody in common, and do not say which real image was taken. Here every value stands beside the same value of
real images of other people, and people count alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from nbkit.core.checks import check_disjoint, require
from nbkit.core.device import side_by_side
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import derive, numpy_generator
from nbkit.core.tidy import stacked, tidy, where
from nbkit.data.pet_slices import STAGES, Slices
from nbkit.papers.pet_dcgan import metrics
from nbkit.papers.pet_dcgan.augmentation_study import EVERY_VIEW, ONLY, PLAIN, REAL, SYNTHETIC
from nbkit.papers.pet_dcgan.dcgan import traced
from nbkit.papers.pet_dcgan.features import SliceFeatureNet
from nbkit.papers.pet_dcgan.metrics import (
    density_coverage, frechet_distance, joint_histogram, memorisation, pairwise_quality, strangers,
)
from nbkit.papers.pet_dcgan.pet_dcgan import PetDCGAN
from nbkit.papers.pet_dcgan.room import likeness_room, stage_room
from nbkit.papers.pet_dcgan.settings import Config
from nbkit.papers.pet_dcgan.pet_volumes import VOLUME
from nbkit.training.fitted import fitted

UNITS = {"psnr": "dB", "ssim": "SSIM", "frechet": "squared feature units"}
"""Of measures; of all others 1."""


def _numbers(values: Mapping[str, float], unit: str, note: str = "") -> pd.DataFrame:
    """Numbers of no single person, by the end of their id."""
    return stacked(*(tidy(v, id=f"islam2020.{name}", unit=unit, metric=name, note=note) for name, v in values.items()))


def scanned(people: Cohort) -> pd.DataFrame:
    """Section 3.1: scans by diagnosis, and the ages between which they lie."""
    counts = Counter(subject.diagnosis for subject in people)
    found = {"data.scans": len(people), "data.nc": counts["CN"], "data.mci": counts["MCI"], "data.ad": counts["AD"]}
    ages = [subject.baseline.age for subject in people if subject.baseline.age]
    between = {"data.age_min": min(ages), "data.age_max": max(ages)} if ages else {}
    return pd.concat([_numbers(found, "people"), *([_numbers(between, "years")] if ages else [])])


def settings(model: PetDCGAN) -> pd.DataFrame:
    """Sections 3.4 and 4: networks and training, measured on the networks that were trained; constants of SSIM."""
    c, (generator, critic) = model.config, model.untrained()
    made, judged = traced(generator), traced(critic)
    strided = {
        side: [part for part, _ in parts if hasattr(part, "stride") and part.stride[0] > 1]
        for side, parts in (("generator", made), ("discriminator", judged))
    }
    noise = torch.cat([model.noise(step) for step in range(8)])
    weights = torch.cat([w.detach().flatten() for w in generator.parameters() if w.ndim > 2])
    values = {
        "latent": made[0].module.in_channels, "size": made[-1].shape[-1], "channels": made[-1].shape[0],
        "kernel": strided["discriminator"][0].kernel_size[0], "batch": len(model.noise(0)),
        "epochs": len(model.losses) // model.steps_to_see_all, "rate": c.learning_rate, "beta1": c.beta1,
        "beta2": c.beta2, "init_sd": float(weights.std()), "noise_low": float(noise.min()),
        "noise_high": float(noise.max()), "ssim_k1": metrics.SSIM_K1, "ssim_k2": metrics.SSIM_K2,
        "leak": next(part.negative_slope for part, _ in judged if isinstance(part, torch.nn.LeakyReLU)),
        **{f"layers.{side}": len(parts) for side, parts in strided.items()},
    }
    return _numbers({f"settings.{name}": value for name, value in values.items()}, "1")


def not_as_published(config: Config) -> pd.DataFrame:
    """Settings that differ from those of the paper profile, which are the published ones where there are any."""
    sizes = pd.DataFrame({"paper profile": config.from_dict({}).as_dict(), "this run": config.as_dict()})
    sizes = sizes.astype(str).fillna("–")
    return sizes[sizes["paper profile"] != sizes["this run"]]


def levels_and_parts(profile: str) -> tuple[int, int]:
    """How many levels of each view are cut, and into how many parts people are split, all but one to learn from."""
    return {"smoke": (1, 2), "laptop": (3, 3)}.get(profile, (5, 3))


def job(name: str, config: Config, table: Slices, people: Cohort) -> dict[str, Any]:
    """What :func:`nbkit.training.fitted.fitted` is given for a generator that learns from `table`, of `people`."""
    return {
        "model": PetDCGAN(config), "cohort": people, "fit": lambda model, _: model.fit(table),
        "key": [name, table.digest],
    }


def trained(kinds: Mapping[str, tuple[Config, Slices]], people: Cohort) -> dict[str, PetDCGAN]:
    """A generator for each name, from settings and the table it learns from, read from the cache where it can be.

    Parameters
    ----------
    kinds : mapping of str to (Config, Slices or Volumes)
    people : Cohort
        Those in the tables.
    """
    return dict(zip(kinds, side_by_side(lambda n: fitted(**job(n, *kinds[n], people)), kinds), strict=True))


def losses(model: PetDCGAN) -> pd.DataFrame:
    """Running means, over a fiftieth of training, of both sides' losses at some hundred steps of every network."""
    sides = pd.MultiIndex.from_product([["generator", "discriminator"], model.networks], names=["metric", "system"])
    steps = pd.RangeIndex(1, len(model.losses) + 1, name="step")
    each = pd.DataFrame(model.losses.double().flatten(1).numpy(), steps, sides)
    means = each.rolling(max(1, len(each) // 50), min_periods=1).mean().iloc[:: max(1, len(each) // 100)]
    return means.melt(ignore_index=False).reset_index()


def draw_like(model: PetDCGAN, real: Slices, *, seed: int) -> Slices:
    """As many generated images of each stage and view as `real` has, labelled like them but for the person.

    Raises
    ------
    NbkitError
        If the generator was trained on one of the people of `real`, by name.
    """
    model.check_unseen(real.subjects, where="draw_like: real")
    views = list(dict.fromkeys(real.view))
    order = sorted(range(len(real)), key=lambda i: (STAGES.index(real.stage[i]), views.index(real.view[i])))
    like, images = real.at(order), []
    for (stage, view), count in Counter(zip(like.stage, like.view, strict=True)).items():
        own = seed if view == VOLUME else derive(seed, "drawn", stage)
        images.append(model.sample_images(count, stage, own, view=view))
    return replace(like, images=torch.cat(images), subject=("generated",) * len(like))


def quality(
    drawn: Slices, real: Slices, *, seed: int = 0, systems: Sequence[str] = ("generated", "real")
) -> pd.DataFrame:
    """PSNR and SSIM of every real person's slices with generated ones and with real ones of other people.

    Pairs are of one view. *Random* is the mean over all images compared with, *nearest* the best of them; of the
    generated images as many are used as there are real ones of other people, because more bring nearer ones.

    Parameters
    ----------
    drawn, real : Slices
        `real` by person, at least two of each stage (:meth:`~nbkit.data.pet_slices.Slices.of_people`).
    seed : int
        Which generated images are left out.
    systems : sequence of {"generated", "real"}
        What the person's slices are held against.

    Returns
    -------
    DataFrame
        Tidy: the mean over a person's slices by metric, setting ("random", "nearest"), system ("generated", "real")
        and stage.
    """
    rows = []
    for stage in dict.fromkeys(drawn.stage):
        for view in dict.fromkeys(real.view):
            own, made = real.select(stages=stage, view=view), drawn.select(stages=stage, view=view).images
            people = np.array(own.subject)
            others = torch.from_numpy(people[:, None] != people)
            kept = _matching(others, len(made), numpy_generator(seed, "quality", view))
            sides = {"generated": (made, kept), "real": (own.images, others)}
            for system, (images, allowed) in ((name, sides[name]) for name in systems):
                for metric, values in zip(("psnr", "ssim"), pairwise_quality(own.images, images), strict=True):
                    for setting, found in strangers(values, allowed).items():
                        rows += [(metric, setting, system, stage, *one) for one in zip(people, found.tolist())]
    labels = ["metric", "setting", "system", "stage", "subject"]
    frame = pd.DataFrame(rows, columns=[*labels, "value"]).groupby(labels, sort=False)["value"].mean().reset_index()
    ids = "islam2020.quality." + frame["metric"] + "." + frame["setting"] + "." + frame["system"] + "."
    return frame.assign(id=ids + frame["stage"].str.lower(), unit=frame["metric"].map(UNITS))


def _matching(others: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """(R, count) bool: for each real slice as many generated ones, at random, as it has real ones of other people."""
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(count), (len(others), 1)), axis=1))
    return order < others.sum(dim=1, keepdim=True).clamp(max=count)


def over_stages(found: pd.DataFrame) -> pd.DataFrame:
    """Section 4: every person's mean over stages, by metric, setting and system; ids where the text has a number."""
    labels = ["metric", "setting", "system", "subject"]
    frame = found.groupby(labels, sort=False)["value"].mean().reset_index()
    printed = (frame["setting"] == "random") & (frame["system"] == "generated")
    ids = ("islam2020.text." + frame["metric"]).where(printed, "")
    return frame.assign(id=ids, unit=frame["metric"].map(UNITS))


def histograms(drawn: Slices, real: Slices) -> pd.DataFrame:
    """Fig. 9: how far 2D histograms lie from a real person's, of generated images and of real ones of other people.

    Half the sum of absolute differences, 0 (equal) to 1, of all slices of a person and of all others of the stage.
    """
    rows = []
    for stage in dict.fromkeys(drawn.stage):
        own, made = real.select(stages=stage), joint_histogram(drawn.select(stages=stage).images).mean(dim=0)
        each, people = joint_histogram(own.images), np.array(own.subject)
        for person in own.subjects:
            mine = torch.from_numpy(people == person)
            for system, other in (("generated", made), ("real", each[~mine].mean(dim=0))):
                far = float((each[mine].mean(dim=0) - other).abs().sum() / 2)
                rows.append((f"islam2020.histogram.{system}.{stage.lower()}", person, system, stage, far))
    frame = pd.DataFrame(rows, columns=["id", "subject", "system", "stage", "value"])
    return frame.assign(metric="histogram", unit="1")


def likeness_ends(train: Slices, held_out: Slices, *, seed: int = 0) -> pd.DataFrame:
    """PSNR and SSIM of images that nobody had to generate, stage by stage: controls, reach and floor.

    No room follows from them: that generated images are as near as real ones is no contest of methods.
    """
    stages = dict.fromkeys(held_out.stage)
    return stacked(*(likeness_room(train, held_out, stage=stage, seed=seed) for stage in stages))


def stage_ends(train: Slices, held_out: Slices, *, seed: int = 0) -> pd.DataFrame:
    """Distances to the nearest image, where nobody had to generate it: how much nearer the own stage is at all."""
    return stacked(*(stage_room(train, held_out, stage=stage, seed=seed) for stage in dict.fromkeys(held_out.stage)))


def as_printed(everyone: pd.DataFrame, published: Mapping[str, float]) -> pd.DataFrame:
    """PSNR and SSIM by what is compared, of :func:`over_stages`, beside what the text prints."""
    table = everyone.pivot_table("value", "metric", ["setting", "system"])
    table["published", ""] = [published[f"islam2020.text.{metric}"] for metric in table.index]
    return table


def feature_scores(drawn: Slices, *, train: Slices, held_out: Slices, seed: int = 0) -> pd.DataFrame:
    """The generated images of every stage in feature space, held against people never seen.

    "frechet": squared Fréchet distance from held-out images of generated ones, real ones of other people, and real
    ones of other stages, sets of equal size; "density" and "coverage"; "memorisation": share of generated images whose
    nearest real image is a training image, by chance, and the upper end of chance; "stage.distance": from a held-out
    person's slices to the nearest generated image of the own stage, and of the other stages together, equally many.

    Parameters
    ----------
    drawn : Slices
        Of at least two stages.
    train, held_out : Slices
        Of all stages, by person; nobody in both. `train` gives the feature space its scale.

    Raises
    ------
    NbkitError
        For a single stage, or a person on both sides, by name.
    """
    check_disjoint(train.subjects, held_out.subjects, where="feature_scores")
    stages = list(dict.fromkeys(drawn.stage))
    require(
        len(stages) > 1, "feature_scores: drawn", expected="images of two stages or more", found=stages,
        remedy="Draw another stage too: without it nothing tells stages apart.",
    )
    net = SliceFeatureNet().fit(train.images)
    return stacked(*(_stage_scores(stage, stages, net, drawn, train, held_out, seed) for stage in stages))


def _stage_scores(
    stage: str, stages: Sequence[str], net: SliceFeatureNet, drawn: Slices, train: Slices, held_out: Slices, seed: int
) -> pd.DataFrame:
    rng = numpy_generator(seed, "features", stage)
    past, there = train.select(stages=stage), held_out.select(stages=stage)
    others = [net(drawn.select(stages=name).images) for name in stages if name != stage]
    sets = {"there": net(there.images), "generated": net(drawn.select(stages=stage).images),
            "real": net(past.images), "other": net(train.select(stages=set(train.stage) - {stage}).images)}
    own = sets["generated"]
    alike = -(-len(own) // len(others))
    strange = torch.cat([x[rng.permutation(len(x))[:alike]] for x in others])[: len(own)]
    size = min(map(len, sets.values()))
    equal = {name: x[rng.permutation(len(x))[:size]] for name, x in sets.items()}

    def row(metric: str, system: str, value: Mapping[str, float] | float, unit: str = "1") -> pd.DataFrame:
        id = f"islam2020.{metric}.{system}.{stage.lower()}"
        return tidy(value, id=id, unit=unit, metric=metric, system=system, stage=stage)

    rows = [row("frechet", side, frechet_distance(equal[side], equal["there"]), UNITS["frechet"])
            for side in ("generated", "real", "other")]
    for side in ("generated", "real"):
        found = density_coverage(equal["there"], equal[side])
        rows += [row(metric, side, value) for metric, value in found._asdict().items()]
    whose = {"groups_train": past.subject, "groups_heldout": there.subject}
    copied = memorisation(own, sets["real"], sets["there"], **whose, seed=seed)
    rows += [row("memorisation", n, 100 * getattr(copied, n), "%") for n in ("share", "expected", "high")]
    rows.append(row("memorisation", "ratio", float(copied.ratios.median())))
    for side, images in (("own", own), ("other", strange)):
        nearest = pd.Series(torch.cdist(sets["there"], images).amin(dim=1).tolist())
        by_person = nearest.groupby(np.array(there.subject), sort=False).mean().to_dict()
        rows.append(row("stage.distance", side, by_person, "feature units"))
    return stacked(*rows)


def memorised(found: pd.DataFrame) -> list[str]:
    """Stages whose share of nearest training images lies above chance, of what :func:`feature_scores` found."""
    table = where(found, metric="memorisation").pivot(index="stage", columns="system", values="value")
    return list(table.index[table["share"] > table["high"]])


def neighbours(
    drawn: Slices, *, train: Slices, held_out: Slices, stage: str, view: str = "axial", count: int = 6
) -> dict[str, tuple[torch.Tensor, list[float]]]:
    """Some generated images, the nearest training image of each and the nearest of people never seen, with distances.

    Returns
    -------
    dict
        "synthetic", "nearest training", "nearest held-out" -> (count, 1, S, S), and distances in feature space.
    """
    net, made = SliceFeatureNet().fit(train.images), drawn.select(stages=stage, view=view).images[:count]
    found = {"synthetic": (made, [])}
    for name, table in (("nearest training", train), ("nearest held-out", held_out)):
        images = table.select(stages=stage, view=view).images
        nearest = torch.cdist(net(made), net(images)).min(dim=1)
        found[name] = images[nearest.indices], nearest.values.tolist()
    return found


def reasons(
    accuracy: pd.DataFrame, scores: pd.DataFrame, found: pd.DataFrame, published: Mapping[str, float]
) -> list[str]:
    """Sentences: why the verdicts fall as they do.

    Parameters
    ----------
    accuracy, scores, found : DataFrame
        Of :func:`classified`, :func:`feature_scores` of the separate generators, :func:`over_stages`.
    published : mapping of id to value
    """
    arms = where(accuracy, view=EVERY_VIEW, metric="accuracy", share=1.0).groupby("system")["value"].mean()
    far = where(scores, metric="frechet").groupby("system")["value"].mean()
    alike = where(found, setting="random").groupby(["metric", "system"])["value"].mean()
    printed = published["islam2020.text.accuracy.real"]
    generated, real = alike.xs("generated", level="system"), alike.xs("real", level="system")
    return [
        f"On people never seen, real images alone give {arms[REAL]:.1f} % (published: {printed:g} %): these stages are "
        f"{'easier' if arms[REAL] > printed else 'no easier'} to tell apart. Synthetic images alone give "
        f"{arms[ONLY]:.1f} %: they carry at most what the generator saw.",
        f"Half of every batch synthetic changes accuracy by {arms[SYNTHETIC] - arms[REAL]:+.1f} points, plain "
        f"augmentation by {arms[PLAIN] - arms[REAL]:+.1f}.",
        f"Fréchet distance to held-out people: generated {far['generated']:.1f}, other real people {far['real']:.1f}, "
        f"another stage {far['other']:.1f}: a first above the last is an error larger than what sets stages apart.",
        f"PSNR with strangers: generated {generated['psnr']:.1f} dB, real {real['psnr']:.1f} dB; SSIM "
        f"{generated['ssim']:.2f} and {real['ssim']:.2f}. The published {published['islam2020.text.psnr']:g} dB "
        "is beyond both.",
    ]
