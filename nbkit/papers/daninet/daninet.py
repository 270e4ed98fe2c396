"""DaniNet: slices at other ages by a conditional adversarial autoencoder that is told how brains degenerate.

Ravi, Alexander and Oxtoby, "Degenerative Adversarial NeuroImage Nets: Generating Images that Mimic Disease
Progression", MICCAI 2019. Three parts are added to the autoencoder of face ageing ([9], CAAE): P, constraints that
nothing brightens with age and that regions darken at the rate regressors expect; C, the clinical diagnosis as a label;
T, tuning to the one slice of the person that is asked about.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from nbkit.core.checks import check_keys, known, require
from nbkit.core.config import Settings
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
from nbkit.papers.daninet.constraints import AgeingBatch, AgeingObjective, mixed_age
from nbkit.papers.daninet.personalise import Tuning, at_every_age
from nbkit.papers.daninet.regional_rates import AgeBins, RegionalRates
from nbkit.papers.daninet.regional_regression import fit_regional_rates, region_masks
from nbkit.training.adversarial import train_adversarial
from nbkit.training.schedules import SCHEDULES
from nbkit.training.checkpoint import Constants, Saved, check_tensors, load_weights

VARIANTS = ("[9]", "C", "T", "C-T", "P", "P-C", "P-T", "P-C-T")  # columns of Table 1
CODES = max(DIAGNOSES.values()) + 1
_OURS = {"intensities": "peak", "diagnosis_form": "one_hot", "constrained": 0.1}  # of small profiles
_CAAE = {"latent": 50, "deformation": "own"}  # of [9] itself, where it is not DaniNet without its parts
_REMEMBERED = 256
"""People whose images at all ages are kept: every further age of theirs costs nothing."""


@dataclass(frozen=True)
class Config(Settings):
    """Settings; defaults as published where stated. Images are slices, see :func:`nbkit.data.slices.sliced`.

    Attributes
    ----------
    progression, clinical, transfer : bool
        P, C and T of Table 1; all three: DaniNet, none: [9]. Without C the network is not told the diagnosis; the
        regressors of P always are.
    contrast : str
    intensities : {"z-scores", "peak"}
        Of the scan's own brain, as published, from −3 to 3, since a network that ends in tanh gives no more; or, in
        small profiles, from 0 to the peak of all, since the scans' unit has white matter at 1 already
        (:class:`~nbkit.papers.daninet.aged_slices.SliceFrame`).
    size, widths, latent : int, tuple of int, int
        Pixels along an edge, 4 · 2 to the number of widths; feature maps as in CAAE; length of the code.
    ages : int
        Bins, from the youngest to the oldest training scan.
    diagnosis_form : {"number", "one_hot"}
        How C tells it: as a number from 0 to 3, as published, or as −1 and one +1, as CAAE tells ages.
    deformation : {"mixture", "own"}
        What is compared with the input: the two nearest bins mixed (Eq. 5), or the own bin's image, as in CAAE.
    critic_widths, critic_features : tuple of int, int
        Of the critic of slices, as in CAAE.
    weight_sd : float or None
        Of the first weights; None: by fan in, which narrow networks need (:func:`nbkit.nets.weights.draw_weights`).
    regions, grow : int
        Regions of P, and by how many pixels (not stated) each grows into its neighbours.
    svr_monotone, svr_reach : bool, {"direct", "chained"}
        Published: regressors learn from pairs of scans that darken only, which biases them, and predict ages far apart
        at once (:func:`nbkit.papers.daninet.regional_regression.fit_regional_rates`).
    deformation_weight, latent_weight, image_weight, voxel_weight, region_weight : float
        Of Eq. 6; terms are means over pixels, pairs of ages and regions. With the published weights the constraints'
        slope is a thousandth of the deformation's; small profiles weigh them a hundred times more.
    constrained : float
        Share of a batch that is generated at all ages for the constraints. A part, as in small profiles, estimates the
        batch's mean without bias, in a fifth of the time.
    learning_rate, beta1, schedule
        Of Adam; small profiles take few steps, at a larger rate that falls to zero.
    batch, epochs, batches_per_epoch : int, int, int or None
        None: every slice once an epoch. Small profiles count updates.
    transfer_steps, transfer_learning_rate
        Of T, for encoder and generator, with the deformation and, under P, both constraints; critics take no part.
        Published: 200 steps; what is tuned, at what rate and by which losses is not stated.
    subjects_at_once : int
        People tuned together; more take more memory and change nothing else.
    margin : float
        Years beyond the training ages up to which is predicted; there, the last bin stands for all ages.
    half : bool or None
        bfloat16 autocast in training; None: on a GPU that is faster with it.
    """

    progression: bool = True
    clinical: bool = True
    transfer: bool = True
    contrast: str = "T1w"
    intensities: str = "z-scores"
    size: int = 128
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    latent: int = 200
    ages: int = 10
    diagnosis_form: str = "number"
    deformation: str = "mixture"
    critic_widths: tuple[int, ...] = (16, 32, 64, 128)
    critic_features: int = 1024
    weight_sd: float | None = 0.02
    regions: int = 128
    grow: int = 2
    svr_monotone: bool = True
    svr_reach: str = "direct"
    deformation_weight: float = 0.2
    latent_weight: float = 3e-4
    image_weight: float = 3e-4
    voxel_weight: float = 3e-4
    region_weight: float = 3e-4
    constrained: float = 1.0
    learning_rate: float = 2e-4
    beta1: float = 0.5
    schedule: str = "constant"
    batch: int = 100
    epochs: int = 3_000
    batches_per_epoch: int | None = None
    transfer_steps: int = 200
    transfer_learning_rate: float = 2e-4
    subjects_at_once: int = 8
    margin: float = 5.0
    half: bool | None = None
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            **_OURS, "size": 32, "widths": (8, 8, 16), "latent": 16, "ages": 5, "critic_widths": (4, 8),
            "critic_features": 16, "weight_sd": None, "regions": 8, "grow": 1, "voxel_weight": 0.03,
            "region_weight": 0.03, "batch": 8, "epochs": 12, "batches_per_epoch": 1, "learning_rate": 2e-3,
            "schedule": "linear", "transfer_steps": 6, "transfer_learning_rate": 1e-3,
        },
        "laptop": {
            **_OURS, "size": 64, "widths": (16, 24, 32, 64), "latent": 64, "critic_widths": (8, 16, 32, 64),
            "critic_features": 64, "weight_sd": None, "regions": 64, "grow": 1, "voxel_weight": 0.03,
            "region_weight": 0.03, "batch": 16, "epochs": 400, "batches_per_epoch": 1, "learning_rate": 1e-3,
            "schedule": "linear", "transfer_steps": 80, "transfer_learning_rate": 1e-3,
        },
        "overnight": {
            "size": 128, "widths": (16, 24, 32, 64, 64), "critic_widths": (8, 16, 32, 64, 64), "epochs": 2_000,
        },
    }

    def __post_init__(self) -> None:
        known(self.schedule, SCHEDULES, "Config: schedule")
        known(self.deformation, ("mixture", "own"), "Config: deformation")
        require(
            0 < self.constrained <= 1, "Config: constrained", expected="a share above 0, at most 1",
            found=self.constrained, remedy="Generate a part of each batch at all ages.",
        )

    @classmethod
    def variant(cls, name: str, profile: str = "paper", **changes: Any) -> Self:
        """Settings of a column of Table 1: ``Config.variant("P-C-T", "laptop")``; unknown names are refused.

        "[9]" is at the paper's size what its own authors built; smaller, it is DaniNet without P, C and T.
        """
        parts = known(name, VARIANTS, "Config.variant: name").split("-")
        switches = {"progression": "P" in parts, "clinical": "C" in parts, "transfer": "T" in parts}
        own = _CAAE if name == "[9]" and profile == "paper" else {}
        return cls.for_profile(profile, **switches | own | changes)

    @property
    def name(self) -> str:
        """Its column in Table 1."""
        parts = zip("PCT", (self.progression, self.clinical, self.transfer), strict=True)
        return "-".join(part for part, on in parts if on) or "[9]"


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
        net = ConditionalAutoencoder(c.size, c.widths, latent=c.latent, ages=c.ages, told=self._told())
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
