"""A training that was killed goes on to equal numbers: in the middle of an epoch, between two, and after the last."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from nbkit.core.device import side_by_side
from nbkit.training.loop import History, StripRule, train
from nbkit.training.resume import Progress, resumable
from nbkit.training.steps import AdversarialStep, PlainStep

EPOCHS, STEPS = 4, 3


class Killed(Exception):
    """Stands for a kill: whatever was not on disk is lost."""


def data(epoch: int, number: int) -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(100 * epoch + number))


def run(dies_at: int | None = None, *, in_validation: bool = False) -> tuple[list[torch.Tensor], History, list[float]]:
    """Train a small network with dropout-like draws, a moving rate, a schedule, a list of records and the best kept."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 5))
    draws = torch.Generator().manual_seed(3)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.05, fused=True)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    step = PlainStep(net, optimiser, device=torch.device("cpu"), loss=lambda net, x: {
        "total": (net(x * (torch.rand(x.shape, generator=draws) > 0.2)) - x).square().mean(dim=1)
    })
    records: list[float] = []
    best: dict[str, torch.Tensor] = {}
    calls = iter(range(10_000))

    def stepped(batch: torch.Tensor) -> dict[str, float]:
        if not in_validation and next(calls) == dies_at:
            raise Killed
        record = step(batch)
        records.append(record["total"])
        return record

    def validate() -> float:
        if in_validation and next(calls) == dies_at:
            raise Killed
        net.eval()
        with torch.no_grad():
            return float((net(data(0, 0)) - data(0, 0)).square().mean())

    def batches(epoch: int):
        yield from (data(epoch, k) for k in range(STEPS))
        plan.step()

    history = train(
        stepped, batches, epochs=EPOCHS, rule=StripRule(1, 9), validate=validate,
        keep=lambda: best.update({k: v.clone() for k, v in net.state_dict().items()}),
        state={"step": step, "plan": plan, "draws": draws, "records": records, "best": best},
    )
    return [*net.state_dict().values(), *best.values()], history, records


def same(one, other) -> None:
    for a, b in zip(one[0], other[0], strict=True):
        assert torch.equal(a, b)
    assert one[1] == other[1] and one[2] == other[2]


@pytest.mark.parametrize("deaths", [(2,), (3,), (7, 4), (11,)])
def test_killed_in_a_step_it_ends_at_the_same_numbers(tmp_path, deaths):
    whole = run()
    for death in deaths:
        with pytest.raises(Killed), resumable(tmp_path / "run", every_s=0):
            run(death)
    with resumable(tmp_path / "run", every_s=0):
        same(run(), whole)
    assert not (tmp_path / "run").exists()


def test_killed_in_validation_it_ends_at_the_same_numbers(tmp_path):
    with pytest.raises(Killed), resumable(tmp_path, every_s=0):
        run(3, in_validation=True)
    with resumable(tmp_path, every_s=0):
        same(run(), run())


def test_a_training_that_was_done_is_not_done_again(tmp_path):
    def twice(second: Callable[[], object]) -> None:
        with resumable(tmp_path / "fit", every_s=0):
            first = run()
            second()
        same(first, run())

    def dies() -> None:
        raise Killed

    with pytest.raises(Killed):
        twice(dies)
    steps = []
    with pytest.raises(Killed), resumable(tmp_path / "fit", every_s=0):
        run(0)  # the first step would kill it: none is taken
        steps.append("done without a step")
        raise Killed
    assert steps


def test_a_short_training_leaves_no_file(tmp_path):
    with resumable(tmp_path / "short"):
        run()
        assert not (tmp_path / "short").exists()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize("harm", [cut, flipped])
@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_damaged_state_is_not_used(tmp_path, name, harm, caplog):
    with pytest.raises(Killed), resumable(tmp_path, every_s=0):
        run(7)
    (file,) = tmp_path.rglob(name)
    file.write_bytes(harm(file.read_bytes()))
    with resumable(tmp_path, every_s=0):
        same(run(), run())
    assert "starts again" in caplog.text


def test_both_sides_of_a_game_are_kept(tmp_path):
    def game() -> tuple[AdversarialStep, dict[str, torch.Tensor]]:
        torch.manual_seed(1)
        nets = nn.Linear(5, 5), nn.Linear(5, 1)
        step = AdversarialStep(
            *nets, tuple(torch.optim.Adam(n.parameters(), 0.01) for n in nets), device=torch.device("cpu"),
            generate=lambda net, x: {"made": net(x)},
            generator_loss=lambda critic, x, made: {"total": -critic(made["made"])[:, 0]},
            discriminator_loss=lambda critic, x, made: {"total": (critic(made["made"]) - critic(x))[:, 0]},
        )
        return step, dict(nets[0].state_dict()) | {f"c.{k}": v for k, v in nets[1].state_dict().items()}

    step, weights = game()
    for k in range(4):
        step(data(1, k))
    other, again = game()
    for k in range(2):
        other(data(1, k))
    with resumable(tmp_path, every_s=0):
        Progress("game", {"step": other}).note({})
        third, new = game()
        (path,) = tmp_path.iterdir()
        kept = Progress("game", {"step": third})
        kept.path = path
        assert kept.read() == {} and third.count == 2
    for k in range(2, 4):
        third(data(1, k))
    assert all(torch.equal(weights[name], new[name]) for name in weights)
    assert not any(torch.equal(weights[name], again[name]) for name in weights if name.endswith("weight"))


def test_moments_lie_as_their_weights_do():
    net = nn.Conv3d(4, 6, 3).to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    step = PlainStep(
        net, optimiser, device=torch.device("cpu"), loss=lambda net, x: {"total": net(x).flatten(1).sum(1)}
    )
    step(torch.ones(2, 4, 3, 3, 3))
    flat = {"state": {k: {n: v.contiguous() for n, v in s.items()} for k, s in optimiser.state_dict()["state"].items()},
            "param_groups": optimiser.state_dict()["param_groups"]}
    step.load_state_dict(step.state_dict() | {"optimisers": [flat]})
    assert optimiser.state[net.weight]["exp_avg"].stride() == net.weight.stride()


def test_threads_keep_their_trainings_in_the_folder_of_their_caller(tmp_path):
    def keep(label: str) -> Path:
        kept = Progress(label, {"seen": [1.0]})
        kept.note({"label": label})
        return kept.path

    with resumable(tmp_path, every_s=0):
        paths = side_by_side(keep, ["a", "b", "a/b"])
        assert all(path.exists() for path in paths) and len(set(paths)) == 3
    assert Progress("a", {"seen": []}).path is None


SCRIPT = """
import os, signal, sys
import torch
import tests.training.test_resume as t
from nbkit.training.resume import resumable
dies = int(sys.argv[2])
real = t.PlainStep.__call__
calls = iter(range(10_000))
def step(self, batch):
    if next(calls) == dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, batch)
t.PlainStep.__call__ = step
with resumable(sys.argv[1], every_s=0):
    weights, history, records = t.run()
print(records)
"""


@pytest.mark.slow
def test_a_process_killed_by_the_system_at_three_places_goes_on(tmp_path):
    def start(dies: int) -> subprocess.CompletedProcess:
        root = str(Path(__file__).parents[2])
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), str(dies)], capture_output=True, text=True,
            cwd=root, env={**os.environ, "PYTHONPATH": root},
        )

    assert [start(dies).returncode for dies in (1, 4, 5)] == [-9, -9, -9]
    done = start(-1)
    assert done.stdout.strip() == str(run()[2]), done.stderr
