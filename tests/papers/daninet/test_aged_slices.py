"""Slices between −1 and 1: there and back, whose constants are refused, and batches without a draw of their own."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan, age_of
from nbkit.core.volume import Volume
from nbkit.papers.daninet.aged_slices import AgedSlices, SliceFrame

S, AFFINE = 8, np.diag([3.0, 3.0, 3.0, 1.0])


def scan(name: str, *, gain: float = 1.0, age: float | None = 70.0, masked: bool = True) -> Scan:
    image = torch.zeros(1, S, S, 1)
    image[0, 2:6, 1:7, 0] = gain * torch.linspace(0.1, 1.0, 24).view(4, 6)
    masks = {"brain": Volume(image > 0.2 * gain, AFFINE)} if masked else {}
    return Scan(name, "1", age, {"T1w": Volume(image, AFFINE)}, masks)


SCANS = [scan("a"), scan("b", gain=2.0), scan("c", gain=1.2, masked=False)]


@pytest.fixture(scope="module")
def frame() -> SliceFrame:
    return SliceFrame.of(SCANS, contrast="T1w", size=S)


class Halves:
    """Two bins, before and from 70 years."""

    def index(self, age: float) -> int:
        return int(age >= 70)

    def mixture(self, age: float) -> tuple[int, float]:
        return (0, 0.25) if age < 80 else (1, 1.0)


def test_the_scale_is_the_median_of_bright_intensities(frame):
    tops = [np.percentile(s.image("T1w").numpy()[s.image("T1w").numpy() > 0], 99.5) for s in SCANS]
    assert frame.peak == pytest.approx(tops[2]) and frame.shape == (S, S, 1)


def test_there_and_back(frame):
    image = SCANS[0].image("T1w").data[0, ..., 0]
    scaled = frame.scaled(SCANS[0])
    assert scaled.shape == (S, S) and scaled[0, 0] == -1
    torch.testing.assert_close(frame.restored(scaled, SCANS[0]), image)
    assert frame.scaled(SCANS[1]).max() == 1, "what is brighter than the scale is cut"
    assert frame.restored(torch.tensor([-1.5, -1.0, 1.0]), SCANS[1]).tolist() == pytest.approx([0, 0, frame.peak])
    volume = frame.volume(image, "made")
    volume.check_grid(SCANS[0].image("T1w"), "test")
    assert torch.equal(volume.data, SCANS[0].image("T1w").data) and volume.history == ("made",)


def test_z_scores_are_of_the_scans_own_brain_and_have_no_gain():
    frame = SliceFrame.of(SCANS, contrast="T1w", size=S, intensities="z-scores")
    image, brain = SCANS[0].image("T1w").data[0, ..., 0], SCANS[0].mask("brain").data[0, ..., 0]
    z = (image - image[brain].mean()) / image[brain].std(correction=0)
    scaled = frame.scaled(SCANS[0])
    torch.testing.assert_close(scaled[brain], (z[brain] / 3).clamp(-1, 1), rtol=1e-4, atol=1e-4)
    assert (scaled[~brain] == -1).all()
    back, near = frame.restored(scaled, SCANS[0]), brain & (z.abs() < 3)
    torch.testing.assert_close(back[near], image[near], rtol=1e-4, atol=1e-3)
    louder = replace(SCANS[0], images={"T1w": Volume(3 * SCANS[0].image("T1w").data, AFFINE)})
    torch.testing.assert_close(frame.scaled(louder), scaled, rtol=1e-4, atol=1e-4)
    again = SliceFrame.restore(json.loads(json.dumps(frame.record())))
    assert torch.equal(again.scaled(SCANS[0]), scaled) and again.shape == frame.shape
    with pytest.raises(NbkitError, match="Did you mean 'z-scores'"):
        SliceFrame.of(SCANS, contrast="T1w", size=S, intensities="z-score")


def test_the_brain_is_the_mask_or_what_shines(frame):
    assert torch.equal(frame.inside(SCANS[0]), SCANS[0].mask("brain").data[0, ..., 0])
    assert torch.equal(frame.inside(SCANS[2]), SCANS[2].image("T1w").data[0, ..., 0] > 0)


def elsewhere(affine: np.ndarray, data: torch.Tensor | None = None) -> Scan:
    image = SCANS[0].image("T1w").data if data is None else data
    return replace(SCANS[0], images={"T1w": Volume(image, affine)})


@pytest.mark.parametrize(("scans", "words"), [
    ([], "at least one"),
    ([elsewhere(AFFINE, torch.rand(1, S, S, 2))], "a/1: T1w: expected a slice 8×8×1, found 8×8×2"),
    ([SCANS[1], elsewhere(AFFINE + np.diag([1, 0, 0, 0]))], "a/1: T1w: expected the same affine"),
    ([elsewhere(AFFINE, -torch.rand(1, S, S, 1))], "a/1: expected intensities above 0"),
    ([elsewhere(AFFINE, torch.full((1, S, S, 1), torch.nan))], "a/1: T1w: expected finite values"),
])
def test_scans_that_do_not_fit_are_refused(scans, words):
    with pytest.raises(NbkitError, match=words):
        SliceFrame.of(scans, contrast="T1w", size=S)


def test_another_grid_is_refused_later_too(frame):
    with pytest.raises(NbkitError, match="affines that differ"):
        frame.scaled(elsewhere(AFFINE + np.diag([1, 0, 0, 0])))
    moved = replace(SCANS[0], masks={"brain": Volume(SCANS[0].mask("brain").data, 2 * AFFINE)})
    with pytest.raises(NbkitError, match="a/1: brain mask"):
        frame.inside(moved)


def test_slices_know_their_bins(frame):
    scans = [replace(SCANS[k], age=age) for k, age in enumerate((65.0, 75.0, 85.0))]
    found = AgedSlices.of(scans, [0, 2, 3], frame=frame, bins=Halves())
    assert len(found) == 3 and found.own.tolist() == [0, 1, 1] and found.lower.tolist() == [0, 0, 1]
    assert found.alpha.tolist() == [0.25, 0.25, 1.0] and found.diagnosis.tolist() == [0, 2, 3]
    assert torch.equal(found.image[1], frame.scaled(scans[1])) and torch.equal(found.inside[2], frame.inside(scans[2]))
    some = found.rows(torch.tensor([2, 0]))
    assert some.diagnosis.tolist() == [3, 0] and torch.equal(some.image[0], found.image[2])
    with pytest.raises(NbkitError, match="a/1: age: expected an age in years, found none"):
        AgedSlices.of([scan("a", age=None)], [0], frame=frame, bins=Halves())
    assert age_of(SCANS[0]) == 70.0


def many(count: int) -> AgedSlices:
    numbers = torch.arange(count)
    return AgedSlices(numbers.float().view(-1, 1, 1), numbers > 0, *(numbers,) * 4)


@pytest.mark.parametrize(("size", "batches", "wanted"), [(4, None, [4, 4]), (4, 3, [4, 4, 4]), (20, 2, [10, 10])])
def test_nobody_comes_again_before_everybody_came(size, batches, wanted):
    drawn = list(many(10).shuffled(size, batches=batches, generator=torch.Generator().manual_seed(1)))
    assert [len(d) for d in drawn] == wanted
    order = torch.cat([d.own for d in drawn]).tolist()
    for start in range(0, len(order), 10):
        part = order[start : start + 10]
        assert len(set(part)) == len(part)
    assert order != sorted(order)
    assert all(torch.equal(d.image.flatten().long(), d.diagnosis) for d in drawn)
