"""Who may import whom (design: every arrow goes to a lower rank), and which library lives behind which fence."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Sequence

import pytest

from tests.sources import Import, Source, sources

MAY_IMPORT = {
    "core": "",
    "geometry": "core",
    "claims": "core",
    "training": "core",
    "data": "core geometry",
    "nets": "core geometry",
    "losses": "core geometry",
    "metrics": "core geometry",
    "phantom": "core geometry data",
    "figures": "core claims metrics",
    "cohorts": "core data phantom",
    "papers": "core geometry data nets losses metrics training",
    "widgets": "core figures",
    "runner": "core claims figures",
    "cli": "core data cohorts claims runner",
}

# a library is imported below its folder, or in its one file, and nowhere else
FENCES = {
    "nibabel": "nbkit/data/nifti.py",
    "nilearn": "nbkit/phantom/anatomy.py",
    "SimpleITK": "nbkit/data/preprocess.py",
    "pooch": "nbkit/data/manifest.py",
    "requests": "nbkit/data/manifest.py",
    "urllib": "nbkit/data/manifest.py",
    "http": "nbkit/data/manifest.py",
    "matplotlib": "nbkit/figures/",
    "seaborn": "nbkit/figures/",
    "ipywidgets": "nbkit/widgets/",
    "anywidget": "nbkit/widgets/",
    "ipyniivue": "nbkit/widgets/",
    "papermill": "nbkit/runner/",
    "nbclient": "nbkit/runner/",
    "nbformat": "nbkit/runner/",
    "jupyter_client": "nbkit/runner/",
}

# what a GPU machine with few packages has; beyond it, a system asks for one library at most
LEAN = ("core", "geometry", "training", "nets", "losses", "metrics", "papers")
BARE = {"numpy", "torch", "safetensors", "tqdm"}
BRINGS = {"sklearn": {"scipy", "joblib"}, "statsmodels": {"scipy", "pandas"}}


def package(module: str) -> str:
    """``nbkit.core.checks`` belongs to ``core``; the root itself, and names it defines, to ``""``."""
    part = (module.split(".") + [""])[1]
    return part if part in MAY_IMPORT else ""


def target(found: Import, modules: set[str]) -> str:
    """The module an import reaches: ``nbkit.core.checks.known`` reaches ``nbkit.core.checks``."""
    name = found.name
    while name not in modules and "." in name:
        name = name.rpartition(".")[0]
    return name


def arrow_faults(source: Source) -> Iterator[str]:
    """Relative imports, imports of nbkit inside a function, and arrows the table lacks."""
    mine = package(source.module)
    for found in source.imports:
        where = f"{source.path}:{found.line}: {found.name}"
        if found.relative:
            yield f"{where}: relative import"
        if found.top != "nbkit":
            continue
        if found.in_function:
            yield f"{where}: import inside a function"
        theirs = package(found.name)
        if theirs and theirs != mine and theirs not in MAY_IMPORT.get(mine, "").split():
            yield f"{where}: {mine or 'nbkit'} may not import {theirs}"


def sibling_faults(source: Source) -> Iterator[str]:
    """Systems and cohorts know nothing of each other; only ``cohorts/__init__`` is a door."""
    mine = package(source.module)
    for found in source.imports if mine in ("papers", "cohorts") and not source.is_package else ():
        named = ".".join(found.name.split(".")[:3])
        if package(found.name) == mine and named != source.module:
            yield f"{source.path}:{found.line}: {found.name}: a sibling"


def fence_faults(source: Source) -> Iterator[str]:
    """Third-party libraries outside their fence."""
    for found in source.imports:
        fence = FENCES.get(found.top)
        if fence and not source.path.startswith(fence):
            yield f"{source.path}:{found.line}: {found.name}: only in {fence}"


def edges(files: Sequence[Source]) -> dict[str, set[str]]:
    """The modules each module of nbkit imports."""
    modules = {s.module for s in files}
    return {
        s.module: {target(f, modules) for f in s.imports if f.top == "nbkit"} - {s.module, "nbkit"} for s in files
    }


def reached(module: str, graph: dict[str, set[str]]) -> set[str]:
    """`module` and all it imports, directly or not."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(graph.get(name, ()))
    return seen


def lean_faults(files: Sequence[Source]) -> Iterator[str]:
    """Modules for training that need more than the bare libraries and one more, through whatever they import."""
    graph, by_name = edges(files), {s.module: s for s in files}
    for source in files:
        if package(source.module) in LEAN:
            needed = (by_name[m].imports for m in reached(source.module, graph) if m in by_name)
            extra = {f.top for imports in needed for f in imports if f.third_party} - BARE
            extra -= set().union(*(BRINGS.get(name, ()) for name in extra))
            if len(extra) > 1:
                yield f"{source.path}: needs {', '.join(sorted(extra))}: one of them at most"


@pytest.mark.parametrize("check", [arrow_faults, sibling_faults, fence_faults])
def test_every_import_is_allowed(check):
    assert [fault for source in sources() for fault in check(source)] == []


def test_every_module_has_a_rank():
    assert {s.module for s in sources() if not package(s.module)} == {"nbkit"}


def test_there_is_no_import_circle():
    list(graphlib.TopologicalSorter(edges(sources())).static_order())  # raises CycleError with the circle


def test_training_needs_few_libraries():
    assert list(lean_faults(sources())) == []


def test_a_network_trains_with_the_bare_libraries():
    graph, by_name = edges(sources()), {s.module: s for s in sources()}
    needed = reached("nbkit.papers.conv_synthesis", graph) & by_name.keys()
    assert {f.top for module in needed for f in by_name[module].imports if f.third_party} <= BARE


def test_the_table_itself_only_points_down():
    table = {name: allowed.split() for name, allowed in MAY_IMPORT.items()}
    list(graphlib.TopologicalSorter(table).static_order())


BAD = {
    "papers see claims": ("nbkit/papers/x.py", "from nbkit.claims import ledger", "papers may not import claims"),
    "papers see cohorts": ("nbkit/papers/x.py", "import nbkit.cohorts", "papers may not import cohorts"),
    "through the root": ("nbkit/metrics/x.py", "from nbkit import losses", "metrics may not import losses"),
    "core looks up": ("nbkit/core/x.py", "from nbkit.data.nifti import read_image", "core may not import data"),
    "the root looks down": ("nbkit/__init__.py", "from nbkit import core", "nbkit may not import core"),
    "in a function": ("nbkit/papers/x.py", "def f():\n    import nbkit.core", "inside a function"),
    "in a method": ("nbkit/papers/x.py", "class A:\n  def f(self):\n    from nbkit import core", "inside a function"),
    "by string": ("nbkit/cli.py", "import importlib\nimportlib.import_module('nbkit.data')", "inside a function"),
    "computed": ("nbkit/cli.py", "def f(name):\n    return __import__(name)", "inside a function"),
    "relative": ("nbkit/core/x.py", "from . import checks", "relative import"),
    "relative parent": ("nbkit/papers/x.py", "from ..core.checks import known", "relative import"),
    "a sibling": ("nbkit/papers/x.py", "from nbkit.papers.y import z", "a sibling"),
    "a sibling cohort": ("nbkit/cohorts/x.py", "from nbkit.cohorts import y", "a sibling"),
    "plotting": ("nbkit/papers/x.py", "import matplotlib.pyplot as plt", "only in nbkit/figures/"),
    "plotting, hidden": ("nbkit/cli.py", "def f():\n    import seaborn", "only in nbkit/figures/"),
    "NIfTI": ("nbkit/cohorts/x.py", "import nibabel as nib", "only in nbkit/data/nifti.py"),
    "downloads": ("nbkit/cohorts/x.py", "from urllib.request import urlopen", "only in nbkit/data/manifest.py"),
}


@pytest.mark.parametrize(("path", "text", "fault"), BAD.values(), ids=BAD)
def test_a_bad_import_is_found(path, text, fault):
    source = Source(path, text)
    found = [*arrow_faults(source), *sibling_faults(source), *fence_faults(source)]
    assert len(found) == 1 and fault in found[0]


GOOD = {
    "a lower rank": ("nbkit/papers/x.py", "from nbkit.core.checks import known\nimport nbkit.nets.unet"),
    "its own package": ("nbkit/figures/x.py", "from nbkit.figures.style import look\nimport matplotlib"),
    "the version": ("nbkit/training/x.py", "from nbkit import __version__"),
    "the door": ("nbkit/cohorts/__init__.py", "from nbkit.cohorts import open_ms"),
    "optional": ("nbkit/cli.py", "def f():\n    import torch"),
}


@pytest.mark.parametrize(("path", "text"), GOOD.values(), ids=GOOD)
def test_a_good_import_passes(path, text):
    source = Source(path, text)
    assert [*arrow_faults(source), *sibling_faults(source), *fence_faults(source)] == []


def test_a_circle_is_found():
    circle = (
        Source("nbkit/core/a.py", "from nbkit.core.b import f"),
        Source("nbkit/core/b.py", "from nbkit.core import c"),
        Source("nbkit/core/c.py", "import nbkit.core.a"),
    )
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(edges(circle)).static_order())


def test_a_library_too_many_is_found_through_what_is_imported():
    files = (
        Source("nbkit/papers/a.py", "import sklearn.svm\nfrom nbkit.core.b import f"),
        Source("nbkit/core/b.py", "import torch, pandas"),
    )
    assert list(lean_faults(files)) == ["nbkit/papers/a.py: needs pandas, sklearn: one of them at most"]
