"""Every trajectory system by name, with the settings and the training of notebook 08. Rank 6.

What a notebook fitted is read from the cache, and the other way round.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nbkit.core.checks import NbkitError, known
from nbkit.core.protocols import Cohort, Scan, Segmenter, Subject, TrajectoryModel, VolumeReader, age_of
from nbkit.core.volume import Volume
from nbkit.data.slices import PROFILE_SLICES, sliced
from nbkit.metrics.regions import regional_volumes
from nbkit.papers import brlp, countersynth, daninet, inbrainsyn, mrextrap, trajectories
from nbkit.papers.inbrainsyn.experiments import learning, template_kinds
from nbkit.papers.inbrainsyn.templates import Judged
from nbkit.papers.trajectories import (
    design, pixel_regression, regional_segmenter, scan_error, scan_labels, scan_segmenter,
)
from nbkit.training.fitted import fitted, fitted_together, is_fitted

Sizes = Mapping[str, Any]
"""profile, seed and device."""
Job = Mapping[str, Any]
"""What :func:`nbkit.training.fitted.fitted` is given; of the cohort only where it is not the training people."""


def _pixels(estimator: str) -> Job:
    return {"model": trajectories.PixelRegression(pixel_regression.Config(estimator=estimator))}


def _inbrainsyn(kind: str, sizes: Sizes, train: Cohort) -> Job:
    settings = inbrainsyn.Config.for_profile(sizes["profile"], device=sizes["device"])
    return learning(template_kinds(**sizes)[kind], settings, train)


def _flat(sizes: Sizes, train: Cohort) -> Job:
    model = daninet.DaniNet(daninet.Config.variant("P-C", **sizes))
    return {"model": model, "cohort": sliced(train, **PROFILE_SLICES[sizes["profile"]])}


def _brlp(sizes: Sizes) -> Job:
    key = mrextrap.Config.for_profile(**sizes).as_dict()
    return {"model": brlp.BrLP(brlp.Config.for_profile(**sizes)), "key": key, "sources": [mrextrap.MRExtrap.__module__]}


_JOBS: Mapping[str, Callable[[Sizes, Cohort], Job]] = {
    "pixel_ols": lambda sizes, _: _pixels("ols"),
    "pixel_population": lambda sizes, _: _pixels("population"),
    "mrextrap": lambda sizes, _: {"model": mrextrap.MRExtrap(mrextrap.Config.for_profile(**sizes))},
    "gan templates": lambda sizes, train: _inbrainsyn("gan", sizes, train),
    "kernel templates": lambda sizes, train: _inbrainsyn("kernel", sizes, train),
    "countersynth": lambda sizes, _: {"model": countersynth.CounterSynth(countersynth.Config.for_profile(**sizes))},
    "daninet3d": lambda sizes, _: {"model": daninet.DaniNet3D(daninet.Config3D.variant("P-C", **sizes))},
    "daninet": _flat,
    "brlp": lambda sizes, _: _brlp(sizes),
    "segmenter": lambda sizes, _: {
        "model": trajectories.RegionalSegmenter(regional_segmenter.Config.for_profile(**sizes))},
}
"""What is trained, by name; "daninet" learns from slices and predicts one."""
_TOGETHER = ("countersynth", "daninet3d", "daninet", "brlp")
"""What takes longest, and does not wait for each other once MRExtrap's autoencoder is there."""
_TEMPLATES = ("gan templates", "kernel templates")
SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "inbrainsyn": _TEMPLATES, "no_pt": _TEMPLATES, "countersynth": ("countersynth",), "daninet3d": ("daninet3d",),
    "brlp": ("mrextrap", "brlp"), "brlp_anchored": ("mrextrap", "brlp"), "brlp_one_sample": ("mrextrap", "brlp"),
    "mrextrap_bayes": ("mrextrap",), "mrextrap_bayes_anchored": ("mrextrap",), "mrextrap_ols": ("mrextrap",),
    "mrextrap_population": ("mrextrap",), "pixel_ols": ("pixel_ols",), "pixel_population": ("pixel_population",),
    "no_change": (),
}
"""The systems and controls of notebook 08, and what each is made of."""
DEFORMS = ("inbrainsyn", "no_pt", "countersynth", "no_change")
"""Those that deform the scan, so that its labels go along; the others' volumes are read by the segmenter."""


LAST = ("inbrainsyn", "no_pt", "countersynth", "daninet3d", "no_change")
"""Those that look at the last scan shown alone."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Systems of one cohort, trained when they are first asked for.

    Parameters
    ----------
    given : Cohort
        Everybody, as opened.
    profile, seed, device
        As in the notebooks.
    """

    given: Cohort
    profile: str
    seed: int = 7
    device: str = "auto"
    _parts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def people(self) -> Cohort:
        """Everybody, with labels (:func:`nbkit.papers.trajectories.scan_labels.read_labels`)."""
        return scan_labels.read_labels(self.given, device=self.device)

    @cached_property
    def split(self) -> tuple[Cohort, Cohort]:
        """Training and test people of notebook 08."""
        return design.Design.for_profile(self.profile).split(self.people, seed=self.seed)

    @property
    def train(self) -> Cohort:
        """Whom every system learns from."""
        return self.split[0]

    @cached_property
    def labelled(self) -> bool:
        """Whether volumes can be learned: all scans carry labels."""
        return design.has_labels(self.people)

    @property
    def labels_said(self) -> str:
        """What the labels are, and where they were read from the scans, by what."""
        return ", ".join(filter(None, ("Structures", self.people.provenance.get(scan_error.READ))))

    @property
    def learns_to_read(self) -> bool:
        """Whether a segmenter of its own is trained: labels that were read by one are read again by the same."""
        return self.labelled and scan_error.READ not in self.people.provenance

    def needs(self, systems: Iterable[str]) -> list[str]:
        """What the systems are made of, the segmenter of what they paint included."""
        systems = [known(name, SYSTEMS, "system") for name in systems]
        painted = self.learns_to_read and any(name not in DEFORMS for name in systems)
        return list(dict.fromkeys([*(p for name in systems for p in SYSTEMS[name]), *["segmenter"] * painted]))

    def lacking(self, systems: Iterable[str]) -> list[str]:
        """What of :meth:`needs` is not in the cache, and so is trained first."""
        found: list[str] = []
        for part in self.needs(systems):
            job = self._job if "mrextrap" in found else self.job  # never trains to find out
            if not is_fitted(**{"cohort": self.train, **job(part)}):
                found.append(part)
        return found

    def part(self, name: str) -> Any:
        """One of :meth:`needs`, from the cache or trained now; what cannot be trained is tried once."""
        if name not in self._parts:
            try:
                self._parts[name] = self._trained(name)
            except NbkitError as error:
                self._parts[name] = error
        if isinstance(self._parts[name], NbkitError):
            raise self._parts[name]
        return self._parts[name]

    def _trained(self, name: str) -> Any:
        return fitted(**{"cohort": self.train, **self.job(name)})

    def models(self) -> dict[str, TrajectoryModel]:
        """Every system and control that these people allow: BrLP learns the courses of volumes from labels.

        What takes longest is trained side by side, "daninet" (:meth:`part`) with it.
        """
        self.part("mrextrap")
        todo = [part for part in _TOGETHER if part not in self._parts and (self.labelled or part != "brlp")]
        jobs = [{"cohort": self.train, **self.job(part)} for part in todo]
        self._parts.update(zip(todo, fitted_together(*jobs, device=self.device), strict=True))
        return {name: self.model(name) for name in SYSTEMS if self.labelled or "brlp" not in SYSTEMS[name]}

    @property
    def learners(self) -> dict[str, Any]:
        """What was trained, or read, so far, by name; Atlas-GAN's templates a group each."""
        found = {name: part for name, part in self._parts.items() if not isinstance(part, NbkitError)}
        learned = found["gan templates"].templates if "gan templates" in found else {}
        return found | {f"Atlas-GAN, {group}": model for group, model in learned.items()}

    def able(self, person: Subject) -> bool:
        """Whether every system can answer for a person: templates cover the ages, somebody learned from is so ill."""
        return self.model("inbrainsyn").covers(person) and person.diagnosis in self.part("mrextrap").prior.slopes

    @cached_property
    def segmenter(self) -> Segmenter | None:
        """What reads volumes of these people where they have labels: learned from them, or what found them."""
        if self.learns_to_read:
            return self.part("segmenter")
        return scan_segmenter.shipped(device=self.device) if self.labelled else None

    @cached_property
    def reader(self) -> VolumeReader:
        """The same, or that of real scans, which comes with the project."""
        return self.segmenter or scan_segmenter.shipped(device=self.device)

    def model(self, name: str) -> TrajectoryModel:
        """A system, ready to predict."""
        known(name, SYSTEMS, "system")
        anchored = name.endswith("_anchored")
        kind, _, estimator = name.removesuffix("_anchored").partition("_")
        if name == "no_change":
            return trajectories.NoChange().fit(self.train)
        if name in ("inbrainsyn", "no_pt"):
            return self._carrier if name == "inbrainsyn" else self._carrier.variant(transport="direct")
        if kind == "mrextrap":
            return self.part(kind).estimating(estimator, anchored=anchored)
        if kind == "brlp":
            told = self.part(kind).telling(self.people)
            return told.sampling(anchored=anchored, **({"samples": 1} if estimator else {}))
        return self.part(name).transferring(True) if name == "daninet3d" else self.part(name)

    @cached_property
    def _carrier(self) -> Any:
        return self.part(f"{self.judged.name} templates")

    @cached_property
    def judged(self) -> Judged:
        """Whose templates InBrainSyn is judged with, by a test of the templates alone."""
        return inbrainsyn.judged_templates({name.split()[0]: self.part(name) for name in _TEMPLATES}, self.train)

    @property
    def templates(self) -> Any:
        """Settings of the templates judged."""
        return template_kinds(**self._sizes)[self.judged.name].config

    @property
    def _sizes(self) -> dict[str, Any]:
        return {"profile": self.profile, "seed": self.seed, "device": self.device}

    def job(self, part: str, **changes: Any) -> dict[str, Any]:
        """What :func:`nbkit.training.fitted.fitted` is given for a part, with other settings of it.

        The cohort is there only where it is not the training people ("daninet").
        """
        job = self._job(part)
        if part == "brlp":
            line = self.part("mrextrap")
            job["model"].space, job["key"] = line.space, line.config.as_dict()
        if changes:
            job["model"] = copy(job["model"])
            job["model"].config = job["model"].config.changed(**changes)
        return job

    def _job(self, part: str) -> dict[str, Any]:
        return dict(_JOBS[part](self._sizes, self.train))


def weights_hash(model: Any) -> str:
    """SHA-256 of the weights that a system saves, file by file."""
    total = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        for path in sorted(Path(folder).rglob("*.safetensors")):
            total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a system says of one age: image, labels (or None), mm³ by region, and how these were read."""

    image: Volume
    labels: Volume | None
    volumes: Mapping[str, float]
    read_from: str


def asked(
    model: Any, history: Sequence[Scan], told: str, segmenter: Segmenter | None
) -> Callable[[Sequence[float]], list[Prediction]]:
    """A function from ages (years) to predictions of a model that is shown `history` and `told` a diagnosis.

    Volumes are those of the last scan shown times the growth that the model predicts: carried labels grow with the
    deformation; of what paints, the segmenter reads both ages in the model's own pictures, so that what it reads wrong
    in both cancels. Without labels there are none.
    """
    last = history[-1]

    def carried(ages: Sequence[float]) -> list[Prediction]:
        futures = model.futures(last, list(ages), told)
        if last.labels is None:
            return [Prediction(image, None, {}, "") for image in futures.images()]
        said = "labels of the last scan shown, carried along; volumes by their growth"
        rows = zip(futures.images(), futures.labels(), futures.volumes(), strict=True)
        return [Prediction(*row, said) for row in rows]

    def painted(ages: Sequence[float]) -> list[Prediction]:
        images = model.predict(history, list(ages), told)
        if segmenter is None:
            return [Prediction(image, None, {}, "") for image in images]
        mask, counted = last.mask("brain"), regional_volumes(last.labels, last.label_names)
        start = segmenter.volumes(model.predict(history, [age_of(last)], told)[0], mask=mask)
        said = "volumes at the last scan shown, times growth read by the regional segmenter between the system's own "\
            "pictures of both ages; labels by the same segmenter"
        later = [_grown(counted, start, segmenter.volumes(image, mask=mask)) for image in images]
        labels = [segmenter.segment(image, mask=mask) for image in images]
        return [Prediction(*row, said) for row in zip(images, labels, later, strict=True)]

    return carried if hasattr(model, "futures") else painted


def _grown(counted: Mapping[str, float], start: Mapping[str, float], later: Mapping[str, float]) -> dict[str, float]:
    """mm³ by region; one that the segmenter does not see at the start has none."""
    return {name: mm3 * later[name] / start[name] for name, mm3 in counted.items() if start[name] > 0}
