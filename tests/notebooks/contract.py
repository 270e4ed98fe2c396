"""What every notebook keeps to (design section 5), as functions that list the faults of one notebook."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tests.sources import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
CELL_LINES, LINE_LENGTH, NOTEBOOK_LINES, FILE_BYTES = 8, 100, 120, 150_000
END = ("verdicts", "claims", "provenance")
"""Tags of the last code cells, in order."""
SETUP = """import importlib.util, subprocess, sys
if importlib.util.find_spec("nbkit") is None:  # Colab, or another kernel: install this clone
    subprocess.run(["../binder/postBuild"], check=True)
    sys.path.insert(0, "..")"""
SETUP_TAGS = ["setup", "remove-cell"]
"""The cell after the title that does nothing where nbkit is installed; folded, left out on the site, not counted."""
LIBRARIES = {"nbkit", "numpy", "pandas", "IPython"}
PARAMETERS = {"profile", "cohort", "seed", "device", "out_dir"}
SOMEBODYS_FOLDER = re.compile(r"(/(home|Users|root|tmp|work|mnt|private)/|[A-Za-z]:\\)")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
INERT = re.compile(r"^(\w+)\s*=.*#\s*inert:\s*\S+", re.MULTILINE)


def read(path: Path) -> NotebookNode:
    """The notebook, checked against the notebook schema."""
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


def told(notebook: NotebookNode) -> list[NotebookNode]:
    """Cells, in order, without the one that installs."""
    return [cell for cell in notebook.cells if not has_tag(cell, SETUP_TAGS[0])]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells, in order, without the one that installs."""
    return [cell for cell in told(notebook) if cell.cell_type == "code"]


def has_tag(cell: NotebookNode, tag: str) -> bool:
    """Whether the cell carries `tag`."""
    return tag in cell.metadata.get("tags", [])


def nodes(cell: NotebookNode) -> list[ast.AST]:
    """The syntax nodes of a code cell; none when it is not plain Python, which `code_faults` reports."""
    try:
        return list(ast.walk(ast.parse(cell.source)))
    except SyntaxError:
        return []


def parameters_cell(notebook: NotebookNode) -> NotebookNode:
    """The one cell tagged ``parameters``."""
    (cell,) = (c for c in code_cells(notebook) if has_tag(c, "parameters"))
    return cell


def parameters(notebook: NotebookNode) -> dict[str, object]:
    """Names and default values, as the parameters cell declares them."""
    body = ast.parse(parameters_cell(notebook).source).body
    return {node.targets[0].id: ast.literal_eval(node.value) for node in body}


def inert(notebook: NotebookNode) -> set[str]:
    """Parameters marked ``# inert: reason`` on their line."""
    return set(INERT.findall(parameters_cell(notebook).source))


def declared_artefacts(notebook: NotebookNode) -> set[tuple[str, str]]:
    """``("table", "table2_1")`` for every ``.table("table2_1", ...)``; the same for figures."""
    calls = [node for cell in code_cells(notebook) for node in nodes(cell) if isinstance(node, ast.Call) and node.args]
    made = [call for call in calls if getattr(call.func, "attr", "") in ("table", "figure")]
    return {(call.func.attr, call.args[0].value) for call in made if isinstance(call.args[0], ast.Constant)}


def form_faults(notebook: NotebookNode) -> Iterator[str]:
    """Kernel, format, ids, title, outputs left behind."""
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"
    if (notebook.nbformat, notebook.nbformat_minor >= 5) != (4, True):
        yield "the format is not 4.5 or later, so cells have no ids"
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):
        yield "a cell id is missing or used twice"
    if "widgets" in notebook.metadata:
        yield "widget state is saved"
    if notebook.cells[0].cell_type != "markdown" or not notebook.cells[0].source.startswith("# "):
        yield "the first cell is not a title"
    for cell in code_cells(notebook):
        if cell.outputs or cell.execution_count is not None:
            yield f"cell {cell.get('id')}: outputs are saved"


def setup_faults(notebook: NotebookNode) -> Iterator[str]:
    """After the title, folded and without outputs: the one cell that installs nbkit where it is missing."""
    found = [k for k, cell in enumerate(notebook.cells) if has_tag(cell, SETUP_TAGS[0])]
    if found != [1]:
        yield "the second cell, and only it, must be tagged setup"
        return
    cell = notebook.cells[1]
    if (cell.cell_type, cell.source, list(cell.metadata.tags)) != ("code", SETUP, SETUP_TAGS):
        yield "the setup cell is not contract.SETUP"
    if not cell.metadata.get("jupyter", {}).get("source_hidden"):
        yield "the setup cell is not folded"
    if cell.outputs or cell.execution_count is not None:
        yield "the setup cell: outputs are saved"


def parameter_faults(notebook: NotebookNode) -> Iterator[str]:
    """Exactly one parameters cell, first of all code, of plain literals, with the names every run sets."""
    tagged = [cell for cell in notebook.cells if has_tag(cell, "parameters")]
    if len(tagged) != 1 or tagged[0] is not code_cells(notebook)[0]:
        yield "the first code cell, and only it, must be tagged parameters"
        return
    for node in ast.parse(tagged[0].source).body:
        if not _plain(node):
            yield f"parameters cell: {ast.unparse(node)}: not name = plain literal"
            return
    if missing := PARAMETERS - set(parameters(notebook)):
        yield f"parameters cell: {', '.join(sorted(missing))} missing"
    later = {
        node.id for cell in code_cells(notebook)[1:] for node in nodes(cell)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for name in sorted(set(parameters(notebook)) - inert(notebook) - later):
        yield f"parameters cell: {name} is never read and not marked inert"


def _plain(node: ast.stmt) -> bool:
    # papermill turns tuples into strings, dict keys into strings, and does not understand `int | None`
    named = isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    try:
        value = ast.literal_eval(node.value) if named else ...
    except ValueError:
        return False
    items = value if isinstance(value, list) else [value]
    return named and all(isinstance(v, str | int | float | None) for v in items)


def code_faults(notebook: NotebookNode) -> Iterator[str]:
    """Long cells and lines, much code, definitions, magics, foreign imports, places on one machine."""
    total = sum(len(cell.source.splitlines()) for cell in code_cells(notebook))
    if total > NOTEBOOK_LINES:
        yield f"{total} lines of code, at most {NOTEBOOK_LINES}"
    for cell in code_cells(notebook):
        where = f"cell {cell.get('id')}"
        lines = cell.source.splitlines()
        if len(lines) > CELL_LINES and not has_tag(cell, "parameters"):
            yield f"{where}: more than {CELL_LINES} lines"
        if any(len(line) > LINE_LENGTH for line in lines):
            yield f"{where}: a line of more than {LINE_LENGTH} characters"
        if cell.source.strip() and not nodes(cell):
            yield f"{where}: not plain Python (a magic, a !command, or a slip)"
        for node in nodes(cell):
            yield from (f"{where}: {fault}" for fault in _node_faults(node))
    for cell in notebook.cells:
        if SOMEBODYS_FOLDER.search(cell.source):
            yield f"cell {cell.get('id')}: a path of one machine"


def _node_faults(node: ast.AST) -> Iterator[str]:
    named = isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
    if named or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield "defines a function or class"
    inner = [part for part in ast.walk(node) if part is not node]
    if isinstance(node, COMPREHENSIONS) and any(isinstance(part, COMPREHENSIONS) for part in inner):
        yield "nests comprehensions"
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or "."] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        for top in {name.split(".")[0] for name in names} - LIBRARIES - sys.stdlib_module_names:
            yield f"imports {top or 'relatively'}"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"(~|/\w+)(/|$)", node.value):
        yield "an absolute path"


def story_faults(notebook: NotebookNode) -> Iterator[str]:
    """Text before every code cell; at the end verdicts, claims and provenance, which the reader of a paper can skip."""
    cells = told(notebook)
    for before, cell in zip(cells, cells[1:], strict=False):
        if cell.cell_type == "code" and before.cell_type != "markdown":
            yield f"cell {cell.get('id')}: no text before it"
    ends = [next((tag for tag in END if has_tag(cell, tag)), None) for cell in code_cells(notebook)[-len(END):]]
    if ends != list(END):
        yield f"the last code cells are not {', '.join(END)}"
