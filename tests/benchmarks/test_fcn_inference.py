"""FCN inference on a volume of the published size beside its bare convolutions run back to back."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from nbkit.core.device import autocast
from nbkit.papers.flair.conv_synthesis import Config, ConvSynthesizer

SHAPE = (208, 256, 40)
MEMORY = """
import resource, torch
from nbkit.papers.flair.conv_synthesis import Config, ConvSynthesizer
ConvSynthesizer(Config(device="cpu")).forward(torch.randn(5, 208, 256, 40))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def model() -> ConvSynthesizer:
    """The published network: three hidden layers of 64 features."""
    return ConvSynthesizer(Config(device="cpu"))


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    """Five z-scored contrasts."""
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def bare(model: ConvSynthesizer, volume: torch.Tensor) -> torch.Tensor:
    """The same convolutions in the same precision and memory format, without ReLU and without nbkit."""
    x = volume[None].to(memory_format=torch.channels_last_3d)
    with autocast(model.device, model.half):
        for layer in model.net:
            x = layer(x) if isinstance(layer, nn.Conv3d) else x
    return x


@pytest.mark.benchmark(group="FCN 64×3, 208×256×40×5")
@pytest.mark.parametrize("who", ["nbkit", "bare convolutions"])
def test_inference(benchmark, model, volume, who):
    act = model.forward if who == "nbkit" else lambda v: bare(model, v)
    benchmark.pedantic(act, args=(volume,), rounds=3, warmup_rounds=1)


def test_below_four_gigabytes():
    """Peak memory of a fresh process that predicts one volume (Linux counts kB)."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    peak = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert 0 < peak < 4e9
