"""Tables as cells of a page: header rows, body rows, spans, and which columns hold words."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.claims.tables import short_number
from nbkit.figures.marks import spoken


def read_grid(path: Path, *, header: int, index: int) -> dict[str, Any]:
    """A table that a run wrote, with so many rows of header and columns of index."""
    frame = pd.read_csv(path, header=list(range(header)), index_col=list(range(index)), keep_default_na=False)
    frame = frame.apply(_numbers)
    if index == 1 and list(frame.index) == list(range(len(frame))):
        return grid(frame, index=False)
    return grid(frame)


def grid(frame: pd.DataFrame, *, index: bool = True) -> dict[str, Any]:
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


def _numbers(column: pd.Series) -> pd.Series:
    """A column of numbers as numbers although some of its cells are empty; any other as it is."""
    told = column.astype(str) != ""
    parsed = pd.to_numeric(column.where(told), errors="coerce")
    return parsed if told.any() and parsed[told].notna().all() else column


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
    text = "" if label is None else spoken(str(label))
    return "" if text.startswith("Unnamed:") else text


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else short_number(value)
    return spoken(str(value))
