"""Group maps lie on the template where they lie in the world."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.figures.mni import in_mni, on_template, template


def test_a_map_keeps_its_place_in_the_world():
    affine = np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [90, -126, -72]
    world = np.indices((61, 73, 61)).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    image = Volume(torch.tensor((world @ [1.0, 2.0, -1.0]).reshape(61, 73, 61), dtype=torch.float32), affine)
    made = on_template(image)
    anatomy, brain = template()
    assert made.spacing == (1, 1, 1) and made.shape == anatomy.shape == brain.shape
    for place in ([0, 0, 0], [30, -40, 20], [-25, 33, 51]):
        at = np.linalg.solve(made.affine, [*place, 1])[:3].round().astype(int)
        assert float(made.data[(0, *at)]) == pytest.approx(np.dot(place, [1, 2, -1]), abs=0.01)
    with pytest.raises(NbkitError, match="on_template: image"):
        on_template(image.with_data(image.data * float("nan")))


def test_a_brain_elsewhere_is_not_in_mni_space():
    brain = template()[1]
    coarse = Volume(brain.data[:, ::4, ::4, ::4], brain.affine @ np.diag([4, 4, 4, 1]))
    moved = coarse.affine.copy()
    moved[2, 3] += 60
    assert in_mni(coarse) and not in_mni(Volume(coarse.data, moved))
    assert not in_mni(coarse.with_data(torch.zeros_like(coarse.data)))
