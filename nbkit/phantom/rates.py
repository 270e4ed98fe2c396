"""Yearly change of a simulated cohort: what its truth shows, and what was prescribed."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from nbkit.core.checks import known
from nbkit.core.protocols import Cohort
from nbkit.phantom.longitudinal import ageing_parameters


def true_rates(cohort: Cohort, structures: Sequence[str]) -> pd.DataFrame:
    """Change from first to last visit by person, in % of the first volume per year.

    Parameters
    ----------
    cohort : Cohort
        With ``truth[subject].volumes``, one dict of region to mm³ per visit; the sides of a structure are added.
    structures : sequence of str

    Returns
    -------
    DataFrame
        Columns "subject", "diagnosis" (at the first visit), "structure" and "rate".
    """
    rows = []
    for subject in cohort:
        volumes = cohort.truth[subject.id].volumes
        years = subject.scans[-1].age - subject.baseline.age
        for name in structures:
            first, last = (sum(v for region, v in volumes[k].items() if region.startswith(name)) for k in (0, -1))
            rows.append((subject.id, subject.diagnosis, name, 100 * (last / first - 1) / years))
    return pd.DataFrame(rows, columns=["subject", "diagnosis", "structure", "rate"])


def prescribed_rates(structures: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean yearly change (%) by structure and diagnosis, at the age for which the table gives it.

    Raises
    ------
    NbkitError
        For a structure without a rate.
    """
    parameters = ageing_parameters()
    row_of, diagnoses = parameters.section("structure"), parameters.groups("rate")
    rows = {s: row_of[known(s, row_of, "prescribed_rates: structures")] for s in structures}
    return {s: {d: parameters[f"rate.{d}.{row}"][0] for d in diagnoses} for s, row in rows.items()}
