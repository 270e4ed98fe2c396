"""The full model with other choices: what is called published is the paper profile's; each fit is another model."""

from __future__ import annotations

import pytest

from nbkit.papers.daninet.choices import CHOICES, chosen_otherwise
from nbkit.papers.daninet.daninet import Config, DaniNet
from tests.papers.daninet.test_daninet import SMALL, cohort

__all__ = ["cohort"]


@pytest.mark.parametrize("name", CHOICES)
def test_published_choices_are_those_of_the_paper_profile(name):
    paper, small = Config().as_dict(), Config.for_profile("laptop").as_dict()
    for field, value in CHOICES[name].items():
        assert value != small[field], "a choice that a small profile takes anyway moves nothing"
        assert (value == paper[field]) == name.startswith("published")


def test_each_choice_is_trained_and_the_models_of_table_1_stand_beside(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    models = {}
    for name in ("[9]", "P-C", "P-C-T"):
        config = Config.variant(name, "smoke", **{**SMALL, "epochs": 1, "transfer": False})
        models[name] = DaniNet(config).fit(cohort).transferring(name == "P-C-T")
    few = {"without critics": CHOICES["without critics"]}
    found = chosen_otherwise(models, cohort, profile="smoke", choices=few)
    assert list(found) == [
        "without critics", "published: 200 steps of T", "no T", "P-C-T", "[9]", "[9], own bins",
    ]
    assert found["without critics"].config.image_weight == 0 and found["without critics"].config.transfer
    assert found["published: 200 steps of T"].config.transfer_steps == 12 and found["no T"] is models["P-C"]
    assert found["[9], own bins"].config.deformation == "own" and found["[9]"] is models["[9]"]
    assert all(model.net is not None for model in found.values())
