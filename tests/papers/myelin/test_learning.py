"""Speed and steadiness of a learning curve: closed forms, and a line a network and fold."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from nbkit.claims.ledger import load_paper
from nbkit.papers.myelin.learning import convergence, curves, fall

LEDGER = load_paper("wei2020_cfsagan").ids


@pytest.mark.parametrize(("errors", "expected"), [
    ([1.0, 0.5, 0.0], (1.0, 0.0)), ([1.0, 0.05, 0.0], (0.5, 0.0)), ([1.0, 0.0, 0.5], (0.5, 0.5)),
    ([3.0, 1.0, 2.0, 1.0], (1 / 3, 0.5)),
])
def test_nine_tenths_of_the_fall_and_the_rises_over_it(errors, expected):
    assert fall(range(0, 10 * len(errors), 10), errors) == pytest.approx(expected)


def test_shift_and_scale_of_the_error_change_neither():
    errors = [1.0, 0.4, 0.45, 0.2, 0.25]
    assert fall(range(5), [7 + 3 * e for e in errors]) == pytest.approx(fall(range(5), errors))


def test_what_never_falls_has_neither():
    assert all(math.isnan(v) for errors in ([1.0, 2.0], [1.0]) for v in fall(range(len(errors)), errors))


def test_every_network_and_fold_is_one_value_of_a_loss():
    def result(*errors):
        told = {"sketcher": {"epochs": list(range(len(errors))), "validation": list(errors)}}
        return SimpleNamespace(histories={"fold1": told, "fold2": told})

    nets = {"unet": (1, 0), "unet_wl1": (1, 0.5, 0), "unet_nwl1": (1, 0.05, 0)}
    seen = curves({name: result(*errors) for name, errors in nets.items()}, ["unet"])
    assert len(seen) == 2 * (2 + 3 + 3) and set(seen["setting"]) == {"l1", "wl1", "nwl1"}
    found = convergence(seen)
    assert set(found["id"]) == {i for i in LEDGER if i.startswith("wei2020.curves.")}
    speed = found[found["metric"] == "epochs"].groupby("setting")["value"].mean().to_dict()
    assert speed == {"l1": 1.0, "wl1": 1.0, "nwl1": 0.5}
    assert set(found["subject"]) == {"unet, fold1", "unet, fold2"}
