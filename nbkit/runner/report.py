"""``index.html``: one file that shows a run to a reader, a page for each paper, with nothing to fetch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbkit.claims.ledger import Paper, claimed, load_paper, papers
from nbkit.claims.kept import read_record, well_kept
from nbkit.claims.observe import Observation, load_artefacts, load_observations
from nbkit.claims.tables import (
    NOBODY_ENTERED, comparison_table, name_of, printed_beside_ours, rooms_table, short_number, verdict_table,
)
from nbkit.claims.verdicts import Scorecard, judge_folder
from nbkit.core.checks import require
from nbkit.core.files import write_text
from nbkit.core.page import look, page
from nbkit.figures.marks import title_of
from nbkit.figures.tables import VERDICTS
from nbkit.figures.web import ACROSS, Embedded, embedded
from nbkit.runner.glance import in_words, key_numbers, scatters, untold_table, why
from nbkit.runner.grid import grid, read_grid

TEMPLATE = Path(__file__).with_name("report.html.j2")
THUMB = 360
"""Pixels across of a picture on the first page."""
REPEATED = ("published, and ours", "the ends of each measure, and the room", "Every claim and its verdict")
"""Ends of the captions of tables that notebooks keep, and the pages of papers show anyway."""
EXPLORER = "explorer.html"
"""What notebook 09 leaves beside the report."""


def write_report(out_dir: Path | str, card: Scorecard, record: Mapping[str, Any]) -> Path:
    """Write ``index.html`` of a results folder.

    Parameters
    ----------
    out_dir : path
    card : Scorecard
        Of all papers in the folder.
    record : mapping
        The content of ``provenance.json``: run, notebooks, system.
    """
    out_dir = Path(out_dir)
    observations, found = load_observations(out_dir), load_artefacts(out_dir)["artefacts"]
    shown = Shown(out_dir, found)
    ledgers = sorted(map(load_paper, card.papers), key=lambda p: p.paper.notebook)
    pages = [paper_page(ledger, card, observations, shown) for ledger in ledgers]
    claims = {p["source"].short: p["claims"] for p in pages}
    rest = [s for s in record["notebooks"] if s["notebook"] not in {p.paper.notebook for p in ledgers}]
    text = page(
        TEMPLATE, filters={"verdict": verdict_parts, "short": short_number}, styles=look(TEMPLATE),
        record=record, system=record["system"], run=record["run"], counts=card.counts(), total=len(card.claims),
        papers=pages, verdicts=VERDICTS, untold=untold_table(claims),
        scatters=scatters(printed_beside_ours(card, observations)),
        absent=[p.paper for p in map(load_paper, papers()) if p.name not in card.papers],
        more=[{"title": shown.title(s["notebook"]), **shown.of(s["notebook"])} for s in rest],
        explorer=EXPLORER if (out_dir / EXPLORER).exists() else "", view=shown.picture("explore_beside", most=720),
        not_run=_not_run(card, record["notebooks"]),
        titles={s["notebook"]: shown.title(s["notebook"]) for s in record["notebooks"]},
        strangers=_said_of_strangers(shown), levels=sorted({o.level for o in observations.values()}),
        cohorts=sorted({o.cohort for o in observations.values()}),
    )
    return write_text(out_dir / "index.html", text)


def _said_of_strangers(shown: Shown) -> str:
    """What other people's models won, where any was judged."""
    said = shown.caption("entrants")
    return said if said != NOBODY_ENTERED else ""


def write_again(out_dir: Path | str) -> Path:
    """Write ``index.html`` of a finished run again, from what its folder holds.

    Raises
    ------
    NbkitError
        If the folder holds no run.
    """
    record = Path(out_dir) / "provenance.json"
    require(
        record.is_file(), f"report: {Path(out_dir).name}", expected="a results folder with provenance.json",
        found="none", remedy="Give the folder of a run: results/laptop-embedded.",
    )
    with well_kept(f"{record}"):
        return write_report(out_dir, judge_folder(out_dir), read_record(record))


class Shown:
    """What notebooks recorded to be shown, made ready for a page."""

    def __init__(self, out_dir: Path, artefacts: Iterable[Mapping[str, Any]]) -> None:
        self.out_dir = out_dir
        self.artefacts = [a for a in artefacts if (out_dir / a["file"]).exists()]

    def picture(self, name: str, *, most: int = ACROSS) -> dict[str, Any] | None:
        """A picture by its name, with its caption; None where the run has none."""
        found = next((a for a in self.artefacts if (a["kind"], a["name"]) == ("figure", name)), None)
        return found and {**found, **self.held(self.out_dir / found["file"], most)._asdict()}

    def caption(self, name: str) -> str:
        """Of a table by its name; empty where the run has none."""
        return next((a["caption"] for a in self.artefacts if (a["kind"], a["name"]) == ("table", name)), "")

    def held(self, path: Path, most: int) -> Embedded:
        """A picture file as a page holds it: in its address."""
        return embedded(path, most=most)

    def of(self, notebook: str, *, without: Sequence[str] = ()) -> dict[str, Any]:
        """Pictures and tables of a notebook, but for some pictures by name."""
        mine = [a for a in self.artefacts if a["notebook"] == notebook]
        return {
            "pictures": [self.picture(a["name"]) for a in mine if a["kind"] == "figure" and a["name"] not in without],
            "tables": [{**a, "grid": read_grid(self.out_dir / a["file"], header=a["header"], index=a["index"])}
                       for a in mine if a["kind"] == "table" and not a["caption"].endswith(REPEATED)],
        }

    def title(self, notebook: str) -> str:
        """The heading of a notebook without its number; its name where there is none."""
        for path in (self.out_dir / f"{notebook}.ipynb", self.out_dir / f"{notebook}.failed.ipynb"):
            cells = _cells(path) if path.exists() else []
            heading = re.match(r"#\s+(?:\d+\s*·\s*)?(.+)", "".join(cells[0]["source"])) if cells else None
            if heading:
                return heading[1].strip()
        return notebook.partition("_")[2].replace("_", " ") or notebook


def _cells(notebook: Path) -> list[dict[str, Any]]:
    """Of a notebook; none of one that cannot be read, which must not cost the report."""
    try:
        return json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError):
        return []


def paper_page(
    paper: Paper, card: Scorecard, observations: Mapping[str, Observation], shown: Shown
) -> dict[str, Any]:
    """What the page of a paper shows: its words, verdicts counted, key numbers, claims by place, pictures, tables."""
    mine = Scorecard(tuple(c for c in card.claims if c.id.startswith(paper.prefix + ".")))
    rooms = tuple(r for r in card.rooms if any(i.startswith(paper.prefix + ".") for i in r.of))
    judged = [n for n in card.numbers if n.verdict in ("within tolerance", "outside tolerance") and n.id in paper.ids]
    seen = [where for where in paper.places if any(n.id in observations for n in paper.at(where))]
    source = paper.paper
    return {
        "source": source, "says": claimed(paper.name), "counts": mine.counts(),
        "claims": sorted(mine.claims, key=lambda c: list(mine.counts()).index(c.verdict.split(":")[0])),
        "why": why(mine.claims), "key": key_numbers(paper, observations),
        "method": shown.picture(source.method), "hero": shown.picture(source.hero),
        "thumb": shown.picture(source.hero, most=THUMB), "by_place": _by_place(mine),
        "rooms": _rooms(rooms), "judged": [(paper.ids[n.id], name_of(paper.ids[n.id]), n) for n in judged],
        "beside": [(where, grid(comparison_table(paper, observations, where=where))) for where in seen],
        "notes": [(n.where, name_of(n), n.note) for n in paper.number if n.note and n.value is not None],
        **shown.of(source.notebook, without=(source.method, source.hero)),
    }


def _by_place(card: Scorecard) -> list[dict[str, Any]]:
    """Claims by table or figure, each place with its verdicts counted."""
    places: dict[str, list[Any]] = {}
    for claim in card.claims:
        places.setdefault(claim.where, []).append(claim)
    found = []
    for where, claims in places.items():
        part = Scorecard(tuple(claims))
        table = verdict_table(part).drop(columns=["where", "p (paired t)"]).set_index("claim")
        table["verdict"] = table["verdict"].map(_named)
        found.append({"where": where, "counts": part.counts(), "grid": grid(table)})
    return found


def _named(verdict: str) -> str:
    kind, colon, reason = verdict.partition(": ")
    return kind + colon + in_words(reason)


def _rooms(rooms: Sequence[Any]) -> dict[str, Any] | None:
    if not rooms:
        return None
    table = rooms_table(Scorecard(rooms=tuple(rooms)))
    return grid(table.assign(which=table["which"].map(title_of)))


def verdict_parts(text: str) -> dict[str, str] | None:
    """Sign, class, words and reason of a verdict; None for other text."""
    family = next((name for name in VERDICTS if text.startswith(name)), None)
    if family is None:
        return None
    kind = {"within tolerance": "reproduced", "outside tolerance": "contradicted"}.get(family, family)
    kind = "not-run" if kind == "not comparable" else kind.replace(" ", "-")
    return {"sign": VERDICTS[family][0], "kind": kind, "words": family, "reason": text.partition(": ")[2]}


def _not_run(card: Scorecard, notebooks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    absent = sum(n.verdict.startswith("not run") for n in card.numbers)
    return {"numbers": absent, "notebooks": [n for n in notebooks if n["status"] in ("failed", "stopped")]}
