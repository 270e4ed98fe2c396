"""Convolutional autoencoders of whole images: MONAI's AutoencoderKL for any grid, and the latent space it spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import AutoencoderKL
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from nbkit.core.checks import check_same_grid, known, require
from nbkit.core.volume import Volume
from nbkit.nets.conv import in_company

Posterior = tuple[torch.Tensor, torch.Tensor]


class Autoencoder(nn.Module):
    """AutoencoderKL without attention (Rombach 2022, Pinaya 2022), for images of one channel and any size.

    Images are padded with zeros at the far end of each axis to a multiple of `factor` and cropped back after decoding.

    Parameters
    ----------
    widths : sequence of int
        Feature maps of each level; every level after the first halves the grid.
    latent_channels : int
    res_blocks : int
        Residual blocks per level.
    groups : int
        Of the group normalisation; divides every width.
    dimensions : {2, 3}
    stem : int
        Cubes of so many voxels along an edge become channels before the first level, and voxels again after the last
        (space to depth; Shi et al., CVPR 2016): the first level then works on a grid as many times coarser.

    Attributes
    ----------
    arguments : dict
        What it was built from: ``Autoencoder(**net.arguments)`` is another of the same shape.
    factor : int
        Voxels along an edge of a latent cell.

    Raises
    ------
    NbkitError
        If `groups` does not divide a width.
    """

    def __init__(
        self, widths: Sequence[int], *, latent_channels: int = 4, res_blocks: int = 2, groups: int = 32,
        dimensions: int = 3, stem: int = 1,
    ) -> None:
        super().__init__()
        require(
            len(widths) > 0 and all(w % groups == 0 for w in widths), "Autoencoder: groups",
            expected=f"a divisor of every width of {tuple(widths)}", found=groups,
            remedy="Lower groups, or use widths that are multiples of it.",
        )
        self.arguments = {
            "widths": tuple(widths), "latent_channels": latent_channels, "res_blocks": res_blocks, "groups": groups,
            "dimensions": dimensions, "stem": stem,
        }
        self.factor, self.latent_channels, self.stem = stem * 2 ** (len(widths) - 1), latent_channels, stem
        self.net = in_company(AutoencoderKL(
            spatial_dims=dimensions, in_channels=stem**dimensions, out_channels=stem**dimensions,
            channels=tuple(widths),
            num_res_blocks=(res_blocks,) * len(widths), latent_channels=latent_channels, norm_num_groups=groups,
            attention_levels=(False,) * len(widths), with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
        ))

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape (C, x, y, z) of the latents of an image of spatial `shape`."""
        return (self.latent_channels, *(-(-n // self.factor) for n in shape))

    def posterior(self, x: torch.Tensor) -> Posterior:
        """Mean and standard deviation (B, C, x, y, z) of the latents of images (B, 1, X, Y, Z)."""
        padded = F.pad(x, [side for n in reversed(x.shape[2:]) for side in (0, -n % self.factor)])
        return self.net.encode(pixelunshuffle(padded, padded.ndim - 2, self.stem))

    def decode(self, z: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Images (B, 1, X, Y, Z) of spatial `shape` from latents (B, C, x, y, z)."""
        image = pixelshuffle(self.net.decode(z), z.ndim - 2, self.stem)
        return image[(..., *(slice(n) for n in shape))]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reconstruction from the posterior mean (never from a sample), the mean, and the standard deviation."""
        mean, sd = self.posterior(x)
        return self.decode(mean, x.shape[2:]), mean, sd


def draw_weights(net: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw every convolution anew from `generator`, by torch's own default: uniform within ±1/√(fan in).

    Of a spectrally normalised one the weight underneath is drawn, and the vectors from which its norm is found.
    """
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, _ConvNd):
                normed = is_parametrized(module, "weight")
                weight = module.parametrizations.weight.original if normed else module.weight
                bound = weight[0].numel() ** -0.5
                for values in (weight, module.bias):
                    values.uniform_(-bound, bound, generator=generator)
                for vector in module.parametrizations.weight.buffers() if normed else ():
                    vector.copy_(F.normalize(torch.randn(vector.shape, generator=generator), dim=0))
    return net


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """A trained autoencoder with all that brings scans of one grid there and back.

    Parameters
    ----------
    net : Autoencoder
    shape, affine
        Grid of the scans: spatial shape and 4×4 voxel-to-world (mm).
    peak : float
        Intensity, in the scans' unit, that the network knows as 1.
    scale : float
        Standard deviation of the network's latents over training scans; latents given out are divided by it.
    """

    net: Autoencoder
    shape: tuple[int, int, int]
    affine: np.ndarray
    peak: float
    scale: float = 1.0

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, x, y, z)."""
        return self.net.latent_shape(self.shape)

    @property
    def _device(self) -> torch.device:
        return next(self.net.parameters()).device

    def scaled(self, image: Volume) -> torch.Tensor:
        """The image (1, X, Y, Z) in the network's unit.

        Raises
        ------
        NbkitError
            If the image lies on another grid.
        """
        check_same_grid(self.shape, self.affine, image.shape, image.affine, "LatentSpace: image")
        return image.data.float() / self.peak

    def encode(self, image: Volume) -> torch.Tensor:
        """Posterior mean (C, x, y, z), about unit variance, on the CPU; deterministic."""
        return self.encode_all([image])[0]

    @torch.inference_mode()
    def encode_all(self, images: Sequence[Volume]) -> torch.Tensor:
        """Posterior means (N, C, x, y, z) of several images, as :meth:`encode` gives them."""
        net, means = self.net.eval(), []
        for start in range(0, len(images), 2):
            pair = torch.stack([self.scaled(image) for image in images[start : start + 2]])
            means.append(net.posterior(pair.to(self._device))[0].float().cpu())
        return torch.cat(means) / self.scale

    @torch.inference_mode()
    def decode(self, z: torch.Tensor, *, step: str = "decoded") -> Volume:
        """The image (1, X, Y, Z) of latents (C, x, y, z), in the scans' unit; `step` opens its record.

        Raises
        ------
        NbkitError
            If the latents have another shape.
        """
        require(
            tuple(z.shape) == self.latent_shape, "LatentSpace.decode: z", expected=f"shape {self.latent_shape}",
            found=tuple(z.shape), remedy="Decode latents with the autoencoder that encoded them.",
        )
        image = self.net.eval().decode(z[None].to(self._device) * self.scale, self.shape)[0].float().cpu()
        padded = [n * self.net.factor for n in self.latent_shape[1:]]
        note = f"{step} from {_by(self.latent_shape)} latents of {_by(padded)} voxels, cropped to {_by(self.shape)}"
        return Volume(image * self.peak, self.affine, (note,))

    def constants(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights."""
        return {
            "shape": list(self.shape), "affine": self.affine.tolist(), "peak": self.peak, "latent_scale": self.scale,
        }

    @classmethod
    def from_constants(cls, net: Autoencoder, constants: Mapping[str, Any], *, where: str) -> Self:
        """Inverse of :meth:`constants`; a missing one is refused by name."""
        for name in ("shape", "affine", "peak", "latent_scale"):
            known(name, constants, f"{where}: constants")
        shape, affine = tuple(constants["shape"]), np.array(constants["affine"])
        return cls(net, shape, affine, constants["peak"], constants["latent_scale"])


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
