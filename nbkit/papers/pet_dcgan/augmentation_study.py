"""Does a classifier of PET slices gain from synthetic ones? Split by subject, beside cheaper ways to get more images.

Islam and Zhang (Brain Informatics 2020) report 71.45 % for controls against Alzheimer's disease with synthetic slices,
ten points more than without, and neither split, subjects nor chance. Here the generator sees training subjects only,
everything is repeated with other seeds, and the number of real subjects varies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import check_disjoint, check_keys, require
from nbkit.core.config import Settings
from nbkit.core.device import pick_device, side_by_side
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import derive, numpy_generator, torch_generator
from nbkit.data.pet_slices import STAGES, Slices
from nbkit.data.splits import Fold
from nbkit.geometry.warp import grid_positions, warp
from nbkit.nets.weights import draw_weights
from nbkit.papers.pet_dcgan.metrics import placements
from nbkit.papers.pet_dcgan.pet_dcgan import Deck, PetDCGAN
from nbkit.training.kept import kept_tables
from nbkit.training.steps import PlainStep

REAL, SYNTHETIC, ONLY, PLAIN = "real", "real + synthetic", "synthetic only", "real + plain augmentation"
ARMS = (REAL, SYNTHETIC, ONLY, PLAIN)
CLASS_MEAN, CHANCE = "class mean", "chance"
EVERY_VIEW = "all views"
_CELL = ["arm", "share", "real_subjects", "repeat", "fold"]
PLACES = 4
"""The last maps are averaged over so many parts of each edge: brains lie in one space, and what is pale where tells."""


class SliceCNN(nn.Module):
    """Slices to one score each, the logit of the second of two classes.

    A convolution 5×5 of stride 2, then one of 3×3 and stride 2 for every further width, each with batch normalisation
    and ReLU; means over 4×4 parts of the last maps, and a dense layer. Islam and Zhang (Brain Informatics 2020) print
    no layer of their "2D-CNN model"; this one is an assumption.

    Parameters
    ----------
    channels : int
    widths : sequence of int
    """

    def __init__(self, channels: int = 1, *, widths: Sequence[int] = (8, 16, 32)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level, (a, b) in enumerate(zip((channels, *widths), widths)):
            kernel = 3 if level else 5
            layers += [nn.Conv2d(a, b, kernel, stride=2, padding=kernel // 2), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(PLACES))
        self.dense = nn.Linear(widths[-1] * PLACES**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, S, S) of any size -> (B,)."""
        return self.dense(self.body(x).flatten(1))[:, 0]


@dataclass(frozen=True)
class Config(Settings):
    """Settings; the paper prints none of them.

    Attributes
    ----------
    pair : (str, str)
        Stages to tell apart; the second is the positive one.
    arms : tuple of str
        Of :data:`ARMS`. Nearest class mean and the majority class of training come beside them.
    shares : tuple of float
        Of each stage's training subjects; smaller choices lie inside larger ones.
    repeats : int
        Trainings of each classifier, with other seeds.
    extra : int
        Synthetic, or plainly augmented, images of each stage and view; half of every batch, where they are added.
    shift, rotation, noise, flip : float, float, float, bool
        Of plain augmentation: SD of the shift (share of an edge), of the angle (degrees) and of the noise; whether half
        of the axial and coronal slices are mirrored left to right.
    widths, steps, batch, learning_rate, weight_decay
        Of the classifier and of AdamW, at a rate that falls linearly to zero. All arms take the same steps.
    shuffled : bool
        Control: stages are dealt anew among the subjects, so that nothing can be learned.
    """

    pair: tuple[str, str] = ("CN", "AD")
    arms: tuple[str, ...] = ARMS
    shares: tuple[float, ...] = (0.25, 0.5, 1.0)
    repeats: int = 5
    extra: int = 512
    shift: float = 0.02
    rotation: float = 4.0
    noise: float = 0.03
    flip: bool = True
    widths: tuple[int, ...] = (16, 32, 64, 128)
    steps: int = 1_000
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    shuffled: bool = False
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"shares": (1.0,), "repeats": 1, "extra": 16, "widths": (4, 8), "steps": 12, "batch": 16},
        "laptop": {"repeats": 2, "extra": 128, "widths": (8, 16, 32), "steps": 120, "batch": 32},
        "overnight": {"extra": 512, "widths": (16, 32, 64, 128), "steps": 500},
    }

    @property
    def control(self) -> Config:
        """A study from which nothing can be learned: of real images alone, their stages dealt anew."""
        return self.changed(shuffled=True, arms=(REAL,), shares=(1.0,), repeats=1)

    @property
    def gain(self) -> Config:
        """A study of nothing but the gain, of all real people."""
        return self.changed(arms=(REAL, SYNTHETIC), shares=(1.0,))

    def __post_init__(self) -> None:
        check_keys(self.pair, STAGES, "Config: pair")
        check_keys(self.arms, ARMS, "Config: arms")
        for name, good, expected in (
            ("pair", len(set(self.pair)) == 2, "two different stages"),
            ("shares", len(self.shares) > 0 and all(0 < s <= 1 for s in self.shares), "shares above 0, at most 1"),
            ("batch", self.batch >= 4, "at least 4: two of each stage"),
        ):
            require(good, f"Config: {name}", expected=expected, found=getattr(self, name), remedy="Change it.")


def study(
    slices: Slices, splits: Sequence[Fold], *, generator: PetDCGAN, config: Config | None = None,
    cache: Cache | None = None,
) -> pd.DataFrame:
    """Train classifiers on the training subjects of every split and share, arm by arm, and test them on the others.

    Parameters
    ----------
    slices : Slices
        Of one or several views; a classifier sees one view, and "all views" is the mean of their probabilities.
    splits : sequence of Fold
        ``train_ids`` and ``test_ids``; subjects of other stages are left out.
    generator : PetDCGAN
        Its settings; for every split and share a new one is fitted to the real slices that are used there.
    config : Config
    cache : Cache, optional
        Where the table is kept.

    Returns
    -------
    DataFrame
        A row per test subject, view, arm, share (and "real_subjects"), repeat and fold: "stage", "score" (probability
        of the second stage, the mean over the subject's slices), "correct" (0 or 1) and "placement"
        (:func:`nbkit.papers.pet_dcgan.metrics.placements`: its mean is the AUC).

    Raises
    ------
    NbkitError
        For a subject on both sides of a split, by name; a split without subjects of both stages on both sides; no
        split at all.
    """
    c = config or Config()
    asked = slices.select(stages=c.pair)
    require(len(splits) > 0, "study: splits", expected="at least one", found="none", remedy="Use nbkit.data.splits.")
    for split in splits:
        _check_split(split, asked, c)
    used = _shuffled(asked, c) if c.shuffled else asked
    people = [[fold.name, list(fold.train_ids), list(fold.test_ids)] for fold in splits]
    jobs = [(split, share) for split in splits for share in c.shares]

    def make() -> dict[str, pd.DataFrame]:
        parts = side_by_side(lambda job: pd.concat(_scored(used, *job, generator, c)), jobs)
        return {"subjects": _graded(pd.concat(parts, ignore_index=True), used, c.pair[1])}

    stand_in = Cohort("slices", (), "embedded", {"data_hash": asked.digest})
    return kept_tables(
        "augmentation_study", make, models={"generator": generator}, cohort=stand_in, key=[c.as_dict(), people],
        sources=(__name__,), cache=cache,
    )["subjects"]


def augmented(images: torch.Tensor, rng: torch.Generator, *, config: Config, view: str) -> torch.Tensor:
    """Plain augmentation: each image turned about its centre, shifted, mirrored left to right or not, with noise.

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, S, S) in [−1, 1], its first axis x (axial, coronal) or y (sagittal, which is never mirrored).
    rng : torch.Generator
    config : Config
        ``shift``, ``rotation``, ``noise`` and ``flip``.
    view : str

    Returns
    -------
    torch.Tensor
        (N, 1, S, S) in [−1, 1].
    """
    count, size = len(images), images.shape[-1]
    angle = torch.deg2rad(config.rotation * torch.randn(count, generator=rng))
    shift = config.shift * size * torch.randn(count, 2, generator=rng)
    mirrored = torch.rand(count, generator=rng) < 0.5
    noise = config.noise * torch.randn(images.shape, generator=rng)
    places = grid_positions((size, size, 1), np.eye(4))[:, :2] - (size - 1) / 2
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    moved = torch.einsum("nij,njxyz->nixyz", turn, places.expand(count, -1, -1, -1, -1)) - places
    moved = F.pad(moved + shift[:, :, None, None, None], (0, 0, 0, 0, 0, 0, 0, 1))
    turned = warp(images[..., None], moved, affine=np.eye(4), padding="border")[..., 0]
    if config.flip and view != "sagittal":
        turned = torch.where(mirrored[:, None, None, None], turned.flip(2), turned)
    return (turned + noise).clamp(-1, 1)


def train_classifier(
    real: Sequence[torch.Tensor], extra: Sequence[torch.Tensor] | None, *, config: Config, seed: int,
    real_share: float = 0.5,
) -> SliceCNN:
    """A classifier of two classes of slices, as many of each in every batch.

    Parameters
    ----------
    real, extra : sequence of torch.Tensor
        (N, 1, S, S) of the first and of the second class; `extra` None: real ones only.
    seed : int
        Of weights and batches.
    real_share : float
        Of a batch, where there are extra images; 0: none is real.
    """
    c, device = config, pick_device(config.device)
    net = SliceCNN(real[0].shape[1], widths=c.widths)
    net = draw_weights(net, torch_generator(seed, "weights"), sd=None).to(device)
    half = c.batch // 2
    counts = {"real": half if extra is None else round(half * real_share)}
    counts["extra"] = half - counts["real"]
    pools = {"real": real, "extra": extra or real}
    decks = {(kind, k): Deck(range(len(pool[k])), seed, kind, k) for kind, pool in pools.items() for k in (0, 1)}
    truth = torch.arange(2, dtype=torch.float32, device=device).repeat_interleave(half)
    optimiser = torch.optim.AdamW(net.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay)
    step = PlainStep(
        net, optimiser, device=device,
        loss=lambda net, x: {"total": F.binary_cross_entropy_with_logits(net(x), truth, reduction="none")},
    )
    for n in range(c.steps):
        optimiser.param_groups[0]["lr"] = c.learning_rate * (1 - n / c.steps)
        parts = [pools[kind][k][list(islice(decks[kind, k], counts[kind]))] for k in (0, 1) for kind in pools]
        step(torch.cat(parts).to(device))
    return net.eval()


def _check_split(split: Fold, slices: Slices, c: Config) -> None:
    check_disjoint(split.train_ids, split.test_ids, where=f"study: {split.name}")
    for side, ids in (("training", split.train_ids), ("test", split.test_ids)):
        found = {slices.stage_of[i] for i in ids if i in slices.stage_of}
        require(
            set(c.pair) <= found, f"study: {split.name}, {side}", expected=f"subjects of {' and '.join(c.pair)}",
            found=", ".join(sorted(found)) or "none", remedy="Split with nbkit.data.splits.folds, by diagnosis.",
        )


def _shuffled(slices: Slices, c: Config) -> Slices:
    """The same slices, every subject's stage that of another."""
    stage_of = slices.stage_of
    dealt = numpy_generator(c.seed, "shuffled").permutation(list(stage_of.values())).tolist()
    anew = dict(zip(stage_of, dealt, strict=True))
    return replace(slices, stage=tuple(anew[name] for name in slices.subject))


def _chosen(split: Fold, slices: Slices, share: float, c: Config) -> list[str]:
    """Training subjects: of both stages a share, two at least."""
    chosen: list[str] = []
    for stage in c.pair:
        ids = sorted(i for i in set(split.train_ids) if slices.stage_of.get(i) == stage)
        order = numpy_generator(c.seed, "subjects", split.name, stage).permutation(ids)
        chosen += order[: max(2, round(share * len(ids)))].tolist()
    return chosen


def _scored(slices: Slices, split: Fold, share: float, generator: PetDCGAN, c: Config) -> Iterator[pd.DataFrame]:
    """Scores of the test subjects, the mean over a subject's slices: a table for every view, arm and repeat."""
    train = slices.select(subjects=_chosen(split, slices, share, c))
    test = slices.select(subjects=[i for i in split.test_ids if i in slices.stage_of])
    seed = derive(c.seed, split.name, f"{share:g}")
    model = type(generator)(generator.config.changed(seed=seed))
    if {SYNTHETIC, ONLY} & set(c.arms):
        model.fit(train)
        model.check_unseen(test.subjects, f"study: {split.name}, test subjects")
    for view in dict.fromkeys(slices.view):
        seen, asked = train.select(view=view), test.select(view=view)
        for arm, repeat, scores in _probabilities(seen, asked.images, view, model, seed, c):
            means = pd.Series(scores.double().numpy()).groupby(list(asked.subject), sort=False).mean()
            yield means.rename_axis("subject").reset_index(name="score").assign(
                view=view, arm=arm, share=share, real_subjects=len(train.subjects), repeat=repeat, fold=split.name,
            )


def _probabilities(
    train: Slices, images: torch.Tensor, view: str, model: PetDCGAN, seed: int, c: Config
) -> Iterator[tuple[str, int, torch.Tensor]]:
    """Arm, repeat, and the probability of the second stage for every test image."""
    real = [train.select(stages=stage).images for stage in c.pair]
    extra: dict[str, list[torch.Tensor]] = {}
    if {SYNTHETIC, ONLY} & set(c.arms):
        made = [model.sample_images(c.extra, stage, derive(seed, "extra"), view=view) for stage in c.pair]
        extra |= {SYNTHETIC: made, ONLY: made}
    if PLAIN in c.arms:
        rngs = [torch_generator(seed, "augmented", view, stage) for stage in c.pair]
        drawn = [x[torch.randint(len(x), (c.extra,), generator=rng)] for x, rng in zip(real, rngs, strict=True)]
        extra[PLAIN] = [augmented(x, rng, config=c, view=view) for x, rng in zip(drawn, rngs, strict=True)]
    far = [(images - x.mean(dim=0)).square().flatten(1).mean(dim=1) for x in real]
    yield CLASS_MEAN, 0, far[0] / (far[0] + far[1])
    stages = list(train.stage_of.values())
    yield CHANCE, 0, torch.full((len(images),), float(stages.count(c.pair[1]) > stages.count(c.pair[0])))
    for arm in c.arms:
        for repeat in range(c.repeats):
            # arms share weights and order of a repeat, so that they differ by their images alone
            net = train_classifier(
                real, extra.get(arm), config=c, seed=derive(seed, "classifier", view, repeat),
                real_share=0.0 if arm == ONLY else 0.5,
            )
            with torch.no_grad():
                yield arm, repeat, net(images.to(next(net.parameters()).device)).sigmoid().cpu()


def _graded(scores: pd.DataFrame, slices: Slices, second: str) -> pd.DataFrame:
    """The scores, where there are several views their mean as one view more, with what they are worth."""
    if scores["view"].nunique() > 1:
        means = scores.groupby(["subject", *_CELL], sort=False)["score"].mean().reset_index()
        scores = pd.concat([scores, means.assign(view=EVERY_VIEW)], ignore_index=True)
    table = scores.assign(stage=scores["subject"].map(slices.stage_of))
    positive = table["stage"] == second
    table["correct"] = ((table["score"] > 0.5) == positive).astype(int)
    for rows in table.groupby(["view", *_CELL], sort=False).groups.values():
        table.loc[rows, "placement"] = placements(table.loc[rows, "score"], positive[rows])
    return table
