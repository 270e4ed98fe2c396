"""A user's model beside ours: equal where it is equal, told where it errs, and never in anybody's way."""

from __future__ import annotations

import logging
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.entrants import EnteredModel, enter
from nbkit.entrants.forecasts import FINE
from nbkit.figures.marks import MARKS, STRANGERS, marks
from nbkit.papers.trajectories import design
from nbkit.papers.trajectories.controls import NoChange
from tests.papers.trajectories.ageing_balls import cohort, person

AGES = (62.0, 66.0, 70.0, 72.0)
STILL = """
class Mine:
    def fit(self, cohort):
        self.people = len(cohort)
    def predict(self, history, ages, diagnosis):
        return [history[-1].image("T1w") for _ in ages]
"""


class Reader:
    """Sees what is bright; of what is dark the hippocampus is lost."""

    config, trained_on = None, ""

    def segment(self, image, *, mask):
        return image.with_data(torch.where(mask.data & (image.data > 0.02), 2, 0).to(torch.int16))

    def volumes(self, image, *, mask):
        bright = float(image.data[mask.data].sum())
        return {"hippocampus_left": bright if bright > 50 else 0.0, "white_matter_left": float(image.data.max())}


@pytest.fixture(scope="module")
def balls():
    """Four training people of four visits, two of each diagnosis, with a truth that nobody may be told."""
    made = [person(f"{g}{k}", g, ages=AGES, size=1.0, centre=(k, 0, 0)) for k in range(3) for g in ("AD", "HC")]
    return replace(cohort(made), provenance={"data_hash": "balls"}, truth={p.id: "secret" for p in made})


@pytest.fixture
def learners(balls):
    """Whom nobody is scored on."""
    return balls.subset(["AD1", "HC1", "AD2", "HC2"])


def scored(balls, models, names):
    test = replace(balls.subset(["AD0", "HC0"]), truth={})
    return design.compare(models, test, names, segmenter=Reader(), key=1)


def table(scores, name):
    wide = (scores.visits, scores.regions)
    return [t[t["model"] == name].drop(columns=["model", "seconds", "dice", "folds", "smallest_jacobian"],
                                       errors="ignore").reset_index(drop=True) for t in wide]


def test_no_change_as_a_users_class_has_the_numbers_of_our_control(balls, learners, stranger):
    mine = enter(stranger(STILL), learners)
    found = scored(balls, {"no_change": NoChange(), **mine}, ["no_change", *mine])
    for ours, theirs in zip(table(found, "no_change"), table(found, "Mine"), strict=True):
        assert len(ours)
        pd.testing.assert_frame_equal(ours, theirs, rtol=0, atol=1e-6)
    assert mine.lines() == ["**Mine** learned from 4 people."] and mine.lines(balls) == [FINE]


def test_the_numbers_of_others_are_those_without_it(balls, learners, stranger):
    alone = scored(balls, {"no_change": NoChange()}, ["no_change"])
    source = STILL.replace("return [", "if history[-1].subject == 'AD0': 1 / 0\n        return [")
    with_it = scored(balls, {"no_change": NoChange(), **enter(stranger(source), learners)}, ["no_change", "Mine"])
    for before, after in zip(alone, with_it, strict=True):
        ours = after[after["model"] != "Mine"].reset_index(drop=True)
        pd.testing.assert_frame_equal(before, ours[before.columns])


FAULTY = {
    "raise RuntimeError('no such luck')": "predict raised RuntimeError: no such luck. Mend line 8 of mine.py.",
    "return last": "predict gave a Volume for 1 ages. Return a list with one image for each age.",
    "return [last, last]": "predict gave 2 images for 1 ages. Return a list with one image for each age.",
    "return [last.data[..., 1:]]": "predict gave the shape 18×19×16, not 18×19×17. Return images on the grid",
    "return [last.data * float('nan')]": "predict gave 5814 voxels that are NaN or infinite. Look for a division by 0",
    "return [last.data - 0.5]": "predict gave values below 0, -0.5. Intensities are 0 or more: clamp(min=0).",
    "return [last.data * 0]": "predict gave an image of one value",
    "return ['image']": "predict gave a str. Return Volumes, tensors or arrays.",
    "return [type(last)(last.data, last.affine * 1.1)]": "predict gave an image with another affine. Keep the affine",
    "return [last.data * 1e-4]": "the segmenter finds no hippocampus in its image. Look at the image",
}


@pytest.mark.parametrize(("line", "words"), FAULTY.items())
def test_what_it_does_wrong_is_told_and_the_person_counts_as_no_change(balls, learners, stranger, line, words):
    source = STILL.replace("        return [history", f"""        last = history[-1].image("T1w")
        if history[-1].subject == "AD0":
            {line}
        return [history""")
    models = {"no_change": NoChange()}
    test = design.visits_of(replace(balls.subset(["AD0", "HC0"]), truth={}), lambda scans: scans[:2])
    mine = enter(stranger(source), learners)
    found = design.compare(models | mine, test, ["no_change", "Mine"], segmenter=Reader(), key=1)
    for ours, theirs in zip(table(found, "no_change"), table(found, "Mine"), strict=True):
        pd.testing.assert_frame_equal(ours, theirs, rtol=0, atol=1e-6)
    said, = mine.lines(test)
    assert said.startswith("**Mine** has no usable answer for 1 of 2 people, who count as no change: ")
    assert words in said
    again = enter(stranger(source), learners)
    kept = design.compare(models | again, test, ["no_change", "Mine"], segmenter=Reader(), key=1)
    pd.testing.assert_frame_equal(kept.visits, found.visits)
    assert again.lines(test) == [said], "told again when scores come from the cache"


def test_one_that_cannot_learn_or_predict_is_left_out_by_name(balls, stranger, caplog):
    with caplog.at_level(logging.WARNING):
        bad = enter(stranger(STILL.replace("self.people =", "self.people = 1 / 0 *")), balls)
    assert not bad and "Mine is left out: fit raised ZeroDivisionError: division by zero. Mend line 4 of" in caplog.text
    bad = enter(stranger(STILL.replace("for _ in ages", "for _ in ages[1:]")), balls)
    assert not bad and bad.lines() == ["**Mine** is left out: predict gave 1 images for 2 ages. Return a list with one "
                                       "image for each age."]
    assert enter("", balls).lines(balls) == []
    assert enter("", balls).lines()[0].startswith("No model of your own here: `MODEL=my_model.py:MyModel`")
    methods = "    def fit(self, cohort): ...\n    def synthesize(self, c, *, mask): ..."
    other = enter(stranger(f"class Mine:\n{methods}"), balls)
    assert not other and "no `predict` and is left out here: it enters notebooks 01 to 03" in other.lines()[0]


def test_nothing_of_the_future_is_handed_out(balls, stranger):
    source = STILL.replace("self.people =", "assert not cohort.truth; self.people =")
    source = source.replace("return [history", "assert max(s.age for s in history) < max(ages) or len(ages) > 1\n"
                            "        self.seen = [s.session for s in history]\n        return [history")
    mine = enter(stranger(source), balls)
    assert set(mine) == {"Mine"}
    mine["Mine"].predict(balls.subjects[0].scans[:2], [72.0], "AD")
    assert mine["Mine"].model.seen == ["62", "66"] and not mine["Mine"].faults


def test_what_it_changes_is_its_own_copy(balls, learners, stranger):
    source = STILL.replace("self.people = len(cohort)", """
        for subject in cohort:
            for scan in subject.scans:
                scan.image("T1w").data.zero_(), scan.mask("brain").data.zero_(), scan.labels.data.zero_()
                scan.image("T1w").affine[:] = 0""").replace(
        "return [history", "history[-1].image('T1w').data.zero_()\n        return [history")
    before = [scan.image("T1w").data.clone() for s in balls for scan in s.scans]
    mine = enter(stranger(source), learners)
    scored(balls, dict(mine), ["Mine"])
    for scan, image in zip((scan for s in balls for scan in s.scans), before, strict=True):
        assert torch.equal(scan.image("T1w").data, image) and scan.mask("brain").data.any() and scan.labels.data.any()
        assert scan.image("T1w").affine.any()


def test_its_random_numbers_are_its_own_and_always_the_same(balls, stranger):
    source = STILL.replace("len(cohort)", "torch.rand(1).item()")
    source = "import random, torch\nimport numpy as np\n" + source.replace(
        'history[-1].image("T1w")', 'history[-1].image("T1w").data * (1 + 0 * torch.rand(1) + '
        '1e-3 * torch.rand(1) + 1e-3 * random.random() + 1e-3 * np.random.rand())')
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    without = torch.rand(2).tolist(), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    address, scans = stranger(source), balls.subjects[0].scans[:1]
    one = enter(address, balls)["Mine"]
    first = one.predict(scans, [70.0], "AD")[0].data
    assert (torch.rand(2).tolist(), np.random.rand(), random.random()) == without
    two = enter(address, balls)["Mine"]
    two.predict(balls.subjects[1].scans[:1], [70.0], "CN")
    assert torch.equal(two.predict(scans, [70.0], "AD")[0].data, first) and one.model.people == two.model.people


def test_its_constructor_is_told_what_it_names_and_the_seed_is_among_the_settings(balls, stranger):
    source = STILL.replace("class Mine:", "class Mine:\n    def __init__(self, seed, profile='x', *, width=3):\n"
                           "        self.told = seed, profile, width")
    mine = enter(stranger(source), balls, seed=5, profile="smoke", device="cpu")["Mine"]
    assert mine.model.told == (5, "smoke", 3)
    assert mine.config != enter(stranger(source), balls, seed=6, profile="smoke")["Mine"].config


KEPT = STILL + """
    def save(self, path):
        (path / "n.txt").write_text(str(self.people))
    @classmethod
    def load(cls, path):
        model = cls()
        model.people, model.read = int((path / "n.txt").read_text()), True
        return model
"""


def test_one_that_can_be_saved_learns_once_and_again_when_its_file_changes(balls, stranger, tmp_path):
    first = enter(stranger(KEPT), balls)["Mine"]
    assert first.model.people == 6 and first.model.read
    assert len(list(tmp_path.glob("cache/fitted/*/model/n.txt"))) == 1
    enter(stranger(KEPT), balls)
    enter(stranger(KEPT + "# changed\n"), balls)
    assert len(list(tmp_path.glob("cache/fitted/*/model/n.txt"))) == 2
    assert first.trained_on == enter(stranger(STILL), balls)["Mine"].trained_on


def test_it_has_a_colour_of_its_own_that_no_system_has(balls, stranger):
    two = stranger(STILL), stranger(STILL.replace("Mine:", "Mine:\n    name = 'second'"), "other")
    assert list(enter(",".join(two), balls)) == ["Mine", "second"]
    drawn = marks(["second", "brlp", "Mine"])
    assert [drawn[n].colour for n in ("Mine", "second")] == [colour for colour, _ in STRANGERS[:2]]
    assert not {c for c, _ in STRANGERS} & {mark.colour for mark in MARKS.values()}
    assert not {m for _, m in STRANGERS} & {mark.marker for mark in MARKS.values()}
    for name in ("brlp", "BrLP"):
        with pytest.raises(NbkitError, match="a name that no system here has"):
            enter(stranger(STILL.replace("Mine:", f"Mine:\n    name = {name!r}")), balls)
    with pytest.raises(NbkitError, match="a letter, then letters"):
        enter(stranger(STILL.replace("Mine:", "Mine:\n    name = 'my.model'")), balls)
    assert isinstance(enter(stranger(STILL), balls)["Mine"], EnteredModel)
