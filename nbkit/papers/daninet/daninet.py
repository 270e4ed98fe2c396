"""DaniNet: slices at other ages by a conditional adversarial autoencoder that is told how brains degenerate.

Ravi, Alexander and Oxtoby, "Degenerative Adversarial NeuroImage Nets: Generating Images that Mimic Disease
Progression", MICCAI 2019. Three parts are added to the autoencoder of face ageing ([9], CAAE): P, constraints that
nothing brightens with age and that regions darken at the rate regressors expect; C, the clinical diagnosis as a label;
T, tuning to the one slice of the person that is asked about.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from nbkit.core.checks import check_keys, require
from nbkit.core.device import fast_half, pick_device
from nbkit.core.protocols import Cohort, Scan, age_of
from nbkit.core.recent import Recent, fingerprint
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.data.slices import DIAGNOSES, diagnosis_code
from nbkit.data.splits import subject_hash
from nbkit.nets.weights import draw_weights
from nbkit.papers.daninet.aged_slices import AgedSlices, SliceFrame
from nbkit.papers.daninet.caae import ConditionalAutoencoder, LatentCritic, SliceCritic, diagnosis_codes
from nbkit.papers.daninet.config import CODES, Config
from nbkit.papers.daninet.constraints import AgeingBatch, AgeingObjective, mixed_age
from nbkit.papers.daninet.personalise import Tuning, at_every_age
from nbkit.papers.daninet.regional_rates import AgeBins, RegionalRates
from nbkit.papers.daninet.regional_regression import fit_regional_rates, region_masks
from nbkit.training.adversarial import train_adversarial
from nbkit.training.checkpoint import Constants, Saved, check_tensors, load_weights

_REMEMBERED = 256
"""People whose images at all ages are kept: every further age of theirs costs nothing."""


class DaniNet(Saved):
    """A :class:`~nbkit.core.protocols.TrajectoryModel` of slices."""

    settings = Config
    frames: ClassVar[type[SliceFrame]] = SliceFrame
    objective: ClassVar[type[AgeingObjective]] = AgeingObjective
    remembered: ClassVar[int] = _REMEMBERED

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.net: ConditionalAutoencoder | None = None
        self.frame: SliceFrame | None = None
        self.bins: AgeBins | None = None
        self.rates: RegionalRates | None = None
        self.codes: tuple[int, ...] = ()
        self.history: dict[str, Any] = {}
        self._sequences = Recent(self.remembered)

    def fit(self, cohort: Cohort) -> Self:
        """Learn the scale of intensities and the age bins, under P the regional rates, then the networks.

        Raises
        ------
        NbkitError
            If a scan has no age, an unknown diagnosis, or lies on another grid; if all were scanned at one age; under
            P, if nobody was scanned twice.
        """
        c, scans = self.config, [scan for subject in cohort for scan in subject.scans]
        self.frame = self._frame(scans)
        self.bins = AgeBins(min(map(age_of, scans)), max(map(age_of, scans)), c.ages)
        told = [diagnosis_code(scan.diagnosis or person.diagnosis) for person in cohort for scan in person.scans]
        self.codes, self.trained_on = tuple(sorted(set(told))), subject_hash(cohort.ids)
        slices = self._slices(scans, told)
        self._sequences = Recent(self.remembered)
        self.rates = self._learn_rates(cohort, slices) if c.progression else None
        self._train(slices)
        return self

    def _frame(self, scans: Sequence[Scan]) -> SliceFrame:
        c = self.config
        return self.frames.of(scans, contrast=c.contrast, size=c.size, intensities=c.intensities)

    def _slices(self, scans: Sequence[Scan], codes: Sequence[int]) -> AgedSlices:
        slices = AgedSlices.of(scans, codes, frame=self.frame, bins=self.bins)
        return slices if self.config.deformation == "mixture" else slices.in_own_bins()

    def _learn_rates(self, cohort: Cohort, slices: AgedSlices) -> RegionalRates:
        c, images = self.config, ((slices.image + 1) / 2).numpy()
        brain = slices.inside.float().mean(dim=0).numpy() >= 0.5
        by_person = np.split(images, np.cumsum([len(person.scans) for person in cohort])[:-1])
        sequences = [
            (list(map(age_of, p.scans)), theirs, diagnosis_code(p.diagnosis))
            for p, theirs in zip(cohort, by_person, strict=True)
        ]
        return fit_regional_rates(
            sequences, masks=region_masks(images, brain, count=c.regions, grow=c.grow), bins=self.bins,
            monotone=c.svr_monotone, diagnoses=CODES, reach=c.svr_reach,
        )

    def _train(self, slices: AgedSlices) -> None:
        c = self.config
        half = self.device.type != "cpu" and fast_half(self.device) if c.half is None else c.half
        self.net = self._build()
        judge = SliceCritic(c.size, c.critic_widths, ages=c.ages, told=self._told(), features=c.critic_features)
        critics = nn.ModuleDict({"latent": LatentCritic(c.latent), "image": judge})
        draw_weights(critics, torch_generator(c.seed, "weights", "critics"), sd=c.weight_sd).to(self.device)
        history = train_adversarial(
            self.net, critics, self.objective_of(), batches=lambda epoch: self._batches(slices, epoch), epochs=c.epochs,
            learning_rate=c.learning_rate, betas=(c.beta1, 0.999), schedule=c.schedule, device=self.device,
            half=half, label=f"{type(self).__name__} {c.name}",
        )
        self.history = history.as_dict()

    def _build(self) -> ConditionalAutoencoder:
        c = self.config
        net = ConditionalAutoencoder(
            c.size, c.widths, latent=c.latent, ages=c.ages, told=self._told(), growth=c.growth
        )
        return draw_weights(net, torch_generator(c.seed, "weights", "autoencoder"), sd=c.weight_sd).to(self.device)

    def _told(self) -> torch.Tensor | None:
        """What the networks are told of each diagnosis."""
        return diagnosis_codes(CODES, self.config.diagnosis_form) if self.config.clinical else None

    def objective_of(self) -> AgeingObjective:
        """Eq. 6 with the model's own weights, regions and rates."""
        tables = {} if self.rates is None else {
            "masks": self.rates.masks.to(self.device), "ratios": self.rates.ratios.to(self.device),
        }
        return self.objective(self.config.ages, self._weights(), **tables)

    def _weights(self) -> dict[str, float]:
        names = ("deformation", "latent", "image", "voxel", "region")
        return {name: getattr(self.config, f"{name}_weight") for name in names}

    def _full(self, count: int) -> int:
        """How many of so many slices are generated at all ages."""
        return max(1, round(self.config.constrained * count)) if self.config.progression else 0

    def _batches(self, slices: AgedSlices, epoch: int) -> Iterator[AgeingBatch]:
        """Batches whose every draw depends on the seed and the epoch alone."""
        c, rng = self.config, torch_generator(self.config.seed, "batches", epoch)
        for drawn in slices.shuffled(c.batch, batches=c.batches_per_epoch, generator=rng):
            prior = 2 * torch.rand(len(drawn), c.latent, generator=rng) - 1
            yield AgeingBatch(drawn.to(self.device), prior.to(self.device), self._full(len(drawn)))

    def transferring(self, transfer: bool, **changes: Any) -> Self:
        """The same trained model with T or without, or with other settings of it, e.g. ``transfer_steps=50``."""
        names = ("transfer_steps", "transfer_learning_rate", "subjects_at_once", "margin")
        check_keys(changes, names, "DaniNet.transferring")
        twin = copy.copy(self)
        twin.config = self.config.changed(transfer=transfer, **changes)
        return twin

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One slice per age (years), given the last of the scans seen so far; earlier ones are not looked at.

        Refused by name: no scan, one on another grid or without an age, an age out of reach (also of the scan), a
        diagnosis that is unknown or, under C or P, that nobody had in training.
        """
        require(len(history) > 0, "DaniNet: history", expected="at least one scan", found="none", remedy="Give one.")
        scan, asked = max(history, key=age_of), [self._checked(age) for age in ages]
        images = self.personalised([scan], [diagnosis])[0]
        return [self._mixed(images, scan, age) for age in asked]

    def personalised(self, scans: Sequence[Scan], diagnoses: Sequence[str]) -> torch.Tensor:
        """Images of every scan's person at the centre of each age bin (``bins.centres``), after T where it is on.

        All that a prediction needs, and all that is remembered: the tuned weights are not. People are tuned together,
        which is faster than one after the other.

        Returns
        -------
        torch.Tensor
            (N, A, S, S) in the scans' unit, not masked.
        """
        keys = {i: self._key(*asked) for i, asked in enumerate(zip(scans, diagnoses, strict=True))}
        found = self._sequences.get_all(keys, lambda rows: self._generate(
            self._slices([scans[i] for i in rows], [self._code(diagnoses[i]) for i in rows])
        ))
        return torch.stack([self.frame.restored(found[i], scans[i]) for i in keys])

    def _key(self, scan: Scan, diagnosis: str) -> tuple:
        """Everything that the images of a person depend on."""
        seen = [scan.image(self.config.contrast), *([scan.mask("brain")] if "brain" in scan.masks else [])]
        age = self._checked(age_of(scan))
        return self.config.digest(), age, self._code(diagnosis), *map(fingerprint, seen)

    def _generate(self, slices: AgedSlices) -> torch.Tensor:
        """Images (N, A, S, S) at all ages, from −1 to 1."""
        c, made = self.config, []
        tuning = Tuning(
            loss=self.objective_of().personal, steps=c.transfer_steps, learning_rate=c.transfer_learning_rate,
            betas=(c.beta1, 0.999),
        )
        for rows in torch.arange(len(slices)).split(c.subjects_at_once):
            people = slices.rows(rows).to(self.device).named()
            made.append(at_every_age(self.net, people, ages=c.ages, tuning=tuning if c.transfer else None))
        return torch.cat(made).cpu()

    def _mixed(self, images: torch.Tensor, scan: Scan, age: float) -> Volume:
        image = self._at(images, age)
        inside = self.frame.inside(scan) if "brain" in scan.masks else 1
        step = f"DaniNet {self.config.name} at {age:g} years from a slice at {age_of(scan):g}"
        return self.frame.volume(image * inside, step)

    def _at(self, images: torch.Tensor, age: float) -> torch.Tensor:
        """Of images (A, S, S) in all bins, that of an age (S, S)."""
        lower, alpha = self.bins.mixture(age) if self.config.deformation == "mixture" else (self.bins.index(age), 1.0)
        return mixed_age(images[None], torch.tensor([lower]), torch.tensor([alpha]))[0]

    def _tensors(self) -> dict[str, torch.Tensor]:
        named = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        return named if self.rates is None else named | self.rates.tensors()

    def _constants(self) -> dict[str, Any]:
        return {"frame": self.frame.record(), "bins": asdict(self.bins), "codes": list(self.codes)}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        c = self.config
        frame, bins = (Constants(constants[name], f"{where}: {name}") for name in ("frame", "bins"))
        self.frame = self.frames.restore(frame)
        self.bins, self.codes = AgeBins(bins["low"], bins["high"], bins["count"]), tuple(constants["codes"])
        self.net = self._build()
        if c.progression:
            self.rates = RegionalRates(*map(torch.empty, self._rate_shapes()), self.bins)
        expected = self._tensors()
        check_tensors(tensors, expected, where)
        load_weights(self.net, tensors, where, prefix="net.")
        if c.progression:
            found, expected = tensors["rates.bins"].tolist(), expected["rates.bins"].tolist()
            require(
                found == expected, f"{where}: rates.bins", expected=f"{expected}, as in model.json", found=found,
                remedy="model.json belongs to other weights: save the model again.",
            )
            self.rates = RegionalRates(tensors["rates.masks"], tensors["rates.ratios"], self.bins)

    def _rate_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        c = self.config
        return (c.regions, c.size, c.size), (CODES, c.ages, c.ages, c.regions)

    def _code(self, diagnosis: str) -> int:
        code, seen = diagnosis_code(diagnosis), [name for name, value in DIAGNOSES.items() if value in self.codes]
        require(
            code in self.codes or not (self.config.clinical or self.config.progression), "DaniNet: diagnosis",
            expected=f"one of {', '.join(seen)}", found=repr(diagnosis), remedy="Nobody in training had it.",
        )
        return code

    def _checked(self, age: float) -> float:
        require(
            self.bins is not None, "DaniNet", expected="a fitted model", found="an unfitted one",
            remedy="Call fit(cohort) or DaniNet.load(path) first.",
        )
        low, high = self.bins.low - self.config.margin, self.bins.high + self.config.margin
        require(
            low <= age <= high, "DaniNet: ages", expected=f"ages from {low:g} to {high:g} years", found=f"{age:g}",
            remedy="Slices are not predicted further from the training ages than Config.margin.",
        )
        return float(age)
