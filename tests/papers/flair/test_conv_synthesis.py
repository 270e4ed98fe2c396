"""The convolutional synthesisers on a tiny cohort whose target is a known function of its inputs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, ModalitySynthesizer, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.papers.flair.conv_synthesis import BRAIN, Config, ConvSynthesizer, build_network, masked_mse
from nbkit.papers.flair.saliency import p3s_maps, saliency_shares

SHAPE = (22, 21, 15)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SMALL = {"inputs": ("T1w", "T2w"), "slim": 8, "crop": (10, 10, 8), "crops_per_epoch": 12, "batch": 4, "epochs": 20,
         "learning_rate": 0.02, "momentum": 0.9, "clip": 0.3, "half": False, "device": "cpu", **BRAIN}


def smooth(name, shape=SHAPE):
    field = torch.randn(1, 1, *shape, generator=torch_generator(5, name), dtype=torch.float64)
    return filter_separable(field, (gaussian_kernel(0.8),) * 3)[0].float() * 2


def scan(name):
    t1, t2 = 300 + 80 * smooth(name + "a"), 500 + 150 * smooth(name + "b")
    brain = torch.zeros(1, *SHAPE, dtype=torch.bool)
    brain[:, 2:-1, 1:-2, 1:-1] = True
    flair = 100 + 0.2 * t1 + 0.1 * t2
    lesions = brain & (smooth(name + "c") > 0.5)
    images = {n: Volume(v, AFFINE) for n, v in (("T1w", t1), ("T2w", t2), ("FLAIR", flair))}
    return Scan(name, "1", None, images, {"brain": Volume(brain, AFFINE), "lesions": Volume(lesions, AFFINE)})


@pytest.fixture(scope="module")
def cohort():
    names = [f"sub-{i}" for i in range(5)]
    return Cohort("toy", tuple(Subject(n, None, "MS", (scan(n),)) for n in names), "embedded", {"data_hash": "toy"})


def error(model, subject):
    s = subject.baseline
    prediction = model.synthesize(s.images, mask=s.mask("brain"))
    inside = s.mask("brain").data
    truth = s.image("FLAIR").data[inside]
    return float((prediction.data[inside] - truth).square().mean() / truth.var())


@pytest.fixture(scope="module")
def fitted(cohort):
    return ConvSynthesizer(Config(**SMALL | {"epochs": 80})).fit(cohort.subset(cohort.ids[:4]))


def test_it_is_a_synthesizer_and_learns_the_relation(fitted, cohort):
    assert isinstance(fitted, ModalitySynthesizer)
    assert error(fitted, cohort.subjects[4]) < 0.1


def test_output_lies_on_the_scans_grid_with_an_empty_background(fitted, cohort):
    s = cohort.subjects[4].baseline
    out = fitted.synthesize(s.images, mask=s.mask("brain"))
    out.check_grid(s.image("T1w"), "test")
    assert not out.data[~s.mask("brain").data].any()
    assert "fcn synthesis of FLAIR" in out.history[-1]


def test_voxels_outside_the_mask_change_nothing(fitted, cohort):
    s = cohort.subjects[4].baseline
    outside = ~s.mask("brain").data
    wild = {n: v.with_data(torch.where(outside, torch.full_like(v.data, 9e3), v.data)) for n, v in s.images.items()}
    a, b = (fitted.synthesize(i, mask=s.mask("brain")).data for i in (s.images, wild))
    assert torch.equal(a, b)


def test_save_load_predict_is_identical(fitted, cohort, tmp_path):
    fitted.save(tmp_path / "model")
    again = ConvSynthesizer.load(tmp_path / "model")
    s = cohort.subjects[4].baseline
    a, b = (m.synthesize(s.images, mask=s.mask("brain")).data for m in (fitted, again))
    assert torch.equal(a, b)
    assert again.config == fitted.config
    assert again.trained_on == fitted.trained_on != ""


def test_same_seed_same_weights_whatever_runs_beside(cohort):
    models = [ConvSynthesizer(Config(**SMALL | {"epochs": 2})).fit(cohort) for _ in range(2)]
    for a, b in zip(*(m.net.state_dict().values() for m in models)):
        assert torch.equal(a, b)


def test_weights_with_a_missing_or_foreign_key_are_refused(fitted, tmp_path):
    for change, words in (({"extra": torch.zeros(1)}, "extra"), ({"0.bias": None}, r"0\.bias.*no such tensor")):
        fitted.save(tmp_path / "model")
        file = tmp_path / "model" / "weights.safetensors"
        tensors = {**load_file(file), **change}
        save_file({k: v for k, v in tensors.items() if v is not None}, file)
        with pytest.raises(NbkitError, match=words):
            ConvSynthesizer.load(tmp_path / "model")


def test_unknown_settings_in_a_checkpoint_are_refused(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    record = json.loads(file.read_text())
    record["config"]["widht"] = 3
    file.write_text(json.dumps(record))
    with pytest.raises(NbkitError, match="Did you mean 'width'"):
        ConvSynthesizer.load(tmp_path / "model")


@pytest.mark.parametrize("change", [
    {"network": "unet", "width": 16, "depth": 2}, {"network": "mlp", "width": 10, "depth": 2},
    {"normalise": "subject"}, {"over": "image"}, {"loss_over": "image"}, {"crop": None, "batch": 1},
    {"keep": "last"}, {"schedule": "linear"},
])
def test_every_variant_trains_and_predicts(cohort, change):
    model = ConvSynthesizer(Config(**SMALL | change | {"epochs": 6})).fit(cohort.subset(cohort.ids[:4]))
    assert len(model.history["loss"]) == 6
    assert model.history["loss"][-1] < model.history["loss"][0]
    assert np.isfinite(error(model, cohort.subjects[4]))


def test_relu_output_cannot_go_below_the_mean(cohort):
    """In z-scores zero is the training mean: half of the target is out of reach (science: output must be linear)."""
    model = ConvSynthesizer(Config(**SMALL | {"output": "relu", "epochs": 2})).fit(cohort)
    s = cohort.subjects[0].baseline
    out = model.synthesize(s.images, mask=s.mask("brain")).data[s.mask("brain").data]
    assert float(out.min()) >= model.standardiser.mean["FLAIR"] - 1e-3


def test_validation_cohort_drives_early_stopping(cohort):
    model = ConvSynthesizer(Config(**SMALL | {"epochs": 5}))
    model.fit(cohort.subset(cohort.ids[:3]), validation=cohort.subset(cohort.ids[3:]))
    assert model.history["epochs"] == [0, 5]
    watched = model.history["watched"]
    assert set(watched) == set(cohort.ids[3:])
    for k, mean in enumerate(model.history["validation"]):
        assert np.mean([errors[k] for errors in watched.values()]) == pytest.approx(mean)
    alone = ConvSynthesizer(Config(**SMALL | {"epochs": 5})).fit(cohort.subset(cohort.ids[:1]))
    assert alone.history["validation"] == []


def test_as_published_every_voxel_of_the_image_is_scaled_seen_and_counted(cohort):
    """What lies around the brain changes scaling, prediction and validation error, unless only the brain counts."""
    assert (Config().over, Config().loss_over) == ("image", "image")
    quiet = Cohort("quiet", tuple(dimmed(s) for s in cohort), "embedded", {"data_hash": "quiet"})
    for whole in (True, False):
        settings = SMALL | ({"over": "image", "loss_over": "image"} if whole else {}) | {"epochs": 5}
        a, b = (ConvSynthesizer(Config(**settings)).fit(c) for c in (cohort, quiet))
        assert (a.history["validation"] == b.history["validation"]) is not whole
        assert (a.standardiser.sd == b.standardiser.sd) is not whole
        scan = cohort.subjects[0].baseline
        seen, counted = a.seen(scan.images, ("T1w",), scan.mask("brain"))
        assert (seen.shape[1:] == SHAPE) is whole and counted.all()


def dimmed(subject):
    s = subject.baseline
    images = {n: v.with_data(torch.where(s.mask("brain").data, v.data, v.data / 3)) for n, v in s.images.items()}
    return replace(subject, scans=(replace(s, images=images),))


def test_masked_mse_is_the_mean_over_mask_voxels_per_subject():
    g = torch_generator(1, "m")
    a, b = torch.randn(2, 1, 3, 4, 5, generator=g), torch.randn(2, 1, 3, 4, 5, generator=g)
    mask = torch.rand(2, 1, 3, 4, 5, generator=g) > 0.5
    expected = torch.stack([((a[i] - b[i])[mask[i]] ** 2).mean() for i in range(2)])
    torch.testing.assert_close(masked_mse(a, b, mask), expected)


def test_bad_requests_are_refused_by_name(cohort, fitted):
    s = cohort.subjects[0].baseline
    with pytest.raises(NbkitError, match="fitted"):
        ConvSynthesizer(Config(**SMALL)).synthesize(s.images, mask=s.mask("brain"))
    with pytest.raises(NbkitError, match="'T2w'"):
        fitted.synthesize({"T1w": s.image("T1w")}, mask=s.mask("brain"))
    with pytest.raises(NbkitError, match="Did you mean 'unet'"):
        Config(network="u-net")
    with pytest.raises(NbkitError, match="target 'FLAIR'"):
        Config(inputs=("FLAIR",))
    shifted = {n: Volume(v.data, np.diag([2.0, 2.0, 2.0, 1.0])) for n, v in s.images.items()}
    with pytest.raises(NbkitError, match="affine"):
        fitted.synthesize(shifted, mask=s.mask("brain"))


def test_published_width_of_each_network():
    assert sum(p.numel() for p in build_network(Config()).parameters()) == 231_745
    assert sum(p.numel() for p in build_network(Config(network="unet", width=16, depth=2)).parameters()) == 375_585
    assert sum(p.numel() for p in build_network(Config(network="mlp", width=100, depth=2)).parameters()) == 10_801


def test_p3s_equals_finite_differences(fitted, cohort):
    """The map is |∂‖I − Î‖²/∂x|: move one input voxel and watch the squared error."""
    s = cohort.subjects[4].baseline
    maps = p3s_maps(fitted, s)
    inside, c = s.mask("brain").data, fitted.standardiser
    place = (0, 6, 6, 4)

    def squared_error(delta):
        t2 = s.image("T2w").data.clone().double()
        t2[place] += delta * c.sd["T2w"]
        fitted.net.double()
        out = fitted.net(fitted_inputs(fitted, s, t2))
        fitted.net.float()
        gap = out[0] - z(fitted, s, "FLAIR").double()
        return float((gap.square() * box(inside)).sum().detach())

    step = 1e-4
    expected = abs(squared_error(step) - squared_error(-step)) / (2 * step)
    assert float(maps["T2w"].data[place]) == pytest.approx(expected, rel=1e-3)
    assert min(float(m.data.min()) for m in maps.values()) >= 0
    shares = saliency_shares(maps, s.mask("brain"))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["T1w"] > 0.05


def box(t):
    return t[:, 2:-1, 1:-2, 1:-1]


def z(model, s, name, data=None):
    c = model.standardiser
    data = s.image(name).data if data is None else data
    return box((data - c.mean[name]) / c.sd[name])


def fitted_inputs(model, s, t2):
    return torch.stack([z(model, s, "T1w").double(), z(model, s, "T2w", t2)], dim=1)
