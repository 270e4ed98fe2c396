"""The explorer as one file that needs no kernel: every outlook predicted beforehand, mixed in the browser.

It asks the same :class:`~nbkit.widgets.explorer.Explorer` that the widget shows, at the ages that systems predict;
between them images and volumes lie on straight lines, here as there
(:func:`nbkit.papers.trajectories.outlook.between`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.core.device import side_by_side
from nbkit.core.files import write_text
from nbkit.core.page import look, page
from nbkit.core.volume import Volume
from nbkit.figures.marks import TRAJECTORIES, marks
from nbkit.figures.web import colours, grey_levels
from nbkit.papers.trajectories.outlook_figures import Window, grey_tile
from nbkit.widgets.explorer import ALONE, PLANES, Explorer, Person, State

TEMPLATE = Path(__file__).with_name("explorer.html.j2")
SCRIPT = Path(__file__).with_name("explorer.js")
NAME = "explorer.html"
WHITE, SWING = 0.95, 0.25
"""Shares of the brightest voxel: shown white, and of that the darkest colour of a change (:meth:`Explorer.render`)."""


def write_explorer(
    explorer: Explorer, folder: Path | str, *, years: Sequence[float], start: State | None = None, source: str = "",
    restricted: bool = False,
) -> Path:
    """Write ``explorer.html``: all people, systems and courses at `years` after each person's last scan seen.

    People are called "person 1", "person 2" ..., whatever their ids; of restricted data the page says that it must not
    be passed on.

    Parameters
    ----------
    explorer : Explorer
    folder : path
    years : sequence of float
        Rising from 0; where systems predict (:class:`nbkit.papers.trajectories.outlooks.Outlooks`), so that nothing is
        mixed twice.
    start : State, optional
        What is shown first.
    source : str
        What stands below: cohort, level, profile, credit.
    restricted : bool
    """
    start, people = start or explorer.start, list(explorer.people.values())
    windows = [{plane: Window.of(p.baseline, plane, level) for plane, level in PLANES.items()} for p in people]
    shown = list(zip(people, windows, strict=True))
    said = side_by_side(lambda system: [_said(explorer, *one, system, years) for one in shown], explorer.systems)
    looks = marks(list(explorer.systems), {mark.title: mark for mark in TRAJECTORIES.values()})
    data = {
        "people": [_person(p, explorer, windows[k]) | {"name": f"person {k + 1}"} for k, p in enumerate(people)],
        "systems": [{"name": name, "colour": looks[name].colour} for name in explorer.systems],
        "courses": list(explorer.courses), "planes": list(PLANES), "alone": ALONE, "step": explorer.step,
        "structures": [{"name": s, "title": s.replace("_", " ")} for s in explorer.structures],
        "start": asdict(start) | {"index": list(explorer.people).index(start.person), "person": ""},
        "horizon": explorer.horizon, "trained": list(explorer.trained), "years": list(map(float, years)),
        "white": WHITE, "swing": SWING, "colours": colours("RdBu_r"),
        "outlooks": dict(zip(explorer.systems, said, strict=True)),
    }
    text = page(
        TEMPLATE, scripts={"script": SCRIPT.read_text(encoding="utf-8")}, styles=look(TEMPLATE), data=data,
        source=source, restricted=restricted,
    )
    return write_text(Path(folder) / NAME, text)


def _person(person: Person, explorer: Explorer, windows: Mapping[str, Window]) -> dict[str, Any]:
    """Ages, volumes (mL) and true images of a person, with the size in mm of what is shown in each plane."""
    full = _full(person)
    images = [person.baseline, *person.truth.values()]
    points = {"seen": person.seen, "later": person.later}
    return {
        "age": person.age, "full": full, "sheet": _sheet(images, windows, full), "truth": list(person.truth),
        "boxes": {plane: _box(person.baseline, window) for plane, window in windows.items()},
        "swing": round(SWING * WHITE * full, 2),
        **{name: {"ages": list(found), "ml": {s: [round(v[s] / 1000, 4) for v in found.values()]
                                              for s in explorer.structures}} for name, found in points.items()},
    }


def _said(
    explorer: Explorer, person: Person, windows: Mapping[str, Window], system: str, years: Sequence[float],
) -> dict[str, Any]:
    """What a system says of a person by course: images, volumes and spreads at `years`, or why it has no answer."""
    found = {}
    for course in explorer.courses:
        states = [replace(explorer.start, person=person.id, system=system, course=course, age=person.age + y)
                  for y in years]
        found[course] = _course(explorer, states, windows, _full(person))
    return found


def _course(
    explorer: Explorer, states: Sequence[State], windows: Mapping[str, Window], full: float,
) -> dict[str, Any]:
    # what is refused at one age is refused at later ones, and asking again can take as long as predicting
    refused = next((k for k, state in enumerate(states) if explorer.refusal(state)), len(states))
    outlooks = [explorer.outlook(state) for state in states[:refused]]
    told = [s for s in explorer.structures if outlooks and all(s in o.volumes for o in outlooks)]
    sure = [s for s in told if any(s in o.spread for o in outlooks)]
    return {
        "count": refused, "refusal": explorer.refusal(states[refused]) if refused < len(states) else "",
        "sheet": _sheet([o.image for o in outlooks], windows, full) if outlooks else "",
        "ml": {s: [round(o.volumes[s] / 1000, 4) for o in outlooks] for s in told},
        "sd": {s: [round(o.spread.get(s, 0.0) / 1000, 4) for o in outlooks] for s in sure},
    }


def _box(image: Volume, window: Window) -> dict[str, float]:
    """Pixels of a tile, and its size in mm."""
    height, width = grey_tile(image, window, full=1.0).shape
    return {"width": width, "height": height, "mm": window.mm}


def _full(person: Person) -> float:
    return float(person.baseline.data.float().max())


def _sheet(images: Sequence[Volume], windows: Mapping[str, Window], full: float) -> str:
    """Images below each other, their planes beside each other, as grey levels without loss; `full` is level 255."""
    rows = [[grey_tile(image, window, full=full) for window in windows.values()] for image in images]
    tall = max(tile.shape[0] for tile in rows[0])
    padded = [np.hstack([np.pad(t, ((0, tall - t.shape[0]), (0, 0))) for t in row]) for row in rows]
    return grey_levels(np.vstack(padded))
