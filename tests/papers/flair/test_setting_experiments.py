"""Records of people and settings come from what ran: each verdict turns when that is changed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.splits import Fold
from nbkit.papers.flair import experiments, setting_experiments
from nbkit.papers.flair.conv_synthesis import Config, ConvSynthesizer
from nbkit.papers.flair.forest_synthesis import Config as ForestConfig
from nbkit.papers.flair.modality_propagation import Config as PropagationConfig

UNET, MLP = Config(**experiments.UNET, device="cpu"), Config(**experiments.MLP, device="cpu")


def verdicts(frame) -> dict[str, str]:
    """Verdict by id, of what `frame` records."""
    seen = {id: Observation(id, value) for id, value in zip(frame["id"], frame["value"])}
    return {n.id: n.verdict for n in judge("wei2019_flair", seen).numbers if n.id in seen}


def spread(mean: float, sd: float, n: int) -> list[float]:
    x = np.arange(n, dtype=float)
    return list(mean + sd * (x - x.mean()) / x.std(ddof=1))


def people(ages, women, diagnosis, grid) -> list[Subject]:
    made = []
    for k, age in enumerate(ages):
        scan = Scan(f"{diagnosis}{k}", "1", age, {}, {"brain": grid})
        made.append(Subject(scan.subject, "F" if k < women else "M", diagnosis, (scan,)))
    return made


def cohort(patients, women, age, sd, controls, few, young, spread_of, shape, spacing) -> Cohort:
    grid = Volume(torch.ones(1, *shape, dtype=torch.bool), np.diag([spacing[0], spacing[0], spacing[1], 1]))
    sick = people(spread(age, sd, patients), women, "MS", grid)
    return Cohort("toy", (*sick, *people(spread(young, spread_of, controls), few, "HC", grid)), "embedded")


def fitted(fcn: Config, mlp: Config, unet: Config, trees: int, forest: ForestConfig, mp: PropagationConfig):
    """Stand-ins for results, around the networks that these settings build."""
    models = {name: ConvSynthesizer(config) for name, config in (("fcn", fcn), ("mlp", mlp), ("unet", unet))}
    models["rf"] = SimpleNamespace(trees={"counts": torch.ones(trees)}, config=forest)
    models["mp"] = SimpleNamespace(config=mp)
    return {name: SimpleNamespace(model_for=lambda subject, model=model: model) for name, model in models.items()}


def folds(*sizes: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(test_ids=range(n)) for n in sizes]


def test_every_number_of_the_cohort_turns_with_the_people():
    as_published = cohort(20, 8, 35.1, 7.7, 4, 2, 33, 5.6, (208, 256, 40), (0.9, 3.0))
    other = cohort(19, 9, 36.1, 7.5, 3, 1, 34, 5.8, (104, 128, 20), (1.8, 6.0))
    good, bad = (verdicts(setting_experiments.cohort_numbers(c)) for c in (as_published, other))
    assert len(good) == 14 and set(good.values()) == {"within tolerance"}
    assert set(bad) == set(good) and set(bad.values()) == {"outside tolerance"}


def test_every_setting_turns_with_the_model_that_ran():
    net = Config(device="cpu")
    as_published = fitted(net, MLP, UNET, 60, ForestConfig(), PropagationConfig())
    small = net.changed(slim=4, depth=2, learning_rate=0.03, momentum=0.9, batch=4, strip=4, patience=2)
    other = fitted(small, MLP.changed(width=50, depth=3), UNET.changed(slim=4, depth=3), 30,
                   ForestConfig(radius=2), PropagationConfig(radius=2))
    good = verdicts(setting_experiments.settings(as_published, folds(5, 5, 5, 5, 4), "a"))
    bad = verdicts(setting_experiments.settings(other, folds(6, 6, 6, 6), "a"))
    odd = {"wei2019.settings.unet_up_convs": "outside tolerance"}
    assert len(good) == 20 and good == dict.fromkeys(good, "within tolerance") | odd
    assert bad == dict.fromkeys(good, "outside tolerance") | {"wei2019.settings.kernel": "within tolerance"}
    voxelwise = fitted(MLP, MLP, UNET, 60, ForestConfig(), PropagationConfig())
    kernel = verdicts(setting_experiments.settings(voxelwise, folds(5, 4), "a"))["wei2019.settings.kernel"]
    assert kernel == "outside tolerance"


def test_ages_and_sexes_that_nobody_gave_are_no_numbers():
    grid = Volume(torch.ones(1, 2, 2, 2, dtype=torch.bool))
    scans = [Scan(n, "1", None, {}, {"brain": grid}) for n in "ab"]
    blank = Cohort("toy", tuple(Subject(s.subject, None, "MS", (s,)) for s in scans), "open")
    ids = set(setting_experiments.cohort_numbers(blank)["metric"])
    assert "patients" in ids and not ids & {"patient_age", "patient_women", "control_age"}


@pytest.mark.parametrize("over", ["image", "brain"])
def test_the_other_way_is_never_this_runs_own(over):
    fcn = Config(over=over, loss_over=over)
    table, other = setting_experiments.choices(fcn), setting_experiments.alternatives(fcn)
    assert set(table.index) == {*other, "watch_test"} and "longer" not in other
    kept = setting_experiments.choices(fcn, "ms_phantom", "laptop")
    more = setting_experiments.alternatives(fcn, "ms_phantom", "laptop")
    assert set(kept.index) == {*more, "watch_test"} and set(more) - set(other) == {"longer", "longer_own"}
    assert (table["this run"] != table["the other way"]).all()
    assert all(fcn.changed(**change) != fcn for change in other.values())
    assert "20%" in table.loc["watch_test", "this run"]


def test_what_is_printed_stands_beside_what_ran():
    frame = setting_experiments.cohort_numbers(cohort(3, 1, 30, 5, 3, 1, 30, 5, (4, 4, 2), (1.0, 3.0)))
    table = setting_experiments.beside(frame, load_paper("wei2019_flair").ids)
    assert setting_experiments.split_sizes([Fold("fold1", ("a", "b"), ("c",), "by hand")], 3) == [
        "by hand; 3 systems", "fold1: 2 train, 1 are tested"]
    assert table.loc["MS patients", ["printed", "this run"]].tolist() == [20, 3] and len(table) == 14


def test_sizes_stand_beside_the_published_ones():
    sizes = setting_experiments.sizes(Config(slim=16, crop=(8, 8, 4), crops_per_epoch=3))
    assert sizes.loc["this run", "an epoch"] == "3 crops of 8×8×4" and sizes.loc["published", "most epochs"] == 1700


def test_settings_are_changed_one_by_one():
    assert setting_experiments.one_by_one(width=(32, 96), depth=(2,)) == {
        "width32": {"width": 32}, "width96": {"width": 96}, "depth2": {"depth": 2}}
