"""What generator and judge lose, in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nbkit.papers.countersynth.losses import CounterLosses, label_loss
from nbkit.papers.countersynth.networks import Judged

LABELS = torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 0.5, 1.0, 0.0]])


class LinearJudge(torch.nn.Module):
    """Scores the sum of an image; age 0, sexes and diagnoses even."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, image: torch.Tensor) -> Judged:
        zero = torch.zeros(len(image))
        return Judged(self.gain * image.sum(dim=(1, 2, 3, 4)), zero, zero, torch.zeros(len(image), 2))


def test_labels_cost_their_distance_and_an_unknown_sex_nothing():
    even = Judged(torch.zeros(2), torch.tensor([3.0, 0.0]), torch.zeros(2), torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
    terms = label_loss(even, LABELS)
    assert terms["age"].tolist() == [4.0, 0.0]
    assert terms["sex"].tolist() == pytest.approx([math.log(2), 0.0])
    assert terms["diagnosis"].tolist() == pytest.approx([math.log(2), math.log1p(math.exp(-2))])


def test_the_generator_pays_for_looks_labels_and_roughness():
    losses = CounterLosses(np.diag([2.0, 2, 2, 1]), label=3.0, smooth=10.0, r1=1.0)
    velocity = torch.zeros(2, 3, 4, 4, 4)
    velocity[0, 0] = 2.0 * torch.arange(4).reshape(4, 1, 1)  # 1 mm per mm along one of nine derivatives
    made = {"moved": torch.zeros(2, 1, 4, 4, 4), "velocity": velocity}
    terms = losses.generator(LinearJudge(), {"target": LABELS}, made)
    assert terms["smooth"].tolist() == pytest.approx([1 / 9, 0.0])
    assert terms["adversarial"].tolist() == pytest.approx([math.log(2)] * 2)
    labels = [1 + 2 * math.log(2), math.log(2)]
    expected = [math.log(2) + 3 * labels[k] + 10 * [1 / 9, 0.0][k] for k in range(2)]
    assert terms["total"].tolist() == pytest.approx(expected)


def test_the_judge_pays_for_its_slope_at_real_scans_only():
    losses = CounterLosses(np.eye(4), label=1.0, smooth=1.0, r1=7.0)
    batch = {"image": torch.zeros(2, 1, 4, 4, 4), "labels": LABELS}
    terms = losses.judge(LinearJudge(), batch, {"moved": torch.ones(2, 1, 4, 4, 4)})
    assert terms["r1"].tolist() == pytest.approx([64 * 0.25 / 2] * 2)
    assert terms["adversarial"].tolist() == pytest.approx([math.log(2) + 32 + math.log1p(math.exp(-32))] * 2)
    rest = terms["adversarial"] + terms["age"] + terms["sex"] + terms["diagnosis"]
    torch.testing.assert_close(terms["total"], rest + 7 * terms["r1"])
    assert not batch["image"].requires_grad, "the caller's images stay as they were"
