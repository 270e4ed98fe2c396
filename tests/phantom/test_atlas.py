"""The template's regions brought to a brain that is the template itself, posed and scaled: they must meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.geometry.registration import Config
from nbkit.phantom.acquisition import rigid
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.atlas import region_agreement, template_reference
from nbkit.phantom.longitudinal import ageing_parameters, labels_of
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.regions import template_maps

QUICK = Config(levels_mm=(8.0,), iterations=(5,))


@pytest.fixture(scope="module")
def template():
    return load_template(load_parameters())


@pytest.fixture(scope="module")
def scan(template):
    regions, tissues = template_maps(template, ageing_parameters(), spacing=4)
    gm, wm, csf = tissues.data
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.01, gm.shape)).float()
    pose = rigid((4, -6, 5), (3, 5, -4)) @ np.diag([0.9, 0.9, 0.9, 1])
    image = Volume((0.65 * gm + wm + 0.2 * csf + noise)[None], pose @ regions.maps.affine)
    labels = labels_of(regions)
    names = dict(enumerate(regions.names, start=1))
    return Scan("a", "1", 60.0, {"T1w": image}, {}, Volume(labels.data, image.affine), names)


def test_the_reference_has_the_contrast_of_t1w_and_the_whole_inside_of_the_skull(template):
    reference = template_reference(template)
    assert reference.image.spacing == (2.0, 2.0, 2.0)
    inside = reference.image.data[reference.brain.data]
    assert 0.9 < float(inside.quantile(0.95)) <= 1.0 and float(inside.min()) > 0
    litres = float(reference.brain.data.sum()) * reference.brain.voxel_volume / 1e6
    assert litres == pytest.approx(float(template.fractions.data.sum()) / 1e6, rel=0.01)


def test_regions_meet_the_labels_they_came_from(template, scan):
    table = region_agreement([scan], template, ageing_parameters(), config=QUICK, progress=False)
    assert list(table.columns) == ["median", "low", "high", "volume_ratio", "n"] and (table["n"] == 1).all()
    assert len(table) == len(scan.label_names) / 2
    # fluid is thinner than these voxels of 4 mm, and deep_grey is what the nuclei leave over: both are single voxels
    thick = table.drop(["csf", "deep_grey"])
    assert thick["median"].min() > 0.75 and thick["median"].mean() > 0.85
    assert ((thick["volume_ratio"] - 1).abs() < 0.25).all()


def test_names_decide_not_codes(template, scan):
    shuffled = {code + 1: name for code, name in scan.label_names.items()}
    labels = scan.labels.with_data(scan.labels.data + (scan.labels.data > 0).to(torch.uint8))
    other = Scan("b", "1", 60.0, scan.images, {}, labels, shuffled)
    table = region_agreement([other], template, ageing_parameters(), config=QUICK, progress=False)
    assert table["median"].mean() > 0.85


def test_scans_without_labels_or_with_other_names_are_refused(template, scan):
    with pytest.raises(NbkitError, match="region_agreement: c: expected a scan with labels"):
        region_agreement([Scan("c", "1", 60.0, scan.images)], template, ageing_parameters(), config=QUICK)
    wrong = Scan("d", "1", 60.0, scan.images, {}, scan.labels, {1: "hipocampus_left"})
    with pytest.raises(NbkitError, match="labels of d.*Did you mean 'hippocampus_left'"):
        region_agreement([wrong], template, ageing_parameters(), config=QUICK)
