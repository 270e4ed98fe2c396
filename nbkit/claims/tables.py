"""Tables for notebooks and the report: published beside ours, and claims with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.claims.ledger import Number, Paper, load_paper, papers
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import VERDICTS, ClaimVerdict, Scorecard

BENCHMARK, BENCHMARK_PAGE = "benchmark.csv", "benchmark.html"
"""In a reference: who stands where in the open benchmark, as ``nbkit benchmark judge --ranks`` writes it."""
NOBODY_ENTERED = "No model of other people was judged at this profile and cohort."
NO_UNIT = ("", "1", "p")
"""Of settings, counts and p-values."""

NONE = "–"
NUMBER_VERDICTS = ("within tolerance", "outside tolerance", "not comparable", "not run")


def comparison_table(
    paper: Paper | str, observations: Mapping[str, Observation], *, where: str, more: Sequence[str] = ()
) -> pd.DataFrame:
    """One published table with our numbers beneath each row, in the paper's own layout.

    Parameters
    ----------
    paper : Paper or str
    observations : mapping of id to Observation
    where : str
        E.g. "Table 2.2a".
    more : sequence of str
        Systems that the ledger does not know, in columns of their own: each is looked for under an id of the row with
        its last word replaced by the system.

    Returns
    -------
    DataFrame
        Text cells "value (SD)"; rows (printed row, "published" or "ours"), with the unit where a row has one;
        columns as printed, then our controls, then `more`.
    """
    paper = load_paper(paper) if isinstance(paper, str) else paper
    numbers = [n for n in paper.at(where) if n.value is not None or n.id in observations]
    columns = list(dict.fromkeys(n.column for n in numbers))
    rows, index = [], []
    for name in dict.fromkeys(n.row for n in numbers):
        line = {n.column: n for n in numbers if n.row == name}
        ours = {c: observations[n.id] for c, n in line.items() if n.id in observations}
        ours |= _more(more, line, observations)
        for source, cells in (("published", _published(line)), ("ours", ours)):
            index.append((name, _labelled(source, cells)))
            rows.append({c: _cell(cells.get(c)) for c in [*columns, *(name for name in more if name in ours)]})
    table = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(index, names=[where, ""]))
    return table.fillna(NONE)


def _more(
    names: Sequence[str], line: Mapping[str, Number], observations: Mapping[str, Observation]
) -> dict[str, Observation]:
    """What systems that the ledger does not know have in a row."""
    places = dict.fromkeys(number.id.rpartition(".")[0] for number in line.values())
    found = {name: [f"{place}.{name}" for place in places if f"{place}.{name}" in observations] for name in names}
    return {name: observations[ids[0]] for name, ids in found.items() if ids}


def verdict_table(scorecard: Scorecard, *, where: str | None = None) -> pd.DataFrame:
    """Claims with verdict, difference with its 95 % interval, p after Holm, p of the paper's own test, and n.

    Of an order claim the pair that decides is shown: of those with the claim's verdict, the one with the largest p.
    """
    claims = [c for c in scorecard.claims if where is None or c.where == where]
    names = ["where", "claim", "verdict", "compared", "difference [95 % interval]", "p (Holm)", "p (paired t)", "n"]
    return pd.DataFrame([_claim_row(c) for c in claims], columns=names)


def papers_table(scorecard: Scorecard) -> pd.DataFrame:
    """One row per paper: its claims by verdict, then its printed numbers by verdict.

    Returns
    -------
    DataFrame
        Counts; rows by name of the ledger, columns ("claims" | "numbers", verdict).
    """
    rows = {}
    for name in scorecard.papers:
        paper = load_paper(name)
        mine = Scorecard(tuple(c for c in scorecard.claims if c.id.startswith(f"{paper.prefix}.")))
        printed = [n for n in scorecard.numbers if n.id in paper.ids and n.published is not None]
        numbers = {v: sum(n.verdict.startswith(v) for n in printed) for v in NUMBER_VERDICTS}
        rows[name] = [*mine.counts().values(), *numbers.values()]
    columns = [("claims", v) for v in VERDICTS] + [("numbers", v) for v in NUMBER_VERDICTS]
    return pd.DataFrame.from_dict(rows, orient="index", columns=pd.MultiIndex.from_tuples(columns))


def printed_beside_ours(scorecard: Scorecard, observations: Mapping[str, Observation]) -> pd.DataFrame:
    """Printed numbers and ours, where both are measured on people, in one unit; papers in the order of notebooks.

    Settings, sizes of cohorts and p-values are nobody's measurement: they have no unit, or no n. Folds of a table are
    left to their average.

    Returns
    -------
    DataFrame
        A row a number: "paper" (what people call it), "id", "what" (table, row and column), "published", "ours",
        "unit".
    """
    rows = []
    for paper in sorted(map(load_paper, scorecard.papers), key=lambda p: p.paper.notebook):
        for number in paper.number:
            seen = observations.get(number.id)
            if not (seen and seen.n) or number.value is None or ".fold" in number.id:
                continue
            if seen.unit == number.unit and number.unit not in NO_UNIT:
                what = f"{number.where}: {name_of(number)}"
                rows.append((paper.paper.short or paper.name, number.id, what, number.value, seen.value, number.unit))
    return pd.DataFrame(rows, columns=["paper", "id", "what", "published", "ours", "unit"])


def name_of(number: Number) -> str:
    """Row and column of a printed number, in its words."""
    return ", ".join(part for part in (number.row, number.column) if part)


def claims_by_cohort(scorecards: Mapping[str, Scorecard]) -> pd.DataFrame:
    """Every claim and cohort a row: "paper" (what people call it), "claim" (its id), "cohort", "verdict"."""
    rows = []
    for cohort, card in scorecards.items():
        for paper, name in ((load_paper(name), name) for name in card.papers):
            mine = (claim for claim in card.claims if claim.id.startswith(f"{paper.prefix}."))
            rows += [(paper.paper.short or name, claim.id, cohort, claim.verdict) for claim in mine]
    return pd.DataFrame(rows, columns=["paper", "claim", "cohort", "verdict"])


def rooms_table(scorecard: Scorecard) -> pd.DataFrame:
    """What could be won on each measure, at all.

    Returns
    -------
    DataFrame
        Rows by measure: mean, best control with its name, reach, best control after each person's own scale and offset,
        floor, distance from reach to best control as a share of that from reach to mean, whether that leaves room.
    """
    rows = {r.measure: [r.mean, r.controls[r.best_control], r.best_control.rpartition(".")[2], r.reach, r.person,
                        r.floor, r.share(), "no room" if r.lacks() else "room"] for r in scorecard.rooms}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[
        "mean", "best control", "which", "reach", "own scale and offset", "floor", "share left", "for a better method",
    ]).rename_axis("measure")


def paper_title(name: str) -> str:
    """``"Wei 2019: wei2019_flair"``, for the name of a ledger."""
    paper = load_paper(name).paper
    return f"{paper.authors.split(',')[0]} {paper.year}: {name}"


def contradicted_table(scorecard: Scorecard) -> pd.DataFrame:
    """The claims that a run contradicts, with their papers, as :func:`verdict_table` has them."""
    prefixes = {load_paper(name).prefix: paper_title(name) for name in scorecard.papers}
    mine = [c for c in scorecard.claims if c.verdict == "contradicted"]
    table = verdict_table(Scorecard(tuple(mine))).drop(columns="verdict")
    table.insert(0, "paper", [prefixes[c.id.partition(".")[0]] for c in mine])
    return table


def reasons_table(scorecard: Scorecard) -> pd.DataFrame:
    """Why claims and numbers were not run: how many of each, by reason, the most frequent first."""
    told = {kind: [v.verdict.partition(": ")[2] for v in verdicts if v.verdict.startswith("not run")]
            for kind, verdicts in (("claims", scorecard.claims), ("numbers", scorecard.numbers))}
    counts = {kind: pd.Series(reasons, dtype=str).value_counts() for kind, reasons in told.items()}
    table = pd.DataFrame(counts).fillna(0).astype(int).rename_axis("reason")
    return table.sort_values(["claims", "numbers"], ascending=False)


def recorded_table(observations: Mapping[str, Observation]) -> pd.DataFrame:
    """How many numbers each notebook recorded, on which cohort, at which profile and seed."""
    names = ["notebook", "cohort", "level", "profile", "seed"]
    found = pd.DataFrame([[getattr(o, name) for name in names] for o in observations.values()], columns=names)
    counts = found.value_counts(sort=False).rename("numbers recorded").reset_index()
    return counts.sort_values("notebook").set_index("notebook")


def entrants_table(reference: Path) -> pd.DataFrame:
    """Systems of strangers beside controls and those of the papers, by ``benchmark.csv`` of a committed reference.

    Returns
    -------
    DataFrame
        Index system, kind, in the order of the first measure; a column for each measure with "rank. mean"; empty where
        nobody was judged.
    """
    file, names = reference / BENCHMARK, ["system", "kind"]
    if not file.is_file():
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=names))
    ranks = pd.read_csv(file)
    place = ranks.groupby("metric", sort=False).cumcount() + 1
    cells = ranks.assign(cell=[f"{k}. {short_number(mean)}" for k, mean in zip(place, ranks["mean"], strict=True)])
    table = cells.pivot_table("cell", ["title", "kind"], "measure", aggfunc="first", sort=False).fillna(NONE)
    return table.rename_axis(index=names, columns=None)


def entrants_lead(reference: Path) -> str:
    """Whether a stranger's system beats those of the papers, in a sentence; by the same file."""
    file = reference / BENCHMARK
    if not file.is_file():
        return NOBODY_ENTERED
    ranks = pd.read_csv(file)
    entered = ranks[ranks["kind"] == "entrant"].sort_values("beats", ascending=False, kind="stable")
    said = []
    for best in entered.drop_duplicates("measure").sort_index().itertuples():
        count = f"all {best.of:.0f}" if best.beats == best.of else f"{best.beats:.0f} of {best.of:.0f}"
        said.append(f"by {best.measure}, {best.title} is better than {count}")
    return f"Models of other people against those of the papers and their variants: {'; '.join(said)}."


def ledgers_table() -> pd.DataFrame:
    """What each paper's ledger holds: title, year, printed numbers, claims; rows by name of the ledger."""
    ledgers = {name: load_paper(name) for name in papers()}
    rows = {name: [ledger.paper.title, ledger.paper.year, sum(n.value is not None for n in ledger.number),
                   len(ledger.claim)] for name, ledger in ledgers.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["paper", "year", "published numbers", "claims"])


def levels_table(scorecards: Mapping[str, Scorecard]) -> pd.DataFrame:
    """Verdicts of every claim at several levels of data, side by side.

    Parameters
    ----------
    scorecards : mapping of str to Scorecard
        By level, e.g. "embedded" and "open".

    Returns
    -------
    DataFrame
        Rows by claim id: "where", "claim", and a verdict per level without its reason; a dash where the level has none.
    """
    said = {level: {c.id: c.verdict.split(":")[0] for c in card.claims} for level, card in scorecards.items()}
    claims = {c.id: c for card in scorecards.values() for c in card.claims}
    rows = {i: [c.where, c.statement, *(v.get(i, NONE) for v in said.values())] for i, c in claims.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["where", "claim", *said])


def short_number(value: float) -> str:
    """Four significant digits; thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _published(line: Mapping[str, Number]) -> dict[str, Number]:
    return {c: n for c, n in line.items() if n.value is not None}


def _labelled(source: str, cells: Mapping[str, Number | Observation]) -> str:
    units = {cell.unit for cell in cells.values()}
    return f"{source}, {units.pop()}" if len(units) == 1 and not units <= {"", "1"} else source


def _cell(number: Number | Observation | None) -> str:
    if number is None:
        return NONE
    if isinstance(number, Number):
        value, spread = _as_printed(number.value, number.spread)
    else:
        value, spread = short_number(number.value), None if number.sd is None else _two_digits(number.sd)
    return value if spread is None else f"{value} ({spread})"


def _as_printed(*values: float | None) -> list[str | None]:
    """Numbers with the decimals of the most precise one, as a table prints a value and its SD."""
    small = [abs(v) < 1e-4 for v in values if v]
    if small and all(small):
        return [None if v is None else f"{v:.3g}" for v in values]
    decimals = max(len(f"{v:.12f}".rstrip("0").partition(".")[2]) for v in values if v is not None)
    return [None if v is None else f"{v:,.{decimals}f}" for v in values]


def _two_digits(spread: float) -> str:
    return f"{spread:,.0f}" if spread >= 10 else f"{spread:.2g}"


def _claim_row(claim: ClaimVerdict) -> list[str]:
    start = [claim.where, claim.statement, claim.verdict]
    if not claim.evidence:
        return [*start, *[NONE] * 5]
    compared, lacking = claim.evidence["comparisons"], claim.verdict.startswith("no room")
    deciding = [c for c in compared if (c["verdict"] != "reproduced" if lacking else c["verdict"] == claim.verdict)]
    decides: dict[str, Any] = max(deciding, key=lambda c: c["p_holm"])
    low, high = decides["interval"]
    interval = f"{_signed(decides['difference'])} [{_signed(low)}, {_signed(high)}]"
    ps = [_p(decides["p_holm"]), _p(decides["p_paired_t"])]
    return [*start, " − ".join(told_apart(decides["ids"])), interval, *ps, str(decides["n"])]


def told_apart(ids: Sequence[str]) -> list[str]:
    """What tells the numbers of a claim apart, in the words of the printed table: row, column, else the table.

    Of an id that no ledger has, its end.
    """
    numbers = [_of_ledger(i.partition(".")[0]).get(i) for i in ids]
    parts = [(n.row, n.column, n.where) if n else ("", i.rpartition(".")[2], "") for n, i in zip(numbers, ids)]
    cells = [k for k in (0, 1) if len({p[k] for p in parts}) > 1] or [0, 1]
    alike = len({tuple(p[k] for k in cells) for p in parts}) < len(parts)
    return [", ".join(p[k] for k in cells + [2] * alike if p[k]) for p in parts]


@lru_cache(maxsize=16)
def _of_ledger(prefix: str) -> dict[str, Number]:
    """Numbers by id of the ledger with this prefix; nothing of an unknown one."""
    return next((ledger.ids for ledger in map(load_paper, papers()) if ledger.prefix == prefix), {})


def _signed(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
