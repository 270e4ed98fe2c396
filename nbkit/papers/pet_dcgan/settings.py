"""Settings of the PET DCGANs: the published ones, and what small profiles change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from nbkit.core.checks import known, require
from nbkit.core.config import Settings
from nbkit.training.schedules import SCHEDULES

KINDS = ("separate", "conditional")
AVERAGED = 0.99


@dataclass(frozen=True)
class Config(Settings):
    """Settings; defaults as published where stated.

    Attributes
    ----------
    kind : {"separate", "conditional"}
        Published: a network for each stage. "conditional": one for all, whose normalisation knows the stage and whose
        critic projects it (Miyato and Koyama, ICLR 2018).
    dims : {2, 3}
        Slices as published, or volumes.
    size, channels : int
        Pixels along an edge; 3 channels hold the same grey image thrice, as published.
    latent, kernel : int
    widths, critic_widths : tuple of int
        Not stated; those of DCGAN (Radford et al. 2016) with one layer more for 128 pixels. Assumption.
    views_told : bool
        Published: no network is told anything. Ours for small profiles: the view of a slice is told as a class is, by
        normalisation and projection.
    norm_first : bool
        Batch normalisation after the critic's first convolution: the text says every layer, the guidelines that it
        follows (DCGAN) all but the first.
    weight_sd : float
    learning_rate, beta1, beta2, schedule
        Of Adam, for both sides. Small profiles take few steps, at a larger rate that falls to zero.
    averaged : float
        Decay of a moving average of the generator's weights, which is what draws then (Yazici et al., ICLR 2019); 0:
        the last weights draw, as published.
    batch, epochs, batches_per_epoch : int, int, int or None
        None: as many batches as the largest stage fills. All stages take the same number of steps. Small profiles
        count steps.
    snapshots, snapshot_images : int
        Moments of training that are kept as images (Fig. 4), denser at the start; images of each.
    grouped : bool or None
        Separate networks in one pass of grouped convolutions; otherwise each by itself, on a CPU side by side with a
        thread for each. None: grouped on a GPU; on a CPU that saves nothing, because one convolution keeps it busy.
    """

    kind: str = "separate"
    dims: int = 2
    size: int = 128
    channels: int = 3
    latent: int = 100
    kernel: int = 5
    widths: tuple[int, ...] = (1024, 512, 256, 128, 64)
    critic_widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    views_told: bool = False
    norm_first: bool = False
    weight_sd: float = 0.02
    learning_rate: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    schedule: str = "constant"
    averaged: float = 0.0
    batch: int = 64
    epochs: int = 500
    batches_per_epoch: int | None = None
    snapshots: int = 6
    snapshot_images: int = 8
    grouped: bool | None = None
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "size": 32, "channels": 1, "widths": (16, 8, 8), "critic_widths": (8, 8, 16), "batch": 8, "epochs": 24,
            "batches_per_epoch": 1, "learning_rate": 1e-3, "schedule": "linear", "views_told": True, "averaged": 0.5,
            "snapshot_images": 4,
        },
        "laptop": {
            "size": 64, "channels": 1, "widths": (128, 64, 32, 16), "critic_widths": (16, 32, 64, 128), "batch": 16,
            "epochs": 2_000, "batches_per_epoch": 1, "learning_rate": 4e-4, "schedule": "linear",
            "views_told": True, "averaged": 0.99,
        },
        "overnight": {
            "size": 128, "widths": (256, 128, 64, 32, 16), "critic_widths": (16, 32, 64, 128, 256), "epochs": 8_000,
            "averaged": 0.999,
        },
    }
    volumes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"size": 16, "widths": (16, 8), "critic_widths": (8, 16)},
        "laptop": {
            "size": 32, "widths": (32, 16, 8), "critic_widths": (8, 16, 32), "batch": 12, "epochs": 1_000,
            "learning_rate": 1e-3,
        },
        "overnight": {
            "size": 64, "widths": (128, 64, 32, 16), "critic_widths": (16, 32, 64, 128), "batch": 12, "epochs": 4_000,
            "learning_rate": 4e-4,
        },
        "paper": {
            "size": 64, "widths": (512, 256, 128, 64), "critic_widths": (64, 128, 256, 512), "learning_rate": 2e-4,
        },
    }
    small: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"kind": "conditional"},
        "laptop": {"kind": "conditional", "size": 32, "widths": (64, 32, 16), "critic_widths": (16, 32, 64)},
        "overnight": {
            "kind": "conditional", "size": 64, "widths": (128, 64, 32, 16), "critic_widths": (16, 32, 64, 128),
        },
        "paper": {},
    }

    def __post_init__(self) -> None:
        known(self.kind, KINDS, "Config: kind")
        known(self.schedule, SCHEDULES, "Config: schedule")
        for name, good, expected in (
            ("dims", self.dims in (2, 3), "2 (slices) or 3 (volumes)"),
            ("batch", self.batch >= 2, "at least 2, because layers are normalised over a batch"),
            ("averaged", 0 <= self.averaged < 1, "0 (none) or more, below 1"),
            ("snapshots", self.snapshots >= 2, "at least 2: before and after training"),
        ):
            require(good, f"Config: {name}", expected=expected, found=getattr(self, name), remedy="Change it.")

    @classmethod
    def volumetric(cls, profile: str, **changes: Any) -> Self:
        """Settings of the same networks for volumes, by kernels of 3³; all their sizes are assumptions."""
        known(profile, cls.volumes, "Config.volumetric: profile")
        return cls.for_profile(profile, **{"dims": 3, "channels": 1, "kernel": 3, **cls.volumes[profile], **changes})

    @property
    def kinds(self) -> dict[str, Self]:
        """Generators of slices beside each other: as published but for sizes, told and averaged, and one for all."""
        told = self.changed(kind="separate", views_told=True, averaged=self.averaged or AVERAGED)
        return {
            "separate": told.changed(views_told=False, averaged=0.0), "averaged": told,
            "conditional": told.changed(kind="conditional"),
        }

    @property
    def other(self) -> Self:
        """One for all stages where this is one for each, and one for each, told nothing, where this is one for all."""
        return self.kinds["conditional" if self.kind == "separate" else "separate"]

    @property
    def judged(self) -> str:
        """Which of :attr:`kinds` this profile's numbers are of."""
        return "averaged" if self.views_told else "separate"

    @classmethod
    def for_study(cls, profile: str, **changes: Any) -> Self:
        """Settings for the study of augmentation: as published at paper size; small profiles train many, smaller."""
        known(profile, cls.small, "Config.for_study: profile")
        return cls.for_profile(profile, **{**cls.small[profile], **changes})
