"""Incomplete contrast sets: constants from who has the contrast, channels that tell, and draws that never take all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.papers.myelin.incomplete import ContrastReader, available_channels, available_standardiser, drop_contrasts

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
NAMES = ("MTR", "RD")


def scan(seed: int, *names: str) -> Scan:
    g = torch.Generator().manual_seed(seed)
    brain = torch.zeros(1, 5, 6, 7, dtype=torch.bool)
    brain[:, 1:4, 1:5, 2:6] = True
    images = {n: Volume(10 * len(n) + torch.randn(1, 5, 6, 7, generator=g), AFFINE) for n in names}
    return Scan(f"s{seed}", "t0", 30.0, images, {"brain": Volume(brain, AFFINE)})


SCANS = [scan(1, "MTR", "RD", "DVR"), scan(2, "MTR", "DVR"), scan(3, "MTR", "RD", "DVR")]


def test_constants_come_from_the_scans_that_have_the_contrast():
    fitted = available_standardiser(SCANS, ("MTR", "RD"))
    for name, having in (("MTR", SCANS), ("RD", SCANS[::2])):
        values = torch.cat([s.image(name).data[s.mask("brain").data] for s in having]).double()
        assert fitted.mean[name] == pytest.approx(float(values.mean()))
        assert fitted.sd[name] == pytest.approx(float(values.std(correction=0)))


def test_a_missing_contrast_is_its_mean_and_told():
    s = SCANS[1]
    constants = available_standardiser(SCANS, NAMES)
    channels = available_channels(s.images, NAMES, mask=s.mask("brain"), standardiser=constants)
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
        available_standardiser(SCANS, ("FA",))
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
