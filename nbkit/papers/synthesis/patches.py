"""What all synthesizers of a contrast are told, and what those that predict voxel by voxel share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from nbkit.core.checks import known, require
from nbkit.core.config import Settings
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.patches import PatchReader
from nbkit.data.splits import subject_hash
from nbkit.training.checkpoint import Constants, Saved


@dataclass(frozen=True)
class Contrasts(Settings):
    """From which contrasts which other one is predicted.

    Attributes
    ----------
    inputs, target : contrasts
    normalise : {"cohort", "subject"}
        z-scores from all training images of a contrast (published), or from each image by itself.
    over : {"image", "brain"}
        Voxels that count in them: all (published), or those inside the brain, whatever lies around it.
    """

    inputs: tuple[str, ...] = ("T1w", "T1SE", "T2w", "PDw", "DIR")
    target: str = "FLAIR"
    normalise: str = "cohort"
    over: str = "image"

    fewest: ClassVar[int] = 1
    """Inputs it needs at least."""

    def __post_init__(self) -> None:
        require(
            len(self.inputs) >= self.fewest and self.target not in self.inputs, "Config: inputs", found=self.inputs,
            expected=f"{'at least one contrast' if self.fewest else 'contrasts'} other than the target {self.target!r}",
            remedy="List the contrasts to predict from.",
        )
        known(self.over, ("image", "brain"), "Config: over")

    def standardiser(self, cohort: Cohort) -> Standardiser:
        """The z-scores of inputs and target that the scans of `cohort` give."""
        return Standardiser.fit_cohort(cohort, (*self.inputs, self.target), over=self.over, per=self.normalise)


class PatchSynthesizer(Saved):
    """A :class:`~nbkit.core.protocols.ModalitySynthesizer` that predicts each voxel from the patch around it.

    A subclass names its ``settings`` (:class:`Contrasts` with a ``radius``) and what it is called in the history of
    its images, and says what it learns of the training patches (``_learn``) and predicts from others (``_predict``).
    """

    called: ClassVar[str]

    def __init__(self, config: Any = None) -> None:
        self.config = config or self.settings()
        self.reader: PatchReader | None = None

    def fit(self, cohort: Cohort) -> Self:
        """Learn from every scan of `cohort`."""
        self._read(self.config.standardiser(cohort))
        self._learn(cohort)
        self.trained_on = subject_hash(cohort.ids)
        return self

    def synthesize(self, contrasts: Mapping[str, Volume], *, mask: Volume) -> Volume:
        """Predict the target inside `mask`, in the target's own intensity unit; 0 outside."""
        name = type(self).__name__
        require(
            self.reader is not None, f"{name}.synthesize", expected="a fitted model", found="an unfitted one",
            remedy=f"Call fit(cohort) or {name}.load(path) first.",
        )
        step = f"{self.called} of {self.config.target} from {', '.join(self.config.inputs) or 'nothing'}"
        return self.reader.synthesize(contrasts, self._predict, mask=mask, step=step)

    def _read(self, standardiser: Standardiser) -> None:
        self.reader = PatchReader(self.config.inputs, self.config.target, standardiser, self.config.radius)

    def _learn(self, cohort: Cohort) -> None:
        """Learn from ``self.reader.training(cohort, ...)``."""
        raise NotImplementedError

    def _predict(self, rows: torch.Tensor) -> torch.Tensor:
        """Patches (n, D) to the z-scored target (n,)."""
        raise NotImplementedError

    def _take(self, tensors: dict[str, torch.Tensor], where: str) -> None:
        """Take back what ``_tensors`` gave, and refuse what does not fit."""
        raise NotImplementedError

    def _constants(self) -> dict[str, Any]:
        return self.reader.standardiser.to_dict()

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        self._take(tensors, where)
        self._read(Standardiser.from_dict(constants))
