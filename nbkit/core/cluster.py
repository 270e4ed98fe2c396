"""Work on many people, sent to other machines: joblib's dask backend behind one address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from joblib import parallel_config

from nbkit.core.checks import NbkitError

VARIABLE = "NBKIT_SCHEDULER"
"""Environment variable with the address of a dask scheduler; notebooks of a run find it there."""


@contextmanager
def on_cluster(address: str | None = None) -> Iterator[None]:
    """Inside, whatever goes through joblib is done by the workers of a dask scheduler; without an address, here.

    That is where people are simulated, prepared and registered, and where folds are trained and predict. The workers
    need this code and packages, and the same ``NBKIT_CACHE`` folder, in which they leave what they make.

    Parameters
    ----------
    address : str, optional
        Of the scheduler, ``tcp://host:8786``; by default that in ``NBKIT_SCHEDULER``.

    Raises
    ------
    NbkitError
        Without dask.distributed, and where no scheduler answers.
    """
    address = address or os.environ.get(VARIABLE)
    if not address:
        yield
        return
    with _connected(address), _announced(address):
        yield


def _connected(address: str) -> parallel_config:
    try:
        return parallel_config(backend="dask", scheduler_host=address, wait_for_workers_timeout=60)
    except (ImportError, OSError, ValueError) as error:
        missing = isinstance(error, ImportError | ValueError)
        raise NbkitError(
            "--scheduler", expected="the address of a dask scheduler that runs, tcp://host:8786",
            found=f"{address!r} and no dask.distributed" if missing else f"{address!r}: {str(error)[:200]}",
            remedy="Install the extra: pip install 'nbkit[cluster]'." if missing
            else "Start one with `dask scheduler`, and workers with `dask worker ADDRESS`.",
        ) from error


@contextmanager
def _announced(address: str) -> Iterator[None]:
    """Kernels started inside find the address."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = address
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before:
            os.environ[VARIABLE] = before
