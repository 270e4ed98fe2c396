"""InBrainSyn: futures of one scan, by carrying the change of a group's template to the person's own anatomy.

Fu et al., Med Image Anal 2025, as an article about it and the public code tell it. Templates of controls (HC) and of
patients (AD) depend on age. Registering the template of one age to that of another gives the group's change as a
velocity (intra), registering it to the scan the way to the person (inter). The pole ladder carries the one along the
other; the flow of what arrives moves the scan, once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from nbkit.core.checks import NbkitError, check_keys, known, require
from nbkit.core.config import Settings
from nbkit.core.device import pick_device
from nbkit.core.files import atomic
from nbkit.core.protocols import Cohort, Scan, Subject, TemplateModel
from nbkit.core.recent import Recent, fingerprint
from nbkit.core.volume import Volume
from nbkit.data.splits import subject_hash
from nbkit.geometry import registration
from nbkit.geometry.affine import DEGREES, align, apply_affine, velocity_through
from nbkit.geometry.flow import Velocity, compose, expv
from nbkit.geometry.futures import Futures
from nbkit.geometry.transport import transport
from nbkit.geometry.warp import Displacement
from nbkit.papers.inbrainsyn.aged import smoothed
from nbkit.training.checkpoint import Constants, Saved, load_checkpoint

GROUPS, TRANSPORTS = ("HC", "AD"), ("half", "full", "none", "wrong", "direct")
ALIGNMENTS = ("none", *DEGREES)
_SMOKE = {"levels_mm": (10.0, 5.0), "iterations": (10, 10), "velocity_mm": 10.0}
_KEPT, _CHANGES_KEPT = 32, 160
"""Results kept for the next question about the same person or ages; of changes of scans (2 MB each at 3 mm) more."""


@dataclass(frozen=True)
class Config(Settings):
    """Settings; defaults as published where the article or its code says.

    Attributes
    ----------
    contrast : str
        Image that templates are made of and that is moved.
    healthy, diseased : tuple of str
        Diagnoses of the visits that make the HC and the AD templates (published: CDR 0, and 0.5 or more); EMCI neither.
    transport : {"half", "full", "none", "wrong", "direct"}
        How the change travels: "half" as published (the pole ladder, which stops half-way), "full" all the way, "none"
        stays where it is in the template, "wrong" against the sign that fields which pull back need (the published
        formula taken literally). "direct" has no change of a template at all: the scan is registered to the template
        of the other age (No-PT, as the public code's baseline reads).
    rung_voxels : float
        A rung of the ladder is shorter than so many voxels: 1 in the article's code; Lorenzi & Pennec ask for a half.
    squarings : int or None
        Of the flow that moves the scan: 7 in the article's code; None as many as its largest vector needs.
    smooth_mm : float
        Standard deviation of the Gaussian that the scan goes through first, 0.75 voxels of 1 mm in the article's code,
        0 for none. (Its min-max scaling would change nothing: local correlation is blind to it.)
    align : {"affine", "similarity", "rigid", "none"}
        How the template is laid on the scan first. Published scans were affinely aligned; ours keep their size.
    levels_mm, iterations, velocity_mm
        Of all registrations (:class:`nbkit.geometry.registration.Config`), in place of a trained network. The published
        velocity has half the resolution of 1 mm images: 2 mm; every profile keeps that ratio.
    change_step, change_stiffness : float
        Of registering a template to itself at another age. The steps made for two people, of one and a half voxels,
        shake a template whose true change is a tenth of a voxel; with these, the field of two equal templates is zero
        and that of nearly equal ones nearly so. Our choice, fixed where the change is known (balls, moved templates).
    margin_years : float
        How far outside the ages of its training visits a template may be asked for. Our choice.
    device : str
    """

    contrast: str = "T1w"
    healthy: tuple[str, ...] = ("CN", "SMC")
    diseased: tuple[str, ...] = ("LMCI", "AD")
    transport: str = "half"
    rung_voxels: float = 1.0
    squarings: int | None = 7
    smooth_mm: float = 0.75
    align: str = "affine"
    levels_mm: tuple[float, ...] = (8.0, 4.0, 2.0)
    iterations: tuple[int, ...] = (30, 40, 20)
    velocity_mm: float = 2.0
    change_step: float = 0.2
    change_stiffness: float = 0.1
    margin_years: float = 2.0
    device: str = "auto"

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {**_SMOKE, "margin_years": 40.0, "change_step": 0.1},
        "laptop": {"levels_mm": (6.0, 3.0), "iterations": (25, 20), "velocity_mm": 6.0},
        "overnight": {"levels_mm": (8.0, 4.0, 2.0), "iterations": (40, 30, 20), "velocity_mm": 4.0},
    }

    def __post_init__(self) -> None:
        known(self.transport, TRANSPORTS, "inbrainsyn.Config: transport")
        known(self.align, ALIGNMENTS, "inbrainsyn.Config: align")
        both = sorted({*self.healthy} & {*self.diseased})
        require(
            not both, "inbrainsyn.Config: healthy, diseased", expected="each diagnosis in one group at most",
            found=f"{', '.join(both)} in both", remedy="Leave it out of one of them.",
        )

    def between_people(self) -> registration.Config:
        """Settings of registering a template and a scan."""
        return registration.Config(levels_mm=self.levels_mm, iterations=self.iterations, velocity_mm=self.velocity_mm)

    def between_ages(self) -> registration.Config:
        """Settings of registering a template to itself at another age."""
        return self.between_people().changed(step=self.change_step, stiffness=self.change_stiffness)


@dataclass(frozen=True)
class Transition:
    """A course: healthy until `age` (years), then with disease."""

    age: float


Course = str | Transition


class InBrainSyn(Saved):
    """A :class:`~nbkit.core.protocols.TrajectoryModel` that needs one scan.

    Parameters
    ----------
    config : Config, optional
    templates : mapping of {"HC", "AD"} to TemplateModel
        Fitted here (:meth:`fit`) or before; one of the two is enough for courses that need no other.

    Attributes
    ----------
    age_ranges : dict of str to tuple
        By group, youngest and oldest training visit (years); templates are asked ``Config.margin_years`` beyond them.
    """

    settings = Config

    def __init__(self, config: Config | None = None, *, templates: Mapping[str, TemplateModel]) -> None:
        self.config = config or Config()
        check_keys(templates, GROUPS, "InBrainSyn: templates")
        require(
            len(templates) > 0, "InBrainSyn: templates", expected="a template model for HC, AD or both", found="none",
            remedy="Pass templates={'HC': ..., 'AD': ...}.",
        )
        self.templates = dict(templates)
        self.age_ranges: dict[str, tuple[float, float]] = {}
        self._recent, self._changes = Recent(_KEPT), Recent(_CHANGES_KEPT)

    def fit(self, cohort: Cohort) -> Self:
        """Fit the template of each group to the visits of its diagnoses, whoever they belong to."""
        for group, model in self.templates.items():
            scans = self.visits(cohort, group)
            require(
                len(scans) > 0, f"InBrainSyn.fit: {group}", expected=f"visits of {', '.join(self._diagnoses(group))}",
                found="none", remedy="Give a cohort that has them, or leave this template out.",
            )
            model.fit(scans)
            self.age_ranges[group] = (min(s.age for s in scans), max(s.age for s in scans))
        self.trained_on = subject_hash(cohort.ids)
        self._recent, self._changes = Recent(_KEPT), Recent(_CHANGES_KEPT)
        return self

    def visits(self, cohort: Cohort, group: str) -> list[Scan]:
        """Scans of `cohort` that make the template of a group: those whose diagnosis at the visit belongs to it."""
        wanted = self._diagnoses(group)
        return [scan for subject in cohort for scan in subject.scans if (scan.diagnosis or subject.diagnosis) in wanted]

    def variant(self, **changes: Any) -> Self:
        """The same fitted templates under changed settings (``transport="full"``); registrations are shared."""
        other = copy.copy(self)
        other.config = self.config.changed(**changes)
        return other

    def course_of(self, diagnosis: str) -> str:
        """The group whose change a diagnosis follows; one of neither group is refused."""
        for group in GROUPS:
            if diagnosis in (group, *self._diagnoses(group)):
                return group
        raise NbkitError(
            "InBrainSyn: diagnosis", expected=f"one of {', '.join((*self.config.healthy, *self.config.diseased))}",
            found=repr(diagnosis), remedy="Say which course to follow: 'HC', 'AD' or Transition(age).",
        )

    def answers(self, scan: Scan, ages: Sequence[float], course: Course) -> bool:
        """Whether :meth:`futures` has an answer: the templates cover the ages of the scan and of what is asked for."""
        try:
            self._check(scan, ages, course)
        except NbkitError:
            return False
        return True

    def covers(self, subject: Subject) -> bool:
        """Whether all visits of a subject can be asked for, under the course of the diagnosis at baseline."""
        return self.answers(subject.baseline, [s.age for s in subject.scans], subject.diagnosis)

    def futures(self, scan: Scan, ages: Sequence[float], course: Course) -> Futures:
        """One scan at other ages.

        For HC and AD the displacement is the flow of w = transport(u, v), with u the change of the template from the
        age of the scan to the other age and v the way from the template to the scan. Ages before the scan go back
        along the same change.

        After a transition at age t* two changes meet, both in the anatomy of the scan: φ, the healthy one from the age
        of the scan to t*, and ψ, that with disease from t* on. In the anatomy that φ leads to, the second is
        φ⁻¹ ∘ ψ ∘ φ (:func:`nbkit.geometry.transport.conjugate`). The image at t* is I ∘ φ, the later one
        I ∘ φ ∘ (φ⁻¹ ∘ ψ ∘ φ) = I ∘ ψ ∘ φ: no inverse is needed, and no image is made on the way.

        Parameters
        ----------
        scan : Scan
            With an age and the contrast, skull-stripped as the training scans were.
        ages : sequence of float
            Years, in any order.
        course : {"HC", "AD"}, a diagnosis of either group, or Transition
            Ages up to that of a transition follow HC.

        Raises
        ------
        NbkitError
            For an unknown course, an age that the templates do not cover, a transition before the scan, or a model
            that was not fitted.
        """
        ages = tuple(map(float, ages))
        course, scan = self._check(scan, ages, course), self._seen(scan)
        if isinstance(course, Transition):
            velocities, displacements = None, self._through(scan, ages, course.age)
        else:
            velocities = self._change(scan, course, scan.age, ages)
            displacements = self._flow(velocities, scan.image(self.config.contrast).affine)
        made_by = f"InBrainSyn {self.config.transport}, {course}"
        return Futures(scan, ages, displacements, self.config.contrast, velocities, made_by)

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """Images at `ages` from the last scan of `history`, on the course that `diagnosis` follows for good."""
        return self.futures(history[-1], ages, diagnosis).images()

    def way(self, scan: Scan, group: str = "HC") -> Volume:
        """Velocity (3, X, Y, Z), mm, of the way from the group's template at the age of the scan to the scan.

        The template was laid on the scan affinely before; the field is on the grid of the scan and pulls back.
        """
        self._check(scan, (), known(group, GROUPS, "InBrainSyn.way: group"))
        image, matrix = self._laid(self._seen(scan), group, scan.age)
        velocity = self._along(image, group, scan.age, matrix)[0].cpu()
        return Volume(velocity, image.affine, (f"from the {group} template",))

    def save(self, path: Path | str) -> None:
        """Write settings and, in a folder each, the templates into the folder `path`, in one step."""
        with atomic(path) as part:
            super().save(part)
            for group, model in self.templates.items():
                model.save(part / group)

    @classmethod
    def load(cls, path: Path | str, *, template_types: Iterable[type[TemplateModel]]) -> Self:
        """Read what :meth:`save` wrote; `template_types` are the classes that its templates may be of."""
        kinds = load_checkpoint(path, system=cls.__name__)[1]["constants"]["templates"]
        by_name = {kind.__name__: kind for kind in template_types}
        templates = {
            group: by_name[known(kind, by_name, f"{path}: template_types")].load(Path(path) / group)
            for group, kind in kinds.items()
        }
        return super().load(path, templates=templates)

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def _constants(self) -> dict[str, Any]:
        kinds = {group: type(model).__name__ for group, model in self.templates.items()}
        return {"templates": kinds, "age_ranges": self.age_ranges}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        self.age_ranges = {group: tuple(ages) for group, ages in constants["age_ranges"].items()}

    def _diagnoses(self, group: str) -> tuple[str, ...]:
        return {"HC": self.config.healthy, "AD": self.config.diseased}[known(group, GROUPS, "InBrainSyn: group")]

    def _check(self, scan: Scan, ages: Sequence[float], course: Course) -> Course:
        """The course, a diagnosis as its group; refused is what the templates cannot answer."""
        where = f"InBrainSyn.futures: {scan.subject}/{scan.session}"
        course = course if isinstance(course, Transition) else self.course_of(course)
        require(
            scan.age is not None, where, expected="a scan with an age", found="none",
            remedy="Add the age at the scan, in years.",
        )
        if not isinstance(course, Transition):
            self._check_ages(course, (scan.age, *ages), where)
            return course
        require(
            course.age >= scan.age, where, expected=f"a transition at or after the age of the scan, {scan.age:g}",
            found=f"{course.age:g}", remedy="A person who is ill at the scan follows the course 'AD'.",
        )
        self._check_ages("HC", (scan.age, *(a for a in ages if a <= course.age), course.age), where)
        self._check_ages("AD", (course.age, *(a for a in ages if a > course.age)), where)
        return course

    def _check_ages(self, group: str, ages: Sequence[float], where: str) -> None:
        known(group, self.templates, f"{where}: template")
        require(
            group in self.age_ranges, where, expected="a fitted model", found="an unfitted one",
            remedy="Call fit(cohort) or InBrainSyn.load(path, template_types=...) first.",
        )
        (low, high), margin = self.age_ranges[group], self.config.margin_years
        outside = sorted({a for a in ages if not low - margin <= a <= high + margin})
        require(
            not outside, where, found=", ".join(f"{a:g}" for a in outside),
            expected=f"ages from {low - margin:.1f} to {high + margin:.1f} years, which the {group} template covers",
            remedy="Leave these ages out, or train on visits that reach them; a template is not extrapolated.",
        )

    def _through(self, scan: Scan, ages: tuple[float, ...], turn: float) -> Displacement:
        """Displacements of the course through a transition at the age `turn`; see :meth:`futures`."""
        affine = scan.image(self.config.contrast).affine
        healthy, ill = [a for a in ages if a <= turn], [a for a in ages if a > turn]
        before = self._flow(self._change(scan, "HC", scan.age, (*healthy, turn)), affine)
        fields = dict(zip(healthy, before.split(1)))
        if ill:
            after = self._flow(self._change(scan, "AD", turn, tuple(ill)), affine).split(1)
            if self.config.transport != "direct":
                after = [compose(Displacement(field), Displacement(before[-1:]), affine=affine) for field in after]
            fields |= dict(zip(ill, after))
        return Displacement(torch.cat([fields[a] for a in ages]))

    def _change(self, scan: Scan, group: str, start: float, ages: tuple[float, ...]) -> Velocity:
        """Velocities (A, 3, X, Y, Z) on the grid of the scan, from the group's change between `start` and each age."""
        by = (id(self.templates[group]), start, fingerprint(scan.image(self.config.contrast)), self.config.digest())
        found = self._changes.get_all({a: (a, *by) for a in ages}, lambda new: self._made(scan, group, start, new))
        return Velocity(torch.cat([found[age] for age in ages]).to(pick_device(self.config.device)))

    def _made(self, scan: Scan, group: str, start: float, ages: Sequence[float]) -> tuple[torch.Tensor, ...]:
        image, matrix = self._laid(scan, group, start)
        if self.config.transport == "direct":
            older = torch.cat([self._placed(group, age, matrix, image) for age in ages])
            return _register(image.data[None].float(), older, image.affine, self.config.between_people()).cpu().split(1)
        along = self._along(image, group, start, matrix)
        change = self._of_template(group, start, ages)
        grid = self._template(group, start).affine
        change = Velocity(velocity_through(change, matrix, grid=grid, shape=image.shape, affine=image.affine))
        variant, sign = ("half", -1) if self.config.transport == "wrong" else (self.config.transport, 1)
        given = {"affine": image.affine, "variant": variant, "rung_voxels": self.config.rung_voxels}
        return transport(change, Velocity(sign * along), **given).cpu().split(1)

    def _seen(self, scan: Scan) -> Scan:
        return smoothed(scan, self.config.contrast, self.config.smooth_mm)

    def _flow(self, velocities: Velocity, affine: np.ndarray) -> Displacement:
        # one by one: squarings may follow the largest vector, which must be that of the age alone
        steps = self.config.squarings
        return Displacement(torch.cat([expv(Velocity(v), affine=affine, steps=steps) for v in velocities.split(1)]))

    def _laid(self, scan: Scan, group: str, start: float) -> tuple[Volume, np.ndarray]:
        """The image of the scan, and the matrix (world of the scan to that of the template) that lays `start` on it."""
        image, kind = self._on_device(scan.image(self.config.contrast)), self.config.align
        key = ("matrix", id(self.templates[group]), start, fingerprint(image), kind)
        return image, self._recent.get(
            key, lambda: np.eye(4) if kind == "none" else align(self._template(group, start), image, kind=kind)
        )

    def _placed(self, group: str, age: float, matrix: np.ndarray, image: Volume) -> torch.Tensor:
        """The template of `age` (1, 1, X, Y, Z), laid on the scan."""
        return apply_affine(self._template(group, age), matrix, like=image).data[None]

    def _along(self, image: Volume, group: str, start: float, matrix: np.ndarray) -> Velocity:
        """Velocity (1, 3, X, Y, Z) that leads from the template of `start`, laid on the scan, to the scan."""
        how = self.config.between_people()
        key = ("way", id(self.templates[group]), start, fingerprint(image), self.config.align, how)
        return self._recent.get(key, lambda: _register(
            self._placed(group, start, matrix, image), image.data[None].float(), image.affine, how
        ))

    def _of_template(self, group: str, start: float, ages: Sequence[float]) -> Velocity:
        """Change of the template from `start` to each age, (A, 3, X, Y, Z) on the grid of the template."""
        first, how = self._template(group, start), self.config.between_ages()
        keys = {age: (id(self.templates[group]), start, age, how) for age in ages if age != start}
        found = self._recent.get_all(keys, lambda new: _register(
            first.data[None], torch.stack([self._template(group, age).data for age in new]), first.affine, how
        ).split(1))
        found[start] = first.data.new_zeros(1, 3, *first.shape)
        return Velocity(torch.cat([found[age] for age in ages]))

    def _template(self, group: str, age: float) -> Volume:
        model = self.templates[group]
        template = self._recent.get(("image", id(model), age), lambda: model.template(age))
        return self._on_device(template.with_data(template.data.float()))

    def _on_device(self, volume: Volume) -> Volume:
        return volume.with_data(volume.data.to(pick_device(self.config.device)))


def _register(moving: torch.Tensor, fixed: torch.Tensor, affine: np.ndarray, how: registration.Config) -> Velocity:
    return registration.register(moving, fixed, affine=affine, config=how).velocity
