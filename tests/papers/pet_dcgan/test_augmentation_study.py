"""The augmentation study: who trains and who is tested, what arms share, and what labels without meaning give."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.seeds import torch_generator
from nbkit.core.stats import bootstrap_mean
from nbkit.data.splits import Fold
from nbkit.papers.pet_dcgan.augmentation_study import (
    ARMS, CHANCE, CLASS_MEAN, EVERY_VIEW, PLAIN, REAL, SYNTHETIC, Config, augmented, study, train_classifier,
)
from nbkit.papers.pet_dcgan.pet_dcgan import Config as GanConfig
from nbkit.papers.pet_dcgan.pet_dcgan import PetDCGAN
from tests.papers.pet_dcgan.pet_heads import head_slices

SMOKE = Config.for_profile("smoke", steps=30, learning_rate=5e-3)


class Heads:
    """A generator that deals its training images out, and remembers whom it saw."""

    def __init__(self, config: GanConfig) -> None:
        self.config, self.log = config, []

    def fit(self, table):
        self.table = table
        return self

    def sample_images(self, n, stage, seed, *, view=None):
        images = self.table.select(stages=stage, view=view).images
        return images[torch.arange(n) % len(images)]

    def check_unseen(self, subjects, where):
        assert not set(subjects) & set(self.table.subject)
        assert set(self.table.stage) == {"CN", "AD"}


def halves(slices) -> list[Fold]:
    ids = slices.subjects
    sides = [tuple(i for i in ids if int(i[-1]) % 2 == k) for k in (0, 1)]
    return [Fold("fold1", sides[0], sides[1], "2-fold"), Fold("fold2", sides[1], sides[0], "2-fold")]


@pytest.fixture(scope="module")
def slices():
    return head_slices(12, size=16, views=("axial", "coronal"), per_view=2)


@pytest.fixture(scope="module")
def table(slices, tmp_path_factory):
    config = SMOKE.changed(shares=(0.5, 1.0), repeats=2, steps=12, learning_rate=1e-2)
    cache = Cache(tmp_path_factory.mktemp("study"))
    return study(slices, halves(slices), generator=Heads(GanConfig()), config=config, cache=cache)


def test_every_test_subject_is_scored_once_in_each_cell(table):
    trained = table[table["arm"].isin(ARMS)]
    counts = trained.groupby(["view", "arm", "share", "repeat"]).size()
    assert len(counts) == 3 * 4 * 2 * 2 and (counts == 24).all(), "both halves are tested, MCI is left out"
    assert not trained.duplicated(["subject", "view", "arm", "share", "repeat"]).any()
    assert set(table["view"]) == {"axial", "coronal", EVERY_VIEW} and set(table["stage"]) == {"CN", "AD"}
    assert table[table["share"] == 0.5]["real_subjects"].eq(6).all()


def test_placements_of_a_run_are_its_area_under_the_curve(table):
    for _, rows in table.groupby(["view", "arm", "share", "repeat", "fold"]):
        assert rows["placement"].mean() == pytest.approx(roc_auc_score(rows["stage"] == "AD", rows["score"]))


def test_all_views_score_by_the_mean_of_the_views(table):
    cells = table.pivot_table(index=["subject", "arm", "share", "repeat"], columns="view", values="score")
    assert np.allclose(cells[EVERY_VIEW], (cells["axial"] + cells["coronal"]) / 2)
    assert (table["correct"] == ((table["score"] > 0.5) == (table["stage"] == "AD"))).all()


def test_stages_that_differ_are_told_apart_and_chance_is_what_the_majority_scores(table):
    accuracy = table[table["share"] == 1.0].groupby("arm")["correct"].mean()
    assert accuracy[CLASS_MEAN] > 0.9 and accuracy[REAL] > 0.8 and accuracy[CHANCE] == 0.5


def test_the_same_again_is_read_from_the_cache_and_equal_when_made_anew(slices, tmp_path):
    config, splits = SMOKE.changed(steps=4), halves(slices)
    first = study(slices, splits, generator=Heads(GanConfig()), config=config, cache=Cache(tmp_path / "a"))
    anew = study(slices, splits, generator=Heads(GanConfig()), config=config, cache=Cache(tmp_path / "b"))
    again = study(slices, splits, generator=Heads(GanConfig()), config=config, cache=Cache(tmp_path / "a"))
    assert first.equals(anew) and first.equals(again)
    assert len(list((tmp_path / "a" / "augmentation_study").iterdir())) == 1
    brighter = dataclasses.replace(slices, images=slices.images * 0.9)
    study(brighter, splits, generator=Heads(GanConfig()), config=config, cache=Cache(tmp_path / "a"))
    assert len(list((tmp_path / "a" / "augmentation_study").iterdir())) == 2


@pytest.mark.slow
def test_labels_without_meaning_give_chance(tmp_path):
    # heads alike but for noise: what is left to learn are the labels, and these are dealt anew
    slices = head_slices(40, size=16, stages=("CN", "AD"))
    config = SMOKE.changed(shuffled=True, repeats=2, arms=(REAL, SYNTHETIC, PLAIN))
    gan = GanConfig.for_profile("smoke", size=16, widths=(8, 8), critic_widths=(8, 8), epochs=8)
    table = study(slices, halves(slices), generator=PetDCGAN(gan), config=config, cache=Cache(tmp_path))
    for arm in config.arms:
        for column in ("correct", "placement"):
            found = bootstrap_mean(table[table["arm"] == arm].groupby("subject")[column].mean())
            assert found.low <= 0.5 <= found.high, (arm, column)


@pytest.mark.slow
def test_the_generator_sees_training_subjects_only_and_another_seed_each_time(slices, tmp_path, monkeypatch):
    seen = []
    fit = PetDCGAN.fit
    monkeypatch.setattr(PetDCGAN, "fit", lambda self, table: seen.append((self.config.seed, set(table.subject))) or
                        fit(self, table))
    gan = GanConfig.for_profile("smoke", size=16, widths=(8, 8), critic_widths=(8, 8), epochs=2)
    splits = halves(slices)
    study(slices, splits, generator=PetDCGAN(gan), config=SMOKE.changed(steps=2), cache=Cache(tmp_path))
    assert len({seed for seed, _ in seen}) == len(seen) == 2
    sides = [{i for i in fold.train_ids if not i.startswith("mci")} for fold in splits]
    assert sorted((people for _, people in seen), key=min) == sorted(sides, key=min)


def test_a_subject_on_both_sides_is_refused_by_name(slices):
    class Loose:
        name, train_ids, test_ids = "fold1", ("cn001", "ad001"), ("ad001", "cn002", "ad002")

    with pytest.raises(NbkitError, match="no subject both in training and in test.*ad001"):
        study(slices, [Loose()], generator=Heads(GanConfig()), config=SMOKE)


def test_a_side_without_a_stage_is_refused(slices):
    fold = Fold("fold1", ("cn001", "cn002", "mci001"), ("ad001", "cn003"), "x")
    with pytest.raises(NbkitError, match="fold1, training"):
        study(slices, [fold], generator=Heads(GanConfig()), config=SMOKE)
    with pytest.raises(NbkitError, match="at least one"):
        study(slices, [], generator=Heads(GanConfig()), config=SMOKE)


def test_arms_of_a_repeat_start_alike_and_follow_their_seed(slices):
    real = [slices.select(stages=s, view="axial").images for s in ("CN", "AD")]
    nets = [train_classifier(real, None, config=SMOKE.changed(steps=3), seed=s) for s in (1, 1, 2)]
    scores = [net(slices.images).detach() for net in nets]
    assert torch.equal(scores[0], scores[1]) and not torch.allclose(scores[0], scores[2])


def test_extra_images_without_real_ones_are_all_that_is_learned(slices):
    real = [slices.select(stages=s, view="axial").images for s in ("CN", "AD")]
    swapped = train_classifier(real, real[::-1], config=SMOKE, seed=1, real_share=0.0)
    with torch.no_grad():
        assert (swapped(real[0]) > 0).float().mean() > 0.8 and (swapped(real[1]) < 0).float().mean() > 0.8


def test_plain_augmentation_turns_about_the_centre_and_shifts_by_whole_pixels():
    x = torch.rand(2, 1, 9, 9) * 2 - 1
    still = SMOKE.changed(shift=0.0, rotation=0.0, noise=0.0, flip=False)
    assert torch.allclose(augmented(x, torch_generator(1), config=still, view="axial"), x, atol=1e-6)
    spot = torch.full((64, 1, 9, 9), -1.0)
    spot[:, :, 4, 4] = 1
    turned = augmented(spot, torch_generator(1), config=still.changed(rotation=40.0), view="axial")
    assert torch.allclose(turned[:, 0, 4, 4], torch.ones(64), atol=1e-5)
    shifted = augmented(spot.repeat(8, 1, 1, 1), torch_generator(1), config=still.changed(shift=0.1), view="axial")
    weights = (shifted[:, 0] + 1) / 2
    inner = weights.sum(dim=(1, 2)) > 0.999  # nothing left the image
    at = (weights.sum(dim=2) * torch.arange(9.0)).sum(dim=1)[inner] - 4
    assert abs(float(at.std()) - 0.9) < 0.1 and abs(float(at.mean())) < 0.1


def test_slices_are_mirrored_left_to_right_but_never_front_to_back():
    x, flipping = torch.rand(32, 1, 8, 8) * 2 - 1, SMOKE.changed(shift=0.0, rotation=0.0, noise=0.0)
    axial = augmented(x, torch_generator(1), config=flipping, view="axial")
    as_was, mirrored = (torch.isclose(axial, y, atol=1e-5).flatten(1).all(dim=1) for y in (x, x.flip(2)))
    assert (as_was | mirrored).all() and 5 < int(mirrored.sum()) < 27
    assert torch.allclose(augmented(x, torch_generator(1), config=flipping, view="sagittal"), x, atol=1e-5)


@pytest.mark.parametrize(("changes", "said"), [
    ({"arms": ("real + syntetic",)}, "Did you mean 'real . synthetic'"), ({"pair": ("CN", "SMC")}, "Config: pair"),
    ({"pair": ("CN", "CN")}, "two different stages"), ({"shares": (0.0,)}, "shares above 0"),
    ({"batch": 2}, "two of each stage"), ({"step": 3}, "Did you mean 'steps'"),
])
def test_settings_that_cannot_be_are_refused(changes, said):
    with pytest.raises(NbkitError, match=said):
        Config.for_profile("smoke", **changes)
