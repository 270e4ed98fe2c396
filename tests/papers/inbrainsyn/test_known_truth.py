"""The experiment with known truth, where the answer of every variant is known too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity, expv
from nbkit.geometry.transport import conjugate
from nbkit.papers.inbrainsyn.known_truth import VARIANTS, pulled_back, transport_experiment, transported_maps
from tests.geometry.fields import GENERATOR, INSIDE, linear_field, swirl
from tests.geometry.frames import FRAMES, SHAPE

SHIFT = np.array([1.3, -0.4, 2.1])


def inner_labels(affine: np.ndarray) -> Volume:
    labels = torch.zeros(1, *SHAPE, dtype=torch.int16)
    labels[0, 4:7, 4:-4, 4:-4], labels[0, 7:-4, 4:-4, 4:-4] = 1, 2
    return Volume(labels, affine)


@pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
def test_linear_change_along_a_translation(affine):
    """u = A(x − p), v = c: truth A(x − p + c); what is missing is A·c times 1, 3/2, 1/2 and 0."""
    along = torch.as_tensor(SHIFT).view(3, 1, 1, 1).expand(3, *SHAPE)
    change = linear_field(1e-3 * GENERATOR, affine)[0]
    table = transport_experiment(
        Volume(change, affine), Volume(along, affine), labels=inner_labels(affine), names={1: "a_left", 2: "a_right"}
    )
    assert table["variant"].unique().tolist() == list(VARIANTS)
    assert table["region"].unique().tolist() == ["brain", "a"]
    found = table.query("region == 'brain'").set_index("variant")["field_error"]
    truth = linear_field(GENERATOR, affine)[INSIDE] + torch.as_tensor(GENERATOR @ SHIFT).view(1, 3, 1, 1, 1)
    unit = np.linalg.norm(GENERATOR @ SHIFT) * np.sqrt(truth[0, 0].numel()) / float(truth.norm())
    for variant, share in {"none": 1.0, "wrong": 1.5, "half": 0.5, "full": 0.0, "conjugation": 0.0}.items():
        assert found[variant] == pytest.approx(share * unit, abs=2e-3 * unit)
    # a linear change grows everywhere alike: growth is right in every variant, the place is not
    trace = 100 * (np.exp(-1e-3 * np.trace(GENERATOR)) - 1)
    assert table["true_growth_pct"].to_numpy() == pytest.approx(trace, rel=1e-3)
    assert table["growth_pct"].to_numpy() == pytest.approx(trace, rel=1e-3)


def curved(n: int = 25) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    along, affine = swirl(n)
    x, y, z = (np.indices((n, n, n)) / (n - 1) - 0.5) * np.pi
    bump = (np.cos(x) * np.cos(y) * np.cos(z)) ** 2
    return torch.from_numpy(bump * np.stack([np.cos(y + 1), np.sin(2 * x - 1), np.cos(x - z)]))[None], along, affine


def test_the_pulled_back_velocity_flows_as_the_conjugate():
    """Second order in the voxel size."""
    misses = []
    for n in (17, 33):
        change, along, affine = curved(n)
        flow = expv(pulled_back(Velocity(change), Velocity(along), affine=affine), affine=affine)
        exact = conjugate(expv(Velocity(change), affine=affine), Velocity(along), affine=affine)
        misses.append(float((flow - exact).norm() / exact.norm()))
    assert misses[1] < 0.03
    assert 2.5 < misses[0] / misses[1] < 5


def test_on_curved_fields_variants_rank_as_derived():
    change, along, affine = curved()
    labels = torch.zeros(1, *change.shape[2:], dtype=torch.int16)
    labels[:, 3:-3, 3:-3, 3:-3] = 1
    table = transport_experiment(
        Volume(change[0], affine), Volume(along[0], affine), labels=Volume(labels, affine), names={1: "a", 2: "empty"},
        years=2.0,
    )
    assert set(table["region"]) == {"brain", "a"}
    for column in ("field_error", "growth_error"):
        error = table.query("region == 'a'").set_index("variant")[column]
        assert max(error["full"], error["conjugation"]) < error["half"] / 2 < error["half"] < error["none"]
        assert error["none"] < error["wrong"]
    with pytest.raises(NbkitError, match="transport_experiment: change and labels"):
        transport_experiment(Volume(change[0], affine), Volume(along[0], affine), labels=Volume(labels), names={1: "a"})


def test_maps_for_pictures_hold_what_the_table_compares():
    """Displacements pull back, growth is that of the way forward: in a linear change both are known."""
    affine = FRAMES["oblique"]
    along = torch.as_tensor(SHIFT).view(3, 1, 1, 1).expand(3, *SHAPE)
    change = linear_field(1e-3 * GENERATOR, affine)
    maps = transported_maps(Volume(change[0], affine), Volume(along, affine), years=2.0)
    assert list(maps) == ["truth", *VARIANTS]
    for name, share in {"truth": 1, "full": 1, "conjugation": 1, "half": 0.5, "none": 0, "wrong": -0.5}.items():
        field, growth = maps[name]
        exact = 2 * (change + 1e-3 * share * torch.as_tensor(GENERATOR @ SHIFT).view(1, 3, 1, 1, 1))
        assert torch.allclose(field.data[None].double()[INSIDE], exact[INSIDE], atol=3e-3 * float(exact.abs().max()))
        assert torch.allclose(growth.data[INSIDE[1:]], torch.tensor(-2e-3 * np.trace(GENERATOR)).float(), atol=2e-6)
