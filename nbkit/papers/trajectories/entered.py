"""Models of users among ours: scored by themselves, so that whatever they do moves no number of anybody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def entered_scores(
    models: Mapping[str, Any], people: Cohort, *, key: Any, segmenter: Segmenter | None = None, **options: Any
) -> Scores:
    """Scores of users' models, one person after the other: their code need not bear threads, and is timed alone.

    A person for whom a model has no usable answer, or an image in which the segmenter finds a structure no more, counts
    as no change; ``model.faults`` says for whom and why, also when the scores come from the cache.

    Parameters
    ----------
    models : mapping of str to model
        With ``faults``, by subject: (what, remedy).
    people, key, segmenter, options
        As for :func:`~nbkit.papers.trajectories.experiments.scored_trajectories`.
    """
    kept = {"key": key, "options": {name: options[name] for name in ("seen", "readings") if name in options}}
    read = {"segmenter": segmenter} if segmenter else {}
    tables = kept_tables(
        "scores", lambda: _scored(models, people, segmenter=segmenter, **options), models={**models, **read},
        cohort=people, key=["entered", kept], sources=[experiments.__name__, __name__],
    )
    for row in tables.pop("faults").itertuples():
        models[row.model].faults.setdefault(row.subject, (row.what, row.remedy))
    return Scores(**tables)


def _scored(models: Mapping[str, Any], people: Cohort, **options: Any) -> dict[str, pd.DataFrame]:
    found, faults = [], []
    for name, model in models.items():
        before = dict(model.faults)
        model.faults.clear()
        for person in people:
            alone = people.subset([person.id])
            scores = score_trajectories({name: model}, alone, progress=False, **options)
            lost = scores.regions.loc[scores.regions["error_pct"].isna(), "structure"] if len(scores.regions) else ()
            if len(lost) and person.id not in model.faults:
                model.faults[person.id] = (f"the segmenter finds no {lost.iloc[0]} in its image",
                                           "Look at the image: white matter is 1, and the brain stays where it is.")
                scores = score_trajectories({name: _Still()}, alone, progress=False, **options)
            found.append(scores)
        faults += [(name, who, *fault) for who, fault in model.faults.items()]
        model.faults.update(before)
    tables = {field: pd.concat([s[k] for s in found], ignore_index=True) for k, field in enumerate(Scores._fields)}
    return tables | {"faults": pd.DataFrame(faults, columns=list(_FAULTS))}


class _Still:
    """The last scan, whatever the age, read as every image is."""

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: Any) -> list[Volume]:
        return [history[-1].image("T1w")] * len(ages)
