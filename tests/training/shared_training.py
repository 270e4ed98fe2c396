"""What every process of tests/training/test_together.py does: `python shared_training.py FOLDER`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from nbkit.core.files import Cache
from nbkit.papers.trajectories.scan_segmenter import ScanSegmenter
from nbkit.training import together
from nbkit.training.fitted import fitted
from nbkit.training.loop import StripRule, train
from nbkit.training.resume import resumable
from nbkit.training.steps import PlainStep
from tests.papers.trajectories.test_scan_segmenter import SMALL, heads

EPOCHS, EACH = 6, 4


def batches(epoch: int, *, more: int = 0):
    """One batch of an epoch, and `more`."""
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(1 + more):
        yield torch.randn(EACH, 3, generator=generator)


def uneven(epoch: int):
    """Two batches of an odd epoch, one of an even one."""
    return batches(epoch, more=epoch % 2)


def _squares(net, batch):
    return {"total": (net(batch) - batch.sum(1, keepdim=True)).square().mean(1)}


def learner() -> PlainStep:
    """A network to be taught by squares."""
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    return PlainStep(net, optimiser, loss=_squares, device=torch.device("cpu"), clip=0.5)


def weights(step: PlainStep) -> list[float]:
    return torch.cat([p.detach().flatten() for p in step.net.parameters()]).tolist()


def main(folder: Path) -> None:
    """Train twice; say what came out."""
    with together.joined():
        step = learner()
        with resumable(folder / "state", every_s=0.0):
            history = train(step, uneven, epochs=EPOCHS - 1, rule=StripRule(strip=2), state={"step": step},
                            validate=lambda: float(together.rank()))
        people = replace(heads("ab"), provenance={"data_hash": "h"})
        model = fitted(ScanSegmenter(SMALL.changed(steps=2)), people, cache=Cache(folder / "cache"))
        size = float(sum(t.double().abs().sum() for t in model._tensors().values() if t.is_floating_point()))
        told = {"weights": weights(step), "loss": history.loss, "steps": step.count, "fitted": size,
                "processes": together.count()}
        (folder / f"told-{together.rank()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
