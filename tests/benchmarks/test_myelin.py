"""Self-attention on 32,768 places and synthesis by windows at the published size: memory, equality, seams."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from nbkit.papers.myelin.networks import FlexibleSelfAttention

# ru_maxrss of a new process starts from what its parent held when it was made
PEAK = """
import resource, sys
def peak():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
"""
ATTENTION = """
import json, torch
from nbkit.papers.myelin.networks import FlexibleSelfAttention
torch.manual_seed(0)
net = FlexibleSelfAttention(128, pool=1)
net.gamma.data.fill_(0.5)
x = torch.randn(1, 128, 32, 32, 32, requires_grad=True)
net(x).square().mean().backward()
finite = all(bool(t.grad.isfinite().all()) for t in (x, *net.parameters()))
print(json.dumps({"peak": peak(), "finite": finite}))
"""
WINDOWS = """
import json, torch
import torch.nn.functional as F
from nbkit.core.seeds import torch_generator
from nbkit.papers.myelin.staged import slide
from nbkit.papers.myelin.synthesis import Config
c = Config.named("sagan")
draws = torch_generator(7, "bench")
net = c.changed(noise=False).generator(0).eval()
coarse = torch.randn(1, 4, 8, 10, 8, generator=draws)
x = F.interpolate(coarse, size=(128, 160, 128), mode="trilinear")
x = x + 0.1 * torch.randn(x.shape, generator=draws)
with torch.no_grad():
    out = slide(net, x, c.window)
steps = [out.diff(dim=axis).abs().amax([a for a in range(5) if a != axis]) for axis in (2, 3, 4)]
edges, others = [], []
for n, step in zip(x.shape[2:], steps):
    border = torch.zeros(len(step), dtype=torch.bool)
    border[31::32] = True
    edges.append(float(step[border].max()))
    others.append(float(step[~border].max()))
print(json.dumps({"peak": peak(), "border": max(edges), "elsewhere": max(others)}))
"""


def fresh(code: str) -> dict[str, float]:
    """What a fresh process prints; its peak memory in bytes."""
    done = subprocess.run([sys.executable, "-c", PEAK + code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def explicit(net: FlexibleSelfAttention, x: torch.Tensor) -> torch.Tensor:
    """The same layer with its attention map written out."""
    key, query, value = (c(x).flatten(2) for c in (net.key, net.query, net.value))
    beta = torch.softmax(key.transpose(1, 2) @ query, dim=1)
    return net.gamma * net.back((value @ beta).view(len(x), -1, *x.shape[2:])) + x


@pytest.fixture(scope="module")
def layer() -> FlexibleSelfAttention:
    """16 channels per head, γ away from zero."""
    torch.manual_seed(1)
    net = FlexibleSelfAttention(128)
    net.gamma.data.fill_(0.5)
    return net


@pytest.mark.benchmark(group="self-attention, 16³ places, forward and backward")
@pytest.mark.parametrize("who", ["nbkit", "explicit softmax"])
def test_attention(benchmark, layer, who):
    x = torch.randn(1, 128, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    act = layer if who == "nbkit" else lambda x: explicit(layer, x)
    benchmark.pedantic(lambda: act(x).square().mean().backward(), rounds=3, warmup_rounds=1)


def test_attention_equals_the_explicit_softmax(layer):
    x = torch.randn(1, 128, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), explicit(layer, x), atol=1e-4, rtol=0)


def test_attention_on_32768_places_below_two_gigabytes(capsys):
    """Forward and backward, p = 1, 16 channels per head; the map alone would take 4.3 GB."""
    found = fresh(ATTENTION)
    with capsys.disabled():
        print(f"\nself-attention on 32,768 places: peak {found['peak'] / 1e9:.2f} GB")
    assert found["finite"] and 0 < found["peak"] < 2e9


def test_windows_over_a_published_volume_leave_no_seams_and_stay_below_six_gigabytes(capsys):
    """CF-SAGAN of published size, 64³ windows of 50 % overlap over 128×160×128."""
    found = fresh(WINDOWS)
    with capsys.disabled():
        print(f"\nwindows over 128×160×128: peak {found['peak'] / 1e9:.2f} GB, largest step at a border of windows"
              f" {found['border']:.3g}, elsewhere {found['elsewhere']:.3g}")
    assert 0 < found["peak"] < 6e9
    assert found["border"] <= found["elsewhere"]
