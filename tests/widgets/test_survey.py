"""The survey: blinded, the same order every time, answers whole on disk, and the paper's summary of them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.daninet.experiments import Case
from nbkit.widgets.keys import EXPLORER_CLASS, KeyGuard
from nbkit.widgets.survey import COLUMNS, NONE, Survey, SurveyPanel, read_answers, survey_summary

NAMES = ("p_c_t", "c_t", "caae")
SIZE = 12


def question(session: str, images: np.ndarray, names: tuple[str, ...] = NAMES) -> Case:
    """Of the subject q, by session: the input, the follow-up, and one simulation for each name."""
    baseline, truth, *rest = (Volume(torch.from_numpy(image)[..., None]) for image in images)
    brain = Volume(torch.ones(*images.shape[1:], 1, dtype=torch.bool))
    return Case("q", session, "CN", 2.0, baseline, truth, dict(zip(names, rest, strict=True)), brain)


def questions(count: int = 6, names: tuple[str, ...] = NAMES) -> list[Case]:
    slices = np.random.default_rng(3).random((count, 2 + len(names), SIZE, SIZE))
    return [question(f"{k}", images, names) for k, images in enumerate(slices)]


@pytest.fixture
def survey(tmp_path) -> Survey:
    return Survey(questions(), seed=7, answers=tmp_path / "answers.csv", rater="r1")


def again(survey: Survey, **other) -> Survey:
    given = {"seed": survey.seed, "answers": survey.answers, "rater": survey.rater} | other
    return Survey(survey.questions, **given)


def test_letters_depend_on_seed_rater_and_question_and_on_nothing_else(survey, tmp_path):
    def orders(one: Survey) -> list[tuple[str, ...]]:
        return [one.shown_order(q) for q in one.questions]

    assert orders(survey) == orders(again(survey)) and len(set(orders(survey))) > 1
    assert all(sorted(order) == sorted(NAMES) for order in orders(survey))
    turned = [replace(q, candidates=dict(reversed(q.candidates.items()))) for q in questions()]
    other = Survey(turned[::-1], seed=7, answers=tmp_path / "b.csv", rater="r1")
    assert orders(other)[::-1] == orders(survey)
    assert orders(again(survey, seed=8)) != orders(survey) != orders(again(survey, rater="r2"))


def test_every_configuration_stands_under_every_letter_equally_often(survey):
    asked = [replace(survey.questions[0], session=f"x{k}") for k in range(600)]
    first = pd.Series([survey.shown_order(q)[0] for q in asked]).value_counts()
    assert set(first.index) == set(NAMES) and first.min() > 160


def test_an_answer_names_what_stood_under_its_letter(survey):
    order = survey.shown_order(survey.questions[0])
    survey.answer("B")
    survey.answer(NONE)
    assert survey.answers.read_text().splitlines()[0] == ",".join(COLUMNS)
    rows = read_answers(survey.answers)
    assert list(rows.iloc[0]) == ["r1", "q/0", order[1], "|".join(order)]
    assert rows["choice"][1] == NONE and survey.progress == "3 of 6"


def test_a_survey_that_was_broken_off_goes_on(survey):
    for choice in ("A", "C"):
        survey.answer(choice)
    resumed = again(survey)
    assert (resumed.current.id, resumed.progress) == ("q/2", "3 of 6")
    assert again(survey, rater="r2").progress == "1 of 6"
    for _ in range(4):
        resumed.answer("A")
    assert resumed.current is None and resumed.progress == "all 6 answered"
    with pytest.raises(NbkitError, match="Survey.answer"):
        resumed.answer("A")
    assert len(read_answers(survey.answers)) == 6


def test_raters_share_a_file_and_nothing_else_is_written(survey, tmp_path):
    survey.answer("A")
    other = again(survey, rater="Zoë, 2")
    other.answer("A")
    survey.answer("B")
    assert list(read_answers(survey.answers)["rater"]) == ["r1", "Zoë, 2", "r1"]
    assert [p.name for p in tmp_path.iterdir()] == ["answers.csv"]


def test_an_answer_that_cannot_be_written_leaves_the_file_and_the_question_open(survey, monkeypatch):
    survey.answer("A")
    before = survey.answers.read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("nbkit.core.files.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        survey.answer("B")
    assert survey.answers.read_bytes() == before and survey.current.id == "q/1"


def test_names_are_never_shown(survey):
    panel = SurveyPanel(survey)
    figure = survey.render()
    words = [t.get_text() for axes in figure.axes for t in axes.texts] + [a.get_title() for a in figure.axes]
    assert {w for w in words if w} == {"L", "R", "z = 0 mm", "input", "follow-up", "A", "B", "C"}
    shown = panel.words.value + "".join(b.description + (b.tooltip or "") for b in panel.buttons.values())
    assert not any(name in shown for name in NAMES)


def test_the_picture_shows_the_slices_under_their_letters(survey):
    question = survey.current
    images = [np.asarray(a.images[0].get_array()) for a in survey.render().axes if a.images]
    order = [question.candidates[name] for name in survey.shown_order(question)]
    for image, shown in zip(images, [question.baseline, question.truth, *order], strict=True):
        np.testing.assert_allclose(image, shown.data[0, ..., 0].T, atol=1e-6)


def test_buttons_answer_and_the_picture_follows(survey):
    panel = SurveyPanel(survey)
    first = panel.picture.value
    assert list(panel.buttons) == ["A", "B", "C", NONE] and "1 of 6" in panel.words.value
    panel.buttons["C"].click()
    assert panel.picture.value != first and "2 of 6" in panel.words.value
    for _ in range(5):
        panel.buttons[NONE].click()
    assert all(button.disabled for button in panel.buttons.values()) and "all 6 answered" in panel.words.value
    assert list(read_answers(survey.answers)["choice"]) == [survey.shown_order(survey.questions[0])[2], *[NONE] * 5]


def test_the_picture_is_what_a_headless_run_shows(survey):
    panel, buffer = SurveyPanel(survey), io.BytesIO()
    survey.render().savefig(buffer, format="png", dpi=110)
    shown, static = (np.asarray(Image.open(io.BytesIO(b))) for b in (panel.picture.value, buffer.getvalue()))
    np.testing.assert_array_equal(shown, static)


def test_keys_pressed_in_the_survey_are_kept_from_jupyterlab(survey):
    box = SurveyPanel(survey).box
    assert EXPLORER_CLASS in box._dom_classes and any(isinstance(w, KeyGuard) for w in box.children)


def test_the_summary_is_the_papers():
    order = "|".join(NAMES)
    picks = {"r1": ["p_c_t"] * 3 + ["c_t"], "r2": ["p_c_t", "c_t", "c_t", NONE, NONE]}
    rows = [(rater, f"q{k}", pick, order) for rater, made in picks.items() for k, pick in enumerate(made)]
    found = survey_summary(pd.DataFrame(rows, columns=COLUMNS))
    assert set(found.index) == {*NAMES, NONE} and (found["raters"] == 2).all()
    full = found.loc["p_c_t"]
    assert (full["times_mean"], full["percent_mean"]) == (2, pytest.approx((75 + 20) / 2))
    assert full["times_sd"] == pytest.approx(np.std([3, 1], ddof=1))
    assert full["percent_sd"] == pytest.approx(np.std([75, 20], ddof=1))
    assert found.loc["caae", "times_mean"] == 0 and found["percent_mean"].sum() == pytest.approx(100)


def test_the_summary_reads_what_the_survey_wrote(survey):
    for _ in range(6):
        survey.answer("A")
    found = survey_summary(survey.answers)
    assert found["times_mean"].sum() == 6 and found["times_sd"].isna().all()


def test_answers_that_do_not_add_up_are_refused(tmp_path):
    table = pd.DataFrame([("r", "q", "caae", "caae|c_t"), ("r", "q", "c_t", "caae|c_t")], columns=COLUMNS)
    with pytest.raises(NbkitError, match="r on q twice"):
        survey_summary(table)
    with pytest.raises(NbkitError, match="Did you mean 'caae'"):
        survey_summary(table[:1].assign(choice="cae"))
    with pytest.raises(NbkitError, match="at least one answer"):
        survey_summary(table[:0])


@pytest.mark.parametrize("text", ["rater,question,choise,shown_order\n", "", ",".join(COLUMNS) + "\na,b\n"])
def test_a_file_with_other_columns_is_refused_by_name_and_kept(tmp_path, text):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(NbkitError, match="other.csv: expected the columns rater, question, choice, shown_order"):
        Survey(questions(), seed=1, answers=path, rater="r")
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rater": "  "}, "Survey: rater"), ({"rater": "a\nb"}, "Survey: rater"),
        ({"questions": []}, "at least one"), ({"questions": [*questions(2), questions(1)[0]]}, "found q/0"),
        ({"questions": questions(1, ("a", NONE))}, "none called 'none'"),
        ({"questions": questions(1, ("a",))}, "two to 8"), ({"questions": questions(1, ("a", "b|c"))}, "with a bar"),
        ({"questions": [*questions(1), *questions(2, ("a", "b"))[1:]]}, "others in q/1"),
        ({"answers": "folder"}, "Survey: answers"), ({"answers": "missing/answers.csv"}, "Survey: answers"),
        ({"answers": "folder.csv"}, "Survey: answers"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, change, message):
    (tmp_path / "folder.csv").mkdir()
    given = {"questions": questions(1), "seed": 1, "answers": "a.csv", "rater": "r"} | change
    asked, given["answers"] = given.pop("questions"), tmp_path / given["answers"]
    with pytest.raises(NbkitError, match=message):
        Survey(asked, **given)


def test_only_the_letters_shown_can_be_chosen(survey):
    with pytest.raises(NbkitError, match="one of A, B, C, none"):
        survey.answer("D")
    assert not survey.answers.exists()
