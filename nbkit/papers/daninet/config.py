"""Settings of DaniNet: those of the paper, and what small profiles do otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from nbkit.core.checks import known, require
from nbkit.core.config import Settings
from nbkit.data.slices import DIAGNOSES
from nbkit.papers.daninet.caae import GROWTHS
from nbkit.training.schedules import SCHEDULES

VARIANTS = ("[9]", "C", "T", "C-T", "P", "P-C", "P-T", "P-C-T")  # columns of Table 1
CODES = max(DIAGNOSES.values()) + 1
_OURS = {  # of small profiles
    "intensities": "peak", "diagnosis_form": "one_hot", "constrained": 0.1, "growth": "resized",
}
_CAAE = {"latent": 50, "deformation": "own"}  # of [9] itself, where it is not DaniNet without its parts


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
    growth : {"transposed", "resized"}
        How the generator doubles its maps: as CAAE, or, in small profiles, whose few steps leave the grid of transposed
        convolutions in, by pixels repeated and a convolution (:class:`~nbkit.papers.daninet.caae.Generator`).
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
    growth: str = "transposed"
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
        known(self.growth, GROWTHS, "Config: growth")
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
