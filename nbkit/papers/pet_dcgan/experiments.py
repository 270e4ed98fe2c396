"""How generated PET slices are scored against real slices of people the generator never saw.

Islam and Zhang (Brain Informatics 2020) print PSNR 32.83 and SSIM .7748 between generated and real images, which
belong to nobody in common, and do not say which real image was taken. Here every value stands beside the same value of
real images of other people, and people count alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from nbkit.core.checks import check_disjoint, known, require
from nbkit.core.seeds import derive, numpy_generator
from nbkit.data.pet_slices import Slices
from nbkit.papers.pet_dcgan.metrics import (
    DensityCoverage, Memorisation, density_coverage, different, frechet_distance, memorisation, nearest_real,
    pairwise_quality, random_real,
)
from nbkit.papers.pet_dcgan.features import SliceFeatureNet

DATA_RANGE = 2.0
"""Of images in [−1, 1]."""
MEASURES = ("psnr", "ssim")
KINDS = ("random", "nearest")


class Sampler(Protocol):
    """A fitted generator of slices, such as :class:`nbkit.papers.pet_dcgan.pet_dcgan.PetDCGAN`."""

    def sample_images(self, n: int, stage: str, seed: int, *, view: str | None = None) -> torch.Tensor:
        """(n, 1, S, S)."""

    def check_unseen(self, subjects: Sequence[str], where: str) -> None:
        """Refuse, by name, subjects it was trained on."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Generated slices of one stage, as many per view as the real ones they are compared with."""

    images: torch.Tensor
    view: tuple[str, ...]

    def of(self, view: str) -> torch.Tensor:
        """(n, 1, S, S) of one view."""
        return self.images[[v == view for v in self.view]]


def draw_like(sampler: Sampler, real: Slices, stage: str, *, seed: int) -> Drawn:
    """As many images of `stage` in each view as `real` has there.

    Raises
    ------
    NbkitError
        If the generator was trained on one of the people of `real`, by name.
    """
    sampler.check_unseen(real.subjects, where="draw_like: real")
    counts = {view: real.view.count(view) for view in dict.fromkeys(real.view)}
    images = [sampler.sample_images(n, stage, derive(seed, "drawn", stage), view=view) for view, n in counts.items()]
    return Drawn(torch.cat(images), tuple(view for view, n in counts.items() for _ in range(n)))


def joined(drawn: Mapping[str, Drawn]) -> torch.Tensor:
    """The images of all stages together, (n, 1, S, S)."""
    return torch.cat([of_stage.images for of_stage in drawn.values()])


def nearest_images(net: SliceFeatureNet, images: torch.Tensor, among: torch.Tensor) -> tuple[list[int], list[float]]:
    """Row of the nearest image of `among` in feature space for each of `images`, and its distance."""
    found = torch.cdist(net(images), net(among)).min(dim=1)
    return found.indices.tolist(), found.values.tolist()


def quality(
    drawn: Drawn, real: Slices, *, person_of: Mapping[str, str] | None = None, seed: int = 0
) -> dict[tuple[str, str, str], dict[str, float]]:
    """PSNR and SSIM of every real person's slices with generated ones and with real ones of other people.

    Pairs are of one view. *Random* is the mean over all images compared with, *nearest* the best of them; of the
    generated images as many are used as there are real ones of other people, because more bring nearer ones.

    Parameters
    ----------
    drawn : Drawn
    real : Slices
        Of one stage and at least two people.
    person_of : mapping of subject to person, optional
        The real person that a subject is made from, where several subjects share one; None: each is a person.
    seed : int
        Which generated images are left out.

    Returns
    -------
    dict
        (measure, kind, "generated" | "real") -> person -> mean over the person's slices, in dB or SSIM.
    """
    people = _people(real.subject, person_of)
    require(
        len(set(people)) > 1, "quality: real", expected="slices of two people or more", found=len(set(people)),
        remedy="Hold out more people.",
    )
    found: dict[tuple[str, str, str], defaultdict[str, list[float]]] = {}
    for view in dict.fromkeys(real.view):
        own = real.select(view=view)
        names = _people(own.subject, person_of)
        others = different(names, names)
        kept = _matching(others, len(drawn.of(view)), numpy_generator(seed, "quality", view))
        for source, images, allowed in (("generated", drawn.of(view), kept), ("real", own.images, others)):
            pairs = pairwise_quality(own.images, images, data_range=DATA_RANGE)
            for measure, values in zip(MEASURES, pairs, strict=True):
                for kind, act in zip(KINDS, (random_real, nearest_real), strict=True):
                    by_person = found.setdefault((measure, kind, source), defaultdict(list))
                    _gather(by_person, names, act(values, allowed=allowed))
    return {key: _means(by_person) for key, by_person in found.items()}


def _people(subjects: Sequence[str], person_of: Mapping[str, str] | None) -> list[str]:
    return [person_of[s] for s in subjects] if person_of else list(subjects)


def _gather(by_person: defaultdict[str, list[float]], people: Sequence[str], values: torch.Tensor) -> None:
    for person, value in zip(people, values.tolist(), strict=True):
        by_person[person].append(value)


def _means(by_person: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {person: sum(values) / len(values) for person, values in by_person.items()}


def _matching(others: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """(R, count) bool: for each real slice as many generated ones, at random, as it has real ones of other people."""
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(count), (len(others), 1)), axis=1))
    return order < others.sum(dim=1, keepdim=True).clamp(max=count)


@dataclass(frozen=True, eq=False)
class FeatureScores:
    """One stage in feature space: generated, real of other people, and real of another stage, against held-out people.

    Attributes
    ----------
    frechet : dict
        "generated", "real", "other" -> squared Fréchet distance; sets of equal size.
    generated, real : DensityCoverage
    memorised : Memorisation
    distances : dict
        "own" and "other" -> held-out person -> mean over slices of the distance to the nearest generated image of
        the own stage, and of the other stages together, equally many.
    """

    frechet: dict[str, float]
    generated: DensityCoverage
    real: DensityCoverage
    memorised: Memorisation
    distances: dict[str, dict[str, float]]


def feature_scores(
    drawn: Mapping[str, Drawn], stage: str, *, train: Slices, held_out: Slices, net: SliceFeatureNet,
    person_of: Mapping[str, str] | None = None, seed: int = 0,
) -> FeatureScores:
    """Score the generated images of one stage.

    Parameters
    ----------
    drawn : mapping of stage to Drawn
        Of at least two stages.
    stage : str
    train, held_out : Slices
        Of all stages; no person in both.
    net : SliceFeatureNet
        Fitted on `train`.
    person_of : mapping of subject to person, optional
        As for :func:`quality`.

    Raises
    ------
    NbkitError
        For an unknown stage, a single one, or a person on both sides, by name.
    """
    known(stage, drawn, "feature_scores: stage")
    check_disjoint(_people(train.subjects, person_of), _people(held_out.subjects, person_of), where="feature_scores")
    others = [name for name in drawn if name != stage]
    require(
        len(others) > 0, "feature_scores: drawn", expected="images of two stages or more", found=stage,
        remedy="Draw images of another stage too: without them nothing tells stages apart.",
    )
    real, seen = held_out.select(stages=stage), train.select(stages=stage)
    rng = numpy_generator(seed, "features", stage)
    people = _people(real.subject, person_of)
    there, own, past = net(real.images), net(drawn[stage].images), net(seen.images)
    strangers = net(torch.cat([drawn[name].images for name in others]))[_some(rng, drawn, others, len(own))]
    foreign = net(train.select(stages=[s for s in set(train.stage) if s != stage]).images)
    size = min(map(len, (there, own, past, foreign)))
    sets = {name: x[rng.permutation(len(x))[:size]] for name, x in
            {"there": there, "generated": own, "real": past, "other": foreign}.items()}
    distances = {}
    for name, images in (("own", own), ("other", strangers)):
        _gather(by_person := defaultdict(list), people, torch.cdist(there, images).amin(dim=1))
        distances[name] = _means(by_person)
    return FeatureScores(
        {name: frechet_distance(sets[name], sets["there"]) for name in ("generated", "real", "other")},
        density_coverage(sets["there"], sets["generated"]), density_coverage(sets["there"], sets["real"]),
        memorisation(
            own, past, there, groups_train=_people(seen.subject, person_of), groups_heldout=people, seed=seed,
        ),
        distances,
    )


def _some(rng: np.random.Generator, drawn: Mapping[str, Drawn], names: Sequence[str], count: int) -> list[int]:
    """Rows of the joined images of `names`: `count` at random, alike from each."""
    start, rows = 0, []
    for name in names:
        size = len(drawn[name].images)
        rows += (start + rng.permutation(size)[: -(-count // len(names))]).tolist()
        start += size
    return rows[:count]
