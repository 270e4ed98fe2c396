"""Scores of generated PET slices: copies, strangers and other stages fall where they must."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.claims.ledger import load_paper
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.tidy import by_subject, where
from nbkit.data.pet_slices import Slices
from nbkit.data.splits import subject_hash
from nbkit.papers.pet_dcgan import experiments
from nbkit.papers.pet_dcgan.augmentation_experiments import classified
from nbkit.papers.pet_dcgan.experiments import draw_like, feature_scores, quality
from nbkit.papers.pet_dcgan.metrics import pairwise_quality
from nbkit.papers.pet_dcgan.pet_dcgan import Config, PetDCGAN
from nbkit.papers.pet_dcgan.pet_volumes import Volumes
from tests.papers.pet_dcgan.pet_heads import head_volumes
from tests.papers.pet_dcgan.test_augmentation_experiments import study_table

PAPER = load_paper("islam2020_pet")
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


def drawn(kind: str) -> Slices:
    return draw_like(Replay(kind), HELD, seed=3)


def values(frame, **labels) -> dict[str, float]:
    return by_subject(frame, **labels)


def test_as_many_images_are_drawn_as_there_are_real_ones_of_the_stage_and_view():
    made = drawn("new")
    assert list(made.stage) == sorted(HELD.stage, key=list(LEVEL).index) and set(made.subject) == {"generated"}
    for stage in LEVEL:
        own = made.select(stages=stage, view="coronal").images
        assert len(own) == len(HELD.select(stages=stage, view="coronal"))
        assert abs(float(own[..., 16, 16].mean()) - LEVEL[stage]) < 0.1


def test_volumes_are_drawn_as_volumes_and_cut_alike():
    table, model = head_volumes(3), PetDCGAN(Config.volumetric("smoke"))
    model.seen, model.sample_images = (subject_hash(["ad000"]),), lambda n, stage, seed, view: table.images[:n] + seed
    made = draw_like(model, table.select(subjects=["ad002", "cn001", "ad001"]), seed=5)
    assert made.stage == ("CN", "AD", "AD") and made.view == ("volume",) * 3 and isinstance(made, Volumes)
    assert torch.equal(made.select(stages="AD").images, table.images[:2] + 5), "the seed as it is"
    assert made.slices(size=16).select(view="axial").stage == made.stage
    with pytest.raises(NbkitError, match="draw_like: real.*ad000"):
        draw_like(model, table, seed=5)


def test_quality_of_one_view_by_hand():
    own = HELD.select(stages="AD", view="axial")
    found = quality(drawn("new").select(stages="AD", view="axial"), own)
    assert (found["id"] == "islam2020.quality." + found["metric"] + "." + found["setting"] + "." + found["system"]
            + ".ad").all()
    psnr, _ = pairwise_quality(own.images, own.images)
    person = own.subjects[0]
    mine = np.array([s == person for s in own.subject])
    others = psnr.numpy()[mine][:, ~mine]
    real = where(found, metric="psnr", system="real")
    assert values(real, setting="random")[person] == pytest.approx(others.mean())
    assert values(real, setting="nearest")[person] == pytest.approx(others.max(axis=1).mean())


def test_subjects_made_from_one_person_are_no_strangers():
    own = HELD.select(stages="CN", view="axial")
    person = {s: s[:-1] + str(int(s[-1]) // 2) for s in own.subjects}
    found = quality(drawn("new").select(stages="CN", view="axial"), own.of_people(person))
    real = values(found, metric="psnr", setting="random", system="real")
    assert list(real) == list(dict.fromkeys(person.values()))
    psnr, _ = pairwise_quality(own.images, own.images)
    first = np.array([person[s] == "hCN0" for s in own.subject])
    assert real["hCN0"] == pytest.approx(psnr.numpy()[first][:, ~first].mean())


def test_a_person_of_two_stages_counts_once_with_the_mean():
    shared = {s: s[-1] for s in HELD.subjects}
    found = quality(drawn("new"), HELD.of_people(shared))
    text = where(experiments.over_stages(found), id="islam2020.text.psnr")
    each = where(found, metric="psnr", setting="random", system="generated")
    assert len(text) == 6 and len(each) == 12
    assert values(text)["0"] == pytest.approx(each[each["subject"] == "0"]["value"].mean())
    assert set(experiments.over_stages(found)["id"]) == {"", "islam2020.text.psnr", "islam2020.text.ssim"}


def test_new_images_of_the_same_law_are_as_near_as_real_ones_and_others_are_not():
    same, swapped = (where(quality(drawn(kind), HELD), metric="psnr", stage="CN") for kind in ("new", "swapped"))
    for setting in ("random", "nearest"):
        of = {name: where(frame, setting=setting).groupby("system")["value"].mean()
              for name, frame in (("same", same), ("swapped", swapped))}
        assert of["same"]["generated"] == pytest.approx(of["same"]["real"], rel=0.1)
        assert of["swapped"]["generated"] < of["swapped"]["real"] - 3


@pytest.fixture(scope="module")
def scores():
    return {kind: feature_scores(drawn(kind), train=TRAIN, held_out=HELD) for kind in ("new", "copies", "swapped")}


def test_features_tell_stages_copies_and_strangers_apart(scores):
    cn = {kind: where(frame, stage="CN") for kind, frame in scores.items()}
    for kind, nearer in (("new", True), ("copies", True), ("swapped", False)):
        own, other = (values(cn[kind], metric="stage.distance", system=side) for side in ("own", "other"))
        assert (np.mean([*own.values()]) < np.mean([*other.values()])) == nearer and len(own) == 6
        frechet = where(cn[kind], metric="frechet").set_index("system")["value"]
        assert not nearer or frechet["generated"] < frechet["other"]
    assert experiments.memorised(scores["copies"]) == ["AD", "CN"] and experiments.memorised(scores["new"]) == []
    share = where(cn["copies"], id="islam2020.memorisation.share.cn")["value"]
    assert share.tolist() == [100.0]
    coverage = {kind: where(frame, metric="coverage", system="generated")["value"].item() for kind, frame in cn.items()}
    assert coverage["swapped"] < 0.2 < coverage["new"]


def test_every_score_has_an_id_of_its_own(scores):
    ids = scores["new"].groupby("id")["subject"].agg(["size", "nunique"])
    assert (ids["size"] == ids["nunique"]).all() and len(ids) == 2 * (3 + 4 + 4 + 2)


def test_ends_of_likeness_are_images_of_other_people_and_stages():
    found = experiments.likeness_ends(TRAIN, HELD)
    by = where(found, metric="psnr").groupby(["stage", "system"])["value"].mean()
    assert set(found["stage"]) == set(LEVEL) and by["CN", "reach"] > by["CN", "other_stage"] + 3
    assert by["CN", "floor"] == pytest.approx(by["CN", "reach"], abs=1)
    assert {i for i in found["id"] if i not in PAPER.ids} == set()


def test_real_images_of_the_own_stage_are_nearer_where_stages_differ():
    found = experiments.stage_ends(TRAIN, HELD)
    by = found.groupby(["stage", "system"])["value"].mean()
    assert all(by[stage, "reach"] < 0.7 * by[stage, "other_stage"] for stage in LEVEL)
    assert set(found["id"]) <= set(PAPER.ids)


def test_histograms_of_the_same_law_are_as_near_as_other_people_s_and_of_another_stage_are_not():
    own = HELD.select(stages="CN")
    same, swapped = (experiments.histograms(drawn(kind).select(stages="CN"), own) for kind in ("new", "swapped"))
    far = {name: frame.groupby("system")["value"].mean() for name, frame in (("same", same), ("swapped", swapped))}
    assert far["same"]["generated"] < 1.1 * far["same"]["real"] < 0.5 * far["swapped"]["generated"]
    assert far["swapped"]["real"] == far["same"]["real"] and same["value"].between(0, 1).all()
    assert set(same["id"]) == {"islam2020.histogram.generated.cn", "islam2020.histogram.real.cn"}


def test_the_nearest_image_of_a_copy_is_its_original():
    found = experiments.neighbours(drawn("copies"), train=TRAIN, held_out=HELD, stage="AD", count=3)
    images, distances = found["nearest training"]
    assert torch.equal(images, found["synthetic"][0]) and distances == pytest.approx([0] * 3, abs=1e-2)
    assert min(found["nearest held-out"][1]) > 1 and found["synthetic"][1] == []


def test_bad_input_is_refused_by_name():
    with pytest.raises(NbkitError, match="tCN0"):
        feature_scores(drawn("new"), train=TRAIN, held_out=TRAIN)
    with pytest.raises(NbkitError, match="two stages or more"):
        feature_scores(drawn("new").select(stages="CN"), train=TRAIN, held_out=HELD)
    with pytest.raises(NbkitError, match="two people"):
        quality(drawn("new").select(stages="CN"), HELD.select(subjects=["hCN0"]))


def test_losses_are_running_means_by_network_and_side():
    model = PetDCGAN(Config.for_profile("smoke", size=16, widths=(8, 8), critic_widths=(8, 8), epochs=120))
    model.stages, model.losses = ("CN", "AD"), torch.arange(480.0).view(120, 2, 2)
    found = experiments.losses(model)
    mine = where(found, system="AD", metric="discriminator")
    assert len(found) == 4 * 120 and mine["step"].tolist() == list(range(1, 121))
    assert mine["value"].iloc[:3].tolist() == [3.0, 5.0, 9.0], "the mean of two steps"


def test_people_are_counted():
    people = [Subject(f"s{i}", "F", d, (Scan(f"s{i}", "01", 60.0 + i, {}),)) for i, d in enumerate(("CN", "AD", "AD"))]
    found = experiments.scanned(Cohort("toy", tuple(people), "embedded")).set_index("id")["value"]
    assert found.to_dict() == {f"islam2020.data.{k}": v for k, v in {
        "scans": 3, "nc": 1, "mci": 0, "ad": 2, "age_min": 60, "age_max": 62}.items()}


def test_reasons_tell_the_numbers_of_the_run(scores):
    accuracy = classified(study_table())
    everyone = experiments.over_stages(quality(drawn("new"), HELD))
    lines = experiments.reasons(accuracy, scores["new"], everyone, {
        "islam2020.text.accuracy.real": 61.45, "islam2020.text.psnr": 32.83})
    mean = where(accuracy, view="all views", metric="accuracy", share=1.0, system="real")["value"].mean()
    assert f"{mean:.1f} %" in lines[0] and "61.45" in lines[0] and "32.83" in lines[-1]
