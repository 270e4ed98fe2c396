"""MRExtrap: brains at other ages by straight lines through the latent space of an autoencoder.

Kapoor, Macke and Baumgartner, "MRExtrap: Linear Prediction of Brain Aging in Autoencoder Latent Space of MRI Scans".
The published system draws a least-squares line through each latent element of a person's scans, two at least. Its
announced extension to one scan is here a prior over slopes from the training subjects and the posterior it leaves,
which also tells how sure a forecast is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch

from nbkit.core.checks import known, require
from nbkit.core.config import Settings
from nbkit.core.device import fast_half, pick_device
from nbkit.core.protocols import Cohort, Forecast, Scan, age_of
from nbkit.core.recent import Recent, fingerprint
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.data.splits import subject_hash
from nbkit.losses.perceptual import find_features
from nbkit.nets.autoencoder import Autoencoder, LatentSpace, draw_weights
from nbkit.nets.discriminators import PatchDiscriminator
from nbkit.papers.mrextrap.forecast import Trajectory
from nbkit.papers.mrextrap.losses import CRITICS, AutoencoderObjective
from nbkit.papers.trajectories.slopes import ESTIMATORS, SlopePrior, estimate_prior, fit_line, posterior
from nbkit.training.autoencoding import train_autoencoder
from nbkit.training.checkpoint import Constants, Saved, check_tensors, load_weights
from nbkit.training.schedules import SCHEDULES

_FAST: Mapping[str, Any] = {
    "gradient_weight": 1.0, "perceptual_late": True, "flips": True, "learning_rate": 2e-3, "weight_decay": 0.01,
    "schedule": "cosine", "averaged": 0.99,
}
"""How small profiles learn, in place of what is published or usual."""
_REMEMBERED = 256
"""Scans whose latents are kept: a person is asked about again and again, with one more scan or another estimator."""


@dataclass(frozen=True)
class Config(Settings):
    """Settings; defaults as published where stated.

    Attributes
    ----------
    contrast : str
    widths, res_blocks, groups : tuple of int, int, int
        Not stated; those of Pinaya 2022 and BrLP. Each level after the first halves the grid: a latent cell of the
        published-like 8 voxels of 1.5 mm is as wide as the 4 voxels of 3 mm of the laptop profile.
    stem : int
        1 as in those; 2 in small profiles: cubes of 2³ voxels as channels save the first level, the dearest.
    latent_channels : int
        4 as published.
    perceptual_weight, adversarial_weight, kl_weight : float
        β1, β2, β3 of Eq. 1. Absolute differences are averaged over voxels, the adversarial term over patches, the
        divergence is summed over latents; all are averaged over the subjects of a batch.
    gradient_weight : float
        Of absolute differences of slopes; not in Eq. 1.
    perceptual_late : bool
        Eq. 1: no. Small profiles learn values first: the perceptual term joins with the adversarial one.
    critic_loss : {"cross_entropy", "least_squares"}
        Cross-entropy over patches, as in Isola et al. 2016, whom the paper cites; least squares is that of Pinaya 2022.
    adversarial_from : int
        Epochs before the adversarial term joins.
    epochs : int
        230 as published.
    scans_per_epoch : int or None
        None: every scan once. Smaller profiles draw so many.
    batch : int
        Not stated; BrLP's 2.
    flips : bool
        Whether images are turned left to right at random; not stated.
    learning_rate, weight_decay : float
        Of AdamW for both networks; not stated, BrLP's 1e-4 without decay. Small profiles take few steps, hence their
        larger rate.
    schedule, warm_up : str, int
        Not stated. Small profiles let the rate rise, then fall to zero, or their last steps would only jitter.
    averaged : float or None
        Share kept of the moving average of the weights, which then forecasts; not stated.
    watched : int
        Training people whose scans the autoencoder does not learn from: its error on their last ones is noted on the
        way (``history["validation"]``), and says whether it was trained long enough.
    critic_widths : tuple of int
        Feature maps of the patch discriminator.
    perceptual : str
        "auto", "random" or a file of LPIPS weights (:func:`nbkit.losses.perceptual.find_features`).
    slices : int
        Slices along each axis that the perceptual term compares in one step, drawn anew each time.
    estimator : {"ols", "bayes", "population"}
        How a slope comes from a history: least squares as published, the posterior, or the population's alone.
    anchored : bool
        Published: no. Whether what the autoencoder cannot encode of the last scan is added to the decoded forecast.
    factors : int
        Most patterns by which slopes, and noise, of different latents are taken to go together in random draws.
    margin : float
        Years beyond the ages of the training scans up to which forecasts are made.
    half : bool or None
        bfloat16 autocast in training; None: where this machine is faster with it.
    """

    contrast: str = "T1w"
    widths: tuple[int, ...] = (64, 128, 128, 128)
    res_blocks: int = 2
    groups: int = 32
    stem: int = 1
    latent_channels: int = 4
    perceptual_weight: float = 1.0
    adversarial_weight: float = 1e-3
    kl_weight: float = 1e-6
    gradient_weight: float = 0.0
    perceptual_late: bool = False
    critic_loss: str = "cross_entropy"
    adversarial_from: int = 100
    epochs: int = 230
    scans_per_epoch: int | None = None
    batch: int = 2
    flips: bool = False
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "constant"
    warm_up: int = 0
    averaged: float | None = None
    watched: int = 0
    critic_widths: tuple[int, ...] = (64, 128, 256)
    perceptual: str = "auto"
    slices: int = 16
    estimator: str = "ols"
    anchored: bool = False
    factors: int = 16
    margin: float = 10.0
    half: bool | None = None
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "widths": (8,), "stem": 2, "res_blocks": 1, "groups": 4, "epochs": 4, "adversarial_from": 3,
            "scans_per_epoch": 8, "critic_widths": (4, 8), "slices": 2, "half": False, **_FAST, "averaged": None,
        },
        "laptop": {
            "widths": (16, 64), "stem": 2, "res_blocks": 1, "groups": 8, "epochs": 50, "adversarial_from": 40,
            "scans_per_epoch": 16, "critic_widths": (8, 16, 32), "slices": 6, **_FAST, "warm_up": 3,
        },
        "overnight": {"epochs": 400, "adversarial_from": 320, "warm_up": 10, "watched": 6},
    }

    def __post_init__(self) -> None:
        known(self.estimator, ESTIMATORS, "Config: estimator")
        known(self.schedule, SCHEDULES, "Config: schedule")
        known(self.critic_loss, CRITICS, "Config: critic_loss")


class MRExtrap(Saved):
    """A :class:`~nbkit.core.protocols.TrajectoryModel` that continues straight lines through latent space."""

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.space: LatentSpace | None = None
        self.prior: SlopePrior | None = None
        self.ages = (float("nan"), float("nan"))
        self.features = ""
        self.history: dict[str, Any] = {}
        self._latents = Recent(_REMEMBERED)

    def fit(self, cohort: Cohort) -> Self:
        """Train the autoencoder on every scan, then learn the prior over slopes from its latents.

        Raises
        ------
        NbkitError
            If a scan has no age or lies on another grid, or too few subjects were scanned again.
        """
        years = [age_of(scan) for subject in cohort for scan in subject.scans]
        self.ages, self.trained_on = (min(years), max(years)), subject_hash(cohort.ids)
        drawn = torch.randperm(len(cohort), generator=torch_generator(self.config.seed, "watched")).tolist()
        apart = {cohort.ids[i] for i in drawn[: self.config.watched]}
        scans = [scan for subject in cohort if subject.id not in apart for scan in subject.scans]
        self._train(scans, [subject.scans[-1] for subject in cohort if subject.id in apart])
        self._learn_prior(cohort)
        return self

    def _train(self, scans: Sequence[Scan], apart: Sequence[Scan] = ()) -> None:
        c = self.config
        net, first = build_autoencoder(c).to(self.device), scans[0].image(c.contrast)
        self.space = LatentSpace(net, first.shape, first.affine, _peak(scans, c.contrast))
        self._latents = Recent(_REMEMBERED)
        features = find_features(c.perceptual).to(self.device)
        critic = draw_weights(PatchDiscriminator(widths=c.critic_widths), torch_generator(c.seed, "weights", "critic"))
        objective = AutoencoderObjective(
            features, perceptual=c.perceptual_weight, adversarial=c.adversarial_weight, kl=c.kl_weight,
            gradient=c.gradient_weight, late=c.perceptual_late, slices=c.slices, seed=c.seed, critic=c.critic_loss,
        )
        history = train_autoencoder(
            net, critic.to(self.device), objective, lambda epoch: self._batches(scans, epoch), epochs=c.epochs,
            adversarial_from=c.adversarial_from, learning_rate=c.learning_rate, schedule=c.schedule,
            warm_up=c.warm_up, weight_decay=c.weight_decay, averaged=c.averaged,
            device=self.device, half=fast_half(self.device) if c.half is None else c.half,
            validate=partial(self._error, apart) if apart else None,
        )
        self.features, self.history = features.name, history.as_dict()

    def _error(self, scans: Sequence[Scan], net: Autoencoder) -> float:
        """Mean absolute error of reconstructions inside the brain, in units of the largest training value."""
        space, off = replace(self.space, net=net), []
        for scan in scans:
            image = scan.image(self.config.contrast)
            inside = scan.mask("brain").data.bool() if "brain" in scan.masks else image.data > 0
            again = space.decode(space.encode(image), step="reconstruction")
            off.append(float((again.data - image.data)[inside].abs().mean()))
        return float(np.mean(off)) / space.peak

    def _batches(self, scans: Sequence[Scan], epoch: int) -> Iterator[torch.Tensor]:
        c = self.config
        draws = torch_generator(c.seed, "order", epoch)
        order = torch.randperm(len(scans), generator=draws).tolist()
        order = order[: c.scans_per_epoch]
        for start in range(0, len(order), c.batch):
            chosen = [scans[i].image(c.contrast) for i in order[start : start + c.batch]]
            images = torch.stack([self.space.scaled(image) for image in chosen])
            if c.flips:
                turned = torch.rand(len(chosen), generator=draws) < 0.5
                images[turned] = images[turned].flip(2)
            yield images.to(self.device)

    def _learn_prior(self, cohort: Cohort) -> None:
        contrast = self.config.contrast
        latents = [self.space.encode_all([scan.image(contrast) for scan in subject.scans]) for subject in cohort]
        scale = float(torch.cat(latents).std())
        self.space, self._latents = replace(self.space, scale=scale), Recent(_REMEMBERED)
        lines = [fit_line([s.age for s in p.scans], z / scale) for p, z in zip(cohort, latents, strict=True)]
        self.prior = estimate_prior(lines, [p.diagnosis for p in cohort], factors=self.config.factors)

    def _fitted(self) -> LatentSpace:
        require(
            self.space is not None, "MRExtrap", expected="a fitted model", found="an unfitted one",
            remedy="Call fit(cohort) or MRExtrap.load(path) first.",
        )
        return self.space

    def estimating(self, estimator: str, **changes: Any) -> Self:
        """The same trained model with another estimator, or other settings of prediction (``anchored=True``)."""
        twin = type(self)(self.config.changed(estimator=estimator, **changes))
        for name in ("space", "prior", "ages", "features", "trained_on", "learned_from", "history", "_latents"):
            setattr(twin, name, getattr(self, name))
        return twin

    def encode(self, scan: Scan) -> torch.Tensor:
        """Latents (C, x, y, z) of a scan: the posterior mean."""
        space, image = self._fitted(), scan.image(self.config.contrast)
        return self._latents.get(fingerprint(image), lambda: space.encode(image))

    def reconstruct(self, scan: Scan) -> Volume:
        """The scan through the autoencoder and back: what no forecast can be sharper than, unless anchored."""
        return self._fitted().decode(self.encode(scan), step="reconstruction")

    def interpolate(self, first: Scan, second: Scan, alpha: float) -> Volume:
        """Dec(α Enc(x1) + (1 − α) Enc(x2)) (Eq. 2)."""
        z = alpha * self.encode(first) + (1 - alpha) * self.encode(second)
        return self._fitted().decode(z, step=f"interpolation, alpha {alpha:g}")

    def trajectory(self, history: Sequence[Scan], diagnosis: str) -> Trajectory:
        """A person's line given the scans seen so far.

        Parameters
        ----------
        history : sequence of Scan
            Of one person, on the training grid; two ages at least for the estimator "ols".
        diagnosis : str
            One of the training subjects' diagnoses: whose population slope the person is expected to have.
        """
        space, c = self._fitted(), self.config
        require(len(history) > 0, "MRExtrap: history", expected="at least one scan", found="none", remedy="Give one.")
        line = fit_line([age_of(scan) for scan in history], torch.stack([self.encode(scan) for scan in history]))
        last = max(history, key=age_of)
        detail = last.image(c.contrast).data - self.reconstruct(last).data if c.anchored else None
        masks = [scan.mask("brain").data.bool() for scan in history if "brain" in scan.masks]
        inside = torch.stack(masks).any(dim=0) if len(masks) == len(history) else None
        limits = (self.ages[0] - c.margin, self.ages[1] + c.margin)
        name = f"MRExtrap {c.estimator}{', anchored' if c.anchored else ''}"
        return Trajectory(
            space, posterior(line, self.prior, diagnosis, estimator=c.estimator), limits, detail, inside, name
        )

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One image per age (years), given the scans seen so far."""
        trajectory = self.trajectory(history, diagnosis)
        return [trajectory.image(age) for age in ages]

    def predict_with_uncertainty(
        self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str, *, draws: int = 16,
        measure: Callable[[Volume], Mapping[str, float]] = lambda image: {},
    ) -> list[Forecast]:
        """Images with the spread that the posterior of the line leaves them, and what `measure` reads from each drawn.

        `draws` lines are drawn, from a seed that depends on the person and the ages seen alone;
        ``measure(image) -> {name: value}`` gives e.g. a segmenter's volumes in mm³.
        """
        seen = [f"{scan.age:g}" for scan in history]
        generator = torch_generator(self.config.seed, "lines", history[0].subject if history else "", *seen)
        return self.trajectory(history, diagnosis).forecast(ages, draws=draws, generator=generator, measure=measure)

    def _tensors(self) -> dict[str, torch.Tensor]:
        space = self._fitted()
        net = {f"net.{name}": value for name, value in space.net.state_dict().items()}
        return net | self.prior.tensors() | {"latent_scale": torch.tensor([space.scale], dtype=torch.float64)}

    def _constants(self) -> dict[str, Any]:
        return {
            **self.space.constants(), "groups": list(self.prior.slopes), "ages": list(self.ages),
            "features": self.features, "ranks": [len(self.prior.slope_loadings), len(self.prior.noise_loadings)],
        }

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        self.ages, self.features, groups = tuple(constants["ages"]), constants["features"], constants["groups"]
        self.space = LatentSpace.from_constants(build_autoencoder(self.config), constants, where=where)
        check_tensors(tensors, _expected(self.space, constants), where)
        require(
            float(tensors["latent_scale"]) == self.space.scale, f"{where}: latent_scale",
            expected=f"{float(tensors['latent_scale'])!r}, as beside the weights", found=repr(self.space.scale),
            remedy="model.json belongs to other weights: save the model again.",
        )
        load_weights(self.space.net, tensors, where, prefix="net.")
        self.space.net.to(self.device)
        self.prior = SlopePrior.from_tensors(tensors, groups)


def build_autoencoder(config: Config) -> Autoencoder:
    """The autoencoder of a Config, freshly drawn from its seed."""
    net = Autoencoder(
        config.widths, latent_channels=config.latent_channels, res_blocks=config.res_blocks, groups=config.groups,
        stem=config.stem,
    )
    return draw_weights(net, torch_generator(config.seed, "weights", "autoencoder"))


def _peak(scans: Sequence[Scan], contrast: str) -> float:
    """Median over scans, all on one grid, of the 99.5th percentile of intensity where there is any."""
    first, tops = scans[0].image(contrast), []
    for scan in scans:
        image = scan.image(contrast)
        first.check_grid(image, f"{scan.subject}/{scan.session}: {contrast}, against the first scan")
        values = image.numpy()
        tops.append(np.percentile(values[values > 0], 99.5))
    return float(np.median(tops))


def _expected(space: LatentSpace, constants: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors of the shapes that a checkpoint must have."""
    one = torch.empty(space.latent_shape)
    many = [one.expand(rank, *one.shape) for rank in constants["ranks"]]
    groups = constants["groups"]
    prior = SlopePrior(dict.fromkeys(groups, one), dict.fromkeys(groups, one), one, *many)
    net = {f"net.{name}": value for name, value in space.net.state_dict().items()}
    return net | prior.tensors() | {"latent_scale": torch.empty(1)}
