"""Published numbers as charts take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def printed(ids: Mapping[str, Any], table: str, *, against: str = "") -> dict[str, float]:
    """Published means of one column by system, or their differences from one system's.

    Parameters
    ----------
    ids : mapping of str to number
        The ledger's numbers by id, each with its ``value``.
    table : str
        What ids begin with, before the system: ``"inbrainsyn.table1.ssim"``.
    against : str
        Which system's mean is taken away; it is left out then.
    """
    means = {id.removeprefix(f"{table}."): n.value for id, n in ids.items() if id.startswith(f"{table}.")}
    means = {system: value for system, value in means.items() if value is not None and "." not in system}
    base = means.pop(against) if against in means else None
    if against and base is None:
        return {}
    return {system: value - (base or 0.0) for system, value in means.items()}
