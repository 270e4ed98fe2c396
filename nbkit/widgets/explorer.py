"""A person, a system, a course and an age: the predicted brain, its change, and a volume over age.

Everything is handed in: scans, and callables that predict. The picture is a pure function of the state
(:meth:`Explorer.render`), so a headless run shows the same as the slider of :mod:`nbkit.widgets.panel`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from nbkit.core.checks import NbkitError, known, require
from nbkit.core.device import side_by_side
from nbkit.papers.trajectories.outlook import Outlook
from nbkit.core.protocols import Scan
from nbkit.core.recent import Recent
from nbkit.core.volume import Volume
from nbkit.papers.trajectories.outlook_figures import Chart, Column, Curve, explorer_picture
from nbkit.figures.style import Picture

ALONE = "nobody"
KEPT = 64
PLANES = {"axial": 9.5, "coronal": -14.0}
"""World coordinate of the cut in mm: through the ventricles, and through the hippocampi."""


@dataclass(frozen=True, eq=False)
class Person:
    """Whom to look at.

    Parameters
    ----------
    id : str
    baseline : Volume
        The last scan a system may see.
    age : float
        At that scan, years.
    seen, later : mapping of float to (mapping of str to float)
        Volumes (mm³) by age: of the scans a system may see, and of those it may not.
    truth : mapping of float to Volume
        Later scans by age.
    scans : sequence of Scan
        Those that a system may see.
    error : mapping of str to float
        By structure, the error to be expected of a volume that was read from a scan (1 = all of it); empty where known.
    """

    id: str
    baseline: Volume
    age: float
    seen: Mapping[float, Mapping[str, float]]
    later: Mapping[float, Mapping[str, float]] = field(default_factory=dict)
    truth: Mapping[float, Volume] = field(default_factory=dict)
    scans: Sequence[Scan] = ()
    error: Mapping[str, float] = field(default_factory=dict)

    @property
    def volumes(self) -> Mapping[str, float]:
        """mm³ by structure at the last scan that may be seen; empty where none is known."""
        return self.seen[max(self.seen)] if self.seen else {}

    @classmethod
    def of(
        cls, scans: Sequence[Scan], volumes: Sequence[Mapping[str, float]], *, seen: int, contrast: str = "T1w",
        error: Mapping[str, float] | None = None,
    ) -> Self:
        """From scans by age with their volumes (mm³ by structure); systems may see the first `seen` of them."""
        require(
            0 < seen <= len(scans) == len(volumes), "Person.of: scans, volumes, seen",
            expected="volumes for every scan, and one scan or more that may be seen",
            found=f"{len(scans)} scans, {len(volumes)} volumes, {seen} seen", remedy="Pass one mapping for each scan.",
        )
        ages = [float(scan.age) for scan in scans]
        by_age = list(zip(ages, volumes, strict=True))
        truth = {age: scan.image(contrast) for age, scan in zip(ages[seen:], scans[seen:], strict=True)}
        last = scans[seen - 1]
        known_of = dict(by_age[:seen]), dict(by_age[seen:])
        return cls(
            last.subject, last.image(contrast), ages[seen - 1], *known_of, truth, tuple(scans[:seen]), error or {},
        )


Predictor = Callable[[Person, float, str], Outlook]


@dataclass(frozen=True)
class State:
    """What is shown."""

    person: str
    system: str
    course: str
    age: float
    structure: str
    beside: str = ALONE
    plane: str = "axial"


class Explorer:
    """The explorer over people and systems.

    Parameters
    ----------
    people : sequence of Person
    systems : mapping of str to callable
        ``predict(person, age, course) -> Outlook``; what a system cannot answer (a course that it does not know, an
        age far from its training) it refuses with an NbkitError, and the picture does without it.
    courses : sequence of str
        Diagnosis paths that systems know, e.g. "HC", "AD".
    structures : sequence of str
        What the chart can show, as in the volumes.
    horizon : float
        Years after baseline that the slider reaches.
    trained : (float, float)
        Ages the systems have learned from; outside them is shaded and said.
    step : float
        Years between two places of the slider; predictions are kept, so a place once seen answers at once.
    save : callable, optional
        ``save(path, volume)`` writes a NIfTI file; without it there is no download.

    Raises
    ------
    NbkitError
        If there is nobody, no system, no course or no structure.
    """

    def __init__(
        self, people: Sequence[Person], systems: Mapping[str, Predictor], *, courses: Sequence[str],
        structures: Sequence[str], horizon: float, trained: tuple[float, float], step: float = 0.5,
        save: Callable[[Path, Volume], object] | None = None,
    ) -> None:
        for name, given in {"people": people, "systems": systems, "courses": courses, "structures": structures}.items():
            require(len(given) > 0, f"Explorer: {name}", expected="at least one", found="none",
                    remedy="Pass what the notebook has fitted and whom to show.")
        self.people = {p.id: p for p in people}
        self.systems, self.courses, self.structures = dict(systems), tuple(courses), tuple(structures)
        self.horizon, self.trained, self.step, self.save = horizon, trained, step, save
        self._outlooks = Recent(KEPT)
        self._curves: dict[tuple[str, str, str], list[tuple[float, Outlook]]] = {}

    @property
    def start(self) -> State:
        """The first person under the first system, half-way to the horizon."""
        person = next(iter(self.people.values()))
        return State(person.id, next(iter(self.systems)), self.courses[0], self.halfway(person.id), self.structures[0])

    def halfway(self, person: str) -> float:
        """The place of the slider half-way to the horizon (age in years)."""
        return self.people[person].age + self.step * round(self.horizon / 2 / self.step)

    def outlook(self, state: State) -> Outlook:
        """The prediction of a state, from memory when it was made before.

        Raises
        ------
        NbkitError
            If the system refuses.
        """
        self._check(state)
        key, system = (state.person, state.system, state.course, round(state.age, 3)), self.systems[state.system]
        return self._outlooks.get(key, lambda: system(self.people[state.person], state.age, state.course))

    def refusal(self, state: State) -> str:
        """Why the system of a state has no answer; empty when it has one."""
        try:
            self.outlook(state)
        except NbkitError as error:
            return f"{state.system} has no answer here: it expects {error.expected}, not {error.found}"
        return ""

    def curve(self, state: State) -> Curve:
        """The volume of the state's structure (mL) from baseline to the horizon; made once per person and system."""
        key, name, person = (state.person, state.system, state.course), state.structure, self.people[state.person]
        if key not in self._curves:
            self._curves[key] = list(self._along(state))
        rows = [(person.age, person.volumes[name], 0.0)] if person.seen else []
        rows += [(a, o.volumes[name], o.spread.get(name, 0.0)) for a, o in self._curves[key] if name in o.volumes]
        ages, values, spread = ([row[k] for row in rows] for k in range(3))
        return Curve(state.system, ages, _ml(values), _ml(spread) if any(spread) else [])

    def _along(self, state: State):
        """Ages and outlooks, without images, at twenty places of the slider at most, as far as the system goes."""
        person, places = self.people[state.person], round(self.horizon / self.step)
        for k in np.unique(np.linspace(1, places, min(places, 20)).round().astype(int)):
            age = person.age + self.step * int(k)
            with suppress(NbkitError):
                yield age, replace(self.systems[state.system](person, age, state.course), image=person.baseline)

    def misses(self, courses: Mapping[str, str], structures: Sequence[str]) -> pd.DataFrame:
        """Absolute error (% of the truth) of the last visit kept back, a row per person, system and structure.

        People and their courses are given by id. Systems are asked side by side; what they refuse, and people without a
        later visit, are left out.
        """
        rows = side_by_side(lambda system: self._missed(system, courses, structures), self.systems)
        return pd.DataFrame([row for part in rows for row in part], columns=["subject", "system", "structure", "value"])

    def _missed(self, system: str, courses: Mapping[str, str], structures: Sequence[str]) -> list[tuple]:
        rows = []
        for person in (self.people[id] for id in courses if self.people[id].later):
            last = max(person.later)
            age = min(last, person.age + self.horizon)
            state = replace(self.start, person=person.id, system=system, course=courses[person.id], age=age)
            said = {} if self.refusal(state) else self.outlook(state).volumes
            rows += [
                (person.id, system, name, abs(100 * (said[name] / person.later[last][name] - 1)))
                for name in structures if name in said
            ]
        return rows

    def render(self, state: State) -> Picture:
        """The picture of a state; a system that refuses is left out of it, :meth:`readout` says why.

        Changes are set against the system's own image at baseline, so that the blur of a decoder is no change.

        Raises
        ------
        NbkitError
            For a person, system, course or structure that is not there, with the nearest name.
        """
        person, columns, curves = self.people[self._check(state).person], [], []
        columns.append(Column(f"baseline, {person.age:.1f} y", person.baseline))
        for asked in self._asked(state):
            if not self.refusal(asked):
                image, before = self.outlook(asked).image, self._before(asked)
                columns.append(Column(f"{asked.system}, {asked.age:.1f} y", image, _minus(image, before)))
            curve = self.curve(asked)
            curves += [curve] if len(curve.ages) > 1 else []
        if person.truth:
            age = min(person.truth, key=lambda a: abs(a - state.age))
            image = person.truth[age]
            columns.append(Column(f"true scan, {age:.1f} y", image, _minus(image, person.baseline)))
        top = float(person.baseline.data.float().max()) * 0.95
        return explorer_picture(
            columns, self._chart(state, curves), level_mm=PLANES[state.plane], plane=state.plane, top=top,
            swing=round(top / 4, 2),
        )

    def readout(self, state: State) -> str:
        """The state in words: age, volume with its spread and change, and whether the age was learned from."""
        low, high = self.trained
        said = [self._said(asked) for asked in self._asked(state)]
        if not low <= state.age <= high:
            said.append(f"outside the ages learned from ({low:.0f} to {high:.0f})")
        return "; ".join(said)

    def files(self, state: State) -> dict[str, bytes]:
        """What a download holds: the predicted image as NIfTI, and how it came about as JSON."""
        own, stem = self.outlook(state), f"{state.person}_{state.system}_{state.course}_age{state.age:.1f}"
        stem = "".join(c if c.isascii() and c.isalnum() or c in "-_" else "-" for c in stem)
        about = asdict(state) | {"volumes_mm3": dict(own.volumes), "sd_mm3": dict(own.spread),
                                 "history": list(own.image.history), "trained_ages": list(self.trained)}
        return {
            f"{stem}.nii.gz": self.nifti(own.image, f"{stem}.nii.gz"),
            f"{stem}.json": json.dumps(about, indent=1).encode(),
        }

    def nifti(self, image: Volume, name: str = "image.nii.gz") -> bytes:
        """An image as the bytes of a NIfTI file of this name."""
        require(
            self.save is not None, "Explorer.files", expected="a way to write NIfTI files", found="none",
            remedy="Pass save=nbkit.data.nifti.save_image to the Explorer.",
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            self.save(path, image)
            return path.read_bytes()

    def _before(self, state: State) -> Volume:
        """What the system makes of baseline itself; the scan, where it refuses."""
        person = self.people[state.person]
        now = replace(state, age=person.age)
        return person.baseline if self.refusal(now) else self.outlook(now).image

    def _asked(self, state: State) -> list[State]:
        """The state under its system, and under the one beside it."""
        return [state] + ([replace(state, system=state.beside)] if state.beside != ALONE else [])

    def _chart(self, state: State, curves: Sequence[Curve]) -> Chart:
        person = self.people[state.person]
        points = {"seen": person.seen, "later": person.later}
        return Chart(
            f"{state.structure.replace('_', ' ')} (mL)", curves, state.age, self.trained,
            {n: (list(v), _ml([x[state.structure] for x in v.values()])) for n, v in points.items() if v},
            (person.age, person.age + self.horizon),
        )

    def _said(self, state: State) -> str:
        refusal = self.refusal(state)
        if refusal:
            return refusal
        person, own, name = self.people[state.person], self.outlook(state), state.structure
        if name not in own.volumes:
            return f"{state.system}, {state.age:.1f} years: no volume of this structure"
        now, spread = own.volumes[name] / 1000, own.spread.get(name)
        text = f"{state.system}, {state.age:.1f} years: {name.replace('_', ' ')} {now:.2f}"
        text += f" ± {1.96 * spread / 1000:.2f} mL" if spread else " mL"
        if person.seen:
            change = 100 * (1000 * now / person.volumes[name] - 1)
            text += f" ({change:+.1f} % since baseline)".replace("-", "−")
        if name in person.error:
            text += f", scan read to ± {now * person.error[name]:.2f} mL"
        return text

    def _check(self, state: State) -> State:
        for name, value, valid in (
            ("person", state.person, self.people), ("system", state.system, self.systems),
            ("course", state.course, self.courses), ("structure", state.structure, self.structures),
            ("beside", state.beside, [ALONE, *self.systems]), ("plane", state.plane, PLANES),
        ):
            known(value, valid, f"Explorer: {name}")
        return state


def _minus(image: Volume, baseline: Volume) -> Volume:
    image.check_grid(baseline, "Explorer: prediction and baseline")
    return image.with_data(image.data.float() - baseline.data.float())


def _ml(volumes: Sequence[float]) -> list[float]:
    return [v / 1000 for v in volumes]
