"""Recording: files, order, refusals, and what restricted data must not show."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nbkit.claims.observe import Run, load_artefacts, load_observations
from nbkit.claims.shown import PNG_BYTES
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.tidy import stacked, tidy

FCN = "wei2019.table2_2a.mse.fcn"


def make(folder, notebook="01_a", **changes) -> Run:
    return Run(folder, notebook=notebook, **{"cohort": "embedded", "profile": "smoke", "seed": 7, **changes})


class Figure:
    """Stands for a matplotlib figure of 3 × 3 inches: white, with noise of every colour and a red line."""

    def savefig(self, path, *, dpi, format):
        picture = np.full((3 * dpi, 3 * dpi, 3), 255, np.uint8)
        picture[dpi:2 * dpi] = np.random.default_rng(0).integers(0, 256, (dpi, 3 * dpi, 3))
        picture[10, :40] = 240, 20, 47
        Image.fromarray(picture).save(path, format=format)


def test_a_number_carries_its_statistics_and_its_origin(tmp_path):
    values = {"s1": 1.0, "s2": 4.0, "s3": 2.5}
    make(tmp_path).number("a.b", values, unit="z²", note="n")
    line = json.loads((tmp_path / "observations.jsonl").read_text(encoding="utf-8"))
    assert line == {
        "id": "a.b", "value": 2.5, "sd": 1.5, "n": 3, "unit": "z²", "per_subject": values, "cohort": "embedded",
        "level": "embedded", "profile": "smoke", "seed": 7, "notebook": "01_a", "note": "n",
    }


def test_single_values_and_sequences(tmp_path):
    run = make(tmp_path)
    assert run.number("a.parameters", value=60577, unit="parameters").n is None
    assert run.number("a.one", {"s": 2.0}).sd is None
    assert dict(run.number("a.list", [3.0, 5.0]).per_subject) == {"1": 3.0, "2": 5.0}


def test_only_this_notebooks_lines_are_replaced_and_order_is_that_of_the_notebooks(tmp_path):
    later, first = make(tmp_path, "02_b"), make(tmp_path, "01_a")
    later.number("a.two", value=2)
    first.number("a.one", value=1)
    first.number("a.one", value=1.5)
    assert [(o.id, o.value) for o in load_observations(tmp_path).values()] == [("a.one", 1.5), ("a.two", 2.0)]
    make(tmp_path, "02_b")
    assert list(load_observations(tmp_path)) == ["a.one"]
    with pytest.raises(NbkitError, match="a.one of 01_a"):
        make(tmp_path, "02_b").number("a.one", value=3)
    assert load_observations(tmp_path)["a.one"].value == 1.5


def test_misspelt_ids_are_refused_and_own_ids_declared(tmp_path):
    run = make(tmp_path, paper="wei2019_flair")
    with pytest.raises(NbkitError, match=f"Did you mean '{FCN}'"):
        run.number("wei2019.table2_2a.mse.fnc", value=1.0)
    run.number("wei2019.table2_2a.mse.fcn_nested", value=1.0, extra=True)
    run.number("mine.anything", value=1.0)
    with pytest.raises(NbkitError, match="Did you mean"):
        run.not_run("wei2019.table2_4z", "no DIR")
    run.not_run("wei2019.table2_4b", "the cohort has no DIR")
    run.not_run({"wei2019.table2_4a": "one", "wei2019.table2_3": "two"})
    reasons = [entry["reason"] for entry in load_artefacts(tmp_path)["not_run"]]
    assert reasons == ["the cohort has no DIR", "one", "two"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "found neither"),
        ({"per_subject": {"a": 1.0}, "value": 1.0}, "found both"),
        ({"per_subject": {}}, "at least one subject"),
        ({"per_subject": {"a": 1.0, "b": math.nan}}, "1 of 2 NaN"),
        ({"value": math.inf}, "1 of 1 NaN"),
    ],
)
def test_numbers_that_are_no_numbers(tmp_path, arguments, message):
    with pytest.raises(NbkitError, match=message):
        make(tmp_path).number("a.b", **arguments)
    assert load_observations(tmp_path) == {}


def test_tables_and_figures_are_indexed_in_order(tmp_path):
    run = make(tmp_path)
    frame = pd.DataFrame({"a": [1.5, 2.0]}, index=pd.Index(["x", "y"], name="row"))
    run.figure("fig", Figure(), caption="A figure.")
    run.table("tab", frame, caption="A table.")
    run.figure("fig", Figure(), caption="A better figure.")
    assert [(a["name"], a["caption"]) for a in load_artefacts(tmp_path)["artefacts"]] == [
        ("tab", "A table."), ("fig", "A better figure."),
    ]
    assert load_artefacts(tmp_path)["artefacts"][0]["source"] == "embedded, embedded data, smoke profile"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "tables" / "tab.csv", index_col=0), frame)
    with pytest.raises(NbkitError, match="no other notebook uses.*01_a"):
        make(tmp_path, "02_b").figure("fig", Figure(), caption="c")
    with pytest.raises(NbkitError, match="becomes a file name"):
        run.table("../tab", frame, caption="c")


def test_a_picture_too_large_has_fewer_colours_and_as_many_dots(tmp_path):
    path = make(tmp_path).figure("fig", Figure(), caption="A figure.").path
    assert path.stat().st_size <= PNG_BYTES
    with Image.open(path) as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
        assert picture.size == (540, 540) and np.allclose(picture.info["dpi"], 180, atol=0.1)
        assert len(picture.getcolors()) <= 256
    assert (drawn[:10] == 255).all(), "white stays white"
    assert np.abs(drawn[10, :40] - [240, 20, 47]).max() < 24, "a line of one dot keeps its colour"


def test_restricted_data_show_ranks_and_no_paths(tmp_path):
    cohort = Cohort("mine", tuple(Subject(f"sub-{i}", None, "MS", ()) for i in (31, 12)), "restricted")
    run = make(tmp_path, cohort=cohort)
    run.number("a.b", {"sub-12": 2.0, "sub-31": 1.0})
    assert dict(load_observations(tmp_path)["a.b"].per_subject) == {"2": 2.0, "1": 1.0}
    for frame in (pd.DataFrame({"who": ["sub-12"]}), pd.DataFrame({"x": [1]}, index=["sub-31"])):
        with pytest.raises(NbkitError, match="without subject ids"):
            run.table("t", frame, caption="c")
    with pytest.raises(NbkitError, match="absolute paths"):
        run.table("t", pd.DataFrame({"file": ["/data/ms/a.nii"]}), caption="c")
    with pytest.raises(NbkitError, match="sub-12"):
        run.figure("f", Figure(), caption="The worst case, sub-12.")
    run.table("t", pd.DataFrame({"mean": [1.5]}, index=["mL / year"]), caption="Means.")
    text = "".join(f.read_text(encoding="utf-8") for f in tmp_path.rglob("*") if f.is_file())
    assert "sub-" not in text


def test_restricted_results_stay_restricted_and_out_of_git(tmp_path):
    cohort = Cohort("mine", (Subject("sub-31", None, "MS", ()),), "restricted")
    run = make(tmp_path / "anywhere", cohort=cohort, data_level="open")
    assert run.level == "restricted"
    assert (tmp_path / "anywhere" / ".gitignore").read_text() == "*\n"
    assert not (make(tmp_path / "open", cohort="open").out_dir / ".gitignore").exists()


@pytest.mark.parametrize(("cohort", "level", "name"), [
    ("open", "open", "open"), ("/data/my_ms/table.csv", "restricted", "table.csv"),
])
def test_level_of_a_cohort_given_by_name(tmp_path, cohort, level, name):
    run = make(tmp_path, cohort=cohort)
    assert (run.level, run.cohort) == (level, name)


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "observations.jsonl").write_text('{"id": "a", "value": 1}\n{"id"\n', encoding="utf-8")
    with pytest.raises(NbkitError, match="observations.jsonl:2"):
        load_observations(tmp_path)


def test_equal_records_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        run = make(tmp_path / name)
        run.number("x.y", dict(enumerate(np.random.default_rng(1).normal(size=5))))
    assert (tmp_path / "a/observations.jsonl").read_bytes() == (tmp_path / "b/observations.jsonl").read_bytes()


def test_a_figure_shows_itself_with_caption_source_and_alternative_text(tmp_path):
    shown = make(tmp_path, "01_a").figure("fig", Figure(), caption="Errors < 1 & more.")
    page = shown._repr_html_()
    assert page.count("Errors &lt; 1 &amp; more. ") == 2 and 'alt="Errors' in page and "profile." in page
    encoded = base64.b64decode(page.split("base64,")[1].split('"')[0])
    assert encoded == shown.path.read_bytes() == (tmp_path / "figures" / "fig.png").read_bytes()


def test_the_credit_of_open_data_stands_in_every_source(tmp_path):
    scans = {level: Cohort("c", (), level, {"attribution": "A. Giver, CC-BY"}) for level in ("open", "embedded")}
    said = {k: Run(tmp_path / k, notebook="n", cohort=c, profile="smoke", seed=1).source for k, c in scans.items()}
    assert said["open"].endswith("A. Giver, CC-BY") and "Giver" not in said["embedded"]


def test_a_tidy_frame_gives_an_observation_for_each_id(tmp_path):
    frame = stacked(
        tidy({"s1": 1.0, "s2": 4.0}, id="a.b", unit="z²", system="fcn"), tidy(5.0, id="a.c", unit="s"),
        tidy({"s1": 9.0}, metric="not recorded"),
    )
    assert make(tmp_path).record(frame) is frame
    found = load_observations(tmp_path)
    assert list(found) == ["a.b", "a.c"]
    assert (found["a.b"].value, found["a.b"].n, found["a.b"].per_subject) == (2.5, 2, {"s1": 1.0, "s2": 4.0})
    assert (found["a.c"].value, found["a.c"].n, found["a.c"].unit) == (5.0, None, "s")


def test_ids_of_a_paper_are_checked_or_left_out_where_they_are_not_published(tmp_path):
    frame = stacked(tidy({"s1": 0.2}, id=FCN), tidy({"s1": 0.3}, id=FCN + ".fold9"))
    with pytest.raises(NbkitError, match="an id of wei2019_flair"):
        make(tmp_path, paper="wei2019_flair").record(frame)
    make(tmp_path, paper="wei2019_flair").record(frame, published=True)
    assert list(load_observations(tmp_path)) == [FCN]
    make(tmp_path, paper="wei2019_flair").record(frame, extra=True)
    assert len(load_observations(tmp_path)) == 2


def test_a_subject_twice_under_one_id_is_refused(tmp_path):
    with pytest.raises(NbkitError, match="one row a subject"):
        make(tmp_path).record(stacked(tidy({"s1": 1.0}, id="a.b"), tidy({"s1": 2.0}, id="a.b")))


def test_a_figure_of_restricted_data_names_nobody(tmp_path):
    from matplotlib.figure import Figure as Drawn

    cohort = Cohort("mine", tuple(Subject(f"sub-{i}", None, "MS", ()) for i in (31, 3)), "restricted")
    run = Run(tmp_path, notebook="01_a", cohort=cohort, profile="smoke", seed=7)
    drawn = Drawn()
    axes = drawn.subplots()
    axes.set_title("sub-31, sub-3 and sub-310")
    axes.text(0, 0, "T1w")
    run.figure("who", drawn, caption="Somebody.")
    assert axes.get_title() == "#1, #2 and sub-310" and axes.texts[0].get_text() == "T1w"
    open_run = Run(tmp_path / "b", notebook="01_a", cohort="open", profile="smoke", seed=7)
    axes.set_title("sub-31")
    open_run.figure("who", drawn, caption="Somebody.")
    assert axes.get_title() == "sub-31"
