"""Tables that models made of people: worked out once, read back ever after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.source import module_digest
from nbkit.training.offered import check_unseen

TEXT = {"subject": str, "session": str}


def kept_tables(
    kind: str, make: Callable[[], Mapping[str, pd.DataFrame]], *, models: Mapping[str, Any], cohort: Cohort, key: Any,
    sources: Sequence[str] = (), cache: Cache | None = None,
) -> dict[str, pd.DataFrame]:
    """The tables of `make`, by name, read from the cache when the same models met the same people before.

    Parameters
    ----------
    kind : str
        Folder of the cache.
    make : callable
        Gives the tables; columns "subject" and "session" are text.
    models : mapping of str to system
        Each by its settings, its training people and the source of its module, and of that of its ``segmenter`` if it
        has one; one without settings by its name alone.
    cohort : Cohort
        Its name, ``data_hash`` and subject ids are part of the key.
    key : JSON-able
        Whatever else the tables depend on.
    sources : sequence of str
        Modules besides the models' own.
    cache : Cache, optional

    Raises
    ------
    NbkitError
        If a model learned from one of these people.
    """
    check_unseen(models.values(), cohort)
    record = {
        "models": {name: _described(model) for name, model in models.items()}, "cohort": cohort.name,
        "data": cohort.provenance.get("data_hash"), "people": list(cohort.ids), "key": key,
        "source": module_digest(*sources, *sorted({name for model in models.values() for name in _modules(model)})),
    }

    def write(folder: Path) -> None:
        for name, table in make().items():
            table.to_csv(folder / f"{name}.csv", index=False)

    return (cache or Cache()).get(kind, record, write, _read)


def _described(model: Any) -> list[Any]:
    settings = getattr(model, "config", None)
    return [type(model).__name__, settings.as_dict() if settings else None, getattr(model, "trained_on", "")]


def _modules(model: Any) -> set[str]:
    return {type(part).__module__ for part in (model, getattr(model, "segmenter", None)) if part is not None}


def _read(folder: Path) -> dict[str, pd.DataFrame]:
    files = sorted(folder.glob("*.csv"))
    return {f.stem: pd.read_csv(f, dtype=TEXT) if f.stat().st_size > 1 else pd.DataFrame() for f in files}
