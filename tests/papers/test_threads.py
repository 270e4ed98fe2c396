"""What README says of determinism: to the last digit with as many threads, to 1e-12 with another number."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from nbkit.core.files import Cache
from nbkit.metrics.image import mse
from nbkit.papers.flair.conv_synthesis import Config, ConvSynthesizer
from nbkit.training.crossval import cross_validate
from tests.papers.flair.test_conv_synthesis import SMALL


def scores(cohort, folder, threads: int) -> dict[str, float]:
    """Errors by subject of a network that is trained fold by fold, torch being given this many threads."""
    cohort = replace(cohort, provenance={"data_hash": "toy"})
    halves = cohort.ids[:2], cohort.ids[2:]
    folds = [SimpleNamespace(name=t[0], train_ids=[*o], test_ids=[*t]) for t, o in (halves, halves[::-1])]
    system = ConvSynthesizer(Config(**SMALL | {"epochs": 2}))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = cross_validate(
            {"fcn": system}, cohort, folds=folds, score=score, cache=Cache(folder), progress=False,
        )
        return found["fcn"].scores["mse"]
    finally:
        torch.set_num_threads(before)


def score(subject, prediction):
    scan = subject.baseline
    truth, brain = scan.image("FLAIR").data[None], scan.mask("brain").data[None]
    return {"mse": float(mse(prediction.data[None], truth, mask=brain))}


@pytest.mark.slow
def test_numbers_are_those_of_the_seed_and_hardly_of_the_number_of_threads(toy_cohort, tmp_path):
    one, two, again = (scores(toy_cohort, tmp_path / str(k), n) for k, n in enumerate((1, 2, 2)))
    assert two == again
    assert one == pytest.approx(two, rel=1e-12) and len(set(one.values())) == 4
