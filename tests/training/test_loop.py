"""The training loop, the published stopping rule, and the guard against non-finite losses."""

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.training.loop import StripRule, train
from nbkit.training.steps import NonFiniteLoss, PlainStep


def reference_stop(errors, q, p):
    """The rule written as in the thesis: recursion over STOP_p; errors[t] for every epoch t = 0, 1, ..."""
    def stop(level, t):
        rises = t - q >= 0 and errors[t] > errors[t - q]
        return rises if level == 1 else rises and stop(level - 1, t - q)
    return next((t for t in range(q, len(errors), q) if stop(p, t)), None)


def run(errors, rule):
    seen = iter(errors[:: rule.strip])
    return train(
        lambda batch: {"total": 1.0}, lambda epoch: [epoch], epochs=len(errors) - 1, rule=rule,
        validate=lambda: next(seen),
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("q", "p"), [(5, 3), (2, 2), (1, 4)])
def test_strip_rule_equals_the_recursive_definition(seed, q, p):
    g = torch.Generator().manual_seed(seed)
    errors = (torch.randn(61, generator=g).cumsum(0) * 0.3).tolist()
    history = run(errors, StripRule(strip=q, patience=p))
    expected = reference_stop(errors, q, p)
    assert history.stopped_early == (expected is not None)
    if expected is not None:
        assert history.epochs[-1] == expected == len(history.loss)


def test_falling_error_never_stops_and_the_last_is_best():
    history = run([1 / (1 + t) for t in range(31)], StripRule())
    assert not history.stopped_early
    assert history.best_epoch == 30


def test_keep_is_called_at_the_lowest_error():
    kept, errors, clock = [], [3.0, 2.0, 2.5, 1.0, 4.0], iter([3.0, 2.0, 2.5, 1.0, 4.0])
    now = []
    train(
        lambda b: {"total": 0.0}, lambda e: [0], epochs=4, rule=StripRule(strip=1, patience=9),
        validate=lambda: (now.append(next(clock)), now[-1])[1], keep=lambda: kept.append(now[-1]),
    )
    assert kept == [3.0, 2.0, 1.0]
    assert min(errors) == kept[-1]


def test_no_epochs_are_refused():
    with pytest.raises(NbkitError, match="epochs"):
        train(lambda b: {"total": 0.0}, lambda e: [0], epochs=0, rule=StripRule())


def step_for(loss):
    net = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(net.weight)
    return PlainStep(net, torch.optim.SGD(net.parameters(), lr=0.1), loss=loss, device=torch.device("cpu"))


def test_plain_step_is_one_sgd_step():
    step = step_for(lambda net, x: {"total": net.weight[0] * x})
    record = step(torch.tensor([2.0, 4.0]))
    assert record == {"total": 3.0}
    assert float(step.net.weight.detach()) == pytest.approx(1 - 0.1 * 3)


def test_non_finite_loss_names_step_and_term_and_keeps_the_weights():
    step = step_for(lambda net, x: {"total": net.weight[0], "dice": x})
    step(torch.tensor([1.0]))
    before = step.net.weight.detach().clone()
    with pytest.raises(NonFiniteLoss, match=r"training step 1: loss term 'dice'.*finite.*nan"):
        step(torch.tensor([float("nan")]))
    assert torch.equal(step.net.weight.detach(), before)
