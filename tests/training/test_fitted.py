"""A model is fitted once for what it is made of, and again when any of that changes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.config import Settings
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.training.fitted import fitted, fitted_together


@dataclass(frozen=True)
class Config(Settings):
    """One setting."""

    power: int = 1


class Mean:
    """Learns the mean of all images to some power, and counts its fits."""

    fits = 0

    def __init__(self, config):
        self.config, self.value = config, None

    def fit(self, cohort):
        Mean.fits += 1
        self.value = float(sum(s.baseline.image("T1w").data.mean() ** self.config.power for s in cohort))
        return self

    def save(self, path):
        path.mkdir()
        (path / "x.json").write_text(json.dumps([self.config.power, self.value]))

    @classmethod
    def load(cls, path):
        power, value = json.loads((path / "x.json").read_text())
        model = cls(Config(power))
        model.value = value
        return model


def _cohort(n: int = 3) -> Cohort:
    def subject(i):
        scan = Scan(f"s{i}", "01", 60.0, {"T1w": Volume(torch.full((2, 2, 2), float(i)))})
        return Subject(f"s{i}", "F", "CN", (scan,))
    return Cohort("few", tuple(map(subject, range(1, n + 1))), "embedded", {"data_hash": "abc"})


def test_fitted_once_for_the_same_and_again_for_anything_else(tmp_path):
    cache, cohort, Mean.fits = Cache(tmp_path), _cohort(), 0
    first = fitted(Mean(Config()), cohort, cache=cache)
    assert first.value == 6.0 and fitted(Mean(Config()), cohort, cache=cache).value == 6.0 and Mean.fits == 1
    assert fitted(Mean(Config(2)), cohort, cache=cache).value == 14.0
    assert fitted(Mean(Config()), cohort.subset(["s1"]), cache=cache).value == 1.0
    fitted(Mean(Config()), replace(cohort, provenance={"data_hash": "other"}), cache=cache)
    fitted(Mean(Config()), cohort, key="AD", cache=cache)
    assert Mean.fits == 5


def test_another_way_to_fit_and_to_load(tmp_path):
    def fit(model, cohort):
        model.value = float(len(cohort))

    def load(path):
        model = Mean.load(path)
        model.value += 0.5
        return model

    assert fitted(Mean(Config()), _cohort(), fit=fit, load=load, cache=Cache(tmp_path)).value == 3.5


def test_a_cohort_without_a_hash_is_refused(tmp_path):
    with pytest.raises(NbkitError, match="data_hash"):
        fitted(Mean(Config()), replace(_cohort(), provenance={}), cache=Cache(tmp_path))


def test_together_gives_what_one_by_one_gives_in_their_order(tmp_path):
    jobs = [{"model": Mean(Config(power)), "cohort": _cohort(), "cache": Cache(tmp_path / "a")} for power in (3, 1, 2)]
    alone = [fitted(Mean(Config(power)), _cohort(), cache=Cache(tmp_path / "b")).value for power in (3, 1, 2)]
    assert [model.value for model in fitted_together(*jobs, device="cpu")] == alone
