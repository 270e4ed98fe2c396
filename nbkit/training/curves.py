"""Was it trained long enough? The course of every training that a system tells of, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ["system", "kind", "done", "value"]
LEARNED, APART, CRITIC = "training loss", "error on people kept back", "loss of its critic"
STILL = 0.05
"""Share of its whole fall that a curve loses in its last tenth, above which a longer training would have helped."""
_MARKS = 200


def courses(models: Mapping[str, Any]) -> pd.DataFrame:
    """Losses and errors on people kept back over each training.

    Parameters
    ----------
    models : mapping of str to system
        With ``history``: "loss" by epoch, "validation" at "epochs"; "total" and "critic_total" of two that compete;
        or several such by the name of a phase.

    Returns
    -------
    DataFrame
        "system" (with its phase), "kind" (:data:`LEARNED`, :data:`APART`, :data:`CRITIC`), "done" (share of the
        training, 0 to 1), "value": running means over a fiftieth of the training, of which at most some 200 are kept.
    """
    frames = [
        frame.assign(system=f"{name}, {phase}" if phase else name)
        for name, model in models.items() for phase, history in _phases(getattr(model, "history", {}))
        for frame in _curves(history)
    ]
    return pd.concat(frames)[COLUMNS] if frames else pd.DataFrame(columns=COLUMNS)


def _phases(history: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "loss" in history:
        yield "", history
    elif "critic_total" in history:
        yield "", {"loss": history["total"], "critic": history["critic_total"]}
    else:
        yield from ((phase, h) for phase, h in history.items() if isinstance(h, Mapping) and "loss" in h)


def _curves(history: Mapping[str, Any]) -> Iterator[pd.DataFrame]:
    sides = {LEARNED: history["loss"]} | ({CRITIC: history["critic"]} if "critic" in history else {})
    for kind, losses in sides.items():
        loss = pd.Series(losses, np.arange(1, len(losses) + 1), dtype=float)
        smooth = loss.rolling(max(1, len(loss) // 50), min_periods=1).mean().iloc[:: max(1, len(loss) // _MARKS)]
        yield pd.DataFrame({"kind": kind, "done": smooth.index / len(loss), "value": smooth.to_numpy()})
    if history.get("validation"):
        done = np.array(history["epochs"]) / len(history["loss"])
        yield pd.DataFrame({"kind": APART, "done": done, "value": history["validation"]})


def endings(curves: pd.DataFrame) -> pd.DataFrame:
    """How each curve ended: first and last value, and the share of the whole fall that fell in its last tenth.

    Returns
    -------
    DataFrame
        By "system" and "kind": "first", "last", "last tenth (%)" and "long enough": "yes" up to :data:`STILL`. A loss
        that rises tells nothing: terms join late, and a critic learns as well.
    """
    rows = {}
    for (system, kind), curve in curves.groupby(["system", "kind"], sort=False):
        first, late, last = (float(np.interp(at, curve["done"], curve["value"])) for at in (0.0, 0.9, 1.0))
        fallen = (late - last) / (first - last) if first > last else float("nan")
        said = "no: still falling" if fallen > STILL else "yes" if fallen >= -STILL else "cannot tell: it rose"
        rows[system, kind] = (first, last, 100 * fallen, said)
    index = pd.MultiIndex.from_tuples(list(rows), names=["system", "kind"]) if rows else None
    table = pd.DataFrame(list(rows.values()), index, ["first", "last", "last tenth (%)", "long enough"])
    return table.round({"first": 4, "last": 4, "last tenth (%)": 1})
