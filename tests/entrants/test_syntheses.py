"""A user's model of a contrast under cross-validation: blind to its target, told where it errs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.splits import folds
from nbkit.entrants import cross_validated, require_methods, synthesizers
from nbkit.training.crossval import cross_validate

DOUBLE = """
class Mine:
    def __init__(self, target, inputs):
        self.target, self.inputs = target, inputs
    def fit(self, cohort):
        x = sum(s.baseline.image("T1w").data.sum() for s in cohort)
        self.factor = float(sum(s.baseline.image(self.target).data.sum() for s in cohort) / x)
    def synthesize(self, contrasts, *, mask):
        assert self.target not in contrasts and list(contrasts) == list(self.inputs)
        return contrasts["T1w"].data * self.factor
"""
KEPT = DOUBLE + """
    def save(self, path):
        (path / "factor.txt").write_text(str(self.factor))
    @classmethod
    def load(cls, path):
        model = cls("FLAIR", ["T1w"])
        model.factor = float((path / "factor.txt").read_text())
        return model
"""
WHOLE = Volume(torch.ones(3, 3, 3, dtype=torch.bool))


def subject(k: int) -> Subject:
    """FLAIR is twice T1w."""
    t1w = Volume((torch.arange(27.0).reshape(3, 3, 3) + k))
    images = {"T1w": t1w, "FLAIR": t1w.with_data(2 * t1w.data)}
    return Subject(f"s{k}", None, "MS", (Scan(f"s{k}", "1", None, images, {"brain": WHOLE}),))


@pytest.fixture
def people() -> Cohort:
    return Cohort("toys", tuple(map(subject, range(6))), "embedded", {"data_hash": "toys"}, truth={"s0": "secret"})


def miss(subject: Subject, prediction: Volume) -> dict[str, float]:
    """Mean absolute error of FLAIR."""
    return {"mae": float((prediction.data - subject.baseline.image("FLAIR").data).abs().mean())}


@pytest.mark.parametrize("source", [DOUBLE, KEPT], ids=["learns again", "is saved"])
def test_it_is_tested_on_the_same_folds_and_made_again_later(people, stranger, source):
    split = folds(people, 2, seed=1)
    asked = {"folds": split, "score": miss, "target": "FLAIR"}
    results, told = cross_validated(stranger(source), people, **asked)
    assert results["Mine"].scores["mae"] == dict.fromkeys(people.ids, 0.0)
    assert results["Mine"].fold_of == {i: f.name for f in split for i in f.test_ids}
    assert told == ["**Mine** learned and was tested on 2 folds of 6 people."]
    later = results["Mine"].predictions(people, ["s3"])["s3"]
    assert torch.equal(later.data, people.subject("s3").baseline.image("FLAIR").data)


def test_a_person_it_fails_counts_as_the_training_mean_and_is_told_also_from_the_cache(people, stranger):
    fails = "        if contrasts['T1w'].data.min() == 4: 1 / 0\n        return"
    address = stranger(DOUBLE.replace("        return", fails))
    asked = {"folds": folds(people, 2, seed=1), "score": miss, "target": "FLAIR", "inputs": ["T1w"]}
    for _ in range(2):
        results, told = cross_validated(address, people, **asked)
        assert told == ["**Mine** has no usable answer for 1 of 6 people, who count as the training mean: synthesize "
                        "raised ZeroDivisionError: division by zero. Mend line 10 of mine.py. (1)"]
    scores = results["Mine"].scores["mae"]
    assert {who for who, value in scores.items() if value} == {"s4"}
    fold = next(f for f in asked["folds"] if "s4" in f.test_ids)
    mean = sum(float(subject.baseline.image("FLAIR").data.mean()) for subject in people.subset(fold.train_ids)) / 3
    assert scores["s4"] == pytest.approx(float((people.subject("s4").baseline.image("FLAIR").data - mean).abs().mean()))


def test_one_that_learns_nothing_is_left_out_and_others_are_not_asked(people, stranger):
    asked = {"folds": folds(people, 2, seed=1), "score": miss, "target": "FLAIR", "inputs": ["T1w"]}
    results, told = cross_validated(stranger(DOUBLE.replace("x = sum", "x = 0 * nobody, sum")), people, **asked)
    assert not results and "fit raised NameError: name 'nobody' is not defined. Mend line 6" in told[0]
    assert told[0].endswith("It is left out.")
    results, told = cross_validated(stranger("class Mine:\n    def predict(self, *a): ..."), people, **asked)
    assert not results and told == ["**Mine** has no `synthesize` and is left out here: it enters notebooks 05, 06, 08 "
                                    "and 09."]
    results, told = cross_validated("", people, **asked)
    assert not results and told[0].startswith("No model of your own here")


def test_it_is_a_system_like_others(people, stranger):
    system, = synthesizers(stranger(DOUBLE), people, target="FLAIR", inputs=["T1w"]).values()
    found = cross_validate({"mine": system}, people, folds=folds(people, 2, seed=1), score=miss)
    folder = next(iter(found["mine"].folders.values()))
    said = json.loads(Path(folder, "model", "entered.json").read_text())
    assert said["config"]["name"] == "Mine" and said["faults"] == {} and len(said["ids"]) == 3


def test_a_class_without_the_methods_is_refused_before_anything_runs(stranger):
    require_methods("")
    require_methods(stranger(DOUBLE))
    for body, found in {"pass": "neither", "def fit(self, c): ...": "found fit"}.items():
        with pytest.raises(NbkitError, match=f"MODEL: Mine: expected the methods fit.*{found}.*Your own model"):
            require_methods(stranger(f"class Mine:\n    {body}"))
    with pytest.raises(NbkitError, match="a name that no system here has"):
        require_methods(stranger(DOUBLE.replace("    def fit", "    name = 'unet'\n    def fit")))
