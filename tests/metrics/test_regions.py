"""Regional volumes against closed forms, Dice by structure against counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.metrics.regions import by_structure, dice_by_structure, regional_volumes, soft_volumes, structure

NAMES = {1: "caudate_left", 2: "caudate_right", 5: "hindbrain"}
AFFINE = np.array([[0, 0, 1.5, 0], [2.0, 0, 0, 0], [0, -0.9, 0, 0], [0, 0, 0, 1]])


def labels(*values: int) -> Volume:
    return Volume(torch.tensor(values, dtype=torch.int16).reshape(1, -1, 1, 1), AFFINE)


def test_hard_volumes_count_voxels_in_any_frame():
    found = regional_volumes(labels(1, 1, 2, 7, 0, 1), NAMES)
    assert found == {"caudate_left": pytest.approx(3 * 2.7), "caudate_right": pytest.approx(2.7), "hindbrain": 0}
    assert by_structure(found) == {"caudate": pytest.approx(4 * 2.7), "hindbrain": 0}
    with pytest.raises(NbkitError, match="regional_volumes: labels: expected whole label numbers"):
        regional_volumes(Volume(torch.tensor([0.5, 1]).reshape(1, 2, 1, 1)), NAMES)


def test_soft_volumes_of_a_sphere():
    """A sphere with a soft edge has the volume of the sphere, on voxels a fifth of its radius."""
    affine, shape = np.diag([2.0, 1.5, 2.5, 1.0]), (21, 29, 19)
    places = np.tensordot(np.diag(affine)[:3] * np.eye(3), np.indices(shape), axes=1)
    r = np.linalg.norm(places - np.reshape([20, 21, 22], (3, 1, 1, 1)), axis=0)
    maps = torch.from_numpy(np.stack([np.clip((12 - r) / 2 + 0.5, 0, 1), np.zeros(shape)])).float()
    found = soft_volumes(Volume(maps, affine), ("ball", "nothing"))
    assert found["nothing"] == 0
    assert found["ball"] == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.01)
    with pytest.raises(NbkitError, match="expected 2 names, one per map, found 1"):
        soft_volumes(Volume(maps, affine), ("ball",))
    with pytest.raises(NbkitError, match="shares from 0 to 1, found 0 to 3"):
        soft_volumes(Volume(3 * maps, affine), ("ball", "nothing"))


def test_dice_of_two_sides_is_their_mean():
    a, b = labels(1, 1, 1, 2, 2, 0, 0), labels(1, 0, 0, 2, 2, 2, 0)
    found = dice_by_structure(a, b, NAMES)
    assert found["caudate"] == pytest.approx((2 * 1 / 4 + 2 * 2 / 5) / 2)
    assert np.isnan(found["hindbrain"])
    one_side = dice_by_structure(labels(1, 1, 0), labels(1, 1, 0), NAMES)
    assert one_side["caudate"] == 1.0
    swapped = dice_by_structure(labels(1, 2, 0), labels(2, 1, 0), NAMES)
    assert swapped["caudate"] == 0.0
    with pytest.raises(NbkitError, match="dice_by_structure: a and b"):
        dice_by_structure(a, Volume(b.data), NAMES)


def test_structures_are_named_without_their_side():
    assert [structure(n) for n in ("caudate_left", "caudate_right", "hindbrain", "left_over")] == [
        "caudate", "caudate", "hindbrain", "left_over",
    ]
