"""A blinded survey: which of several simulated slices is the closest to the follow-up, or none of them?

Ravì et al. (MICCAI 2019) asked 25 experts about 36 sets of three simulations each, shown in random order beside the
input and the follow-up. :class:`Survey` keeps the questions, the order and the answers and needs no browser;
:class:`SurveyPanel` puts buttons under its picture.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path

import ipywidgets
import pandas as pd

from nbkit.core.checks import known, require
from nbkit.core.files import write_text
from nbkit.core.seeds import numpy_generator
from nbkit.figures.style import Picture
from nbkit.papers.daninet.figures import Case, survey_sheet
from nbkit.widgets.keys import EXPLORER_CLASS, KeyGuard

NONE = "none"
LETTERS = "ABCDEFGH"
COLUMNS = ("rater", "question", "choice", "shown_order")
PIXELS_PER_INCH = 110


class Survey:
    """The questions to one rater, in the order given, and the answers on disk.

    The letters of the candidates are drawn anew for every question, from the seed, the rater and the question's id; so
    a survey that was broken off goes on with the same picture. Questions that the file already answers for this rater
    are passed over.

    Parameters
    ----------
    questions : sequence of Case
        Follow-ups with their simulations by system; the rater never sees these names.
    seed : int
    answers : Path or str
        CSV file with the columns of :data:`COLUMNS`; the only file that is written, whole at every answer. Several
        raters may use one file, one after another.
    rater : str

    Raises
    ------
    NbkitError
        For questions that are missing, come twice or differ in their candidates; a rater without a name; a path that is
        no CSV file in an existing folder; a file with other columns.
    """

    def __init__(self, questions: Sequence[Case], *, seed: int, answers: Path | str, rater: str) -> None:
        _check_questions(questions)
        require(
            bool(rater.strip()) and rater.isprintable(), "Survey: rater", expected="a name or code", found=repr(rater),
            remedy="Say who answers; a code is enough.",
        )
        self.questions, self.seed, self.rater = tuple(questions), int(seed), rater.strip()
        self.answers = Path(answers)
        require(
            self.answers.suffix == ".csv" and self.answers.parent.is_dir() and not self.answers.is_dir(),
            "Survey: answers", expected="a .csv file in a folder that exists", found=self.answers.name,
            remedy="Name the file, and make its folder first.",
        )
        rows = self._rows()
        self._done = set(rows["question"][rows["rater"] == self.rater])

    @property
    def current(self) -> Case | None:
        """The first question without an answer; None when all are answered."""
        return next((q for q in self.questions if q.id not in self._done), None)

    @property
    def choices(self) -> tuple[str, ...]:
        """What can be answered: the letters, and ``"none"``."""
        return (*LETTERS[:len(self.questions[0].candidates)], NONE)

    @property
    def progress(self) -> str:
        """Where the rater is: ``"7 of 36"``, or ``"all 36 answered"``."""
        total, done = len(self.questions), sum(q.id in self._done for q in self.questions)
        return f"{done + 1} of {total}" if done < total else f"all {total} answered"

    def shown_order(self, question: Case) -> tuple[str, ...]:
        """The configurations behind A, B, C, ... of a question; they do not depend on the order given."""
        names = sorted(question.candidates)
        order = numpy_generator(self.seed, "survey", self.rater, question.id).permutation(len(names))
        return tuple(names[i] for i in order)

    def answer(self, choice: str) -> None:
        """Write the answer to the current question.

        Parameters
        ----------
        choice : str
            One of :attr:`choices`.

        Raises
        ------
        NbkitError
            For another choice, or when every question is answered.
        """
        question = self.current
        require(
            question is not None, "Survey.answer", expected="a question that is open", found=self.progress,
            remedy="Start another survey, or read the answers with survey_summary.",
        )
        order = self.shown_order(question)
        named = {**dict(zip(LETTERS, order, strict=False)), NONE: NONE}[known(choice, self.choices, "Survey: choice")]
        row = pd.DataFrame([(self.rater, question.id, named, "|".join(order))], columns=COLUMNS)
        write_text(self.answers, pd.concat([self._rows(), row]).to_csv(index=False))
        self._done.add(question.id)

    def render(self) -> Picture:
        """The current question as a picture, with letters for names; the last one when all are answered."""
        question = self.current or self.questions[-1]
        return survey_sheet(question, dict(zip(LETTERS, self.shown_order(question), strict=False)))

    def _rows(self) -> pd.DataFrame:
        return read_answers(self.answers) if self.answers.exists() else pd.DataFrame(columns=COLUMNS)


class SurveyPanel:
    """Buttons under the picture of a survey; reached with Tab, pressed with Enter or Space.

    Parameters
    ----------
    survey : Survey

    Attributes
    ----------
    box : ipywidgets.Widget
        What a notebook displays.
    buttons : dict of str to ipywidgets.Button
        By choice.
    """

    def __init__(self, survey: Survey) -> None:
        self.survey, self.words = survey, ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="100%", max_width="900px"))
        self.buttons = {
            choice: ipywidgets.Button(description="none of them" if choice == NONE else choice)
            for choice in survey.choices
        }
        for choice, button in self.buttons.items():
            button.on_click(lambda _button, choice=choice: self._answer(choice))
        row = ipywidgets.HBox(list(self.buttons.values()))
        self.box = ipywidgets.VBox([self.words, self.picture, row, KeyGuard()]).add_class(EXPLORER_CLASS)
        self._show()

    def _answer(self, choice: str) -> None:
        self.survey.answer(choice)
        self._show()

    def _show(self) -> None:
        buffer, open_question = io.BytesIO(), self.survey.current is not None
        self.survey.render().savefig(buffer, format="png", dpi=PIXELS_PER_INCH)
        self.picture.value = buffer.getvalue()
        for button in self.buttons.values():
            button.disabled = not open_question
        asked = "Which simulation is the closest to the follow-up?" if open_question else "Thank you."
        self.words.value = f"<span role='status'>{html.escape(self.survey.progress)}. {asked}</span>"


def read_answers(path: Path | str) -> pd.DataFrame:
    """The answers of a survey, one row each, all columns text.

    Raises
    ------
    NbkitError
        For other columns than :data:`COLUMNS`, by name.
    """
    with open(path, encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    bad = [f"{len(row)} in line {i}" for i, row in enumerate(rows, 2) if len(row) != len(COLUMNS)]
    require(
        tuple(head) == COLUMNS and not bad, f"survey answers: {Path(path).name}",
        expected=f"the columns {', '.join(COLUMNS)}", found="; ".join([", ".join(head) or "an empty file", *bad[:1]]),
        remedy="Name a new file for the answers, or the one of an earlier survey.",
    )
    return pd.DataFrame(rows, columns=COLUMNS)


def survey_summary(answers: pd.DataFrame | Path | str) -> pd.DataFrame:
    """The paper's summary: how often, and for what share of their questions, raters chose each configuration.

    Parameters
    ----------
    answers : DataFrame or path
        Of one survey; several tables of :func:`read_answers` may be concatenated.

    Returns
    -------
    DataFrame
        Indexed by configuration and ``"none"``: times_mean, times_sd, percent_mean, percent_sd over raters (SD of the
        sample, NaN for one rater) and raters.

    Raises
    ------
    NbkitError
        Without answers, for a question that one rater answers twice, or a choice that was not shown.
    """
    table = answers if isinstance(answers, pd.DataFrame) else read_answers(answers)
    again = table[table.duplicated(["rater", "question"])]
    twice = [f"{rater} on {question} twice" for rater, question in zip(again["rater"], again["question"], strict=True)]
    require(
        len(table) > 0 and not twice, "survey_summary: answers", found=", ".join(twice) or "none",
        expected="at least one answer, and one by each rater to each question",
        remedy="Let somebody answer the survey first, or remove the answer that does not count.",
    )
    names = sorted({name for order in table["shown_order"] for name in order.split("|")})
    for choice in table["choice"].unique():
        known(choice, [*names, NONE], "survey_summary: choice")
    times = pd.crosstab(table["rater"], table["choice"]).reindex(columns=[*names, NONE], fill_value=0)
    percent = 100 * times.div(times.sum(axis=1), axis=0)
    columns = {"times_mean": times.mean(), "times_sd": times.std(), "percent_mean": percent.mean(),
               "percent_sd": percent.std()}
    return pd.DataFrame(columns).assign(raters=len(times)).rename_axis("configuration")


def _check_questions(questions: Sequence[Case]) -> None:
    ids = [q.id for q in questions]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    require(
        len(ids) > 0 and not twice, "Survey: questions", expected="at least one, each id once",
        found=", ".join(twice) or "none", remedy="Pass one Case per follow-up.",
    )
    names = sorted(questions[0].candidates)
    others = [q.id for q in questions if sorted(q.candidates) != names]
    good = 2 <= len(names) <= len(LETTERS) and NONE not in names and "|" not in "".join(names)
    require(
        good and not others, "Survey: candidates", found=f"{', '.join(names)}; others in {', '.join(others) or 'none'}",
        expected=f"two to {len(LETTERS)}, the same in every question, none called {NONE!r} or with a bar in its name",
        remedy="Name the candidates by system, and compare the same throughout.",
    )
