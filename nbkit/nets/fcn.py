"""Plain stacks of 3D convolutions: the FCN of Wei et al. and, with 1³ kernels, the voxelwise MLP."""

from __future__ import annotations

import torch
from torch import nn

from nbkit.nets.conv import Conv3d


def fcn(in_channels: int, *, width: int, depth: int, kernel: int = 3) -> nn.Sequential:
    """Fully convolutional network: `depth` hidden layers and one linear output convolution.

    Parameters
    ----------
    in_channels : int
        Number of input contrasts.
    width : int
        Feature maps of each hidden layer (Wei thesis Tab. 2.1: 32, 64, 96).
    depth : int
        Hidden layers, each convolution + ReLU (Fig. 2.3: 2, 3, 4, 6).
    kernel : int
        Edge of the cubic kernel; 1 gives a voxelwise multilayer perceptron.

    Returns
    -------
    torch.nn.Sequential
        (B, in_channels, X, Y, Z) -> (B, 1, X, Y, Z), same spatial shape. The output is linear although
        the text says "followed by ReLU": targets are z-scored, so half of them are negative.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for _ in range(depth):
        layers += [Conv3d(channels, width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers, Conv3d(channels, 1, kernel, padding=kernel // 2))


def initialise(net: nn.Module, generator: torch.Generator) -> nn.Module:
    """Glorot-uniform kernels and zero biases (the default of Keras, which the thesis used), drawn from `generator`."""
    for module in net.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    return net


def count_parameters(net: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
