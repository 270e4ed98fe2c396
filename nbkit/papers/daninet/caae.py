"""Conditional adversarial autoencoders of slices: a latent code for whose brain, labels for how old and how ill.

Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017 (CAAE), with the
layers of its public code; DaniNet (Ravi et al., MICCAI 2019) takes them over for one grey channel and a diagnosis.
TensorFlow pads a convolution of stride 2 by one pixel before and two behind, these by two on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nbkit.core.checks import known, require

FORMS = ("number", "one_hot")
GROWTHS = ("transposed", "resized")
SMALLEST = 4
"""Pixels along an edge of the maps between the convolutions and the latent code."""
_KERNEL, _LEAK = 5, 0.2


class Codes(nn.Module):
    """The age bin as −1 and +1, one +1 among as many numbers as there are bins, and what else is told, all repeated.

    Parameters
    ----------
    ages : int
        How many bins there are.
    told : torch.Tensor or None
        (K, n): what is told of each of K diagnoses (:func:`diagnosis_codes`); None: nothing.
    length : int
        About how many numbers each of the two is repeated to, once at least.
    """

    def __init__(self, ages: int, told: torch.Tensor | None, *, length: int) -> None:
        super().__init__()
        for name, table in (("age", 2 * torch.eye(ages) - 1), ("told", torch.empty(0, 0) if told is None else told)):
            repeated = table.repeat(1, max(length // max(table.shape[1], 1), 1))
            self.register_buffer(name, repeated, persistent=False)
        self.length = self.age.shape[1] + self.told.shape[1]

    def forward(self, age: torch.Tensor, diagnosis: torch.Tensor) -> torch.Tensor:
        """Whole numbers (B,) and (B,), counted from 0, -> (B, length)."""
        told = [self.age[age], *([self.told[diagnosis]] if len(self.told) else [])]
        return torch.cat(told, dim=1)


def diagnosis_codes(count: int, form: str) -> torch.Tensor:
    """What is told of each of `count` diagnoses: its "number" from 0 on, (count, 1), or "one_hot", −1 and one +1."""
    if known(form, FORMS, "diagnosis_codes: form") == "number":
        return torch.arange(float(count))[:, None]
    return 2 * torch.eye(count) - 1


class Encoder(nn.Module):
    """Slices to latent codes between −1 and 1: convolutions 5×5 of stride 2 with ReLU, one dense layer, tanh.

    Parameters
    ----------
    size : int
        Pixels along an edge, 4 · 2 to the number of widths.
    widths : sequence of int
        Feature maps of each halving; 64, 128, 256, 512, 1024 in CAAE.
    latent : int
        Length of the code; 50 in CAAE, 200 in DaniNet.
    """

    def __init__(self, size: int, widths: Sequence[int], *, latent: int) -> None:
        super().__init__()
        needed = SMALLEST * 2 ** len(widths)
        require(
            size == needed, "Encoder: size", expected=f"{needed} pixels for {len(widths)} widths", found=size,
            remedy="Every width halves a slice, down to 4×4: give one width more or less, or cut slices of that size.",
        )
        layers: list[nn.Module] = []
        for a, b in zip((1, *widths), widths):
            layers += [nn.Conv2d(a, b, _KERNEL, stride=2, padding=2), nn.ReLU()]
        self.body, self.out = nn.Sequential(*layers), nn.Linear(widths[-1] * SMALLEST**2, latent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, size, size) -> (B, latent)."""
        return self.out(self.body(x).flatten(1)).tanh()


class Generator(nn.Module):
    """Latent codes and labels to slices between −1 and 1, no normalisation anywhere.

    A dense layer, then one layer 5×5 that doubles the size for each of the encoder's halvings, with half as many
    maps each, one convolution of stride 1 that halves them again, and one to the single channel; ReLU and last tanh.

    Parameters
    ----------
    widths, latent
        Of the :class:`Encoder`.
    ages, told
        Of :class:`Codes`; labels are repeated to about the length of the latent code.
    growth : {"transposed", "resized"}
        What doubles the size: transposed convolutions of stride 2, as in CAAE, whose kernels overlap unevenly and leave
        a grid until training has cured it; or pixels repeated, then a convolution (Odena, Dumoulin and Olah,
        "Deconvolution and Checkerboard Artifacts", Distill 2016).
    """

    def __init__(
        self, widths: Sequence[int], *, latent: int, ages: int, told: torch.Tensor | None, growth: str = "transposed"
    ) -> None:
        super().__init__()
        self.codes, self.width = Codes(ages, told, length=latent), widths[-1]
        self.dense = nn.Linear(latent + self.codes.length, self.width * SMALLEST**2)
        maps = [*reversed(widths), max(widths[0] // 2, 1), max(widths[0] // 4, 1)]
        layers: list[nn.Module] = [nn.ReLU()]
        for a, b in zip(maps[:-2], maps[1:-1], strict=True):
            layers += [_doubling(a, b, known(growth, GROWTHS, "Generator: growth")), nn.ReLU()]
        # a transposed convolution of stride 1 is a convolution
        layers += [nn.Conv2d(maps[-2], maps[-1], _KERNEL, padding=2), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(maps[-1], 1, _KERNEL, padding=2), nn.Tanh())

    def forward(self, z: torch.Tensor, age: torch.Tensor, diagnosis: torch.Tensor) -> torch.Tensor:
        """Codes (B, latent), age bins (B,) and diagnoses (B,), counted from 0, -> (B, 1, size, size)."""
        started = self.dense(torch.cat([z, self.codes(age, diagnosis)], dim=1))
        return self.body(started.unflatten(1, (self.width, SMALLEST, SMALLEST)))


class ConditionalAutoencoder(nn.Module):
    """Encoder and generator together: every slice is encoded once and generated at as many ages as are asked for.

    Parameters
    ----------
    size, widths, latent
        Of the :class:`Encoder`.
    ages, told
        Of :class:`Codes`.
    growth : {"transposed", "resized"}
        Of the :class:`Generator`.
    """

    def __init__(
        self, size: int, widths: Sequence[int], *, latent: int, ages: int, told: torch.Tensor | None,
        growth: str = "transposed",
    ) -> None:
        super().__init__()
        self.encoder = Encoder(size, widths, latent=latent)
        self.generator = Generator(widths, latent=latent, ages=ages, told=told, growth=growth)

    def forward(
        self, x: torch.Tensor, rows: torch.Tensor, ages: torch.Tensor, diagnosis: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes of all slices, and slices of some of them at some ages, all in one pass of the generator.

        Parameters
        ----------
        x : torch.Tensor
            (B, 1, size, size) between −1 and 1.
        rows, ages : torch.Tensor
            Whole numbers (M,): which of the B slices, in which age bin.
        diagnosis : torch.Tensor
            Whole numbers (B,).

        Returns
        -------
        tuple of torch.Tensor
            (B, latent) and (M, size, size).
        """
        z = self.encoder(x)
        return z, self.generator(z[rows], ages, diagnosis[rows])[:, 0]


class LatentCritic(nn.Module):
    """Tells codes drawn from the prior from those of the encoder: dense layers, each centred over the batch, ReLU.

    Parameters
    ----------
    latent : int
    widths : sequence of int
        64, 32, 16 in CAAE.
    """

    def __init__(self, latent: int, widths: Sequence[int] = (64, 32, 16)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip((latent, *widths), widths):
            layers += [nn.Linear(a, b), _unscaled(nn.BatchNorm1d(b)), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(B, latent), two codes at least in training, -> scores (B,) without a sigmoid."""
        return self.body(z)[:, 0]


class SliceCritic(nn.Module):
    """Tells real slices from generated ones, given what age and diagnosis they are said to show.

    Convolutions 5×5 of stride 2, each normalised over the batch without a scale, with ReLU; the labels join as constant
    maps after the first of them; a dense layer with leaky ReLU 0.2, and one to the score.

    Parameters
    ----------
    size : int
    widths : sequence of int
        16, 32, 64, 128 in CAAE.
    ages, told
        Of :class:`Codes`; a diagnosis is repeated to about as many maps as there are ages.
    features : int
        Of the dense layer; 1024 in CAAE.
    """

    def __init__(
        self, size: int, widths: Sequence[int] = (16, 32, 64, 128), *, ages: int, told: torch.Tensor | None,
        features: int = 1024,
    ) -> None:
        super().__init__()
        edge = size // 2 ** len(widths)
        require(
            edge * 2 ** len(widths) == size, "SliceCritic: size", found=size,
            expected=f"a multiple of {2 ** len(widths)} for {len(widths)} widths",
            remedy="Give another number of critic_widths.",
        )
        self.codes = Codes(ages, told, length=ages)
        self.first = _halving(1, widths[0])
        maps = (widths[0] + self.codes.length, *widths[1:])
        self.rest = nn.Sequential(*(_halving(a, b) for a, b in zip(maps, maps[1:])))
        self.score = nn.Sequential(nn.Linear(maps[-1] * edge**2, features), nn.LeakyReLU(_LEAK), nn.Linear(features, 1))

    def forward(self, x: torch.Tensor, age: torch.Tensor, diagnosis: torch.Tensor) -> torch.Tensor:
        """Slices (B, 1, size, size), age bins (B,) and diagnoses (B,) -> scores (B,) without a sigmoid."""
        seen = self.first(x)
        told = self.codes(age, diagnosis)[..., None, None].expand(-1, -1, *seen.shape[2:])
        return self.score(self.rest(torch.cat([seen, told], dim=1)).flatten(1))[:, 0]


def _doubling(a: int, b: int, growth: str) -> nn.Module:
    if growth == "transposed":
        return nn.ConvTranspose2d(a, b, _KERNEL, stride=2, padding=2, output_padding=1)
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(a, b, _KERNEL, padding=2))


def _halving(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, _KERNEL, stride=2, padding=2), _unscaled(nn.BatchNorm2d(b)), nn.ReLU())


def _unscaled(norm: nn.Module) -> nn.Module:
    norm.weight.requires_grad_(False)
    return norm
