"""Own scans come onto the grid of the simulated cohorts, visit by visit, with their ages and diagnoses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.cohorts import own_ageing, own_scans
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.grids import block_mean
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.atlas import template_reference
from nbkit.phantom.longitudinal import ageing_parameters, grid_for
from nbkit.phantom.parameters import load_parameters


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two visits of one head, the template shifted by 10 mm, one of them without an age, and one FLAIR."""
    folder = tmp_path_factory.mktemp("own")
    reference = template_reference(load_template(load_parameters()))
    image, brain = block_mean(reference.stripped, (2, 2, 2)), block_mean(
        reference.brain.with_data(reference.brain.data.float()), (2, 2, 2))
    affine = image.affine.copy()
    affine[0, 3] += 10.0
    nifti.save_image(folder / "t1.nii.gz", Volume(900 * image.data, affine))
    nifti.save_labels(folder / "brain.nii.gz", Volume((brain.data > 0.5).to(torch.uint8), affine))
    rows = [
        ("P1", "M00", 70.5, "T1w", "t1.nii.gz"), ("P1", "M00", 70.5, "mask:brain", "brain.nii.gz"),
        ("P1", "M12", 71.5, "FLAIR", "flair.nii.gz"),
    ]
    nifti.save_image(folder / "flair.nii.gz", Volume(500 * image.data, affine))
    frame = pd.DataFrame(rows, columns=["subject", "session", "age_years", "contrast", "path"])
    frame.assign(sex="F", diagnosis="CN").to_csv(folder / "scans.csv", index=False)
    return folder / "scans.csv"


def test_a_shifted_head_is_laid_on_the_grid(table, tmp_path):
    cohort = own_ageing.on_template(
        own_scans.build(table, "smoke"), table, "smoke", cache=Cache(tmp_path), progress=False)
    shape, affine = grid_for("smoke", ageing_parameters())
    (scan,) = cohort.subject("P1").scans
    image = scan.image("T1w")
    assert image.shape == tuple(shape) and np.allclose(image.affine, affine)
    assert (scan.age, scan.diagnosis, cohort.access, cohort.provenance["scans"]) == (70.5, "CN", "restricted", 1)
    inside = scan.mask("brain").data
    centre = inside[0].nonzero().double().mean(0).numpy()
    world = affine[:3, :3] @ centre + affine[:3, 3]
    assert abs(world[0]) < 2.0, "the shift of 10 mm is undone"
    assert not image.data[~inside].any() and 0.5 < float(image.data[inside].median()) < 1.1


def test_a_table_without_t1w_is_refused(table, tmp_path):
    frame = pd.read_csv(table)
    only = table.with_name("flair_only.csv")
    frame[frame["contrast"] == "FLAIR"].to_csv(only, index=False)
    with pytest.raises(NbkitError, match="T1w images of visits with an age"):
        own_ageing.on_template(own_scans.build(only, "smoke"), only, "smoke", cache=Cache(tmp_path), progress=False)


def test_one_scan_is_prepared_as_a_cohort_is(table, tmp_path):
    scan = own_ageing.one_scan(table.with_name("t1.nii.gz"), 70.5, "smoke", cache=Cache(tmp_path), progress=False)
    shape, affine = grid_for("smoke", ageing_parameters())
    assert (scan.subject, scan.age, scan.image("T1w").shape) == ("own", 70.5, tuple(shape))
    assert np.allclose(scan.image("T1w").affine, affine) and scan.mask("brain").data.any()


def test_one_scan_can_be_laid_on_the_grid_that_volumes_are_read_on(table, tmp_path):
    file, cache = table.with_name("t1.nii.gz"), Cache(tmp_path)
    scan = own_ageing.one_scan(file, 70.5, own_ageing.READ, cache=cache, progress=False)
    assert scan.image("T1w").shape == (84, 96, 84) and scan.image("T1w").spacing == (2.0, 2.0, 2.0)
    middle = scan.image("T1w").affine @ [41.5, 47.5, 41.5, 1]
    assert np.allclose(middle[:3], ageing_parameters()["grid.centre"])


@pytest.mark.parametrize(("path", "age"), [("", 70.5), ("t1.nii.gz", None), ("t1.nii.gz", 0.705), ("", "old")])
def test_a_scan_needs_an_age_and_an_age_a_scan(path, age):
    assert own_ageing.one_scan("", None, "smoke") is None
    with pytest.raises(NbkitError, match="own_scan and own_age together"):
        own_ageing.one_scan(path, age, "smoke")
