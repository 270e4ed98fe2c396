"""The explorer without a kernel holds what the systems say, names nobody, and says who must not see it."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbkit.widgets.explorer import ALONE, Explorer
from nbkit.widgets.explorer_page import write_explorer
from nbkit.widgets.panel import Panel
from tests.widgets.fading import Fading, somebody, unchanged

YEARS = (0.0, 4.0, 10.0)


@pytest.fixture
def fading() -> Fading:
    return Fading()


@pytest.fixture
def explorer(fading) -> Explorer:
    return Explorer(
        [somebody("sub-secret01"), somebody("sub-secret02", 66.0)], {"fading": fading, "no change": unchanged},
        courses=["HC", "AD", "HC→AD"], structures=["hippocampus"], horizon=10.0, trained=(55.0, 78.0),
    )


def held(page: Path) -> dict:
    """The data in a page."""
    return json.loads(re.search(r'application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))[1])


def levels(sheet: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.partition(",")[2]))).convert("L"))


def test_volumes_and_spreads_are_those_of_the_systems(explorer, tmp_path):
    data = held(write_explorer(explorer, tmp_path, years=YEARS))
    first, second = data["outlooks"]["fading"]
    assert first["AD"]["ml"] == second["AD"]["ml"] == {"hippocampus": [7.0, 6.44, 5.6]}
    assert first["HC"]["sd"] == {"hippocampus": [0.0, 0.04, 0.1]} and first["HC"]["count"] == 3
    assert data["outlooks"]["no change"][0]["HC→AD"]["sd"] == {}
    person = data["people"][1]
    assert (person["name"], person["age"], person["truth"]) == ("person 2", 66.0, [69.0])
    assert person["later"] == {"ages": [69.0], "ml": {"hippocampus": [6.8]}}
    assert data["years"] == [0, 4, 10] and data["trained"] == [55, 78] and data["alone"] == ALONE


def test_pictures_are_cuts_of_the_predictions_year_below_year(explorer, tmp_path):
    """Rows from the top, columns from the left, both planes beside each other; a head fills the noise's whole cut."""
    data = held(write_explorer(explorer, tmp_path, years=YEARS))
    sheet = levels(data["outlooks"]["fading"][0]["AD"]["sheet"])
    image = explorer.people["sub-secret01"].baseline.data[0].numpy()
    boxes = data["people"][0]["boxes"]
    assert (boxes["axial"]["width"], boxes["axial"]["height"], boxes["axial"]["mm"]) == (20, 24, [80, 96])
    assert (boxes["coronal"]["width"], boxes["coronal"]["height"]) == (20, 20) and sheet.shape == (3 * 24, 40)
    for row, left in enumerate((1.0, 0.92, 0.8)):
        axial = image[:, :, 12].T[::-1] * left / image.max()
        np.testing.assert_allclose(sheet[24 * row : 24 * (row + 1), :20], 255 * axial, atol=0.51)
        coronal = image[:, 12, :].T[::-1] * left / image.max()
        np.testing.assert_allclose(sheet[24 * row : 24 * row + 20, 20:], 255 * coronal, atol=0.51)


def test_what_a_system_refuses_is_said_as_the_widget_says_it(explorer, tmp_path):
    told = held(write_explorer(explorer, tmp_path, years=YEARS))["outlooks"]["fading"][0]["HC→AD"]
    assert told["count"] == 0 and told["sheet"] == "" and told["ml"] == {}
    assert told["refusal"] == "fading has no answer here: it expects HC or AD, not 'HC→AD'"


def test_nobody_is_named_and_restricted_data_are_marked(explorer, tmp_path):
    text = write_explorer(explorer, tmp_path, years=YEARS, source="<i>credit</i>", restricted=True).read_text("utf-8")
    assert "secret" not in text and "Restricted data." in text and "&lt;i&gt;credit" in text
    assert "Restricted data." not in write_explorer(explorer, tmp_path, years=YEARS).read_text("utf-8")


def test_each_place_is_asked_once_and_what_is_refused_not_at_every_age(explorer, fading, tmp_path):
    write_explorer(explorer, tmp_path, years=YEARS)
    people, answered, places, refused = 2, 2, 3, 2
    assert fading.calls == people * (answered * places + refused)


def test_the_page_opens_where_the_widget_stands(explorer, tmp_path):
    panel = Panel(explorer)
    panel.controls["person"].value = "sub-secret02"
    panel.controls["course"].value = "AD"
    panel.controls["age"].value = 70.5
    start = held(panel.write_page(tmp_path, years=YEARS))["start"]
    assert (start["index"], start["course"], start["age"], start["person"]) == (1, "AD", 70.5, "")
