"""Latents of any size, a ControlNet that starts silent, and DDIM that lands where a perfect denoiser points."""

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import torch_generator
from nbkit.papers.brlp.latent_diffusion import NOISE_STEPS, PREDICTIONS, LatentDiffusion


def small(**changes) -> LatentDiffusion:
    settings = {
        "covariates": 5, "widths": (8, 8), "attention": (False, True), "res_blocks": 1, "groups": 4, "embedding": 8,
        "betas": (0.0015, 0.0205), "prediction": "epsilon", "seed": 3,
    }
    return LatentDiffusion(2, **(settings | changes)).eval()


def drawn(*shape: int, name: str = "x") -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(5, name))


def stirred(net: LatentDiffusion) -> LatentDiffusion:
    """With random weights in the denoiser where MONAI starts with zeros."""
    generator = torch_generator(8)
    with torch.no_grad():
        for weight in net.unet.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return net


TIMES = torch.tensor([3, 700])


@pytest.mark.parametrize("size", [(5, 4, 3), (4, 4, 4), (7, 3, 6)])
def test_latents_of_any_size(size):
    net, x = stirred(small()), drawn(2, 2, *size)
    start, context = drawn(2, 3, *size, name="start"), drawn(2, 5, name="context")
    padded = torch.zeros(2, 2, *(n + n % 2 for n in size))
    padded[(..., *map(slice, size))] = x
    with torch.no_grad():
        found = net(x, TIMES, context, start=start)
        wanted = net.unet(padded, TIMES, context=context[:, None])[(..., *map(slice, size))]
        torch.testing.assert_close(net(x, TIMES, context), wanted)
    assert found.shape == x.shape
    assert net.sample(x, context, steps=2, start=start).shape == x.shape


def test_a_new_controlnet_leaves_the_denoiser_as_it_is():
    net = stirred(small())
    net.start_control()
    shared = net.control.state_dict().keys() & net.unet.state_dict().keys()
    assert len(shared) > 20 and any(name.startswith("middle_block") for name in shared)
    assert all(torch.equal(net.control.state_dict()[name], net.unet.state_dict()[name]) for name in shared)
    x, context = drawn(2, 2, 5, 4, 3), drawn(2, 5, name="context")
    with torch.no_grad():
        without = net(x, TIMES, context)
        for name in ("a", "b"):
            assert torch.equal(net(x, TIMES, context, start=drawn(2, 3, 5, 4, 3, name=name)), without)
        for zero in net.control.controlnet_down_blocks:
            getattr(zero, "conv", zero).weight.add_(0.1)
        net.control.controlnet_cond_embedding.conv_out.conv.weight.add_(0.1)
        a, b = (net(x, TIMES, context, start=drawn(2, 3, 5, 4, 3, name=name)) for name in ("a", "b"))
    assert not torch.allclose(a, b, atol=1e-4)


def test_context_and_noise_step_matter():
    net, x = stirred(small()), drawn(2, 2, 4, 4, 4)
    with torch.no_grad():
        found = net(x, TIMES, drawn(2, 5, name="context"))
        assert not torch.allclose(found, net(x, TIMES, drawn(2, 5, name="other")), atol=1e-4)
        assert not torch.allclose(found, net(x, TIMES.flip(0), drawn(2, 5, name="context")), atol=1e-4)


def share_kept(t: torch.Tensor) -> np.ndarray:
    """ᾱ of Ho et al. 2020 for variances whose roots grow linearly."""
    betas = np.linspace(0.0015**0.5, 0.0205**0.5, NOISE_STEPS, dtype=np.float64) ** 2
    return np.cumprod(1 - betas)[t.numpy()].reshape(-1, 1, 1, 1, 1)


def parts(z: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> dict[str, torch.Tensor]:
    """Noisy latents, and what each kind of prediction should be for them."""
    keep = torch.from_numpy(share_kept(t)).float()
    noisy = keep.sqrt() * z + (1 - keep).sqrt() * noise
    return {"noisy": noisy, "epsilon": noise, "sample": z, "v_prediction": keep.sqrt() * noise - (1 - keep).sqrt() * z}


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_zero_for_the_right_answer_alone(prediction, monkeypatch):
    net, z, noise = small(prediction=prediction), drawn(2, 2, 4, 3, 3), drawn(2, 2, 4, 3, 3, name="noise")
    wanted, seen = parts(z, noise, TIMES), []

    def answer(self, x, t, context, *, start=None):
        seen.append(x)
        return wanted[prediction] + torch.tensor([0.0, 0.5]).view(2, 1, 1, 1, 1)

    monkeypatch.setattr(LatentDiffusion, "forward", answer)
    loss = net.loss(z, noise, TIMES, drawn(2, 5))
    torch.testing.assert_close(seen[0], wanted["noisy"], rtol=1e-4, atol=1e-5)
    assert loss.tolist() == pytest.approx([0.0, 0.25], abs=1e-5)


@pytest.mark.parametrize("steps", [1, 10, 25])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_with_a_perfect_denoiser_recovers_the_latent(prediction, steps, monkeypatch):
    net, z = small(prediction=prediction), drawn(2, 2, 4, 3, 3)

    def perfect(self, x, t, context, *, start=None):
        keep = torch.from_numpy(share_kept(t)).float()
        return parts(z, (x - keep.sqrt() * z) / (1 - keep).sqrt(), t)[prediction]

    monkeypatch.setattr(LatentDiffusion, "forward", perfect)
    found = net.sample(drawn(2, 2, 4, 3, 3, name="noise"), drawn(2, 5), steps=steps)
    # the noise that is left is judged by differences of order sqrt(ᾱ) = 0.01 in float32
    torch.testing.assert_close(found, z, rtol=1e-3, atol=2e-3)


def test_ddim_with_a_denoiser_of_gaussian_latents_keeps_their_distribution(monkeypatch):
    """For z ~ N(m, s²) the best denoiser is known; the map of DDIM sends N(0, 1) to it as steps shrink."""
    mean, sd, net = 1.5, 0.4, small()

    def best(self, x, t, context, *, start=None):
        keep = torch.from_numpy(share_kept(t)).float()
        variance = keep * sd**2 + 1 - keep
        return (1 - keep).sqrt() * (x - keep.sqrt() * mean) / variance

    monkeypatch.setattr(LatentDiffusion, "forward", best)
    found = net.sample(drawn(50, 2, 6, 6, 6, name="noise"), drawn(50, 5), steps=200)
    assert float(found.mean()) == pytest.approx(mean, abs=0.03)
    assert float(found.std()) == pytest.approx(sd, rel=0.05)


def test_the_last_step_ends_without_noise_and_begins_where_training_ended(monkeypatch):
    net, times = small(), []

    def listen(self, x, t, context, *, start=None):
        times.append(int(t[0]))
        return torch.zeros_like(x)

    monkeypatch.setattr(LatentDiffusion, "forward", listen)
    net.sample(drawn(1, 2, 4, 4, 4), drawn(1, 5), steps=25)
    assert times == list(range(999, -1, -40)) and len(times) == 25


def test_weights_depend_on_the_seed_alone():
    before = torch.random.get_rng_state()
    a, b = small().state_dict(), small().state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    c = small(seed=4).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["unet.conv_in.conv.weight"], c["unet.conv_in.conv.weight"])


def test_bad_settings_are_refused():
    with pytest.raises(NbkitError, match=r"multiple of groups = 4 for each of 2 entries of attention, found \(6, 8\)"):
        small(widths=(6, 8))
    with pytest.raises(NbkitError, match="for each of 2 entries"):
        small(widths=(8, 8, 8))
    with pytest.raises(NbkitError, match="Did you mean 'v_prediction'"):
        small(prediction="v_predicton")
    with pytest.raises(NbkitError, match="steps: expected a divisor of 1000, found 30"):
        small().sample(drawn(1, 2, 4, 4, 4), drawn(1, 5), steps=30)
