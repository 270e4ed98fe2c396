"""CounterSynth on balls that shrink with age: it learns which way, is the same twice, and refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.protocols import Scan, Subject, TrajectoryModel
from nbkit.core.volume import Volume
from nbkit.metrics.deformation import folding_fraction
from nbkit.papers.countersynth import Config, CounterSynth
from nbkit.papers.trajectories.outlooks import Carried, Outlooks, Seen, counted
from tests.papers.trajectories.ageing_balls import AFFINE, RADIUS, cohort, visit

SMALL = {"encoder": (8, 16, 16), "decoder": (16, 16), "fine": (), "judge_widths": (8, 16, 16), "norm": "group",
         "squarings": 5, "batch": 4, "half": False, "device": "cpu", "augment": 0.0, "schedule": "linear"}
LEARNING = SMALL | {"epochs": 6, "steps_per_epoch": 10, "generator_rate": 3e-3, "judge_rate": 3e-3}
SHORT = SMALL | {"epochs": 1, "steps_per_epoch": 2, "batch": 2, "augment": 0.8}


def radius(age: float) -> float:
    return RADIUS * (1 - 0.01 * (age - 70))


def balls(count: int = 20) -> list[Subject]:
    rng = np.random.default_rng(0)
    ages = rng.uniform(55, 85, count)
    return [
        Subject(f"s{k}", ("F", "M", None)[k % 3], "CN", (visit(f"s{k}", a, radius(a), rng.uniform(-2, 2, 3)),))
        for k, a in enumerate(ages)
    ]


@pytest.fixture(scope="module")
def learned() -> CounterSynth:
    return CounterSynth(Config(**LEARNING)).fit(cohort(balls()))


@pytest.fixture(scope="module")
def short() -> CounterSynth:
    return CounterSynth(Config(**SHORT)).fit(cohort(balls(4)))


def scan(age: float = 70.0) -> Scan:
    return visit("new", age, radius(age), (0, 0, 0))


@pytest.mark.slow
def test_balls_shrink_with_age_and_grow_when_younger(learned):
    """No pair of scans of one person was ever seen; a third of the true change is asked."""
    future = learned.futures(scan(), [58.0, 64.0, 70.0, 76.0, 82.0], "CN")
    sizes = [sum(volumes.values()) for volumes in future.volumes()]
    assert all(a > b for a, b in zip(sizes, sizes[1:]))
    true = [(radius(age) / radius(70)) ** 3 for age in (58, 82)]
    assert sizes[0] / sizes[2] - 1 > (true[0] - 1) / 3 and 1 - sizes[-1] / sizes[2] > (1 - true[1]) / 3
    assert float(folding_fraction(future.displacements, affine=AFFINE).max()) == 0


@pytest.mark.slow
def test_where_nothing_changes_little_moves(learned):
    moved = learned.futures(scan(), [60.0, 70.0, 80.0], "CN").displacements.norm(dim=1).flatten(1).mean(1)
    assert moved[1] < moved[0] / 2 and moved[1] < moved[2] / 2


@pytest.mark.slow
def test_losses_are_kept_by_epoch_and_the_labels_aimed_at_are_reached_better(learned):
    assert {"total", "age", "smooth", "critic_r1", "critic_total"} <= learned.history.keys()
    assert all(len(values) == 6 for values in learned.history.values())
    assert learned.history["age"][-1] < learned.history["age"][0] / 2


def test_it_is_a_trajectory_model_that_looks_at_the_last_scan_alone(short):
    assert isinstance(short, TrajectoryModel)
    (one,), (two,) = (short.predict(history, [75.0], "CN") for history in ([scan()], [scan(60.0), scan()]))
    assert torch.equal(one.data, two.data)
    scan().image("T1w").check_grid(one, "test")


def test_a_new_generator_changes_nothing(short):
    """Its last layer starts next to zero; of a fit of two steps little more is left."""
    now = scan()
    (image,) = short.predict([now], [70.0], "CN")
    torch.testing.assert_close(image.data, now.image("T1w").data, atol=0.05, rtol=0)


def test_anchored_a_scan_stays_as_it_is_at_its_own_age():
    """Published, it may drift; anchored it cannot, however the weights are."""
    published, anchored = (CounterSynth(Config(**SHORT | {"anchored": a})).fit(cohort(balls(4))) for a in (False, True))
    now = scan()
    for model in (published, anchored):
        torch.nn.init.normal_(model.net.net.out.weight, std=0.05)
    assert published.futures(now, [now.age], "CN").displacements.abs().max() > 0.1
    future = anchored.futures(now, [now.age, 80.0], "CN")
    assert future.at(now.age).abs().max() == 0 and future.at(80.0).abs().max() > 0.01
    assert torch.equal(future.images()[0].data, now.image("T1w").data)


def test_brightness_and_offset_of_a_scan_do_not_matter(short):
    now = scan()
    brighter = replace(now, images={"T1w": Volume(3 * now.image("T1w").data + 2, AFFINE)})
    fields = [short.futures(one, [80.0], "CN").displacements for one in (now, brighter)]
    torch.testing.assert_close(*fields, atol=1e-4, rtol=0)


def test_the_explorer_can_ask_it(short, tmp_path):
    now = scan()
    seen = Seen([now], counted(now))
    says = Outlooks(
        Carried(short, turns=False), {"new": seen}, courses={"CN": "CN"}, years=(0, 4, 8), cache=Cache(tmp_path),
    )
    outlook = says(SimpleNamespace(id="new", age=70.0), 74.0, "CN")
    (image,) = short.predict([now], [74.0], "CN")
    torch.testing.assert_close(outlook.image.data, image.data)
    assert set(outlook.volumes) == {"hippocampus", "white_matter"}


def test_saved_and_read_back_it_says_the_same_to_the_last_bit(short, tmp_path):
    short.save(tmp_path / "model")
    again = CounterSynth.load(tmp_path / "model")
    assert again.config == short.config and again.trained_on == short.trained_on and again.history == short.history
    for a, b in zip(short.predict([scan()], [66.0, 80.0], "CN"), again.predict([scan()], [66.0, 80.0], "CN")):
        assert torch.equal(a.data, b.data)


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(short):
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again = CounterSynth(Config(**SHORT)).fit(cohort(balls(4)))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in short.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], value), name
    other = CounterSynth(Config(**SHORT | {"seed": 8})).fit(cohort(balls(4)))
    assert not torch.equal(other.net.state_dict()["net.out.weight"], short.net.state_dict()["net.out.weight"])


def test_without_steps_every_scan_is_met_once_an_epoch():
    model = CounterSynth(Config(**SHORT | {"steps_per_epoch": None, "batch": 3}))
    people = cohort(balls(7))
    model.fit(people)
    batches = list(model._batches(people, 1))
    assert [len(b["image"]) for b in batches] == [3, 3, 1]
    ages = sorted(s.baseline.age for s in people)
    met = torch.cat([b["labels"][:, 0] for b in batches]) * model.conditions.sd + model.conditions.mean
    assert sorted(met.tolist()) == pytest.approx(ages, abs=1e-3)


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_profiles_fit_their_grids_and_the_paper_profile_is_the_default(profile):
    config = Config.for_profile(profile)
    kept = ("contrast", "label", "smooth", "r1", "augment", "betas")
    assert all(getattr(config, name) == getattr(Config(), name) for name in kept)
    assert (config == Config()) == (profile == "paper")


def test_published_settings():
    c = Config()
    assert (c.label, c.smooth, c.r1, c.augment, c.squarings) == (1, 10, 1, 0.8, 7)
    assert (c.generator_rate, c.judge_rate, c.betas, c.batch, c.epochs) == (1e-4, 2e-5, (0.5, 0.999), 128, 2000)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda m: m.predict([], [70.0], "CN"), "a scan"),
        (lambda m: m.predict([scan()], [70.0], "CM"), "CN"),
        (lambda m: m.predict([scan()], [120.0], "CN"), "years"),
        (lambda m: m.predict([replace(scan(), age=None)], [70.0], "CN"), "age"),
        (lambda m: m.predict([replace(scan(), images={"T1w": Volume(torch.ones(1, 4, 4, 4), AFFINE)})], [70.0], "CN"),
         "new/70"),
        (lambda m: CounterSynth(Config(**SHORT)).predict([scan()], [70.0], "CN"), "fitted"),
        (lambda m: Config(schedule="linea"), "linear"),
        (lambda m: Config(batch=0), "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(short, ask, words):
    with pytest.raises(NbkitError, match=words):
        ask(short)
