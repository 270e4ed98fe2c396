"""Scores of generated PET slices: copies, strangers and other stages fall where they must."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import torch_generator
from nbkit.data.pet_slices import Slices
from nbkit.papers.pet_dcgan.metrics import pairwise_quality
from nbkit.papers.pet_dcgan.features import SliceFeatureNet
from nbkit.papers.pet_dcgan.experiments import Drawn, draw_like, feature_scores, joined, nearest_images, quality

SIZE = 32
LEVEL = {"CN": 0.5, "AD": -0.3}


def picture(stage: str, *names: object) -> torch.Tensor:
    """A disc whose brightness is the stage's, with a shape and texture of its own."""
    rng = torch_generator(1, stage, *names)
    x = torch.linspace(-1, 1, SIZE)
    radius = (x[:, None] ** 2 + x[None] ** 2).sqrt() * (1 + 0.1 * torch.randn((), generator=rng))
    image = torch.where(radius < 0.7, LEVEL[stage], -1.0) + 0.08 * torch.randn(SIZE, SIZE, generator=rng)
    return image.clamp(-1, 1)[None]


def table(people: int, side: str) -> Slices:
    rows = [(f"{side}{stage}{i}", stage, view, k) for stage in LEVEL for i in range(people)
            for view in ("axial", "coronal") for k in range(2)]
    images = torch.stack([picture(stage, name, view, k) for name, stage, view, k in rows])
    return Slices(images, *map(tuple, list(zip(*rows))[:3]), tuple(float(r[3]) for r in rows))


TRAIN, HELD = table(8, "t"), table(6, "h")
NET = SliceFeatureNet().fit(TRAIN.images)


class Replay:
    """Draws its training images again, or new ones of the same law, or of another stage's."""

    def __init__(self, kind: str):
        self.kind = kind

    def check_unseen(self, subjects, where):
        """Nothing was seen."""

    def sample_images(self, n, stage, seed, *, view=None):
        if self.kind == "copies":
            images = TRAIN.select(stages=stage, view=view).images
            return images[torch.arange(n) % len(images)]
        other = {"CN": "AD", "AD": "CN"}[stage]
        kind = other if self.kind == "swapped" else stage
        return torch.stack([picture(kind, "new", view, seed, i) for i in range(n)])


def drawn(kind: str) -> dict[str, Drawn]:
    return {stage: draw_like(Replay(kind), HELD.select(stages=stage), stage, seed=3) for stage in LEVEL}


def test_as_many_images_are_drawn_as_there_are_real_ones_of_the_view():
    made = drawn("new")["CN"]
    assert made.view.count("axial") == HELD.select(stages="CN", view="axial").images.shape[0]
    assert torch.equal(made.of("coronal"), made.images[[v == "coronal" for v in made.view]])


def test_quality_of_one_view_by_hand():
    own = HELD.select(stages="AD", view="axial")
    made = Drawn(drawn("new")["AD"].of("axial"), ("axial",) * len(own))
    found = quality(made, own)
    psnr, _ = pairwise_quality(own.images, own.images, data_range=2.0)
    person = own.subjects[0]
    mine = np.array([s == person for s in own.subject])
    others = psnr.numpy()[mine][:, ~mine]
    assert found["psnr", "random", "real"][person] == pytest.approx(others.mean())
    assert found["psnr", "nearest", "real"][person] == pytest.approx(others.max(axis=1).mean())


def test_subjects_made_from_one_person_are_no_strangers():
    own = HELD.select(stages="CN", view="axial")
    person = {s: s[:-1] + str(int(s[-1]) // 2) for s in own.subjects}
    made = Drawn(drawn("new")["CN"].of("axial"), ("axial",) * len(own))
    found = quality(made, own, person_of=person)
    assert list(found["psnr", "random", "real"]) == list(dict.fromkeys(person.values()))
    psnr, _ = pairwise_quality(own.images, own.images, data_range=2.0)
    first = np.array([person[s] == "hCN0" for s in own.subject])
    assert found["psnr", "random", "real"]["hCN0"] == pytest.approx(psnr.numpy()[first][:, ~first].mean())


def test_new_images_of_the_same_law_are_as_near_as_real_ones_and_others_are_not():
    real = HELD.select(stages="CN")
    found = (quality(drawn(kind)["CN"], real) for kind in ("new", "swapped"))
    same, swapped = ({key: np.mean([*v.values()]) for key, v in one.items()} for one in found)
    for kind in ("random", "nearest"):
        assert same["psnr", kind, "generated"] == pytest.approx(same["psnr", kind, "real"], rel=0.1)
        assert swapped["psnr", kind, "generated"] < swapped["psnr", kind, "real"] - 3


def test_features_tell_stages_copies_and_strangers_apart():
    scores = {kind: feature_scores(drawn(kind), "CN", train=TRAIN, held_out=HELD, net=NET)
              for kind in ("new", "copies", "swapped")}
    for kind in ("new", "copies"):
        means = {name: np.mean([*v.values()]) for name, v in scores[kind].distances.items()}
        assert means["own"] < means["other"] and len(scores[kind].distances["own"]) == 6
        assert scores[kind].frechet["generated"] < scores[kind].frechet["other"]
    means = {name: np.mean([*v.values()]) for name, v in scores["swapped"].distances.items()}
    assert means["own"] > means["other"]
    assert scores["copies"].memorised.flagged and scores["copies"].memorised.share == 1
    assert not scores["new"].memorised.flagged
    assert scores["swapped"].generated.coverage < 0.2 < scores["new"].generated.coverage


def test_the_nearest_image_of_a_copy_is_its_original():
    rows, distances = nearest_images(NET, TRAIN.images[5:8], TRAIN.images)
    assert rows == [5, 6, 7] and distances == pytest.approx([0] * 3, abs=1e-2)
    assert joined(drawn("new")).shape == (2 * len(HELD.select(stages="CN")), 1, SIZE, SIZE)


def test_bad_input_is_refused_by_name():
    made = drawn("new")
    with pytest.raises(NbkitError, match="tCN0"):
        feature_scores(made, "CN", train=TRAIN, held_out=TRAIN, net=NET)
    with pytest.raises(NbkitError, match="Did you mean 'AD'"):
        feature_scores(made, "ADD", train=TRAIN, held_out=HELD, net=NET)
    with pytest.raises(NbkitError, match="two stages or more"):
        feature_scores({"CN": made["CN"]}, "CN", train=TRAIN, held_out=HELD, net=NET)
    with pytest.raises(NbkitError, match="two people"):
        quality(made["CN"], HELD.select(subjects=["hCN0"]))
