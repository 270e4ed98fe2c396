"""Kernel templates: the weights against closed forms, and balls whose radius at each age is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import TemplateModel
from nbkit.core.volume import Volume
from nbkit.papers.inbrainsyn.kernel_template import Config, KernelTemplate, kernel_weights, trajectory_weights
from tests.papers.inbrainsyn.balls import AFFINE, INNER, SHAPE, ball, group, measured, radius, scan

AT = torch.linspace(55, 90, 15, dtype=torch.float64)
SMALL = {"bandwidth_years": 4.0, "levels_mm": (9.0, 4.5), "iterations": (30, 15), "velocity_mm": 9.0,
         "mean_persons": 4, "mean_rounds": 1, "device": "cpu"}
people = st.lists(st.lists(st.floats(55, 90), min_size=2, max_size=4, unique=True).map(sorted), min_size=1, max_size=5)


# weights


def test_weights_are_those_of_nadaraya_and_watson():
    ages, shares = torch.tensor([60.0, 63.0, 80.0]).double(), torch.tensor([1.0, 0.5, 2.0]).double()
    kernel = shares * torch.exp(-((AT[:, None] - ages) ** 2) / (2 * 4.0**2))
    torch.testing.assert_close(kernel_weights(AT, ages, shares, bandwidth=4.0), kernel / kernel.sum(1, keepdim=True))


def test_a_narrow_kernel_takes_the_nearest_and_never_divides_by_zero():
    weights = kernel_weights(torch.tensor([70.0]), torch.tensor([55.0, 84.0]), torch.ones(2), bandwidth=0.1)
    assert weights.tolist() == [[0, 1]]


@pytest.mark.parametrize("variant", ["shape", "longitudinal"])
@given(people=people)
def test_rows_sum_to_one(variant, people):
    gaps = [b - a for visits in people for a, b in zip(visits, visits[1:])]
    if max(gaps) > 1e-3:
        weights = trajectory_weights(people, AT, config=Config(variant=variant))
        torch.testing.assert_close(weights.sum(1), torch.ones(len(AT)).double(), atol=1e-6, rtol=0)


def test_many_visits_of_one_person_do_not_make_many_people():
    weights = trajectory_weights([[70.0] * 5, [70.0]], torch.tensor([70.0]).double(), config=Config(variant="shape"))
    assert weights[0, :5].sum().item() == pytest.approx(0.5)


def test_the_longitudinal_path_follows_each_person_and_ignores_who_was_scanned_when():
    """Everyone changes by 2 a year; the old are smaller by nature, so comparing people misses the change."""
    ages = [[60.0, 62.0, 65.0], [70.0, 73.0], [80.0, 84.0]]
    values = torch.tensor([2 * a + offset for visits, offset in zip(ages, (0, -40, -80)) for a in visits]).double()
    follow = trajectory_weights(ages, AT, config=Config(variant="longitudinal")) @ values
    torch.testing.assert_close(follow.diff(), torch.full((14,), 2.5 * 2).double())
    shares = torch.tensor([1 / 9] * 3 + [1 / 6] * 4, dtype=torch.float64)
    level = torch.from_numpy(np.interp([a for visits in ages for a in visits], AT, follow))
    assert (shares @ (values - level)).item() == pytest.approx(0, abs=1e-9)
    compare = trajectory_weights(ages, AT, config=Config(variant="shape")) @ values
    assert compare[-1] - compare[0] < 0.5 * (follow[-1] - follow[0])


def test_the_pace_may_change_with_age():
    """Slope 1 below 70 years and 3 above: far from 70 the path has those slopes."""
    ages = [[a, a + 2.0] for a in range(56, 88, 2)]
    values = torch.tensor([a + 2 * max(a - 70, 0) for visits in ages for a in visits]).double()
    path = trajectory_weights(ages, AT, config=Config(bandwidth_years=2.0)) @ values
    slopes = path.diff() / AT.diff()
    assert slopes[0].item() == pytest.approx(1, abs=0.01) and slopes[-1].item() == pytest.approx(3, abs=0.01)


# templates


@pytest.fixture(scope="module")
def models() -> dict[str, KernelTemplate]:
    scans = group()
    return {v: KernelTemplate(Config(variant=v, **SMALL)).fit(scans) for v in ("intensity", "shape", "longitudinal")}


@pytest.mark.parametrize("variant", ["intensity", "shape", "longitudinal"])
def test_the_radius_is_found_at_each_age_and_beats_the_mean_of_all(models, variant):
    """Half a millimetre is a ninth of a voxel; the mean of all ages misses the youngest and oldest by over two."""
    blind = measured(Volume(torch.stack([s.image("T1w").data for s in group()]).mean(0), AFFINE))
    for age in (62, 68, 74, 80, 84):
        truth = measured(Volume(ball(radius(age)), AFFINE))
        assert measured(models[variant].template(age)) == pytest.approx(truth, abs=0.5)
        assert age in (68, 74, 80) or abs(blind - truth) > 2


def test_the_rim_keeps_its_brightness(models):
    """Means over people whose background begins elsewhere, and warps, must not mix background in."""
    edge = (ball(17.0) > 0) & ~INNER
    for model in models.values():
        image = model.template(74).data[0]
        inside = edge & (image > 0)
        assert inside.sum() > 0.9 * edge.sum()
        assert float(image[inside].quantile(0.02)) > 0.6 * 240


def test_it_is_a_template_model_in_the_unit_and_on_the_grid_of_the_scans(models):
    for model in models.values():
        template = model.template(70.0)
        assert isinstance(model, TemplateModel) and template.data.shape == (1, *SHAPE)
        template.check_grid(group(1)[0].image("T1w"), "test")
        assert float(template.data.quantile(0.99)) == pytest.approx(240, rel=0.1)
        assert (template.data[0, 0] == 0).all()


def test_the_same_scans_give_the_same_template():
    config = Config(variant="shape", **SMALL | {"iterations": (4, 2)})
    first, again = (KernelTemplate(config).fit(group(4)).template(71.5).data for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("variant", ["intensity", "longitudinal"])
def test_what_was_saved_comes_back_the_same(models, variant, tmp_path):
    models[variant].save(tmp_path / "model")
    loaded = KernelTemplate.load(tmp_path / "model")
    assert torch.equal(loaded.template(66.6).data, models[variant].template(66.6).data)
    assert loaded.config == models[variant].config and loaded.frame == models[variant].frame


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(models, tmp_path):
    models["shape"].save(tmp_path)
    tensors, file = load_file(tmp_path / "weights.safetensors"), tmp_path / "model.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"constants": record["constants"] | {"shape": [16, 16, 20]}}))
    with pytest.raises(NbkitError, match=r"weights image: expected shape \(1, 1, 16, 16, 20\)"):
        KernelTemplate.load(tmp_path)
    file.write_text(json.dumps(record))
    save_file({k: v for k, v in tensors.items() if k != "path"}, tmp_path / "weights.safetensors")
    with pytest.raises(NbkitError, match="expected path, found no such tensor"):
        KernelTemplate.load(tmp_path)


def test_ages_that_the_group_does_not_have_are_refused(models):
    model = models["longitudinal"]
    assert measured(model.template(89.5)) < measured(model.template(85.0))  # within five years it goes on
    for age in (54.0, 91.0, float("nan")):
        with pytest.raises(NbkitError, match=r"template: age: expected 55.0 to 90.0 years"):
            model.template(age)


def test_bad_groups_and_settings_are_refused():
    with pytest.raises(NbkitError, match="at least one scan.*nobody is in this group"):
        KernelTemplate().fit([])
    with pytest.raises(NbkitError, match="scanned at two ages.*variant='shape'"):
        KernelTemplate(Config(**SMALL)).fit(group(3, 1))
    with pytest.raises(NbkitError, match="Did you mean 'shape'"):
        Config(variant="shapes")
    with pytest.raises(NbkitError, match="at least 2 visits"):
        Config(visits=1)
    with pytest.raises(NbkitError, match="expected a fitted model"):
        KernelTemplate().template(70)


def test_one_age_is_enough_for_a_shape():
    model = KernelTemplate(Config(variant="shape", **SMALL)).fit([scan("p", "1", 70.0), scan("q", "1", 70.0)])
    truth = measured(Volume(ball(radius(70)), AFFINE))
    assert measured(model.template(70.0)) == pytest.approx(truth, abs=0.3)
