"""What CounterSynth's generator and its judge lose; each term one value per subject.

The generator: to look like a real scan, to be read as having the labels aimed at, and to move smoothly. The judge: to
tell real from made, to read the labels of real scans, and the zero-centred gradient penalty at real scans. Both
adversarial losses are the non-saturating ones with R1, as in the public code; its file of losses calls the Wasserstein
penalty worse.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.geometry.warp import Displacement
from nbkit.losses.adversarial import bce_discriminator, bce_generator, r1_penalty
from nbkit.losses.deformation import smoothness
from nbkit.papers.countersynth.networks import Judged

Tensors = Mapping[str, torch.Tensor]


def label_loss(judged: Judged, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Squared error of age, cross-entropies of sex and diagnosis, (B,) each; an unknown sex costs nothing.

    `labels` (B, 2 + D): age in standard deviations, sex (0, 1, or 0.5: unknown), one diagnosis of D.
    """
    sex = F.binary_cross_entropy_with_logits(judged.sex, labels[:, 1], reduction="none")
    return {
        "age": (judged.age - labels[:, 0]).square(), "sex": sex * (labels[:, 1] != 0.5),
        "diagnosis": F.cross_entropy(judged.diagnosis, labels[:, 2:], reduction="none"),
    }


class CounterLosses:
    """Both sides' losses.

    Parameters
    ----------
    affine : numpy.ndarray
        Of the velocity fields.
    label, smooth, r1 : float
        Weights; the adversarial term has 1.
    """

    def __init__(self, affine: np.ndarray, *, label: float, smooth: float, r1: float) -> None:
        self.affine, self.label, self.smooth, self.r1 = affine, label, smooth, r1

    def generator(self, judge: nn.Module, batch: Tensors, made: Tensors) -> dict[str, torch.Tensor]:
        """Of images ``made["moved"]`` that should have the labels ``batch["target"]``."""
        judged = judge(made["moved"])
        terms = {"adversarial": bce_generator(judged.real), **label_loss(judged, batch["target"])}
        terms["smooth"] = smoothness(Displacement(made["velocity"]), affine=self.affine)
        labels = terms["age"] + terms["sex"] + terms["diagnosis"]
        return {"total": terms["adversarial"] + self.label * labels + self.smooth * terms["smooth"], **terms}

    def judge(self, judge: nn.Module, batch: Tensors, made: Tensors) -> dict[str, torch.Tensor]:
        """Of real scans ``batch["image"]`` with the labels ``batch["labels"]``, against ``made["moved"]``."""
        image = batch["image"].detach().requires_grad_()
        judged = judge(image)
        terms = {
            "adversarial": bce_discriminator(judged.real, judge(made["moved"]).real),
            **label_loss(judged, batch["labels"]), "r1": r1_penalty(judged.real, image),
        }
        labels = terms["age"] + terms["sex"] + terms["diagnosis"]
        return {"total": terms["adversarial"] + self.label * labels + self.r1 * terms["r1"], **terms}
