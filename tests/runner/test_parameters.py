"""Reading a parameters cell without running it."""

from __future__ import annotations

import nbformat
import pytest

from nbkit.core.checks import NbkitError
from nbkit.runner.parameters import bind, check_names, declared, from_text, source_of


def test_literals_annotations_and_inert_marks(write_notebook):
    book = write_notebook("01_a", parameters=(
        'profile = "laptop"\nrate: float = 5e-4\nflag = True\nwidths = [32, 64]  # inert: a view only\nnone = None\n'
    ))
    found = declared(book)
    defaults = {name: p.default for name, p in found.items()}
    assert defaults == {"profile": "laptop", "rate": 5e-4, "flag": True, "widths": [32, 64], "none": None}
    assert {name: p.inert for name, p in found.items() if p.inert} == {"widths": "a view only"}


@pytest.mark.parametrize("line", [
    "x = (1, 2)", "x = {'a': 1}", "x = open('f')", "x = 2 * 3", "x, y = 1, 2", "import os", "x = y", "x =", "x: int",
])
def test_anything_but_plain_literals_is_refused(write_notebook, line):
    with pytest.raises(NbkitError, match="01_a.ipynb: parameters cell.*plain literal"):
        declared(write_notebook("01_a", parameters=f'profile = "laptop"\n{line}'))


def test_exactly_one_parameters_cell(write_notebook):
    book = write_notebook("01_a", "x = 1")
    node = nbformat.read(book, as_version=4)
    node.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(node, book)
    with pytest.raises(NbkitError, match="exactly one, found 2"):
        declared(book)


def test_a_broken_notebook_is_named(tmp_path):
    (tmp_path / "01_a.ipynb").write_text("{", encoding="utf-8")
    with pytest.raises(NbkitError, match="01_a.ipynb: expected a notebook"):
        declared(tmp_path / "01_a.ipynb")


def test_values_reach_the_notebooks_that_declare_them(write_notebook):
    a = write_notebook("01_a", parameters="seed = 7\nwidth = 64\n")
    b = write_notebook("02_b", parameters="seed = 7\nrate = 0.5\n")
    chosen = from_text([a, b], ["width=32", "rate=1", "seed=8"])
    assert chosen == {"width": 32, "rate": 1, "seed": 8}
    assert bind(a, {"device": "cpu"}, chosen) == {"width": 32, "seed": 8}
    assert bind(b, {"seed": 9}, chosen) == {"rate": 1, "seed": 8}


@pytest.mark.parametrize(("default", "text", "value"), [
    ("'cpu'", "7", "7"), ("False", "true", True), ("1.5", "1e-3", 1e-3), ("[1]", "[2, 3]", [2, 3]),
    ("None", "none", None),
])
def test_texts_become_what_the_default_is(write_notebook, default, text, value):
    book = write_notebook("01_a", parameters=f"x = {default}\n")
    chosen = from_text([book], [f"x={text}"])
    assert chosen == {"x": value} == bind(book, {}, chosen)


@pytest.mark.parametrize(("default", "value"), [
    ("7", "7"), ("7", 1.5), ("7", True), ("True", 1), ("'a'", 1), ("[1]", (1, 2)), ("[1]", [{}]), ("0.5", True),
    ("7", None),
])
def test_wrong_types_are_refused(write_notebook, default, value):
    with pytest.raises(NbkitError, match="01_a.ipynb: x: expected"):
        bind(write_notebook("01_a", parameters=f"x = {default}\n"), {}, {"x": value})


def test_unknown_names_and_texts_without_equals(write_notebook):
    book = write_notebook("01_a", parameters="width = 64\n")
    with pytest.raises(NbkitError, match="Did you mean 'width'"):
        check_names([book], ["widht"])
    with pytest.raises(NbkitError, match="name=value"):
        from_text([book], ["width"])


def test_source_ignores_outputs_and_view_settings(write_notebook):
    book = write_notebook("01_a", "1 + 1")
    before = source_of(book)
    node = nbformat.read(book, as_version=4)
    node.cells[1].outputs = [nbformat.v4.new_output("stream", text="2")]
    node.cells[1].metadata["collapsed"] = True
    nbformat.write(node, book)
    assert source_of(book) == before
    node.cells[1].source = "1 + 2"
    nbformat.write(node, book)
    assert source_of(book) != before
