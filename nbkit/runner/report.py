"""``index.html``: one file that shows a run to a reader, with nothing to fetch from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation, load_artefacts, load_observations
from nbkit.claims.tables import comparison_table, rooms_table, short_number, verdict_table
from nbkit.claims.verdicts import Scorecard
from nbkit.core.files import write_text
from nbkit.figures.tables import VERDICTS
from nbkit.runner.page import page

TEMPLATE = Path(__file__).with_name("report.html.j2")


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
    observations, index = load_observations(out_dir), load_artefacts(out_dir)
    text = page(
        TEMPLATE, filters={"verdict": _verdict, "short": short_number},
        record=record, system=record["system"], run=record["run"], counts=card.counts(), total=len(card.claims),
        papers=[_paper(name, card, observations) for name in card.papers], verdicts=VERDICTS,
        notebooks=[_notebook(s, index["artefacts"], out_dir) for s in record["notebooks"]],
        not_run=_not_run(card, record["notebooks"]), levels=sorted({o.level for o in observations.values()}),
        cohorts=sorted({o.cohort for o in observations.values()}),
    )
    return write_text(out_dir / "index.html", text)


def _paper(name: str, card: Scorecard, observations: Mapping[str, Observation]) -> dict[str, Any]:
    paper = load_paper(name)
    mine = Scorecard(tuple(c for c in card.claims if c.id.startswith(paper.prefix + ".")))
    rooms = tuple(r for r in card.rooms if any(i.startswith(paper.prefix + ".") for i in r.of))
    judged = [n for n in card.numbers if n.verdict in ("within tolerance", "outside tolerance")]
    seen = [where for where in paper.places if any(n.id in observations for n in paper.at(where))]
    return {
        "source": paper.paper,
        "counts": mine.counts(),
        "claims": _grid(verdict_table(mine).set_index(["where", "claim"])),
        "rooms": _grid(rooms_table(Scorecard(rooms=rooms))) if rooms else None,
        "judged": [n for n in judged if n.id in paper.ids],
        "tables": [(where, _grid(comparison_table(paper, observations, where=where))) for where in seen],
        "notes": [n for n in paper.number if n.note and n.value is not None],
    }


def _notebook(stamp: Mapping[str, Any], artefacts: Iterable[Mapping[str, Any]], out_dir: Path) -> dict[str, Any]:
    mine = [a for a in artefacts if a["notebook"] == stamp["notebook"] and (out_dir / a["file"]).exists()]
    shown = [a | ({"grid": _read_table(out_dir, a)} if a["kind"] == "table" else _picture(out_dir, a)) for a in mine]
    return {**stamp, "shown": shown}


def _picture(out_dir: Path, artefact: Mapping[str, Any]) -> dict[str, str]:
    data = base64.b64encode((out_dir / artefact["file"]).read_bytes()).decode("ascii")
    return {"data": f"data:image/png;base64,{data}"}


def _read_table(out_dir: Path, artefact: Mapping[str, Any]) -> dict[str, Any]:
    path, n_header, n_index = out_dir / artefact["file"], artefact["header"], artefact["index"]
    frame = pd.read_csv(path, header=list(range(n_header)), index_col=list(range(n_index)), keep_default_na=False)
    if n_index == 1 and list(frame.index) == list(range(len(frame))):
        return _grid(frame, index=False)
    return _grid(frame)


def _grid(frame: pd.DataFrame, *, index: bool = True) -> dict[str, Any]:
    """Header rows and body rows as cells: text, whether a row header, how many rows or columns it spans."""
    labels = [k if isinstance(k, tuple) else (k,) for k in frame.index] if index else [() for _ in frame.index]
    names = [_plain(n) for n in frame.index.names] if index else []
    columns = [k if isinstance(k, tuple) else (k,) for k in frame.columns]
    depth = frame.columns.nlevels
    cells = [[_text(v) for v in values] for values in frame.itertuples(index=False, name=None)]
    sides = ["words" if any(map(_is_words, column)) else "" for column in zip(*cells, strict=True)]
    head = []
    for level in range(depth):
        corner = names if level == depth - 1 else [""] * len(names)
        merged = [(text, len(list(run))) for text, run in groupby(columns, key=lambda c: c[: level + 1])]
        head.append([(c, 1) for c in corner] + [(_plain(text[-1]), span) for text, span in merged])
    rows = []
    for i, texts in enumerate(cells):
        spans = [(_plain(label), _span(labels, i, level)) for level, label in enumerate(labels[i])]
        rows.append({"heads": [s for s in spans if s[1]], "cells": list(zip(texts, sides, strict=True))})
    return {"head": head, "rows": rows, "sides": ["words"] * len(names) + sides}


def _is_words(text: str) -> bool:
    return sum(map(str.isalpha, text)) > 2


def _span(labels: list[tuple], row: int, level: int) -> int:
    """Rows that a label spans; 0 where the row above shows it already. The innermost label never spans."""
    if level == len(labels[row]) - 1:
        return 1
    same = [label[: level + 1] for label in labels]
    if row and same[row - 1] == same[row]:
        return 0
    return next((k for k in range(1, len(same) - row) if same[row + k] != same[row]), len(same) - row)


def _plain(label: Any) -> str:
    text = "" if label is None else str(label)
    return "" if text.startswith("Unnamed:") else text


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else short_number(value)
    return str(value)


def _verdict(text: str) -> dict[str, str] | None:
    """Sign, class, words and reason of a verdict; None for other text."""
    family = next((name for name in VERDICTS if text.startswith(name)), None)
    if family is None:
        return None
    kind, reason = family.replace(" ", "-"), text.partition(": ")[2]
    return {"sign": VERDICTS[family][0], "kind": kind, "words": family, "reason": reason}


def _not_run(card: Scorecard, notebooks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    missing: dict[str, list[str]] = {}
    for claim in card.claims:
        if claim.verdict.startswith("not run: "):
            missing.setdefault(claim.verdict.removeprefix("not run: "), []).append(claim.statement)
    absent = sum(n.verdict.startswith("not run") for n in card.numbers)
    stopped = [n for n in notebooks if n["status"] in ("failed", "stopped")]
    return {"claims": missing, "numbers": absent, "notebooks": stopped}
