"""The full model with other choices: what is called published is the paper profile's; each fit is another model."""

from __future__ import annotations

import pytest
import torch

from nbkit.core.device import one_thread
from nbkit.papers.daninet import Config, DaniNet
from nbkit.papers.daninet.choices import CHOICES, chosen_otherwise
from nbkit.papers.daninet.trained import network
from tests.papers.daninet.test_daninet import SMALL, cohort

__all__ = ["cohort"]


@pytest.mark.parametrize("name", CHOICES)
def test_published_choices_are_those_of_the_paper_profile(name):
    paper, small = Config().as_dict(), Config.for_profile("laptop").as_dict()
    for field, value in CHOICES[name].items():
        assert value != small[field], "a choice that a small profile takes anyway moves nothing"
        assert (value == paper[field]) == name.startswith("published")


FEW = {"without critics": CHOICES["without critics"]}


@pytest.fixture
def models(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(Config, "profiles", {"smoke": {**Config.profiles["smoke"], **SMALL, "epochs": 1}})
    with one_thread():  # as they learn side by side: sums have one order then
        nets = {name: network(name, "smoke").fit(cohort) for name in ("[9]", "P-C")}
    return nets | {"P-C-T": nets["P-C"].transferring(True)}


def test_each_choice_is_trained_and_the_models_of_table_1_stand_beside(cohort, models):
    found = chosen_otherwise(models, cohort, profile="smoke", choices=FEW)
    assert list(found) == [
        "without critics", "published: 200 steps of T", "no T", "P-C-T", "[9]", "[9], own bins",
    ]
    assert found["without critics"].config.image_weight == 0 and found["without critics"].config.transfer
    assert found["published: 200 steps of T"].config.transfer_steps == 12 and found["no T"] is models["P-C"]
    assert found["[9], own bins"].config.deformation == "own" and found["[9]"] is models["[9]"]
    assert all(model.net is not None for model in found.values())


def test_choices_are_held_against_models_that_learned_as_long(cohort, models):
    longer = {name: DaniNet(model.config.changed(epochs=2)).fit(cohort) for name, model in models.items()}
    found = chosen_otherwise(longer, cohort, profile="smoke", choices=FEW)
    assert {model.config.epochs for model in found.values()} == {1}
    same = models["P-C"].net.state_dict()
    assert all(torch.equal(value, same[name]) for name, value in found["no T"].net.state_dict().items())
