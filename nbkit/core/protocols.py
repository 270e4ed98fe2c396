"""What a cohort is, and what every system promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np

from nbkit.core.checks import closest, known, require
from nbkit.core.volume import Volume

Access = Literal["embedded", "open", "restricted"]
SEXES = ("F", "M")


@dataclass(frozen=True)
class Scan:
    """One visit of one subject.

    Parameters
    ----------
    subject, session : str
        Identifiers.
    age : float or None
        Age in years; None where the data set does not publish ages.
    images : mapping of str to Volume
        Contrasts by BIDS-like name ("T1w", "T2w", "PDw", "FLAIR", ...). May load on access.
    masks : mapping of str to Volume
        Boolean masks ("brain", "lesions", "nawm", ...).
    labels : Volume or None
        Whole-number label map, with `label_names` giving the name of each code.
    diagnosis : str or None
        At this visit; None where it is not known to differ from the subject's.
    """

    subject: str
    session: str
    age: float | None
    images: Mapping[str, Volume]
    masks: Mapping[str, Volume] = field(default_factory=dict)
    labels: Volume | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)
    diagnosis: str | None = None

    def image(self, contrast: str) -> Volume:
        """The image of one contrast; a missing one is refused by subject and name."""
        require(
            contrast in self.images, f"{self.subject}/{self.session}: contrast", expected=repr(contrast),
            found=f"only {', '.join(self.images) or 'none'}",
            remedy=f"{closest(contrast, self.images)}Add the file, or leave {contrast} out of the inputs.",
        )
        return self.images[contrast]

    def mask(self, name: str) -> Volume:
        """The mask of one name; a missing one is refused by subject and name."""
        require(
            name in self.masks, f"{self.subject}/{self.session}: mask", expected=repr(name),
            found=f"only {', '.join(self.masks) or 'none'}", remedy=f"{closest(name, self.masks)}Add the mask file.",
        )
        return self.masks[name]


def age_of(scan: Scan) -> float:
    """The scan's age in years; a missing one is refused by name."""
    require(
        scan.age is not None, f"{scan.subject}/{scan.session}: age", expected="an age in years", found="none",
        remedy="Add the age to the table of scans, or leave this scan out.",
    )
    return float(scan.age)


@dataclass(frozen=True)
class Subject:
    """A person (or phantom) and their scans ordered by age."""

    id: str
    sex: str | None
    diagnosis: str
    scans: tuple[Scan, ...]
    covariates: Mapping[str, Any] = field(default_factory=dict)

    @property
    def baseline(self) -> Scan:
        """The first scan."""
        return self.scans[0]


@dataclass(frozen=True)
class Cohort:
    """Subjects that belong together, with where they come from.

    Parameters
    ----------
    name : str
        E.g. "ms_phantom".
    subjects : tuple of Subject
    access : {"embedded", "open", "restricted"}
    provenance : mapping
        Source, licence, attribution, parameters, ``data_hash``; JSON-able.
    truth : mapping
        By subject id: what a simulation knows and a scanner does not. Empty for real data.
    """

    name: str
    subjects: tuple[Subject, ...]
    access: Access
    provenance: Mapping[str, Any] = field(default_factory=dict)
    truth: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = [s.id for s in self.subjects]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        require(
            not twice, f"Cohort {self.name}: subjects", expected="each subject once", found=f"{', '.join(twice)} twice",
            remedy="Merge the sessions of one person into one Subject, or rename one of them.",
        )

    def __iter__(self) -> Iterator[Subject]:
        return iter(self.subjects)

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def ids(self) -> tuple[str, ...]:
        """Subject ids in order."""
        return tuple(s.id for s in self.subjects)

    def subject(self, subject_id: str) -> Subject:
        """One subject by id, with did-you-mean."""
        known(subject_id, self.ids, f"Cohort {self.name}: subject")
        return next(s for s in self.subjects if s.id == subject_id)

    def subset(self, ids: Iterable[str]) -> Cohort:
        """The cohort restricted to `ids`, in the order given."""
        return replace(self, subjects=tuple(self.subject(i) for i in ids))


@dataclass(frozen=True, eq=False)
class Forecast:
    """One age of a person's future with its uncertainty.

    Parameters
    ----------
    age : float
    image, sd : Volume
        What is expected, and the standard deviation of every voxel over the futures drawn.
    draws : mapping of str to numpy.ndarray
        What the caller's measure reads from each future drawn (e.g. mm³ by region), (draws,).
    """

    age: float
    image: Volume
    sd: Volume
    draws: Mapping[str, np.ndarray]


class VolumeReader(Protocol):
    """Measures regions where scans, true or predicted, carry no labels."""

    def volumes(self, image: Volume, *, mask: Volume) -> Mapping[str, float]:
        """mm³ by region of `image` inside `mask`."""


class Segmenter(VolumeReader, Protocol):
    """Gives images labels too, in the codes of the cohort it learned from."""

    names: Mapping[int, str]

    def segment(self, image: Volume, *, mask: Volume) -> Volume:
        """Label map of `image` inside `mask`, in the codes of ``names``."""


@runtime_checkable
class ModalitySynthesizer(Protocol):
    """Predicts one contrast of a scan from its others."""

    config: Any

    def fit(self, cohort: Cohort) -> Self:
        """Learn from every subject of `cohort`."""

    def synthesize(self, contrasts: Mapping[str, Volume], *, mask: Volume) -> Volume:
        """Predict the target on the grid of the inputs, in the target's own intensity unit."""

    def save(self, path: Path) -> None:
        """Write weights (safetensors) and settings (JSON) into the folder `path`."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; missing or unexpected keys are refused."""


@runtime_checkable
class TrajectoryModel(Protocol):
    """Predicts how a person's brain will look at other ages."""

    config: Any

    def fit(self, cohort: Cohort) -> Self:
        """Learn from every subject of `cohort`."""

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One image per age (years), given the scans seen so far."""

    def save(self, path: Path) -> None:
        """Write weights and settings into the folder `path`."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""


@runtime_checkable
class TemplateModel(Protocol):
    """The mean brain of a group as a function of age."""

    config: Any

    def fit(self, scans: Sequence[Scan]) -> Self:
        """Learn from scans with ages, on one grid; several scans of one person may be among them."""

    def template(self, age: float) -> Volume:
        """The template of `age` (years), on the grid of the scans, intensity in their unit."""

    def save(self, path: Path) -> None:
        """Write weights and settings into the folder `path`."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""


@runtime_checkable
class ImageGenerator(Protocol):
    """Draws new images of a disease stage."""

    config: Any

    def fit(self, cohort: Cohort) -> Self:
        """Learn from every subject of `cohort`."""

    def sample(self, n: int, stage: str, seed: int) -> list[Volume]:
        """Draw `n` images of `stage`."""

    def save(self, path: Path) -> None:
        """Write weights and settings into the folder `path`."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""
