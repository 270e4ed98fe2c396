"""What systems are trained on: contrast sets with gaps, regions and their classifier, turned and scaled copies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.papers.myelin.inputs import (
    POSES, ContrastReader, Pose, RoiClassifier, draw_poses, drop_contrasts, has_rois, posed, posed_batch, roi_masks,
)

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
NAMES = ("MTR", "RD")


def partial_scan(seed: int, *names: str) -> Scan:
    g = torch.Generator().manual_seed(seed)
    brain = torch.zeros(1, 5, 6, 7, dtype=torch.bool)
    brain[:, 1:4, 1:5, 2:6] = True
    images = {n: Volume(10 * len(n) + torch.randn(1, 5, 6, 7, generator=g), AFFINE) for n in names}
    return Scan(f"s{seed}", "t0", 30.0, images, {"brain": Volume(brain, AFFINE)})


SCANS = [partial_scan(1, "MTR", "RD", "DVR"), partial_scan(2, "MTR", "DVR"), partial_scan(3, "MTR", "RD", "DVR")]


def test_constants_come_from_the_scans_that_have_the_contrast():
    fitted = ContrastReader.fit(SCANS, NAMES, "DVR", incomplete=True, over="brain").standardiser
    for name, having in (("MTR", SCANS), ("RD", SCANS[::2])):
        values = torch.cat([s.image(name).data[s.mask("brain").data] for s in having]).double()
        assert fitted.mean[name] == pytest.approx(float(values.mean()))
        assert fitted.sd[name] == pytest.approx(float(values.std(correction=0)))


def test_published_constants_count_every_voxel_and_background_is_what_zero_becomes():
    reader, s = ContrastReader.fit(SCANS[::2], NAMES, "DVR", incomplete=False), SCANS[0]
    fitted, channels = reader.standardiser, reader.channels(s.images, s.mask("brain"))
    inside = s.mask("brain").data[:, 1:4, 1:5, 2:6]
    assert inside.all(), "the toy's brain fills its box"
    for name in NAMES:
        values = torch.cat([x.image(name).data.flatten() for x in SCANS[::2]]).double()
        assert fitted.mean[name] == pytest.approx(float(values.mean()))
    hole = s.mask("brain").data.clone()
    hole[:, 2, 2, 3] = False
    bitten = reader.channels(s.images, s.mask("brain").with_data(hole))
    nothing = torch.tensor([-fitted.mean[n] / fitted.sd[n] for n in NAMES], dtype=torch.float32)
    torch.testing.assert_close(bitten[:, 1, 1, 1], nothing)
    assert torch.equal(bitten[:, 0], channels[:, 0])
    brain = ContrastReader.fit(SCANS[::2], NAMES, "DVR", incomplete=False, over="brain")
    assert not brain.channels(s.images, s.mask("brain").with_data(hole))[:, 1, 1, 1].any()


def test_a_missing_contrast_is_its_mean_and_told():
    s = SCANS[1]
    channels = ContrastReader.fit(SCANS, NAMES, "DVR", incomplete=True).channels(s.images, s.mask("brain"))
    assert channels.shape == (4, 3, 4, 4) and channels[0].any()
    assert not channels[1].any() and (channels[2] == 1).all() and not channels[3].any()


def test_a_reader_without_gaps_refuses_them_by_name():
    with pytest.raises(NbkitError, match="s2/t0: contrast: expected 'RD'"):
        ContrastReader.fit(SCANS, NAMES, "DVR", incomplete=False)
    reader = ContrastReader.fit(SCANS[::2], NAMES, "DVR", incomplete=False)
    with pytest.raises(NbkitError, match="expected 'RD'"):
        reader.channels(SCANS[1].images, SCANS[1].mask("brain"))
    assert reader.width == 2 and reader.channels(SCANS[0].images, SCANS[0].mask("brain")).shape == (2, 3, 4, 4)


def test_nobody_with_a_contrast_or_none_of_them_is_refused():
    with pytest.raises(NbkitError, match="contrast: expected 'FA'"):
        ContrastReader.fit(SCANS, ("FA",), "DVR", incomplete=True)
    reader = ContrastReader.fit(SCANS, NAMES, "DVR", incomplete=True)
    with pytest.raises(NbkitError, match="at least one of MTR, RD, found DVR"):
        reader.channels({"DVR": SCANS[0].image("DVR")}, SCANS[0].mask("brain"))


def test_reading_the_target_and_writing_it_back():
    reader, s = ContrastReader.fit(SCANS, NAMES, "DVR", incomplete=True), SCANS[0]
    back = reader.image(reader.wanted(s)[0], s.mask("brain"), "test")
    inside = s.mask("brain").data
    torch.testing.assert_close(back.data[inside], s.image("DVR").data[inside])
    assert not back.data[~inside].any() and reader.width == 4


@given(st.integers(0, 2**31), st.lists(st.booleans(), min_size=2, max_size=5).filter(any))
def test_drops_keep_at_least_one_and_invent_none(seed, there):
    count = len(there)
    told = torch.tensor(there).float()[:, None, None, None].expand(count, 2, 2, 2)
    channels = torch.cat([told * (1 + torch.rand(count, 2, 2, 2)), told])
    dropped = drop_contrasts(channels, torch.Generator().manual_seed(seed))
    kept = dropped[count:].flatten(1).amax(1) > 0
    assert kept.any() and not (kept & ~torch.tensor(there)).any()
    assert torch.equal(dropped, channels * kept.repeat(2)[:, None, None, None])


def test_each_contrast_goes_half_of_the_time():
    channels, g = torch.ones(8, 1, 1, 1), torch.Generator().manual_seed(0)
    kept = torch.stack([drop_contrasts(channels, g)[4:].flatten() for _ in range(2000)]).mean(0)
    # one half, and a quarter of the 1/16 in which all four would go
    torch.testing.assert_close(kept, torch.full((4,), 0.5 + 1 / 64), atol=0.04, rtol=0)


SHAPE = (16, 15, 14)


def scan(seed: int, *, masks: bool = True) -> Scan:
    """Lesion, NAWM and other voxels differ in both contrasts and their spread."""
    g = torch.Generator().manual_seed(seed)
    codes = torch.full((1, *SHAPE), 2)
    codes[:, 3:12, 3:12, 3:11] = 1
    codes[:, 5:8, 5:8, 5:8] = 0
    noise = torch.randn(2, *SHAPE, generator=g)
    means, spreads = torch.tensor([[2.0, 4.0], [5.0, 1.0], [0.0, 0.0]]), torch.tensor([0.5, 0.7, 1.2])
    values = means[codes[0]].movedim(-1, 0) + spreads[codes[0]] * noise
    brain = torch.zeros(1, *SHAPE, dtype=torch.bool)
    brain[:, 1:-1, 1:-1, 1:-1] = True
    images = {n: Volume(v[None], AFFINE) for n, v in zip(("MTR", "RD"), values)}
    own = {"lesions": codes == 0, "nawm": codes == 1} if masks else {}
    return Scan(f"s{seed}", "t0", 30.0, images, {k: Volume(v, AFFINE) for k, v in {"brain": brain, **own}.items()})


@pytest.fixture(scope="module")
def fitted() -> RoiClassifier:
    return RoiClassifier(("MTR", "RD")).fit([scan(1), scan(2), scan(3, masks=False)])


def test_it_finds_the_regions_of_a_scan_without_masks(fitted):
    found, truth = fitted(scan(9, masks=False)), scan(9)
    for name in ("lesions", "nawm"):
        a, b = found[name].data, truth.mask(name).data
        assert found[name].data.dtype == torch.bool
        assert float(2 * (a & b).sum() / (a.sum() + b.sum())) > 0.9
    assert not (found["lesions"].data & found["nawm"].data).any()
    assert not found["nawm"].data[~truth.mask("brain").data].any()


def test_it_is_quadratic_discriminant_analysis(fitted, monkeypatch):
    monkeypatch.setattr("nbkit.papers.myelin.inputs._SHRINK", 1e-9)
    plain = RoiClassifier(("MTR", "RD")).fit([scan(1), scan(2)])
    rows = [plain._rows(scan(k)).numpy() for k in (1, 2, 9)]
    inside = scan(1).mask("brain").data
    codes = [torch.where(scan(k).mask("lesions").data, 0, torch.where(scan(k).mask("nawm").data, 1, 2))[inside].numpy()
             for k in (1, 2)]
    theirs = QuadraticDiscriminantAnalysis().fit(np.concatenate(rows[:2]), np.concatenate(codes)).predict(rows[2])
    found = plain(scan(9, masks=False))
    ours = torch.where(found["lesions"].data, 0, torch.where(found["nawm"].data, 1, 2))[inside].numpy()
    assert (ours == theirs).mean() > 0.999


def test_own_masks_first_then_the_segmenters_then_none_or_a_refusal(fitted):
    bare = scan(4, masks=False)
    assert has_rois(scan(4)) and not has_rois(bare)
    torch.testing.assert_close(
        roi_masks(scan(4), lambda s: pytest.fail("not needed")),
        torch.cat([scan(4).mask(n).data for n in ("lesions", "nawm")]),
    )
    torch.testing.assert_close(roi_masks(bare, fitted)[:1], fitted(bare)["lesions"].data)
    assert not roi_masks(bare, needed=False).any()
    with pytest.raises(NbkitError, match="s4/t0: mask: expected 'lesions'"):
        roi_masks(bare)


def test_bad_masks_of_a_segmenter_are_refused_by_name():
    bare = scan(4, masks=False)
    with pytest.raises(NbkitError, match="segmenter.*found 'nawm'"):
        roi_masks(bare, lambda s: {"lesions": s.mask("brain")})
    off = Volume(torch.ones(1, 3, 3, 3), AFFINE)
    with pytest.raises(NbkitError, match="lesions and brain"):
        roi_masks(bare, lambda s: {"lesions": off, "nawm": off})


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(NbkitError, match="found 0 scans with masks.*segment="):
        RoiClassifier(("MTR",)).fit([scan(1, masks=False)])
    healthy = scan(1)
    empty = healthy.mask("lesions").with_data(torch.zeros_like(healthy.mask("lesions").data))
    with pytest.raises(NbkitError, match="found 1 scans with masks"):
        RoiClassifier(("MTR",)).fit([replace(healthy, masks={**healthy.masks, "lesions": empty})])
    with pytest.raises(NbkitError, match="unfitted"):
        RoiClassifier(("MTR",))(healthy)


IMAGE = torch.randn(2, 5, 7, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("quarters", range(4))
def test_turns_are_those_of_numpy_and_undone_by_the_rest(quarters):
    turned = posed(IMAGE, Pose(quarters))
    np.testing.assert_array_equal(turned.numpy(), np.rot90(IMAGE.numpy(), quarters, axes=(1, 2)))
    assert torch.equal(posed(turned, Pose(4 - quarters)), IMAGE)


@pytest.mark.parametrize("zoom", [1.25, 0.75])
def test_a_ball_grows_by_the_cube_of_the_zoom(zoom):
    axes = torch.meshgrid(*(torch.arange(40) - 19.5,) * 3, indexing="ij")
    ball = sum(a**2 for a in axes)[None] < 10**2
    scaled = posed(ball, Pose(zoom=zoom))
    assert scaled.dtype == torch.bool and scaled.shape == ball.shape
    assert float(scaled.sum() / ball.sum()) == pytest.approx(zoom**3, rel=0.03)
    centre = scaled[0].nonzero().float().mean(0)
    torch.testing.assert_close(centre, torch.full((3,), 19.5), atol=0.3, rtol=0)


def test_a_linear_ramp_stays_linear_and_what_is_uncovered_is_zero():
    ramp = (torch.arange(32.0) - 15.5)[:, None, None].expand(32, 32, 32)[None]
    small = posed(ramp, Pose(zoom=0.75))[0, :, 16, 16]
    assert not small[:4].any() and not small[28:].any()
    torch.testing.assert_close(small[6:26].diff(), torch.full((19,), 1 / 0.75), atol=1e-4, rtol=0)
    large = posed(ramp, Pose(zoom=1.25))[0, :, 16, 16]
    torch.testing.assert_close(large[4:28].diff(), torch.full((23,), 1 / 1.25), atol=1e-4, rtol=0)


def test_poses_are_the_six_of_the_thesis_drawn_alike_often():
    assert [(p.quarters, p.zoom) for p in POSES] == [(0, 1), (1, 1), (2, 1), (3, 1), (0, 1.25), (0, 0.75)]
    drawn = draw_poses(6000, torch.Generator().manual_seed(1))
    counts = Counter(drawn)
    assert set(counts) == set(POSES) and max(abs(n - 1000) for n in counts.values()) < 130
    assert draw_poses(9, torch.Generator().manual_seed(1)) == drawn[:9]


def test_a_batch_takes_one_pose_each():
    batch = torch.stack([IMAGE, IMAGE + 1])
    out = posed_batch(batch, [Pose(2), Pose()])
    assert torch.equal(out[0], posed(IMAGE, Pose(2))) and torch.equal(out[1], IMAGE + 1)
