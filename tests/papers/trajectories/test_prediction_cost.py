"""Memory of tensors whose sizes are known."""

from __future__ import annotations

import pytest
import torch

from nbkit.papers.trajectories.prediction_cost import MIB, peak_bytes, peak_memory
from tests.papers.trajectories.ageing_balls import person

BIG = 256 * 1024
BALL = person("p", "AD", ages=(62.0, 66.0), size=1.0, centre=(0, 0, 0))


def test_the_peak_is_what_is_alive_at_once():
    def chain():
        x = torch.zeros(BIG)  # 1 MiB
        for _ in range(5):
            x = x + 1  # the old one and the new one live together, and no more

    assert peak_bytes(chain) == pytest.approx(2 * MIB, rel=0.01)
    assert peak_bytes(lambda: [torch.zeros(BIG) for _ in range(5)]) == pytest.approx(5 * MIB, rel=0.01)
    assert peak_bytes(lambda: None) == 0


def test_what_was_held_before_does_not_count():
    kept = torch.zeros(10 * BIG)
    assert peak_bytes(lambda: kept.sum()) < 0.1 * MIB


def test_models_are_asked_for_one_age():
    asked = []

    class Model:
        def __init__(self, size):
            self.size = size

        def predict(self, history, ages, diagnosis):
            asked.append((len(history), ages, diagnosis))
            return [torch.zeros(self.size)]

    found = peak_memory({"small": Model(BIG), "large": Model(4 * BIG)}, BALL.scans[:1], 70.0, "AD")
    assert found == {"small": pytest.approx(1, rel=0.02), "large": pytest.approx(4, rel=0.02)}
    assert asked == [(1, [70.0], "AD")] * 2
