"""The full model trained with other choices: the paper's where small profiles leave it, and others where it is open."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from nbkit.core.protocols import Cohort
from nbkit.papers.daninet.config import Config
from nbkit.papers.daninet.daninet import DaniNet
from nbkit.papers.daninet.trained import network
from nbkit.training.fitted import fitted

CHOICES: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "published: weights of Eq. 6": {"voxel_weight": 3e-4, "region_weight": 3e-4},
    "published: all ages of all slices": {"constrained": 1.0},
    "published: z-scores": {"intensities": "z-scores"},
    "published: d as a number": {"diagnosis_form": "number"},
    "published: transposed convolutions": {"growth": "transposed"},
    "regressors of all pairs": {"svr_monotone": False},
    "rates chained from bin to bin": {"svr_reach": "chained"},
    "without critics": {"latent_weight": 0.0, "image_weight": 0.0},
})
"""Fields of :class:`~nbkit.papers.daninet.config.Config`, by what they mean."""


def chosen_otherwise(
    models: Mapping[str, DaniNet], train: Cohort, *, profile: str, choices: Mapping[str, Mapping[str, Any]] = CHOICES
) -> dict[str, DaniNet]:
    """P-C-T trained once more with each of `choices`, with other tunings, and [9] compared in its own age bins.

    All as long as the profile says: where `models` learned for longer, P-C-T and [9] are trained so as well.

    Parameters
    ----------
    models : mapping of str to DaniNet
        By column of Table 1, of which "P-C" and "[9]" stand among the results if they learned as long as the profile
        says.
    train : Cohort
        Slices they were trained on; fits are kept.
    profile : str
        T takes 12 steps at "smoke" where the paper takes 200.
    """
    full, baseline = (_as_long_as_others(models[name], name, train, profile) for name in ("P-C", "[9]"))
    found = {
        name: fitted(DaniNet(full.config.changed(**choice)), train).transferring(True)
        for name, choice in choices.items()
    }
    steps = 12 if profile == "smoke" else Config().transfer_steps
    found["published: 200 steps of T"] = full.transferring(True, transfer_steps=steps)
    own = fitted(DaniNet(baseline.config.changed(deformation="own")), train)
    return found | {"no T": full, "P-C-T": full.transferring(True), "[9]": baseline, "[9], own bins": own}


def _as_long_as_others(model: DaniNet, name: str, train: Cohort, profile: str) -> DaniNet:
    own = network(name, profile, seed=model.config.seed, device=model.config.device)
    return model if model.config == own.config else fitted(own, train, key="as long as others")
