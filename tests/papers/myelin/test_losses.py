"""The losses of conditional generators: what counts where, and what the discriminator sees."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from nbkit.losses.adversarial import bce_discriminator, bce_generator
from nbkit.papers.myelin.losses import ConditionalObjective, regions, voxelwise
from nbkit.losses.regions import adaptive_l1, mean_l1, roi_l1


class Batch(NamedTuple):
    """Tensors as a step gets them."""

    inputs: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor


@pytest.fixture
def batch() -> Batch:
    g = torch.Generator().manual_seed(6)
    mask = torch.rand(2, 3, 4, 5, 6, generator=g) > 0.4
    return Batch(torch.randn(2, 3, 4, 5, 6, generator=g), torch.randn(2, 1, 4, 5, 6, generator=g), mask)


def net(x: torch.Tensor) -> torch.Tensor:
    return x.sum(1, keepdim=True)


def critic(x: torch.Tensor) -> torch.Tensor:
    return (x * torch.tensor([1.0, -2.0, 3.0])[: x.shape[1], None, None, None]).flatten(2).mean(2)


def objective(**more) -> ConditionalObjective:
    draws = torch.Generator().manual_seed(1)
    settings = {"weight": 100.0, "total": False, "condition": 2, "smoothing": 0.0, "draws": draws}
    return ConditionalObjective(voxelwise("l1"), **settings | more)


def test_regions_are_disjoint_and_cover_the_image(batch):
    parts = regions(batch.mask)
    assert torch.equal(parts.sum(1), torch.ones(2, 4, 5, 6, dtype=torch.long))
    assert torch.equal(parts[:, 0], batch.mask[:, 1]) and not (parts[:, 1] & batch.mask[:, 1]).any()


def test_each_weighting_is_its_formula_on_images_without_background(batch):
    a, b = (t * batch.mask[:, :1] for t in (net(batch.inputs), batch.target))
    rois, weights = regions(batch.mask), torch.tensor([0.9, 0.6, 0.5])
    expected = {"l1": mean_l1(a, b), "roi": roi_l1(a, b, rois), "adaptive": adaptive_l1(a, b, rois, weights=weights)}
    for name, value in expected.items():
        torch.testing.assert_close(voxelwise(name, weights)(net(batch.inputs), batch.target, batch.mask), value)


@pytest.mark.parametrize("name", ["l1", "roi", "adaptive"])
def test_voxels_outside_the_brain_cost_nothing(batch, name):
    loss = voxelwise(name, torch.tensor([0.9, 0.6, 0.5]))
    wild = torch.where(batch.mask[:, :1], batch.target + 1, torch.full_like(batch.target, 1e6))
    torch.testing.assert_close(loss(wild, batch.target, batch.mask), loss(batch.target + 1, batch.target, batch.mask))


def test_the_generator_pays_for_both_and_the_plain_one_for_voxels_only(batch):
    losses = objective()
    made = losses.generate(net, batch)
    assert not made["image"][~batch.mask[:, :1]].any()
    terms = losses.generator(critic, batch, made)
    scores = critic(torch.cat([batch.inputs[:, :2], made["image"]], 1))
    torch.testing.assert_close(terms["adversarial"], bce_generator(scores))
    torch.testing.assert_close(terms["total"], terms["adversarial"] + 100 * terms["voxels"])
    torch.testing.assert_close(losses.plain(net, batch)["total"], terms["voxels"])
    assert terms["total"].shape == (2,)


def test_the_published_sum_over_patches_is_their_number_times_the_mean(batch):
    mean, total = objective(), objective(total=True)
    made = mean.generate(net, batch)
    patches = critic(batch.inputs).shape[1]
    assert patches > 1
    torch.testing.assert_close(
        total.critic(critic, batch, made)["total"], patches * mean.critic(critic, batch, made)["total"])
    terms = [losses.generator(critic, batch, made) for losses in (mean, total)]
    torch.testing.assert_close(terms[1]["adversarial"], patches * terms[0]["adversarial"])
    torch.testing.assert_close(terms[1]["voxels"], terms[0]["voxels"])


def test_the_discriminator_sees_condition_and_image_without_background(batch):
    losses = objective()
    made = losses.generate(net, batch)
    real = critic(torch.cat([batch.inputs[:, :2], batch.target * batch.mask[:, :1]], 1))
    fake = critic(torch.cat([batch.inputs[:, :2], made["image"]], 1))
    torch.testing.assert_close(losses.critic(critic, batch, made)["total"], bce_discriminator(real, fake))


def test_smoothed_labels_change_the_discriminators_loss_a_little(batch):
    made = objective().generate(net, batch)
    hard, soft = (objective(smoothing=s).critic(critic, batch, made)["total"] for s in (0.0, 0.1))
    assert not torch.allclose(hard, soft) and float((hard - soft).abs().max()) < 0.1 * float(hard.max()) + 0.1
