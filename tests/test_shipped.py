"""Weights that come with the project: for the settings and people they stand for, while they give what they gave."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit import shipped, train
from nbkit.core.volume import Volume
from nbkit.papers.trajectories.pixel_regression import Config, PixelRegression
from tests.test_train import place  # noqa: F401
from tests.papers.trajectories.test_scan_segmenter import heads


def people(n=4):
    """Two visits each, brighter by a thousandth a year."""
    cohort = heads("abcdefgh"[:n])

    def twice(subject):
        scan = replace(subject.baseline, age=60.0)
        later = scan.images["T1w"].with_data(scan.images["T1w"].data * 1.002)
        return replace(subject, diagnosis="CN", scans=(
            scan, replace(scan, session="2", age=62.0, images={**scan.images, "T1w": later})))

    told = {"data_hash": "h", "attribution": "made up"}
    return replace(cohort, subjects=tuple(map(twice, cohort)), provenance=told)


@pytest.fixture
def listed(place, monkeypatch):  # noqa: F811
    cohort, asked = people(), PixelRegression(Config(estimator="population"))
    long = PixelRegression(asked.config).fit(cohort)
    folder = place["folder"] / "line"
    train.keep(long, cohort, folder=folder, listing=place["listing"], facts={"finished": True},
               card={"stands_for": shipped.stands_for(asked.config.as_dict(), None)})
    train._golden(folder, PixelRegression.load, cohort)
    monkeypatch.setattr(shipped, "weights_list", train.weights_list)
    return cohort, asked, folder


def read(asked, cohort, key=None):
    found = shipped.find(asked, cohort, key)
    return None if found is None else found.read(PixelRegression.load)


def test_found_for_the_same_settings_and_people_alone(listed):
    cohort, asked, _ = listed
    scan = cohort.subjects[0].scans
    model, fresh = read(asked, cohort), PixelRegression(asked.config).fit(cohort)
    given, wanted = (m.predict(scan[:1], [64.0], "CN")[0].data for m in (model, fresh))
    torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-3)
    assert shipped.find(asked, cohort.subset(cohort.ids[:3])) is None
    assert shipped.find(asked, replace(cohort, name="others")) is None
    assert shipped.find(asked, cohort, "AD") is None
    assert shipped.find(PixelRegression(Config(estimator="ols")), cohort) is None
    here, there = (shipped.stands_for({"width": 2, "device": d}, {"device": d}) for d in ("cpu", "cuda"))
    assert here == there != shipped.stands_for({"width": 3}, {})


def test_settings_that_came_since_have_their_default_and_others_are_refused(listed):
    cohort, asked, folder = listed
    card = json.loads((folder / shipped.CARD).read_text())

    def found(key=None, **settings):
        kept = {"settings": settings, "key": {"width": 2} if key else None}
        (folder / shipped.CARD).write_text(json.dumps({**card, "stands_for": kept}))
        return shipped.find(asked, cohort, key) is not None

    assert found(estimator="population") and not found() and not found(estimator="population", gone=1)
    assert found({"width": 2, "new": 1}, estimator="population")
    assert not found({"width": 3}, estimator="population")


def test_weights_that_give_something_else_are_not_used(listed, caplog):
    cohort, asked, folder = listed
    card = json.loads((folder / shipped.CARD).read_text())
    off = np.array(card["gives"])
    off[0] += 3 * shipped.NEAR * off.std()
    (folder / shipped.CARD).write_text(json.dumps({**card, "gives": list(off)}))
    assert read(asked, cohort) is None and "trained here instead" in caplog.text


def test_other_data_under_the_same_names_are_noticed(listed):
    cohort, asked, _ = listed

    def other(scan):
        image = scan.images["T1w"]
        return replace(scan, images={**scan.images, "T1w": Volume(image.data.flip(1), image.affine)})

    turned = replace(cohort, subjects=tuple(replace(s, scans=tuple(map(other, s.scans))) for s in cohort))
    assert read(asked, turned) is None


def test_what_comes_with_the_project_is_small_and_says_what_it_gives():
    for name, entry in train.weights_list().items():
        if name != "scan_segmenter":
            card = json.loads((train.FOLDER / name / shipped.CARD).read_text())
            assert len(card["gives"]) > 1 and np.isfinite(card["gives"]).all() and entry["finished"], name
    assert sum(entry["bytes"] for entry in train.weights_list().values()) < 40 * 2**20
