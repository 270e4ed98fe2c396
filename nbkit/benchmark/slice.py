"""The task "slice", DaniNet's: one axial slice of a person, and that slice at later ages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nbkit.benchmark.ageing import COHORTS, Ageing, Asked
from nbkit.benchmark.entries import Entrant, read_entrants
from nbkit.benchmark.judge_page import credit_of, facts_of
from nbkit.benchmark.scoring import Entered
from nbkit.benchmark.small_page import Small, people_lines
from nbkit.benchmark.tasks import asked_for
from nbkit.benchmark.write import write
from nbkit.cohorts import cohort_for, noise_free
from nbkit.core.checks import require
from nbkit.core.protocols import Cohort
from nbkit.core.tidy import stacked, where
from nbkit.data.slices import PROFILE_SLICES, cut, sliced
from nbkit.papers.daninet import reach
from nbkit.papers.daninet.experiments import score_slices
from nbkit.papers.trajectories.controls import Hindsight
from nbkit.papers.trajectories.experiments import by_person
from nbkit.papers.trajectories.figures import lineup

TITLES: Mapping[str, str] = {"ssim": "SSIM inside the brain", "mae": "MAE inside the brain, share of the peak"}
_COLUMNS = {"ssim": "ssim_brain", "mae": "mae"}
CONTROLS = ("copy", "mean_change", "floor")


@dataclass(frozen=True, eq=False, kw_only=True)
class SliceTask(Ageing):
    """The task "ageing" on one slice: images alone, no volumes; `whole` are the same people before they were cut."""

    whole: Cohort

    @property
    def structures(self) -> tuple[str, ...]:
        """None: one slice holds no hippocampus."""
        return ()

    def write(self, root: Path, *, overwrite: bool = False) -> str:
        """Write what may be seen; gives a line that says what."""
        return write(root, self, overwrite=overwrite)

    def read(self, folder: Path) -> tuple[str, Entrant]:
        """One entrant, everything checked; it hands in images alone."""
        found = read_entrants(folder, self)
        require(
            len(found) == 1 and not len(found[0].volumes), folder.name, expected="images of one system",
            found="; ".join(f"{e.name}: {e.told}" for e in found), remedy="Give each system a folder of its own.",
        )
        return found[0].name, found[0]

    @cached_property
    def peak(self) -> float:
        """What counts as 1 in SSIM and MAE."""
        scans = [scan for person in self.train for scan in person.scans]
        values = torch.cat([s.image("T1w").data[s.mask("brain").data.bool()].float() for s in scans])
        return float(torch.quantile(values.double()[:10_000_000], self.rules.told["metrics"]["peak_quantile"]))

    def judge(self, entries: Sequence[tuple[str, Entrant]]) -> Small:
        """Entrants beside the slice repeated, the mean change, and the truth without noise."""
        models = dict(reach.controls(self.train))
        if free := noise_free(self.whole.subset(self.test.ids), "T1w"):
            cuts = {key: cut(free[key], **PROFILE_SLICES[self.profile]) for key in free}
            models["floor"] = Hindsight(self.test, cuts)
        models |= {name: Entered(entrant, self) for name, entrant in entries}
        found = score_slices(models, self.test, peak=self.peak, years=0.0, progress=False)
        lacking = {name: entrant.lacking(self.asked()) for name, entrant in entries}
        rows = [self._without(found, name, lacking.get(name, ())) for name in models]
        frame = stacked(*(by_person(pd.concat(rows), c, metric=m) for m, c in _COLUMNS.items()))
        metrics = self.rules.told["metrics"]
        lost = {name: list(dict.fromkeys(label for label, _ in keys)) for name, keys in lacking.items()}
        return Small(
            lead=f"{self.rules.told['title']}: {len(self.asked())} slices of {len(self.test)} people, from one each.",
            facts=facts_of(self.identity, self.truth_said, {name: e.told for name, e in entries}),
            names=tuple(name for name, _ in entries), frame=frame, titles=TITLES, control=metrics["control"],
            how="Scored inside the brain as notebook 04 scores, mean over a person's visits; a visit without an image "
                "counts as the slice repeated. The rules are frozen in the file of the task, whose hash stands above.",
            credit=credit_of(self.people), forgotten=people_lines(lost, len(self.test), "the slice repeated"),
            pictures=tuple(self._pictures(entries, frame)), seed=metrics["bootstrap_seed"],
        )

    def _without(self, found: pd.DataFrame, name: str, lacking: Sequence[Asked]) -> pd.DataFrame:
        """Rows of a system, with those of the control where there was no image."""
        own, control = where(found, model=name), where(found, model="copy")
        pairs = zip(own["subject"], own["age"], strict=True)
        lost = np.array([(self.labels[who], round(age, 2)) in set(lacking) for who, age in pairs], dtype=bool)
        return pd.concat([own[~lost], control[lost].assign(model=name)])

    def _pictures(self, entries: Sequence[tuple[str, Entrant]], frame: pd.DataFrame):
        for name, entrant in entries:
            own = where(frame, system=name, metric="ssim").set_index("subject")["value"].sort_values(ascending=False)
            for said, who in {"worst": own.index[-1], "median": own.index[(len(own) - 1) // 2]}.items():
                person = self.people.subject(who)
                last, target = self.last(person), person.scans[-1]
                (image,) = Entered(entrant, self).predict([last], [target.age], person.diagnosis)
                level = {"axial": PROFILE_SLICES[self.profile]["level_mm"]}
                told = f"{name}: {said} person, sub-{self.labels[who]}"
                yield lineup(last, target, {name: image}, levels_mm=level), told


def open_slice(
    level: str, *, task: str = "slice", profile: str = "laptop", seed: int | None = None, device: str = "auto",
    n_jobs: int = 1,
) -> SliceTask:
    """The task on a cohort; see :func:`nbkit.benchmark.ageing.open_task`."""
    frozen, seed = asked_for(task, level, profile, seed, cohorts=COHORTS)
    whole = cohort_for(level, task="ageing", profile=profile, seed=seed, n_jobs=n_jobs)
    flat = sliced(whole, **PROFILE_SLICES[profile])
    return SliceTask(flat, frozen, level, profile, seed, "one", device, whole=whole)
