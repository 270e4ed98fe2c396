"""DaniNet on heads that are discs whose hole grows and whose rim darkens, faster in the ill."""

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
from nbkit.papers.daninet.constraints import mixed_age, monotone_loss, regional_loss
from nbkit.papers.daninet import VARIANTS, Config, DaniNet
from nbkit.papers.daninet.regional_regression import fit_regional_rates

SIZE, SPACING = 32, 6.0
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
PACE = {"CN": 0.004, "MCI": 0.008, "AD": 0.016}
"""Loss of brightness per year."""
SMALL = {"device": "cpu", "epochs": 3, "transfer_steps": 3}


def picture(age: float, *, pace: float, shift: np.ndarray) -> torch.Tensor:
    """(1, S, S, 1): a disc as bright as the age allows, with a dark hole that grows as it dims, 0 outside."""
    lost = pace * (age - 60)
    across = np.arange(SIZE) - (SIZE - 1) / 2
    r = np.hypot(*np.meshgrid(across - shift[0], across - shift[1], indexing="ij"))
    hole = np.clip(r - 3 - 8 * lost + 0.5, 0.3, 1)
    return torch.from_numpy(100 * (1 - lost) * hole * np.clip(12.5 - r, 0, 1)).float()[None, ..., None]


def scan(name: str, age: float, *, pace: float, shift: np.ndarray) -> Scan:
    image = picture(age, pace=pace, shift=shift)
    return Scan(name, f"{age:g}", age, {"T1w": Volume(image, AFFINE)}, {"brain": Volume(image > 0, AFFINE)})


def subject(name: str, diagnosis: str, ages=(61.0, 66.0, 74.0)) -> Subject:
    rng = numpy_generator(3, name)
    pace, shift = PACE[diagnosis] * rng.uniform(0.9, 1.1), rng.uniform(-1, 1, 2)
    return Subject(name, None, diagnosis, tuple(scan(name, a, pace=pace, shift=shift) for a in ages))


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    people = [
        subject(f"{d}{k}", d, ages=(60.0 + k, 66.0 + k, 75.0 + k)) for d in ("CN", "AD", "MCI") for k in range(3)
    ]
    return Cohort("discs", tuple(people), "embedded", {"data_hash": "discs"})


@pytest.fixture(scope="module")
def model(cohort) -> DaniNet:
    return DaniNet(Config.for_profile("smoke", **SMALL)).fit(cohort)


@pytest.fixture(scope="module")
def plain(cohort) -> DaniNet:
    return DaniNet(Config.variant("[9]", "smoke", **SMALL)).fit(cohort)


@pytest.fixture(scope="module")
def newcomers() -> list[Subject]:
    return [subject(f"new{d}{k}", d) for d in ("CN", "AD") for k in range(2)]


def test_it_is_a_trajectory_model_on_the_grid_of_the_slices(model, newcomers):
    assert isinstance(model, TrajectoryModel)
    history = newcomers[0].scans[:1]
    images = model.predict(history, [64.0, 74.0], "CN")
    for image, age in zip(images, (64, 74), strict=True):
        image.check_grid(history[0].image("T1w"), "test")
        assert image.data.dtype == torch.float32 and 0 <= float(image.data.min()) < float(image.data.max())
        assert not image.data[~history[0].mask("brain").data].any()
        assert image.history == (f"DaniNet P-C-T at {age} years from a slice at 61",)
    assert not torch.equal(images[0].data, images[1].data)
    assert float(images[0].data.max()) > 5, "in the scans' unit, where white matter is 100"


def test_it_learns_its_people(cohort):
    """After some hundred steps it is nearer to everybody than the mean slice is."""
    c = Config.variant("C", "smoke", device="cpu", epochs=150, learning_rate=4e-3)
    model = DaniNet(c).fit(cohort)
    scans = [p.scans[1] for p in cohort]
    images = [model.predict([s], [s.age], p.diagnosis) for s, p in zip(scans, cohort, strict=True)]
    truth = torch.stack([s.image("T1w").data for s in scans])
    found = torch.stack([row[0].data for row in images])
    error, spread = (found - truth).abs().mean(), (truth - truth.mean(dim=0)).abs().mean()
    assert model.history["loss"][-1] < 0.2 * model.history["loss"][0]
    assert error < spread


def test_tuning_brings_the_own_slice_nearer(plain, newcomers):
    person = newcomers[0]
    history, error = person.scans[:1], {}
    for on in (False, True):
        tuned = plain.transferring(on, transfer_steps=60, transfer_learning_rate=5e-3)
        image = tuned.predict(history, [61.0], "CN")[0]
        error[on] = float((image.data - history[0].image("T1w").data).square().mean())
    assert error[True] < 0.5 * error[False]


def test_the_constraints_lose_less_after_tuning_with_them(model, newcomers):
    """P in T: of two tunings to the same slice, the one that knows the constraints breaks them less."""
    person, bins, c = newcomers[0], model.bins, model.config
    unbound = model.transferring(True, transfer_steps=60, transfer_learning_rate=5e-3)
    bound = model.transferring(True, transfer_steps=60, transfer_learning_rate=5e-3)
    unbound.rates, own = None, torch.tensor([bins.index(61.0)])
    unbound._sequences = type(model._sequences)(4)
    lost = []
    for tuned in (bound, unbound):
        images = tuned.personalised(person.scans[:1], ["CN"]) / model.frame.peak
        region = regional_loss(images, own, torch.tensor([0]), masks=model.rates.masks, ratios=model.rates.ratios)
        lost.append(float(region * c.region_weight + monotone_loss(images, own) * c.voxel_weight))
    assert lost[0] < 0.7 * lost[1]


def test_people_together_are_people_alone(model, newcomers):
    scans, told = [p.baseline for p in newcomers], [p.diagnosis for p in newcomers]
    together = model.transferring(True, subjects_at_once=3).personalised(scans, told)
    for images, scan_, diagnosis in zip(together, scans, told, strict=True):
        alone = model.transferring(True, subjects_at_once=1).personalised([scan_], [diagnosis])
        torch.testing.assert_close(images, alone[0], rtol=1e-3, atol=1e-2)


def test_only_the_last_scan_is_looked_at(model, newcomers):
    first, second, _ = newcomers[1].scans
    both, alone = (model.predict(h, [68.0], "AD")[0] for h in ((second, first), (second,)))
    assert torch.equal(both.data, alone.data)
    assert not torch.equal(both.data, model.predict((first,), [68.0], "AD")[0].data)


def test_an_age_between_bins_is_the_mixture_of_their_images(model, newcomers):
    scan_, centres = newcomers[0].baseline, model.bins.centres
    images, inside = model.personalised([scan_], ["CN"]), scan_.mask("brain").data[0, ..., 0]
    assert images.shape == (1, len(centres), SIZE, SIZE)
    at = model.predict([scan_], [centres[1], 0.25 * centres[1] + 0.75 * centres[2], centres[0] - 4], "CN")
    for found, expected in zip(at, (images[0, 1], images[0, 1] / 4 + images[0, 2] * 3 / 4, images[0, 0]), strict=True):
        torch.testing.assert_close(found.data[0, ..., 0], expected * inside, rtol=1e-5, atol=1e-4)
    mixed = mixed_age(images, torch.tensor([1]), torch.tensor([0.25]))
    torch.testing.assert_close(at[1].data[0, ..., 0], mixed[0] * inside, rtol=1e-5, atol=1e-4)


def test_people_are_tuned_once(model, newcomers, monkeypatch):
    asked = []
    twin = model.transferring(True, margin=9.0)
    made = twin._generate
    monkeypatch.setattr(twin, "_generate", lambda slices: asked.append(len(slices)) or made(slices))
    a, b = newcomers[0].baseline, newcomers[1].baseline
    twin.personalised([a, b], ["CN", "CN"])
    twin.predict([a], [70.0], "CN")
    twin.personalised([b, a, a], ["AD", "CN", "CN"])
    other = replace(a, masks={"brain": Volume(a.mask("brain").data & (a.image("T1w").data > 50), AFFINE)})
    twin.predict([other], [70.0], "CN")
    assert asked == [2, 1, 1], "the same slice with another diagnosis, or another mask, is tuned anew"
    assert len(model.transferring(False).personalised([a], ["CN"])) == 1


def test_the_diagnosis_is_told_under_c_only(model, plain, newcomers):
    scan_ = newcomers[0].baseline
    for told, same in ((model.transferring(False), False), (plain, True)):
        cn, ad = (told.predict([scan_], [70.0], d)[0].data for d in ("CN", "AD"))
        assert torch.equal(cn, ad) == same
    assert torch.equal(*(model.predict([scan_], [70.0], d)[0].data for d in ("EMCI", "LMCI")))


def test_variants_of_table_1_differ_by_their_switches_alone():
    switches = ("progression", "clinical", "transfer")
    configs = {name: Config.variant(name, "laptop", seed=3) for name in VARIANTS}
    assert len({tuple(getattr(c, s) for s in switches) for c in configs.values()}) == len(VARIANTS) == 8
    for name, config in configs.items():
        rest = {k: v for k, v in config.as_dict().items() if k not in switches}
        assert config.name == name
        assert rest == {k: v for k, v in configs["[9]"].as_dict().items() if k not in switches}
    assert Config.variant("P-C-T") == Config() == Config.for_profile("paper")
    own = Config.variant("[9]")  # at the paper's size what its authors built, smaller DaniNet without its parts
    assert (own.latent, own.deformation) == (50, "own") and Config.variant("T").latent == 200
    with pytest.raises(NbkitError, match="Did you mean 'P-C-T'"):
        Config.variant("P-C-TT")


def test_without_p_no_regressor_is_asked_for(cohort, plain, monkeypatch):
    assert plain.rates is None

    def refuse(*args, **kwargs):
        raise AssertionError("regional rates were fitted")

    monkeypatch.setattr("nbkit.papers.daninet.daninet.fit_regional_rates", refuse)
    once = replace(cohort, subjects=tuple(replace(p, scans=p.scans[k % 3 : k % 3 + 1]) for k, p in enumerate(cohort)))
    DaniNet(Config.variant("C-T", "smoke", **SMALL | {"epochs": 1})).fit(once)
    with pytest.raises(AssertionError, match="were fitted"):
        DaniNet(Config.variant("P", "smoke", **SMALL)).fit(cohort)


def test_the_regressors_see_that_the_ill_darken_faster(model):
    ratios, c = model.rates.ratios, model.config
    assert ratios.shape == (4, c.ages, c.ages, c.regions) and model.rates.masks.shape == (c.regions, SIZE, SIZE)
    healthy, ill = ratios[0, 0, -1].mean(), ratios[3, 0, -1].mean()
    assert ill < healthy - 0.05 and healthy < 1


def test_the_regressors_know_the_diagnosis_without_c_too(cohort, monkeypatch):
    """Section 2.4: their inputs are both ages and the diagnosis, whatever the network is told."""
    told = []

    def listen(people, **more):
        told.extend(code for _, _, code in people)
        return fit_regional_rates(people, **more)

    monkeypatch.setattr("nbkit.papers.daninet.daninet.fit_regional_rates", listen)
    model = DaniNet(Config.variant("P-T", "smoke", **SMALL | {"epochs": 1})).fit(cohort)
    assert told == [0] * 3 + [3] * 3 + [2] * 3
    scan_ = subject("new", "CN").baseline
    cn, ad = (model.transferring(False).predict([scan_], [70.0], d)[0].data for d in ("CN", "AD"))
    assert torch.equal(cn, ad), "the network itself is not told"
    cn, ad = (model.predict([scan_], [70.0], d)[0].data for d in ("CN", "AD"))
    assert not torch.equal(cn, ad), "the constraints of T are"


def test_save_load_predict_is_identical(model, plain, newcomers, tmp_path):
    for name, one in (("full", model), ("plain", plain)):
        one.save(tmp_path / name)
        again = DaniNet.load(tmp_path / name)
        a, b = (m.predict(newcomers[1].scans[:1], [63.0, 75.0], "AD") for m in (one, again))
        assert all(torch.equal(x.data, y.data) for x, y in zip(a, b, strict=True))
        assert (again.config, again.trained_on, again.codes) == (one.config, one.trained_on, one.codes)
        assert again.bins == one.bins and again.frame.peak == one.frame.peak
        assert torch.equal(again.frame.scaled(newcomers[0].baseline), one.frame.scaled(newcomers[0].baseline))
    again = DaniNet.load(tmp_path / "full")
    assert torch.equal(again.rates.ratios, model.rates.ratios) and torch.equal(again.rates.masks, model.rates.masks)


def test_same_seed_same_model(cohort, model):
    again = DaniNet(model.config).fit(cohort)
    assert all(torch.equal(x, y) for x, y in zip(again.net.parameters(), model.net.parameters(), strict=True))
    other = DaniNet(model.config.changed(seed=8, epochs=1)).fit(cohort)
    assert not torch.equal(next(other.net.parameters()), next(model.net.parameters()))


@pytest.mark.parametrize(("change", "words"), [
    ({"rates.masks": None}, r"rates\.masks.*no such tensor"), ({"extra": torch.zeros(1)}, "extra"),
    ({"net.generator.dense.bias": torch.zeros(3)}, r"net\.generator\.dense\.bias: expected shape"),
    ({"rates.bins": torch.tensor([50.0, 90.0, 5.0]).double()}, r"rates\.bins: expected .*as in model\.json"),
])
def test_a_checkpoint_that_does_not_fit_is_refused(model, tmp_path, change, words):
    model.save(tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "weights.safetensors") | change
    save_file({k: v for k, v in tensors.items() if v is not None}, tmp_path / "model" / "weights.safetensors")
    with pytest.raises(NbkitError, match=words):
        DaniNet.load(tmp_path / "model")


@pytest.mark.parametrize(("path", "words"), [
    (["frame"], "constants.*'frame'"), (["bins"], "constants.*'bins'"), (["codes"], "constants.*'codes'"),
    (["frame", "peak"], "model: frame: constants.*'peak'"), (["bins", "count"], "model: bins: constants.*'count'"),
])
def test_a_constant_that_is_missing_is_refused(model, tmp_path, path, words):
    model.save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    record = json.loads(file.read_text())
    held = record["constants"]
    for name in path[:-1]:
        held = held[name]
    del held[path[-1]]
    file.write_text(json.dumps(record))
    with pytest.raises(NbkitError, match=words):
        DaniNet.load(tmp_path / "model")


@pytest.mark.parametrize(("ages", "diagnosis", "words"), [
    ([90.0], "CN", "DaniNet: ages: expected ages from 55 to 82 years, found 90"),
    ([70.0], "CM", "found 'CM'. Did you mean 'CN'"),
    ([70.0], "SMC", "DaniNet: diagnosis: expected one of CN, EMCI, MCI, LMCI, AD, found 'SMC'"),
])
def test_what_cannot_be_predicted_is_refused(model, newcomers, ages, diagnosis, words):
    with pytest.raises(NbkitError, match=words):
        model.predict(newcomers[0].scans[:1], ages, diagnosis)


def test_bad_scans_are_refused(model, newcomers):
    first = newcomers[0].baseline
    elsewhere = replace(first, images={"T1w": Volume(first.image("T1w").data, 2 * AFFINE)})
    for history, words in (
        ([], "at least one scan"), ([elsewhere], "affines that differ"),
        ([replace(first, age=None)], "age: expected an age in years"), ([replace(first, age=40.0)], "found 40"),
    ):
        with pytest.raises(NbkitError, match=words):
            model.predict(history, [70.0], "CN")
    with pytest.raises(ValueError, match="longer than"):
        model.personalised([first], ["CN", "AD"])
    with pytest.raises(NbkitError, match="Call fit"):
        DaniNet(model.config).predict([first], [70.0], "CN")
    with pytest.raises(NbkitError, match="Did you mean 'transfer_steps'"):
        model.transferring(True, transfer_step=3)


def test_training_needs_follow_up_ages_and_slices_of_its_size(cohort):
    config = Config.for_profile("smoke", **SMALL)
    once = replace(cohort, subjects=tuple(replace(p, scans=p.scans[:1]) for p in cohort))
    with pytest.raises(NbkitError, match="somebody scanned at two ages"):
        DaniNet(config).fit(once)
    first = cohort.subjects[0]
    ageless = replace(first, scans=tuple(replace(s, age=None) for s in first.scans))
    with pytest.raises(NbkitError, match="CN0/60: age"):
        DaniNet(config).fit(replace(cohort, subjects=(ageless,)))
    with pytest.raises(NbkitError, match="CN0/60: T1w: expected a slice 64×64×1, found 32×32×1"):
        DaniNet(Config.for_profile("laptop", device="cpu")).fit(cohort)
    with pytest.raises(NbkitError, match="Did you mean 'CN'"):
        DaniNet(config).fit(replace(cohort, subjects=(replace(first, diagnosis="CM"),)))


def test_settings():
    c = Config()
    weights = [getattr(c, f"{name}_weight") for name in ("deformation", "latent", "image", "voxel", "region")]
    assert weights == [0.2, 3e-4, 3e-4, 3e-4, 3e-4]
    assert (c.latent, c.ages, c.regions, c.learning_rate, c.beta1) == (200, 10, 128, 2e-4, 0.5)
    assert (c.batch, c.epochs, c.size, c.transfer_steps) == (100, 3_000, 128, 200)
    for bad, words in (({"schedule": "liner"}, "linear"), ({"constrained": 0.0}, "share")):
        with pytest.raises(NbkitError, match=words):
            Config(**bad)


def test_the_paper_profile_does_what_the_paper_says_and_small_ones_say_otherwise():
    c, ours = Config(), Config.for_profile("laptop")
    assert (c.intensities, c.diagnosis_form, c.constrained, c.deformation) == ("z-scores", "number", 1.0, "mixture")
    assert (ours.intensities, ours.diagnosis_form, ours.constrained) == ("peak", "one_hot", 0.1)


@pytest.mark.parametrize("change", [
    {"intensities": "z-scores"}, {"diagnosis_form": "number"}, {"constrained": 1.0}, {"deformation": "own"},
])
def test_each_reading_makes_another_model(cohort, model, newcomers, change, tmp_path):
    other = DaniNet(model.config.changed(**change)).fit(cohort)
    history = newcomers[0].scans[:1]
    images = [m.predict(history, [68.0], "CN")[0].data for m in (model, other)]
    assert not torch.equal(*images)
    other.save(tmp_path / "other")
    assert torch.equal(DaniNet.load(tmp_path / "other").predict(history, [68.0], "CN")[0].data, images[1])


def test_in_its_own_bin_an_age_is_the_bins_image(plain, newcomers):
    hard = plain.transferring(False)
    hard.config = hard.config.changed(deformation="own")
    scan_, centre = newcomers[0].baseline, float(plain.bins.centres[1])
    images = hard.personalised([scan_], ["CN"])[0] * scan_.mask("brain").data[0, ..., 0]
    for years in (-1.0, 0.0, 1.0):
        assert torch.equal(hard.predict([scan_], [centre + years], "CN")[0].data[0, ..., 0], images[1])
