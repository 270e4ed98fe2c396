"""The constants of a group of scans, and the scans it refuses."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.papers.inbrainsyn.aged import GroupFrame, persons
from nbkit.data.splits import subject_hash

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def scan(person="p", session="1", age=70.0, *, top=100.0, affine=AFFINE) -> Scan:
    """Intensities 1 ... top inside a mask of 101 voxels, brighter rubbish outside."""
    data = torch.full((1, 6, 6, 4), 900.0)
    mask = torch.zeros(1, 6, 6, 4, dtype=torch.bool)
    mask.view(-1)[:101] = True
    data[mask] = torch.linspace(0, top, 101)
    return Scan(person, session, age, {"T1w": Volume(data, affine)}, {"brain": Volume(mask, affine)})


def test_constants():
    scans = [scan("b", age=72.0, top=100), scan("a", age=60.5, top=300), scan("a", "2", 64.0, top=9000)]
    frame = GroupFrame.of(scans, "test")
    assert frame.scale == pytest.approx((99 + 297) / 2)  # of each person's first scan, inside the mask
    assert (frame.youngest, frame.oldest, frame.persons, frame.shape) == (60.5, 72.0, 2, (6, 6, 4))
    assert frame.subjects == subject_hash(["a", "b"])
    assert np.array_equal(frame.matrix, AFFINE)
    assert GroupFrame.from_dict(json.loads(json.dumps(dataclasses.asdict(frame)))) == frame


def test_what_is_read_and_given_back_is_in_the_scans_unit():
    one = scan()
    frame = GroupFrame.of([one], "test")
    image = frame.read(one)
    assert image.shape == (1, 1, 6, 6, 4) and float(image[0][one.mask("brain").data].max()) == pytest.approx(100 / 99)
    back = frame.volume(image - 1, "step")
    torch.testing.assert_close(back.data, (one.image("T1w").data - 99).clamp(min=0))
    assert back.history == ("step",) and np.array_equal(back.affine, AFFINE)


def test_min_max_scaling_follows_every_scan_by_itself():
    """As in the article's code; what is made has the mean of the maxima."""
    scans = [scan(top=100), scan("q", top=300, age=80.0)]
    frame = GroupFrame.of(scans, "test", scaling="minmax")
    for one in scans:
        image = frame.read(one)
        assert (float(image.min()), float(image.max())) == (0.0, 1.0)
    assert frame.scale == 900.0 and float(frame.volume(torch.ones(1, 1, 6, 6, 4), "step").data.max()) == 900.0
    assert GroupFrame.from_dict(json.loads(json.dumps(dataclasses.asdict(frame)))) == frame
    with pytest.raises(NbkitError, match="Did you mean 'minmax'"):
        GroupFrame.of(scans, "test", scaling="min_max")


def test_persons_in_the_order_met_with_their_visits_by_age():
    scans = [scan("b", "2", 71.0), scan("a"), scan("b", "1", 69.0)]
    assert {k: [s.session for s in v] for k, v in persons(scans).items()} == {"b": ["1", "2"], "a": ["1"]}


def test_ages_beyond_the_group():
    frame = GroupFrame.of([scan(age=60.0), scan("q", age=80.0)], "test")
    assert frame.check_age(83, "here", beyond=3) == 83.0
    with pytest.raises(NbkitError, match="here: age: expected 57.0 to 83.0 years .*60.0 to 80.0, and 3 beyond"):
        frame.check_age(83.1, "here", beyond=3)


BAD = {
    "no age": (lambda: [scan(), scan("q", age=None)], "q/1: expected an age in years, found None"),
    "impossible age": (lambda: [scan(age=0.7)], "p/1: expected an age in years, found 0.7"),
    "nobody": (list, "test: scans: expected at least one scan"),
    "no mask": (lambda: [dataclasses.replace(scan(), masks={})], "p/1: mask"),
    "an empty mask": (
        lambda: [dataclasses.replace(scan(), masks={"brain": Volume(torch.zeros(1, 6, 6, 4), AFFINE)})],
        "p/1: brain mask: expected bright voxels",
    ),
}


@pytest.mark.parametrize(("scans", "message"), BAD.values(), ids=BAD)
def test_bad_groups_are_refused(scans, message):
    with pytest.raises(NbkitError, match=message):
        GroupFrame.of(scans(), "test")


def test_a_scan_that_does_not_fit_the_group_is_refused_by_name():
    frame = GroupFrame.of([scan()], "test")
    with pytest.raises(NbkitError, match="q/7: T1w: expected the same affine"):
        frame.read(scan("q", "7", affine=np.diag([2.0, 2.0, 2.0, 1.0])))
    broken = scan("q", "8")
    broken.image("T1w").data[0, 0, 0, 0] = float("nan")
    with pytest.raises(NbkitError, match="q/8: T1w: expected finite values"):
        frame.read(broken)
    two = dataclasses.replace(scan("q", "9"), images={"T1w": Volume(torch.rand(2, 6, 6, 4), AFFINE)})
    with pytest.raises(NbkitError, match="q/9: T1w: expected one channel"):
        frame.read(two)
