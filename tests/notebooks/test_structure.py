"""Every notebook keeps the contract of design section 5, and the contract notices when one does not."""

from __future__ import annotations

import sys

import nbformat.v4 as v4
import pytest

from nbkit.runner.parameters import declared
from tests.notebooks import contract

CHECKS = (
    contract.form_faults, contract.setup_faults, contract.parameter_faults, contract.code_faults, contract.story_faults,
)
FOLDED = {"tags": contract.SETUP_TAGS, "jupyter": {"source_hidden": True}}
PLAIN = 'profile = "laptop"\ncohort = "embedded"\nseed = 7\ndevice = "auto"\nout_dir = "../results"\n'


def small_notebook(code: str = "x = 1", parameters: str = PLAIN, more: tuple = ()):
    """A notebook that keeps the contract unless it is told otherwise."""
    cells = [
        v4.new_markdown_cell("# A title"),
        v4.new_code_cell(contract.SETUP, metadata=FOLDED),
        v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        v4.new_markdown_cell("What follows."),
        v4.new_code_cell("run = begin(profile, cohort, seed, device, out_dir)"),
        v4.new_markdown_cell("The main result."),
        v4.new_code_cell(code),
        *more,
    ]
    for tag in contract.END:
        cells += [v4.new_markdown_cell(tag), v4.new_code_cell(f"run.{tag}()", metadata={"tags": [tag]})]
    return v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def faults(notebook) -> list[str]:
    """Everything the contract objects to."""
    return [fault for check in CHECKS for fault in check(notebook)]


def test_there_are_notebooks():
    assert [path.name[:2] for path in contract.NOTEBOOKS][:2] == ["00", "01"]


@pytest.mark.parametrize("path", contract.NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_keeps_the_contract(path):
    # the starting page has no paper, so no verdicts to end with; the scorecard has all of them
    excused = {"the last code cells are not verdicts, claims, provenance"} if path.stem[:2] in ("00", "10") else set()
    assert set(faults(contract.read(path))) - excused == set()
    assert path.stat().st_size <= contract.FILE_BYTES


@pytest.mark.parametrize("path", contract.NOTEBOOKS, ids=lambda p: p.stem)
def test_the_runner_reads_the_same_parameters(path):
    notebook, read = contract.read(path), declared(path)
    assert {name: p.default for name, p in read.items()} == contract.parameters(notebook)
    assert {name for name, p in read.items() if p.inert} == contract.inert(notebook)


def test_the_small_notebook_is_good():
    assert faults(small_notebook()) == []
    assert faults(small_notebook("best = sorted(found, key=lambda s: s.dice)")) == []


BAD_CODE = {
    "a function": ("def f():\n    return 1", "defines a function"),
    "a class": ("class A:\n    x = 1", "defines a function or class"),
    "a named lambda": ("f = lambda x: x", "defines a function"),
    "too long": ("x = 1\n" * 9, "more than 8 lines"),
    "too wide": (f"x = '{'y' * 100}'", "more than 100 characters"),
    "comprehension in comprehension": ("x = [[b for b in a] for a in 'ab']", "nests comprehensions"),
    "an installation": ("!pip install numpy", "not plain Python"),
    "a magic": ("%matplotlib inline", "not plain Python"),
    "a plotting library": ("import matplotlib.pyplot as plt", "imports matplotlib"),
    "an absolute path": ("x = '/data/scans'", "an absolute path"),
    "a home folder": ("x = '~/scans'", "an absolute path"),
    "somebody's folder": ("x = 1  # see /home/me/scans", "a path of one machine"),
}


@pytest.mark.parametrize(("code", "fault"), BAD_CODE.values(), ids=BAD_CODE)
def test_bad_code_is_found(code, fault):
    found = faults(small_notebook(code))
    assert len(found) == 1 and fault in found[0]


BAD_PARAMETERS = {
    "missing": (PLAIN.replace("seed = 7\n", ""), "seed missing"),
    "a tuple": (PLAIN + "size = (3, 4)", "size = (3, 4): not name = plain literal"),
    "derived": (PLAIN + "twice = seed * 2", "not name = plain literal"),
    "annotated": (PLAIN + "n: int | None = None", "not name = plain literal"),
    "unused": (PLAIN + "folds = 5", "folds is never read"),
    "inert without a reason": (PLAIN + "folds = 5  # inert:", "folds is never read"),
}


@pytest.mark.parametrize(("parameters", "fault"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_bad_parameters_are_found(parameters, fault):
    found = faults(small_notebook(parameters=parameters))
    assert len(found) == 1 and fault in found[0]


def test_a_bad_setup_cell_is_found():
    """Missing, elsewhere, another text, unfolded, run."""
    wanted = small_notebook()
    gone, moved, other, open_, run = (small_notebook() for _ in range(5))
    del gone.cells[1]
    moved.cells.append(moved.cells.pop(1))
    other.cells[1].source += "\n"
    open_.cells[1].metadata.jupyter.source_hidden = False
    run.cells[1].execution_count = 1
    found = [list(contract.setup_faults(n)) for n in (wanted, gone, moved, other, open_, run)]
    assert found == [[], *[["the second cell, and only it, must be tagged setup"]] * 2,
                     ["the setup cell is not contract.SETUP"], ["the setup cell is not folded"],
                     ["the setup cell: outputs are saved"]]


def test_the_setup_cell_installs_only_where_nbkit_is_missing(monkeypatch):
    asked: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, check: asked.append(command))
    monkeypatch.setattr("sys.path", list(sys.path))
    exec(contract.SETUP, {})
    assert asked == [] and ".." not in sys.path
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    exec(contract.SETUP, {})
    assert asked == [["../binder/postBuild"]] and sys.path[0] == ".."


def test_an_inert_parameter_need_not_be_read():
    notebook = small_notebook(parameters=PLAIN + "n_jobs = 2  # inert: speed only\nwidths = [32, 64]", code="widths")
    assert faults(notebook) == []
    assert contract.inert(notebook) == {"n_jobs"}
    assert contract.parameters(notebook)["widths"] == [32, 64]


def test_bad_form_is_found():
    notebook = small_notebook()
    notebook.metadata.kernelspec.name = "conda-env-me-py"
    notebook.cells[0].source = "No title"
    notebook.cells[4].execution_count = 3
    notebook.cells[6].id = notebook.cells[7].id
    assert len(faults(notebook)) == 4


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ((v4.new_code_cell("y = 2"),), "no text before it"),
        ((v4.new_code_cell(PLAIN, metadata={"tags": ["parameters"]}),), "only it, must be tagged parameters"),
    ],
    ids=["code after code", "two parameters cells"],
)
def test_bad_cells_are_found(more, fault):
    assert any(fault in found for found in faults(small_notebook(more=more)))


def test_a_missing_end_is_found():
    notebook = small_notebook()
    notebook.cells[-1].metadata.tags = []
    assert faults(notebook) == ["the last code cells are not verdicts, claims, provenance"]


def test_a_long_notebook_is_found():
    more = [cell for i in range(16) for cell in (v4.new_markdown_cell("text"), v4.new_code_cell("x = 1\n" * 8))]
    assert [fault.partition(", ")[2] for fault in faults(small_notebook(more=tuple(more)))] == ["at most 120"]


def test_declared_artefacts_are_read_from_the_code():
    notebook = small_notebook("run.table('table2_1', data)\nrun.figure(name, fig)\nrun.figure('fig2_3', fig)")
    assert contract.declared_artefacts(notebook) == {("table", "table2_1"), ("figure", "fig2_3")}
