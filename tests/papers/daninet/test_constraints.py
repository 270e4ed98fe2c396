"""Losses of slices over age: ideal sequences, loops instead of tensors, and the whole of Eq. 6 by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.papers.daninet.constraints import AgeingBatch, AgeingObjective, mixed_age, monotone_loss, regional_loss

B, A, R, S, D = 3, 4, 5, 6, 2
RNG = np.random.default_rng(8)
IMAGES = torch.from_numpy(RNG.uniform(0, 1, (B, A, S, S))).float()
OWN, DIAGNOSIS = torch.tensor([0, 2, 3]), torch.tensor([1, 0, 1])
INSIDE = torch.from_numpy(RNG.uniform(0, 1, (B, S, S)) > 0.3)
MASKS = torch.from_numpy(RNG.uniform(0, 1, (R, S, S)) > 0.6).float()
WEIGHTS = {"deformation": 0.2, "latent": 0.03, "image": 0.05, "voxel": 0.7, "region": 0.9}


def table() -> torch.Tensor:
    """Ratios (D, A, A, R) of regions that lose a share of their own per bin; 1 below the diagonal."""
    kept = torch.tensor([0.97, 0.93]).view(D, 1, 1, 1) - 0.01 * torch.arange(R) / R
    steps = (torch.arange(A) - torch.arange(A)[:, None]).clamp(min=0)[None, :, :, None]
    return kept**steps


def ideal(kept: float = 0.95) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images that lose the same share of everything per bin, all regions apart, and the table that says so."""
    masks = torch.zeros(4, S, S)
    for k, (rows, columns) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3)]):
        masks[k, rows : rows + 3, columns : columns + 3] = 1
    images = IMAGES[:, :1] * kept ** torch.arange(A).view(1, A, 1, 1)
    sums = torch.einsum("bahw,rhw->bar", images[:1], masks)[0] + 0.1
    ratios = (sums[None] / sums[:, None]).expand(1, A, A, 4).clone()
    return images[:1], masks, ratios


def test_nothing_is_lost_by_an_ideal_sequence_and_something_by_its_reverse():
    images, masks, ratios = ideal()
    zero = torch.zeros(1, dtype=torch.long)
    for own in range(A):
        at = torch.tensor([own])
        assert monotone_loss(images, at).item() == 0
        assert regional_loss(images, at, zero, masks=masks, ratios=ratios).item() == pytest.approx(0, abs=1e-6)
        backwards = images.flip(1)
        assert monotone_loss(backwards, at).item() > 0.01
        assert regional_loss(backwards, at, zero, masks=masks, ratios=ratios).item() > 0.05


def test_monotone_loss_in_loops():
    images = IMAGES.numpy()
    for b in range(B):
        own, total = int(OWN[b]), 0.0
        for p in range(own):  # earlier: the own image is the older one
            total += np.maximum(images[b, own] - images[b, p], 0).sum()
        for p in range(own + 1, A):
            total += np.maximum(images[b, p] - images[b, own], 0).sum()
        expected = total / (S * S * (A - 1))  # M · N of Eq. 3
        assert monotone_loss(IMAGES, OWN)[b].item() == pytest.approx(expected, rel=1e-5)


def test_regional_loss_in_loops():
    images, masks, ratios = IMAGES.double().numpy(), MASKS.numpy(), table().double().numpy()
    found = regional_loss(IMAGES, OWN, DIAGNOSIS, masks=MASKS, ratios=table())
    for b in range(B):
        own, d, total = int(OWN[b]), int(DIAGNOSIS[b]), 0.0
        for i in range(R):
            for p in range(A):
                young, old = min(p, own), max(p, own)
                ratio = ((images[b, old] * masks[i]).sum() + 0.1) / ((images[b, young] * masks[i]).sum() + 0.1)
                total += abs(ratios[d, young, old, i] - ratio) if p != own else 0
        assert found[b].item() == pytest.approx(total / (R * (A - 1)), rel=1e-4)


def test_half_precision_leaves_the_sums_alone():
    given = {"masks": MASKS, "ratios": table()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (IMAGES[0, 0] @ IMAGES[0, 1]).dtype == torch.bfloat16
        found = regional_loss(IMAGES, OWN, DIAGNOSIS, **given)
    assert torch.equal(found, regional_loss(IMAGES, OWN, DIAGNOSIS, **given))


def test_masks_of_each_slice_or_of_all():
    own = torch.stack([MASKS, MASKS.flip(0), MASKS.roll(1, 1)])
    found = regional_loss(IMAGES, OWN, DIAGNOSIS, masks=own, ratios=table())
    for b in range(B):
        one = [x[b : b + 1] for x in (IMAGES, OWN, DIAGNOSIS)]
        torch.testing.assert_close(found[b : b + 1], regional_loss(*one, masks=own[b], ratios=table()))


def test_one_value_per_subject_whatever_the_batch():
    for loss in (
        lambda i: monotone_loss(IMAGES[i], OWN[i]),
        lambda i: regional_loss(IMAGES[i], OWN[i], DIAGNOSIS[i], masks=MASKS, ratios=table()),
        lambda i: mixed_age(IMAGES[i], OWN[i], torch.tensor([0.2, 0.5, 0.7])[i]),
    ):
        together = loss(slice(None))
        torch.testing.assert_close(together, torch.cat([loss(slice(k, k + 1)) for k in range(B)]))


def test_both_pull_the_image_of_every_bin():
    for loss in (
        lambda x: monotone_loss(x, torch.tensor([1])),
        lambda x: regional_loss(x, torch.tensor([1]), torch.tensor([0]), masks=MASKS, ratios=table()),
    ):
        x = IMAGES[:1].clone().requires_grad_()
        loss(x).sum().backward()
        assert (x.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_mixtures_are_exact_at_the_centres_and_at_the_last_bin():
    for bin_ in range(A):
        one = mixed_age(IMAGES, torch.full((B,), bin_), torch.ones(B))
        assert torch.equal(one, IMAGES[:, bin_])
    last = mixed_age(IMAGES, torch.full((B,), A - 1), torch.tensor([1.0, 0.5, 0.25]))
    torch.testing.assert_close(last, IMAGES[:, -1])
    third = mixed_age(IMAGES, torch.ones(B, dtype=torch.long), torch.full((B,), 0.25))
    torch.testing.assert_close(third, 0.25 * IMAGES[:, 1] + 0.75 * IMAGES[:, 2])


class Painter(nn.Module):
    """An autoencoder of one line: its image is the slice, darker with age and diagnosis by what it has learned."""

    def __init__(self) -> None:
        super().__init__()
        self.pace, self.passes = nn.Parameter(torch.tensor(0.1)), 0

    def forward(self, x, rows, ages, diagnosis):
        self.passes += 1
        dark = 1 - self.pace * (ages + diagnosis[rows]).view(-1, 1, 1)
        return x.flatten(1)[:, :3], torch.tanh(x[rows, 0] * dark)


class Judge(nn.Module):
    """Scores by means, with a label for a slope."""

    def forward(self, x, age=0, diagnosis=0):
        return x.flatten(1).mean(dim=1) * (2 + age + diagnosis)


def batch(full: int) -> AgeingBatch:
    slices = SimpleNamespace(
        image=2 * IMAGES[:, 0] - 1, inside=INSIDE, own=OWN, lower=torch.tensor([0, 1, 3]),
        alpha=torch.tensor([0.75, 0.4, 1.0]), diagnosis=DIAGNOSIS,
    )
    return AgeingBatch(slices, IMAGES[:, 1].flatten(1)[:, :3] - 0.5, full)


def critics() -> nn.ModuleDict:
    return nn.ModuleDict({"latent": Judge(), "image": Judge()})


def test_a_step_of_the_plain_autoencoder_by_hand():
    """[9]: Eq. 6 without constraints; cross-entropies of probabilities instead of scores."""
    net, given, objective = Painter(), batch(0), AgeingObjective(A, WEIGHTS)
    made = objective.generate(net, given)
    terms, critic = objective.generator(critics(), given, made), objective.critic(critics(), given, made)
    x = given.slices
    for b in range(B):
        upper = min(int(x.lower[b]) + 1, A - 1)
        old, young = (torch.tanh(x.image[b] * (1 - 0.1 * (k + x.diagnosis[b]))) for k in (upper, int(x.lower[b])))
        mixed, slope = x.alpha[b] * young + (1 - x.alpha[b]) * old, 2 + OWN[b] + DIAGNOSIS[b]
        torch.testing.assert_close(made["image"][b], mixed)
        p = torch.sigmoid(slope * torch.stack([mixed.mean(), x.image[b].mean()]))
        q = torch.sigmoid(2 * torch.stack([x.image[b].flatten()[:3].mean(), given.prior[b].mean()]))
        parts = {"deformation": F.mse_loss(mixed, x.image[b]), "latent": -q[0].log(), "image": -p[0].log()}
        for name, value in parts.items():
            torch.testing.assert_close(terms[name][b], value)
        torch.testing.assert_close(terms["total"][b], sum(WEIGHTS[n] * v for n, v in parts.items()))
        torch.testing.assert_close(critic["image"][b], -p[1].log() - (1 - p[0]).log())
        torch.testing.assert_close(critic["latent"][b], -q[1].log() - (1 - q[0]).log())
    assert set(terms) == {"total", "deformation", "latent", "image"} and made["everything"].shape == (0, A, S, S)


def constrained() -> AgeingObjective:
    return AgeingObjective(A, WEIGHTS, masks=MASKS, ratios=table())


def test_all_images_come_from_one_pass_and_the_rest_does_not_depend_on_how_many_are_constrained():
    net = Painter()
    made = {full: constrained().generate(net, batch(full)) for full in (0, 1, B)}
    assert net.passes == 3
    for full in (1, B):
        torch.testing.assert_close(made[full]["image"], made[0]["image"])
        assert made[full]["everything"].shape == (full, A, S, S)


def test_constraints_on_a_few_estimate_those_on_all():
    objective, net = constrained(), Painter()
    everybody = objective.generator(critics(), batch(B), objective.generate(net, batch(B)))
    for name in ("voxel", "region"):
        found = []
        for k in range(B):
            turned = batch(1)
            moved = SimpleNamespace(**{n: v.roll(k, 0) for n, v in vars(turned.slices).items()})
            turned = turned._replace(slices=moved)
            found.append(objective.generator(critics(), turned, objective.generate(net, turned))[name])
            assert not found[-1][1:].any()
        torch.testing.assert_close(torch.stack(found).mean(), everybody[name].mean())
        assert everybody[name].mean() > 1e-3


def test_constraints_of_the_whole_batch_are_the_two_losses():
    objective, given = constrained(), batch(B)
    made = objective.generate(Painter(), given)
    terms = objective.generator(critics(), given, made)
    bright = (made["everything"] + 1) / 2
    torch.testing.assert_close(terms["voxel"], monotone_loss(bright, OWN))
    torch.testing.assert_close(
        terms["region"], regional_loss(bright, OWN, DIAGNOSIS, masks=MASKS, ratios=table())
    )
    expected = sum(WEIGHTS[name] * value for name, value in terms.items() if name != "total")
    torch.testing.assert_close(terms["total"], expected)


@pytest.mark.parametrize("make", [constrained, lambda: AgeingObjective(A, WEIGHTS)])
def test_the_loss_of_one_person_is_that_of_training_without_critics(make):
    objective, net, given = make(), Painter(), batch(B)
    terms = objective.generator(critics(), given, objective.generate(net, given))
    for b in range(B):
        person = {name: value[b] for name, value in vars(given.slices).items()}
        expected = sum(WEIGHTS[n] * terms[n][b] for n in ("deformation", "voxel", "region") if n in terms)
        torch.testing.assert_close(objective.personal(net, person), expected)


def test_gradients_reach_the_generator_through_every_term():
    objective, net, given = constrained(), Painter(), batch(2)
    terms = objective.generator(critics(), given, objective.generate(net, given))
    for name in ("deformation", "image", "voxel", "region"):
        (slope,) = torch.autograd.grad(terms[name].sum(), net.pace, retain_graph=True)
        assert slope.abs() > 1e-5, name


def test_the_weight_is_that_of_the_lower_bin():
    weight, lower = torch.tensor([1.0, 0.0, 0.5]), torch.zeros(B, dtype=torch.long)
    found = mixed_age(IMAGES, lower, weight)
    assert torch.equal(found[0], IMAGES[0, 0]) and torch.equal(found[1], IMAGES[1, 1])
    torch.testing.assert_close(found[2], IMAGES[2, :2].mean(dim=0))
