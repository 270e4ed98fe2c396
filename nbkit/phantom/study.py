"""What every simulated cohort shares: people made once, kept whole or not at all, read back when looked at, credited.

A cohort file says who is in it, how one person is made in a folder, and how that folder is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from nbkit.core.checks import known
from nbkit.core.config import digest
from nbkit.core.device import one_thread
from nbkit.core.files import Cache, write_json
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.seeds import derive
from nbkit.core.volume import Volume
from nbkit.data.lazy import LazyVolumes, Shelf, load_volume, save_volumes
from nbkit.data.manifest import Manifest
from nbkit.phantom.acquisition import Box
from nbkit.phantom.anatomy import ATTRIBUTION
from nbkit.phantom.parameters import Parameters


STRANGERS = "_strangers"
"""Ending of the names of cohorts of other people of the same design."""


@dataclass(frozen=True, eq=False)
class Study:
    """What all people of a cohort share.

    Parameters
    ----------
    name : str
        Of the cohort; its cache entries stand under it.
    profile : {"smoke", "laptop", "overnight", "paper"}
    seed : int
    source : str
        Digest of the code.
    parameters : Parameters
    box : (shape, affine)
        Grid of the images.
    cache : Cache, optional
        By default the user's cache folder.
    """

    name: str
    profile: str
    seed: int
    source: str
    parameters: Parameters
    box: Box
    cache: Cache | None = None

    def made(
        self, people: Sequence[Any], make: Callable[[Any, Path], None], *, depends: Callable[[Any], Any] = str,
        **settings: Any,
    ) -> list[Path]:
        """:func:`made_folders` of people (dataclass instances).

        ``depends(person)``, JSON-able, is what the result depends on beyond person and study.
        """
        shape, affine = self.box
        common = {
            "grid": [shape, affine.tolist()], "seed": self.seed, "source": self.source,
            "parameters": self.parameters.digest(),
        }
        keys = [{"person": asdict(person), "depends": depends(person), **common} for person in people]
        jobs = [partial(make, person) for person in people]
        return made_folders(self.name, self.profile, keys, jobs, cache=self.cache or Cache(), **settings)

    def cohort(
        self, people: Sequence[tuple[Subject, Any]], content: Any, manifests: Sequence[Manifest] = (), /, **facts: Any
    ) -> Cohort:
        """The cohort of subjects, each with the truth about it.

        Parameters
        ----------
        people : sequence of (Subject, truth)
        content : JSON-able
            Its digest is the cohort's ``data_hash``: it changes when an image does.
        manifests : sequence of Manifest
            Of the real scans in it; the first gives the access.
        **facts
            For the provenance.
        """
        shape, affine = self.box
        told = {
            "data_hash": digest(content), "parameters": self.parameters.digest(), "profile": self.profile,
            "seed": self.seed, "licence": "simulated; templates: see attribution",
            "grid": {"shape": list(shape), "spacing_mm": [round(float(s), 4) for s in np.diag(affine)[:3]]},
            **(credits_of(*manifests) if manifests else {}),
            "attribution": ". ".join([*(m.attribution for m in manifests), ATTRIBUTION]), **facts,
        }
        access = manifests[0].access if manifests else "embedded"
        return Cohort(self.name, tuple(s for s, _ in people), access, told, {s.id: truth for s, truth in people})


def made_folders(
    name: str, profile: str, keys: Sequence[Any], jobs: Sequence[Callable[[Path], None]], *, cache: Cache,
    first: Callable[[], Any] | None = None, prefer: str = "threads", n_jobs: int = 1, progress: bool = True,
) -> list[Path]:
    """Folder of everybody in the cache, in order; who is not there is made, and a killed run goes on where it was.

    Parameters
    ----------
    name, profile : str
        Of the cohort.
    keys : sequence of JSON-able
        What each depends on.
    jobs : sequence of callable
        ``job(folder)`` fills the folder of one, with one torch thread.
    cache : Cache
    first : callable, optional
        Called before anybody is made, for what threads would else make side by side.
    prefer : {"threads", "processes"}
        Where no joblib backend is set from outside.
    n_jobs : int
        People made at a time.
    progress : bool
        Show a bar with the time left.
    """
    complete = all(cache.holds(name, key) for key in keys)
    if first and not complete:
        first()
    made = Parallel(n_jobs=1 if complete else n_jobs, prefer=prefer, return_as="generator")(
        delayed(_entry)(cache, name, key, job) for key, job in zip(keys, jobs, strict=True)
    )
    with one_thread():
        return list(tqdm(made, total=len(keys), desc=f"{name} ({profile})", unit="person", disable=not progress))


def _entry(cache: Cache, name: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    with one_thread():  # in a worker process too
        return cache.get(name, key, make, lambda folder: folder)


def credits_of(*manifests: Manifest) -> dict[str, Any]:
    """Source, licence, attribution and citation of real scans, for the provenance of a cohort."""
    return {
        "source": "; ".join(m.source for m in manifests),
        "licence": "; ".join(m.licence for m in manifests), "attribution": ". ".join(m.attribution for m in manifests),
        "citation": [line for m in manifests for line in m.citation],
    }


def store(
    folder: Path, volumes: Mapping[str, Mapping[str, Volume]], facts: Mapping[str, Any], *, file: str = "person"
) -> None:
    """Write volumes of one grid, by kind and name, and JSON-able facts about a person."""
    named = {f"{kind}.{name}": volume for kind, own in volumes.items() for name, volume in own.items()}
    save_volumes(folder / f"{file}.safetensors", named)
    write_json(folder / f"{file}.json", facts)


def half(volume: Volume) -> Volume:
    """As 16-bit floats, which lose 1/2000 of a value; :func:`stored` gives 32 bits again."""
    return volume.with_data(volume.data.half())


def other_people(roster: Callable[[int], Sequence[Any]], *, seed: int, times: int) -> tuple[Any, ...]:
    """`times` rosters one after another (``roster(seed)``, dataclass instances with an id), nobody in two of them."""
    return tuple(
        replace(person, id=f"x{k}{person.id}")
        for k in range(1, times + 1) for person in roster(derive(seed, "strangers", k))
    )


def noise_free(cohort: Cohort, contrast: str) -> dict[tuple[str, str], Volume]:
    """Images of one contrast without noise by (subject, session), from ``truth[subject]["noise_free"][session]``.

    Raises
    ------
    NbkitError
        For a contrast of which the cohort keeps none, with the nearest that it has.
    """
    kept = {(s.id, scan.session): cohort.truth[s.id]["noise_free"][scan.session] for s in cohort for scan in s.scans}
    return {key: own[known(contrast, own, f"noise_free: contrast of {cohort.name}")] for key, own in kept.items()}


def facts_of(folder: Path, *, file: str = "person") -> dict[str, Any]:
    """The facts that :func:`store` wrote."""
    return json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))


def stored(folder: Path, kind: str, names: Sequence[str], shelf: Shelf, *, file: str = "person") -> LazyVolumes:
    """The volumes of a kind that :func:`store` wrote, loaded when looked at."""
    path = folder / f"{file}.safetensors"
    return LazyVolumes(f"{path} {kind}", names, partial(_load, path, kind), shelf=shelf)


def _load(path: Path, kind: str, name: str) -> Volume:
    volume = load_volume(path, f"{kind}.{name}")
    return volume.with_data(volume.data.float()) if volume.data.dtype == torch.float16 else volume
