"""Models of users among ours: scored by themselves, so that whatever they do moves no number of anybody else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort, Scan, Segmenter
from nbkit.core.volume import Volume
from nbkit.papers.trajectories import experiments
from nbkit.papers.trajectories.experiments import Scores, score_trajectories
from nbkit.training.kept import kept_tables

_FAULTS = ("model", "subject", "what", "remedy")


def entered(models: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the models that users brought (they say so by an attribute ``entered``)."""
    return {name: model for name, model in models.items() if getattr(model, "entered", False)}


def beside(ours: Scores, theirs: Scores) -> Scores:
    """Both together, ours first."""
    return Scores(*(pd.concat([a, b], ignore_index=True) if len(b) else a for a, b in zip(ours, theirs, strict=True)))


def kept_entered(
    kind: str, make: Callable[[], Mapping[str, pd.DataFrame]], *, models: Mapping[str, Any],
    also: Mapping[str, Any] | None = None, **asked: Any,
) -> dict[str, pd.DataFrame]:
    """:func:`~nbkit.training.kept.kept_tables` of users' models, with what went wrong: their ``faults`` say it again.

    Parameters
    ----------
    kind, make, asked
        As for ``kept_tables``.
    models : mapping of str to model
        With ``faults``, by subject: (what, remedy).
    also : mapping of str to system
        What else the tables depend on.
    """

    def tables() -> dict[str, pd.DataFrame]:
        before = {name: dict(model.faults) for name, model in models.items()}
        for model in models.values():
            model.faults.clear()
        made = make()
        rows = [(name, who, *fault) for name, model in models.items() for who, fault in model.faults.items()]
        for name, model in models.items():
            model.faults.update(before[name])
        return {**made, "faults": pd.DataFrame(rows, columns=list(_FAULTS))}

    found = kept_tables(kind, tables, models={**models, **(also or {})}, **asked)
    for row in found.pop("faults").itertuples():
        models[row.model].faults.setdefault(row.subject, (row.what, row.remedy))
    return found


def entered_scores(
    models: Mapping[str, Any], people: Cohort, *, key: Any, segmenter: Segmenter | None = None, **options: Any
) -> Scores:
    """Scores of users' models, one person after the other: their code need not bear threads, and is timed alone.

    A person for whom a model has no usable answer, or an image in which the segmenter finds a structure no more, counts
    as no change; ``model.faults`` says for whom and why, also when the scores come from the cache.

    Parameters
    ----------
    models : mapping of str to model
        As for :func:`kept_entered`.
    people, key, segmenter, options
        As for :func:`~nbkit.papers.trajectories.experiments.scored_trajectories`.
    """
    fixed = {name: options[name] for name in ("seen", "readings") if name in options}

    def make() -> dict[str, pd.DataFrame]:
        options["segmenter"] = segmenter
        found = [_scored(name, model, people.subset([who]), options) for name, model in models.items() for who in
                 people.ids]
        return {field: pd.concat([s[k] for s in found], ignore_index=True) for k, field in enumerate(Scores._fields)}

    return Scores(**kept_entered(
        "scores", make, models=models, also={"segmenter": segmenter} if segmenter else {}, cohort=people,
        key=["entered", key, fixed], sources=[experiments.__name__, __name__],
    ))


def _scored(name: str, model: Any, alone: Cohort, options: Mapping[str, Any]) -> Scores:
    scores = score_trajectories({name: model}, alone, progress=False, **options)
    lost = scores.regions.loc[scores.regions["error_pct"].isna(), "structure"] if len(scores.regions) else ()
    if not len(lost) or alone.ids[0] in model.faults:
        return scores
    model.faults[alone.ids[0]] = (f"the segmenter finds no {lost.iloc[0]} in its image",
                                  "Look at the image: white matter is 1, and the brain stays where it is.")
    return score_trajectories({name: _Still()}, alone, progress=False, **options)


class _Still:
    """The last scan, whatever the age, read as every image is."""

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: Any) -> list[Volume]:
        return [history[-1].image("T1w")] * len(ages)
