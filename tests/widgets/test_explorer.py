"""The explorer: one picture per state, predictions kept, controls that follow, files that can be read again."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nbkit.core.checks import NbkitError, require
from nbkit.papers.trajectories.outlook import Outlook
from nbkit.core.protocols import Scan
from nbkit.data.nifti import read_image, save_image
from nbkit.widgets.explorer import ALONE, KEPT, Explorer, Person
from nbkit.widgets.keys import EXPLORER_CLASS, KeyGuard
from nbkit.widgets.panel import Panel
from tests.widgets.fading import Fading, somebody, unchanged


@pytest.fixture
def fading() -> Fading:
    return Fading()


@pytest.fixture
def explorer(fading) -> Explorer:
    systems = {"fading": fading, "no change": unchanged}
    return Explorer(
        [somebody(), somebody("sub-02", 66.0)], systems, courses=["HC", "AD"], structures=["hippocampus"],
        horizon=10.0, trained=(55.0, 78.0), save=save_image,
    )


def words(picture) -> list[str]:
    """Everything written above or beside images and chart."""
    return [text.get_text() for axes in picture.axes for text in axes.texts]


def test_what_was_read_from_a_scan_is_told_with_its_error(explorer):
    assert "scan read to" not in explorer.readout(explorer.start)
    read = replace(somebody(), error={"hippocampus": 0.06})
    told = Explorer(
        [read], explorer.systems, courses=["HC", "AD"], structures=["hippocampus"], horizon=10.0, trained=(55.0, 78.0),
    )
    assert "(−5.0 % since baseline), scan read to ± 0.40 mL" in told.readout(replace(told.start, age=75.0))


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
    assert (years[0], years[-1], len(years)) == (0, 10, 21)
    np.testing.assert_allclose(curve.values, 7.0 * (1 - 0.02 * years))
    np.testing.assert_allclose(curve.spread, 0.01 * years)
    assert explorer.curve(replace(explorer.start, system="no change")).spread == []


def test_images_changes_and_the_truth_are_in_the_picture(explorer):
    state = replace(explorer.start, beside="no change", age=73.0)
    sheet = explorer.render(state).axes[0]
    assert [t for t in words(explorer.render(state)) if " y" in t] == [
        "baseline, 70.0 y", "fading, 73.0 y", "no change, 73.0 y", "true scan, 73.0 y"]
    changes = [np.asarray(i.get_array()) for i in sheet.images if i.get_cmap().name == "RdBu_r"]
    expected = -0.03 * explorer.people["sub-01"].baseline.data[0, :, :, 12].T
    np.testing.assert_allclose(changes[0], expected.numpy(), atol=1e-6)
    assert not changes[1].any() and len(changes) == 3
    alone = explorer.render(replace(state, beside=ALONE, plane="coronal")).axes[0]
    assert len(alone.images) == 3 + 2


def test_the_blur_of_a_system_is_no_change():
    dark = lambda p, a, c: Outlook(p.baseline.with_data(p.baseline.data * 0.5), {"hippocampus": 7000.0})  # noqa: E731
    one = Explorer([somebody()], {"dark": dark}, courses=["HC"], structures=["hippocampus"], horizon=4, trained=(1, 99))
    (change, _) = [i for i in one.render(one.start).axes[0].images if i.get_cmap().name == "RdBu_r"]
    assert not np.asarray(change.get_array()).any()


def test_ages_never_learned_from_are_said_and_shaded(explorer):
    inside, outside = (replace(explorer.start, age=a) for a in (75.0, 79.5))
    assert "outside the ages" not in explorer.readout(inside)
    assert "outside the ages learned from (55 to 78)" in explorer.readout(outside)
    assert "(−5.0 % since baseline)" in explorer.readout(inside)
    assert len(explorer.render(inside).axes[-1].patches) == 1


def test_what_a_system_refuses_is_left_out_and_said():
    def short(person, age, course):
        require(age < 75, "short", expected="ages below 75", found=f"{age:g}", remedy="Ask for less.")
        return Outlook(person.baseline, {"hippocampus": 7000.0})

    keeps = lambda p, a, c: Outlook(p.baseline, {"hippocampus": 6500.0})  # noqa: E731
    one = Explorer([somebody()], {"short": short, "long": keeps}, courses=["HC"], structures=["hippocampus"],
                   horizon=10, trained=(55, 90), save=save_image)
    state = replace(one.start, age=78.0, beside="long")
    assert "short has no answer here: it expects ages below 75, not 78" in one.readout(state)
    assert "long, 78.0 years: hippocampus 6.50 mL" in one.readout(state)
    assert not any(t.startswith("short,") for t in words(one.render(state)))
    assert max(one.curve(state).ages) == 74.5
    panel = Panel(one, replace(state, beside=ALONE))
    panel.button.click()
    assert "it expects ages below 75" in panel.links.value


def test_the_controls_follow_one_another(explorer):
    panel = Panel(explorer)
    controls, first, said = panel.controls, panel.picture.value, panel.words.value
    controls["age"].value = 79.0
    assert panel.picture.value != first and "79.0 years" in panel.words.value != said
    controls["person"].value = "sub-02"
    assert (controls["age"].min, controls["age"].max, controls["age"].value) == (66.0, 76.0, 71.0)
    controls["person"].value = "sub-01"
    assert (controls["age"].min, controls["age"].max, controls["age"].value) == (70.0, 80.0, 75.0)
    assert all(control in _within(panel.box) for control in controls.values())


def test_keys_pressed_in_the_explorer_are_kept_from_jupyterlab(explorer):
    box = Panel(explorer).box
    (guard,) = [w for w in box.children if isinstance(w, KeyGuard)]
    assert EXPLORER_CLASS in box._dom_classes and f".{EXPLORER_CLASS}" in str(guard._esm)


def test_moves_are_timed_over_the_whole_slider_and_leave_it_where_it_was(explorer, fading):
    panel = Panel(explorer)
    waits = panel.moves(5)
    assert len(waits) == 5 and min(waits) > 0 and panel.state == explorer.start
    calls = fading.calls
    panel.moves(5)
    assert fading.calls == calls


def test_the_picture_is_what_a_headless_run_shows(explorer, tmp_path):
    panel = Panel(explorer)
    (tmp_path / "panel.png").write_bytes(panel.picture.value)
    explorer.render(panel.state).savefig(tmp_path / "static.png", dpi=110)
    shown, static = (np.asarray(Image.open(tmp_path / f)) for f in ("panel.png", "static.png"))
    np.testing.assert_array_equal(shown, static)


def test_the_download_holds_the_image_and_how_it_came_about(explorer, tmp_path):
    files = explorer.files(replace(explorer.start, age=75.0))
    (nifti, about) = files.values()
    assert gzip.decompress(nifti)
    (tmp_path / "x.nii.gz").write_bytes(nifti)
    image = explorer.outlook(replace(explorer.start, age=75.0)).image
    torch.testing.assert_close(read_image(tmp_path / "x.nii.gz").data, image.data)
    record = json.loads(about)
    assert record["age"] == 75.0 and record["system"] == "fading" and record["history"] == ["aged to 75.0"]
    panel = Panel(explorer)
    panel.button.click()
    links = panel.links.value
    assert links.count("download=") == 2 and "/" not in links.split('download="')[1].split('"')[0]


def test_a_person_is_made_of_scans_of_which_some_are_kept_back():
    images = [somebody(f"v{k}").baseline for k in range(3)]
    scans = [Scan("sub-09", str(k), 70.0 + k, {"T1w": image}) for k, image in enumerate(images)]
    volumes = [{"hippocampus": 7000.0 - k} for k in range(3)]
    person = Person.of(scans, volumes, seen=2)
    assert (person.id, person.age, list(person.seen), list(person.later)) == ("sub-09", 71.0, [70.0, 71.0], [72.0])
    assert person.baseline is images[1] and person.truth == {72.0: images[2]}
    assert person.scans == tuple(scans[:2]) and person.volumes == {"hippocampus": 6999.0}
    with pytest.raises(NbkitError, match="one scan or more that may be seen"):
        Person.of(scans, volumes, seen=0)


def test_errors_at_the_last_visit_kept_back(explorer):
    """What fades by 1 % a year loses 3 % where the truth lost 200 of 7000 mm³; a system that refuses has no row."""

    def refusing(person, age, course):
        raise NbkitError("x", expected="nothing", found="a question", remedy="None.")

    explorer.systems["refusing"] = refusing
    found = explorer.misses({"sub-01": "HC", "sub-02": "AD"}, ["hippocampus", "thalamus"])
    rows = found.set_index(["subject", "system"])["value"]
    assert rows["sub-01", "fading"] == pytest.approx(100 * (1 - 7000 * 0.97 / 6800))
    assert rows["sub-02", "fading"] == pytest.approx(100 * (1 - 7000 * 0.94 / 6800))
    assert rows["sub-01", "no change"] == pytest.approx(100 * (7000 / 6800 - 1))
    assert len(found) == 4 and set(found["structure"]) == {"hippocampus"}


def test_what_is_not_there_is_refused_by_name(explorer):
    with pytest.raises(NbkitError, match="Did you mean 'fading'"):
        explorer.render(replace(explorer.start, system="fadin"))
    with pytest.raises(NbkitError, match="Explorer: people"):
        Explorer([], {"a": Fading()}, courses=["HC"], structures=["x"], horizon=1, trained=(1, 2))
    seen = {"courses": ["HC"], "structures": ["hippocampus"], "horizon": 1, "trained": (1, 2)}
    bare = Explorer([somebody()], {"a": Fading()}, **seen)
    with pytest.raises(NbkitError, match="save=nbkit.data.nifti.save_image"):
        bare.files(bare.start)


def _within(box) -> list:
    """All widgets below one."""
    return [w for child in getattr(box, "children", ()) for w in (child, *_within(child))]
