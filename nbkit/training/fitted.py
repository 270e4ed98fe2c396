"""Fit once, read back ever after: models kept in the cache under what they were made of."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nbkit.core.checks import require
from nbkit.core.config import digest
from nbkit.core.device import pick_device, spread
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.source import module_digest
from nbkit.training import together
from nbkit.training.offered import known_by, offered
from nbkit.training.resume import resumable

M = TypeVar("M")
_KIND = "fitted"


def fitted(
    model: M, cohort: Cohort, *, fit: Callable[[M, Cohort], Any] = lambda model, cohort: model.fit(cohort),
    load: Callable[[Path], M] | None = None, key: Any = None, sources: Sequence[str] = (), cache: Cache | None = None,
) -> M:
    """`model` fitted on `cohort`: offered ready (:mod:`nbkit.training.offered`), kept from before, or fitted now.

    A fit that was killed goes on.

    Parameters
    ----------
    model : a system with ``config``, ``save`` and ``load``
    cohort : Cohort
        Its name, ``data_hash`` and subject ids are part of the key.
    fit : callable
        ``fit(model, cohort)``, where it is not ``model.fit(cohort)``.
    load : callable, optional
        ``load(path)``, where it is not ``type(model).load``.
    key : JSON-able
        Whatever else the result depends on (a group, another model's digest).
    sources : sequence of str
        Modules besides the model's own that the result depends on.
    cache : Cache, optional

    Raises
    ------
    NbkitError
        If the cohort has no ``data_hash``.
    """
    record, cache, read = _record(model, cohort, key, sources), cache or Cache(), load or type(model).load
    offer = offered(model, cohort, key)
    ready = offer.read(read) if offer else None
    if ready is not None:
        return known_by(ready, cohort)

    def make(folder: Path) -> None:
        with resumable(cache.root / "training" / digest(record)):
            fit(model, cohort)
            model.save(folder / "model")

    if together.rank() > 0 and not cache.holds(_KIND, record):  # the first process makes the entry
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            return known_by(read(Path(folder) / "model"), cohort)
    return known_by(cache.get(_KIND, record, make, lambda folder: read(folder / "model")), cohort)


def is_fitted(
    model: Any, cohort: Cohort, *, key: Any = None, sources: Sequence[str] = (), cache: Cache | None = None,
    **_: Any,
) -> bool:
    """Whether :func:`fitted` of the same would read the model back instead of training it."""
    kept = (cache or Cache()).holds(_KIND, _record(model, cohort, key, sources))
    return kept or offered(model, cohort, key) is not None


def _record(model: Any, cohort: Cohort, key: Any, sources: Sequence[str]) -> dict[str, Any]:
    """What a fitted model is kept under."""
    data = cohort.provenance.get("data_hash")
    require(
        data is not None, f"cohort {cohort.name}: provenance", expected="a data_hash", found="none",
        remedy="Cohort readers must set provenance['data_hash'] so that finished work can be kept.",
    )
    return {
        "system": type(model).__name__, "config": model.config.as_dict(), "cohort": cohort.name, "data": data,
        "train": list(cohort.ids), "key": key, "source": module_digest(type(model).__module__, *sources),
    }


def fitted_together(*jobs: Mapping[str, Any], device: str = "auto") -> list[Any]:
    """:func:`fitted` of models that do not need each other; on a CPU, each on a thread of its own.

    Two threads train one network of a small profile 1.2 to 1.5 times as fast as one; a thread for each of two networks
    gains more where they take about as long, and nothing where one of them takes most of the time.
    Threads share torch's own random generator: one of the models at most may draw from it, or runs would differ.

    Parameters
    ----------
    *jobs : mapping
        What :func:`fitted` is given for one model, ``model`` and ``cohort`` among it.
    device : str
        Where they are fitted.
    """
    return spread(lambda job: fitted(**job), jobs, pick_device(device))
