"""Room: whether a measure leaves anything to be won between the best trivial control and what the inputs can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from nbkit.core.checks import known, require

SHARE = 0.1
"""No room: reach and control are nearer to each other than this share of the distance from reach to mean."""
ROLES = ("mean", "control", "reach", "floor", "person")


@dataclass(frozen=True, eq=False)
class Room:
    """The two ends of a measure, as means over the test people.

    Parameters
    ----------
    measure : str
        What is measured, with its unit, for readers.
    of : tuple of str
        Beginnings of the ledger's ids that are measured so.
    mean : float
        Of the training people's mean as the prediction, or its counterpart.
    controls : mapping of str to float
        Of each trivial control, by the id it is recorded under.
    reach : float
        Of a strong ready-made learner on the same inputs; the best, where several were tried.
    floor, person : float or None
        Of the noise-free truth, and of the best control after each person's own scale and offset.
    better : {"lower", "higher"}
    notebook : str
    """

    measure: str
    of: tuple[str, ...]
    mean: float
    controls: Mapping[str, float]
    reach: float
    floor: float | None = None
    person: float | None = None
    better: str = "lower"
    notebook: str = ""

    @classmethod
    def of_frame(
        cls, frame: pd.DataFrame, *, of: Sequence[str], measure: str, better: str = "lower", notebook: str = ""
    ) -> Room:
        """From a tidy frame with the column "role", of :data:`ROLES`; rows without a role are passed over.

        Raises
        ------
        NbkitError
            For an unknown role, several metrics at once, or a frame without a mean, a control and a reach.
        """
        known(better, ("lower", "higher"), "Room: better")
        rows = frame[frame["role"].fillna("") != ""]
        for role in rows["role"].unique():
            known(role, ROLES, "Room: role")
        require(
            rows["metric"].nunique() == 1 and {"mean", "control", "reach"} <= set(rows["role"]), f"Room: {measure}",
            expected="one metric, with the roles mean, control and reach",
            found=f"{sorted(map(str, rows['metric'].unique()))} with {sorted(rows['role'].unique())}",
            remedy="Give the rows of other metrics an empty role, and add what is missing.",
        )
        ends = {role: part.groupby(_name(part), sort=False)["value"].mean() for role, part in rows.groupby("role")}
        best = {role: float(end.min() if better == "lower" else end.max()) for role, end in ends.items()}
        controls = {str(name): float(value) for name, value in pd.concat([ends["control"], ends["mean"]]).items()}
        return cls(measure, tuple(of), best["mean"], controls, best["reach"], best.get("floor"), best.get("person"),
                   better, notebook)

    @property
    def best_control(self) -> str:
        """Its id; the mean counts as a control too."""
        choose = min if self.better == "lower" else max
        return choose(self.controls, key=self.controls.__getitem__)

    def covers(self, ids: Sequence[str]) -> bool:
        """Whether all of these ids are measured so."""
        return all(id.startswith(self.of) or id in self.controls for id in ids)

    def share(self, ids: Sequence[str] = ()) -> float:
        """Distance from reach to the control, over that from reach to mean; 0 where the inputs tell nothing.

        The control is the best one, or, where a control itself is among the compared `ids`, that one.
        """
        sign = 1.0 if self.better == "lower" else -1.0
        control = next((id for id in ids if id in self.controls), self.best_control)
        whole = sign * (self.mean - self.reach)
        return abs(self.controls[control] - self.reach) / whole if whole > 0 else 0.0

    def lacks(self, ids: Sequence[str] = ()) -> bool:
        """Whether there is no room for one of these ids over another."""
        return self.share(ids) < SHARE

    def said(self, ids: Sequence[str] = ()) -> str:
        """``"reach 0.0052, best control 0.0055 (…linear), mean 0.0308"``."""
        compared = next((id for id in ids if id in self.controls), None)
        name = compared or self.best_control
        kind = "control" if compared else "best control"
        return (f"reach {self.reach:.3g}, {kind} {self.controls[name]:.3g} ({name.rpartition('.')[2]}), "
                f"mean {self.mean:.3g}")


def _name(rows: pd.DataFrame) -> pd.Series:
    """The id where there is one, else the system's name."""
    return rows["id"].where(rows["id"] != "", rows["system"])
