"""A followed person on disk, whole or not at all, and the truth and scans that are read back when looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nbkit.core.files import write_json
from nbkit.core.protocols import Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.lazy import LazyVolumes, Shelf, load_volume, save_volumes
from nbkit.phantom.longitudinal import CONTRAST, FollowUp

_VOLUMES, _FACTS = "person.safetensors", "facts.json"


@dataclass(frozen=True, eq=False)
class AgeingTruth:
    """What a simulation knows of one person and a scanner does not.

    Parameters
    ----------
    facts : mapping
        JSON-able. ``ages`` (years) and ``times`` (years at the baseline pace) of the visits; ``volumes``, one dict of
        region to mm³ per visit; ``rates``, structure to change per year (1), and ``acceleration`` (1/year);
        ``onset``, None or ``age``, ``time``, ``rates``, ``acceleration`` of what follows it; ``draws`` of rates.
    fields : mapping of str to Volume
        Loaded when looked at: see the properties.
    """

    facts: Mapping[str, Any]
    fields: Mapping[str, Volume]

    @property
    def ages(self) -> tuple[float, ...]:
        """Age at every visit, years."""
        return tuple(self.facts["ages"])

    @property
    def times(self) -> tuple[float, ...]:
        """How far along the flow every visit is, in years at the baseline pace."""
        return tuple(self.facts["times"])

    @property
    def volumes(self) -> tuple[dict[str, float], ...]:
        """mm³ of every region at every visit, partial voxels counted by their share."""
        return tuple(self.facts["volumes"])

    @property
    def rates(self) -> dict[str, float]:
        """Asked change of every structure in the year after baseline, over its volume then (1/year)."""
        return self.facts["rates"]

    @property
    def acceleration(self) -> float:
        """Growth of the yearly changes over those at baseline (1/year)."""
        return self.facts["acceleration"]

    @property
    def onset(self) -> dict[str, Any] | None:
        """What follows a conversion: its ``age``, ``time``, ``rates`` and ``acceleration``."""
        return self.facts["onset"]

    @property
    def velocity(self) -> Volume:
        """(3, X, Y, Z) mm/year, world components, pulling back: ``expv(time * velocity)`` is the visit at `time`."""
        return self.fields["velocity"]

    @property
    def velocity_after_onset(self) -> Volume:
        """As :attr:`velocity`, from the onset on, on the anatomy of then; KeyError for who does not convert."""
        return self.fields["velocity_after_onset"]

    def as_dict(self) -> dict[str, Any]:
        """The facts, ready for JSON."""
        return dict(self.facts)

    def log_jacobian(self, visit: int) -> Volume:
        """On the baseline anatomy: ln of mm³ at a visit per mm³ at baseline."""
        return self.fields[f"log_jacobian.{range(len(self.ages))[visit]}"]


def write_person(
    folder: Path, course: FollowUp, *, images: Sequence[Volume], labels: Sequence[Volume], brain: Volume
) -> None:
    """Write the visits of a person and the truth about them into `folder`.

    Images, velocities and log Jacobians are kept as 16-bit floats: what they lose (1/2000 of a value) is a tenth of
    the noise.

    Parameters
    ----------
    folder : path
    course : FollowUp
    images, labels : sequence of Volume
        T1w image and label codes of every visit.
    brain : Volume
        Boolean, of all visits.
    """
    path, grid = course.trajectory, brain
    volumes = {f"{CONTRAST}.{k}": _half(image) for k, image in enumerate(images)}
    volumes |= {f"labels.{k}": label for k, label in enumerate(labels)} | {"brain": brain}
    volumes |= {f"log_jacobian.{k}": _half(visit.log_jacobian) for k, visit in enumerate(path.visits)}
    volumes["velocity"] = Volume(path.velocity[0].half(), grid.affine, ("velocity of ageing",))
    if path.turn is not None:
        volumes["velocity_after_onset"] = Volume(path.turn.velocity[0].half(), grid.affine, ("velocity of dementia",))
    save_volumes(folder / _VOLUMES, volumes)
    write_json(folder / _FACTS, _facts(course))


def _half(volume: Volume) -> Volume:
    return volume.with_data(volume.data.half())


def _facts(course: FollowUp) -> dict[str, Any]:
    visits, turn, later = course.trajectory.visits, course.trajectory.turn, course.rates_after_onset
    onset = None if turn is None else {
        "age": turn.age, "time": turn.time, "rates": dict(later.yearly), "acceleration": later.acceleration,
    }
    return {
        "ages": [v.age for v in visits], "times": [v.time for v in visits],
        "volumes": [v.regions.volumes for v in visits], "rates": dict(course.rates.yearly),
        "acceleration": course.rates.acceleration, "onset": onset, "draws": course.draws,
        "diagnoses": [course.plan.diagnosis_at(v.age) for v in visits],
    }


def read_person(
    folder: Path, *, id: str, sex: str | None, label_names: Mapping[int, str], shelf: Shelf,
    covariates: Mapping[str, Any] | None = None,
) -> tuple[Subject, AgeingTruth]:
    """The subject and the truth that :func:`write_person` wrote; volumes are loaded when looked at.

    ``Subject.diagnosis`` is that of the first visit; sessions are named by months since then.
    """
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    load = partial(_load, folder / _VOLUMES)
    scans = tuple(
        _scan(k, facts, folder, id, label_names=label_names, load=load, shelf=shelf) for k in range(len(facts["ages"]))
    )
    names = ["velocity"] + ["velocity_after_onset"] * (facts["onset"] is not None)
    names += [f"log_jacobian.{k}" for k in range(len(scans))]
    truth = AgeingTruth(facts, LazyVolumes(f"{folder} truth", names, load, shelf=shelf))
    return Subject(id, sex, facts["diagnoses"][0], scans, covariates or {}), truth


def _scan(
    k: int, facts: Mapping[str, Any], folder: Path, person: str, *, label_names: Mapping[int, str], load: Any,
    shelf: Shelf,
) -> Scan:
    age = facts["ages"][k]
    image = LazyVolumes(f"{folder} {k}", (CONTRAST,), partial(_named, load, k), shelf=shelf)
    masks = LazyVolumes(str(folder), ("brain",), load, shelf=shelf)
    # the file stays mapped: labels take memory only while they are looked at
    labels = load_volume(folder / _VOLUMES, f"labels.{k}")
    session = f"M{round(12 * (age - facts['ages'][0])):03d}"
    return Scan(person, session, age, image, masks, labels, label_names, facts["diagnoses"][k])


def _named(load: Any, visit: int, name: str) -> Volume:
    return load(f"{name}.{visit}")


def _load(path: Path, name: str) -> Volume:
    volume = load_volume(path, name)
    return volume.with_data(volume.data.float()) if volume.data.dtype == torch.float16 else volume
