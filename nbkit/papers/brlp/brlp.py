"""BrLP: brains at other ages by diffusion in the latent space of an autoencoder, told where volumes are heading.

Puglisi, Alexander and Ravì, "Brain Latent Progression" (MICCAI 2024); settings from the authors' public code. Four
parts: an autoencoder, handed in trained; a denoiser of its latents that knows age, sex, diagnosis and regional volumes;
a ControlNet that shows it the person's starting latent; a model of how the volumes will go. Latents drawn from several
noises are averaged (latent average stabilisation), and their spread tells how sure a forecast is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from nbkit.core.checks import check_keys, known, require
from nbkit.core.config import Settings
from nbkit.core.device import autocast, fast_half, pick_device
from nbkit.core.protocols import Cohort, Forecast, Scan, VolumeReader, age_of
from nbkit.core.recent import Recent, fingerprint
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.papers.brlp.covariates import Covariates, chosen_volumes, stage
from nbkit.data.splits import subject_hash
from nbkit.metrics.regions import by_structure, regional_volumes
from nbkit.nets.autoencoder import Autoencoder, LatentSpace
from nbkit.papers.brlp.latent_diffusion import NOISE_STEPS, PREDICTIONS, LatentDiffusion
from nbkit.training.checkpoint import Constants, Saved, check_tensors, load_weights
from nbkit.papers.brlp.latent_pairs import LatentPairs, with_age_map
from nbkit.training.loop import StripRule, train
from nbkit.training.schedules import SCHEDULES, rate_share
from nbkit.papers.brlp.progression import Progression, fit_progression
from nbkit.training.steps import PlainStep

_REMEMBERED = 32
"""Scans whose detail is kept."""


@dataclass(frozen=True)
class Config(Settings):
    """Settings; defaults as published where stated.

    Attributes
    ----------
    contrast : str
    regions : tuple of str
        Structures whose volumes the denoiser is told; "cortex" is the sum of the lobes and the limbic cortex.
    widths, attention, res_blocks, groups, embedding
        Of the denoiser and its ControlNet (:class:`nbkit.papers.brlp.latent_diffusion.LatentDiffusion`).
    betas : tuple of float
    prediction : str
        Published: "epsilon". Small profiles use "v_prediction", whose error does not grow with the noise: a denoiser
        of few steps that predicts noise multiplies its error by a hundred where the noise is strongest.
    diffusion_steps, control_steps, batch : int
        Updates; published: 5 epochs of 11 730 scans in batches of 16. That of the ControlNet is not stated apart.
    learning_rate, schedule : float, {"constant", "linear"}
        Of AdamW; published: constant. Small profiles take few steps, at a larger rate that falls to zero.
    samples, ddim_steps : int
        Latents averaged per forecast (m), 64 in the published tables, and denoising steps of each.
    anchored : bool
        Published: no. Whether what the autoencoder cannot encode of the scan started from is added to the forecast.
    margin : float
        Years beyond the ages of the training scans up to which forecasts are made; our choice.
    half : bool or None
        bfloat16 autocast; None: on a GPU that is faster with it. On the CPU, where latents are small, oneDNN's bfloat16
        gradients are now and then not finite (seen with torch 2.13).
    """

    contrast: str = "T1w"
    regions: tuple[str, ...] = ("cortex", "hippocampus", "amygdala", "white_matter", "lateral_ventricle")
    widths: tuple[int, ...] = (256, 512, 768)
    attention: tuple[bool, ...] = (False, True, True)
    res_blocks: int = 2
    groups: int = 32
    embedding: int = 256
    betas: tuple[float, float] = (0.0015, 0.0205)
    prediction: str = "epsilon"
    diffusion_steps: int = 3_666
    control_steps: int = 3_666
    batch: int = 16
    learning_rate: float = 2.5e-5
    schedule: str = "constant"
    samples: int = 64
    ddim_steps: int = 25
    anchored: bool = False
    margin: float = 10.0
    half: bool | None = None
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "widths": (8, 8, 8), "attention": (False, False, True), "res_blocks": 1, "groups": 4, "embedding": 8,
            "prediction": "v_prediction", "diffusion_steps": 16, "control_steps": 16, "batch": 2,
            "learning_rate": 2e-3, "schedule": "linear", "samples": 2, "ddim_steps": 4,
        },
        "laptop": {
            "widths": (16, 32, 32), "attention": (False, True, True), "res_blocks": 1, "groups": 8, "embedding": 16,
            "prediction": "v_prediction", "diffusion_steps": 425, "control_steps": 425, "batch": 4,
            "learning_rate": 1e-3, "schedule": "linear", "samples": 4, "ddim_steps": 10,
        },
        "overnight": {
            "widths": (64, 128, 128), "embedding": 64, "diffusion_steps": 6_000, "control_steps": 6_000,
            "learning_rate": 5e-4, "samples": 8, "ddim_steps": 25,
        },
    }

    def __post_init__(self) -> None:
        known(self.schedule, SCHEDULES, "Config: schedule")
        known(self.prediction, PREDICTIONS, "Config: prediction")


class BrLP(Saved):
    """A :class:`~nbkit.core.protocols.TrajectoryModel` that draws latents under control.

    Parameters
    ----------
    config : Config, optional
    space : LatentSpace
        A trained autoencoder; saved with the model.
    segmenter : VolumeReader, optional
        Measures the volumes of every scan, in training and later; by default the labels of the scans are counted.
    """

    settings = Config

    def __init__(
        self, config: Config | None = None, *, space: LatentSpace | None = None, segmenter: VolumeReader | None = None
    ) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.space, self.segmenter = space, segmenter
        self.net: LatentDiffusion | None = None
        self.progression: Progression | None = None
        self.covariates: Covariates | None = None
        self.ages = (float("nan"), float("nan"))
        self.sexes: dict[str, str] = {}
        self.history: dict[str, Any] = {}
        self._details = Recent(_REMEMBERED)

    def fit(self, cohort: Cohort) -> Self:
        """Learn the courses of volumes, then the denoiser from all scans, then its ControlNet from pairs of scans.

        Courses go by the diagnosis at baseline, which is known when a forecast is made; published: by the last one.

        Raises
        ------
        NbkitError
            Without a trained autoencoder; if a scan has no age, no labels (and there is no segmenter), lacks a region
            or lies on another grid; if nobody was scanned twice.
        """
        space = self._space()
        volumes = [np.array([self.volumes(scan) for scan in subject.scans]) for subject in cohort]
        years = [[age_of(scan) for scan in subject.scans] for subject in cohort]
        groups = [stage(subject.diagnosis) for subject in cohort]
        self.progression = fit_progression(years, volumes, groups, regions=self.config.regions)
        self.covariates = Covariates.learned(self.config.regions, np.concatenate(volumes))
        self.ages = (min(map(min, years)), max(map(max, years)))
        examples = self._examples(cohort, volumes)
        self.net = self._build(space).to(self.device)
        self.history = {"diffusion": self._learn("diffusion", examples, self.config.diffusion_steps)}
        self.net.start_control()
        self.net.unet.requires_grad_(False)
        self.history["control"] = self._learn("control", examples, self.config.control_steps)
        self.net.unet.requires_grad_(True)
        self.trained_on = subject_hash(cohort.ids)
        return self

    def volumes(self, scan: Scan) -> np.ndarray:
        """mm³ of each of Config.regions, from the segmenter or, without one, from the scan's labels."""
        where = f"{scan.subject}/{scan.session}"
        if self.segmenter is not None:
            found = self.segmenter.volumes(scan.image(self.config.contrast), mask=scan.mask("brain"))
        else:
            require(
                scan.labels is not None, f"{where}: labels", expected="a label map, or a segmenter", found="neither",
                remedy="Hand a trained segmenter to BrLP(segmenter=...), or use scans with labels.",
            )
            found = regional_volumes(scan.labels, scan.label_names)
        return chosen_volumes(by_structure(found), self.config.regions, where=where)

    def telling(self, cohort: Cohort) -> Self:
        """The same trained model, told the sexes of these subjects, which scans do not carry."""
        twin = copy.copy(self)
        twin.sexes = {subject.id: subject.sex for subject in cohort if subject.sex is not None}
        return twin

    def sampling(self, **changes: Any) -> Self:
        """The same trained model with other settings of prediction, e.g. ``samples=1``, ``ddim_steps=50``."""
        check_keys(changes, ("samples", "ddim_steps", "anchored", "margin"), "BrLP.sampling")
        twin = copy.copy(self)
        twin.config = self.config.changed(**changes)
        return twin

    def expected_volumes(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> np.ndarray:
        """mm³ (n, R) of Config.regions at `ages`, that the denoiser is told of."""
        model, seen = self._fitted(), np.array([self.volumes(scan) for scan in history])
        return model.predict(stage(diagnosis), seen_ages=[age_of(s) for s in history], seen=seen, ages=ages)

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One image per age (years), given the scans seen so far: the average of the samples decoded.

        Starts from the last scan not after the age. Ages before the first scan are guesses: training goes forward.
        """
        latents = self._draw(history, ages, diagnosis)
        return [self._decode(z.mean(dim=0), history, age) for z, age in zip(latents, ages, strict=True)]

    def predict_with_uncertainty(
        self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str, *, draws: int | None = None,
        measure: Callable[[Volume], Mapping[str, float]] = lambda image: {},
    ) -> list[Forecast]:
        """Images with the spread of the samples they are averaged from, and what `measure` reads from each.

        ``measure(image) -> {name: value}`` gives e.g. a segmenter's volumes in mm³. The spread is that of one sample,
        due to its noise alone: neither the volumes told nor the weights vary. `draws` samples instead of
        Config.samples.
        """
        samples = self.config.samples if draws is None else draws
        require(
            samples > 1, "BrLP: samples", expected="at least 2 for a spread", found=samples,
            remedy="Raise Config.samples, or draws.",
        )
        latents = self.sampling(samples=samples)._draw(history, ages, diagnosis)
        return [self._forecast(z, history, age, measure) for z, age in zip(latents, ages, strict=True)]

    def _tensors(self) -> dict[str, torch.Tensor]:
        self._fitted()
        named = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        named |= {f"space.{name}": value for name, value in self.space.net.state_dict().items()}
        return named | {"latent_scale": torch.tensor([self.space.scale], dtype=torch.float64)}

    def _constants(self) -> dict[str, Any]:
        return {
            **self.space.constants(), "autoencoder": self.space.net.arguments, "ages": list(self.ages),
            "covariates": self.covariates.constants(), "progression": self.progression.constants(),
            "segmented": self.segmenter is not None,
        }

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        """A model trained with a segmenter needs one again, and one trained without refuses it."""
        require(
            constants["segmented"] == (self.segmenter is not None), f"{where}: segmenter",
            expected="one, as in training" if constants["segmented"] else "none, as in training",
            found="none" if self.segmenter is None else "one",
            remedy="Volumes must be measured as in training: BrLP.load(path, segmenter=...) or without.",
        )
        self.space = LatentSpace.from_constants(Autoencoder(**constants["autoencoder"]), constants, where=where)
        self.net, self.ages = self._build(self.space), tuple(constants["ages"])
        self.progression = Progression.from_constants(constants["progression"], where=where)
        self.covariates = Covariates.from_constants(constants["covariates"], where=where)
        check_tensors(tensors, self._tensors(), where)
        require(
            float(tensors["latent_scale"]) == self.space.scale, f"{where}: latent_scale",
            expected=f"{float(tensors['latent_scale'])!r}, as beside the weights", found=repr(self.space.scale),
            remedy="model.json belongs to other weights: save the model again.",
        )
        for prefix, net in (("net.", self.net), ("space.", self.space.net)):
            load_weights(net.to(self.device), tensors, where, prefix=prefix)

    def _space(self) -> LatentSpace:
        require(
            self.space is not None, "BrLP: space", expected="a trained autoencoder", found="none",
            remedy="Give BrLP(config, space=...) the LatentSpace of a fitted MRExtrap.",
        )
        return self.space

    def _fitted(self) -> Progression:
        require(
            self.progression is not None, "BrLP", expected="a fitted model", found="an unfitted one",
            remedy="Call fit(cohort) or BrLP.load(path) first.",
        )
        return self.progression

    @property
    def _half(self) -> bool:
        return self.device.type != "cpu" and fast_half(self.device) if self.config.half is None else self.config.half

    def _build(self, space: LatentSpace) -> LatentDiffusion:
        c = self.config
        return LatentDiffusion(
            space.latent_shape[0], covariates=3 + len(c.regions), widths=c.widths, attention=c.attention,
            res_blocks=c.res_blocks, groups=c.groups, embedding=c.embedding, betas=c.betas, prediction=c.prediction,
            seed=c.seed,
        )

    def _examples(self, cohort: Cohort, volumes: Sequence[np.ndarray]) -> LatentPairs:
        visits = [
            (person, *visit) for person, rows in zip(cohort, volumes, strict=True)
            for visit in zip(person.scans, rows, strict=True)
        ]
        contexts = [
            self.covariates.vector(age=age_of(s), sex=p.sex, diagnosis=s.diagnosis or p.diagnosis, volumes=row)
            for p, s, row in visits
        ]
        latents = list(self.space.encode_all([scan.image(self.config.contrast) for _, scan, _ in visits]))
        people, ages = [p.id for p, _, _ in visits], [age_of(s) for _, s, _ in visits]
        return LatentPairs.of(latents, contexts, ages=ages, people=people)

    def _learn(self, phase: str, examples: LatentPairs, steps: int) -> dict[str, Any]:
        c, paired = self.config, phase == "control"
        learner = self.net.control if paired else self.net.unet
        optimiser = torch.optim.AdamW(learner.parameters(), lr=c.learning_rate, fused=True)
        step = PlainStep(
            self.net, optimiser, loss=lambda net, batch: {"total": net.loss(*batch[:4], start=batch[4])},
            device=self.device, half=self._half,
        )

        def begin(number: int) -> None:
            optimiser.param_groups[0]["lr"] = c.learning_rate * rate_share(c.schedule, number, steps)

        def batches(number: int) -> Iterable[tuple[torch.Tensor | None, ...]]:
            drawn = examples.batch(c.batch, paired=paired, noise_steps=NOISE_STEPS, seed=c.seed, number=number)
            yield tuple(x if x is None else x.to(self.device) for x in drawn)

        history = train(
            step, batches, epochs=steps, rule=StripRule(), begin=begin, state={"step": step}, label=f"BrLP {phase}"
        )
        return history.as_dict()

    def _draw(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> torch.Tensor:
        """Samples (n, m, C, x, y, z) on the CPU; each depends on the seed, person, age and its number alone."""
        require(len(history) > 0, "BrLP: history", expected="at least one scan", found="none", remedy="Give one.")
        self._fitted()
        c, seen, space = self.config, sorted(history, key=age_of), self._space()
        volumes = self.expected_volumes(seen, [self._checked(age) for age in ages], diagnosis)
        sex = self.sexes.get(seen[0].subject)
        contexts = torch.stack([
            self.covariates.vector(age=age, sex=sex, diagnosis=diagnosis, volumes=row)
            for age, row in zip(ages, volumes, strict=True)
        ])
        latents = {i: space.encode(scan.image(c.contrast)) for i, scan in enumerate(seen)}
        nearest = [max((i for i, scan in enumerate(seen) if scan.age <= age), default=0) for age in ages]
        begun = torch.tensor([age_of(seen[i]) for i in nearest])
        starts = with_age_map(torch.stack([latents[i] for i in nearest]), begun)
        noise = torch.stack([
            torch.randn(space.latent_shape, generator=torch_generator(c.seed, "sample", seen[0].subject, float(age), k))
            for age in ages for k in range(c.samples)
        ])
        rows = torch.arange(len(ages)).repeat_interleave(c.samples)
        parts = torch.arange(len(rows)).split(c.batch)
        drawn = [self._denoise(noise[i], contexts[rows[i]], starts[rows[i]]) for i in parts]
        return torch.cat(drawn).unflatten(0, (len(ages), c.samples))

    def _denoise(self, noise: torch.Tensor, context: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        noise, context, start = (x.to(self.device) for x in (noise, context, start))
        with autocast(self.device, self._half):
            drawn = self.net.eval().sample(noise, context, steps=self.config.ddim_steps, start=start)
        return drawn.float().cpu()

    def _forecast(self, latents: torch.Tensor, history: Sequence[Scan], age: float, measure: Callable) -> Forecast:
        images = [self._decode(z, history, age) for z in latents]
        image, found = self._decode(latents.mean(dim=0), history, age), [measure(i) for i in images]
        sd = torch.stack([i.data for i in images]).std(dim=0)
        draws = {name: np.array([f[name] for f in found]) for name in found[0]}
        return Forecast(float(age), image, image.with_data(sd, "standard deviation"), draws)

    def _decode(self, z: torch.Tensor, history: Sequence[Scan], age: float) -> Volume:
        image = self.space.decode(z, step=f"BrLP{', anchored' * self.config.anchored} at {age:g} years")
        detail = self._detail(self._start(history, age)) if self.config.anchored else 0
        masks = [scan.mask("brain").data.bool() for scan in history if "brain" in scan.masks]
        inside = torch.stack(masks).any(dim=0) if len(masks) == len(history) else 1
        return replace(image, data=(image.data + detail).clamp(min=0) * inside)

    def _start(self, history: Sequence[Scan], age: float) -> Scan:
        """The last scan not after the age, or else the first."""
        seen = sorted(history, key=age_of)
        return max((scan for scan in seen if scan.age <= age), key=age_of, default=seen[0])

    def _detail(self, scan: Scan) -> torch.Tensor:
        """What the autoencoder cannot encode of a scan."""
        image = scan.image(self.config.contrast)
        return self._details.get(fingerprint(image), lambda: (
            image.data - self.space.decode(self.space.encode(image), step="reconstruction").data
        ))

    def _checked(self, age: float) -> float:
        low, high = self.ages[0] - self.config.margin, self.ages[1] + self.config.margin
        require(
            low <= age <= high, "BrLP: ages", expected=f"ages from {low:g} to {high:g} years", found=f"{age:g}",
            remedy="Forecasts are not made further from the training ages than Config.margin.",
        )
        return float(age)
