"""A user's model that predicts a contrast from the others, in the clothes of our own, under cross-validation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from nbkit.core import entered
from nbkit.core.files import write_json
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume
from nbkit.data.splits import subject_hash
from nbkit.entrants.strangers import (
    NOBODY, Config, Copies, Stranger, Wrong, copied, in_words, known_by, usable,
)
from nbkit.training.crossval import FoldLike, Result, Score, cross_validate


class EnteredSynthesizer(Stranger):
    """A :class:`~nbkit.core.protocols.ModalitySynthesizer` of somebody else's; where it fails it gives the mean.

    Subclasses, made by :func:`synthesizers`, carry the class, the contrast to predict and everybody there is: one that
    cannot be saved learns again, when it is read back.
    """

    target: ClassVar[str] = ""
    people: ClassVar[Cohort]

    def __init__(self, config: Config) -> None:
        self.config, self.model, self.mean, self.faults = config, None, 0.0, {}
        self._learner: Callable[[], Any] | None = None

    def fit(self, cohort: Cohort) -> Self:
        """Let it learn from copies of these people; if it cannot, everybody gets the mean of the target."""
        self.trained_on, self._ids = subject_hash(cohort.ids), list(cohort.ids)
        scans = [subject.baseline for subject in cohort]
        inside = [scan.image(self.target).data[scan.mask("brain").data.bool()].double().mean() for scan in scans]
        self.mean = float(torch.stack(inside).mean())
        try:
            self.model = self.learned(cohort)
        except Wrong as wrong:
            self.faults[""] = (wrong.what, wrong.remedy)
        return self

    def synthesize(self, contrasts: Mapping[str, Volume], *, mask: Volume) -> Volume:
        """Its image, from all contrasts but the target, or the mean of the target in the training brains."""
        seen = {name: volume for name, volume in contrasts.items() if name != self.target}
        like = next(iter(seen.values()))
        try:
            if self.model is None and self._learner:
                self.model, self._learner = self._learner(), None
            if self.model is None:
                raise Wrong(*self.faults[""])
            with self.guarded("synthesize"), self.own_dice("synthesize"):
                made = self.model.synthesize(Copies(seen), mask=copied(mask))
            return usable(made, like, -np.inf, "synthesize")
        except Wrong as wrong:
            self.faults[f"#{len(self.faults)}"] = (wrong.what, wrong.remedy)
            return like.with_data(mask.data.float() * self.mean, "entered")

    def save(self, path: Path) -> None:
        """Write what went wrong, whom it learned from, and itself where it can."""
        said = {"config": self.config.as_dict(), "ids": self._ids, "mean": self.mean, "faults": self.faults}
        write_json(Path(path) / "entered.json", said)
        if self.keeps and self.model is not None:
            (Path(path) / "own").mkdir()
            self.model.save(Path(path) / "own")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; one that was not saved learns again at its first image."""
        said = json.loads((Path(path) / "entered.json").read_text(encoding="utf-8"))
        found = cls(Config.from_dict(said["config"]))
        found.mean, found._ids, found.trained_on = said["mean"], said["ids"], subject_hash(said["ids"])
        found.faults = {who: tuple(fault) for who, fault in said["faults"].items()}
        own = Path(path) / "own"
        if own.is_dir():
            found.model = cls.kind.load(own)
        elif "" not in found.faults:
            found._learner = lambda: found.learned(cls.people.subset(found._ids))
        return found


def synthesizers(text: str, people: Cohort, *, target: str, **options: Any) -> dict[str, EnteredSynthesizer]:
    """The classes at some addresses that have ``synthesize``, unfitted, by name, for cross-validation."""
    found = {}
    for address in entered.addresses(text):
        kind = entered.load(address)
        if callable(getattr(kind, "synthesize", None)):
            config = known_by(kind, address, {"target": target, **options})
            parts = {"kind": kind, "target": target, "people": people, "__module__": __name__}
            found[config.name] = type(config.name, (EnteredSynthesizer,), parts)(config)
    return found


def cross_validated(
    text: str, people: Cohort, *, folds: Sequence[FoldLike], score: Score, target: str, **options: Any
) -> tuple[dict[str, Result], list[str]]:
    """Scores of the classes at some addresses on the same folds as ours, and what is said of them.

    Parameters
    ----------
    text, people
        As for :func:`~nbkit.entrants.enter`; classes with ``fit(cohort)`` and ``synthesize(contrasts, *, mask)``.
    folds, score
        As for :func:`~nbkit.training.crossval.cross_validate`.
    target : str
        The contrast that is predicted; never among those handed in.
    **options
        inputs (by default all contrasts but the target), seed, device and profile: the constructor is told those that
        it names.
    """
    there = [name for name in people.subjects[0].baseline.images if name != target]
    options = {"inputs": there, **options}
    systems = synthesizers(text, people, target=target, **options)
    results = cross_validate(systems, people, folds=folds, score=score) if systems else {}
    others = (entered.load(address) for address in entered.addresses(text))
    told = [f"**{kind.__name__}** has no `synthesize` and is left out here: it enters notebooks 05, 06, 08 and 09."
            for kind in others if not callable(getattr(kind, "synthesize", None))]
    for name, result in list(results.items()):
        met = _faults(result)
        tested = len(result.fold_of)
        said = f"**{name}** learned and was tested on {len(result.folders)} folds of {tested} people."
        told.append(in_words(name, met, tested, "the training mean") if met else said)
        if len(met) == tested:
            del results[name]
            told[-1] += " It is left out."
    return results, told or [NOBODY]


def _faults(result: Result) -> dict[str, tuple[str, str]]:
    """By fold and test person, what went wrong while the folds were tested."""
    met = {}
    for fold, folder in result.folders.items():
        said = json.loads((folder / "model" / "entered.json").read_text(encoding="utf-8"))
        met |= {f"{fold} {who}": tuple(fault) for who, fault in said["faults"].items() if who}
    return met
