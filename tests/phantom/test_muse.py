"""MUSE codes merged to structures: every region once, sides kept, the middle parted in any frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.cohorts import ixi_ageing
from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.phantom.muse import merge_codes, merge_labels
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.regions import AGEING_PARAMETERS, FLUID

HEADER = "Index,Code,Name\n701,MUSE_701,TotalBrain\n"


def parameters(**muse):
    entries = {f"muse.{k}": {"value": v, "unit": "", "source": ""} for k, v in muse.items()}
    entries["unnamed.csf"] = {"value": [46], "unit": "", "source": ""}
    return Parameters(entries)


SMALL = parameters(hippocampus=["Hippocampus"], csf=["CortCSF"])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rois.csv"
    path.write_text(HEADER + "47,MUSE_47,Hippocampus_R\n48,MUSE_48,Hippocampus_L\n1,MUSE_1,CortCSF\n")
    return path


def test_codes_are_grouped_by_structure_and_side(table):
    assert merge_codes(table, SMALL) == {
        "hippocampus": {"left": [48], "right": [47], "middle": []}, "csf": {"left": [], "right": [], "middle": [1, 46]},
    }


def test_a_region_without_a_home_and_a_home_without_a_region_are_refused(table):
    with pytest.raises(NbkitError, match="'Hippocampus'"):
        merge_codes(table, parameters(csf=["CortCSF"]))
    with pytest.raises(NbkitError, match="found 'Hipocampus'. Did you mean 'Hippocampus'"):
        merge_codes(table, parameters(hippocampus=["Hippocampus", "Hipocampus"], csf=["CortCSF"]))


def test_sides_are_kept_and_the_middle_is_parted_in_the_template(table):
    codes = merge_codes(table, SMALL)
    values = torch.tensor([48, 1, 1, 0, 46, 47, 48]).view(1, 7, 1, 1)
    affine = np.diag([2.0, 2, 2, 1])
    affine[0, 3] = -7  # world x: -7, -5, ..., 5
    merged = merge_labels(Volume(values, affine), codes, np.eye(4))
    assert merged.data.flatten().tolist() == [1, 3, 3, 0, 4, 2, 1]
    # the scan lies 4 mm to the right of the template: one voxel more is on the left
    matrix = np.eye(4)
    matrix[0, 3] = 4
    assert merge_labels(Volume(values, affine), codes, matrix).data.flatten().tolist() == [1, 3, 3, 0, 3, 2, 1]
    mirrored = Volume(values.flip(1), affine @ np.array([[-1, 0, 0, 6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    assert merge_labels(mirrored, codes, np.eye(4)).data.flatten().tolist() == [1, 2, 4, 0, 3, 3, 1]


def test_a_code_of_no_structure_is_refused(table):
    with pytest.raises(NbkitError, match=r"found \[99\] as well.*unnamed"):
        merge_labels(Volume(torch.tensor([[[[99, 1]]]])), merge_codes(table, SMALL), np.eye(4))


def test_the_structures_are_those_of_the_simulator_in_its_order():
    ours = load_parameters(ixi_ageing.PARAMETERS).section("muse")
    assert list(ours) == [*load_parameters(AGEING_PARAMETERS).section("structure"), FLUID]
    names = [name for group in ours.values() for name in group]
    assert len(set(names)) == len(names)
