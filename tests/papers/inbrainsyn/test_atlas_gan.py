"""Atlas-GAN on balls that shrink with age: it learns, it is the same twice, and it refuses what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import TemplateModel
from nbkit.papers.inbrainsyn.atlas_gan import AtlasGAN, AtlasGenerator, AtlasLosses, Config, jitter
from nbkit.training.steps import NonFiniteLoss
from tests.papers.inbrainsyn.balls import AFFINE, SHAPE, ball, group, measured, radius

SMALL = {"width": 8, "blocks": 1, "critic_widths": (8, 16), "critic_features": 8, "half": False, "device": "cpu"}
LEARNING = SMALL | {"epochs": 8, "steps_per_epoch": 30, "generator_rate": 2e-3, "critic_rate": 1e-3}
SHORT = SMALL | {"epochs": 1, "steps_per_epoch": 3}


@pytest.fixture(scope="module")
def learned() -> AtlasGAN:
    return AtlasGAN(Config(**LEARNING)).fit(group())


@pytest.fixture(scope="module")
def short() -> AtlasGAN:
    return AtlasGAN(Config(**SHORT)).fit(group(3))


def generator() -> AtlasGenerator:
    torch.manual_seed(1)
    average = ball(16.0)[None, None] / 240
    return AtlasGenerator(SHAPE, AFFINE, average, Config(width=4, blocks=1))


# learning


def test_the_losses_fall(learned):
    assert len(learned.history["total"]) == 8
    for name in ("total", "similarity"):
        assert learned.history[name][-1] < learned.history[name][0]


def test_the_ball_shrinks_with_age(learned):
    sizes = [measured(learned.template(age)) for age in (60, 67, 74, 81)]
    assert all(a > b for a, b in zip(sizes, sizes[1:]))
    assert sizes[0] - sizes[-1] > 0.3 * (radius(60) - radius(81))


def test_it_is_a_template_model_in_the_unit_and_on_the_grid_of_the_scans(learned, short):
    template, new = learned.template(70.0), short.template(70.0)
    assert isinstance(learned, TemplateModel) and template.data.shape == (1, *SHAPE)
    template.check_grid(group(1)[0].image("T1w"), "test")
    assert float(new.data[0][ball(17.0) > 0].quantile(0.99)) == pytest.approx(240, rel=0.1), "as yet the average"
    assert (template.data[0][ball(17.0) == 0] == 0).all() and float(template.data.min()) >= 0


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(short):
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again = AtlasGAN(Config(**SHORT)).fit(group(3))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in short.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], value), name
    other = AtlasGAN(Config(**SHORT | {"seed": 8})).fit(group(3))
    assert not torch.equal(other.template(70).data, short.template(70).data)


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_profiles_change_sizes_only(profile):
    config = Config.for_profile(profile)
    sizes = {"width", "blocks", "critic_widths", "critic_features", "epochs", "steps_per_epoch", "batch",
             "beyond_years"}
    rates = {"generator_rate", "critic_rate", "half"}
    changed = {name for name, value in config.as_dict().items() if value != Config().as_dict()[name]}
    assert changed <= sizes | rates and (profile == "paper") == (not changed)


# the generator and its losses


def test_a_new_generator_gives_the_average_and_hardly_moves_it():
    net = generator().eval()
    young, old = net.template(torch.tensor([[0.6], [1.0]]))
    torch.testing.assert_close(young, old)
    made = net(net.average, torch.tensor([[0.8]]))
    assert made["displacement"].abs().max() < 0.01
    torch.testing.assert_close(made["moved"], net.template(torch.tensor([[0.8]])), atol=1e-3, rtol=0)


def test_a_constant_velocity_in_voxels_is_a_translation_in_mm():
    """One voxel of the half grid along the first axis is 9 mm of the world: two voxels of the image."""
    net = generator().eval()
    torch.nn.init.zeros_(net.velocity_branch.out.weight)
    net.velocity_branch.out.bias.data = torch.tensor([1.0, 0.0, 0.0])
    made = net(net.average, torch.tensor([[0.8]]))
    torch.testing.assert_close(made["displacement"][0, :, 4, 4, 4], torch.tensor([9.0, 0.0, 0.0]))
    template = net.template(torch.tensor([[0.8]]))
    torch.testing.assert_close(made["moved"][:, :, 4:-4], template[:, :, 6:-2], atol=1e-4, rtol=0)


def test_the_generators_loss_is_the_weighted_sum_of_its_terms():
    config = Config(**SMALL)
    losses, u = AtlasLosses(config, np.diag([9.0, 9, 9, 1])), torch.randn(1, 3, 8, 8, 8)
    batch = {"image": ball(15.0)[None, None], "condition": torch.ones(1, 1), "draws": torch.zeros(4, 1, 3)}
    terms = losses.generator(lambda x, c: x.mean(dim=(2, 3, 4)), batch, {"moved": batch["image"], "displacement": u})
    expected = 0.1 * terms["adversarial"] + terms["similarity"] + terms["smooth"] + 0.01 * terms["size"]
    torch.testing.assert_close(terms["total"], expected + terms["drift"])
    assert all(value.shape == (1,) for value in terms.values())


def test_published_settings():
    c = Config()
    assert (c.width, c.blocks, c.critic_widths, c.critic_features) == (32, 5, (64, 128, 256, 512), 64)
    assert (c.adversarial, c.similarity, c.smooth, c.size, c.drift) == (0.1, 1, 1, 0.01, 1)
    assert (c.generator_rate, c.critic_rate, c.betas, c.epochs * c.steps_per_epoch) == (1e-4, 3e-4, (0, 0.9), 300_000)


# what is shown to the discriminator


@settings(max_examples=25)
@given(st.lists(st.floats(-0.99, 0.99), min_size=6, max_size=6))
def test_jitter_is_a_flip_and_a_translation(draws):
    image = torch.zeros(1, 2, 20, 20, 20)
    image[:, :, 5:15, 6:14, 7:13] = torch.rand(1, 2, 10, 8, 6, generator=torch.Generator().manual_seed(1))
    moved = jitter(image, torch.tensor(draws, dtype=torch.float64).view(2, 1, 3), shift=0.1)
    assert moved.shape == image.shape
    torch.testing.assert_close(moved.flatten().sort().values, image.flatten().sort().values)
    steps = [round(d * 2) for d in draws[3:]]
    back = moved.roll([-s for s in steps], (2, 3, 4)).flip([a + 2 for a in range(3) if draws[a] > 0])
    assert torch.equal(back, image)


def test_jitter_brings_in_background_and_passes_slopes():
    image = torch.ones(2, 1, 10, 10, 10, requires_grad=True)
    draws = torch.tensor([[[-1.0, -1, -1]] * 2, [[0.9, 0, 0], [0, 0, -0.9]]])
    moved = jitter(image, draws, shift=0.2)
    assert (moved[0, 0, :2] == 0).all() and (moved[1, 0, :, :, -2:] == 0).all()
    moved.sum().backward()
    assert image.grad[0, 0, -2:].sum() == 0 and image.grad[0, 0, :-2].min() == 1


# keeping and refusing


def test_what_was_saved_comes_back_the_same(short, tmp_path):
    short.save(tmp_path / "model")
    loaded = AtlasGAN.load(tmp_path / "model")
    assert torch.equal(loaded.template(64.2).data, short.template(64.2).data)
    assert (loaded.config, loaded.frame, loaded.history) == (short.config, short.frame, short.history)


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(short, tmp_path):
    short.save(tmp_path)
    file, tensors = tmp_path / "model.json", load_file(tmp_path / "weights.safetensors")
    record = json.loads(file.read_text())
    frame = record["constants"]["frame"] | {"shape": [16, 16, 24]}
    file.write_text(json.dumps(record | {"constants": {"frame": frame, "history": {}}}))
    with pytest.raises(NbkitError, match=r"weights average: expected shape \(1, 1, 16, 16, 24\)"):
        AtlasGAN.load(tmp_path)
    file.write_text(json.dumps(record))
    save_file({k: v for k, v in tensors.items() if k != "template_branch.constant"}, tmp_path / "weights.safetensors")
    with pytest.raises(NbkitError, match="expected template_branch.constant, found no such tensor"):
        AtlasGAN.load(tmp_path)


def test_a_loss_that_is_not_finite_is_named():
    with pytest.raises(NonFiniteLoss, match="training step [0-9]+: loss term 'adversarial'"):
        AtlasGAN(Config(**SMALL | {"epochs": 1, "steps_per_epoch": 9, "critic_rate": 1e30})).fit(group(2))


def test_ages_grids_and_settings_that_do_not_fit_are_refused(short):
    for age in (54.9, 90.1, float("nan")):
        with pytest.raises(NbkitError, match="AtlasGAN.template: age: expected 55.0 to 90.0 years"):
            short.template(age)
    with pytest.raises(NbkitError, match="expected a fitted model"):
        AtlasGAN(Config(**SHORT)).template(70)
    with pytest.raises(NbkitError, match="Did you mean 'width'"):
        Config.from_dict({"widht": 3})
    with pytest.raises(NbkitError, match="counts of at least 1"):
        Config(epochs=0)
