"""How a predicted FLAIR is scored: image quality inside the brain, and lesion contrast (Wei thesis 2.3.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from nbkit.core.protocols import Cohort, Subject
from nbkit.core.volume import Volume
from nbkit.metrics.image import mse, ssim
from nbkit.metrics.level import own_level
from nbkit.metrics.sharpness import sharpness
from nbkit.metrics.volumes import lesion_contrast


class FlairScore:
    """Scores of one prediction; call it as ``score(subject, prediction)``.

    Parameters
    ----------
    cohort : Cohort
        Gives the unit of the MSE only: z² means squared error in units of the variance of true FLAIR over all brain
        voxels of the cohort. A fixed factor, never seen by a model.
    target : str
        The contrast that was predicted.
    """

    def __init__(self, cohort: Cohort, target: str = "FLAIR") -> None:
        self.target = target
        self.variance = float(torch.cat([_brain_values(s, target) for s in cohort]).double().var())
        self.__qualname__ = f"FlairScore({target}, variance={self.variance:.9g})"

    def __call__(self, subject: Subject, prediction: Volume) -> Mapping[str, float]:
        """Metric -> value.

        ``mse`` (z²) and ``mse_raw`` (scanner unit²) inside the brain mask; ``mse_own`` (z²) after the scale and offset
        that bring the prediction nearest to the truth, which take out what no input can tell of the person and the
        scanner's gain; ``ssim`` 3D, averaged over the brain, data range = that of the true image inside it;
        ``sharpness`` gradient energy there over that of the true image; ``ratio1`` lesions/NAWM and ``ratio2``
        lesions/surrounding NAWM (Eq. 2.4), NaN for subjects without lesions.
        """
        scan = subject.baseline
        truth, mask = scan.image(self.target), scan.mask("brain")
        truth.check_grid(prediction, f"{subject.id}: prediction and true {self.target}")
        values = _brain_values(subject, self.target)
        inside = mask.data.bool()[None]
        a, b = ((image.data.float() * mask.data.bool())[None] for image in (prediction, truth))
        raw = float(mse(a, b, mask=inside))
        quality = float(ssim(a, b, data_range=float(values.max() - values.min()), mask=inside))
        free = float(mse(own_level(prediction, truth, mask).data[None], b, mask=inside))
        errors = {"mse": raw / self.variance, "mse_raw": raw, "mse_own": free / self.variance}
        energy = float(sharpness(a, b, mask=inside))
        return {**errors, "ssim": quality, "sharpness": energy, **contrast_ratios(subject, prediction)}


def contrast_ratios(subject: Subject, image: Volume) -> dict[str, float]:
    """Ratio 1 and Ratio 2 of Eq. 2.4 of an image, predicted or true, with the subject's own masks."""
    scan = subject.baseline
    first, second = lesion_contrast(image, scan.mask("lesions"), scan.mask("nawm"))
    return {"ratio1": float(first), "ratio2": float(second)}


def _brain_values(subject: Subject, target: str) -> torch.Tensor:
    scan = subject.baseline
    return scan.image(target).data[scan.mask("brain").data.bool()].float()
