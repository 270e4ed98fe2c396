"""z-scores: against numpy, inverse, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser

SHAPE = (6, 5, 4)


@pytest.fixture
def images() -> dict[str, list[Volume]]:
    """Two contrasts of three scans whose means and spreads differ widely."""
    g = np.random.default_rng(1)
    draw = lambda mean, sd: Volume(torch.tensor(g.normal(mean, sd, SHAPE), dtype=torch.float32))  # noqa: E731
    return {
        "T1w": [draw(300, 20), draw(500, 90), draw(100, 5)],
        "FLAIR": [draw(30, 2), draw(20, 3), draw(25, 1)],
    }


@pytest.fixture
def masks() -> list[Volume]:
    """Masks of different size."""
    g = np.random.default_rng(2)
    return [Volume(torch.tensor(g.random(SHAPE) < share)) for share in (0.2, 0.5, 0.8)]


@pytest.mark.parametrize("over", ["brain", "image"])
def test_cohort_constants_equal_numpy_over_all_counted_voxels(images, masks, over):
    fitted = Standardiser.fit(images, masks, over=over)
    for name, volumes in images.items():
        parts = [v.numpy()[m.numpy()] if over == "brain" else v.numpy().ravel() for v, m in zip(volumes, masks)]
        voxels = np.concatenate(parts).astype(np.float64)
        assert fitted.mean[name] == pytest.approx(voxels.mean(), rel=1e-12)
        assert fitted.sd[name] == pytest.approx(voxels.std(), rel=1e-12)


def test_subject_constants_scale_each_image_by_its_own_and_invert_by_the_average(images, masks):
    fitted = Standardiser.fit(images, masks, per="subject")
    volume, mask = images["T1w"][1], masks[1]
    inside = fitted.apply("T1w", volume, mask=mask).data[mask.data].double()
    assert float(inside.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inside.std(correction=0)) == pytest.approx(1, abs=1e-5)
    means = [v.numpy()[m.numpy()].mean(dtype=np.float64) for v, m in zip(images["T1w"], masks)]
    zero = volume.with_data(torch.zeros(1, *SHAPE))
    assert float(fitted.invert("T1w", zero).data[0, 0, 0, 0]) == pytest.approx(np.mean(means), rel=1e-6)


def test_invert_undoes_apply(images, masks):
    fitted = Standardiser.fit(images, masks)
    volume = images["FLAIR"][2]
    back = fitted.invert("FLAIR", fitted.apply("FLAIR", volume, mask=masks[2]))
    assert torch.allclose(back.data, volume.data, rtol=1e-6)


def test_constants_survive_json(images, masks):
    fitted = Standardiser.fit(images, masks, over="image", per="subject")
    assert Standardiser.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_stack_orders_channels_and_blanks_the_background(images, masks):
    fitted = Standardiser.fit(images, masks)
    scan = {name: volumes[0] for name, volumes in images.items()}
    stacked = fitted.stack(scan, ("FLAIR", "T1w"), mask=masks[0])
    inside = masks[0].data[0]
    assert stacked.shape == (2, *SHAPE) and stacked.dtype == torch.float32
    assert not stacked[:, ~inside].any()
    expected = (scan["FLAIR"].data[0] - fitted.mean["FLAIR"]) / fitted.sd["FLAIR"]
    assert torch.allclose(stacked[0][inside], expected[inside])
    whole = fitted.stack(scan, ("FLAIR", "T1w"), mask=masks[0], outside=True)
    assert torch.equal(whole[:, inside], stacked[:, inside]) and torch.allclose(whole[0], expected)


def test_fit_cohort_reads_every_scan(images, masks):
    scans = [Scan("sub-1", f"ses-{k}", None, {n: v[k] for n, v in images.items()}, {"brain": masks[k]})
             for k in range(3)]
    cohort = Cohort("tiny", (Subject("sub-1", None, "MS", tuple(scans)),), "embedded")
    assert Standardiser.fit_cohort(cohort, ("T1w", "FLAIR")) == Standardiser.fit(images, masks)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda i, m: Standardiser.fit(i, m, over="brian"), r"Standardiser: over: .*Did you mean 'brain'"),
        (lambda i, m: Standardiser.fit(i, m, per="scan"), "Standardiser: per: expected one of cohort, subject"),
        (lambda i, m: Standardiser.fit(i, m[:2]), "T1w: expected 2 images, one per mask, found 3"),
        (lambda i, m: Standardiser.fit({"T1w": i["T1w"][:2]}, m), "T1w: expected 3 images, one per mask, found 2"),
        (lambda i, m: Standardiser.fit({"T1w": [Volume(torch.ones(SHAPE))]}, m[:1]), "T1w: expected voxels of differ"),
        (lambda i, m: Standardiser.fit({"T1w": i["T1w"][:1]}, [Volume(torch.zeros(SHAPE).bool())]), "0 voxels without"),
        (lambda i, m: Standardiser.fit({"T1w": i["T1w"][:1]}, [Volume(torch.ones(6, 5, 3).bool())]), "T1w and mask"),
        (lambda i, m: Standardiser.fit(i, m).apply("T1", i["T1w"][0], mask=m[0]), "Did you mean 'T1w'"),
        (lambda i, m: Standardiser.fit(i, m).stack({}, ("T1w",), mask=m[0]), "images: expected 'T1w', found only none"),
        (lambda i, m: Standardiser.from_dict({"mean": {}, "sd": {}, "over": "brain"}), "missing key: .* found 'per'"),
        (lambda i, m: Standardiser.from_dict({"mean": {}, "sd": {}, "var": {}}), "found 'var'"),
    ],
)
def test_bad_input_is_refused(images, masks, act, message):
    with pytest.raises(NbkitError, match=message):
        act(images, masks)
