"""What every notebook begins and ends with: a cohort, a results folder, who was scanned, verdicts, provenance. Rank 6.

One call each, so that a notebook is left with its paper::

    run = begin("05_mrextrap", paper="mrextrap", task="ageing", profile=profile, cohort=cohort,
                seed=seed, out_dir=out_dir)
    run.who()                                             # the people, by diagnosis
    run.table("table1", frame, caption="Errors, mL")      # recorded, and shown with its source
    run.record(frame)                                     # a tidy frame: its numbers, by id
    run.beside("Table 1")                                 # published and ours, row by row
    run.verdicts(); run.claims(); run.provenance()        # the last three cells
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown, display
from pandas.io.formats.style import Styler

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation, Run, load_observations, load_rooms
from nbkit.claims.tables import comparison_table, rooms_table, verdict_table
from nbkit.claims.verdicts import Scorecard, judge_folder
from nbkit import cohorts, entrants, shipped
from nbkit.core.cluster import on_cluster
from nbkit.core.protocols import Cohort, ModalitySynthesizer
from nbkit.core.volume import Volume
from nbkit.figures.learning_curves import learning_curves
from nbkit.figures.marks import title_of
from nbkit.figures.tables import show_table
from nbkit.runner.provenance import collect
from nbkit.training.crossval import FoldLike, Result, Score, cross_validate
from nbkit.training.curves import courses, endings

_KERNEL = ExitStack()
"""What holds as long as a notebook's kernel lives."""


STRANGERS = {"smoke": 2}
"""How many times as many strangers a profile has; the others ten."""


class Session(Run):
    """A :class:`~nbkit.claims.observe.Run` that knows its people and shows what it records.

    Attributes
    ----------
    people : Cohort
    kind : str
        "simulated", "real scans", or what the cohort says of itself.
    entered : list of str
        Names of users' models: they get a column beside each of ours in tables of published numbers.
    """

    def __init__(
        self, out_dir: Path | str, *, people: Cohort, asked: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(out_dir, cohort=people, **options)
        self.people, self._asked, self.entered = people, dict(asked or {}), []
        self.kind = people.provenance.get("kind", "simulated" if people.truth else "real scans")

    def noise_free(self, contrast: str) -> dict[tuple[str, str], Volume]:
        """The acquisition without noise of simulated people, by (subject, session); empty on real scans."""
        return cohorts.noise_free(self.people, contrast)

    def strangers(self) -> Cohort | None:
        """Ten times as many other simulated people of the same design, twice at smoke; None on real scans."""
        times = STRANGERS.get(self.profile, 10)
        return cohorts.strangers(times=times, **self._asked) if self._asked else None

    def another(self, task: str) -> Cohort:
        """The cohort of the same name, profile and seed for another task."""
        asked = dict(self._asked)
        return cohorts.cohort_for(asked.pop("level"), **asked | {"task": task})

    def scanned_twice(self, people: Cohort | None = None) -> list[Cohort]:
        """People scanned twice without ageing between (:func:`nbkit.cohorts.scanned_twice`); simulated, of `people`."""
        told = {key: self._asked[key] for key in ("seed", "n_jobs") if key in self._asked}
        return cohorts.scanned_twice(people or self.people, profile=self.profile, **told)

    def enter(self, model: str, train: Cohort, *, device: str = "auto") -> entrants.Entrants:
        """The models at some addresses (:func:`nbkit.entrants.enter`), fitted on training people; says how it went."""
        found = entrants.enter(model, train, seed=self.seed, device=device, profile=self.profile)
        self.entered += list(found)
        display(self.tell(*found.lines()))
        return found

    def validated(
        self, systems: Mapping[str, ModalitySynthesizer], model: str, *, folds: Sequence[FoldLike], score: Score,
        target: str, n_jobs: int = 1, **options: Any,
    ) -> dict[str, Result]:
        """:func:`~nbkit.training.crossval.cross_validate` of systems, and of the models at some addresses; says how.

        `options` are what users' constructors may be told besides target, seed and profile
        (:func:`nbkit.entrants.cross_validated`).
        """
        asked, told = {"folds": folds, "score": score}, {"seed": self.seed, "profile": self.profile, **options}
        results = cross_validate(systems, self.people, n_jobs=n_jobs, **asked)
        theirs, lines = entrants.cross_validated(model, self.people, target=target, **asked, **told)
        self.entered += list(theirs)
        display(self.tell(*lines))
        return results | theirs

    def _check_id(self, id: str, extra: bool) -> None:
        """No ledger knows users' models."""
        super()._check_id(id, extra or any(word in self.entered for word in id.split(".")))

    @property
    def said(self) -> str:
        """The line under every table: cohort, kind, level and profile."""
        return f"{self.cohort} ({self.kind}), {self.level} data, {self.profile} profile"

    @property
    def who_said(self) -> str:
        """What stands under a table of the people: who is here and who is left out, why so diagnosed, whose scans."""
        credit = [self.attribution] if self.level == "open" and self.attribution else []
        return ". ".join(["People by diagnosis at the first scan", *self.people.provenance.get("who", ()), *credit])

    def who(self, people: Cohort | None = None, **groups: Cohort) -> Styler:
        """People by diagnosis: how many, their visits, ages and years of follow-up; a column more for each group.

        `people` stands for everybody; ``training=..., test=...`` add how many of each diagnosis are among them.
        """
        frame = pd.DataFrame([_person(subject) for subject in people or self.people])
        table = frame.groupby("diagnosis", sort=False).agg(
            people=("visits", "size"), scans=("visits", "sum"), youngest=("age", "min"), oldest=("last", "max"),
            years=("years", "mean"),
        ).rename(columns={"years": "mean years of follow-up"})
        for name, group in groups.items():
            table[name] = pd.Series([s.diagnosis for s in group]).value_counts().reindex(table.index, fill_value=0)
        table = table.round(1).dropna(axis="columns", how="all")
        return self.show(table, self.who_said)

    def table(self, name: str, data: pd.DataFrame, *, caption: str) -> Styler:
        """Record ``tables/NAME.csv``, and show it with its source as the last line of a cell does."""
        super().table(name, data, caption=caption)
        return self.show(data, caption)

    def show(self, data: pd.DataFrame, caption: str) -> Styler:
        """Show a table with its source, without recording it."""
        return show_table(data, f"{caption}. {self.said}")

    def beside(self, where: str, *, name: str | None = None, caption: str = "", paper: str | None = None) -> Styler:
        """A published table with our numbers beneath each row, recorded as `name` ("table2_1" for "Table 2.1").

        Of this notebook's paper, unless another ledger is named. Where nothing is printed or measured, why.
        """
        data = comparison_table(paper or self.paper, self.observed(), where=where, more=self.entered)
        data = data if len(data) else pd.DataFrame({"not run": [self._why_not(where, paper)]}, index=[where])
        plain = where.lower().replace(" ", "").replace(".", "_").replace("(", "").replace(")", "")
        return self.table(name or plain, data, caption=caption or f"{where}: published, and ours")

    def _why_not(self, where: str, paper: str | None) -> str:
        """The reason given (:meth:`not_run`) for the first number of a place."""
        ids = [number.id for number in (load_paper(paper) if paper else self.paper).at(where)]
        told = (r["reason"] for i in ids for r in self._not_run if i.startswith(r["prefix"]))
        return next(told, "nothing of it was measured here")

    def observed(self) -> dict[str, Observation]:
        """What the folder holds so far, by id."""
        return load_observations(self.out_dir)

    def trained(self, name: str, models: Mapping[str, Any]) -> Styler:
        """How the training of each system went, as the figure and the table ``NAME_training``: was it long enough?"""
        curves = courses({title_of(system): model for system, model in models.items()})
        said = "Loss over each training, and the error on training people kept back where there are some"
        display(self.figure(f"{name}_training", learning_curves(curves), caption=said))
        return self.table(f"{name}_training", endings(curves), caption="Was it trained long enough?")

    def value(self, id: str) -> float:
        """The recorded value of one id, for a sentence."""
        return self.observed()[id].value

    def tell(self, *lines: str) -> Markdown:
        """Sentences with numbers of this run, as a list when there are several."""
        return Markdown(lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines))

    def rooms(self, *, name: str = "") -> Styler:
        """What could be won at all on each measure of this notebook; kept as a table where a `name` is given."""
        mine = tuple(r for r in load_rooms(self.out_dir) if r.notebook == self.notebook)
        table, caption = rooms_table(Scorecard(rooms=mine)), "What could be won: the ends of each measure, and the room"
        return self.table(name, table, caption=caption) if name else self.show(table, caption)

    def verdicts(self, *, where: str | None = None) -> Styler:
        """The verdict on every claim of the paper, by what this folder holds."""
        table = verdict_table(judge_folder(self.out_dir), where=where)
        mine = table[table["claim"].isin([claim.statement for claim in self.paper.claim])]
        return self.show(mine.reset_index(drop=True), "Claims, and what this run says")

    def claims(self) -> Styler:
        """Every claim of the paper in its own place, and where the published numbers come from."""
        rows = [(claim.where, claim.statement, claim.note) for claim in self.paper.claim]
        table = pd.DataFrame(rows, columns=["where", "claim", "note"])
        table = table if table["note"].any() else table.drop(columns="note")
        return show_table(table, f"{len(table)} claims. {self.paper.paper.title}; {self.paper.paper.source}")

    def provenance(self) -> Styler:
        """Cohort, machine and versions behind every number."""
        facts = {"seed": self.seed, **self.people.provenance, **collect()}
        table = pd.Series({key: str(value) for key, value in facts.items()}, name="this run").to_frame()
        return show_table(table, f"Cohort, machine and versions. {self.said}")


def begin(
    notebook: str, *, task: str, profile: str, cohort: str, seed: int, out_dir: Path | str, paper: str | None = None,
    n_jobs: int = 1, data_level: str | None = None, weights: str = "shipped",
) -> Session:
    """Open the cohort that `cohort` means for `task`, and this notebook's part of the results folder.

    Parameters
    ----------
    notebook : str
        The notebook's file name without ``.ipynb``.
    task : {"overview", "flair", "ageing", "myelin", "myelin_null", "pet"}
    profile, cohort, seed, out_dir, n_jobs
        As in the notebook's parameters.
    paper : str, optional
        Ledger whose ids are checked and whose claims are judged.
    data_level : {"embedded", "open", "restricted"}, optional
        That of the cohort, unless something more is shown: a scan of one's own makes it "restricted".
    weights : {"shipped", "train"}
        Whether systems whose weights come with the project are read (:mod:`nbkit.shipped`), or everything is trained.
    """
    shipped.use(weights, "begin: weights")
    _KERNEL.enter_context(on_cluster())
    asked = {"task": task, "profile": profile, "seed": seed, "n_jobs": n_jobs}
    return Session(
        out_dir, people=cohorts.cohort_for(cohort, **asked), asked={"level": cohort, **asked}, notebook=notebook,
        profile=profile, seed=seed, paper=paper, data_level=data_level,
    )


def _person(subject) -> dict[str, object]:
    ages: Sequence[float] = [scan.age for scan in subject.scans if scan.age is not None]
    first, last = (ages[0], ages[-1]) if ages else (None, None)
    years = last - first if ages else None
    return {"diagnosis": subject.diagnosis, "visits": len(subject.scans), "age": first, "last": last, "years": years}
