"""Losses of networks side by side: each as it would be alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from nbkit.core.seeds import torch_generator
from nbkit.papers.pet_dcgan.losses import GanBatch, GanLosses


def critic(x, label):
    return 3 * x.flatten(2).mean(dim=2) + (0 if label is None else label[:, None])


def parts():
    g = torch_generator(2)
    real, fake = torch.randn(5, 2, 1, 4, 4, generator=g), torch.randn(5, 2, 1, 4, 4, generator=g)
    return GanBatch(real, torch.rand(5, 2, 3, generator=g), torch.arange(5) % 2), {"fake": fake}


def test_each_term_is_binary_cross_entropy_of_its_network_and_total_their_sum():
    batch, made = parts()
    losses = GanLosses(("CN", "AD"))
    for k, name in enumerate(losses.names):
        real, fake = (critic(x, batch.label)[:, k] for x in (batch.real, made["fake"]))
        ones = torch.ones(5)
        plain = F.binary_cross_entropy_with_logits(real, ones, reduction="none")
        plain = plain + F.binary_cross_entropy_with_logits(fake, 0 * ones, reduction="none")
        assert torch.allclose(losses.critic(critic, batch, made)[name], plain, atol=1e-6)
        plain = F.binary_cross_entropy_with_logits(fake, ones, reduction="none")
        assert torch.allclose(losses.generator(critic, batch, made)[name], plain, atol=1e-6)
    for terms in (losses.critic(critic, batch, made), losses.generator(critic, batch, made)):
        assert torch.allclose(terms["total"], terms["CN"] + terms["AD"]) and terms["total"].shape == (5,)


def test_a_generator_is_given_noise_and_label():
    batch, _ = parts()
    made = GanLosses(("CN", "AD")).generate(lambda z, label: z * label[:, None, None], batch)
    assert torch.equal(made["fake"], batch.noise * batch.label[:, None, None])
