"""The conditional adversarial autoencoder: published sizes, where labels enter, and layers computed by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import torch_generator
from nbkit.nets.weights import draw_weights
from nbkit.papers.daninet.caae import (
    GROWTHS,
    Codes,
    ConditionalAutoencoder,
    Encoder,
    Generator,
    LatentCritic,
    SliceCritic,
    diagnosis_codes,
)

PUBLISHED = (64, 128, 256, 512, 1024)


def one_hot(count: int) -> torch.Tensor | None:
    return diagnosis_codes(count, "one_hot") if count else None


def drawn(net: nn.Module, sd: float | None = None) -> nn.Module:
    return draw_weights(net, torch_generator(5), sd=sd)


def kernels(net: nn.Module, *kinds: type) -> list[tuple[int, ...]]:
    return [tuple(m.weight.shape) for m in net.modules() if isinstance(m, kinds)]


def test_published_sizes():
    with torch.device("meta"):
        net = ConditionalAutoencoder(128, PUBLISHED, latent=200, ages=10, told=one_hot(4))
        critic, judge = SliceCritic(128, ages=10, told=one_hot(4)), LatentCritic(200)
        assert net.encoder(torch.empty(1, 1, 128, 128)).shape == (1, 200)
    assert [k[0] for k in kernels(net.encoder, nn.Conv2d)] == [64, 128, 256, 512, 1024]
    assert [k[:2] for k in kernels(net.generator, nn.ConvTranspose2d)] == [
        (1024, 512), (512, 256), (256, 128), (128, 64), (64, 32),
    ]
    assert kernels(net.generator, nn.Conv2d) == [(16, 32, 5, 5), (1, 16, 5, 5)]
    assert net.generator.dense.weight.shape == (16 * 1024, 200 + 10 * 20 + 4 * 50)
    # 10 maps of age and 4 diagnoses told twice beside the 16 of the first convolution
    assert kernels(critic, nn.Conv2d) == [(16, 1, 5, 5), (32, 34, 5, 5), (64, 32, 5, 5), (128, 64, 5, 5)]
    assert kernels(critic, nn.Linear) == [(1024, 8 * 8 * 128), (1, 1024)]
    assert kernels(judge, nn.Linear) == [(64, 200), (32, 64), (16, 32), (1, 16)]


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize(("size", "widths"), [(64, (4, 4, 6, 8)), (128, (4, 4, 6, 6, 8))])
def test_shapes(size, widths, growth):
    net = drawn(ConditionalAutoencoder(size, widths, latent=12, ages=5, told=one_hot(4), growth=growth))
    z, made = net(torch.rand(2, 1, size, size), torch.tensor([0, 1, 1]), torch.tensor([0, 4, 2]), torch.tensor([0, 3]))
    assert z.shape == (2, 12) and made.shape == (3, size, size)
    assert z.abs().max() < 1 and 0 < made.abs().max() < 1
    critic = drawn(SliceCritic(size, (3, 4), ages=5, told=one_hot(4), features=6))
    assert critic(made[:, None], torch.tensor([0, 1, 2]), torch.tensor([3, 2, 1])).shape == (3,)
    assert drawn(LatentCritic(12))(z).shape == (2,)


def test_labels_are_plus_one_among_minus_ones():
    codes = Codes(3, one_hot(2), length=6)
    told = codes(torch.tensor([1, 0]), torch.tensor([1, 0]))
    assert told.tolist() == [[-1, 1, -1] * 2 + [-1, 1] * 3, [1, -1, -1] * 2 + [1, -1] * 3]
    assert Codes(3, None, length=6)(torch.tensor([2]), torch.tensor([9])).tolist() == [[-1, -1, 1] * 2]
    assert Codes(5, None, length=2).length == 5
    assert not codes.state_dict()


def test_a_diagnosis_is_told_as_the_papers_number_or_as_one_among_others():
    """Section 2: d is "a numerical representation [0-3]"."""
    codes = Codes(2, diagnosis_codes(4, "number"), length=3)
    told = codes(torch.tensor([0, 1]), torch.tensor([3, 2]))
    assert told[:, 2:].tolist() == [[3.0] * 3, [2.0] * 3] and codes.length == 5
    assert one_hot(4).sum(dim=1).tolist() == [-2.0] * 4 and one_hot(4).diagonal().tolist() == [1.0] * 4
    with pytest.raises(NbkitError, match="Did you mean 'number'"):
        diagnosis_codes(4, "numbr")


def test_slices_are_encoded_once_and_generated_where_asked():
    net, x = drawn(ConditionalAutoencoder(16, (3, 4), latent=6, ages=3, told=one_hot(2))), torch.randn(2, 1, 16, 16)
    rows, ages, diagnosis = torch.tensor([1, 0, 1]), torch.tensor([2, 0, 1]), torch.tensor([1, 0])
    z, made = net(x, rows, ages, diagnosis)
    for k in range(3):
        alone = net.generator(net.encoder(x[rows[k]][None]), ages[k : k + 1], diagnosis[rows[k]][None])
        torch.testing.assert_close(made[k], alone[0, 0])
    torch.testing.assert_close(z, net.encoder(x))


@pytest.mark.parametrize("told", [0, 2])
def test_the_generator_hears_age_always_and_diagnosis_where_it_is_told(told):
    net, z = drawn(Generator((3, 4), latent=6, ages=3, told=one_hot(told))), torch.randn(1, 6)
    zero, one = torch.tensor([0]), torch.tensor([1])
    first = net(z, zero, zero)
    assert not torch.equal(first, net(z, one, zero))
    assert torch.equal(first, net(z, zero, one)) == (told == 0)


def normed(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Mean and variance of each feature over everything else."""
    axes = [k for k in range(x.ndim) if k != 1]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    centred = (x - x.mean(axes, keepdim=True)) / (x.var(axes, keepdim=True, correction=0) + 1e-5).sqrt()
    return centred + bias.view(shape)


def test_the_critic_of_slices_by_hand():
    net = drawn(SliceCritic(16, (3, 4), ages=3, told=one_hot(2), features=5))
    x, age, diagnosis = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.normal_()
    (conv1, norm1, _), (conv2, norm2, _) = net.first, net.rest[0]
    seen = F.relu(normed(F.conv2d(x, conv1.weight, conv1.bias, stride=2, padding=2), norm1.bias))
    told = torch.cat([2 * F.one_hot(age, 3) - 1, 2 * F.one_hot(diagnosis, 2) - 1], dim=1).float()
    seen = torch.cat([seen, told[..., None, None] * torch.ones(8, 8)], dim=1)
    seen = F.relu(normed(F.conv2d(seen, conv2.weight, conv2.bias, stride=2, padding=2), norm2.bias))
    dense, last = net.score[0], net.score[2]
    expected = last(F.leaky_relu(dense(seen.flatten(1)), 0.2))[:, 0]
    torch.testing.assert_close(net.train()(x, age, diagnosis), expected, rtol=1e-4, atol=1e-5)


def test_the_critic_of_codes_by_hand():
    net, z = drawn(LatentCritic(5, (4, 3))), torch.randn(6, 5)
    (one, norm1, _, two, norm2, _, last) = net.body
    seen = F.relu(normed(one(z), norm1.bias))
    expected = last(F.relu(normed(two(seen), norm2.bias)))[:, 0]
    torch.testing.assert_close(net.train()(z), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("told", [0, 4])
def test_another_label_is_another_score(told):
    net, x = drawn(SliceCritic(32, (4, 8), ages=5, told=one_hot(told), features=8)).eval(), torch.randn(3, 1, 32, 32)
    a, b = torch.tensor([0, 1, 2]), torch.tensor([3, 0, 1])
    first = net(x, a, b)
    assert ((first - net(x, a + 1, b)).abs() > 1e-4).all()
    assert ((first - net(x, a, (b + 1) % 4)).abs() > 1e-4).all() == (told > 0)


def test_normalisation_has_a_shift_and_no_scale():
    critics = nn.ModuleList([SliceCritic(16, (3, 4), ages=2, told=one_hot(0), features=4), LatentCritic(5)])
    norms = [m for m in critics.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == 5
    assert all(n.bias.requires_grad and not n.weight.requires_grad and bool((n.weight == 1).all()) for n in norms)
    net = ConditionalAutoencoder(16, (3, 4), latent=5, ages=2, told=one_hot(0))
    assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}


def test_published_weights_are_small_and_repeat():
    net = drawn(Encoder(16, (8, 16), latent=20), 0.02)
    conv, dense = net.body[2].weight, net.out.weight
    assert conv.abs().max() <= 0.04 < dense.abs().max()
    assert dense.std().item() == pytest.approx(0.02, rel=0.05) and not net.out.bias.any()
    again = drawn(Encoder(16, (8, 16), latent=20), 0.02)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_weights_by_fan_in_keep_the_size_of_signals():
    """He's rule halves nothing: mean squares after ReLU stay near those before, where 0.02 loses them."""
    x = torch.randn(64, 6, generator=torch_generator(1))
    label = torch.zeros(64, dtype=torch.long)
    spread = {}
    for sd in (None, 0.02):
        net = drawn(Generator((16, 16, 32), latent=6, ages=3, told=one_hot(0)), sd)
        spread[sd] = net.body[:-1](net.dense(torch.cat([x, net.codes(label, label)], 1)).unflatten(1, (32, 4, 4))).std()
    assert 0.2 < spread[None] < 3 and spread[0.02] < 1e-2


@pytest.mark.parametrize(("make", "words"), [
    (lambda: Encoder(60, (4, 4, 4, 4), latent=3), "Encoder: size: expected 64 pixels for 4 widths, found 60"),
    (lambda: SliceCritic(36, (4, 4, 4), ages=2, told=one_hot(0)), "SliceCritic: size: expected a multiple of 8"),
])
def test_sizes_that_do_not_fit_are_refused(make, words):
    with pytest.raises(NbkitError, match=words):
        make()


def test_only_transposed_convolutions_leave_a_grid():
    made = {}
    for growth in GROWTHS:
        net = Generator((1, 1, 1), latent=1, ages=1, told=None, growth=growth)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.constant_(module.weight, 0.05)
                nn.init.zeros_(module.bias)
        nn.init.ones_(net.dense.weight)
        image = net(torch.ones(1, 1), torch.tensor([0]), torch.tensor([0])).detach()[0, 0, 12:-12, 12:-12]
        made[growth] = float((image.max() - image.min()) / image.mean())
    assert made["resized"] < 1e-4 < 0.1 < made["transposed"]
