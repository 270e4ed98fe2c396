"""``nbkit site``: a results folder and the committed references as a folder of pages that any static host can serve."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbkit
from nbkit.claims.observe import load_observations
from nbkit.claims.tables import short_number
from nbkit.core.checks import require
from nbkit.core.files import atomic, write_text
from nbkit.core.page import LOOK, filled
from nbkit.figures.tables import VERDICTS
from nbkit.runner import report
from nbkit.runner.folder import LEVELS
from nbkit.runner.places import scratch_folder
from nbkit.runner.provenance import ROOT
from nbkit.site.api import api_pages
from nbkit.site.links import faults
from nbkit.site.pages import read_record, site_values
from nbkit.site.sections import section

MARK = ".nbkit-site"
"""Lies in every folder that this module wrote, and may therefore write again."""
PACKAGES = ("sphinx", "myst_nb", "pydata_sphinx_theme")
REPORT = "report"
_OTHER = re.compile(r"\[(?P<words>[^\]]+)\]\((?P<name>\d\d_\w+)\.ipynb(#[^)]*)?\)")
"""A link to a notebook."""


def build_site(
    results: Path | str, to: Path | str, *, reference: Path = ROOT / "reference", docs: Path = ROOT / "docs"
) -> Path:
    """Build the site of a finished run.

    Parameters
    ----------
    results : path
        A results folder of embedded or open data, ``results/laptop-embedded``.
    to : path
        The folder of the site: a new one, an empty one, or one that was built before; it is replaced whole.
    reference : path
        Committed references; what holds is told at the largest profile among them and the run.
    docs : path
        Sphinx settings and templates.

    Returns
    -------
    path
        Of the first page.

    Raises
    ------
    NbkitError
        Without a run, on restricted data, for a folder that holds something else, without Sphinx, and for pages with
        broken links.
    """
    results, to = Path(results), Path(to)
    _check(results, to, docs)
    record = read_record(results)
    _check_open(results, record)
    with scratch_folder() as scratch, atomic(to) as part:
        write_sources(results, record, reference, docs, scratch)
        _sphinx(scratch, part)
        for left in ("_static/webpack-macros.html", ".buildinfo", "objects.inv"):
            (part / left).unlink(missing_ok=True)
        found = faults(part)
        require(
            not found, f"site: {to.name}", expected="no broken link and nothing fetched from elsewhere",
            found="; ".join(found[:5]), remedy="Mend docs/ or the notebook that says so.",
        )
        for name in (MARK, ".nojekyll"):
            (part / name).touch()
    return to / "index.html"


def _check(results: Path, to: Path, docs: Path) -> None:
    """A run, Sphinx, the sources, and a folder that may be replaced."""
    require(
        (results / "provenance.json").is_file(), f"site: {results.name}", found="none",
        expected="a results folder with provenance.json",
        remedy="Run `make reproduce` with the same PROFILE and COHORT first; PROFILE=smoke takes minutes.",
    )
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    require(
        not missing, "site", expected="Sphinx, MyST-NB and its theme", found=f"no {', '.join(missing)}",
        remedy="`make env` brings them.",
    )
    require(
        docs.is_dir(), "site: docs", expected="the clone of the repository", found="an installed package alone",
        remedy="Clone the repository: the sources of the site are no part of the package.",
    )
    ours = not to.exists() or (to.is_dir() and ((to / MARK).exists() or not any(to.iterdir())))
    require(
        ours, f"site: {to.name}", expected="a new or empty folder, or a site that was built before",
        found="other files", remedy="Name another folder with --to: the whole folder is replaced.",
    )


def _check_open(results: Path, record: Mapping[str, Any]) -> None:
    levels = {o.level for o in load_observations(results).values()} - {""}
    own = results.name.startswith("restricted-") or levels - set(LEVELS)
    require(
        not own, f"site: {results.name}", expected="a run on embedded or open data", found="restricted data",
        remedy="A site is for everybody: nothing of your own data is put there. Its report stays with you.",
    )


def write_sources(results: Path, record: Mapping[str, Any], reference: Path, docs: Path, stage: Path) -> None:
    """Write what Sphinx reads: `docs` with its templates filled, executed notebooks, API pages, report and explorer."""
    shutil.copytree(docs, stage, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.j2"))
    values = site_values(results, record, reference, stage)
    for template in sorted(docs.rglob("*.md.j2")):
        name = template.relative_to(docs).with_suffix("")
        if template.name == "paper.md.j2":
            for page in values["papers"]:
                _fill(template, stage / "papers" / f"{page['source'].name}.md", values | {"p": page})
        else:
            _fill(template, stage / name, values)
    for notebook in values["notebooks"]:
        source, place = results / f"{notebook['name']}.ipynb", stage / "notebooks" / f"{notebook['name']}.ipynb"
        write_text(place, json.dumps(_introduced(source, values), ensure_ascii=False))
    for name, text in api_pages(Path(nbkit.__file__).parent):
        write_text(stage / "api" / f"{name}.rst", text)
    judged = [values["judged"]["page"]] if values["judged"] else []
    for page in (p for p in (results / "index.html", results / report.EXPLORER, *judged) if p.is_file()):
        (stage / "extra" / REPORT).mkdir(parents=True, exist_ok=True)
        shutil.copy(page, stage / "extra" / REPORT)
    write_text(stage / "_static" / "report.css", _nested())


def _fill(template: Path, place: Path, values: Mapping[str, Any]) -> None:
    text = filled(
        template, beside=(template.parents[1], report.TEMPLATE.parent), verdicts=VERDICTS,
        filters={"verdict": report.verdict_parts, "short": short_number},
        readme=lambda heading, level=2: section(ROOT / "README.md", heading, level=level),
        contributing=lambda heading, level=2: section(ROOT / "CONTRIBUTING.md", heading, level=level), **values,
    )
    write_text(place, text)


def _introduced(notebook: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """An executed notebook with a line below its title: how it ran, and where its paper's page is.

    Links to notebooks that did not run become plain words.
    """
    node, run = json.loads(notebook.read_text(encoding="utf-8")), values["run"]
    ran = {n["name"] for n in values["notebooks"]}
    for cell in node["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            cell["source"] = _OTHER.sub(lambda m: m[0] if m["name"] in ran else m["words"], text)
    page = next((p for p in values["papers"] if p["source"].notebook == notebook.stem), None)
    more = f" What of the paper holds: [{page['source'].short}](../papers/{page['source'].name}.md)." if page else ""
    line = f"*As it ran: {run['profile']} profile, {run['cohort']} data, seed {run['seed']}.*{more}"
    node["cells"].insert(1, {"cell_type": "markdown", "id": "as-it-ran", "metadata": {}, "source": line})
    return node


def _nested() -> str:
    """The styles of the report for everything inside ``.nbkit``, so that they leave the theme alone."""
    styles = re.sub(r"^(\s*):root\b", r"\1&", LOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return f".nbkit {{\n{styles}{report.TEMPLATE.with_name('report.css').read_text(encoding='utf-8')}\n}}\n"


def _sphinx(stage: Path, part: Path) -> None:
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", str(stage / "doctrees"), str(stage), str(part)],
        env=settings, capture_output=True, text=True,
    )
    require(
        done.returncode == 0, "site: Sphinx", expected="pages without an error", remedy="Mend docs/ or the docstring.",
        found=" ".join(done.stderr.split()[-40:]) or "no message",
    )
