"""A training step of a 3D U-Net with glibc's heap as `make` and the runner set it, beside the default."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nbkit.runner.execute import HEAP

STEPS = """
import time, torch
from nbkit.nets.unet import UNet
torch.manual_seed(0)
net, x = UNet(1, 8, first=12, levels=3, norm=True), torch.rand(2, 1, 64, 76, 64)
optimiser = torch.optim.Adam(net.parameters())
for step in range(7):
    start = time.perf_counter() if step == 1 else start if step else 0
    optimiser.zero_grad(set_to_none=True)
    net(x).square().mean().backward()
    optimiser.step()
print(time.perf_counter() - start)
"""


@pytest.mark.benchmark(group="U-Net step, memory kept beside handed back")
@pytest.mark.parametrize("who", ["nbkit: kept", "default heap"])
def test_training_step(benchmark, who):
    plain = {key: value for key, value in os.environ.items() if key not in HEAP}
    environment = plain | (HEAP if who.startswith("nbkit") else {})
    benchmark.pedantic(
        subprocess.run, args=([sys.executable, "-c", STEPS],), rounds=3,
        kwargs={"env": environment, "check": True, "capture_output": True},
    )
