"""MRExtrap on people whose brains are balls that shrink along straight lines of radius."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject, TrajectoryModel
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.papers.mrextrap.mrextrap import Config, MRExtrap

SHAPE, AFFINE = (14, 13, 15), np.diag([4.0, 4.0, 4.0, 1.0])
RATE = {"CN": 0.05, "AD": 0.15}
"""Voxels of radius lost per year."""
SMALL = {"widths": (8, 8), "res_blocks": 1, "groups": 4, "epochs": 60, "adversarial_from": 50, "scans_per_epoch": 6,
         "batch": 1, "learning_rate": 5e-3, "schedule": "linear", "critic_widths": (4, 8), "slices": 3,
         "estimator": "bayes", "perceptual": "random", "half": False, "device": "cpu"}


def ball(radius: float, shift: np.ndarray) -> torch.Tensor:
    """(1, X, Y, Z): 100 inside a soft edge, 0 outside."""
    axes = (np.arange(n) - (n - 1) / 2 - s for n, s in zip(SHAPE, shift, strict=True))
    distance = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    return torch.from_numpy(100 * np.clip(radius + 0.5 - distance, 0, 1)).float()[None]


def scan(name: str, age: float, radius: float, shift: np.ndarray) -> Scan:
    image = ball(radius, shift)
    return Scan(name, f"{age:g}", age, {"T1w": Volume(image, AFFINE)}, {"brain": Volume(image > 0, AFFINE)})


def subject(name: str, diagnosis: str, ages=(65.0, 66.0, 67.5, 69.0)) -> Subject:
    rng = numpy_generator(3, name)
    radius, shift, pace = rng.uniform(4.8, 5.6), rng.uniform(-0.4, 0.4, 3), RATE[diagnosis] * rng.uniform(0.8, 1.2)
    return Subject(name, None, diagnosis, tuple(scan(name, a, radius - pace * (a - 65), shift) for a in ages))


def volume(image: Volume) -> dict[str, float]:
    """Partial voxels count by their share."""
    return {"ball": float((image.data / 100).clamp(0, 1).sum()) * image.voxel_volume}


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    people = [subject(f"{d}{k}", d) for d in RATE for k in range(6)]
    return Cohort("balls", tuple(people), "embedded", {"data_hash": "balls"})


@pytest.fixture(scope="module")
def model(cohort) -> MRExtrap:
    return MRExtrap(Config(**SMALL)).fit(cohort)


@pytest.fixture(scope="module")
def newcomers() -> list[Subject]:
    return [subject(f"new{d}{k}", d, ages=(65.0, 66.5, 71.0)) for d in RATE for k in range(3)]


def volume_error(images: dict[str, Volume], newcomers: list[Subject]) -> float:
    """Mean error of volume at the last visit, over the truth."""
    truth = {s.id: volume(s.scans[-1].image("T1w"))["ball"] for s in newcomers}
    return float(np.mean([abs(volume(images[i])["ball"] / truth[i] - 1) for i in truth]))


def forecasts(model: MRExtrap, newcomers: list[Subject], seen: int) -> dict[str, Volume]:
    return {s.id: model.predict(s.scans[:seen], [71.0], s.diagnosis)[0] for s in newcomers}


def test_it_is_a_trajectory_model_that_learned_its_images(model, cohort):
    assert isinstance(model, TrajectoryModel)
    baseline = cohort.subjects[0].baseline
    error = (model.reconstruct(baseline).data - baseline.image("T1w").data).abs().mean()
    assert float(error) < 0.35 * float(baseline.image("T1w").data.mean())
    assert model.history["loss"][-1] < 0.5 * model.history["loss"][0]


@pytest.mark.parametrize(("estimator", "seen"), [("bayes", 1), ("population", 1), ("bayes", 2), ("ols", 2)])
def test_forecasts_beat_no_change(model, newcomers, estimator, seen):
    copies = {s.id: s.scans[seen - 1].image("T1w") for s in newcomers}
    for anchored in (False, True):
        told = model.estimating(estimator, anchored=anchored)
        assert volume_error(forecasts(told, newcomers, seen), newcomers) < 0.5 * volume_error(copies, newcomers)


def test_two_scans_are_met_by_their_line(model, newcomers):
    """Least squares through two scans gives both reconstructions back, and anchored, the last scan itself."""
    seen = newcomers[0].scans[:2]
    ols = model.estimating("ols")
    for scan_, image in zip(seen, ols.predict(seen, [s.age for s in seen], "CN"), strict=True):
        inside = torch.stack([s.mask("brain").data for s in seen]).any(dim=0)
        wanted = ols.reconstruct(scan_).data.clamp(min=0) * inside
        torch.testing.assert_close(image.data, wanted, rtol=1e-3, atol=1e-2)
    anchored = model.estimating("ols", anchored=True).predict(seen, [seen[1].age], "CN")[0]
    torch.testing.assert_close(anchored.data, seen[1].image("T1w").data, rtol=1e-3, atol=1e-2)


def test_the_diagnosis_sets_the_pace_of_one_scan(model, newcomers):
    baseline = newcomers[0].scans[:1]
    cn, ad = (volume(model.predict(baseline, [72.0], d)[0])["ball"] for d in ("CN", "AD"))
    assert ad < 0.9 * cn


def test_images_lie_on_the_grid_with_an_empty_background(model, newcomers):
    history = newcomers[0].scans[:2]
    image = model.predict(history, [70.0], "CN")[0]
    image.check_grid(history[0].image("T1w"), "test")
    outside = ~(history[0].mask("brain").data | history[1].mask("brain").data)
    assert not image.data[outside].any() and float(image.data.min()) >= 0
    assert image.history == ("MRExtrap bayes at 70 years from 4×7×7×8 latents of 14×14×16 voxels, cropped to 14×13×15",)


def test_interpolation_of_latents(model, newcomers):
    """Eq. 2 at its ends, and volumes that fall from one to the other."""
    first, second = newcomers[-1].scans[0], newcomers[-1].scans[-1]
    found = [model.interpolate(first, second, alpha) for alpha in (1.0, 0.75, 0.5, 0.25, 0.0)]
    torch.testing.assert_close(found[0].data, model.reconstruct(first).data)
    torch.testing.assert_close(found[-1].data, model.reconstruct(second).data)
    assert (np.diff([volume(i)["ball"] for i in found]) < 0).all()


def test_uncertainty_grows_with_time_and_shrinks_with_scans(model, newcomers):
    person = newcomers[0]
    spread = {}
    for seen in (1, 2):
        told = model.predict_with_uncertainty(person.scans[:seen], [66.5, 71.0, 76.0], "CN", draws=24, measure=volume)
        assert [f.age for f in told] == [66.5, 71.0, 76.0]
        for f in told:
            torch.testing.assert_close(f.image.data, model.predict(person.scans[:seen], [f.age], "CN")[0].data)
            assert f.draws["ball"].shape == (24,) and float(f.sd.data.min()) >= 0
        spread[seen] = [f.draws["ball"].std() for f in told]
    assert spread[1][0] < spread[1][1] < spread[1][2]
    assert spread[2][1] < spread[1][1]


def test_draws_depend_on_the_person_not_on_the_ages_asked(model, newcomers):
    history = newcomers[0].scans[:2]
    a = model.predict_with_uncertainty(history, [71.0], "CN", draws=3, measure=volume)[0]
    b = model.predict_with_uncertainty(history, [68.0, 71.0], "CN", draws=3, measure=volume)[1]
    assert np.array_equal(a.draws["ball"], b.draws["ball"]) and torch.equal(a.sd.data, b.sd.data)


def test_save_load_predict_is_identical(model, newcomers, tmp_path):
    model.save(tmp_path / "model")
    again, history = MRExtrap.load(tmp_path / "model"), newcomers[0].scans[:2]
    a, b = (m.predict_with_uncertainty(history, [71.0], "CN", draws=3, measure=volume)[0] for m in (model, again))
    assert torch.equal(a.image.data, b.image.data) and torch.equal(a.sd.data, b.sd.data)
    assert (again.config, again.trained_on, again.ages) == (model.config, model.trained_on, (65.0, 69.0))
    assert again.features == "random features, seed 0"


def test_same_seed_same_model(cohort):
    short = Config(**SMALL | {"epochs": 2, "adversarial_from": 1})
    a, b = (MRExtrap(short).fit(cohort) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.space.net.parameters(), b.space.net.parameters(), strict=True))
    assert torch.equal(a.prior.slopes["CN"], b.prior.slopes["CN"])


def tampered(model: MRExtrap, path, change: dict) -> None:
    model.save(path)
    tensors = load_file(path / "weights.safetensors") | change
    save_file({k: v for k, v in tensors.items() if v is not None}, path / "weights.safetensors")


@pytest.mark.parametrize(("change", "words"), [
    ({"prior.slope.AD": None}, r"prior\.slope\.AD.*no such tensor"), ({"extra": torch.zeros(1)}, "extra"),
    ({"prior.noise": torch.zeros(4, 7, 7, 7)}, r"prior\.noise: expected shape \(4, 7, 7, 8\)"),
    ({"latent_scale": torch.ones(1, dtype=torch.float64)}, "latent_scale: expected 1.0, as beside the weights"),
])
def test_a_checkpoint_that_does_not_fit_is_refused(model, tmp_path, change, words):
    tampered(model, tmp_path / "model", change)
    with pytest.raises(NbkitError, match=words):
        MRExtrap.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["latent_scale", "peak", "groups"])
def test_a_constant_that_is_missing_is_refused(model, tmp_path, name):
    model.save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    record = json.loads(file.read_text())
    del record["constants"][name]
    file.write_text(json.dumps(record))
    with pytest.raises(NbkitError, match=name):
        MRExtrap.load(tmp_path / "model")


def test_a_scan_from_another_grid_is_refused(model, newcomers):
    scan_ = newcomers[0].scans[0]
    elsewhere = replace(scan_, images={"T1w": Volume(scan_.image("T1w").data, np.diag([2.0, 2.0, 2.0, 1.0]))})
    with pytest.raises(NbkitError, match="affines that differ"):
        model.predict([elsewhere], [70.0], "CN")


@pytest.mark.parametrize(("seen", "ages", "diagnosis", "estimator", "words"), [
    (1, [70.0], "CN", "ols", "two ages or more for 'ols', found 1 at one age"),
    (1, [70.0], "CM", "bayes", "one of AD, CN, found 'CM'. Did you mean 'CN'"),
    (1, [80.0], "CN", "bayes", "ages from 55 to 79 years, found 80"),
    (0, [70.0], "CN", "bayes", "at least one scan"),
])
def test_what_cannot_be_forecast_is_refused(model, newcomers, seen, ages, diagnosis, estimator, words):
    with pytest.raises(NbkitError, match=words):
        model.estimating(estimator).predict(newcomers[0].scans[:seen], ages, diagnosis)


def test_an_unfitted_model_says_so(newcomers):
    with pytest.raises(NbkitError, match="Call fit"):
        MRExtrap(Config(**SMALL)).predict(newcomers[0].scans, [70.0], "CN")


def test_training_needs_ages_and_follow_up(cohort):
    first = cohort.subjects[0]
    ageless = replace(first, scans=tuple(replace(s, age=None) for s in first.scans))
    with pytest.raises(NbkitError, match="CN0/65: age"):
        MRExtrap(Config(**SMALL)).fit(replace(cohort, subjects=(ageless,)))
    once = replace(cohort, subjects=tuple(replace(s, scans=s.scans[:1]) for s in cohort))
    with pytest.raises(NbkitError, match="two people of one group scanned at two ages"):
        MRExtrap(Config(**SMALL | {"epochs": 1})).fit(once)


def test_training_scans_lie_on_one_grid(cohort):
    last = cohort.subjects[-1]
    moved = replace(last.baseline, images={"T1w": Volume(last.baseline.image("T1w").data, AFFINE + np.eye(4))})
    people = (*cohort.subjects[:-1], replace(last, scans=(moved, *last.scans[1:])))
    with pytest.raises(NbkitError, match="AD5/65: T1w, against the first scan: expected the same affine"):
        MRExtrap(Config(**SMALL)).fit(replace(cohort, subjects=people))


def test_settings():
    published = Config()
    assert (published.perceptual_weight, published.adversarial_weight, published.kl_weight) == (1.0, 1e-3, 1e-6)
    assert (published.latent_channels, published.epochs, published.adversarial_from) == (4, 230, 100)
    assert published.estimator == "ols" and Config.for_profile("paper") == published
    for profile in ("smoke", "laptop"):
        c = Config.for_profile(profile)
        assert 0 < c.adversarial_from < c.epochs, "every profile trains the critic too"
    with pytest.raises(NbkitError, match="Did you mean 'bayes'"):
        Config(estimator="bayess")
    with pytest.raises(NbkitError, match="Did you mean 'linear'"):
        Config(schedule="liner")
