"""Settings are read from what ran: published systems give the ledger's numbers, and each change is seen."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.papers.myelin import settings
from nbkit.papers.myelin.inputs import Pose
from nbkit.papers.myelin.synthesis import Config

LEDGERS = {"wei2019m": load_paper("wei2019_myelin"), "wei2020": load_paper("wei2020_cfsagan")}
CHAPTERS = {"wei2019m": settings.chapter_3, "wei2020": settings.chapter_4}
FOLDS = ((3, 6), (3, 6), (4, 6))
"""Controls and patients of each fold of the thesis."""


def ran(config: Config, epochs: tuple[int, int] | None = None):
    """What cross-validation would give of an untrained system."""
    first, second = epochs or (config.epochs, config.epochs)
    told = {"sketcher": {"loss": [0.0] * first}, "refiner1": {"loss": [0.0] * second}}
    model = SimpleNamespace(config=config, net=SimpleNamespace(stages=[config.generator(0)]))
    return SimpleNamespace(model_for=lambda subject: model, histories={"fold1": told})


def people(folds=FOLDS, shape=(128, 160, 128), voxel=1.22):
    """Subjects with a brain mask each, and who is tested in which fold."""
    mask = Volume(torch.ones(1, 1, 1, 1, dtype=torch.bool).expand(1, *shape), np.diag([voxel] * 3 + [1.0]))
    everybody, splits = [], []
    for k, (well, ill) in enumerate(folds):
        ids = [(f"f{k}{d}{i}", d) for d, n in (("HC", well), ("MS", ill)) for i in range(n)]
        everybody += [Subject(s, None, d, (Scan(s, "t0", 30.0, {}, {"brain": mask}),)) for s, d in ids]
        splits.append(SimpleNamespace(test_ids=[s for s, _ in ids]))
    return Cohort("fake", tuple(everybody), "embedded", {}), splits


def systems(changes=None, epochs=None, dnn=None):
    """The two systems of chapter 3 and that of chapter 4, at their published settings but for `changes`."""
    changes = changes or {}
    return {
        "refiner": ran(Config.named("refiner", **changes), epochs),
        "dnn": ran(Config.named("dnn", **(dnn or {}))),
        "refiner_cfsagan": ran(Config.named("sagan_refiner", **{"validation": 3, **changes}), epochs),
    }


def verdicts(prefix, results, who):
    """Verdict of every settings record of a ledger."""
    rows = CHAPTERS[prefix](results, *who)
    seen = {r.id: Observation(r.id, r.value) for r in rows.itertuples()}
    start = f"{prefix}.settings."
    return {n.id.removeprefix(start): n.verdict for n in judge(LEDGERS[prefix], seen).numbers if n.id.startswith(start)}


@pytest.mark.parametrize("prefix", CHAPTERS)
def test_published_systems_give_every_printed_setting(prefix):
    assert set(verdicts(prefix, systems(), people()).values()) == {"within tolerance"}


CHANGES = {
    "epochs.sketcher": {"epochs": (399, 400)}, "epochs.refiner": {"epochs": (400, 399)},
    "learning_rate.sketcher": {"changes": {"learning_rate": 2e-4}},
    "learning_rate.refiner": {"changes": {"refiner_learning_rate": 1e-4}},
    "maps": {"changes": {"slim": 2}}, "levels": {"changes": {"levels": 2}}, "dropout": {"changes": {"dropout": 0.25}},
    "dnn.layers": {"dnn": {"levels": 3}}, "dnn.maps": {"dnn": {"width": 10}},
    "poses": {"changes": {"augment": True}},
}
PEOPLE = {
    "folds": {"folds": FOLDS[:2]}, "folds.least": {"folds": ((2, 6), (4, 6), (4, 6))},
    "folds.most": {"folds": ((3, 6), (3, 6), (4, 7))}, "folds.controls.least": {"folds": ((2, 7), (3, 6), (4, 6))},
    "folds.controls.most": {"folds": ((3, 6), (3, 6), (5, 5))}, "image.x": {"shape": (127, 160, 128)},
    "image.y": {"shape": (128, 128, 128)}, "image.z": {"shape": (128, 160, 64)}, "image.voxel": {"voxel": 2.44},
}


@pytest.mark.parametrize("name", [*CHANGES, *PEOPLE])
def test_each_setting_of_chapter_3_is_seen_when_it_changes(name):
    if name in CHANGES:
        found = verdicts("wei2019m", systems(**CHANGES[name]), people())
    else:
        found = verdicts("wei2019m", systems(), people(**PEOPLE[name]))
    assert found[name] == "outside tolerance"
    assert sum(v == "outside tolerance" for v in found.values()) <= 3, "no other but what hangs together"


CHAPTER_4 = {
    "validation": {"validation": 0}, "patch": {"crop": (32, 32, 32)},
    "overlap": {"crops": "focus", "crops_per_epoch": 9},
    "maps": {"slim": 2}, "levels": {"levels": 3}, "dropout": {"dropout": 0.0},
    "rotations": {"augment": False},
    "scale.up": {"augment": False}, "scale.down": {"augment": False}, "smoothing": {"label_smoothing": 0.0},
    "critic_steps": {"critic_steps": 1}, "learning_rate.sketcher": {"learning_rate": 1e-3},
    "learning_rate.refiner": {"refiner_learning_rate": 1e-4},
}


@pytest.mark.parametrize("name", CHAPTER_4)
def test_each_setting_of_chapter_4_is_seen_when_it_changes(name):
    found = verdicts("wei2020", systems(CHAPTER_4[name]), people())
    assert found[name] == "outside tolerance" or (name == "overlap" and found[name].startswith("not run"))


def test_epochs_folds_and_voxels_of_chapter_4_are_counted():
    found = verdicts("wei2020", systems(epochs=(369, 371)), people(FOLDS[:2], voxel=2.0))
    assert {k for k, v in found.items() if v == "outside tolerance"} == {
        "epochs.sketcher", "epochs.refiner", "folds", "voxel"}


def test_kernels_slopes_and_attention_are_those_of_the_network_as_built(monkeypatch):
    monkeypatch.setattr(settings, "POSES", (Pose(), Pose(1)))
    made = systems()
    for result in (made["refiner"], made["refiner_cfsagan"]):
        (net,) = result.model_for("").net.stages
        for m in net.modules():
            if isinstance(m, torch.nn.LeakyReLU):
                m.negative_slope = 0.01
        part = net.pairs if hasattr(net, "pairs") else net.down
        next(m for m in part.modules() if isinstance(m, torch.nn.Conv3d)).kernel_size = (5, 5, 5)
        for m in net.modules():
            if isinstance(m, settings.FlexibleSelfAttention):
                m.key = torch.nn.Conv3d(64, 16, 1)
    next(m for m in made["dnn"].model_for("").net.stages[0]).kernel_size = (5, 5, 5)
    one, two = (verdicts(prefix, made, people()) for prefix in CHAPTERS)
    assert {k for k, v in one.items() if v == "outside tolerance"} == {"slope", "kernel", "dnn.kernel"}
    assert {k for k, v in two.items() if v == "outside tolerance"} == {
        "slope", "kernel", "attention.share", "rotations", "scale.up", "scale.down"}


def test_another_subset_of_people_is_other_folds():
    cohort, splits = people()
    fewer = replace(cohort, subjects=cohort.subjects[1:])
    splits[0].test_ids = splits[0].test_ids[1:]
    assert verdicts("wei2019m", systems(), (fewer, splits))["folds.least"] == "outside tolerance"
