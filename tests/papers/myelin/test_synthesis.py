"""The myelin systems on a small cohort: what they learn, share, refuse, and do without."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.protocols import ModalitySynthesizer
from nbkit.papers.myelin.inputs import RoiClassifier
from nbkit.data.splits import folds, inner_split
from nbkit.papers.myelin.synthesis import VARIANTS, Config, MyelinSynthesizer
from nbkit.training.crossval import cross_validate
from nbkit.training.steps import NonFiniteLoss
from tests.papers.myelin.myelin_toy import INPUTS, toy_cohort

FAST = {"slim": 8, "levels": 2, "crop": (12, 12, 12), "patch": (4, 4, 4), "critic_widths": (16, 32), "epochs": 2,
        "crops_per_epoch": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def cohort():
    return toy_cohort()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache"))


def small(name: str, **changes) -> Config:
    return Config.named(name, "smoke", **FAST | changes)


def predict(model, scan, **more):
    return model.synthesize({**scan.images, **more}, mask=scan.mask("brain")).data


def error(model, subject, region="brain") -> float:
    """Mean absolute error in a region over the spread of the true image in the brain."""
    scan = subject.baseline
    truth, inside = scan.image("DVR").data, scan.mask(region).data
    return float((predict(model, scan) - truth)[inside].abs().mean() / truth[scan.mask("brain").data].std())


@pytest.fixture(scope="module")
def fitted(cohort, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = small("refiner", slim=4, epochs=8, crops_per_epoch=12)
        return MyelinSynthesizer(config).fit(cohort.subset(cohort.ids[:5]))


def test_it_learns_the_relation_and_keeps_the_grid(fitted, cohort):
    assert isinstance(fitted, ModalitySynthesizer)
    assert error(fitted, cohort.subjects[5]) < 0.4
    scan = cohort.subjects[5].baseline
    out = fitted.synthesize(scan.images, mask=scan.mask("brain"))
    out.check_grid(scan.image("MTR"), "test")
    assert not out.data[~scan.mask("brain").data].any() and "unet synthesis of DVR" in out.history[-1]
    assert list(fitted.history) == ["sketcher", "refiner1"] and len(fitted.history["refiner1"]["loss"]) == 8


def test_synthesis_is_the_same_each_time_and_blind_outside_the_brain(fitted, cohort):
    scan = cohort.subjects[5].baseline
    outside = ~scan.mask("brain").data
    wild = {n: v.with_data(torch.where(outside, torch.full_like(v.data, 1e4), v.data)) for n, v in scan.images.items()}
    assert torch.equal(predict(fitted, scan), predict(fitted, replace(scan, images=wild)))


def test_save_and_load_give_the_same_images(fitted, cohort, tmp_path):
    fitted.save(tmp_path / "model")
    again = MyelinSynthesizer.load(tmp_path / "model")
    scan = cohort.subjects[5].baseline
    assert torch.equal(predict(fitted, scan), predict(again, scan))
    assert again.config == fitted.config and again.trained_on == fitted.trained_on != ""
    assert torch.equal(again.omega, fitted.omega)


def test_foreign_and_missing_parts_of_a_checkpoint_are_refused(fitted, tmp_path):
    for change, words in (({"extra": torch.zeros(1)}, "extra"), ({"stages.1.out.bias": None}, "stages.1.out.bias")):
        fitted.save(tmp_path / "model")
        file = tmp_path / "model" / "weights.safetensors"
        tensors = {k: v for k, v in {**load_file(file), **change}.items() if v is not None}
        save_file(tensors, file)
        with pytest.raises(NbkitError, match=words):
            MyelinSynthesizer.load(tmp_path / "model")
    fitted.save(tmp_path / "model")
    record = json.loads((tmp_path / "model" / "model.json").read_text())
    del record["constants"]["omega"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(record))
    with pytest.raises(NbkitError, match="omega"):
        MyelinSynthesizer.load(tmp_path / "model")


@pytest.mark.parametrize("name", [n for n in VARIANTS if n not in ("refiner", "refiner2")])
def test_every_system_trains_and_predicts(cohort, name):
    changes = {"refinements": 2} if name == "refiner3" else {}
    model = MyelinSynthesizer(small(name, crops_per_epoch=2, epochs=1, **changes)).fit(cohort.subset(cohort.ids[:2]))
    assert np.isfinite(error(model, cohort.subjects[4]))
    assert len(model.net.stages) == model.config.refinements + 1 == len(model.history)


def test_stages_are_shared_between_systems(cohort, monkeypatch):
    trained = []
    train = MyelinSynthesizer._train

    def count(self, number, *rest):
        trained.append(number)
        return train(self, number, *rest)

    monkeypatch.setattr(MyelinSynthesizer, "_train", count)
    two = cohort.subset(cohort.ids[:2])
    models = {n: MyelinSynthesizer(small(n)).fit(two) for n in ("cgan", "refiner", "refiner2")}
    assert trained == [0, 1, 2]
    for a, b in (("cgan", "refiner"), ("refiner", "refiner2")):
        for stage, (x, y) in enumerate(zip(models[a].net.stages, models[b].net.stages)):
            for left, right in zip(x.state_dict().values(), y.state_dict().values()):
                assert torch.equal(left, right), stage
    MyelinSynthesizer(small("cgan_w")).fit(two)
    MyelinSynthesizer(small("cgan")).fit(cohort.subset(cohort.ids[1:3]))
    assert trained == [0, 1, 2, 0, 0]


@pytest.mark.parametrize("name", ["cgan", "sagan"])
def test_the_same_seed_gives_the_same_weights(cohort, name, monkeypatch, tmp_path):
    """With dropout, noise, augmentation and smoothed labels, whatever was drawn elsewhere in the process."""
    models = []
    for run in (1, 2):
        monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / str(run)))
        torch.manual_seed(run)
        models.append(MyelinSynthesizer(small(name, dropout=0.3)).fit(cohort.subset(cohort.ids[:2])))
    for a, b in zip(*(m.net.state_dict().values() for m in models)):
        assert torch.equal(a, b)


def test_a_refiner_is_given_what_the_sketcher_makes_in_synthesis(fitted, cohort):
    example = fitted.example(cohort.subjects[1].baseline)
    refined = fitted._refined(example, 0)
    sketch = MyelinSynthesizer(fitted.config.changed(refinements=0))
    sketch.reader = fitted.reader
    sketch.net.stages.append(fitted.net.stages[0])
    scan = cohort.subjects[1].baseline
    image = sketch.reader.image(refined.inputs[4], scan.mask("brain"), "sketch")
    torch.testing.assert_close(image.data, predict(sketch, scan))
    assert torch.equal(refined.inputs[:4], example.inputs)


def test_omega_counts_whole_images(fitted, cohort):
    scans = [s.baseline for s in cohort.subjects[:5]]
    lesions, nawm = (sum(int(s.mask(n).data.sum()) for s in scans) for n in ("lesions", "nawm"))
    total = sum(s.image("MTR").data.numel() for s in scans)
    shares = torch.tensor([lesions, nawm, total - lesions - nawm]) / total
    torch.testing.assert_close(fitted.omega, 1 - shares)


def test_synthesis_by_windows_changes_images_and_stays_good(fitted, cohort):
    pieces = MyelinSynthesizer(fitted.config.changed(window=(12, 12, 12)))
    pieces.reader, pieces.net = fitted.reader, fitted.net
    scan = cohort.subjects[5].baseline
    assert not torch.equal(predict(fitted, scan), predict(pieces, scan))
    assert error(pieces, cohort.subjects[5]) < 0.4


def test_incomplete_sets_train_and_predict(cohort):
    first, *rest = cohort.subjects[:4]
    less = {n: v for n, v in first.baseline.images.items() if n != "AD"}
    people = (replace(first, scans=(replace(first.baseline, images=less),)), *rest)
    some = replace(cohort, subjects=people, provenance={})
    config = small("unet", incomplete=True, slim=4, epochs=8, crops_per_epoch=12)
    model = MyelinSynthesizer(config).fit(some)
    scan = cohort.subjects[5].baseline
    full = predict(model, scan)
    only = {n: v for n, v in scan.images.items() if n == "MTR"}
    part = model.synthesize(only, mask=scan.mask("brain")).data
    truth, inside = scan.image("DVR").data, scan.mask("brain").data
    spread = truth[inside].std()
    assert not torch.equal(full, part)
    assert float((part - truth)[inside].abs().mean() / spread) < 0.7
    with pytest.raises(NbkitError, match="at least one of MTR, FA, RD, AD"):
        model.synthesize({}, mask=scan.mask("brain"))
    with pytest.raises(NbkitError, match="s0/t0: contrast: expected 'AD'"):
        MyelinSynthesizer(small("unet")).fit(some)


def bare(subject):
    scan = subject.baseline
    return replace(subject, scans=(replace(scan, masks={"brain": scan.mask("brain")}),))


def test_regions_come_from_a_segmenter_where_scans_have_none(cohort):
    some = replace(cohort, subjects=(*map(bare, cohort.subjects[:1]), *cohort.subjects[1:3]), provenance={})
    with pytest.raises(NbkitError, match="s0/t0: mask: expected 'lesions'"):
        MyelinSynthesizer(small("unet_w")).fit(some)
    assert MyelinSynthesizer(small("unet")).fit(some).history
    asked = []

    def segment(scan):
        asked.append(scan.subject)
        return RoiClassifier(INPUTS).fit(s.baseline for s in cohort)(scan)

    by_hand = MyelinSynthesizer(small("unet_w", roi_source="segmented")).fit(some, segment=segment)
    learned = MyelinSynthesizer(small("unet_w", roi_source="segmented")).fit(some)
    assert asked == ["s0"] and np.isfinite(error(by_hand, cohort.subjects[5]) + error(learned, cohort.subjects[5]))
    none = replace(cohort, subjects=tuple(map(bare, cohort.subjects)))
    with pytest.raises(NbkitError, match="found 0 scans with masks"):
        MyelinSynthesizer(small("unet_w", roi_source="segmented")).fit(none)


def test_a_validation_cohort_is_watched_and_changes_nothing(cohort):
    part, others = cohort.subset(cohort.ids[:2]), cohort.subset(cohort.ids[4:])
    watched = MyelinSynthesizer(small("cgan", validate_every=1)).fit(part, validation=others)
    alone = MyelinSynthesizer(small("cgan", validate_every=1)).fit(part)
    assert watched.history["sketcher"]["epochs"] == [0, 1, 2] and alone.history["sketcher"]["validation"] == []
    for a, b in zip(watched.net.state_dict().values(), alone.net.state_dict().values()):
        assert torch.equal(a, b)


def test_subjects_kept_for_validation_are_some_of_those_given_and_train_nothing(cohort):
    five = cohort.subset(cohort.ids[:5])
    watched = MyelinSynthesizer(small("unet", validation=2, validate_every=1)).fit(five)
    kept, aside = inner_split(five.ids, 2 / 5, seed=watched.config.seed)
    by_hand = MyelinSynthesizer(small("unet", validate_every=1)).fit(five.subset(kept), validation=five.subset(aside))
    assert len(aside) == 2 and watched.history["sketcher"]["validation"] == by_hand.history["sketcher"]["validation"]
    for a, b in zip(watched.net.state_dict().values(), by_hand.net.state_dict().values()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("changes", [
    {"crops": "grid"}, {"patch_loss": "sum"}, {"zscores": "image", "head": "leaky"}, {"dropout": 0.5},
    {"dropout": 0.5, "dropout_of": "maps"},
])
def test_published_choices_train_and_predict_and_differ_from_those_of_small_profiles(cohort, changes):
    two, scan = cohort.subset(cohort.ids[:2]), cohort.subjects[4].baseline
    usual, other = (MyelinSynthesizer(small("cgan", epochs=1, **more)).fit(two) for more in ({}, changes))
    image = predict(other, scan)
    assert torch.isfinite(image).all() and not torch.equal(image, predict(usual, scan))


def test_it_runs_in_cross_validation(cohort, tmp_path):
    def score(subject, prediction):
        return {"mean": float(prediction.data.mean())}

    done = cross_validate(
        {"refiner": MyelinSynthesizer(small("refiner", epochs=1))}, cohort, folds=folds(cohort, 2, seed=1),
        score=score, cache=Cache(tmp_path), n_jobs=2, progress=False,
    )["refiner"]
    assert set(done.scores["mean"]) == set(cohort.ids)
    assert done.histories["fold1"].keys() == {"sketcher", "refiner1"}


def test_published_settings():
    unet, sagan = Config.named("refiner"), Config.named("sagan_refiner")
    assert (unet.learning_rate, unet.refiner_learning_rate, unet.epochs, unet.crop) == (1e-4, 5e-5, 400, None)
    assert (sagan.epochs, sagan.crop, sagan.window, sagan.critic_steps) == (370, (64,) * 3, (64,) * 3, 2)
    assert (sagan.label_smoothing, sagan.augment, unet.augment, unet.weight) == (0.1, True, False, 100)
    assert (unet.refiner_weighting, sagan.refiner_weighting) == ("roi", "adaptive")
    assert Config.named("sagan_refiner", "laptop").crop == Config.named("refiner", "laptop").crop
    for config in (unet, sagan):
        assert (config.zscores, config.patch_loss, config.dropout, config.dropout_of) == ("image", "sum", 0.5, "values")
    assert unet.head == "leaky" and sagan.crops == "grid" and sagan.attention_pool > 1


def test_bad_requests_are_refused_by_name(cohort):
    for change, words in (
        ({"network": "unett"}, "Did you mean 'unet'"), ({"weighting": "rio"}, "Did you mean 'roi'"),
        ({"refinements": 4}, "refinements: expected 0 to 3"), ({"inputs": ("DVR",)}, "contrasts other than 'DVR'"),
        ({"augment": True, "crop": (8, 9, 8), "crops_per_epoch": 1}, "as long as wide"),
        ({"validation": -1}, "0 or more subjects"), ({"zscores": "brian"}, "Did you mean 'brain'"),
        ({"norm": "bach"}, "Did you mean 'batch'"), ({"roi_source": "scans"}, "Did you mean 'scan'"),
    ):
        with pytest.raises(NbkitError, match=words):
            Config(**change)
    with pytest.raises(NbkitError, match="Config.named: name.*Did you mean 'refiner'"):
        Config.named("refinr")
    scan = cohort.subjects[0].baseline
    with pytest.raises(NbkitError, match="unfitted"):
        MyelinSynthesizer(small("unet")).synthesize(scan.images, mask=scan.mask("brain"))


def test_a_missing_contrast_is_refused_by_name(fitted, cohort):
    scan = cohort.subjects[0].baseline
    with pytest.raises(NbkitError, match="expected 'MTR'"):
        fitted.synthesize({n: v for n, v in scan.images.items() if n != "MTR"}, mask=scan.mask("brain"))


def test_a_loss_that_is_not_finite_stops_training_by_name(cohort):
    subject = cohort.subjects[1]
    scan = subject.baseline
    data = scan.image("DVR").data.clone()
    data[:, 10, 10, 10] = torch.inf
    images = {**scan.images, "DVR": scan.image("DVR").with_data(data)}
    spoilt = replace(cohort, subjects=(replace(subject, scans=(replace(scan, images=images),)),), provenance={})
    with pytest.raises(NonFiniteLoss, match="training step 0: loss term 'total'"):
        MyelinSynthesizer(small("unet")).fit(spoilt)
