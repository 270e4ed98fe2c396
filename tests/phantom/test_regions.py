"""Regions: they share the tissues out, lie where they should, and have the sizes of adult structures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.phantom.anatomy import draw_anatomy, load_template, template_flow
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.regions import AGEING_PARAMETERS, from_labels, place, template_maps

P = load_parameters()
AGEING = load_parameters(AGEING_PARAMETERS)

# DLMUSE volumes of controls of 45 years, the youngest there are: 5th and 95th centile, mL
ADULT = {
    "hippocampus_right": (3.510, 4.801), "hippocampus_left": (3.257, 4.479), "amygdala_right": (0.923, 1.296),
    "thalamus_right": (7.108, 9.388), "temporal_right": (47.2, 66.0), "frontal_right": (86.8, 119.2),
}
INTRACRANIAL = 1421.0  # mL, their median


@pytest.fixture(scope="module")
def maps():
    return template_maps(load_template(P), AGEING, spacing=4)


@pytest.fixture(scope="module")
def millilitres(maps):
    """Volumes after scaling the template to a usual head."""
    scale = INTRACRANIAL / sum(maps[0].volumes.values())
    return {name: volume * scale for name, volume in maps[0].volumes.items()}


def centroid(maps: Volume, channel: int) -> np.ndarray:
    """World position (mm) of one map's centre of mass."""
    weights = maps.data[channel].double()
    axes = [torch.arange(n, dtype=torch.float64) for n in maps.shape]
    sums = [weights.sum(dim=[d for d in range(3) if d != axis]) @ axes[axis] for axis in range(3)]
    return (maps.affine @ [*(float(s / weights.sum()) for s in sums), 1])[:3]


def test_regions_share_the_tissues_out_without_overlap(maps):
    regions, tissues = maps
    assert float(regions.maps.data.min()) >= 0
    torch.testing.assert_close(regions.maps.data.sum(dim=0), tissues.data.sum(dim=0), atol=1e-6, rtol=0)
    fluid = [i for i, s in enumerate(regions.structures) if s in ("csf", "lateral_ventricle")]
    torch.testing.assert_close(regions.maps.data[fluid].sum(dim=0), tissues.data[2], atol=1e-6, rtol=0)


def test_averaging_keeps_every_volume_and_place(maps):
    whole, coarse = load_template(P).fractions, maps[1]
    sums = [v.data.double().sum(dim=(1, 2, 3)) * v.voxel_volume for v in (whole, coarse)]
    torch.testing.assert_close(*sums, rtol=1e-6, atol=0)
    for tissue in range(3):
        np.testing.assert_allclose(centroid(coarse, tissue), centroid(whole, tissue), atol=0.02)


@pytest.mark.parametrize("name", ADULT)
def test_structures_have_adult_sizes(millilitres, name):
    low, high = ADULT[name]
    assert low < millilitres[name] < high


def test_tissues_and_ventricles_have_adult_sizes(maps, millilitres):
    ventricles = millilitres["lateral_ventricle_left"] + millilitres["lateral_ventricle_right"]
    assert 8.0 < ventricles < 39.2
    fractions = maps[1].data.double().sum(dim=(1, 2, 3)) / maps[1].data.double().sum()
    grey, white, _ = (fractions * INTRACRANIAL).tolist()
    assert 607 < grey < 801
    assert 446 < white < 642


def test_the_lobes_have_their_usual_order(millilitres):
    right = {n: v for n, v in millilitres.items() if n.endswith("_right")}
    assert right["frontal_right"] > right["temporal_right"] > right["occipital_right"]
    assert right["frontal_right"] > right["parietal_right"] > right["limbic_right"]


def test_left_is_left_and_the_sides_are_alike(maps, millilitres):
    regions = maps[0]
    for name in regions.names[::2]:
        structure = name.removesuffix("_left")
        left, right = (centroid(regions.maps, regions.names.index(f"{structure}_{s}")) for s in ("left", "right"))
        assert left[0] < 0 < right[0], name
        np.testing.assert_allclose(left * [-1, 1, 1], right, atol=0.5, err_msg=name)
        assert millilitres[name] == pytest.approx(millilitres[f"{structure}_right"], rel=0.02), name


@pytest.mark.parametrize("name", ["hippocampus", "amygdala", "thalamus", "caudate", "putamen"])
def test_structures_lie_at_their_published_centres(maps, name):
    """What the tissue maps cut off moves a centre by less than 3 mm."""
    regions = maps[0]
    away = centroid(regions.maps, regions.names.index(f"{name}_right")) - AGEING[f"shape.{name}.centre"]
    assert np.linalg.norm(away) < 3


def test_placing_keeps_the_sharing_and_scales_the_head(maps):
    regions, tissues = maps
    anatomy = draw_anatomy(np.random.default_rng(2), load_template(P), patient=False, parameters=P)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -126
    placed, moved = place(regions, tissues, anatomy, shape=(64, 64, 64), affine=affine)
    assert placed.names == regions.names and placed.maps.shape == moved.shape
    torch.testing.assert_close(placed.maps.data.sum(dim=0), moved.data.sum(dim=0), atol=1e-5, rtol=0)
    total = moved.data.sum(dim=0)
    assert float(torch.minimum(total.abs(), (total - 1).abs()).max()) < 1e-5  # the skull is filled
    assert float(template_flow(anatomy).norm(dim=1).max()) > 2
    assert 0.6 < sum(placed.volumes.values()) / sum(regions.volumes.values()) < 1


def test_labels_become_regions():
    labels = Volume(torch.tensor([[[0, 1], [2, 3]], [[1, 1], [4, 0]]]), np.diag([2.0, 1.0, 1.0, 1.0]))
    regions = from_labels(labels, {"hippocampus_left": [1], "csf": (2, 4)})
    assert regions.volumes == {"hippocampus_left": 6.0, "csf": 4.0}
    assert regions.structures == ("hippocampus", "csf")
    assert regions.maps.data.dtype == torch.float32


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ({"a": [1, 2], "csf": [2]}, r"each code in one region, found \[2\] in several"),
        ({"a": [1], "csf": [7]}, "voxels of every region, found none of csf"),
    ],
)
def test_wrong_codes_are_refused(codes, message):
    with pytest.raises(NbkitError, match=message):
        from_labels(Volume(torch.tensor([[[0, 1], [2, 3]]])), codes)
