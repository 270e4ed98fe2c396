"""CounterSynth: a scan with other labels, as a diffeomorphic deformation that a generator learned against a judge.

Pombo et al., "Equitable modelling of brain imaging by counterfactual augmentation with morphologically constrained 3D
deep generative models", Medical Image Analysis 84:102723, 2023. It learns from single scans and their labels; nobody's
follow-up is ever shown, so how people change is read from how people of other ages differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from nbkit.core.checks import check_finite, check_same_grid, known, require
from nbkit.core.config import Settings
from nbkit.core.device import autocast, fast_half, pick_device
from nbkit.core.protocols import Cohort, Scan, age_of
from nbkit.core.seeds import numpy_generator, torch_generator
from nbkit.core.volume import Volume
from nbkit.data.splits import subject_hash
from nbkit.geometry.flow import Velocity, expv
from nbkit.geometry.futures import Futures
from nbkit.papers.countersynth.augment import standardised, varied
from nbkit.papers.countersynth.conditions import Conditions
from nbkit.papers.countersynth.losses import CounterLosses
from nbkit.papers.countersynth.networks import DiffeoGenerator, drawn_generator, drawn_judge, refined
from nbkit.training.checkpoint import Constants, Saved, load_weights
from nbkit.training.loop import StripRule, train
from nbkit.training.schedules import SCHEDULES, rate_share
from nbkit.training.steps import AdversarialStep

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Config(Settings):
    """Settings; defaults are those of the public code (guilherme-pombo/CounterSynth), for 128³ voxels.

    Attributes
    ----------
    contrast : str
    encoder, decoder, fine : tuple of int
        Feature maps of the generator: 16 and four of 32, halving; five of 32, doubling; 32, 16 and 16 at full
        resolution. Small profiles end at half the resolution, where the velocity field lives.
    judge_widths : tuple of int
        16, 32, 64, 64, 64, 128 and 64.
    norm : {"batch", "group"}
        Of the judge: "batch". Small profiles train on a few scans a step, which batch normalisation cannot bear.
    squarings : int
        7.
    anchored : bool
        Published: no. Whether the velocity of nothing changing is taken from every velocity, so that a scan stays as it
        is at its own age. Small profiles need it: some hundred steps leave a drift whatever is asked.
    label, smooth, r1 : float
        Weights beside the adversarial term: labels 1, :func:`~nbkit.losses.deformation.smoothness` of the velocity 10,
        gradient penalty of the judge 1.
    augment : float
        Probability of each variation of a training scan (0.8).
    generator_rate, judge_rate, betas
        Of Adam: 1e-4, a fifth of it, (0.5, 0.999). Small profiles make some hundred steps, hence their larger rates.
    schedule : {"constant", "linear"}
        "constant". Small profiles let the rates fall to zero, or their last steps would only jitter.
    batch, epochs : int
        128 and 2000.
    steps_per_epoch : int or None
        None: every scan once. Small profiles draw a person, then one of their scans.
    margin : float
        Years beyond the ages of the training scans up to which forecasts are made; not stated.
    half : bool or None
        bfloat16 autocast; None: where this machine is faster with it.
    """

    contrast: str = "T1w"
    encoder: tuple[int, ...] = (16, 32, 32, 32, 32)
    decoder: tuple[int, ...] = (32, 32, 32, 32, 32)
    fine: tuple[int, ...] = (32, 16, 16)
    judge_widths: tuple[int, ...] = (16, 32, 64, 64, 64, 128, 64)
    norm: str = "batch"
    squarings: int = 7
    anchored: bool = False
    label: float = 1.0
    smooth: float = 10.0
    r1: float = 1.0
    augment: float = 0.8
    generator_rate: float = 1e-4
    judge_rate: float = 2e-5
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: str = "constant"
    batch: int = 128
    epochs: int = 2000
    steps_per_epoch: int | None = None
    margin: float = 10.0
    half: bool | None = None
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "encoder": (4, 8), "decoder": (8,), "fine": (), "judge_widths": (4, 8, 8), "norm": "group", "squarings": 5,
            "anchored": True, "batch": 2, "epochs": 2, "steps_per_epoch": 4, "generator_rate": 1e-3, "judge_rate": 1e-3,
            "schedule": "linear", "margin": 40.0, "half": False,
        },
        "laptop": {
            "encoder": (8, 16, 32, 32), "decoder": (32, 16, 16), "fine": (), "judge_widths": (8, 16, 32, 64, 64),
            "norm": "group", "squarings": 5, "anchored": True, "batch": 4, "epochs": 40, "steps_per_epoch": 10,
            "generator_rate": 1e-3, "judge_rate": 1e-3, "schedule": "linear",
        },
        "overnight": {"epochs": 150, "steps_per_epoch": 20},
    }

    def __post_init__(self) -> None:
        known(self.schedule, SCHEDULES, "countersynth.Config: schedule")
        require(
            min(self.batch, self.epochs, self.steps_per_epoch or 1) >= 1 and 0 <= self.augment <= 1,
            "countersynth.Config", expected="counts of at least 1 and a probability augment",
            found=(self.batch, self.epochs, self.steps_per_epoch, self.augment),
            remedy="Leave the defaults, or raise what is 0.",
        )


class CounterSynth(Saved):
    """A :class:`~nbkit.core.protocols.TrajectoryModel` that deforms the last scan; ``history``: losses by epoch."""

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.half = fast_half(self.device) if self.config.half is None else self.config.half
        self.net: DiffeoGenerator | None = None
        self.conditions: Conditions | None = None
        self.shape, self.affine = (0, 0, 0), np.eye(4)
        self.history: dict[str, list[float]] = {}

    def fit(self, cohort: Cohort) -> Self:
        """Learn from every scan of `cohort`, skull-stripped and on one grid.

        Raises
        ------
        NbkitError
            For a scan without age, or on another grid.
        NonFiniteLoss
            Naming the step and the term.
        """
        first = cohort.subjects[0].baseline.image(self.config.contrast)
        self.shape, self.affine = first.shape, first.affine
        self.conditions, self.trained_on = Conditions.of(cohort), subject_hash(cohort.ids)
        self.net = self._network()
        step, records = self._step(), []

        def logged(batch: Tensors) -> dict[str, float]:
            records.append(step(batch))
            return records[-1]

        def begin(epoch: int) -> None:
            left = rate_share(self.config.schedule, epoch, self.config.epochs)
            for optimiser, rate in zip(step.optimisers, (self.config.generator_rate, self.config.judge_rate)):
                optimiser.param_groups[0]["lr"] = rate * left

        train(
            logged, lambda epoch: self._batches(cohort, epoch), epochs=self.config.epochs, rule=StripRule(),
            begin=begin, state={"step": step, "records": records}, label="CounterSynth",
        )
        rows = np.array_split(np.array([list(record.values()) for record in records]), self.config.epochs)
        means = np.stack([row.mean(axis=0) for row in rows], axis=1)
        self.history = {name: row.tolist() for name, row in zip(records[0], means)}
        return self

    @torch.no_grad()
    def futures(self, scan: Scan, ages: Sequence[float], course: str) -> Futures:
        """The scan at each age (years) under a diagnosis; the field is integrated at full resolution.

        Raises
        ------
        NbkitError
            If the model is not fitted; for a diagnosis that no training person has, another grid, a scan without age,
            or ages too far from those of the training scans.
        """
        where = f"CounterSynth: {scan.subject}/{scan.session}"
        require(
            self.net is not None, "CounterSynth", expected="a fitted model", found="an unfitted one",
            remedy="Call fit(cohort) or CounterSynth.load(path) first.",
        )
        low, high = self.conditions.youngest - self.config.margin, self.conditions.oldest + self.config.margin
        for age in ages:
            require(
                low <= age <= high, f"{where}: age", found=age,
                expected=f"{low:.1f} to {high:.1f} years (those of the training scans and {self.config.margin:g} more)",
                remedy="Ask for another age, or train with scans of that age.",
            )
        self.net.eval()
        image, now = standardised(self._read(scan)).to(self.device), age_of(scan)
        told = [self.conditions.ageing(age - now, course)[None].to(self.device) for age in ages]
        kept = self.conditions.ageing(0.0, course)[None].to(self.device) if self.config.anchored else None
        with autocast(self.device, self.half):
            fields = [refined(self.net.velocity(image, one, kept), self.shape).float() for one in told]
        velocity = Velocity(torch.cat(fields))
        flow = expv(velocity, affine=self.affine, steps=self.config.squarings)
        return Futures(
            scan, tuple(map(float, ages)), flow, self.config.contrast, velocities=velocity, made_by="CounterSynth",
        )

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One image per age (years): the last scan of `history`, deformed; those before it are not looked at."""
        require(len(history) > 0, "CounterSynth: history", expected="a scan", found="none", remedy="Give one.")
        return self.futures(history[-1], ages, diagnosis).images()

    def _read(self, scan: Scan) -> torch.Tensor:
        image, where = scan.image(self.config.contrast), f"{scan.subject}/{scan.session}: {self.config.contrast}"
        check_same_grid(self.shape, self.affine, image.shape, image.affine, where)
        check_finite(image.data, where)
        return image.data.float()[None]

    def _network(self) -> DiffeoGenerator:
        c = self.config
        return drawn_generator(
            torch_generator(c.seed, "countersynth", "generator"), self.affine, self.conditions.size, encoder=c.encoder,
            decoder=c.decoder, fine=c.fine, squarings=c.squarings,
        ).to(self.device)

    def _step(self) -> AdversarialStep:
        c = self.config
        judge = drawn_judge(
            torch_generator(c.seed, "countersynth", "judge"), self.shape, diagnoses=len(self.conditions.diagnoses),
            widths=c.judge_widths, norm=c.norm,
        ).to(self.device)
        losses = CounterLosses(self.net.half_affine, label=c.label, smooth=c.smooth, r1=c.r1)
        optimisers = (
            torch.optim.Adam(self.net.parameters(), lr=c.generator_rate, betas=c.betas),
            torch.optim.Adam(judge.parameters(), lr=c.judge_rate, betas=c.betas),
        )
        return AdversarialStep(
            self.net, judge, optimisers, generator_loss=losses.generator, discriminator_loss=losses.judge,
            generate=lambda net, batch: net(batch["image"], batch["told"], batch.get("kept")), device=self.device,
            half=self.half,
        )

    def _batches(self, cohort: Cohort, epoch: int) -> Iterator[Tensors]:
        """Scans, their labels, and the labels aimed at: those of another training scan, drawn at random."""
        people, c, rng = cohort.subjects, self.config, numpy_generator(self.config.seed, "batches", epoch)
        every = [(person, scan) for person in people for scan in person.scans]

        def drawn() -> tuple[Any, Scan]:
            person = people[rng.integers(len(people))]
            return person, person.scans[rng.integers(len(person.scans))]

        if c.steps_per_epoch is None:
            order = [every[i] for i in rng.permutation(len(every))]
            groups = [order[i : i + c.batch] for i in range(0, len(order), c.batch)]
        else:
            groups = [[drawn() for _ in range(c.batch)] for _ in range(c.steps_per_epoch)]
        for group in groups:
            aimed = [drawn() if c.steps_per_epoch else every[rng.integers(len(every))] for _ in group]
            yield self._batch(group, aimed, rng)

    def _batch(self, group: Sequence[tuple], aimed: Sequence[tuple], rng: np.random.Generator) -> Tensors:
        images = [varied(self._read(scan), rng, share=self.config.augment, affine=self.affine) for _, scan in group]
        labels, target = (
            torch.stack([self.conditions.labels(age_of(scan), p.sex, p.diagnosis) for p, scan in pairs])
            for pairs in (group, aimed)
        )
        batch = {
            "image": standardised(torch.cat(images)), "labels": labels, "target": target,
            "told": self.conditions.told(labels, target),
        } | ({"kept": self.conditions.kept(labels)} if self.config.anchored else {})
        return {name: value.to(self.device) for name, value in batch.items()}

    def _tensors(self) -> Tensors:
        """The generator; the judge is not kept."""
        return self.net.state_dict()

    def _constants(self) -> dict[str, Any]:
        return {
            "conditions": asdict(self.conditions), "shape": list(self.shape), "history": self.history,
            "affine": np.asarray(self.affine).tolist(),
        }

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        self.conditions = Conditions.from_dict(constants["conditions"])
        self.shape, self.affine = tuple(constants["shape"]), np.array(constants["affine"])
        self.history, self.net = constants["history"], self._network()
        load_weights(self.net, tensors, where)
