"""The automated observer chooses what is closest, none when nothing beats the input, and the same every time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.tidy import by_subject
from nbkit.core.volume import Volume
from nbkit.losses.perceptual import perceptual_distance, random_features
from nbkit.metrics.image import ssim
from nbkit.papers.daninet.experiments import Case
from nbkit.papers.daninet.observer import JUDGES, NONE, observe, observed

SIZE, PEAK, AFFINE = 32, 2.0, np.diag([3.0, 3.0, 3.0, 1.0])
X, Y = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
DISTANCE = ((X - 15.5).square() + (Y - 15.5).square()).sqrt()
BRAIN = Volume((DISTANCE < 14)[..., None], AFFINE)
QUARTERS = torch.stack([(X < 16) & (Y < 16), (X >= 16) & (Y < 16), (X < 16) & (Y >= 16), (X >= 16) & (Y >= 16)])
FEATURES = random_features(widths=(8, 8))


def brain_with(ventricle: float, *, noise: int | None = None) -> Volume:
    """A textured disc of intensity about PEAK with a dark disc of radius `ventricle` off its middle."""
    values = PEAK * (0.8 + 0.1 * torch.sin(X / 2) * torch.cos(Y / 3))
    edge = torch.sigmoid((((X - 13).square() + (Y - 17).square()).sqrt() - ventricle))
    values = values * (0.2 + 0.8 * edge)
    if noise is not None:
        values = values + 0.3 * torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(noise))
    return Volume(values[..., None], AFFINE)


TRUTH, BASELINE = brain_with(6.0), brain_with(3.0)
GIVEN = {"features": FEATURES, "peak": PEAK, "regions": QUARTERS}


def case(candidates: dict[str, Volume], subject: str = "s1", session: str = "v1", brain: Volume = BRAIN) -> Case:
    return Case(subject, session, "CN", 2.0, BASELINE, TRUTH, candidates, brain)


def seen(candidates: dict[str, Volume], **options) -> pd.DataFrame:
    return observe(case(candidates), **{**GIVEN, **options})


def chosen(candidates: dict[str, Volume]) -> dict[str, str]:
    table = seen(candidates)
    assert table.groupby("judge")["chosen"].sum().eq(1).all()
    return dict(table.loc[table["chosen"], ["judge", "candidate"]].to_numpy())


def test_every_judge_takes_the_ventricle_that_fits_whatever_the_order():
    candidates = {"far": brain_with(4.0), "near": brain_with(5.5), "beyond": brain_with(9.0)}
    assert chosen(candidates) == dict.fromkeys(JUDGES, "near")
    assert chosen(dict(reversed(candidates.items()))) == dict.fromkeys(JUDGES, "near")


def test_none_when_the_input_is_closer_than_all():
    assert chosen({"a": brain_with(11.0), "b": brain_with(10.0)}) == dict.fromkeys(JUDGES, NONE)


def test_equal_distances_go_to_the_first_and_never_to_none():
    copy = BASELINE.with_data(BASELINE.data.clone())
    assert chosen({"z": copy, "a": copy}) == dict.fromkeys(JUDGES, "z")


def test_judges_see_different_things():
    """Noise ruins texture and hardly a region's sum; a dimmed truth keeps its structure."""
    candidates = {"noisy": brain_with(6.0, noise=1), "smooth": brain_with(5.0)}
    found = chosen(candidates)
    assert (found["ssim"], found["profile"]) == ("smooth", "noisy")


def test_distances_are_those_of_their_definitions():
    image = brain_with(4.5)
    table = seen({"x": image}).set_index(["judge", "candidate"])["distance"]
    inside = BRAIN.data[0, :, :, 0]
    x, y, b = ((v.data[0, :, :, 0] / PEAK).clamp(0, 1) * inside for v in (image, TRUTH, BASELINE))
    sums = [[float((s * q).sum()) + 0.1 for q in QUARTERS] for s in (x, y, b)]
    profile = np.mean([abs(i / k - j / k) for i, j, k in zip(*sums, strict=True)])
    assert table["profile", "x"] == pytest.approx(profile, rel=1e-5)
    slab = [s[None, None, :, :, None] for s in (x, y)]
    alike = ssim(*slab, data_range=1.0, mask=inside[None, None, :, :, None], dims=2)
    assert table["ssim", "x"] == pytest.approx(1 - float(alike), rel=1e-9)
    nothing = torch.tensor([], dtype=torch.long)
    apart = perceptual_distance(FEATURES, *slab, slices=(nothing, nothing, torch.tensor([0])))
    assert table["features", "x"] == pytest.approx(float(apart), rel=1e-6)
    same = seen({"x": TRUTH}).set_index(["candidate", "judge"])["distance"]
    assert same["x"].abs().max() < 1e-6 < same[NONE].min()


def test_what_lies_outside_the_brain_counts_for_nobody():
    outside = TRUTH.with_data(torch.where(BRAIN.data, TRUTH.data, torch.tensor(9.0)))
    table = seen({"x": outside})
    assert table.loc[table["candidate"] == "x", "distance"].abs().max() < 1e-6


def test_features_that_ask_for_whole_volumes_take_a_slice():
    """LPIPS has five stages and refuses fewer than 31 voxels along any axis; a slice has one."""
    deep = random_features(widths=(4, 4, 4, 4, 4))
    table = seen({"x": TRUTH}, features=deep).set_index(["judge", "candidate"])
    assert table.loc[("features", "x"), "distance"] == 0 < table.loc[("features", NONE), "distance"]


def test_shares_are_per_subject_with_zeros_so_that_they_pair():
    good, bad = {"P-C-T": brain_with(5.9), "[9]": brain_with(4.0)}, {"P-C-T": brain_with(4.0), "[9]": brain_with(5.9)}
    plan = [("s1", "v1", good), ("s1", "v2", bad), ("s1", "v3", good), ("s2", "v1", good)]
    table = observed([case(candidates, s, v) for s, v, candidates in plan], **GIVEN)
    for judge in ("features", "ssim"):
        for key, shares in (("p_c_t", [200 / 3, 100]), ("caae", [100 / 3, 0]), (NONE, [0, 0])):
            found = by_subject(table, id=f"daninet.survey.observer.{judge}.{key}")
            assert found == pytest.approx(dict(zip(("s1", "s2"), shares, strict=True)))
    assert set(table["unit"]) == {"%"} and set(table["metric"]) == set(JUDGES)


@pytest.mark.parametrize(
    ("candidates", "brain", "message"),
    [
        ({}, BRAIN, "at least one simulation"), ({NONE: TRUTH}, BRAIN, "none of them called 'none'"),
        ({"x": TRUTH}, BRAIN.with_data(torch.zeros_like(BRAIN.data)), "mask"),
    ],
)
def test_what_cannot_be_judged_is_refused(candidates, brain, message):
    with pytest.raises(NbkitError, match=message):
        observe(case(candidates, brain=brain), **GIVEN)
