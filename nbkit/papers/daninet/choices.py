"""The full model trained with other choices: the paper's where small profiles leave it, and others where it is open."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from nbkit.core.protocols import Cohort
from nbkit.papers.daninet.config import Config
from nbkit.papers.daninet.daninet import DaniNet
from nbkit.papers.daninet.trained import network
from nbkit.training.fitted import fitted_together

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
    as_long = {name: _as_long_as_others(models[name], name, profile) for name in ("P-C", "[9]")}
    full, baseline = (job["model"].config for job in as_long.values())
    asked = {name: {"model": DaniNet(full.changed(**choice))} for name, choice in choices.items()}
    asked |= {"[9], own bins": {"model": DaniNet(baseline.changed(deformation="own"))}}
    asked |= {name: job for name, job in as_long.items() if job["model"] is not models[name]}
    jobs = ({"cohort": train, **job} for job in asked.values())
    learned = {**models, **dict(zip(asked, fitted_together(*jobs, device=full.device), strict=True))}
    found = {name: learned[name].transferring(True) for name in choices}
    steps, net = 12 if profile == "smoke" else Config().transfer_steps, learned["P-C"]
    found["published: 200 steps of T"] = net.transferring(True, transfer_steps=steps)
    return found | {"no T": net, "P-C-T": net.transferring(True)} | {n: learned[n] for n in ("[9]", "[9], own bins")}


def _as_long_as_others(model: DaniNet, name: str, profile: str) -> dict[str, Any]:
    """`model`, or what is fitted in its place where it learned for longer than the profile says."""
    own = network(name, profile, seed=model.config.seed, device=model.config.device)
    return {"model": model} if model.config == own.config else {"model": own, "key": "as long as others"}
