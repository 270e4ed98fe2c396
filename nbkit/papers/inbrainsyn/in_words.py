"""What the article claims in words alone: early, localised signs, and submillimetre precision."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from nbkit.core.device import side_by_side
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.tidy import stacked, tidy
from nbkit.geometry.flow import Velocity, expv
from nbkit.geometry.futures import Futures
from nbkit.papers.inbrainsyn.inbrainsyn import GROUPS, InBrainSyn
from nbkit.papers.trajectories.experiments import volume_curve


def early_signs(futures: Mapping[str, Mapping[str, Futures]]) -> pd.DataFrame:
    """Volume with disease less healthy at the first age predicted, % of that at the scan: hippocampus, other tissue.

    `futures` as for :func:`~nbkit.papers.inbrainsyn.experiments.what_if`; elsewhere is everything labelled but
    hippocampus, ventricles and other fluid.
    """
    found: dict[str, dict[str, float]] = {"hippocampus": {}, "elsewhere": {}}
    for subject, courses in futures.items():
        grown = {course: _grown(courses[course]) for course in GROUPS}
        for place in found:
            found[place][subject] = 100 * (grown["AD"][place] - grown["HC"][place])
    return stacked(*(
        tidy(values, id=f"inbrainsyn.early.{place}", unit="% of the volume", system="inbrainsyn", metric="early",
             structure=place) for place, values in found.items()
    ))


def _grown(futures: Futures) -> dict[str, float]:
    """Volume at the first age over that at the scan, of the hippocampus and of tissue elsewhere."""
    curve = volume_curve(futures)
    first = curve[curve["age"].isin([futures.scan.age, min(futures.ages)])]
    place = first["structure"].map(lambda name: "hippocampus" if name == "hippocampus" else "elsewhere")
    solid = first[~first["structure"].str.contains("ventricle|csf|fluid|background")]
    mm3 = solid.groupby([place[solid.index], "age"])["mm3"].sum().unstack()
    return (mm3[min(futures.ages)] / mm3[futures.scan.age]).to_dict()


def precision(model: InBrainSyn, cohort: Cohort) -> pd.DataFrame:
    """How far from where it will be the prediction puts tissue at each person's last visit, mean over the brain (mm).

    The true displacement is what moves the simulated scan (``cohort.truth``). "beyond" is the error less a millimetre,
    "no_change" what repeating the scan misses. People who convert are passed over: two flows follow one another.
    """

    def of_person(subject: Subject) -> tuple[str, float, float]:
        truth, scan, last = cohort.truth[subject.id], subject.baseline, subject.scans[-1]
        velocity = Velocity(truth.times[-1] * truth.velocity.data[None].float())
        true = expv(velocity, affine=truth.velocity.affine)[0]
        made = model.futures(scan, [last.age], subject.diagnosis).displacements[0].to(true)
        inside = last.mask("brain").data[0].bool()
        return subject.id, *(float(gap.norm(dim=0)[inside].mean()) for gap in (made - true, true))

    steady = [subject for subject in cohort if cohort.truth[subject.id].onset is None]
    rows = side_by_side(of_person, steady)
    values = {
        "error": {name: error for name, error, _ in rows}, "beyond": {name: error - 1 for name, error, _ in rows},
        "no_change": {name: moved for name, _, moved in rows},
    }
    return stacked(*(
        tidy(found, id=f"inbrainsyn.precision.{name}", unit="mm", system=name, metric="displacement")
        for name, found in values.items()
    ))
