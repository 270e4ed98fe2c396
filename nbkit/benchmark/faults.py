"""All that is wrong with a folder at once: who mends a hundred files wants to hear of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nbkit.core.checks import NbkitError, require

MOST = 20
"""Faults that are told in full."""


@dataclass
class Faults:
    """Refusals noted on the way: ``with faults.noted(): ...``, and at the end :meth:`settle`.

    Parameters
    ----------
    where : str
        The folder.
    """

    where: str
    found: list[NbkitError] = field(default_factory=list)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a refusal and go on."""
        try:
            yield
        except NbkitError as error:
            self.found.append(error)

    def check(self, condition: bool, where: str, *, expected: str, found: object, remedy: str) -> bool:
        """:func:`~nbkit.core.checks.require`, noted; gives back `condition`."""
        with self.noted():
            require(condition, where, expected=expected, found=found, remedy=remedy)
        return condition

    def settle(self) -> None:
        """Raise what was noted: one fault as it is, several in one list."""
        if len(self.found) == 1:
            raise self.found[0]
        more = len(self.found) - MOST
        lines = [*(f"- {error}" for error in self.found[:MOST]), *[f"- and {more} more"] * (more > 0)]
        require(
            not self.found, self.where, expected="forecasts without a fault",
            found="\n".join([f"{len(self.found)}:", *lines, ""]), remedy="Mend them all, and judge again",
        )
