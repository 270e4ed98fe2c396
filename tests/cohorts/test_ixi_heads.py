"""Heads with labels as an own scan would be prepared: on the reading grid, uncut, with their label maps' volumes."""

from __future__ import annotations

import pytest
import torch

from nbkit.cohorts import ixi_heads
from nbkit.core.files import Cache
from nbkit.data import brain, nifti
from nbkit.phantom.reading import reading_box
from tests.cohorts.test_ixi_ageing import AGES, LAYOUT, person, publish

__all__ = ["person"]


@pytest.mark.slow
def test_a_head_is_laid_on_the_reading_grid_with_its_labels_and_their_volumes(person, tmp_path, monkeypatch):
    root = tmp_path / "mirror"
    monkeypatch.setenv("NBKIT_MIRROR", str(root))
    manifest = publish(root / "ixi", person, ["IXI002"])
    labels = nifti.read_labels(root / "ixi" / LAYOUT["labels"].format(subject="IXI002"))
    monkeypatch.setattr(brain, "find_brain", lambda t1w: t1w.with_data(labels.data > 0, "found"))
    cohort = ixi_heads.build(cache=Cache(tmp_path / "cache"), progress=False, manifest=manifest)
    (subject,) = cohort
    scan, (shape, affine) = subject.baseline, reading_box()
    image, labelled = scan.image("T1w"), scan.labels
    assert (scan.age, subject.sex) == AGES["IXI002"] and image.shape == shape == labelled.shape
    image.check_grid(scan.mask("brain"), "test")
    outside = ~scan.mask("brain").data & (labelled.data == 0)
    assert float((image.data[outside] != 0).float().mean()) > 0.1, "not cut at the brain"
    assert torch.equal(scan.mask("skull").data[0], labelled.data[0] > 0)
    truth, names = cohort.truth["IXI002"], {name: code for code, name in scan.label_names.items()}
    assert sum(truth.volumes[0].values()) == pytest.approx(float((labels.data > 0).sum()) * labels.voxel_volume)
    for name in ("white_matter_left", "lateral_ventricle_right", "frontal_left"):
        counted = float((labelled.data == names[name]).sum()) * labelled.voxel_volume
        assert counted == pytest.approx(truth.volumes[0][name], rel=0.1), name
