"""Who may import whom (design: every arrow goes to a lower rank), and which library lives behind which fence."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterator, Sequence

import pytest

from tests.sources import ROOT, Import, Source, sources

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
    "widgets": "core figures papers",
    "runner": "core claims figures",
    "site": "core claims figures runner",
    "shipped": "core data training",
    "systems": "core data metrics papers training",
    "entrants": "core data figures training",
    "export": "core data cohorts figures metrics shipped systems",
    "benchmark": "core data cohorts entrants export figures metrics papers shipped systems",
    "session": "core claims cohorts entrants figures runner shipped training",
    "doctor": "core data cohorts runner",
    "caching": "core data runner",
    "train": "core data cohorts papers shipped systems training",
    "cli": "core data cohorts caching claims benchmark entrants export runner site doctor train",
}
DRAWS = "figures"
"""Modules of a paper whose names end like this draw; they alone may import nbkit.figures, and they fit nothing."""
SHARED = ("trajectories", "synthesis")
"""Folders of papers that other papers may import."""
SCORES = ("experiments", "metrics", "observer")
"""Endings of the names of modules of a paper that score: they may not import a loss."""

# a library is imported below its folder, or in its one file, and nowhere else
FENCES = {
    "nibabel": ("nbkit/data/nifti.py", "nbkit/data/nifti_header.py", "nbkit/figures/qc.py"),
    "nilearn": ("nbkit/phantom/anatomy.py", "nbkit/figures/"),
    "SimpleITK": "nbkit/data/preprocess.py",
    "pooch": "nbkit/data/fetched.py",
    "requests": ("nbkit/data/download.py", "nbkit/data/fetched.py"),
    "urllib": ("nbkit/data/download.py", "nbkit/site/links.py"),
    "http": "nbkit/data/download.py",
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
TABLES = {"pandas"}
"""What scores are handed on in: beside any library; a network still trains without it."""
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


def folder(module: str) -> str:
    """The paper a module belongs to: ``nbkit.papers.daninet.caae`` to ``daninet``."""
    return (module.split(".") + [""] * 3)[2] if package(module) == "papers" else ""


def draws(module: str) -> bool:
    """Whether a module of a paper draws."""
    return bool(folder(module)) and module.split(".")[-1].endswith(DRAWS)


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
        theirs, allowed = package(found.name), MAY_IMPORT.get(mine, "").split()
        if theirs and theirs != mine and theirs not in allowed + ["figures"] * draws(source.module):
            yield f"{where}: {mine or 'nbkit'} may not import {theirs}"


def sibling_faults(source: Source) -> Iterator[str]:
    """Papers know nothing of each other but what is shared, cohorts nothing at all; ``cohorts/__init__`` is a door."""
    mine = package(source.module)
    for found in source.imports:
        where, other = f"{source.path}:{found.line}: {found.name}", folder(found.name)
        if mine == "papers" and other and other not in (folder(source.module), *SHARED):
            yield f"{where}: another paper"
        if mine == "papers" and draws(target_name(found.name)) and not draws(source.module):
            yield f"{where}: only figures draw"
        if mine == "widgets" and other and other not in SHARED and not draws(target_name(found.name)):
            yield f"{where}: widgets show what figures draw, they run no paper"
        if mine == "cohorts" and package(found.name) == mine and not source.is_package:
            yield f"{where}: a sibling"


def target_name(name: str) -> str:
    """``nbkit.papers.daninet.figures.survey_sheet`` to ``nbkit.papers.daninet.figures``."""
    return ".".join(name.split(".")[:4])


def scoring_faults(source: Source) -> Iterator[str]:
    """What is optimised never grades itself: modules of a paper that score import no loss, shared or of the paper."""
    scores = folder(source.module) and source.module.split(".")[-1].endswith(SCORES)
    for found in source.imports if scores else ():
        last = target_name(found.name).split(".")[-1]
        own_loss = folder(found.name) and ("loss" in last or last == "constraints")
        if own_loss or (package(found.name) == "losses" and not found.name.startswith("nbkit.losses.perceptual")):
            yield f"{source.path}:{found.line}: {found.name}: what scores may not see a loss"


def blindness_faults(source: Source) -> Iterator[str]:
    """What fits and predicts cannot read what was published."""
    if package(source.module) in ("papers", "training", "metrics", "nets", "losses"):
        readers = ("tomllib", "nbkit.core.toml_files")
        if "published.toml" in source.text or any(found.name.startswith(readers) for found in source.imports):
            yield f"{source.path}: reads what was published"


def fence_faults(source: Source) -> Iterator[str]:
    """Third-party libraries outside their fence."""
    for found in source.imports:
        fence = FENCES.get(found.top)
        if fence == "nbkit/figures/" and draws(source.module):
            continue
        if fence and not source.path.startswith(fence):
            places = fence if isinstance(fence, str) else " or ".join(fence)
            yield f"{source.path}:{found.line}: {found.name}: only in {places}"


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
        if package(source.module) in LEAN and not draws(source.module):
            needed = (by_name[m].imports for m in reached(source.module, graph) if m in by_name)
            extra = {f.top for imports in needed for f in imports if f.third_party} - BARE - TABLES
            extra -= set().union(*(BRINGS.get(name, ()) for name in extra))
            if len(extra) > 1:
                yield f"{source.path}: needs {', '.join(sorted(extra))}: one of them at most"


CHECKS = (arrow_faults, sibling_faults, fence_faults, scoring_faults, blindness_faults)


@pytest.mark.parametrize("check", CHECKS)
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
    needed = reached("nbkit.papers.flair.conv_synthesis", graph) & by_name.keys()
    assert {f.top for module in needed for f in by_name[module].imports if f.third_party} <= BARE


def test_the_table_itself_only_points_down():
    table = {name: allowed.split() for name, allowed in MAY_IMPORT.items()}
    list(graphlib.TopologicalSorter(table).static_order())


def test_the_table_that_people_read_says_the_same():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)(?:\.py)?` \| (\d+) \| ([^|]*)\|", text, re.MULTILINE)
    told = {name: (int(rank), may.split(";")[0].split()) for name, rank, may in rows}
    table = {name: allowed.split() for name, allowed in MAY_IMPORT.items()}
    assert len(rows) == len(told) and {name: may for name, (_, may) in told.items()} == table
    assert all(told[name][0] > told[lower][0] for name in table for lower in table[name])


BAD = {
    "papers see claims": ("nbkit/papers/x/a.py", "from nbkit.claims import ledger", "papers may not import claims"),
    "papers see cohorts": ("nbkit/papers/x/a.py", "import nbkit.cohorts", "papers may not import cohorts"),
    "through the root": ("nbkit/metrics/x.py", "from nbkit import losses", "metrics may not import losses"),
    "core looks up": ("nbkit/core/x.py", "from nbkit.data.nifti import read_image", "core may not import data"),
    "the root looks down": ("nbkit/__init__.py", "from nbkit import core", "nbkit may not import core"),
    "in a function": ("nbkit/papers/x/a.py", "def f():\n    import nbkit.core", "inside a function"),
    "in a method": ("nbkit/papers/x/a.py", "class A:\n  def f(self):\n    from nbkit import core", "inside a function"),
    "by string": ("nbkit/cli.py", "import importlib\nimportlib.import_module('nbkit.data')", "inside a function"),
    "computed": ("nbkit/cli.py", "def f(name):\n    return __import__(name)", "inside a function"),
    "relative": ("nbkit/core/x.py", "from . import checks", "relative import"),
    "relative parent": ("nbkit/papers/x/a.py", "from ..core.checks import known", "relative import"),
    "another paper": ("nbkit/papers/x/a.py", "from nbkit.papers.y.b import z", "another paper"),
    "fits and draws": ("nbkit/papers/x/a.py", "from nbkit.papers.x.figures import z", "only figures draw"),
    "shared figures": ("nbkit/papers/x/a.py", "from nbkit.figures.style import look", "papers may not import figures"),
    "a widget that runs": ("nbkit/widgets/x.py", "from nbkit.papers.y.b import z", "they run no paper"),
    "a score of its loss": ("nbkit/papers/x/experiments.py", "from nbkit.losses.regions import z", "see a loss"),
    "a score of its own loss": ("nbkit/papers/x/metrics.py", "from nbkit.papers.x.losses import z", "see a loss"),
    "the number hoped for": ("nbkit/papers/x/a.py", "path = 'published.toml'", "reads what was published"),
    "a sibling cohort": ("nbkit/cohorts/x.py", "from nbkit.cohorts import y", "a sibling"),
    "plotting": ("nbkit/papers/x/a.py", "import matplotlib.pyplot as plt", "only in nbkit/figures/"),
    "plotting, hidden": ("nbkit/cli.py", "def f():\n    import seaborn", "only in nbkit/figures/"),
    "NIfTI": ("nbkit/cohorts/x.py", "import nibabel as nib", "only in nbkit/data/nifti.py"),
    "downloads": ("nbkit/cohorts/x.py", "from urllib.request import urlopen", "only in nbkit/data/download.py"),
}


@pytest.mark.parametrize(("path", "text", "fault"), BAD.values(), ids=BAD)
def test_a_bad_import_is_found(path, text, fault):
    source = Source(path, text)
    found = [fault for check in CHECKS for fault in check(source)]
    assert len(found) == 1 and fault in found[0]


GOOD = {
    "a lower rank": ("nbkit/papers/x/a.py", "from nbkit.core.checks import known\nimport nbkit.nets.unet"),
    "a paper's figures": ("nbkit/papers/x/figures.py", "from nbkit.figures.style import look\nimport seaborn"),
    "what papers share": ("nbkit/papers/x/a.py", "from nbkit.papers.trajectories.slopes import line_at"),
    "a view of a figure": ("nbkit/widgets/x.py", "from nbkit.papers.y.figures import sheet"),
    "its own package": ("nbkit/figures/x.py", "from nbkit.figures.style import look\nimport matplotlib"),
    "the version": ("nbkit/training/x.py", "from nbkit import __version__"),
    "the door": ("nbkit/cohorts/__init__.py", "from nbkit.cohorts import open_ms"),
    "optional": ("nbkit/cli.py", "def f():\n    import torch"),
}


@pytest.mark.parametrize(("path", "text"), GOOD.values(), ids=GOOD)
def test_a_good_import_passes(path, text):
    source = Source(path, text)
    assert [fault for check in CHECKS for fault in check(source)] == []


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
        Source("nbkit/papers/x/a.py", "import sklearn.svm\nfrom nbkit.core.b import f"),
        Source("nbkit/core/b.py", "import torch, pandas, monai"),
    )
    assert list(lean_faults(files)) == ["nbkit/papers/x/a.py: needs monai, sklearn: one of them at most"]
