"""Preprocessing of a drawn head: bias, brain, alignment in any orientation, one interpolation, cache, jobs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from joblib import parallel_config
from scipy import ndimage

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.volume import Volume
from nbkit.data import nifti, preprocess
from nbkit.data.preprocess import Config, Reference, Source
from nbkit.geometry.placement import place

SHAPE, SPACING = (64, 72, 64), 3.0
LEVELS = {"outside": 0.0, "scalp": 1.9, "bone": 0.05, "fluid": 0.3, "grey": 0.7, "white": 1.0}
RIGID = Config(alignment="rigid")
QUICK = Config(alignment="rigid", bias_iterations=(5,))
GRID = (40, 48, 40), np.array([[4.0, 0, 0, -78], [0, 4.0, 0, -94], [0, 0, 4.0, -78], [0, 0, 0, 1]])


def centred(shape=SHAPE, spacing=SPACING):
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    return affine


def turned(degrees, shift=(0, 0, 0)):
    """Rotation about z, then x."""
    a, b = np.radians(degrees)
    z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = x @ z, shift
    return matrix


def tissue_at(world):
    """Names of tissue at world places (3, ...): uneven shells of an ellipsoid with off-centre ventricles."""
    x, y, z = world
    radius = np.sqrt((x / 66) ** 2 + (y / 82) ** 2 + (z / 64) ** 2)
    folds = 0.05 * np.cos(x / 9 + 0.5) * np.cos(y / 11) + 0.06 * (y > 25) - 0.05 * (z < -20)
    hole = ((x - 12) / 10) ** 2 + ((y + 8) / 22) ** 2 + ((z - 6) / 9) ** 2 < 1
    hole |= ((x + 14) / 8) ** 2 + ((y - 12) / 16) ** 2 + ((z + 4) / 8) ** 2 < 1
    bounds = [hole, radius < 0.76 + folds, radius < 0.955, radius < 1.0, radius < 1.11, radius < 1.2]
    return np.select(bounds, ["fluid", "white", "grey", "fluid", "bone", "scalp"], "outside"), radius < 1


def head(pose=None, *, seed=0, noise=0.02):
    """T1w head and its brain mask; `pose` leads from the world of the image to that of the drawing."""
    i, j, k = np.indices(SHAPE)
    pose = np.eye(4) if pose is None else pose
    a = pose @ centred()
    world = np.stack([a[r, 0] * i + a[r, 1] * j + a[r, 2] * k + a[r, 3] for r in range(3)])
    names, inside = tissue_at(world)
    values = np.vectorize(LEVELS.get, otypes=[np.float32])(names)
    values = np.abs(values + np.random.default_rng(seed).normal(0, noise, SHAPE)).astype(np.float32)
    return Volume(torch.from_numpy(400 * values), centred()), Volume(torch.from_numpy(inside), centred())


@pytest.fixture(scope="module")
def scan():
    return head()


@pytest.fixture(scope="module")
def reference():
    return Reference(*head(seed=1))


def dice(a, b):
    return 2 * int((a & b).sum()) / int(a.sum() + b.sum())


def flipped(volume, axes):
    """The same image in the world, its arrays running the other way along `axes`."""
    turn = np.eye(4)
    for axis in axes:
        turn[axis, axis], turn[axis, 3] = -1, volume.shape[axis] - 1
    return Volume(volume.data.flip([a + 1 for a in axes]), volume.affine @ turn)


def test_n4_takes_out_a_planted_bias(scan):
    image, inside = scan
    x, y, z = (np.linspace(-1, 1, n) for n in SHAPE)
    planted = np.exp(0.25 * np.sin(1.5 * x)[:, None, None] - 0.2 * np.cos(2 * y)[:, None] + 0.1 * z).astype(np.float32)
    spoilt = image.with_data(image.data * torch.from_numpy(planted))
    mended = preprocess.correct_bias(spoilt, inside)
    before, after = (np.log((v.data / image.data)[inside.data].numpy()) for v in (spoilt, mended))
    assert before.std() > 0.12
    assert after.std() < before.std() / 4
    assert abs(np.log((mended.data / spoilt.data)[inside.data].numpy()).mean()) < 1e-4
    assert mended.history[-1].startswith("N4 bias field removed")


def test_the_white_matter_peak_is_found_and_brought_to_one(scan):
    image, inside = scan
    assert preprocess.white_matter_peak(image, inside) == pytest.approx(400, rel=0.02)
    scaled = preprocess.white_matter_one(image.with_data(image.data * 3), inside)
    assert preprocess.white_matter_peak(scaled, inside) == pytest.approx(1, rel=0.01)
    with pytest.raises(NbkitError, match="contrast inside the brain"):
        preprocess.white_matter_peak(image.with_data(torch.ones_like(image.data)), inside)


POSE = turned((8, -6), (5, -7, 4))


@pytest.fixture(scope="module")
def posed():
    return head(POSE)


@pytest.fixture(scope="module")
def prepared(posed, reference):
    return preprocess.prepare(posed[0], reference, config=RIGID, mask=posed[1])


def test_a_rigid_alignment_is_recovered_and_keeps_volumes(prepared, posed, reference):
    matrix = prepared.matrix
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
    places = np.vstack([60 * np.random.default_rng(0).uniform(-1, 1, (3, 20)), np.ones(20)])
    assert np.abs((matrix - np.linalg.inv(POSE)) @ places).max() < 1.0
    inside = prepared.brain_on(*GRID)
    litres = float(inside.data.sum()) * inside.voxel_volume / float(posed[1].data.sum()) / posed[1].voxel_volume
    assert litres == pytest.approx(1, rel=0.01)
    image = prepared.image_on(inside)
    assert not image.data[~inside.data].any()
    assert preprocess.white_matter_peak(image, inside) == pytest.approx(1, abs=0.05)
    steps = " | ".join(image.history)
    for step in ("brain: given", "N4 bias", "white-matter peak", "rigid alignment", "one linear interpolation"):
        assert step in steps
    assert steps.count("interpolation") == 1


def test_the_brain_does_not_darken_at_its_edge(prepared):
    inside = prepared.brain_on(*GRID)
    mask = inside.data[0].numpy()
    edge = mask & ~ndimage.binary_erosion(mask)
    darkened = prepared.image.with_data(prepared.image.data * prepared.brain.data)
    naive = place(darkened, prepared.matrix, shape=GRID[0], affine=GRID[1]).data[0].numpy()[edge]
    ours = prepared.image_on(inside).data[0].numpy()[edge]
    assert (ours >= naive - 1e-4).all()
    assert np.quantile(ours, 0.05) > LEVELS["fluid"] - 0.08 > np.quantile(naive, 0.05)


@pytest.mark.parametrize("axes", [(0,), (0, 1)], ids=["LAS", "LPS"])
def test_the_order_of_the_voxels_does_not_matter(prepared, posed, reference, axes):
    other = preprocess.prepare(
        flipped(posed[0], axes), reference, config=RIGID, mask=flipped(posed[1], axes)
    )
    same(prepared, other)


def test_an_oblique_scan_gives_what_an_upright_one_gives(prepared, posed, reference):
    tilt = turned((-7, 10), (10, 5, -8))
    image, mask = (Volume(v.data, tilt @ v.affine) for v in posed)
    other = preprocess.prepare(image, reference, config=RIGID, mask=mask)
    same(prepared, other, moved=tilt)


def same(one, other, moved=None):
    """The same place to a tenth of a millimetre, and the same image to a hundredth of white matter."""
    moved = np.eye(4) if moved is None else moved
    places = np.vstack([60 * np.random.default_rng(0).uniform(-1, 1, (3, 20)), np.ones(20)])
    assert np.abs((moved @ one.matrix - other.matrix) @ places).max() < 0.1
    inside = one.brain_on(*GRID)
    assert dice(inside.data, other.brain_on(*GRID).data) > 0.995
    gap = (one.image_on(inside).data - other.image_on(inside).data).abs()
    assert float(gap.mean()) < 0.01


def test_a_brain_that_does_not_lie_in_the_templates_is_refused(prepared, reference):
    image, inside, matrix = prepared.image, prepared.brain, prepared.matrix
    shared, alike = preprocess.check_alignment(image, inside, reference, matrix)
    assert shared > 0.98 and alike > 0.9
    small = np.diag([1.25, 1.25, 1.25, 1.0])  # a brain four fifths as long lies wholly inside
    shrunk = preprocess.check_alignment(image, inside, reference, matrix @ small)[0]
    assert shrunk > 0.98
    with pytest.raises(NbkitError, match="alignment to the template: expected a brain that lies.*nbkit data check"):
        preprocess.check_alignment(image, inside, reference, matrix @ turned((0, 90)))
    away = np.eye(4)
    away[0, 3] = 60.0
    with pytest.raises(NbkitError, match="alignment to the template"):
        preprocess.check_alignment(image, inside, reference, matrix @ away)


def test_a_mask_that_does_not_fit_is_refused(posed, reference):
    image, mask = posed
    with pytest.raises(NbkitError, match="prepare: t1w and mask.*same affine"):
        preprocess.prepare(image, reference, mask=Volume(mask.data, mask.affine + np.eye(4)))
    with pytest.raises(NbkitError, match="litres of brain, found 0.00"):
        preprocess.prepare(image, reference, mask=mask.with_data(torch.zeros_like(mask.data)))


def test_wrong_settings_are_refused():
    with pytest.raises(NbkitError, match="Did you mean 'rigid'"):
        Config(alignment="rigyd")
    with pytest.raises(NbkitError, match="Did you mean 'bias_mm'"):
        Config.from_dict({"bias_m": 3})
    with pytest.raises(NbkitError, match=r"6 mm and \(50, 50, 50\)"):
        Config(bias_iterations=())


@pytest.fixture(scope="module")
def sources(tmp_path_factory, posed):
    folder, made = tmp_path_factory.mktemp("heads"), []
    for k, (image, mask) in enumerate((posed, head(turned((-5, 4)), seed=2))):
        t1w = nifti.save_image(folder / f"{k}_T1w.nii.gz", image)
        labels = nifti.save_labels(folder / f"{k}_labels.nii.gz", mask.with_data(3 * mask.data.int()))
        made.append(Source(f"sub-{k}", "M000", t1w, labels))
    return made


def run(sources, reference, cache, *, config=QUICK.changed(alignment="affine")):
    shape, affine = GRID
    return preprocess.prepare_files(
        sources, reference, shape=shape, affine=affine, config=config, cache=cache, progress=False
    )


@pytest.fixture(scope="module")
def done(sources, reference, tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return cache, run(sources, reference, cache)


def test_files_become_scans_on_the_grid(done):
    assert [scan.subject for scan in done[1]] == ["sub-0", "sub-1"]
    for scan in done[1]:
        assert scan.image("T1w").shape == GRID[0] and scan.mask("brain").data.dtype == torch.bool
        assert scan.image("T1w").history[0].startswith("read ")
        assert "affine alignment" in scan.image("T1w").history


def test_the_second_time_nothing_is_prepared(done, sources, reference, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(preprocess, "prepare", lambda *_, **__: pytest.fail("prepared again"))
        again = run(sources, reference, done[0])
        assert all(torch.equal(a.image("T1w").data, b.image("T1w").data) for a, b in zip(done[1], again, strict=True))
        with pytest.raises(pytest.fail.Exception, match="prepared again"):
            run(sources, reference, done[0], config=QUICK)
        with pytest.raises(pytest.fail.Exception, match="prepared again"):
            run([Source("sub-0", "M000", sources[1].t1w, sources[0].brain)], reference, done[0])


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_jobs_side_by_side_give_what_one_gives(done, sources, reference, tmp_path, backend):
    with parallel_config(backend=backend, n_jobs=2):
        other = run(sources, reference, Cache(tmp_path))
    for a, b in zip(done[1], other, strict=True):
        assert torch.equal(a.image("T1w").data, b.image("T1w").data)
        assert torch.equal(a.mask("brain").data, b.mask("brain").data)


def test_bad_files_are_refused_by_name(sources, reference, tmp_path):
    good = sources[0]
    with pytest.raises(NbkitError, match=r"nowhere\.nii\.gz: expected an image file"):
        run([Source("a", "1", tmp_path / "nowhere.nii.gz")], reference, Cache(tmp_path / "c"))
    mask = nifti.read_labels(good.brain)
    shifted = nifti.save_labels(tmp_path / "shifted.nii.gz", Volume(mask.data, mask.affine + np.eye(4)))
    with pytest.raises(NbkitError, match=r"shifted\.nii\.gz against 0_T1w\.nii\.gz.*same affine"):
        run([Source("a", "1", good.t1w, shifted)], reference, Cache(tmp_path / "c"))
    empty = nifti.save_labels(tmp_path / "empty.nii.gz", mask.with_data(torch.zeros_like(mask.data)))
    with pytest.raises(NbkitError, match=r"0_T1w\.nii\.gz: brain mask.*litres"):
        run([Source("a", "1", good.t1w, empty)], reference, Cache(tmp_path / "c"))
    assert not list((tmp_path / "c").rglob("*.safetensors"))


@pytest.mark.parametrize(("times", "plus"), [(1, -1000), (0.01, -3), (-1e-3 + 1.001, 0), (2, 5000), (1, -500)])
def test_an_offset_or_z_scores_of_a_whole_image_do_not_move_the_ratio_of_tissues(scan, times, plus):
    """Grey is .7 of white, air 0, whatever is added to all voxels; all-negative images among them."""
    image, inside = scan
    shifted = preprocess.from_air(image.with_data(image.data * times + plus), inside)
    scaled = preprocess.white_matter_one(shifted, inside).numpy()
    names, _ = tissue_at(np.stack([np.einsum("r,rijk->ijk", centred()[k, :3], np.indices(SHAPE)) + centred()[k, 3]
                                   for k in range(3)]))
    for name, value in (("white", 1.0), ("grey", 0.7), ("outside", 0.02)):
        assert np.median(scaled[names == name]) == pytest.approx(value, abs=0.03), name


def test_z_scores_of_a_stripped_brain_are_refused_before_anything_is_done(scan, reference):
    image, inside = scan
    values = image.data[inside.data]
    scored = image.with_data(torch.where(inside.data, (image.data - values.mean()) / values.std(), 0.0))
    for bad in (scored, image.with_data(-image.data * inside.data)):
        with pytest.raises(NbkitError, match=r"a brain brighter than the air.*z-scored or shifted after the skull"):
            preprocess.prepare(bad, reference, config=QUICK, mask=inside)
    with pytest.raises(NbkitError, match=r"a brain above 0"):
        preprocess.white_matter_peak(image.with_data(image.data - 5000), inside)


def test_air_that_is_about_nothing_stays_as_it_is(scan):
    image, inside = scan
    assert preprocess.from_air(image, inside) is image
    stripped = image.with_data(image.data * inside.data)
    assert preprocess.from_air(stripped, inside) is stripped
    ringing = stripped.with_data(stripped.data - 4 * inside.data)
    assert preprocess.from_air(ringing, inside) is ringing
