"""Modality propagation: each voxel takes the FLAIR of the most similar patch seen in training.

Ye D.H. et al., "Modality propagation: coherent synthesis of subject-specific scans with data-driven regularization",
MICCAI 2013, as compared with in Wei's thesis, chapter 2 (3×3×3 patches).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from nbkit.core.checks import require
from nbkit.core.config import Settings
from nbkit.core.device import pick_device
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.patches import PatchReader
from nbkit.data.splits import subject_hash
from nbkit.papers.flair.nearest import nearest
from nbkit.training.checkpoint import check_tensors, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Config(Settings):
    """Settings; the thesis states the patch size and nothing else.

    Attributes
    ----------
    inputs, target : contrasts
    radius : int
        Of the patch: 1 is 3×3×3 over all inputs (thesis 2.2.3).
    database : int
        Patches kept of the training subjects, an equal share of each (our choice; the thesis does not say).
    normalise : {"cohort", "subject"}
        z-scores from all training images of a contrast, or from each image by itself; distances depend on them.
    device : str
        Where the search runs; the result is the same everywhere.
    """

    inputs: tuple[str, ...] = ("T1w", "T1SE", "T2w", "PDw", "DIR")
    target: str = "FLAIR"
    radius: int = 1
    database: int = 500_000
    normalise: str = "cohort"
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"database": 2_000}, "laptop": {"database": 6_000},
    }

    def __post_init__(self) -> None:
        require(
            len(self.inputs) > 0 and self.target not in self.inputs, "Config: inputs",
            expected=f"at least one contrast other than the target {self.target!r}", found=self.inputs,
            remedy="List the contrasts to predict from.",
        )


class ModalityPropagation:
    """A :class:`~nbkit.core.protocols.ModalitySynthesizer` that looks patches up.

    The reading taken: the nearest patch by the sum of squared differences of z-scored inputs, sought exactly among
    patches of all training subjects wherever they lie, gives the FLAIR at its own centre. Left out because the thesis
    names neither: Ye's search window around the same place (the scans share no space) and his regularisation.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.reader: PatchReader | None = None
        self.patches = torch.empty(0, len(self.config.inputs) * (2 * self.config.radius + 1) ** 3)
        self.values = torch.empty(0)
        self.trained_on = ""

    def fit(self, cohort: Cohort) -> Self:
        """Collect patches of every scan of `cohort`."""
        c = self.config
        standardiser = Standardiser.fit_cohort(cohort, (*c.inputs, c.target), per=c.normalise)
        self.reader = PatchReader(c.inputs, c.target, standardiser, c.radius)
        parts = zip(*self.reader.training(cohort, count=c.database, seed=c.seed))
        self.patches, self.values = (torch.cat(part) for part in parts)
        self.trained_on = subject_hash(cohort.ids)
        return self

    def synthesize(self, contrasts: Mapping[str, Volume], *, mask: Volume) -> Volume:
        """Predict the target inside `mask`, in the target's own intensity unit; 0 outside."""
        require(
            self.reader is not None, "ModalityPropagation.synthesize", expected="a fitted model",
            found="an unfitted one", remedy="Call fit(cohort) or ModalityPropagation.load(path) first.",
        )
        database = self.patches.to(self.device)
        return self.reader.synthesize(
            contrasts, lambda rows: self.values[nearest(rows.to(self.device), database)[0].cpu()], mask=mask,
            step=f"modality propagation of {self.config.target}",
        )

    def save(self, path: Path) -> None:
        """Write patches, settings and scaling constants into the folder `path`."""
        save_checkpoint(
            path, {"patches": self.patches, "values": self.values}, system="ModalityPropagation",
            config=self.config.as_dict(), constants=self.reader.standardiser.to_dict(),
            training_subjects=self.trained_on,
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; tensors that do not fit the Config are refused by name."""
        tensors, record = load_checkpoint(path, system="ModalityPropagation")
        model = cls(Config.from_dict(record["config"]))
        count = len(tensors.get("patches", ()))
        expected = {"patches": model.patches.new_empty(count, model.patches.shape[1]), "values": torch.empty(count)}
        check_tensors(tensors, expected, str(path))
        c = model.config
        model.reader = PatchReader(c.inputs, c.target, Standardiser.from_dict(record["constants"]), c.radius)
        model.patches, model.values = tensors["patches"], tensors["values"]
        model.trained_on = record["training_subjects"]
        return model
