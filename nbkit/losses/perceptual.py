"""Losses of latent image models: the perceptual distance of slices, and the divergence from a standard normal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from nbkit.core.checks import NbkitError, require
from nbkit.core.files import cache_folder
from nbkit.core.seeds import torch_generator

# convolutions of AlexNet up to each of the five layers that LPIPS compares: in, out, kernel, stride, padding
_ALEXNET = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
_ALEXNET_NAMES = ("slice1.0", "slice2.3", "slice3.6", "slice4.8", "slice5.10")
_LPIPS_SHIFT, _LPIPS_SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_SMALLEST_SLICE = 31


class SliceFeatures(nn.Module):
    """Frozen features of 2D slices, with a weight for every channel.

    Parameters
    ----------
    stages : sequence of torch.nn.Module
        Applied one after another; each ends in a ReLU whose output is compared.
    weights : sequence of torch.Tensor
        (C,) for each stage, none negative.
    shift, scale : sequence of float
        Input channels: slices are repeated to as many, then shifted and divided.
    name : str
        What a record of the training says.
    """

    def __init__(
        self, stages: Sequence[nn.Module], weights: Sequence[torch.Tensor], *, shift: Sequence[float],
        scale: Sequence[float], name: str,
    ) -> None:
        super().__init__()
        self.stages, self.name = nn.ModuleList(stages), name
        self.weights = nn.ParameterList(weights)
        self.register_buffer("shift", torch.tensor(shift)[:, None, None])
        self.register_buffer("scale", torch.tensor(scale)[:, None, None])
        self.requires_grad_(False)

    def forward(self, slices: torch.Tensor) -> list[torch.Tensor]:
        """Features (N, C, h, w) of slices (N, 1, H, W) in [0, 1] at every stage, of unit length at each place."""
        x, out = (2 * slices - 1 - self.shift) / self.scale, []
        for stage in self.stages:
            x = stage(x)
            out.append(F.normalize(x.float(), dim=1, eps=1e-10))
        return out


def random_features(*, widths: Sequence[int] = (16, 32, 64), seed: int = 0) -> SliceFeatures:
    """The self-contained substitute for LPIPS: a small network with random, fixed weights.

    3×3 convolutions with ReLU, a 2×2 average between them; weights from He's normal distribution, biases from one of
    standard deviation 0.1, so that empty background has features too; all channels count alike and the stages are
    averaged, which keeps the distance in [0, 2]. Random filters lack LPIPS's fit to human judgement, but they do
    compare edges and textures where voxelwise losses compare values (Ustyuzhaninov et al. 2016, arXiv:1606.00021;
    Amir & Weiss, CVPR 2021).
    """
    generator, stages, channels = torch_generator(seed, "random features"), [], 1
    for i, width in enumerate(widths):
        conv = nn.Conv2d(channels, width, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
        nn.init.normal_(conv.bias, std=0.1, generator=generator)
        stages.append(nn.Sequential(*([nn.AvgPool2d(2)] if i else []), conv, nn.ReLU()))
        channels = width
    weights = [torch.full((width,), 1 / len(widths)) for width in widths]
    return SliceFeatures(stages, weights, shift=(0.0,), scale=(1.0,), name=f"random features, seed {seed}")


def lpips_features(path: Path | str) -> SliceFeatures:
    """The features and weights of LPIPS, version 0.1 on AlexNet (Zhang et al. 2018, arXiv:1801.03924), from a file.

    The file is what ``safetensors.torch.save_file({k: v.clone() for k, v in net.state_dict().items()}, path)`` writes
    for ``net = lpips.LPIPS(net="alex")`` of the ``lpips`` package, on any machine that has it. Nothing is downloaded.

    Raises
    ------
    NbkitError
        If the file cannot be read or lacks a tensor.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise NbkitError(
            f"lpips_features: {path}", expected="a safetensors file of LPIPS weights", found=str(error),
            remedy="Write it as lpips_features says, or use perceptual='random'.",
        ) from error
    stages = [_alexnet_stage(i, tensors, Path(path)) for i in range(len(_ALEXNET))]
    shapes = [(1, conv[1], 1, 1) for conv in _ALEXNET]
    weights = [_tensor(tensors, f"lin{i}.model.1.weight", s, Path(path)).flatten() for i, s in enumerate(shapes)]
    return SliceFeatures(stages, weights, shift=_LPIPS_SHIFT, scale=_LPIPS_SCALE, name="LPIPS 0.1 (AlexNet)")


def _alexnet_stage(index: int, tensors: dict[str, torch.Tensor], path: Path) -> nn.Sequential:
    inputs, outputs, kernel, stride, padding = _ALEXNET[index]
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding)
    for part in ("weight", "bias"):
        own = getattr(conv, part)
        own.data = _tensor(tensors, f"net.{_ALEXNET_NAMES[index]}.{part}", tuple(own.shape), path)
    return nn.Sequential(*([nn.MaxPool2d(3, stride=2)] if index in (1, 2) else []), conv, nn.ReLU())


def _tensor(tensors: dict[str, torch.Tensor], name: str, shape: tuple[int, ...], path: Path) -> torch.Tensor:
    found = tensors.get(name)
    require(
        found is not None and tuple(found.shape) == shape, f"lpips_features: {path}", expected=f"{name} {shape}",
        found="no such tensor" if found is None else tuple(found.shape),
        remedy="Write the state of lpips.LPIPS(net='alex'), version 0.1, with its linear layers.",
    )
    return found.float()


def find_features(source: str) -> SliceFeatures:
    """Features by name: ``"random"``, the path of a file for :func:`lpips_features`, or ``"auto"``.

    ``auto`` takes ``lpips_alex.safetensors`` of the folder ``weights`` in nbkit's cache when the user has put it
    there, else random features; ``name`` of the result says which.
    """
    kept = cache_folder() / "weights" / "lpips_alex.safetensors"
    if source == "random" or (source == "auto" and not kept.exists()):
        return random_features()
    return lpips_features(kept if source == "auto" else source)


def draw_slices(shape: Sequence[int], count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Indices of `count` random slices (all, where there are no more) along each of the axes X, Y, Z."""
    return tuple(torch.randperm(n, generator=generator)[:count] for n in shape)


def perceptual_distance(
    features: SliceFeatures, x: torch.Tensor, y: torch.Tensor, *, slices: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Weighted squared difference of unit features: summed over channels and stages, mean over places and slices.

    Parameters
    ----------
    features : SliceFeatures
    x, y : torch.Tensor
        (B, 1, X, Y, Z), intensities in about [0, 1].
    slices : sequence of torch.Tensor
        Indices of the slices to compare along X, Y and Z; the three axes count alike.

    Returns
    -------
    torch.Tensor
        (B,), 0 where all features agree.

    Raises
    ------
    NbkitError
        If AlexNet's features are asked of slices too small for them.
    """
    require(
        len(features.stages) < len(_ALEXNET) or min(x.shape[2:]) >= _SMALLEST_SLICE, "perceptual_distance: x",
        expected=f"at least {_SMALLEST_SLICE} voxels along every axis for LPIPS", found=tuple(x.shape[2:]),
        remedy="Use perceptual='random' on coarse grids.",
    )
    axes = [_distance(features, _along(x, axis, i), _along(y, axis, i)) for axis, i in enumerate(slices) if len(i)]
    return torch.stack([d.view(len(x), -1).mean(dim=1) for d in axes]).mean(dim=0)


def _along(x: torch.Tensor, axis: int, indices: torch.Tensor) -> torch.Tensor:
    """Slices (B·n, 1, H, W) across `axis`, subject by subject."""
    return x.index_select(axis + 2, indices.to(x.device)).movedim(axis + 2, 1).flatten(0, 1)


def _distance(features: SliceFeatures, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        wanted = features(y)
    parts = (
        torch.einsum("nchw,c->nhw", (a - b).square(), w).mean(dim=(1, 2))
        for a, b, w in zip(features(x), wanted, features.weights, strict=True)
    )
    return torch.stack(list(parts)).sum(dim=0)


def kl_to_standard_normal(mean: torch.Tensor, sd: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, sd²) ‖ N(0, 1)) = ½ Σ (μ² + σ² − ln σ² − 1), summed over latents (B, C, x, y, z) -> (B,)."""
    variance = sd.float().square()
    return 0.5 * (mean.float().square() + variance - variance.log() - 1).flatten(1).sum(dim=1)
