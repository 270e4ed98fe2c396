"""What the pages of the site say: verdicts and pictures at the largest profile there is, and this run's notebooks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.claims.ledger import load_paper, package_of
from nbkit.claims.observe import load_artefacts, load_observations
from nbkit.claims.tables import BENCHMARK_PAGE, entrants_lead, printed_beside_ours
from nbkit.claims.verdicts import SCORECARD, Scorecard, load_scorecard
from nbkit.core.config import PROFILES
from nbkit.figures.web import Embedded, smaller
from nbkit.runner.glance import scatters, untold_table
from nbkit.runner.report import EXPLORER, THUMB, Shown, paper_page
from nbkit.runner.times import SECONDS

PICTURES = "_static/pictures"
FRONT = ("wei2019_flair", "inbrainsyn", "islam2020_pet")
"""Papers whose pictures the first page shows: one of each kind, a contrast, a forecast, a new image."""


@dataclass(frozen=True)
class Told:
    """Verdicts of one cohort at one profile, and the folder that holds them."""

    folder: Path
    profile: str
    cohort: str

    @property
    def card(self) -> Scorecard:
        """Verdicts on all its papers."""
        return load_scorecard(self.folder)

    @property
    def said(self) -> str:
        """The profile and the data, in words."""
        return f"{self.profile} profile, {self.cohort.replace('_', ' ')} data"


def told(results: Path, run: Mapping[str, Any], reference: Path) -> dict[str, Told]:
    """The largest profile of each cohort, among committed references and this run; the run's own cohort first.

    Of two folders of one profile this run's is taken, since it is newer.
    """
    found: dict[str, Told] = {}
    named = [Told(f, *f.name.split("-", 1)) for f in sorted(reference.glob("*-*")) if (f / SCORECARD).is_file()]
    for one in (*named, Told(results, run["profile"], run["cohort"])):
        there = found.get(one.cohort)
        if one.profile in PROFILES and (not there or _size(one) >= _size(there)):
            found[one.cohort] = one
    return dict(sorted(found.items(), key=lambda item: item[0] != run["cohort"]))


def _size(one: Told) -> int:
    return PROFILES.index(one.profile)


class Filed(Shown):
    """Pictures of a results folder or a reference, as files below ``_static`` of the site."""

    def __init__(self, folder: Path, artefacts: Iterable[Mapping[str, Any]], static: Path) -> None:
        super().__init__(folder, artefacts)
        self.static = static

    def held(self, path: Path, most: int) -> Embedded:
        """A picture file as WebP of its own, at most `most` pixels wide."""
        data, width, height = smaller(path, most=most)
        name = f"{path.stem}-{most}.webp"
        self.static.mkdir(parents=True, exist_ok=True)
        (self.static / name).write_bytes(data)
        return Embedded(f"{PICTURES}/{name}", width, height)


def shown(one: Told, results: Path, stage: Path) -> Filed:
    """The pictures that go with verdicts; those that the reference lacks are this run's, and say so.

    A reference of before captions were kept has its pictures, called by their names; who drew them is known from this
    run.
    """
    ours = {a["name"]: a | {"file": str(results.absolute() / a["file"])}
            for a in load_artefacts(results)["artefacts"] if a["kind"] == "figure"}
    kept = {a["name"]: a for a in load_artefacts(one.folder)["artefacts"] if a["kind"] == "figure"}
    named = {
        file.stem: {"kind": "figure", "name": file.stem, "file": file.name, "caption": file.stem.replace("_", " "),
                    "notebook": ours.get(file.stem, {}).get("notebook", ""), "source": one.said}
        for file in sorted(one.folder.glob("*.png"))
    }
    return Filed(one.folder, (ours | named | kept).values(), stage / PICTURES)


def site_values(results: Path, record: Mapping[str, Any], reference: Path, stage: Path) -> dict[str, Any]:
    """What the templates of the site are filled with; pictures are written below `stage`."""
    by_cohort = told(results, record["run"], reference)
    first = next(iter(by_cohort.values()))
    card, observations, pictures = first.card, load_observations(first.folder), shown(first, results, stage)
    ledgers = sorted(map(load_paper, card.papers), key=lambda p: p.paper.notebook)
    pages = {p.name: _with_addresses(paper_page(p, card, observations, pictures)) for p in ledgers}
    mine = Filed(results, load_artefacts(results)["artefacts"], stage / PICTURES)
    judged = next((one for one in by_cohort.values() if (one.folder / BENCHMARK_PAGE).is_file()), None)
    return {
        "record": record, "run": record["run"], "first": first, "counts": card.counts(), "total": len(card.claims),
        "papers": list(pages.values()), "front": [pages[name] for name in FRONT if name in pages],
        "cohorts": [(one, {p.name: _mine(one.card, p.prefix).counts() for p in ledgers}) for one in by_cohort.values()],
        "costs": [(one.said, times) for one in by_cohort.values()
                  if one.folder != results and (times := kept_seconds(one.folder))],
        "scatters": scatters(printed_beside_ours(card, observations)),
        "untold": untold_table({p["source"].short: p["claims"] for p in pages.values()}),
        "gallery": _gallery(pictures, pages), "notebooks": notebooks(results, record, mine),
        "judged": judged and {"page": judged.folder / BENCHMARK_PAGE, "said": entrants_lead(judged.folder),
                              "by": judged.said},
        "explorer": (results / EXPLORER).is_file(), "view": mine.picture("explore_beside"),
    }


def _with_addresses(page: dict[str, Any]) -> dict[str, Any]:
    source = page["source"]
    return page | {"address": f"papers/{source.name}.html", "package": package_of(source.name)}


def _mine(card: Scorecard, prefix: str) -> Scorecard:
    return Scorecard(tuple(c for c in card.claims if c.id.startswith(f"{prefix}.")))


def _gallery(pictures: Filed, pages: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Small pictures by paper, each with the place where it stands whole."""
    found = []
    for page in pages.values():
        mine = [a for a in pictures.artefacts if (a["kind"], a["notebook"]) == ("figure", page["source"].notebook)]
        small = [{**pictures.picture(a["name"], most=THUMB), "to": f"{page['address']}#figure-{a['name']}"}
                 for a in mine]
        found += [{"title": page["source"].short, "pictures": small}] * bool(small)
    return found


def notebooks(results: Path, record: Mapping[str, Any], pictures: Shown) -> list[dict[str, Any]]:
    """The executed notebooks of a run: file name, title, seconds, peak memory, status; those that ended first."""
    stamps = {s["notebook"]: s for s in record["notebooks"]}
    files = sorted(f for f in results.glob("[0-9][0-9]_*.ipynb") if not f.name.endswith(".failed.ipynb"))
    return [{"name": f.stem, "title": pictures.title(f.stem), **stamps.get(f.stem, {"seconds": 0, "peak_bytes": 0})}
            for f in files]


def kept_seconds(folder: Path) -> dict[str, float]:
    """Seconds by notebook that a reference keeps; empty where it keeps none."""
    file = folder / SECONDS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def read_record(results: Path) -> dict[str, Any]:
    """The content of ``provenance.json``."""
    return json.loads((results / "provenance.json").read_text(encoding="utf-8"))
