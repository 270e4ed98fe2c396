"""Who is simulated, by which settings, Table 1, what each part adds, and the follow-ups that are shown and judged.

Systems are called as in Table 1 ("P-C-T", "[9]"). Figures 2 and 4 are in :mod:`nbkit.papers.daninet.progression`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from nbkit.core.checks import check_keys, require
from nbkit.core.protocols import Cohort, Scan, Subject, age_of
from nbkit.core.stats import MIN_SUBJECTS, paired_difference, paired_p
from nbkit.core.tidy import by_subject, stacked, tidy, where
from nbkit.core.volume import Volume, bounding_box
from nbkit.data.slices import cut, sliced
from nbkit.metrics.image import SSIM_RADIUS, mae, psnr, ssim
from nbkit.papers.daninet.config import VARIANTS

PARTS = ("T", "P", "C")
STAGES = {"cn": ("CN",), "smc": ("SMC",), "mci": ("EMCI", "MCI", "LMCI"), "ad": ("AD",)}
"""Of the paper's people."""
MEASURES = {
    "ssim": ("daninet.table1.ssim", "SSIM"), "ssim_brain": ("daninet.controls.ssim_brain", "SSIM"),
    "ssim_changed": ("daninet.controls.ssim_changed", "SSIM"),
    "psnr": ("daninet.controls.psnr", "dB"), "mae": ("daninet.controls.mae", "share of peak"),
}
"""Where the scores of slices are recorded, and their units."""
CHANGED = 0.1
"""Share of the brain's pixels that counts as changed: those whose 5 × 5 pixels differ most, on average, in truth."""


def key_of(system: str) -> str:
    """The name under which a system is recorded: "p_c_t" for "P-C-T", "caae" for "[9]"."""
    return "caae" if system == "[9]" else system.lower().replace("-", "_")


@dataclass(frozen=True, eq=False)
class Case:
    """A follow-up and its simulations.

    Parameters
    ----------
    subject, session, diagnosis : str
        Whose follow-up it is, and the diagnosis at baseline.
    years : float
        From the input to the follow-up.
    baseline, truth : Volume
        The input and the follow-up, one slice each: data (1, S, S, 1), on one grid, in the scans' own unit.
    candidates : mapping of str to Volume
        Simulations of the follow-up, by system.
    brain : Volume
        Mask on that grid.

    Raises
    ------
    NbkitError
        For more than one slice, or other grids than that of the follow-up.
    """

    subject: str
    session: str
    diagnosis: str
    years: float
    baseline: Volume
    truth: Volume
    candidates: Mapping[str, Volume]
    brain: Volume

    def __post_init__(self) -> None:
        require(
            self.truth.shape[2] == 1, f"{self.id}: follow-up", expected="one axial slice, shape (S, S, 1)",
            found=self.truth.shape, remedy="Cut the slice first (nbkit.data.slices.cut).",
        )
        for name, image in {"baseline": self.baseline, "brain": self.brain, **self.candidates}.items():
            self.truth.check_grid(image, f"{self.id}: follow-up and {name}")

    @property
    def id(self) -> str:
        """Subject and session."""
        return f"{self.subject}/{self.session}"


class OnSlice:
    """A system of volumes, asked about slices of its people: it sees their whole scans, and its answers are cut.

    Parameters
    ----------
    model : TrajectoryModel
    cohort : Cohort
        The volumes that the slices are of.
    where
        ``level_mm``, ``size`` and ``spacing_mm``, as for :func:`nbkit.data.slices.sliced`.
    """

    def __init__(self, model: Any, cohort: Cohort, **where: Any) -> None:
        self.model, self.cohort, self.where = model, cohort, where

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One slice per age; people are found by id and visits by session, strangers are refused by name."""
        sessions = {scan.session for scan in history}
        seen = [scan for scan in self.cohort.subject(history[0].subject).scans if scan.session in sessions]
        return [cut(image, **self.where) for image in self.model.predict(seen, ages, diagnosis)]


def beside_slices(
    flat: Any, models: Mapping[str, Any], people: Cohort, *, progress: bool = True, **where: Any
) -> pd.DataFrame:
    """:func:`score_slices` of DaniNet tuned to the person and of systems of volumes, from the first scan to the last.

    Parameters
    ----------
    flat : DaniNet
        Fitted to slices; called "daninet".
    models : mapping of str to TrajectoryModel
        Systems of volumes; they see whole scans.
    people : Cohort
        Volumes.
    where
        As for :class:`OnSlice`.
    """
    ends = replace(people, subjects=tuple(replace(s, scans=(s.scans[0], s.scans[-1])) for s in people))
    asked = {name: OnSlice(model, ends, **where) for name, model in models.items()}
    asked["daninet"] = flat.transferring(True)
    return score_slices(asked, sliced(ends, **where), peak=flat.frame.peak, years=0.0, progress=progress)


def followed(cohort: Cohort, train: Cohort, *, years: float = 2.0) -> Cohort:
    """People with a visit so long after the first, or longer, whose diagnosis somebody in training has."""
    taught = {person.diagnosis for person in train}
    return cohort.subset([p.id for p in cohort if p.diagnosis in taught and _years(p, p.scans[-1]) >= years])


def first_ages(**groups: Cohort) -> pd.DataFrame:
    """Ages at the first scan (years), described for each group."""
    ages = {name: pd.Series([person.baseline.age for person in group]) for name, group in groups.items()}
    return pd.DataFrame({name: values.describe() for name, values in ages.items()}).round(2)


def people_counts(cohort: Cohort, *, training: Cohort, test: Cohort) -> pd.DataFrame:
    """What the paper says of its people, of ours: slices, people, ages, years of follow-up, diagnoses."""
    ages = [age_of(scan) for person in cohort for scan in person.scans]
    years = [_years(person, person.scans[-1]) for person in cohort if len(person.scans) > 1]
    counts = {
        "slices_train": _scans(training), "people_train": len(training), "slices_test": _scans(test),
        "people_test": len(test), "scans": _scans(cohort) / len(cohort),
    }
    scans = {"images_train": _scans(training), "images_test": _scans(test)}
    spans = {"age.low": min(ages), "age.high": max(ages), "years": sum(years) / len(years)}
    shares = {
        f"share.{name}": 100 * sum(person.diagnosis in stages for person in cohort) / len(cohort)
        for name, stages in STAGES.items()
    }
    units = {"1": counts, "years": spans, "% of participants": shares}
    return stacked(*(
        tidy(value, id=f"daninet.data.{name}", unit=unit, metric=name)
        for unit, values in units.items() for name, value in values.items()
    ), *(tidy(value, id=f"daninet.abstract.{name}", unit="1", metric=name) for name, value in scans.items()))


def settings(model: Any) -> pd.DataFrame:
    """What a fitted DaniNet with P and C ran with, as the paper prints its own."""
    c, objective = model.config, model.objective_of()
    found = {
        "ages": model.bins.count, "diagnoses": float(model.net.generator.codes.told.max()),
        "latent": model.net.encoder.out.out_features, "size": model.frame.shape[0],
        "rate": c.learning_rate, "beta1": c.beta1, "batch": c.batch, "epochs": c.epochs,
        "transfer_steps": c.transfer_steps * c.transfer,
    } | {f"weight.{name}": weight for name, weight in objective.weights.items()}
    return stacked(*(tidy(value, id=f"daninet.settings.{name}", metric=name) for name, value in found.items()))


def tune(models: Mapping[str, Any], people: Cohort) -> pd.DataFrame:
    """Tune every model to all people at once, whom it remembers thereafter; seconds a person takes.

    Recorded for the full model, with the seconds in which one person tuned to before is simulated at all ages.
    """
    frames = []
    for name, model in models.items():
        began = time.perf_counter()
        model.personalised([p.baseline for p in people], [p.diagnosis for p in people])
        seconds = (time.perf_counter() - began) / len(people)
        id = "daninet.seconds.transfer" if name == "P-C-T" else ""
        frames.append(tidy(seconds, id=id, unit="s", system=name, note="a person, several tuned together"))
    full, person, began = models["P-C-T"], people.subjects[0], time.perf_counter()
    full.predict([person.baseline], full.bins.centres, person.diagnosis)
    told = {"unit": "s", "system": "P-C-T", "note": "all ages, the person tuned to before"}
    return stacked(*frames, tidy(time.perf_counter() - began, id="daninet.seconds.simulation", **told))


def score_slices(
    models: Mapping[str, Any], cohort: Cohort, *, peak: float, years: float = 2.0, progress: bool = True
) -> pd.DataFrame:
    """Predict every later visit of every subject from the first slice, with every model.

    Parameters
    ----------
    models : mapping of str to TrajectoryModel
        By name.
    cohort : Cohort
        Slices (1, S, S, 1) of test people, none of them trained on.
    peak : float
        Intensity that becomes 1; the range of PSNR and SSIM.
    years : float
        Visits nearer to the first are left out. The paper's test people have one at two years or later.
    progress : bool
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per subject, visit and model: subject, session, diagnosis, age, years, model; ssim over the bounding box
        of both brains, ssim_brain inside them and ssim_changed where the true scans differ most (:data:`CHANGED`),
        of windows of 11 × 11 pixels; psnr (dB) and mae (of the peak) inside the brains.

    Raises
    ------
    NbkitError
        For a subject without such a visit.
    """
    rows = []
    for subject in tqdm(cohort, desc="slices", unit="person", disable=not progress):
        first, later = subject.baseline, _later(subject, years)
        for name, model in models.items():
            images = model.predict((first,), [age_of(scan) for scan in later], subject.diagnosis)
            for scan, image in zip(later, images, strict=True):
                visit = {
                    "subject": subject.id, "session": scan.session, "diagnosis": subject.diagnosis,
                    "age": age_of(scan), "years": _years(subject, scan), "model": name,
                }
                rows.append(visit | _scores(image, scan, first, peak))
    return pd.DataFrame(rows)


def table1(scores: pd.DataFrame) -> pd.DataFrame:
    """Each system's SSIM, and the other measures, a mean for each person over the visits of :func:`score_slices`."""
    means = scores.groupby(["model", "subject"], sort=False)[list(MEASURES)].mean()
    return stacked(*(
        tidy(means.loc[name, metric].to_dict(), id=f"{id}.{key_of(name)}", unit=unit, system=name, metric=metric)
        for metric, (id, unit) in MEASURES.items() for name in scores["model"].unique()
    ))


def component_gains(table: pd.DataFrame, metric: str = "ssim") -> pd.DataFrame:
    """What T, P and C add each: for each person the mean over the four pairs of columns that differ by it alone.

    `table` is :func:`table1` with all eight columns; controls beside them do not count.
    """
    found = where(table, metric=metric)
    values = {name: pd.Series(by_subject(found, system=name)) for name in found["system"].unique()}
    check_keys(VARIANTS, values, "component_gains: system")
    frames = []
    for part in PARTS:
        without = [name for name in VARIANTS if part not in name]
        gain = sum(values[_with(part, name)] - values[name] for name in without) / len(without)
        id = f"daninet.table1.gain.{part.lower()}"
        frames.append(tidy(gain.to_dict(), id=id, unit=found["unit"].iloc[0], system=part, metric=f"gain in {metric}"))
    return stacked(*frames)


def differences(table: pd.DataFrame, against: str) -> pd.DataFrame:
    """Each system minus `against`, paired by person: mean, bootstrap 95 % interval, and the paper's paired t-test.

    `table` holds one value a person and system. Fewer than six people have no interval.
    """
    base, rows = by_subject(table, system=against), []
    for name in [name for name in table["system"].unique() if name != against]:
        other = by_subject(table, system=name)
        pair = [other[person] for person in base], [*base.values()]
        mean = paired_difference(*pair)
        ends = (mean.low, mean.high) if mean.n >= MIN_SUBJECTS else (np.nan, np.nan)
        rows.append((name, mean.value, *ends, mean.n, paired_p(*pair)))
    columns = ["system", f"minus {against}", "95 % from", "to", "people", "paired t-test, p"]
    return pd.DataFrame(rows, columns=columns).round(5).set_index("system")


def moved(models: Mapping[str, Any], people: Cohort, *, peak: float, against: str) -> pd.DataFrame:
    """:func:`differences` in SSIM of models whose follow-ups are scored here."""
    return differences(where(table1(score_slices(models, people, peak=peak)), metric="ssim"), against)


def printed(ids: Mapping[str, Any]) -> dict[str, float]:
    """The published SSIM of each configuration, from a ledger's numbers by id."""
    return {name: ids[f"{MEASURES['ssim'][0]}.{key_of(name)}"].value for name in VARIANTS}


def largest_p(gaps: pd.DataFrame) -> pd.DataFrame:
    """The largest p of the systems of Table 1 among :func:`differences`."""
    p = gaps.loc[[name for name in gaps.index if name in VARIANTS], "paired t-test, p"]
    return tidy(float(p.max()), id="daninet.table1.p", unit="1", metric="p")


def morphology(models: Mapping[str, Any], people: Cohort, *, peak: float) -> pd.DataFrame:
    """SSIM of each person's simulated last visit with the true one, mean with those of all others, and the difference.

    SSIM is that inside both brains (:data:`MEASURES`, "ssim_brain"). One person alone has no others.
    """
    last, frames = {person.id: person.scans[-1] for person in people}, []
    for name, model in models.items():
        made = {person.id: _simulated(model, person, last[person.id]) for person in people}
        near = {
            (mine, theirs): _scores(image, last[theirs], people.subject(mine).baseline, peak)["ssim_brain"]
            for mine, image in made.items() for theirs in made
        }
        own = {mine: near[mine, mine] for mine in made}
        others = {m: float(np.mean([near[m, t] for t in made if t != m])) for m in made} if len(made) > 1 else {}
        gap = {mine: own[mine] - value for mine, value in others.items()}
        frames += [
            tidy(values, id=f"daninet.morphology.{kind}.{key_of(name)}", unit="SSIM", system=name, metric=kind)
            for kind, values in (("own", own), ("others", others), ("gap", gap)) if values
        ]
    return stacked(*frames)


def followups(systems: Mapping[str, Any], people: Cohort, *, years: float = 2.0, last: bool = False) -> list[Case]:
    """Every follow-up from so many years on, or each person's last, as systems simulate it from the first slice."""
    return [
        Case(
            person.id, scan.session, person.diagnosis, _years(person, scan), person.baseline.image("T1w"),
            scan.image("T1w"), {name: _simulated(system, person, scan) for name, system in systems.items()},
            person.baseline.mask("brain"),
        )
        for person in people for scan in (person.scans[-1:] if last else _later(person, years))
    ]


def reasons(value: Callable[[str], float]) -> list[str]:
    """Why the claims come out as they do, in sentences; ``value(id)`` is what a run recorded."""
    gain = {part: value(f"daninet.table1.gain.{part.lower()}") for part in PARTS}
    ssim = {name: value(f"daninet.table1.ssim.{key_of(name)}") for name in (*VARIANTS, "copy", "mean_change")}
    best = max(VARIANTS, key=ssim.__getitem__)
    darken = {name: value(f"daninet.fig4.monotone.regions.{key_of(name)}") for name in ("P-C-T", "C-T")}
    brighten = {name: value(f"daninet.violations.{key_of(name)}") for name in ("P-C-T", "C-T", "true")}
    return [
        "Parts add to SSIM: " + ", ".join(f"{part} {more:+.3f}" for part, more in gain.items()) + ".",
        f"Repeating the input gives {ssim['copy']:.3f}, the mean change {ssim['mean_change']:.3f}, the best "
        f"configuration ({best}) {ssim[best]:.3f}: what a network of this size redraws it also blurs.",
        f"Under P, {darken['P-C-T']:.0f} % of regional steps darken, without it {darken['C-T']:.0f} %; pixels that "
        f"brighten: {brighten['P-C-T']:.1f} % against {brighten['C-T']:.1f} %, in true pairs {brighten['true']:.1f} %.",
    ]


def _with(part: str, name: str) -> str:
    return "-".join(p for p in "PCT" if p == part or p in name)


def _simulated(system: Any, person: Subject, scan: Scan) -> Volume:
    return system.predict((person.baseline,), [age_of(scan)], person.diagnosis)[0]


def _scans(cohort: Cohort) -> int:
    return sum(len(person.scans) for person in cohort)


def _years(person: Subject, scan: Scan) -> float:
    return age_of(scan) - age_of(person.baseline)


def _later(subject: Subject, years: float) -> list[Scan]:
    later = [scan for scan in subject.scans[1:] if _years(subject, scan) >= years]
    require(
        len(later) > 0, f"score_slices: {subject.id}", expected=f"a visit {years:g} years after the first, or later",
        found=f"{len(subject.scans)} scans", remedy="Leave the subject out of the test set.",
    )
    return later


def _scores(image: Volume, scan: Scan, first: Scan, peak: float) -> dict[str, float]:
    image.check_grid(scan.image("T1w"), f"score_slices: {scan.subject}: prediction and truth")
    brain = (first.mask("brain").data | scan.mask("brain").data).bool()[None]
    a, b, before = ((v.data.float() / peak)[None].cpu() for v in (image, scan.image("T1w"), first.image("T1w")))
    # the brain's box, grown so that windows centred at its edge fit
    x, y, _ = bounding_box(brain[0, 0], margin=SSIM_RADIUS)
    box = (slice(None), slice(None), x, y)
    return {
        "ssim": float(ssim(a[box], b[box], data_range=1.0, dims=2)),
        "ssim_brain": float(ssim(a, b, data_range=1.0, mask=brain, dims=2)),
        "ssim_changed": float(ssim(a, b, data_range=1.0, mask=_changed(before, b, brain), dims=2)),
        "psnr": float(psnr(a, b, data_range=1.0, mask=brain)), "mae": float(mae(a, b, mask=brain)),
    }


def _changed(before: torch.Tensor, after: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    size = F.avg_pool2d((after - before)[..., 0], 5, stride=1, padding=2)[..., None].abs()
    return brain & (size >= torch.quantile(size[brain], 1 - CHANGED))
