"""Attention saliency maps: finite differences, the maximum over contrasts, and the share inside lesions."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.myelin.attention_saliency import attention_saliency, lesion_share
from nbkit.papers.myelin.synthesis import Config, MyelinSynthesizer
from tests.papers.myelin.myelin_toy import toy_cohort

FAST = {"slim": 8, "levels": 2, "crop": (12, 12, 12), "patch": (4, 4, 4), "critic_widths": (16, 32), "epochs": 2,
        "crops_per_epoch": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def cohort():
    return toy_cohort(3)


def fitted(cohort, name, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    return MyelinSynthesizer(Config.named(name, "smoke", **FAST)).fit(cohort)


class Known:
    """Loss = Σ weight · channel², so that the slope is 2 · weight · channel."""

    config = SimpleNamespace(inputs=("MTR", "RD"))

    def __init__(self, inputs):
        self.inputs = inputs

    def example(self, scan):
        return SimpleNamespace(inputs=self.inputs)

    def loss(self, inputs, example):
        return (torch.tensor([1.0, 3.0, 100.0])[:, None, None, None] * inputs.square()).flatten(1).sum(1)


def test_a_known_loss_gives_its_slope_at_the_strongest_contrast(cohort):
    scan = cohort.subjects[1].baseline
    inside = scan.mask("brain").data[0].nonzero()
    box = tuple((inside.amax(0) - inside.amin(0) + 1).tolist())
    channels = torch.randn(3, *box, generator=torch.Generator().manual_seed(1))
    out = attention_saliency(Known(channels), scan)
    values = out.data[0][scan.mask("brain").data[0]]
    expected = torch.maximum(2 * channels[0].abs(), 6 * channels[1].abs())  # the third channel is no contrast
    torch.testing.assert_close(values, expected.flatten())
    assert not out.data[~scan.mask("brain").data].any()


@pytest.mark.parametrize("name", ["unet_w", "refiner"])
def test_equals_finite_differences_through_all_stages(cohort, name, tmp_path, monkeypatch):
    model, scan = fitted(cohort, name, tmp_path, monkeypatch), cohort.subjects[1].baseline
    model.net.double()
    example = model.example(scan)
    example = type(example)(*(t.double() if t.is_floating_point() else t for t in (
        example.inputs, example.target, example.mask)))
    monkeypatch.setattr("nbkit.losses.regions.torch.Tensor.float", lambda t: t.double())
    place, step, slopes = (7, 8, 6), 1e-5, []
    for channel in range(4):
        losses = []
        for sign in (1, -1):
            moved = example.inputs[None].clone()
            moved[(0, channel, *place)] += sign * step
            losses.append(float(model.loss(moved, example).detach()))
        slopes.append(abs(losses[0] - losses[1]) / (2 * step))
    model.example = lambda scan: example
    out = attention_saliency(model, scan)
    corner = scan.mask("brain").data[0].nonzero().amin(0)
    value = float(out.data[(0, *(int(c) + p for c, p in zip(corner, place)))])
    assert value == pytest.approx(max(slopes), rel=1e-3) and float(out.data.min()) >= 0


def test_share_inside_lesions_by_hand():
    affine = np.eye(4)
    saliency = Volume(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 2, 2, 1), affine)
    lesions = Volume(torch.tensor([True, False, True, False]).view(1, 2, 2, 1), affine)
    assert lesion_share(saliency, lesions) == pytest.approx(0.4)
    nothing = lesions.with_data(torch.zeros_like(lesions.data))
    assert math.isnan(lesion_share(saliency, nothing))
    assert math.isnan(lesion_share(saliency.with_data(saliency.data * 0), lesions))
    with pytest.raises(NbkitError, match="saliency and lesions"):
        lesion_share(saliency, Volume(lesions.data, 2 * np.eye(4)))
