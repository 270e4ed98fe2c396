"""The explorer: one picture per state, predictions kept, controls that follow, files that can be read again."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data.nifti import read_image, save_image
from nbkit.widgets.explorer import ALONE, KEPT, Explorer, Outlook, Person

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0]) + np.array([[0, 0, 0, -40.0], [0, 0, 0, -60.0], [0, 0, 0, -40.0], [0, 0, 0, 0]])


def _person(name: str = "sub-01", age: float = 70.0) -> Person:
    image = Volume(torch.rand(20, 24, 20, generator=torch.Generator().manual_seed(3)), AFFINE)
    return Person(
        name, image, age, {age: {"hippocampus": 7000.0}}, {age + 3: {"hippocampus": 6800.0}}, {age + 3: image},
    )


class Fading:
    """A system that darkens the baseline by 1 % a year (2 % with AD) and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, person: Person, age: float, course: str) -> Outlook:
        self.calls += 1
        left = 1 - 0.01 * (age - person.age) * (2 if course == "AD" else 1)
        image = person.baseline.with_data(person.baseline.data * left, f"aged to {age}")
        return Outlook(image, {"hippocampus": 7000 * left}, {"hippocampus": 10 * (age - person.age)})


@pytest.fixture
def fading() -> Fading:
    return Fading()


@pytest.fixture
def explorer(fading) -> Explorer:
    systems = {"fading": fading, "no change": lambda p, a, c: Outlook(p.baseline, {"hippocampus": 7000.0})}
    return Explorer(
        [_person(), _person("sub-02", 66.0)], systems, courses=["HC", "AD"], structures=["hippocampus"],
        horizon=10.0, trained=(55.0, 78.0), save=save_image,
    )


def test_a_place_once_seen_is_not_predicted_again(explorer, fading):
    explorer.render(explorer.start)
    before = fading.calls
    explorer.render(explorer.start)
    assert fading.calls == before
    explorer.render(replace(explorer.start, age=explorer.start.age + 0.5))
    assert fading.calls == before + 1
    for k in range(KEPT + 5):
        explorer.outlook(replace(explorer.start, age=70 + 0.1 * k))
    assert len(explorer._outlooks) == KEPT


def test_the_curve_starts_at_what_was_measured_and_follows_the_system(explorer):
    curve = explorer.curve(replace(explorer.start, course="AD"))
    years = np.array(curve.ages) - 70
    np.testing.assert_allclose(curve.values, 7.0 * (1 - 0.02 * years))
    np.testing.assert_allclose(curve.spread, 0.01 * years)
    assert explorer.curve(replace(explorer.start, system="no change")).spread == []


def test_images_changes_and_the_truth_are_in_the_picture(explorer):
    state = replace(explorer.start, beside="no change", age=73.0)
    titles = [axes.get_title() for axes in explorer.render(state).axes]
    assert [t for t in titles if " y" in t] == [
        "baseline, 70.0 y", "fading, 73.0 y", "no change, 73.0 y", "true scan, 73.0 y"]
    changes = [a for a in explorer.render(state).axes if "baseline (±" in a.get_title()]
    shown = changes[0].images[0].get_array()
    expected = -0.03 * explorer.people["sub-01"].baseline.data[0, :, :, 12].T
    np.testing.assert_allclose(np.asarray(shown), expected.numpy(), atol=1e-6)
    assert not np.asarray(changes[1].images[0].get_array()).any()
    assert len(explorer.render(replace(state, beside=ALONE, plane="coronal")).axes) == 3 + 2 + 1


def test_ages_never_learned_from_are_said_and_shaded(explorer):
    inside, outside = (replace(explorer.start, age=a) for a in (75.0, 79.5))
    assert "outside the ages" not in explorer.readout(inside)
    assert "outside the ages learned from (55 to 78)" in explorer.readout(outside)
    assert "(−5.0 % since baseline)" in explorer.readout(inside)
    assert len(explorer.render(inside).axes[-1].patches) == 1


def test_the_controls_follow_one_another(explorer):
    box = explorer.widget()
    controls = {w.description: w for row in box.children[:2] for w in row.children} | {"age": box.children[2]}
    first, words = box.children[4].value, box.children[3].value
    controls["age"].value = 79.0
    assert box.children[4].value != first and "79.0 years" in box.children[3].value != words
    controls["person"].value = "sub-02"
    assert (controls["age"].min, controls["age"].max, controls["age"].value) == (66.0, 76.0, 71.0)
    controls["person"].value = "sub-01"
    assert (controls["age"].min, controls["age"].max, controls["age"].value) == (70.0, 80.0, 75.0)


def test_the_download_holds_the_image_and_how_it_came_about(explorer, tmp_path):
    files = explorer.files(replace(explorer.start, age=75.0))
    (nifti, about) = files.values()
    assert gzip.decompress(nifti)
    (tmp_path / "x.nii.gz").write_bytes(nifti)
    image = explorer.outlook(replace(explorer.start, age=75.0)).image
    torch.testing.assert_close(read_image(tmp_path / "x.nii.gz").data, image.data)
    record = json.loads(about)
    assert record["age"] == 75.0 and record["system"] == "fading" and record["history"] == ["aged to 75.0"]
    box = explorer.widget()
    button, links = box.children[5].children
    button.click()
    assert links.value.count("download=") == 2 and "/" not in links.value.split('download="')[1].split('"')[0]


def test_what_is_not_there_is_refused_by_name(explorer):
    with pytest.raises(NbkitError, match="Did you mean 'fading'"):
        explorer.render(replace(explorer.start, system="fadin"))
    with pytest.raises(NbkitError, match="Explorer: people"):
        Explorer([], {"a": Fading()}, courses=["HC"], structures=["x"], horizon=1, trained=(1, 2))
    bare = Explorer([_person()], {"a": Fading()}, courses=["HC"], structures=["hippocampus"], horizon=1, trained=(1, 2))
    with pytest.raises(NbkitError, match="save=nbkit.data.nifti.save_image"):
        bare.files(bare.start)
