"""Controls without a model of anatomy: ordinary least squares on single voxels, and the training mean.

Not in the thesis. A method of chapter 2 says something only as far as it beats these: T2-weighted scaled to FLAIR
(inputs ``("T2w",)``), a weighted sum of all inputs, and one number for the whole brain (inputs ``()``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from nbkit.core.checks import require
from nbkit.core.config import Settings
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.patches import PatchReader
from nbkit.data.splits import subject_hash
from nbkit.training.checkpoint import check_tensors, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Config(Settings):
    """Settings; the same in every profile, the fit takes seconds.

    Attributes
    ----------
    inputs, target : contrasts
        No inputs give the training mean of the target in the brain.
    normalise : {"cohort", "subject"}
        z-scores from all training images of a contrast, or from each image by itself.
    """

    inputs: tuple[str, ...] = ("T1w", "T1SE", "T2w", "PDw", "DIR")
    target: str = "FLAIR"
    normalise: str = "cohort"

    def __post_init__(self) -> None:
        require(
            self.target not in self.inputs, "Config: inputs", found=self.inputs,
            expected=f"contrasts other than the target {self.target!r}", remedy="Leave the target out of the inputs.",
        )


class LinearSynthesizer:
    """A :class:`~nbkit.core.protocols.ModalitySynthesizer`: target = weights · inputs + intercept, voxel by voxel."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.reader: PatchReader | None = None
        self.weights = torch.zeros(len(self.config.inputs) + 1, dtype=torch.float64)
        self.trained_on = ""

    def fit(self, cohort: Cohort) -> Self:
        """Least squares over all brain voxels of all scans; among equal inputs the shortest weights."""
        c = self.config
        standardiser = Standardiser.fit_cohort(cohort, (*c.inputs, c.target), per=c.normalise)
        self.reader = PatchReader(c.inputs, c.target, standardiser, radius=0)
        products = sum(_products(rows, values) for rows, values in self.reader.training(cohort))
        self.weights = torch.linalg.pinv(products[:-1, :-1], hermitian=True) @ products[:-1, -1]
        self.trained_on = subject_hash(cohort.ids)
        return self

    def synthesize(self, contrasts: Mapping[str, Volume], *, mask: Volume) -> Volume:
        """Predict the target inside `mask`, in the target's own intensity unit; 0 outside."""
        require(
            self.reader is not None, "LinearSynthesizer.synthesize", expected="a fitted model", found="an unfitted one",
            remedy="Call fit(cohort) or LinearSynthesizer.load(path) first.",
        )
        step = f"linear synthesis of {self.config.target} from {', '.join(self.config.inputs) or 'nothing'}"
        return self.reader.synthesize(
            contrasts, lambda rows: rows.double() @ self.weights[:-1] + self.weights[-1], mask=mask, step=step
        )

    def save(self, path: Path) -> None:
        """Write weights, settings and scaling constants into the folder `path`."""
        save_checkpoint(
            path, {"weights": self.weights}, system="LinearSynthesizer", config=self.config.as_dict(),
            constants=self.reader.standardiser.to_dict(), training_subjects=self.trained_on,
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; weights that do not fit the Config are refused by name."""
        tensors, record = load_checkpoint(path, system="LinearSynthesizer")
        model = cls(Config.from_dict(record["config"]))
        check_tensors(tensors, {"weights": model.weights}, str(path))
        c = model.config
        model.reader = PatchReader(c.inputs, c.target, Standardiser.from_dict(record["constants"]), radius=0)
        model.weights, model.trained_on = tensors["weights"], record["training_subjects"]
        return model


def _products(rows: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Sums of products of [inputs, 1, target] over voxels, float64."""
    table = torch.cat([rows, torch.ones(len(rows), 1), values[:, None]], 1).double()
    return table.T @ table
