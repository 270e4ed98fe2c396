"""PET DCGANs: what they learn, what decides a draw, what is refused; networks apart and in one pass."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import ImageGenerator
from nbkit.core.seeds import torch_generator
from nbkit.data.pet_slices import levels_of
from nbkit.papers.pet_dcgan.metrics import memorisation
from nbkit.papers.pet_dcgan.pet_dcgan import TRIES, Deck, PetDCGAN, moments
from nbkit.papers.pet_dcgan.settings import Config
from tests.papers.pet_dcgan.pet_heads import head_slices, head_volumes, patterns

TINY = {"size": 16, "widths": (12, 8), "critic_widths": (8, 12), "epochs": 4, "snapshot_images": 2}


def tiny(**changes) -> Config:
    return Config.for_profile("smoke", **{**TINY, "views_told": False, "averaged": 0.0, **changes})


@pytest.fixture(scope="module")
def slices():
    return head_slices(6)


@pytest.fixture(scope="module")
def separate(slices):
    return PetDCGAN(tiny()).fit(slices)


@pytest.fixture(scope="module")
def seen_views():
    return head_slices(6, stages=("CN", "AD"), views=("axial", "sagittal"))


def same(a: PetDCGAN, b: PetDCGAN, **options) -> bool:
    return all(torch.allclose(a.sample_images(3, stage, 5), b.sample_images(3, stage, 5), **options)
               for stage in a.stages)


def test_the_defaults_are_the_published_settings():
    c = Config()
    assert (c.size, c.channels, c.latent, c.batch, c.epochs) == (128, 3, 100, 64, 500)
    assert (c.learning_rate, c.beta1, c.beta2, c.weight_sd) == (1e-4, 0.5, 0.999, 0.02)
    assert (c.kind, c.views_told, c.averaged) == ("separate", False, 0.0), "a network for each stage, told nothing"
    assert Config.for_profile("paper") == c == Config.for_study("paper") and Config.for_profile("laptop").size == 64


def test_it_keeps_the_protocol_of_generators(separate):
    assert isinstance(separate, ImageGenerator) and separate.stages == ("CN", "MCI", "AD")


def test_a_draw_is_decided_by_seed_stage_and_its_number(separate):
    images = separate.sample_images(5, "AD", 3)
    assert images.shape == (5, 1, 16, 16) and images.abs().max() <= 1
    assert torch.allclose(separate.sample_images(70, "AD", 3)[:5], images, atol=1e-6)
    assert not torch.allclose(separate.sample_images(5, "AD", 4), images)
    assert not torch.allclose(separate.sample_images(5, "CN", 3), images)


def test_equal_seeds_train_equal_networks_and_others_do_not(slices, separate):
    assert same(PetDCGAN(tiny()).fit(slices), separate, atol=0, rtol=0)
    assert not same(PetDCGAN(tiny(seed=8)).fit(slices), separate)


def test_a_stage_is_trained_as_if_it_were_alone(slices, separate):
    alone = PetDCGAN(tiny()).fit(slices.select(stages="AD"))
    assert alone.stages == ("AD",) and torch.equal(alone.sample_images(3, "AD", 1), separate.sample_images(3, "AD", 1))


@pytest.mark.parametrize("views", [1, 2])
def test_networks_in_one_pass_learn_what_they_learn_apart(seen_views, views):
    table = seen_views if views == 2 else seen_views.select(view="axial")
    apart, together = (PetDCGAN(tiny(grouped=grouped, learning_rate=1e-4)).fit(table) for grouped in (False, True))
    assert torch.allclose(apart.losses, together.losses, rtol=1e-3) and apart.losses.shape == (4, 2, 2)
    for stage in apart.stages:
        drawn = [model.sample_images(4, stage, 5, view="axial") for model in (apart, together)]
        assert torch.allclose(*drawn, atol=2e-3)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("kind", ["separate", "conditional"])
def test_the_view_that_is_asked_for_is_drawn(seen_views, kind, told):
    model = PetDCGAN(tiny(kind=kind, views_told=told)).fit(seen_views)
    axial, sagittal = (model.sample_images(4, "AD", 5, view=view) for view in ("axial", "sagittal"))
    assert axial.shape == sagittal.shape == (4, 1, 16, 16) and not torch.allclose(axial, sagittal)
    with pytest.raises(NbkitError, match="one of axial, sagittal"):
        model.sample_images(1, "AD", 5)
    with pytest.raises(NbkitError, match="Did you mean 'axial'"):
        model.sample_images(1, "AD", 5, view="axail")


def test_published_networks_are_told_nothing(seen_views):
    model = PetDCGAN(tiny(epochs=1)).fit(seen_views)
    assert model._batch({"AD": model._decks("AD", seen_views)}, seen_views.images, 0).label is None
    generator, critic = model.untrained()
    assert generator.norms[0].scale is None and critic.project is None
    told = PetDCGAN(tiny(epochs=1, views_told=True)).fit(seen_views).untrained()
    assert told[0].norms[0].scale.shape[1] == told[1].project.shape[1] == 2


def test_of_what_is_drawn_the_first_of_the_asked_view_is_taken(seen_views):
    model = PetDCGAN(tiny(epochs=1)).fit(seen_views)
    means = [seen_views.select(stages="AD", view=view).images.mean(dim=0) for view in model.views]
    assert torch.equal(model.typical[model.stages.index("AD")], torch.stack(means))
    rng = torch_generator(4)
    drawn = torch.stack([means[k] + 0.01 * torch.randn(1, 16, 16, generator=rng)
                         for k in torch.randint(2, (5 * TRIES,), generator=rng)])
    model._generate = lambda net, noise, label: drawn[: len(noise), None]
    images = model.sample_images(5, "AD", 1, view="sagittal")
    for image, tries in zip(images, drawn.split(TRIES), strict=True):
        own = [x for x in tries if (x - means[1]).square().sum() < (x - means[0]).square().sum()]
        assert torch.equal(image, own[0])
    drawn = torch.stack([means[0] + share * (means[1] - means[0]) for share in torch.linspace(0, 0.4, TRIES)])
    assert torch.equal(model.sample_images(1, "AD", 1, view="sagittal")[0], drawn[-1]), "else the nearest"


def test_averaged_weights_draw_and_leave_training_alone(slices, separate):
    model = PetDCGAN(tiny(averaged=0.9)).fit(slices)
    assert torch.equal(model.losses, separate.losses) and not same(model, separate)
    hardly = PetDCGAN(tiny(averaged=1e-9)).fit(slices)
    assert same(hardly, separate, atol=1e-5), "an average that forgets at once is the last weights"
    step = max(model.snapshots)
    assert not torch.allclose(model.snapshots[step], separate.snapshots[step])
    assert same(model.of_last_weights(), separate, atol=0, rtol=0) and same(separate.of_last_weights(), separate)


def test_one_conditional_network_knows_all_stages(slices):
    model = PetDCGAN(tiny(kind="conditional")).fit(slices)
    assert list(model.generators) == ["all stages"] and model.losses.shape == (4, 2, 1)
    drawn = [model.sample_images(2, stage, 1) for stage in model.stages]
    assert not torch.allclose(drawn[0], drawn[1]) and not torch.allclose(drawn[1], drawn[2])


def test_three_channels_hold_the_grey_image_thrice(slices):
    model = PetDCGAN(tiny(channels=3, epochs=2)).fit(slices.select(stages="CN"))
    assert model._batch({"CN": model._decks("CN", slices)}, slices.images, 0).real.shape == (8, 1, 3, 16, 16)
    assert model.sample_images(2, "CN", 1).shape == (2, 1, 16, 16)


def test_volumes_are_learned_by_the_same_networks(seen_views):
    model = PetDCGAN(Config.volumetric("smoke", epochs=2, snapshot_images=2)).fit(head_volumes(5))
    assert model.sample_images(2, "AD", 1).shape == (2, 1, 16, 16, 16)
    assert model.sample(1, "AD", 1)[0].shape == (16, 16, 16)
    with pytest.raises(NbkitError, match=r"\(1, 16, 16, 16\), as Config has it"):
        PetDCGAN(Config.volumetric("smoke")).fit(seen_views)


def test_volumes_of_a_sample_lie_in_the_view_s_plane_with_uptake_in_suvr(separate):
    (volume,) = separate.sample(1, "AD", 3)
    images = separate.sample_images(1, "AD", 3)
    assert volume.shape == (16, 16, 1) and volume.affine[2, 3] == levels_of("axial", 1)[0]
    assert volume.spacing[0] == 12.0
    assert torch.allclose(volume.data[..., 0], (images[0] + 1) / 2 * separate.suvr_max)


@pytest.mark.slow
def test_what_it_draws_comes_near_the_stages_it_saw():
    slices = head_slices(24, stages=("CN", "AD"))
    model = PetDCGAN(tiny(epochs=100, widths=(24, 16), critic_widths=(8, 16), batch=16, learning_rate=3e-3)).fit(slices)
    means = {stage: slices.select(stages=stage).images.mean(dim=0) for stage in model.stages}
    drawn = {stage: model.sample_images(64, stage, 1).mean(dim=0) for stage in model.stages}
    for stage, other in (("CN", "AD"), ("AD", "CN")):
        before = (model.snapshots[0][model.stages.index(stage)].mean(dim=0) - means[stage]).square().mean()
        after = (drawn[stage] - means[stage]).square().mean()
        assert after < 0.05 * before
        assert after < (drawn[stage] - means[other]).square().mean()


@pytest.mark.slow
def test_a_generator_of_a_handful_of_images_is_flagged_as_memorising():
    slices = patterns(28)
    few, others, rest = (slices.at(range(*ends)).images.flatten(1) for ends in ((0, 4), (4, 8), (8, 28)))
    config = tiny(epochs=150, widths=(24, 16), critic_widths=(8, 16))
    drawn = PetDCGAN(config).fit(slices.at(range(4))).sample_images(60, "AD", 1).flatten(1)
    people = [slices.subject[start:end] for start, end in ((0, 4), (4, 8), (8, 28))]
    assert memorisation(drawn, few, rest, groups_train=people[0], groups_heldout=people[2]).flagged
    strange = memorisation(drawn, others, rest, groups_train=people[1], groups_heldout=people[2])
    assert not strange.flagged, "images it never saw are not what it repeats"


def test_training_is_shown_from_the_first_step_to_the_last(separate):
    steps = list(separate.snapshots)
    assert steps[0] == 0 and steps[-1] == 4 and steps == sorted(steps)
    first, last = separate.snapshots[0], separate.snapshots[4]
    assert first.shape == last.shape == (3, 2, 1, 16, 16) and not torch.allclose(first, last)
    assert separate.networks == ("CN", "MCI", "AD") and separate.losses.shape == (4, 2, 3)


def test_moments_are_denser_at_the_start_and_those_that_coincide_are_one():
    assert moments(18, 4) == (0, 2, 8, 18) and moments(2, 6) == (0, 1, 2)


def test_looking_leaves_no_trace_on_training(slices, separate):
    assert same(PetDCGAN(tiny(snapshots=2)).fit(slices), separate, atol=0, rtol=0)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("kind", ["separate", "conditional"])
def test_what_is_saved_is_read_back(seen_views, kind, told, tmp_path):
    model = PetDCGAN(tiny(kind=kind, views_told=told, averaged=0.5 * told)).fit(seen_views)
    model.save(tmp_path / "model")
    read = PetDCGAN.load(tmp_path / "model")
    assert read.config == model.config and read.trained_on == model.trained_on and read.seen == model.seen
    assert read.images == model.images
    for view in model.views:
        assert torch.equal(read.sample_images(3, "AD", 2, view=view), model.sample_images(3, "AD", 2, view=view))
        drawn = [m.of_last_weights().sample_images(3, "AD", 2, view=view) for m in (read, model)]
        assert torch.equal(*drawn)
    assert torch.equal(read.losses, model.losses)
    assert all(torch.equal(read.snapshots[k], v) for k, v in model.snapshots.items())
    assert "cn000" not in (tmp_path / "model" / "model.json").read_text()


def test_people_of_the_training_are_refused_by_name_even_after_loading(separate, tmp_path):
    separate.save(tmp_path / "model")
    read = PetDCGAN.load(tmp_path / "model")
    read.check_unseen(["ad077", "cn088"])
    with pytest.raises(NbkitError, match="no subject both in training and in test.*ad003"):
        read.check_unseen(["ad077", "ad003"])


def test_a_stage_that_nobody_had_is_refused(slices, separate):
    with pytest.raises(NbkitError, match="Did you mean 'MCI'"):
        separate.sample_images(1, "MCIX", 1)
    with pytest.raises(NbkitError, match="one of AD, CN"):
        PetDCGAN(tiny(epochs=1)).fit(slices.select(stages=["CN", "AD"])).sample(1, "MCI", 1)


@pytest.mark.parametrize(("act", "said"), [
    (lambda s: PetDCGAN(tiny()).sample(1, "AD", 1), "expected a fitted model"),
    (lambda s: PetDCGAN(tiny(size=32, widths=(8,) * 3, critic_widths=(8,) * 3)).fit(s), "as Config has it"),
    (lambda s: tiny(kind="seperate"), "Did you mean 'separate'"),
    (lambda s: tiny(schedule="cosines"), "Config: schedule"),
    (lambda s: tiny(batch=1), "normalised over a batch"), (lambda s: tiny(averaged=1.0), "Config: averaged"),
    (lambda s: tiny(dims=4), r"2 \(slices\) or 3 \(volumes\)"),
    (lambda s: tiny(snapshots=1), "before and after training"),
    (lambda s: Config.for_profile("smoke", latnet=3), "Did you mean 'latent'"),
    (lambda s: Config.volumetric("lapto"), "Did you mean 'laptop'"),
])
def test_what_cannot_be_done_is_refused(slices, act, said):
    with pytest.raises(NbkitError, match=said):
        act(slices)


def test_fewer_than_one_image_is_refused(separate):
    with pytest.raises(NbkitError, match="1 or more"):
        separate.sample_images(0, "AD", 1)


@pytest.mark.parametrize(("told", "said"), [(True, "deck AD sagittal"), (False, "stages AD, views sagittal")])
def test_a_stage_without_a_view_is_refused(seen_views, told, said):
    kept = [i for i in range(len(seen_views)) if (seen_views.stage[i], seen_views.view[i]) != ("AD", "sagittal")]
    with pytest.raises(NbkitError, match=said):
        PetDCGAN(tiny(views_told=told)).fit(seen_views.at(kept))


@given(n=st.integers(1, 12), count=st.integers(1, 90))
def test_every_pass_of_a_deck_holds_every_row_once(n, count):
    rows = [10 + 3 * i for i in range(n)]
    dealt = list(islice(Deck(rows, 7, "CN"), count))
    for start in range(0, count - n + 1, n):
        assert sorted(dealt[start : start + n]) == rows


def test_names_and_seed_and_pass_change_the_order_of_a_deck():
    orders = [list(islice(Deck(range(30), *key), 60)) for key in ((7, "CN"), (7, "AD"), (8, "CN"))]
    assert len({tuple(half) for order in orders for half in (order[:30], order[30:])}) == 6
    assert orders[0] == list(islice(Deck(range(30), 7, "CN"), 60))


def test_images_of_a_batch_come_from_the_deck_of_their_class(seen_views):
    model = PetDCGAN(tiny(kind="conditional", batch=16, views_told=True)).fit(seen_views)
    batch = model._batch({"all stages": model._decks("all stages", seen_views)}, seen_views.images, 0)
    for image, label in zip(batch.real[:, 0], batch.label.tolist(), strict=True):
        (row,) = (i for i in range(len(seen_views)) if torch.equal(seen_views.images[i], image))
        assert model._classes[label] == (seen_views.stage[row], seen_views.view[row])
