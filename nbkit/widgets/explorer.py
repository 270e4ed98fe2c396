"""A person, a system, a course and an age: the predicted brain, its change, and a volume over age.

Everything is handed in: scans, and callables that predict. The picture is a pure function of the state
(:meth:`Explorer.render`), so a headless run shows the same as the slider.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import ipywidgets
import numpy as np

from nbkit.core.checks import known, require
from nbkit.core.volume import Volume
from nbkit.figures.explore import Chart, Column, Curve, explorer_picture
from nbkit.figures.style import Picture

ALONE = "nobody"
KEPT = 64
PIXELS_PER_INCH = 110


@dataclass(frozen=True, eq=False)
class Outlook:
    """What a system says of one person at one age.

    Parameters
    ----------
    image : Volume
    volumes : mapping of str to float
        By structure, mm³.
    spread : mapping of str to float
        Standard deviation of those volumes, mm³; empty when the system gives none.
    """

    image: Volume
    volumes: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)


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
    """

    id: str
    baseline: Volume
    age: float
    seen: Mapping[float, Mapping[str, float]]
    later: Mapping[float, Mapping[str, float]] = field(default_factory=dict)
    truth: Mapping[float, Volume] = field(default_factory=dict)


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
        ``predict(person, age, course) -> Outlook``.
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
        self._outlooks: OrderedDict[tuple[str, str, str, float], Outlook] = OrderedDict()
        self._curves: dict[tuple[str, str, str], list[tuple[float, Outlook]]] = {}

    @property
    def start(self) -> State:
        """The first person under the first system, half-way to the horizon."""
        person = next(iter(self.people.values()))
        age = person.age + self.step * round(self.horizon / 2 / self.step)
        return State(person.id, next(iter(self.systems)), self.courses[0], age, self.structures[0])

    def outlook(self, state: State) -> Outlook:
        """The prediction of a state, from memory when it was made before."""
        self._check(state)
        key = (state.person, state.system, state.course, round(state.age, 3))
        if key not in self._outlooks:
            self._outlooks[key] = self.systems[state.system](self.people[state.person], state.age, state.course)
        self._outlooks.move_to_end(key)
        while len(self._outlooks) > KEPT:
            self._outlooks.popitem(last=False)
        return self._outlooks[key]

    def curve(self, state: State, *, points: int = 5) -> Curve:
        """The volume of the state's structure (mL) from baseline to the horizon; made once per person and system."""
        key = (state.person, state.system, state.course)
        if key not in self._curves:
            person = self.people[state.person]
            ages = person.age + np.linspace(0.0, self.horizon, points)[1:]
            made = [(float(a), self.systems[state.system](person, float(a), state.course)) for a in ages]
            light = [(a, replace(o, image=person.baseline)) for a, o in made]
            self._curves[key] = light
        person, name = self.people[state.person], state.structure
        ages, outlooks = zip(*self._curves[key], strict=True)
        begin = [person.seen[a][name] for a in (max(person.seen),)] if person.seen else []
        values = [*begin, *(o.volumes[name] for o in outlooks)]
        spread = [*[0.0] * len(begin), *(o.spread.get(name, 0.0) for o in outlooks)]
        spread = spread if any(spread) else []
        return Curve(state.system, [*[person.age] * len(begin), *ages], _ml(values), _ml(spread))

    def render(self, state: State) -> Picture:
        """The picture of a state.

        Raises
        ------
        NbkitError
            For a person, system, course or structure that is not there, with the nearest name.
        """
        person, own = self.people[self._check(state).person], self.outlook(state)
        columns = [
            Column(f"baseline, {person.age:.1f} y", person.baseline),
            Column(f"{state.system}, {state.age:.1f} y", own.image, _minus(own.image, person.baseline)),
        ]
        curves = [self.curve(state)]
        if state.beside != ALONE:
            second = replace(state, system=state.beside)
            image = self.outlook(second).image
            columns.append(Column(f"{state.beside}, {state.age:.1f} y", image, _minus(image, person.baseline)))
            curves.append(self.curve(second))
        if person.truth:
            age = min(person.truth, key=lambda a: abs(a - state.age))
            image = person.truth[age]
            columns.append(Column(f"true scan, {age:.1f} y", image, _minus(image, person.baseline)))
        points = {"seen": person.seen, "later": person.later}
        chart = Chart(
            f"{state.structure.replace('_', ' ')} (mL)", curves, state.age, self.trained,
            {n: (list(v), _ml([x[state.structure] for x in v.values()])) for n, v in points.items() if v},
        )
        top = float(person.baseline.data.float().max()) * 0.95
        level = {"axial": 8.0, "coronal": -14.0}[state.plane]
        return explorer_picture(
            columns, chart, level_mm=level, plane=state.plane, top=top, swing=round(top / 4, 2),
        )

    def readout(self, state: State) -> str:
        """The state in words: age, volume with its spread and change, and whether the age was learned from."""
        person, own, name = self.people[state.person], self.outlook(state), state.structure
        now = own.volumes[name] / 1000
        spread = own.spread.get(name)
        text = f"{state.age:.1f} years: {name.replace('_', ' ')} {now:.2f}"
        text += f" ± {1.96 * spread / 1000:.2f} mL" if spread else " mL"
        if person.seen:
            before = person.seen[max(person.seen)][name] / 1000
            text += f" ({(now / before - 1) * 100:+.1f} % since baseline)".replace("-", "−")
        low, high = self.trained
        inside = low <= state.age <= high
        return text if inside else f"{text}; outside the ages learned from ({low:.0f} to {high:.0f})"

    def files(self, state: State) -> dict[str, bytes]:
        """What a download holds: the predicted image as NIfTI, and how it came about as JSON."""
        require(
            self.save is not None, "Explorer.files", expected="a way to write NIfTI files", found="none",
            remedy="Pass save=nbkit.data.nifti.save_image to the Explorer.",
        )
        own, stem = self.outlook(state), f"{state.person}_{state.system}_{state.course}_age{state.age:.1f}"
        stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).replace(".", "p")
        about = asdict(state) | {"volumes_mm3": dict(own.volumes), "sd_mm3": dict(own.spread),
                                 "history": list(own.image.history), "trained_ages": list(self.trained)}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{stem}.nii.gz"
            self.save(path, own.image)
            image = path.read_bytes()
        return {path.name: image, f"{stem}.json": json.dumps(about, indent=1).encode()}

    def widget(self, start: State | None = None) -> ipywidgets.Widget:
        """The controls over the picture; every control is reached with Tab and moved with the arrow keys."""
        return _Panel(self, self._check(start or self.start)).box

    def _check(self, state: State) -> State:
        for name, value, valid in (
            ("person", state.person, self.people), ("system", state.system, self.systems),
            ("course", state.course, self.courses), ("structure", state.structure, self.structures),
            ("beside", state.beside, [ALONE, *self.systems]), ("plane", state.plane, ("axial", "coronal")),
        ):
            known(value, valid, f"Explorer: {name}")
        return state


class _Panel:
    """Controls, and the picture that follows them."""

    def __init__(self, explorer: Explorer, start: State) -> None:
        self.explorer = explorer
        choices = {
            "person": list(explorer.people), "system": list(explorer.systems), "beside": [ALONE, *explorer.systems],
            "course": list(explorer.courses), "structure": list(explorer.structures), "plane": ["axial", "coronal"],
        }
        self.controls: dict[str, ipywidgets.ValueWidget] = {
            name: ipywidgets.Dropdown(options=options, value=getattr(start, name), description=name)
            for name, options in choices.items()
        }
        person = explorer.people[start.person]
        self.controls["age"] = ipywidgets.FloatSlider(
            value=start.age, min=person.age, max=person.age + explorer.horizon, step=explorer.step,
            description="age (years)", readout_format=".1f", continuous_update=True,
            layout=ipywidgets.Layout(width="95%"),
        )
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="100%", max_width="900px"))
        self.words = ipywidgets.HTML()
        self.links = ipywidgets.HTML()
        self.button = ipywidgets.Button(description="Download", disabled=explorer.save is None)
        self.button.on_click(self._offer)
        self.controls["person"].observe(self._new_person, "value")
        for control in self.controls.values():
            control.observe(self._show, "value")
        menus = [self.controls[n] for n in choices]
        rows = [ipywidgets.HBox(menus[i:i + 3]) for i in (0, 3)]
        foot = ipywidgets.HBox([self.button, self.links])
        self.box = ipywidgets.VBox([*rows, self.controls["age"], self.words, self.picture, foot])
        self._show()

    @property
    def state(self) -> State:
        return State(**{name: control.value for name, control in self.controls.items()})

    def _new_person(self, change: Mapping[str, str]) -> None:
        slider, age = self.controls["age"], self.explorer.people[change["new"]].age
        with slider.hold_trait_notifications():
            slider.min, slider.max = min(age, slider.min), age + self.explorer.horizon
            slider.value = age + self.explorer.step * round(self.explorer.horizon / 2 / self.explorer.step)
            slider.min = age

    def _show(self, _change: object = None) -> None:
        began, state = time.perf_counter(), self.state
        buffer = io.BytesIO()
        self.explorer.render(state).savefig(buffer, format="png", dpi=PIXELS_PER_INCH)
        self.picture.value = buffer.getvalue()
        self.links.value = ""
        took = (time.perf_counter() - began) * 1000
        self.words.value = f"<span role='status'>{self.explorer.readout(state)} <small>({took:.0f} ms)</small></span>"

    def _offer(self, _button: object) -> None:
        kinds = {".gz": "application/gzip", ".json": "application/json"}
        self.links.value = " ".join(
            f'<a download="{name}" href="data:{kinds[Path(name).suffix]};base64,{base64.b64encode(data).decode()}">'
            f"{name}</a>" for name, data in self.explorer.files(self.state).items()
        )


def _minus(image: Volume, baseline: Volume) -> Volume:
    image.check_grid(baseline, "Explorer: prediction and baseline")
    return image.with_data(image.data.float() - baseline.data.float())


def _ml(volumes: Sequence[float]) -> list[float]:
    return [v / 1000 for v in volumes]
