"""What came out, as README says it: ``python -m tests.benchmarks.outcome`` prints the table from ``reference/``."""

from __future__ import annotations

import pandas as pd

from nbkit.claims.ledger import load_paper, papers
from nbkit.claims.tables import VERDICTS, claims_by_cohort
from nbkit.claims.verdicts import load_scorecard
from nbkit.core.source import ROOT

COHORTS = ("embedded", "open")


def table() -> str:
    """Markdown: a row a paper, and of each verdict how many claims got it on simulated people / on real anatomy."""
    told = claims_by_cohort({c: load_scorecard(ROOT / "reference" / f"laptop-{c}") for c in COHORTS})
    verdicts = told["verdict"].str.split(":").str[0]
    counts = pd.crosstab(told["paper"], [verdicts, told["cohort"]])
    lines = [f"| claims of | {' | '.join(VERDICTS)} |", f"|---|{'---|' * len(VERDICTS)}"]
    for paper in sorted((load_paper(name).paper for name in papers()), key=lambda paper: paper.notebook):
        cells = (" / ".join(str(counts.loc[paper.short].get((v, c), 0)) for c in COHORTS) for v in VERDICTS)
        lines.append(f"| {paper.short} (notebook {paper.notebook[:2]}) | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
