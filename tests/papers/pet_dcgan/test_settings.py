"""Settings as records: measured on what was trained, so that whatever ran otherwise falls out of tolerance."""

from __future__ import annotations

import pytest
import torch

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge
from nbkit.papers.pet_dcgan import dcgan, experiments, metrics, pet_dcgan
from nbkit.papers.pet_dcgan.pet_dcgan import PetDCGAN
from nbkit.papers.pet_dcgan.settings import Config
from tests.papers.pet_dcgan.pet_heads import head_slices

PAPER = load_paper("islam2020_pet")
NARROW = {"widths": (8,) * 5, "critic_widths": (8,) * 5}
FOUR = {"widths": (8,) * 4, "critic_widths": (8,) * 4, "size": 64}


def ran(steps: int = 1_000, **changes) -> PetDCGAN:
    """A model that learned from 98 images of one stage, two batches of 64 an epoch; no test needs to wait for it."""
    model = PetDCGAN(Config(**{**NARROW, **changes}))
    model.stages, model.views, model.images = ("AD",), ("axial",), {"AD": 98}
    model.losses = torch.zeros(steps, 2, 1)
    return model


def verdicts(model: PetDCGAN) -> dict[str, str]:
    told = experiments.settings(model)
    found = judge(PAPER, {row.id: Observation(row.id, row.value) for row in told.itertuples()})
    return {n.id.removeprefix("islam2020.settings."): n.verdict for n in found.numbers if ".settings." in n.id}


def outside(model: PetDCGAN) -> set[str]:
    return {name for name, verdict in verdicts(model).items() if verdict != "within tolerance"}


def test_the_published_training_is_within_every_tolerance():
    found = verdicts(ran())
    assert set(found.values()) == {"within tolerance"}
    assert set(found) == {n.id.removeprefix("islam2020.settings.") for n in PAPER.number if ".settings." in n.id}


@pytest.mark.parametrize(("name", "changes"), [
    ("latent", {"latent": 99}), ("channels", {"channels": 1}), ("kernel", {"kernel": 3}),
    ("rate", {"learning_rate": 2e-4}), ("beta1", {"beta1": 0.9}), ("beta2", {"beta2": 0.99}),
    ("init_sd", {"weight_sd": 0.03}), ("epochs", {"steps": 998}),
])
def test_one_setting_that_ran_otherwise_falls_out(name, changes):
    assert outside(ran(**changes)) == {name}


def test_another_batch_sees_the_images_another_number_of_times():
    assert outside(ran(batch=98)) == {"batch", "epochs"}


def test_a_smaller_image_has_fewer_layers():
    assert outside(ran(**FOUR)) == {"size", "layers.generator", "layers.discriminator"}


@pytest.mark.parametrize(("module", "attribute", "value", "names"), [
    (dcgan, "LEAK", 0.1, {"leak"}), (metrics, "SSIM_K1", 0.02, {"ssim_k1"}), (metrics, "SSIM_K2", 0.3, {"ssim_k2"}),
    (pet_dcgan, "_uniform", lambda shape, rng: torch.randn(shape, generator=rng), {"noise_low", "noise_high"}),
])
def test_what_the_code_fixes_is_measured_too(monkeypatch, module, attribute, value, names):
    monkeypatch.setattr(module, attribute, value)
    assert outside(ran()) == names


def test_a_training_is_counted_by_its_images_on_every_device():
    config = Config.for_profile("smoke", size=16, widths=(8, 8), critic_widths=(8, 8), epochs=2, batches_per_epoch=None)
    table = head_slices(12)
    uneven = table.at([i for i, s in enumerate(table.stage) if s != "MCI" or i % 2])
    model = PetDCGAN(config).fit(uneven)
    assert model.images == {"CN": 12, "MCI": 6, "AD": 12} and model.losses.shape == (4, 2, 3), "as many steps for all"
    told = experiments.settings(model).set_index("id")["value"]
    assert told["islam2020.settings.epochs"] == 2 and told["islam2020.settings.batch"] == 8
