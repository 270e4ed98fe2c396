"""All papers on one page: how many of each one's claims came out how."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from nbkit.core.checks import check_keys, require
from nbkit.figures.charts import INK
from nbkit.figures.style import FULL_MM, Picture, look, new_figure, wrapped
from nbkit.figures.tables import VERDICTS

CLAIM_VERDICTS = ("reproduced", "contradicted", "inconclusive", "no room", "not run")
HATCHES = {"reproduced": "", "inconclusive": "///", "contradicted": "xx", "no room": "--", "not run": ""}
_NAME_MM, _ROW_MM = 48.0, 10.0


@look()
def scorecard_chart(cards: Mapping[str, Mapping[str, int]], *, width_mm: float = FULL_MM) -> Picture:
    """Claims of each paper by verdict, as bars of their numbers, with the colours and signs of the tables.

    Parameters
    ----------
    cards : mapping of str to mapping
        By a paper's title: number of claims by verdict, of :data:`CLAIM_VERDICTS`; verdicts that are missing count 0.
    width_mm : float

    Raises
    ------
    NbkitError
        Without papers, or for an unknown verdict, with the nearest one.
    """
    require(len(cards) > 0, "scorecard_chart: cards", expected="a paper", found="none", remedy="Run a notebook first.")
    for title, counts in cards.items():
        check_keys(counts, CLAIM_VERDICTS, f"scorecard_chart: {title}")
    figure = new_figure(width_mm, 17 + _ROW_MM * len(cards))
    axes = figure.add_subplot()
    for level, counts in enumerate(cards.values()):
        _bars(axes, level, counts)
    axes.set(ylim=(len(cards) - 0.5, -0.5), xlabel="claims", xlim=(0, None))
    names = [f"{wrapped(title, _NAME_MM)}" for title in cards]
    axes.set_yticks(range(len(cards)), names)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for verdict in CLAIM_VERDICTS:
        sign, ink, ground = VERDICTS[verdict]
        axes.barh(0, 0, color=ground, edgecolor=ink, hatch=HATCHES[verdict], label=f"{sign} {verdict}", linewidth=0.6)
    figure.legend(loc="outside upper center", ncols=len(CLAIM_VERDICTS))
    return figure


def _bars(axes: Axes, level: int, counts: Mapping[str, int]) -> None:
    left = 0
    for verdict in CLAIM_VERDICTS:
        count, (sign, ink, ground) = counts.get(verdict, 0), VERDICTS[verdict]
        if count:
            axes.barh(level, count, left=left, height=0.62, color=ground, edgecolor=ink, hatch=HATCHES[verdict],
                      linewidth=0.6)
            axes.text(left + count / 2, level, f"{sign} {count}", ha="center", va="center", color=INK, fontsize=7.5,
                      bbox={"facecolor": ground, "edgecolor": "none", "pad": 0.8})
        left += count
