"""A followed person on disk, and the truth and scans that are read back when looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nbkit.core.checks import known
from nbkit.core.files import write_json
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.data.lazy import LazyVolumes, Shelf, load_volume
from nbkit.phantom.acquisition import rician
from nbkit.phantom.ageing import Participant
from nbkit.phantom.longitudinal import CONTRAST, FollowUp, Plan, ageing_parameters, labels_of
from nbkit.phantom.study import facts_of, half, store, stored


@dataclass(frozen=True, eq=False)
class AgeingTruth:
    """What a simulation knows of one person and a scanner does not.

    Parameters
    ----------
    ages, times : tuple of float
        Age at every visit (years), and how far along the flow it is, in years at the baseline pace.
    volumes : tuple of dict
        mm³ of every region at every visit, partial voxels counted by their share.
    rates : mapping of str to float
        Asked change of every structure in the year after baseline, over its volume then (1/year).
    acceleration : float
        Growth of the yearly changes over those at baseline (1/year).
    onset : mapping or None
        What follows a conversion: its ``age``, ``time``, ``rates`` and ``acceleration``.
    draws : int
        How many draws of rates it took.
    load : float
        Amyloid-like, a standard score among people of the diagnosis: faster change goes with it. No covariate, because
        a T1w scan does not show it.
    diagnoses : tuple of str
        At every visit.
    fields : mapping of str to Volume
        Loaded when looked at: see the properties.
    """

    ages: tuple[float, ...]
    times: tuple[float, ...]
    volumes: tuple[dict[str, float], ...]
    rates: Mapping[str, float]
    acceleration: float
    onset: Mapping[str, Any] | None
    draws: int
    load: float
    diagnoses: tuple[str, ...]
    fields: Mapping[str, Volume]

    @property
    def velocity(self) -> Volume:
        """(3, X, Y, Z) mm/year, world components, pulling back: ``expv(time * velocity)`` is the visit at `time`."""
        return self.fields["velocity"]

    @property
    def velocity_after_onset(self) -> Volume:
        """As :attr:`velocity`, from the onset on, on the anatomy of then; KeyError for who does not convert."""
        return self.fields["velocity_after_onset"]

    def as_dict(self) -> dict[str, Any]:
        """All but the fields, ready for JSON."""
        return {name: value for name, value in vars(self).items() if name != "fields"}

    def log_jacobian(self, visit: int) -> Volume:
        """On the baseline anatomy: ln of mm³ at a visit per mm³ at baseline."""
        return self.fields[f"log_jacobian.{range(len(self.ages))[visit]}"]

    def noise_free(self, age: float) -> Volume:
        """T1w image of the visit at an age without its noise; KeyError where the first scan is a real one."""
        return self.fields[f"noise_free.{self.ages.index(age)}"]


def write_person(
    folder: Path, course: FollowUp, *, images: Sequence[Volume], brain: Volume, noise_free: Sequence[Volume] = ()
) -> None:
    """Write the visits of a person and the truth about them into `folder`.

    Images, velocities and log Jacobians are kept as 16-bit floats: what they lose is a tenth of the noise.

    Parameters
    ----------
    folder : path
    course : FollowUp
    images : sequence of Volume
        T1w image of every visit.
    brain : Volume
        Boolean, of all visits.
    noise_free : sequence of Volume
        The images without noise, where they are known.
    """
    path = course.trajectory
    truth = {f"log_jacobian.{k}": visit.log_jacobian for k, visit in enumerate(path.visits)}
    truth |= {f"noise_free.{k}": image for k, image in enumerate(noise_free)}
    truth["velocity"] = Volume(path.velocity[0], brain.affine, ("velocity of ageing",))
    if path.turn is not None:
        truth["velocity_after_onset"] = Volume(path.turn.velocity[0], brain.affine, ("velocity of dementia",))
    volumes = {f"image.{k}": {CONTRAST: half(image)} for k, image in enumerate(images)}
    volumes["labels"] = {str(k): labels_of(visit.regions) for k, visit in enumerate(path.visits)}
    volumes["mask"] = {"brain": brain}
    quiet = {"noise_free": len(noise_free) > 0}
    store(
        folder, volumes | {"truth": {name: half(volume) for name, volume in truth.items()}}, _facts(course) | quiet
    )


def write_volumes(folder: Path, course: FollowUp) -> None:
    """Write what is known of a person without images: all of the truth but the fields."""
    write_json(folder / "person.json", _facts(course) | {"noise_free": False})


def _facts(course: FollowUp) -> dict[str, Any]:
    path, later, onset = course.trajectory, course.rates_after_onset, None
    if path.turn is not None:
        pace = {"rates": later.yearly, "acceleration": later.acceleration}
        onset = {"age": path.turn.age, "time": path.turn.time, **pace}
    return {
        "ages": [v.age for v in path.visits], "times": [v.time for v in path.visits],
        "volumes": [v.regions.volumes for v in path.visits], "rates": course.rates.yearly,
        "acceleration": course.rates.acceleration, "onset": onset, "draws": course.draws, "load": course.load,
        "diagnoses": [course.plan.diagnosis_at(v.age) for v in path.visits],
    }


def read_people(
    plans: Sequence[Plan], folders: Sequence[Path], regions: Sequence[str],
    covariates: Callable[[Plan], Mapping[str, Any]],
) -> list[tuple[Subject, AgeingTruth]]:
    """The subjects and the truth that :func:`write_person` wrote; volumes are loaded when looked at.

    ``Subject.diagnosis`` is that of the first visit; sessions are named by months since then. `regions` are named in
    the order of their labels, from 1.
    """
    shelf, names = Shelf(), dict(enumerate(regions, start=1))
    return [
        _person(folder, plan.person, names, shelf, covariates(plan))
        for plan, folder in zip(plans, folders, strict=True)
    ]


def read_volumes(
    plans: Sequence[Plan], folders: Sequence[Path], covariates: Callable[[Plan], Mapping[str, Any]]
) -> list[tuple[Subject, AgeingTruth]]:
    """The subjects, whose scans hold no image, and the truth that :func:`write_volumes` wrote."""
    found = []
    for plan, folder in zip(plans, folders, strict=True):
        person, facts = plan.person, facts_of(folder)
        scans = tuple(
            Scan(person.id, _session(age, facts), age, {}, diagnosis=diagnosis)
            for age, diagnosis in zip(facts["ages"], facts["diagnoses"], strict=True)
        )
        subject = Subject(person.id, person.sex, facts["diagnoses"][0], scans, covariates(plan))
        found.append((subject, _truth(facts, {})))
    return found


def noise_free(cohort: Cohort, contrast: str) -> Mapping[tuple[str, str], Volume]:
    """Images without noise by (subject, session), loaded when looked at.

    Raises
    ------
    NbkitError
        For another contrast than T1w.
    """
    known(contrast, (CONTRAST,), f"noise_free: contrast of {cohort.name}")
    ages = {(s.id, scan.session): scan.age for s in cohort for scan in s.scans}
    load = partial(_noise_free, {s.id: cohort.truth[s.id] for s in cohort}, ages)
    return LazyVolumes(f"{cohort.name} without noise", tuple(ages), load, shelf=Shelf())


def noise_again(cohort: Cohort, *, seed: int) -> Cohort:
    """Every person's first visit twice: the scan, and the same acquisition with noise drawn anew.

    Anatomy, position, gain and bias field are the same in both: what differs is noise alone.
    """
    p = ageing_parameters().section("scan")

    def again(subject: Subject) -> Subject:
        first, free = subject.baseline, cohort.truth[subject.id].noise_free(subject.baseline.age)
        averaged = min(1.0, (p["voxel"] ** 3 / free.voxel_volume) ** 0.5)
        rng = numpy_generator(seed, subject.id, "scanned twice")
        noise = rng.normal(0, p["noise"] * averaged, (2, *free.data.shape))
        data = rician(free.data.float(), torch.from_numpy(noise).float()) * first.mask("brain").data
        images = {CONTRAST: free.with_data(data, "noise drawn anew")}
        return replace(subject, scans=(first, replace(first, session=f"{first.session}again", images=images)))

    kind = "simulated: one acquisition with two draws of noise"
    return replace(cohort, subjects=tuple(map(again, cohort)), provenance={**cohort.provenance, "kind": kind})


def _noise_free(
    truth: Mapping[str, AgeingTruth], ages: Mapping[tuple[str, str], float], key: tuple[str, str]
) -> Volume:
    return truth[key[0]].noise_free(ages[key])


def _session(age: float, facts: Mapping[str, Any]) -> str:
    return f"M{round(12 * (age - facts['ages'][0])):03d}"


def _truth(facts: Mapping[str, Any], fields: Mapping[str, Volume]) -> AgeingTruth:
    told = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
    return AgeingTruth(**{name: value for name, value in told.items() if name != "noise_free"}, fields=fields)


def _person(
    folder: Path, person: Participant, label_names: Mapping[int, str], shelf: Shelf, covariates: Mapping[str, Any]
) -> tuple[Subject, AgeingTruth]:
    facts, scans = facts_of(folder), []
    for k, (age, diagnosis) in enumerate(zip(facts["ages"], facts["diagnoses"], strict=True)):
        session = _session(age, facts)
        images, masks = stored(folder, f"image.{k}", (CONTRAST,), shelf), stored(folder, "mask", ("brain",), shelf)
        # the file stays mapped: labels take memory only while they are looked at
        labels = load_volume(folder / "person.safetensors", f"labels.{k}")
        scans.append(Scan(person.id, session, age, images, masks, labels, label_names, diagnosis))
    names = ["velocity", *["velocity_after_onset"] * (facts["onset"] is not None)]
    kinds = ("log_jacobian", *["noise_free"] * facts["noise_free"])
    names += [f"{kind}.{k}" for kind in kinds for k in range(len(scans))]
    truth = _truth(facts, stored(folder, "truth", names, shelf))
    return Subject(person.id, person.sex, facts["diagnoses"][0], tuple(scans), covariates), truth
