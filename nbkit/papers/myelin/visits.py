"""Which systems chapter 4 compares, what they predict at both visits, and in which order patients are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort
from nbkit.core.tidy import where
from nbkit.core.volume import Volume
from nbkit.papers.myelin.metrics import Course

Predictions = Mapping[str, Volume]
SYSTEMS = {
    "dnn": "dnn", "unet": "unet", "cgan": "cgan", "refiner_cgan": "refiner", "cfsagan": "sagan",
    "refiner_cfsagan": "sagan_refiner", "refiner2_cfsagan": "sagan_refiner2",
    "unet_wl1": "unet_w", "cgan_wl1": "cgan_w", "cfsagan_wl1": "sagan_w",
    "unet_nwl1": "unet_a", "cgan_nwl1": "cgan_a", "cfsagan_nwl1": "sagan_a",
}
"""Systems of Tables 4.1 and 4.2, and their names in :data:`~nbkit.papers.myelin.synthesis.VARIANTS`."""
COMPARED = ("dnn", "unet", "cgan", "refiner_cgan", "cfsagan", "refiner_cfsagan")
"""Those of Table 4.1."""
CHANGED = 30
"""Voxels that must change in one slice for a map of change to show anything."""
WATCHED = ("refiner_cfsagan", "refiner_cgan", "linear")
"""Those that are applied to the second scans."""


def two_visits(
    results: Mapping[str, Any], people: Cohort, systems: Sequence[str] = WATCHED
) -> dict[str, tuple[Predictions, Predictions]]:
    """What each system predicts for the first and the second scans, by the models that saw neither of a person."""
    return {name: tuple(results[name].predictions(people, visit=k) for k in (0, 1)) for name in systems}


def noise_free_visits(
    people: Cohort, images: Mapping[tuple[str, str], Volume]
) -> dict[str, tuple[Predictions, Predictions]]:
    """``{"floor": (first, second)}``, the PET without noise in the place of predictions; empty where none is known.

    `images` are by (subject, session).
    """
    visits = [[(s.id, s.scans[k].session) for s in people if len(s.scans) > k] for k in (0, 1)]
    return {"floor": tuple({who[0]: images[who] for who in visit} for visit in visits)} if images else {}


def by_change(index: pd.DataFrame) -> list[str]:
    """Patients in the order of their true global change, so that a number is one patient in Figures 4.4 and 4.5."""
    return list(where(index, system="truth", metric="global_change").sort_values("value")["subject"])


def three_courses(index: pd.DataFrame, maps: Mapping[str, Mapping[str, Course]]) -> dict[str, str]:
    """Patients by letter for Figure 4.6: most demyelination over remyelination, most of both, most remyelination.

    Of those with at least :data:`CHANGED` truly changed voxels in one slice, where there are any: of fewer there is
    nothing to see. `maps` are courses by system and patient.
    """
    true = where(index, system="truth").pivot(index="subject", columns="metric", values="value")
    seen = [s for s in true.index if _changed(maps["truth"][s]) >= CHANGED]
    true = true.loc[seen or true.index]
    lost, back = true["dynamic_demyelination"], true["dynamic_remyelination"]
    chosen = dict.fromkeys([(lost - back).idxmax(), (lost + back).idxmax(), (back - lost).idxmax()])
    return {f"patient {letter}": s for letter, s in zip("ABC", chosen, strict=False)}


def _changed(course: Course) -> int:
    """Voxels that change between the scans in the slice that has most of them."""
    changes = [course.maps[name].data[0] for name in ("demyelinating", "remyelinating") if name in course.maps]
    return int((changes[0] | changes[1]).sum((0, 1)).max()) if changes else 0
