"""Real heads as donors: laid on the template by the centres of structures, their labels kept as regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.phantom.acquisition import rigid
from nbkit.phantom.fdg import Patient, relative, simulate, template_donor
from nbkit.phantom.fdg_donor import centres_of, label_donor, rigid_between
from nbkit.phantom.regions import Regions

MOVE = rigid((6.0, -4.0, 9.0), (12.0, -30.0, 25.0))


@pytest.fixture(scope="module")
def template() -> Regions:
    return template_donor(4).regions


@pytest.fixture(scope="module")
def labelled(template) -> tuple[Volume, dict]:
    """The template as a label map of a head elsewhere in the world, and the codes of its structures."""
    filled = template.maps.data.sum(dim=0) > 0.5
    codes = {}
    for n, name in enumerate(template.names, start=1):
        structure, _, side = name.rpartition("_")
        codes.setdefault(structure, {"left": [], "right": [], "middle": []})[side].append(n)
    labels = ((template.maps.data.argmax(dim=0) + 1) * filled).int()
    return Volume(labels[None], MOVE @ template.maps.affine), codes


@given(
    st.lists(st.floats(-60, 60), min_size=3, max_size=3), st.lists(st.floats(-80, 80), min_size=3, max_size=3),
    st.integers(0, 99),
)
def test_a_rigid_transform_is_found_again(turn, shift, seed):
    points = np.random.default_rng(seed).normal(0, 40, (8, 3))
    matrix = rigid(turn, shift)
    fixed = {str(i): p for i, p in enumerate(points)}
    moving = {str(i): matrix[:3, :3] @ p + matrix[:3, 3] for i, p in enumerate(points)} | {"more": points[0]}
    np.testing.assert_allclose(rigid_between(fixed, moving), matrix, atol=1e-8)


def test_mirrored_places_are_turned_never_mirrored():
    points = np.random.default_rng(0).normal(size=(6, 3))
    found = rigid_between(dict(enumerate(points)), dict(enumerate(points * [-1, 1, 1])))
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1)


def test_two_places_are_not_enough():
    with pytest.raises(NbkitError, match="three places or more.*found 2"):
        rigid_between({"a": np.zeros(3), "b": np.ones(3)}, {"a": np.zeros(3), "b": np.ones(3)})


def test_centres_are_those_of_scipy(template):
    found = centres_of(template)
    for k in (0, 9):
        voxel = ndimage.center_of_mass(template.maps.data[k].double().numpy())
        world = template.maps.affine[:3, :3] @ voxel + template.maps.affine[:3, 3]
        np.testing.assert_allclose(found[template.names[k]], world, atol=1e-6)
    assert found["frontal_left"][0] < 0 < found["frontal_right"][0]


def test_a_moved_head_comes_back_to_the_template_and_gives_people(template, labelled):
    labels, codes = labelled
    donor = label_donor("IXI000", 65.0, labels, codes, profile="smoke", template=template)
    assert set(donor.regions.names) == set(template.names) and donor.age == 65.0
    here, there = centres_of(donor.regions), centres_of(template)
    gaps = {n: np.linalg.norm(here[n] - there[n]) for n in there if "csf" not in n}
    assert max(gaps.values()) < 3.0, "whole voxels of 4 mm, and small structures"
    big = [n for n in template.names if template.volumes[n] > 20_000]
    assert all(donor.regions.volumes[n] == pytest.approx(template.volumes[n], rel=0.25) for n in big if "csf" not in n)
    patient = Patient("ad001", "M", 80.0, "AD")
    made = simulate(patient, donor, relative(patient, numpy_generator(1, "head")), profile="smoke", seed=1)
    assert made.facts["donor"] == "IXI000" and float(made.image.data.max()) > 1.1
    assert float(made.image.data[made.masks["reference"].data].mean()) == pytest.approx(1.0, abs=1e-5)


def test_a_label_map_without_a_structure_is_refused(template, labelled):
    labels, codes = labelled
    putamen = torch.isin(labels.data, torch.tensor(codes["putamen"]["left"]))
    lost = labels.with_data(torch.where(putamen, 0, labels.data))
    with pytest.raises(NbkitError, match="none of putamen_left"):
        label_donor("x", 65.0, lost, codes, profile="smoke", template=template)
