"""The autoencoder on any grid, against MONAI's own; the latent space there and back."""

import numpy as np
import pytest
import torch
from monai.networks.nets import AutoencoderKL

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.nets.autoencoder import Autoencoder, LatentSpace, draw_weights
from nbkit.nets.discriminators import PatchDiscriminator

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
SHAPE = (10, 9, 12)


def small(**more) -> Autoencoder:
    return draw_weights(Autoencoder((4, 8, 8), res_blocks=1, groups=4, **more), torch_generator(1)).eval()


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch_generator(2))


@pytest.fixture(scope="module")
def space() -> LatentSpace:
    return LatentSpace(small(), SHAPE, AFFINE, peak=200.0, scale=0.5)


def test_it_is_monais_network():
    net = small()
    peer = AutoencoderKL(
        spatial_dims=3, in_channels=1, out_channels=1, channels=(4, 8, 8), num_res_blocks=(1, 1, 1), latent_channels=4,
        norm_num_groups=4, attention_levels=(False,) * 3, with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    ).eval()
    peer.load_state_dict(net.net.state_dict())
    x = image(2, 1, 8, 12, 16)
    with torch.no_grad():
        (mean, sd), (peer_mean, peer_sd) = net.posterior(x), peer.encode(x)
        assert torch.equal(mean, peer_mean) and torch.equal(sd, peer_sd)
        assert torch.equal(net(x)[0], peer.reconstruct(x))


@pytest.mark.parametrize("shape", [(8, 8, 8), (10, 9, 12), (5, 7, 11)])
def test_any_grid_is_padded_at_its_far_ends_and_cropped_back(shape):
    net, x = small(), image(1, 1, *shape)
    padded = torch.zeros(1, 1, *(-(-n // 4) * 4 for n in shape))
    padded[(..., *map(slice, shape))] = x
    with torch.no_grad():
        reconstruction, mean, _ = net(x)
        wanted, wanted_mean, _ = net(padded)
    assert mean.shape[1:] == net.latent_shape(shape)
    assert torch.equal(mean, wanted_mean)
    assert torch.equal(reconstruction, wanted[(..., *map(slice, shape))])


def test_a_small_volume_alone_is_what_it_is_among_others_and_so_is_its_gradient():
    net, x = small(), image(2, 1, 8, 12, 16)
    torch.testing.assert_close(net(x[:1])[0], net(x)[0][:1], rtol=1e-4, atol=1e-5)
    slopes = {}
    for count in (1, 2):
        net.zero_grad()
        net(x[:1].repeat(count, 1, 1, 1, 1))[0].square().sum().backward()
        slopes[count] = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert slopes[1].keys() == slopes[2].keys()
    # alone it is convolved in another order: rounding goes with the size of what is added up
    steepest = max(float(slope.abs().max()) for slope in slopes[1].values())
    for name, slope in slopes[1].items():
        torch.testing.assert_close(2 * slope, slopes[2][name], rtol=1e-3, atol=1e-6 * steepest)


@pytest.mark.parametrize(("dimensions", "shape"), [(3, (10, 9, 12)), (2, (7, 12))])
def test_a_stem_of_two_is_a_network_of_eight_or_four_channels_at_half_the_grid(dimensions, shape):
    net = draw_weights(
        Autoencoder((4, 8), res_blocks=1, groups=4, dimensions=dimensions, stem=2), torch_generator(1)
    ).eval()
    x = image(1, 1, *shape)
    padded = torch.zeros(1, 1, *(-(-n // 4) * 4 for n in shape))
    padded[(..., *map(slice, shape))] = x
    corners = [c.tolist() for c in torch.cartesian_prod(*[torch.arange(2)] * dimensions)]
    parts = torch.cat([padded[(..., *(slice(k, None, 2) for k in c))] for c in corners], dim=1)
    with torch.no_grad():
        mean = net.posterior(x)[0]
        assert net.factor == 4 and mean.shape[1:] == net.latent_shape(shape)
        assert torch.equal(mean, net.net.encode(parts)[0])
        made, whole = net.net.decode(mean), net.decode(mean, padded.shape[2:])
        for channel, corner in enumerate(corners):
            assert torch.equal(whole[(..., *(slice(k, None, 2) for k in corner))], made[:, channel : channel + 1])
    assert Autoencoder(**net.arguments).factor == 4


def test_slices_in_two_dimensions():
    with torch.no_grad():
        reconstruction, mean, sd = small(dimensions=2)(image(2, 1, 10, 9))
    assert (reconstruction.shape, mean.shape, sd.shape) == ((2, 1, 10, 9), (2, 4, 3, 3), (2, 4, 3, 3))


def test_another_of_the_same_shape():
    net = small(dimensions=2, latent_channels=3)
    Autoencoder(**net.arguments).load_state_dict(net.state_dict())


def test_groups_must_divide_widths():
    with pytest.raises(NbkitError, match=r"a divisor of every width of \(6, 8\), found 4"):
        Autoencoder((6, 8), groups=4)


def test_weights_depend_on_the_generator_alone():
    a, b = small(), small()
    torch.rand(3)
    c = draw_weights(Autoencoder((4, 8, 8), res_blocks=1, groups=4), torch_generator(9))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.net.encoder.blocks[0].conv.weight, c.net.encoder.blocks[0].conv.weight)
    largest = a.net.encoder.blocks[0].conv.weight.detach().abs().max()
    assert 0.9 < float(largest) * 27**0.5 <= 1


def test_spectrally_normalised_weights_too():
    critics = [draw_weights(PatchDiscriminator(widths=(4, 8), features=4), torch_generator(3)) for _ in range(2)]
    a, b = (c.state_dict() for c in critics)
    assert len(a) > 8 and all(torch.equal(a[name], b[name]) for name in a)


def test_latents_are_the_scaled_posterior_mean(space):
    x = image(1, *SHAPE)
    with torch.no_grad():
        mean, _ = space.net.posterior(x[None])
    torch.testing.assert_close(space.encode(Volume(200 * x, AFFINE)), mean[0] / 0.5)
    assert space.latent_shape == tuple(mean.shape[1:])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_several_images_are_encoded_as_each_by_itself(space, count):
    volumes = [Volume(200 * x, AFFINE) for x in image(count, 1, *SHAPE)]
    one_by_one = torch.stack([space.encode(volume) for volume in volumes])
    torch.testing.assert_close(space.encode_all(volumes), one_by_one, rtol=1e-4, atol=1e-5)


def test_decoding_undoes_scale_and_peak_and_says_so(space):
    x = image(1, *SHAPE)
    volume = Volume(200 * x, AFFINE)
    decoded = space.decode(space.encode(volume), step="reconstruction")
    with torch.no_grad():
        torch.testing.assert_close(decoded.data / 200, space.net(x[None])[0][0], rtol=1e-4, atol=1e-5)
    decoded.check_grid(volume, "test")
    assert decoded.history == ("reconstruction from 4×3×3×3 latents of 12×12×12 voxels, cropped to 10×9×12",)


def test_another_grid_or_other_latents_are_refused(space):
    with pytest.raises(NbkitError, match="the same shape"):
        space.encode(Volume(image(1, 8, 8, 8), AFFINE))
    with pytest.raises(NbkitError, match="affines that differ"):
        space.encode(Volume(image(1, *SHAPE), np.eye(4)))
    with pytest.raises(NbkitError, match=r"expected shape \(4, 3, 3, 3\)"):
        space.decode(torch.zeros(4, 2, 3, 3))


def test_constants_there_and_back(space):
    again = LatentSpace.from_constants(space.net, space.constants(), where="test")
    z = space.encode(Volume(image(1, *SHAPE), AFFINE))
    assert torch.equal(again.encode(Volume(image(1, *SHAPE), AFFINE)), z)
    lacking = {k: v for k, v in space.constants().items() if k != "latent_scale"}
    with pytest.raises(NbkitError, match="latent_scale"):
        LatentSpace.from_constants(space.net, lacking, where="test")
