"""BrLP on heads that are balls: the same twice, told what it should be, and saved with every constant."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Forecast, TrajectoryModel
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.nets.autoencoder import Autoencoder, LatentSpace, draw_weights
from nbkit.papers.brlp.brlp import BrLP, Config
from tests.papers.trajectories.ageing_balls import AFFINE, SHAPE, cohort, people

TINY = Config.for_profile(
    "smoke", regions=("hippocampus", "white_matter"), diffusion_steps=2, control_steps=2, samples=3, device="cpu",
)


def new_space() -> LatentSpace:
    net = draw_weights(Autoencoder((4, 4, 4), latent_channels=2, res_blocks=1, groups=4), torch_generator(1))
    return LatentSpace(net.eval(), SHAPE, AFFINE, peak=1.0, scale=0.3)


@pytest.fixture(scope="module")
def balls() -> Cohort:
    sexes = ("F", "M", None, "F")
    both = people(2, "HC", seed=1) + people(2, "AD", seed=2)
    return cohort([replace(p, sex=sex) for p, sex in zip(both, sexes, strict=True)])


@pytest.fixture(scope="module")
def model(balls) -> BrLP:
    return BrLP(TINY, space=new_space()).fit(balls)


class Ruler:
    """A segmenter that counts what is bright."""

    def volumes(self, image: Volume, *, mask: Volume) -> dict[str, float]:
        bright = image.data[mask.data.bool()] > 0.5
        share = float(bright.float().sum()) + 1
        return {"hippocampus_left": 64 * share, "white_matter_left": 64 * float(mask.data.sum())}


def test_it_forecasts_on_the_persons_grid(model, balls):
    assert isinstance(model, TrajectoryModel)
    person = balls.subjects[0]
    images = model.predict((person.baseline,), (70.0, 75.0), "CN")
    for image in images:
        person.baseline.image("T1w").check_grid(image, "test")
        assert image.data.dtype == torch.float32 and float(image.data.min()) >= 0
        assert not image.data[~person.baseline.mask("brain").data].any()
    assert not torch.equal(images[0].data, images[1].data)


def test_the_average_of_the_samples_is_what_is_decoded(model, balls):
    person = balls.subjects[1]
    [forecast] = model.predict_with_uncertainty(
        person.scans, (74.0,), "CN", measure=lambda image: {"sum": float(image.data.sum())}
    )
    [image] = model.predict(person.scans, (74.0,), "CN")
    assert isinstance(forecast, Forecast) and torch.equal(forecast.image.data, image.data)
    assert forecast.draws["sum"].shape == (3,) and np.ptp(forecast.draws["sum"]) > 0
    assert float(forecast.sd.data.max()) > 0 and forecast.sd.shape == SHAPE


def test_other_batches_other_company_same_forecast(model, balls):
    person = balls.subjects[2]
    [alone] = model.predict((person.baseline,), (71.0,), "AD")
    torch.rand(5)
    together = model.predict((person.baseline,), (69.0, 71.0), "AD")[1]
    torch.testing.assert_close(alone.data, together.data, rtol=1e-4, atol=1e-5)
    first, second = model._draw((person.baseline,), (71.0,), "AD"), model._draw((person.baseline,), (71.0,), "AD")
    assert torch.equal(first, second)
    one = model.sampling(samples=1)._draw((person.baseline,), (71.0,), "AD")
    torch.testing.assert_close(one[0, 0], first[0, 0], rtol=1e-4, atol=1e-5)


def test_the_spread_of_the_average_falls_with_the_number_of_samples(model, balls):
    latents = model.sampling(samples=64)._draw((balls.subjects[0].baseline,), (72.0,), "CN")[0].double()
    single = latents.var(dim=0).mean()
    for m in (4, 16):
        averaged = latents.unflatten(0, (64 // m, m)).mean(dim=1).var(dim=0).mean()
        assert float(averaged / single) == pytest.approx(1 / m, rel=0.5)


def test_diagnosis_sex_and_volumes_are_told(model, balls):
    person = balls.subjects[0]
    latents = {d: model._draw((person.baseline,), (74.0,), d) for d in ("CN", "SMC", "AD")}
    assert torch.equal(latents["CN"], latents["SMC"]) and not torch.equal(latents["CN"], latents["AD"])
    volumes = {d: model.expected_volumes((person.baseline,), (74.0,), d)[0] for d in ("CN", "AD")}
    assert (volumes["AD"] < volumes["CN"]).all()
    told = model.telling(balls)
    assert told.sexes == {"HC0": "F", "HC1": "M", "AD1": "F"} and model.sexes == {}
    with pytest.raises(NbkitError, match="BrLP.sampling.*Did you mean 'samples'"):
        model.sampling(sample=1)


def test_forecasts_start_from_the_last_scan_not_after_the_age(model, balls):
    early, late = balls.subjects[0].scans
    both = model._draw((late, early), (late.age - 1, late.age + 1), "CN")
    before = model._draw((early, replace(late, images={"T1w": early.image("T1w")})), (late.age - 1,), "CN")
    torch.testing.assert_close(both[0], before[0], rtol=1e-4, atol=1e-5)
    blank = replace(early, images={"T1w": Volume(torch.zeros(1, *SHAPE), AFFINE)})
    after = model._draw((blank, late), (late.age - 1, late.age + 1), "CN")
    assert torch.equal(both[1], after[1]) and not torch.equal(both[0], after[0])


def test_anchored_what_the_autoencoder_loses_of_the_scan_stands_in_the_forecast(model, balls):
    subject = balls.subjects[0]
    anchored, history, age = model.sampling(anchored=True), subject.scans[:2], subject.scans[1].age + 0.5
    plain, kept = (m.predict(history, [age], subject.diagnosis)[0] for m in (model, anchored))
    image, z = history[1].image("T1w"), model.space.encode(history[1].image("T1w"))
    lost = image.data - model.space.decode(z).data
    inside = history[0].mask("brain").data.bool() | history[1].mask("brain").data.bool()
    decoded = model.space.decode(model._draw(history, [age], subject.diagnosis)[0].mean(dim=0)).data
    torch.testing.assert_close(kept.data, (decoded + lost).clamp(min=0) * inside)
    assert not torch.equal(plain.data, kept.data) and "anchored" in kept.history[-1]


def test_saved_and_read_back_it_says_the_same(model, balls, tmp_path):
    model.save(tmp_path / "brlp")
    again = BrLP.load(tmp_path / "brlp")
    history = (balls.subjects[3].baseline,)
    for a, b in zip(model.predict(history, (73.0,), "AD"), again.predict(history, (73.0,), "AD"), strict=True):
        assert torch.equal(a.data, b.data)
    assert again.trained_on == model.trained_on and again.ages == model.ages
    record = json.loads((tmp_path / "brlp" / "model.json").read_text())["constants"]
    assert record["covariates"]["low"] == model.covariates.low.tolist()
    assert record["latent_scale"] == 0.3 and record["autoencoder"]["widths"] == [4, 4, 4]


def test_fitting_again_gives_the_same_weights(model, balls):
    again = BrLP(TINY, space=new_space()).fit(balls)
    found = again.net.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in model.net.state_dict().items())
    assert all(p.requires_grad for p in again.net.parameters())


def test_the_controlnet_trains_while_the_denoiser_rests(balls):
    resting = BrLP(TINY.changed(control_steps=1), space=new_space()).fit(balls).net.unet.state_dict()
    longer = BrLP(TINY.changed(control_steps=3), space=new_space()).fit(balls).net
    assert all(torch.equal(value, resting[name]) for name, value in longer.unet.state_dict().items())
    assert any(bool(block.conv.weight.any()) for block in list(longer.control.controlnet_down_blocks)[1:])


def spoil(path, change):
    record = json.loads((path / "model.json").read_text())
    change(record["constants"])
    record = {k: v for k, v in record.items() if k not in ("weights", "checksum")}  # an earlier version wrote neither
    (path / "model.json").write_text(json.dumps(record))


def test_a_checkpoint_that_does_not_fit_is_refused(model, balls, tmp_path):
    path = tmp_path / "brlp"
    model.save(path)
    with pytest.raises(NbkitError, match="segmenter: expected none, as in training"):
        BrLP.load(path, segmenter=Ruler())
    spoil(path, lambda constants: constants.update(latent_scale=0.25))
    with pytest.raises(NbkitError, match="latent_scale: expected 0.3.*found 0.25"):
        BrLP.load(path)
    spoil(path, lambda constants: constants.update(latent_scale=0.3, affine=np.eye(4).tolist()))
    with pytest.raises(NbkitError, match="affines that differ"):
        BrLP.load(path).predict((balls.subjects[0].baseline,), (70.0,), "CN")
    spoil(path, lambda constants: constants.pop("covariates"))
    with pytest.raises(NbkitError, match="constants: .*'covariates'"):
        BrLP.load(path)


@pytest.mark.parametrize("found", ["missing", "unexpected"])
def test_missing_and_unexpected_weights_are_named(model, tmp_path, found):
    model.save(tmp_path / "brlp")
    weights = load_file(tmp_path / "brlp" / "weights.safetensors")
    name = {"missing": "net.control.conv_in.conv.weight", "unexpected": "net.stray"}[found]
    if found == "missing":
        del weights[name]
    else:
        weights[name] = torch.zeros(1)
    save_file(weights, tmp_path / "brlp" / "weights.safetensors")
    with pytest.raises(NbkitError, match=name):
        BrLP.load(tmp_path / "brlp")


def test_volumes_from_a_segmenter(balls, tmp_path):
    bare = cohort([replace(p, scans=tuple(replace(s, labels=None) for s in p.scans)) for p in balls])
    with pytest.raises(NbkitError, match="HC0/.*labels: expected a label map, or a segmenter, found neither"):
        BrLP(TINY, space=new_space()).fit(bare)
    model = BrLP(TINY, space=new_space(), segmenter=Ruler()).fit(bare)
    model.save(tmp_path / "brlp")
    with pytest.raises(NbkitError, match="segmenter: expected one, as in training"):
        BrLP.load(tmp_path / "brlp")
    history = (bare.subjects[0].baseline,)
    again = BrLP.load(tmp_path / "brlp", segmenter=Ruler())
    assert torch.equal(again.predict(history, (70.0,), "CN")[0].data, model.predict(history, (70.0,), "CN")[0].data)


def test_the_cortex_is_the_sum_of_its_lobes(balls):
    scan = balls.subjects[0].baseline
    names = {1: "frontal_left", 2: "parietal_right"}
    counts = [float((scan.labels.data == code).sum()) * 64 for code in (1, 2)]
    everything = dict(enumerate(("temporal_left", "occipital_left", "limbic_right"), 3)) | names
    found = BrLP(TINY.changed(regions=("cortex",)), space=new_space()).volumes(replace(scan, label_names=everything))
    assert found.tolist() == pytest.approx([sum(counts)])
    with pytest.raises(NbkitError, match="region: expected one of .*found 'temporal'"):
        BrLP(TINY.changed(regions=("cortex",)), space=new_space()).volumes(replace(scan, label_names=names))


def test_bad_requests_are_refused(model, balls):
    person = balls.subjects[0]
    with pytest.raises(NbkitError, match="BrLP: history: expected at least one scan"):
        model.predict((), (70.0,), "CN")
    with pytest.raises(NbkitError, match="one of AD, CN, EMCI, LMCI, MCI, SMC, found 'LMC'. Did you mean 'LMCI'"):
        model.predict((person.baseline,), (70.0,), "LMC")
    with pytest.raises(NbkitError, match="group: expected one of AD, CN, found 'MCI'"):
        model.predict((person.baseline,), (70.0,), "EMCI")
    with pytest.raises(NbkitError, match="BrLP: ages: expected ages from .* found 99"):
        model.predict((person.baseline,), (99.0,), "CN")
    with pytest.raises(NbkitError, match="age: expected an age in years"):
        model.predict((replace(person.baseline, age=None),), (70.0,), "CN")
    with pytest.raises(NbkitError, match="at least 2 for a spread"):
        model.sampling(samples=1).predict_with_uncertainty((person.baseline,), (70.0,), "CN")
    with pytest.raises(NbkitError, match="expected a fitted model"):
        BrLP(TINY, space=new_space()).predict((person.baseline,), (70.0,), "CN")
    with pytest.raises(NbkitError, match="BrLP: space: expected a trained autoencoder"):
        BrLP(TINY).fit(balls)


def test_nobody_scanned_twice_is_refused(balls):
    once = cohort([replace(p, scans=p.scans[:1]) for p in balls])
    with pytest.raises(NbkitError, match="scanned at two ages"):
        BrLP(TINY, space=new_space()).fit(once)


def test_settings():
    paper = Config.for_profile("paper")
    assert (paper.widths, paper.samples, paper.ddim_steps, paper.prediction) == ((256, 512, 768), 64, 25, "epsilon")
    with pytest.raises(NbkitError, match="prediction.*Did you mean 'epsilon'"):
        Config(prediction="epsilom")
    with pytest.raises(NbkitError, match="schedule"):
        Config(schedule="cosines")
