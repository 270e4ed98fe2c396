"""A user's model that forecasts scans, in the clothes of our own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from nbkit.core import entered
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.volume import Volume
from nbkit.data.splits import subject_hash
from nbkit.entrants.strangers import NOBODY, Config, Stranger, Wrong, copy_of, in_words, known_by, usable
from nbkit.training import offered
from nbkit.training.fitted import fitted

log = logging.getLogger(__name__)
FINE = "Everybody had a usable answer of every model of your own."


class EnteredModel(Stranger):
    """A :class:`~nbkit.core.protocols.TrajectoryModel` of somebody else's; where it fails it repeats the last scan.

    Parameters
    ----------
    kind : type
        ``fit(cohort)`` and ``predict(history, ages, diagnosis)``, a list of images, one an age: Volumes, tensors or
        arrays on the grid of the last scan, white matter 1.
    config : Config

    Attributes
    ----------
    faults : dict of str to (str, str)
        By subject, what went wrong and what to do about it.
    """

    def __init__(self, kind: type, config: Config) -> None:
        self.kind, self.config, self.model = kind, config, None
        self.faults: dict[str, tuple[str, str]] = {}

    def fit(self, cohort: Cohort) -> Self:
        """Let it learn from copies of these people, whose simulated truth it is not told."""
        self.model, self.trained_on = self.learned(cohort), subject_hash(cohort.ids)
        return self

    def save(self, path: Path) -> None:
        """Let it save itself."""
        Path(path).mkdir(parents=True, exist_ok=True)
        with self.guarded("save"):
            self.model.save(Path(path))

    def restored(self, path: Path, ids: Sequence[str]) -> Self:
        """The same as it was saved after learning from these people."""
        with self.guarded("load"):
            self.model = self.kind.load(Path(path))
        self.trained_on = subject_hash(ids)
        return self

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: Any) -> list[Volume]:
        """One image an age: its own, or the last scan where it gives none that can be used."""
        try:
            return self.attempt(history, ages, diagnosis)
        except Wrong as wrong:
            self.faults[history[-1].subject] = (wrong.what, wrong.remedy)
            return [history[-1].image("T1w")] * len(ages)

    def attempt(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: Any) -> list[Volume]:
        """Its images, checked; a fault is raised."""
        last = history[-1].image("T1w")
        with self.guarded("predict"), self.own_dice("predict", history[-1].subject):
            made = self.model.predict(tuple(map(copy_of, history)), [float(age) for age in ages], diagnosis)
        listed = isinstance(made, list | tuple) and len(made) == len(ages)
        if not listed:
            what = f"{len(made)} images" if isinstance(made, list | tuple) else f"a {type(made).__name__}"
            raise Wrong(f"predict gave {what} for {len(ages)} ages", "Return a list with one image for each age.")
        least = min(float(scan.image("T1w").data.min()) for scan in history)
        return [usable(image, last, least, "predict") for image in made]


class Entrants(dict):
    """Models by name, ready to predict, and what is said of them (`told`) and of those left out."""

    def __init__(self, models: Mapping[str, EnteredModel], told: Sequence[str] = ()) -> None:
        super().__init__(models)
        self.told = list(told)

    def lines(self, people: Cohort | None = None) -> list[str]:
        """Who entered, who is left out and why; with `people`, for how many of them there was no usable answer."""
        if people is None:
            return self.told or [NOBODY]
        return [line for model in self.values() for line in _faulted(model, people)] or [FINE] * bool(self)


def _faulted(model: EnteredModel, people: Cohort) -> Iterator[str]:
    met = {who: fault for who, fault in model.faults.items() if who in people.ids}
    if met:
        yield in_words(model.config.name, met, len(people), "no change")


def enter(text: str, train: Cohort, **options: Any) -> Entrants:
    """The models at some addresses, fitted on the training people and tried on one of them.

    Parameters
    ----------
    text : str
        ``my_model.py:MyModel``, several with commas; empty for none (:mod:`nbkit.core.entered`).
    train : Cohort
    **options
        seed, device and profile: the constructor is told those that it names.

    Raises
    ------
    NbkitError
        For an address where no class is, or a name that one of our systems has. A class that fails is left out.
    """
    models, told = {}, []
    for address in entered.addresses(text):
        kind = entered.load(address)
        if not callable(getattr(kind, "predict", None)):
            told.append(f"**{kind.__name__}** has no `predict` and is left out here: it enters notebooks 01 to 03.")
            continue
        model = EnteredModel(kind, known_by(kind, address, options))
        try:
            model = _kept(model, train) if model.keeps else model.fit(train)
            _tried(model, train)
        except Wrong as wrong:
            told.append(f"**{model.config.name}** is left out: {wrong.what}. {wrong.remedy}")
            log.warning("%s", told[-1].replace("**", ""))
            continue
        models[model.config.name] = model
        told.append(f"**{model.config.name}** learned from {len(train)} people.")
        offered.known_by(model, train)
    return Entrants(models, told)


def _kept(model: EnteredModel, train: Cohort) -> EnteredModel:
    return fitted(model, train, load=lambda path: model.restored(path, train.ids))


def _tried(model: EnteredModel, train: Cohort) -> None:
    """Ask for the last visit of the training person with most visits."""
    person = max(train, key=lambda s: len(s.scans))
    history = person.scans[:-1] or person.scans
    model.attempt(history, [history[-1].age, person.scans[-1].age], person.diagnosis)
