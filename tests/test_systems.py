"""Systems by name: what each needs, what is kept, what its weights hash to."""

from __future__ import annotations

import types

import pytest

from nbkit import systems
from nbkit.core.checks import NbkitError
from nbkit.papers.trajectories import PixelRegression
from nbkit.systems import DEFORMS, LAST, SYSTEMS, Bench, weights_hash
from tests.test_export import balls


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_can_be_named_and_knows_what_it_needs(name):
    needs = Bench(balls(), "smoke").needs([name])
    assert set(SYSTEMS[name]) <= set(needs)
    assert ("segmenter" in needs) == (name not in DEFORMS)


def test_what_is_kept_is_not_lacking(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    bench = Bench(balls(), "smoke")
    assert bench.lacking(["pixel_population", "no_change"]) == ["pixel_population", "segmenter"]
    bench.part("pixel_population")
    assert bench.lacking(["pixel_population"]) == ["segmenter"]
    assert isinstance(bench.model("pixel_population"), PixelRegression)
    with pytest.raises(NbkitError, match="Did you mean 'pixel_ols'"):
        bench.model("pixel_old")


def test_what_is_built_on_an_autoencoder_that_is_there_is_known_by_it(monkeypatch):
    bench, keys = Bench(balls(), "smoke"), {}

    def fitted(key=None, **job):
        keys[type(job["model"]).__name__] = key
        return True

    there = types.SimpleNamespace(space=None, config=types.SimpleNamespace(as_dict=lambda: {"epochs": 1_000}))
    monkeypatch.setattr(systems, "is_fitted", fitted)
    monkeypatch.setitem(bench._parts, "mrextrap", there)
    assert bench.lacking(["brlp"]) == [] and keys["BrLP"] == {"epochs": 1_000}, "not by the settings asked for"


def test_weights_hash_alike_where_they_are_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    bench = Bench(balls(), "smoke")
    model = bench.model("pixel_population")
    assert weights_hash(model) == weights_hash(Bench(balls(), "smoke").model("pixel_population"))
    slope = next(iter(model.slopes.values()))
    slope += 1e-3
    assert weights_hash(model) != weights_hash(Bench(balls(), "smoke").model("pixel_population"))


def test_what_looks_at_the_last_scan_or_deforms_is_a_system():
    assert set(DEFORMS) <= set(LAST) <= set(SYSTEMS)


def test_what_cannot_be_trained_is_tried_once(monkeypatch):
    tried = []

    def fails(**job):
        tried.append(type(job["model"]).__name__)
        raise NbkitError("fit", expected="more people", found="few", remedy="Add some.")

    monkeypatch.setattr(systems, "fitted", fails)
    bench = Bench(balls(), "smoke")
    for name in ("mrextrap_bayes", "mrextrap_ols", "brlp"):
        with pytest.raises(NbkitError, match="more people"):
            bench.model(name)
    assert tried == ["MRExtrap"]


def test_all_systems_at_once_are_those_one_by_one_and_what_takes_long_is_trained_together(monkeypatch):
    """Every part is its name; what is trained together is known by the jobs handed over."""
    together = []

    def jobs(*made, device):
        together.extend(type(job["model"]).__name__ for job in made)
        return [job["model"] for job in made]

    bench = Bench(balls(), "smoke")
    monkeypatch.setattr(Bench, "job", lambda self, part: {"model": type(part, (), {})(), "cohort": self.train})
    monkeypatch.setattr(Bench, "_trained", lambda self, part: part)
    monkeypatch.setattr(Bench, "model", lambda self, name: f"model {name}")
    monkeypatch.setattr(systems, "fitted_together", jobs)
    assert bench.models() == {name: f"model {name}" for name in SYSTEMS}
    assert together == ["countersynth", "daninet3d", "daninet", "brlp"]
    assert type(bench.part("daninet")).__name__ == "daninet" and bench.part("mrextrap") == "mrextrap"
    bench.models()
    assert len(together) == 4, "nothing is trained twice"
    monkeypatch.setattr(Bench, "labelled", False)
    bare = Bench(balls(), "smoke")
    assert set(bare.models()) == {name for name in SYSTEMS if "brlp" not in SYSTEMS[name]}
    assert together[4:] == ["countersynth", "daninet3d", "daninet"] and bare.segmenter is None
