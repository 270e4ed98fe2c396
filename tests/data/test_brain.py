"""Brains: found as deepbet finds them, in any orientation, checked for size and leaks, kept; and the fallback."""

from __future__ import annotations

import logging
import os
from importlib import metadata
from types import SimpleNamespace
from pathlib import Path

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.volume import Volume
from nbkit.data import brain, brain_network, nifti
from nbkit.data.manifest import load_manifest
from tests.data.test_preprocess import dice, flipped, head

CPU = torch.device("cpu")
with_weights = pytest.mark.skipif(not brain_network.installed(), reason=brain_network.REMEDY)
with_mirror = pytest.mark.skipif(not os.environ.get("NBKIT_MIRROR"), reason="set NBKIT_MIRROR to use the real files")
LEAKED = ("IXI212", "IXI385", "IXI527", "IXI606")
"""Those whose brains threshold and distance do not find."""


def ball(centre, radius, shape=(60, 50, 50), spacing=2.0):
    places = np.indices(shape) * spacing - np.array(centre)[:, None, None, None]
    return (places**2).sum(axis=0) < radius**2


def mask_of(inside, spacing=2.0):
    return Volume(torch.from_numpy(inside), np.diag([spacing] * 3 + [1.0]))


@pytest.fixture
def bright(monkeypatch):
    """Networks that call brain what is bright."""
    monkeypatch.setattr(brain_network, "installed", lambda: True)
    monkeypatch.setattr(brain_network, "_asked", lambda name, image, low, high, device: (
        (image[0, 0] - low) / (high - low)).clamp(0, 1).numpy())


def oblong():
    """Half-axes of 40, 60 and 50 mm in voxels of 2 × 3 × 2.5 mm, off the middle, with a hole and a bright corner."""
    shape, spacing = (60, 60, 60), np.array([2.0, 3.0, 2.5])
    world = np.indices(shape) * spacing[:, None, None, None] - np.array([50.0, 90.0, 80.0])[:, None, None, None]
    inside = ((world / np.array([40.0, 60.0, 50.0])[:, None, None, None]) ** 2).sum(axis=0) < 1
    image = 100.0 * inside
    image[26:29, 30:33, 31:34] = 0  # a hole
    image[-3:, -3:, -3:] = 100
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-50, -90, -80)
    return Volume(torch.from_numpy(image.astype(np.float32)), affine), torch.from_numpy(inside)[None]


@pytest.mark.parametrize(("axes", "order"), [((0,), (0, 1, 2)), ((), (2, 0, 1)), ((0, 1, 2), (1, 2, 0))])
def test_the_mask_comes_back_on_the_scans_own_grid_in_one_piece_without_holes(bright, axes, order):
    image, inside = (flipped(Volume(v, oblong()[0].affine), axes) for v in (oblong()[0].data, oblong()[1]))
    affine = image.affine[:, [*order, 3]]
    image, inside = (Volume(v.data[0].permute(order), affine) for v in (image, inside))
    found = brain_network.network_brain(image, device=CPU)
    assert found.shape == image.shape and found.data.dtype == torch.bool and np.array_equal(found.affine, affine)
    wrong = float((found.data != inside.data).sum()) / float(inside.data.sum())
    assert wrong < 0.03
    at = [int(n) for n in np.argwhere(image.numpy().reshape(image.shape) == 0)[0]]
    assert not found.data[0][tuple(at)]


def test_what_holds_no_head_is_refused(bright):
    flat = torch.zeros(40, 40, 40)
    flat[0, 0, 0] = 1.0
    with pytest.raises(NbkitError, match="brain: expected a T1w scan of a head, found 99 %.*not a mask"):
        brain_network.network_brain(Volume(flat), device=CPU)
    specks = torch.rand(40, 40, 40, generator=torch.Generator().manual_seed(0)) ** 40
    with pytest.raises(NbkitError, match="found nothing like a brain"):
        brain_network.network_brain(Volume(specks), device=CPU)


@with_weights
def test_weights_that_are_not_the_releases_are_refused(monkeypatch, tmp_path):
    brain_network._network.cache_clear()
    real = brain_network._weights(brain_network.BOX)
    other = tmp_path / "bbox_model.pt"
    other.write_bytes(real.read_bytes()[:-1] + b"!")
    monkeypatch.setattr(brain_network, "_weights", lambda name: other)
    with pytest.raises(NbkitError, match=r"bbox_model\.pt: expected the weights of deepbet 1\.0\.2.*--force-reinstall"):
        brain_network._network(brain_network.BOX, "cpu")


@with_weights
def test_a_package_without_its_files_is_refused(monkeypatch):
    monkeypatch.setattr(metadata, "distribution", lambda name: SimpleNamespace(files=[]))
    with pytest.raises(NbkitError, match=r"deepbet: data/models/model\.pt: .*pip install --no-deps deepbet==1\.0\.2"):
        brain_network._weights(brain_network.MASK)


@pytest.mark.slow
@with_weights
@with_mirror
def test_the_mask_is_that_of_deepbets_own_code():
    bet = pytest.importorskip("deepbet.bet", reason="its helpers fill_voids and connected-components-3d are not here")
    people = load_manifest("ixi_ageing").subjects()
    theirs = bet.BrainExtraction(no_gpu=True)
    for name in list(people)[::20]:
        path = load_manifest("ixi_ageing").locate(people[name]["T1w"])
        _, mask, _ = theirs.run(str(path))
        image = nifti.read_image(path)
        nifti_path = Path(os.environ["NBKIT_CACHE"]) / f"{name}_theirs.nii.gz"
        mask.to_filename(nifti_path)
        found = brain_network.network_brain(image, device=CPU)
        assert int((found.data != (nifti.read_labels(nifti_path).data > 0)).sum()) <= 5, name


@pytest.mark.slow
@with_weights
@with_mirror
def test_brains_of_real_heads_meet_dlmuse():
    """Every sixth head, and those that threshold and distance lose."""
    manifest = load_manifest("ixi_ageing")
    roles = manifest.subjects()
    names = sorted({*list(roles)[::6], *(n for n in roles if n.startswith(LEAKED))})
    overlaps, shares = [], []
    for name in names:
        image = nifti.read_image(manifest.locate(roles[name]["T1w"]))
        truth = nifti.read_labels(manifest.locate(roles[name]["labels"])).data > 0
        found = brain.checked(brain.find_brain(image), t1w=image)
        overlaps.append(dice(found.data, truth))
        shares.append(float(found.data.sum()) / float(truth.sum()))
    assert np.mean(overlaps) > 0.97 and min(overlaps) > 0.95
    assert np.mean(shares) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("axes", [(), (0,), (0, 1)], ids=["RAS", "LAS", "LPS"])
def test_without_the_package_threshold_and_distance_find_it_and_say_so(monkeypatch, caplog, axes):
    monkeypatch.setattr(brain_network, "installed", lambda: False)
    brain._warn.cache_clear()
    image, inside = (flipped(v, axes) for v in head())
    with caplog.at_level(logging.WARNING):
        found = brain.find_brain(image)
    assert "deepbet is not installed" in caplog.text and "pip install --no-deps deepbet==1.0.2" in caplog.text
    assert dice(found.data, inside.data) > 0.95 and brain.finder() == "threshold and distance"
    np.testing.assert_array_equal(found.affine, image.affine)


def test_what_has_not_the_size_of_a_brain_is_refused():
    small = mask_of(ball((50, 50, 50), 30))
    with pytest.raises(NbkitError, match=r"brain mask: expected 0\.6 to 2\.5 litres.*found 0\.11.*Give a brain mask"):
        brain.checked(small)


def test_a_mask_that_leaks_is_refused_if_it_was_found_and_taken_if_it_was_given():
    """A brain of .91 litres, and a face of .7 litres that hangs on by a neck of 8 mm: (.91 + .7) / .91 = 1.77."""
    world = np.indices((130, 70, 70)) * 2.0
    centred = [world - np.array(c)[:, None, None, None] for c in ((70, 70, 70), (200, 70, 70))]
    inside, face = ((c**2).sum(axis=0) < r**2 for c, r in zip(centred, (60, 55), strict=True))
    neck = (np.hypot(centred[0][1], centred[0][2]) <= 4) & (world[0] > 70) & (world[0] < 200)
    values = np.where(inside | face | neck, 100.0, 5.0).astype(np.float32)
    image = Volume(torch.from_numpy(values), np.diag([2.0, 2, 2, 1]))
    whole, leaking = image.with_data(torch.from_numpy(inside)[None]), image.with_data(image.data > 50)
    shrinks, tissue = brain.leak(image, whole)
    assert shrinks == pytest.approx(1, abs=0.01) and tissue == pytest.approx(1, abs=0.01)
    assert brain.leak(image, leaking)[0] == pytest.approx(1 + (55 / 60) ** 3, rel=0.03)
    assert brain.checked(whole, t1w=image) is whole and brain.checked(leaking) is leaking
    with pytest.raises(NbkitError, match="brain mask: expected brain alone.*it leaks into face, neck or scalp.*Give a"):
        brain.checked(leaking, t1w=image)
    dark = image.with_data(torch.where(whole.data, image.data, torch.tensor(5.0)))
    grown = torch.from_numpy((centred[0] ** 2).sum(axis=0) < 72**2)[None]
    with pytest.raises(NbkitError, match="found 1.00-fold and 5[78]%"):
        brain.checked(dark.with_data(grown), t1w=dark)


def test_a_brain_is_found_once_and_kept(monkeypatch, tmp_path):
    image, inside = head()
    asked = []
    monkeypatch.setattr(brain, "find_brain", lambda t1w: asked.append(1) or inside.with_data(inside.data, "found"))
    cache = Cache(tmp_path)
    first, second = (brain.kept_brain(image, cache=cache) for _ in range(2))
    assert torch.equal(first.data, inside.data) and torch.equal(second.data, inside.data) and len(asked) == 1
    assert second.history[-1] == "found"
    brain.kept_brain(image.with_data(image.data + 1), cache=cache)
    brain.kept_brain(Volume(image.data, image.affine + np.eye(4)), cache=cache)
    monkeypatch.setattr(brain, "finder", lambda: "another")
    brain.kept_brain(image, cache=cache)
    assert len(asked) == 4
