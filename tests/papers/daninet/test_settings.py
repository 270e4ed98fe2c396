"""Settings are recorded from the model that ran: each verdict "within tolerance" flips when that setting changes."""

from __future__ import annotations

import pytest
import torch

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge
from nbkit.papers.daninet import Config, DaniNet, experiments, progression
from nbkit.papers.daninet.aged_slices import SliceFrame
from nbkit.papers.daninet.regional_rates import AgeBins, RegionalRates

PAPER = load_paper("daninet")
SMALL = {"widths": (1, 1, 1, 1, 1), "critic_widths": (1, 1), "device": "cpu"}
CHANGES = {
    "ages": {"ages": 9}, "diagnoses": {"diagnosis_form": "one_hot"}, "latent": {"latent": 50},
    "size": {"size": 64, "widths": (1, 1, 1, 1)}, "rate": {"learning_rate": 1e-3}, "beta1": {"beta1": 0.9},
    "batch": {"batch": 16}, "epochs": {"epochs": 400}, "transfer_steps": {"transfer": False},
    **{f"weight.{name}": {f"{name}_weight": 0.5} for name in ("latent", "image", "voxel", "region", "deformation")},
    "regions": {"regions": 64},
}


def ready(**changes) -> DaniNet:
    """A model as after fitting, with settings of the paper but for its widths, untrained."""
    model = DaniNet(Config(**SMALL | changes))
    c = model.config
    model.frame = SliceFrame(c.contrast, (c.size, c.size, 1), torch.eye(4).numpy(), 1.0, c.intensities)
    model.bins, model.net = AgeBins(60, 90, c.ages), model._build()
    model.rates = RegionalRates(*map(torch.zeros, model._rate_shapes()), model.bins)
    return model


def within(model: DaniNet) -> set[str]:
    """Settings whose verdict is "within tolerance"."""
    rows = [*experiments.settings(model).itertuples(), *progression.region_sizes(model.rates.masks).itertuples()]
    observed = {row.id: Observation(row.id, row.value) for row in rows}
    numbers = judge(PAPER, observed, not_run=[]).numbers
    return {
        n.id.removeprefix("daninet.settings.").removeprefix("daninet.").removesuffix(".count")
        for n in numbers if n.verdict == "within tolerance"
    }


def test_all_agree_at_the_papers_own_settings():
    assert within(ready()) == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_each_flips_when_what_ran_changes(name):
    assert within(ready(**CHANGES[name])) == set(CHANGES) - {name}
