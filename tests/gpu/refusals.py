"""What the pretended device must do, asked in a process that has it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from tests.gpu.device import MixedDevices, pretended_gpu

BOTH = {
    "a sum": lambda gpu, cpu: gpu + cpu,
    "a convolution": lambda gpu, cpu: F.conv1d(gpu[None, None], cpu[None, None, :2]),
    "a CPU tensor indexed on the device": lambda gpu, cpu: cpu[gpu.long().clamp(0, 1)],
    "a CPU tensor written on the device": lambda gpu, cpu: gpu.index_put_((torch.tensor([0]),), cpu[:1]),
    "a draw by a generator of the CPU": lambda gpu, cpu: torch.rand(
        3, device=gpu.device, generator=torch.Generator()),
    "arrays": lambda gpu, cpu: gpu.numpy(),
}
ALLOWED = {
    "a number": lambda gpu, cpu: gpu + 1.5,
    "a CPU tensor of one number": lambda gpu, cpu: gpu * torch.tensor(2.0),
    "an index of the CPU": lambda gpu, cpu: gpu[torch.tensor([0, 1])],
}
WAITS = {
    "item": lambda gpu: gpu[0].item(), "float": lambda gpu: float(gpu[0]), "bool": lambda gpu: bool(gpu[0] > 0),
    "tolist": lambda gpu: gpu.tolist(), "nonzero": lambda gpu: gpu.nonzero(), "a mask": lambda gpu: gpu[gpu > 0],
}


def _raises(act: Callable) -> bool:
    try:
        act()
    except (MixedDevices, TypeError, RuntimeError):
        return True
    return False


def answers() -> dict[str, object]:
    """By what was asked, what came."""
    found: dict[str, object] = {}
    with pretended_gpu() as traffic:
        cpu = torch.tensor([1.0, -2.0, 3.0])
        gpu = cpu.to("cuda")
        found["sent"], found["device"] = traffic.sent.total(), gpu.device.type
        found["refused"] = {name: _raises(lambda act=act: act(gpu, cpu)) for name, act in BOTH.items()}
        found["allowed"] = {name: not _raises(lambda act=act: act(gpu, cpu)) for name, act in ALLOWED.items()}
        found["waits"] = {}
        for name, act in WAITS.items():
            before = traffic.copy()
            act(gpu)
            found["waits"][name] = traffic.since(before).syncs.total() + traffic.since(before).fetched.total()
        before = traffic.copy()
        (gpu * 2 + gpu.sum()).relu()
        found["arithmetic waits"] = traffic.since(before).syncs.total()
        found["learned"] = _learned()
    return found


def _learned() -> dict[str, object]:
    """A network moves to the device, learns there in bfloat16, and has the gradients of the CPU."""
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(4, 8), nn.GroupNorm(2, 8), nn.Linear(8, 1)), torch.randn(5, 4)
    net(x).square().mean().backward()
    here = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    first = next(net.parameters())
    net.to("cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        half = net[2](torch.ones(1, 8, device="cuda")).dtype
    net(x.to("cuda")).square().mean().backward()
    there = [p.grad.cpu() for p in net.parameters()]
    return {
        "half": half == torch.bfloat16, "same parameter": first is next(net.parameters()),
        "same gradients": all(torch.equal(a, b) for a, b in zip(here, there, strict=True)),
    }
