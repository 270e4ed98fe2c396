"""Verdicts: the rule on data whose answer is known, correction, tables, and the comparison with a reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from nbkit.claims.ledger import Claim, Number, Paper, Source, load_paper
from nbkit.claims.observe import Observation, Run, load_artefacts, load_observations
from nbkit.claims.reference import compare_with_reference, write_reference
from nbkit.claims.room import Room
from nbkit.claims.tables import comparison_table, levels_table, papers_table, verdict_table
from nbkit.claims.verdicts import Scorecard, judge, judge_folder, load_scorecard
from nbkit.core.checks import NbkitError
from nbkit.core.tidy import stacked, tidy

RNG = np.random.default_rng(5)
NOISE = RNG.normal(size=24)


def paper(*claims: Claim, comparable: bool = True) -> Paper:
    source = Source(name="p", prefix="p", title="T", authors="A", year=2000, source="S", comparable=comparable,
                    reason="other subjects")
    numbers = tuple(
        Number(id=f"p.{i}", where="Table 1", row="MSE", column=i, value=v, spread=0.5)
        for i, v in (("a", 1.0), ("b", 2.0), ("c", 3.0))
    )
    return Paper(paper=source, number=numbers, claim=claims)


def claim(kind: str, ids: str, direction: str | None = None, margin: float = 0.0) -> Claim:
    return Claim(id=f"p.claim.{kind}.{ids}", where="Table 1", statement="s", kind=kind, direction=direction,
                 ids=tuple(f"p.{i}" for i in ids), margin=margin, margin_reason="r" if margin else "")


def seen(n: int = 24, **values: np.ndarray | float) -> dict[str, Observation]:
    full = {k: np.broadcast_to(v, (24,))[:n] for k, v in values.items()}
    return {
        f"p.{k}": Observation(f"p.{k}", float(v.mean()), 1.0, n, "z²", {f"s{i}": float(x) for i, x in enumerate(v)})
        for k, v in full.items()
    }


def verdict(c: Claim, observations: dict[str, Observation]) -> str:
    return judge(paper(c), observations).claims[0].verdict


A, B, C = 1 + 0.1 * NOISE, 2 + 0.1 * RNG.normal(size=24), 3 + 0.1 * RNG.normal(size=24)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (claim("difference", "ab", "less"), "reproduced"),
        (claim("difference", "ab", "greater"), "contradicted"),
        (claim("order", "abc", "ascending"), "reproduced"),
        (claim("order", "acb", "ascending"), "contradicted"),
        (claim("order", "cba", "descending"), "reproduced"),
        (claim("equivalence", "ab", margin=0.6), "reproduced"),
        (claim("equivalence", "ab", margin=0.2), "contradicted"),
        (claim("sign", "a", "greater"), "reproduced"),
        (claim("sign", "a", "less"), "contradicted"),
        (claim("difference", "ab", "greater", margin=0.6), "reproduced"),
        (claim("difference", "ab", "greater", margin=0.2), "contradicted"),
    ],
)
def test_clear_data_give_clear_verdicts(made, expected):
    assert verdict(made, seen(a=A, b=B, c=C)) == expected


def test_noise_is_inconclusive():
    same = seen(a=A, b=1 + 0.1 * RNG.normal(size=24))
    assert verdict(claim("difference", "ab", "less"), same) == "inconclusive"
    assert verdict(claim("equivalence", "ab", margin=0.001), same) == "inconclusive"


@pytest.mark.parametrize(("b", "expected"), [(2 * A, "reproduced"), (-A, "contradicted"), (B, "inconclusive")])
def test_correlation_over_subjects(b, expected):
    card = judge(paper(claim("correlation", "ab", "greater")), seen(a=A, b=b))
    assert card.claims[0].verdict == expected
    evidence = card.claims[0].evidence["comparisons"][0]
    assert evidence["difference"] == pytest.approx(stats.spearmanr(A, b).statistic)
    assert evidence["interval"][0] - 1e-9 <= evidence["difference"] <= evidence["interval"][1] + 1e-9


def test_few_subjects_never_decide():
    made = claim("difference", "ab", "less")
    assert verdict(made, seen(6, a=A, b=B)) == "reproduced"
    few = judge(paper(made), seen(5, a=A, b=B)).claims[0]
    assert few.verdict == "inconclusive" and "at least 6" in few.evidence["reason"]


def room(*, linear: float, reach: float, mean: float = 4.0, better: str = "lower", of: str = "p.") -> Room:
    return Room("error", (of,), mean, {"p.c": linear, "mean": mean}, reach, better=better)


@pytest.mark.parametrize(
    ("kind", "ids", "direction", "given", "expected"),
    [
        ("difference", "ab", "greater", {"linear": 1.0, "reach": 0.9}, "no room"),       # .1 of 3.1
        ("difference", "ab", "greater", {"linear": 1.0, "reach": 0.6}, "contradicted"),  # .4 of 3.4
        ("difference", "ab", "less", {"linear": 1.0, "reach": 0.9}, "reproduced"),
        ("order", "ba", "ascending", {"linear": 1.0, "reach": 0.9}, "no room"),
        ("difference", "ca", "less", {"linear": 3.0, "reach": 0.9}, "contradicted"),     # a poor control has room
        ("sign", "a", "less", {"linear": 1.0, "reach": 0.9}, "contradicted"),
        ("equivalence", "ab", None, {"linear": 1.0, "reach": 0.9}, "contradicted"),
        ("difference", "ab", "greater", {"linear": 1.0, "reach": 0.9, "of": "p.b"}, "contradicted"),  # another measure
        ("difference", "ab", "greater", {"linear": 1.0, "reach": 4.5}, "no room"),       # the inputs tell nothing
        ("difference", "ab", "greater", {"linear": 0.2, "reach": 0.9}, "contradicted"),  # a reach that reached nothing
        ("difference", "ab", "greater", {"linear": 8.0, "reach": 8.1, "better": "higher"}, "no room"),
    ],
)
def test_where_nothing_can_be_won_no_method_is_contradicted(kind, ids, direction, given, expected):
    made = claim(kind, ids, direction, margin=0.2 if kind == "equivalence" else 0.0)
    card = judge(paper(made), seen(a=A, b=B, c=C), rooms=[room(**given)])
    said = card.claims[0].verdict
    assert said.split(":")[0] == expected
    if expected == "no room":
        assert f"reach {given['reach']:.3g}" in said and card.counts()["no room"] == 1
        assert verdict_table(card)["verdict"][0] == said


def test_an_order_has_room_where_one_of_its_failing_pairs_has():
    made, poor = claim("order", "bac", "ascending"), room(linear=1.0, reach=0.9)
    assert judge(paper(made), seen(a=A, b=B, c=C), rooms=[poor]).claims[0].verdict.startswith("no room")
    made = claim("order", "bca", "ascending")  # c, a control far from the reach, is not better than a
    far = Room("error", ("p.",), 4.0, {"p.c": 3.0, "mean": 4.0, "linear": 1.0}, 0.9)
    assert judge(paper(made), seen(a=A, b=B, c=C), rooms=[far]).claims[0].verdict == "contradicted"


def test_a_room_is_kept_with_the_run_and_its_reference(tmp_path):
    run = Run(tmp_path / "r", notebook="01_x", cohort="embedded", profile="smoke", seed=1, paper="wei2019_flair")
    roles = {"mean": 4.0, "linear": 1.0, "boosting": 0.95, "truth": 0.1}
    role = {"mean": "mean", "linear": "control", "boosting": "reach", "truth": "floor"}
    people = [f"s{i}" for i in range(8)]
    frame = stacked(*(tidy(dict.fromkeys(people, value), id=f"own.{name}", system=name, metric="mse", role=role[name])
                      for name, value in roles.items()))
    with pytest.raises(NbkitError, match="beginning of an id"):
        run.room(frame, of="wei2019.tabel2_2.", measure="error")
    run.room(frame, of="wei2019.table2_2a.mse.", measure="error")
    for method, value in (("fcn", 1.0), ("unet", 0.9), ("mlp", 0.8)):
        run.number(f"wei2019.table2_2a.mse.{method}", {s: value for s in people})
    card = judge_folder(tmp_path / "r")
    kept, = load_scorecard(tmp_path / "r").rooms
    assert kept.best_control == "own.linear"
    assert (kept.floor, kept.share()) == (pytest.approx(0.1), pytest.approx(0.05 / 3.05))
    assert card.counts()["no room"] > 0
    write_reference(tmp_path / "r", tmp_path / "ref")
    assert load_scorecard(tmp_path / "ref").counts() == card.counts()
    assert [r.of for r in load_scorecard(tmp_path / "ref").rooms] == [kept.of]
    with pytest.raises(NbkitError, match="mean, control and reach"):
        run.room(frame[frame["role"] != "reach"], of="wei2019.table2_2a.mse.", measure="error")


def test_pairs_are_matched_by_subject_not_by_position():
    observations = seen(a=A, b=A + 0.01)
    shuffled = dict(reversed(observations["p.b"].per_subject.items()))
    observations["p.b"] = Observation("p.b", 1.0, per_subject=shuffled | {"alone": 99.0})
    evidence = judge(paper(claim("difference", "ab", "less")), observations).claims[0].evidence
    assert evidence["n"] == 24
    assert evidence["comparisons"][0]["difference"] == pytest.approx(-0.01)


def test_evidence_holds_the_papers_own_test():
    evidence = judge(paper(claim("difference", "ab", "less")), seen(a=A, b=B)).claims[0].evidence["comparisons"][0]
    assert evidence["p_paired_t"] == pytest.approx(stats.ttest_rel(A, B).pvalue)


def test_holm_counts_each_test_of_the_paper_once():
    b = 1 + 0.1 * NOISE + 0.03 + 0.05 * RNG.normal(size=24)
    one = claim("difference", "ab", "less")
    again = one.model_copy(update={"id": "p.claim.again"})
    alone = judge(paper(one), seen(a=A, b=b, c=C)).claims[0].evidence["comparisons"][0]["p_holm"]
    twice = judge(paper(one, again), seen(a=A, b=b, c=C)).claims[0].evidence["comparisons"][0]["p_holm"]
    more = judge(paper(one, claim("difference", "bc", "less")), seen(a=A, b=b, c=C)).claims
    assert alone == twice
    assert more[0].evidence["comparisons"][0]["p_holm"] >= alone
    assert more[1].evidence["comparisons"][0]["p_holm"] == pytest.approx(2e-4)


@settings(max_examples=25)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=12), st.floats(0.1, 100))
def test_a_claim_and_its_opposite_are_never_both_reproduced_and_units_do_not_matter(differences, scale):
    d = np.array(differences)
    n = d.size
    rise, fall = claim("difference", "ab", "greater"), claim("difference", "ab", "less")
    pad = np.pad(d, (0, 24 - n))
    verdicts = [verdict(c, seen(n, a=s * pad, b=0.0)) for c in (rise, fall) for s in (1.0, 4.0)]
    assert verdicts[0] == verdicts[1] and verdicts[2] == verdicts[3]
    swap = {"reproduced": "contradicted", "contradicted": "reproduced", "inconclusive": "inconclusive"}
    assert verdicts[2] == swap[verdicts[0]]


def test_missing_numbers_are_not_run_with_the_reason_given():
    made = claim("order", "abc", "ascending")
    assert verdict(made, seen(a=A, c=C)) == "not run: p.b was not recorded"
    card = judge(paper(made), seen(a=A, c=C), not_run=[{"prefix": "p.b", "reason": "the cohort has no DIR"}])
    assert card.claims[0].verdict == "not run: the cohort has no DIR"
    assert {n.id: n.verdict for n in card.numbers}["p.b"] == "not run: the cohort has no DIR"
    bare = seen(a=A, b=B) | {"p.b": Observation("p.b", 2.0)}
    assert "no values per subject" in verdict(claim("difference", "ab", "less"), bare)


def test_numbers():
    observations = seen(a=1.4, b=2.6)
    numbers = {n.id: n.verdict for n in judge(paper(), observations).numbers}
    assert numbers == {
        "p.a": "within tolerance", "p.b": "outside tolerance", "p.c": "not run: p.c was not recorded",
    }
    beside = judge(paper(comparable=False), observations).numbers[0]
    assert beside.verdict == "not comparable: other subjects"
    assert (beside.published, beside.observed) == (1.0, pytest.approx(1.4))


def test_the_published_typo_is_reported_not_smoothed(tmp_path):
    run = Run(tmp_path, notebook="01", cohort="embedded", profile="smoke", seed=7, paper="wei2019_flair")
    for width, count in ((32, 60_577), (64, 231_745), (96, 513_505)):
        run.number(f"wei2019.table2_1.parameters.width{width}", value=count)
    judge_folder(tmp_path)
    verdicts = {n.id: n.verdict for n in load_scorecard(tmp_path).numbers}
    found = [verdicts[f"wei2019.table2_1.parameters.width{w}"] for w in (32, 64, 96)]
    assert found == ["within tolerance", "outside tolerance", "within tolerance"]
    raw = json.loads((tmp_path / "scorecard.json").read_text(encoding="utf-8"))
    assert {"id", "verdict", "evidence"} <= set(raw["claims"][0])
    assert {"id", "published", "observed", "verdict"} <= set(raw["numbers"][0])
    assert raw["papers"] == ["wei2019_flair"]


def test_tables_put_ours_below_the_published_values():
    table = comparison_table(paper(), seen(a=A, b=B), where="Table 1")
    assert list(table.columns) == ["a", "b", "c"]
    assert list(table.index) == [("MSE", "published"), ("MSE", "ours, z²")]
    assert table.iloc[0, 0] == "1.0 (0.5)"
    assert table.iloc[1, 2] == "–" and table.iloc[1, 1].endswith("(1)")
    card = judge(paper(claim("order", "abc", "ascending"), claim("sign", "c", "less")), seen(a=A, b=B))
    rows = verdict_table(card)
    assert list(rows["verdict"]) == ["not run: p.c was not recorded"] * 2
    shown = verdict_table(judge(paper(claim("order", "acb", "ascending")), seen(a=A, b=B, c=C)))
    assert list(shown["compared"]) == ["c − b"], "the pair that decides"


def test_small_published_values_keep_their_digits():
    source = paper().paper
    small = Number(id="p.a", where="Table 1", row="r", column="c", value=1.01e-5, spread=None)
    table = comparison_table(Paper(paper=source, number=(small,), claim=()), {}, where="Table 1")
    assert table.iloc[0, 0] == "1.01e-05"
    usual = Number(id="p.a", where="Table 1", row="r", column="c", value=0.0136, spread=0.0048)
    table = comparison_table(Paper(paper=source, number=(usual,), claim=()), {}, where="Table 1")
    assert table.iloc[0, 0] == "0.0136 (0.0048)"


def test_a_page_of_all_papers_counts_each_claim_and_printed_number_once(tmp_path):
    write_folder(tmp_path / "embedded", fcn=A, rf=B)
    write_folder(tmp_path / "open", fcn=B, rf=A)
    cards = {level: load_scorecard(tmp_path / level) for level in ("embedded", "open")}
    table, ledger = papers_table(cards["embedded"]), load_paper("wei2019_flair")
    assert list(table.index) == ["wei2019_flair"]
    assert table["claims"].sum(axis=1).item() == len(ledger.claim)
    assert table["numbers"].sum(axis=1).item() == sum(n.value is not None for n in ledger.number)
    sides = levels_table(cards)
    assert list(sides.index) == [c.id for c in ledger.claim]
    better = sides.loc["wei2019.claim.mse_vs_rf"]
    assert (better["embedded"], better["open"]) == ("reproduced", "contradicted")
    assert set(levels_table({"embedded": cards["embedded"], "open": Scorecard()})["open"]) == {"–"}


def write_folder(folder, **values) -> None:
    run = Run(folder, notebook="01", cohort="embedded", profile="smoke", seed=7, paper="wei2019_flair")
    for key, x in values.items():
        run.number(f"wei2019.table2_2a.mse.{key}", {f"s{i}": float(v) for i, v in enumerate(x)}, unit="z²")
    run.number("wei2019.table2_1.seconds.width64", value=float(np.random.default_rng().uniform(1, 9)), unit="s")
    judge_folder(folder)


def test_reference_passes_equal_and_close_values_and_names_what_is_worse(tmp_path):
    reference, now = tmp_path / "reference", tmp_path / "now"
    write_folder(reference, fcn=A, rf=B)
    write_folder(now, fcn=A * (1 + 1e-9), rf=B + 0.1 * B.std(ddof=1) / 24**0.5)
    assert compare_with_reference(now, reference) == []
    write_folder(now, fcn=A, rf=B + 2 * B.std(ddof=1) / 24**0.5)
    (off,) = compare_with_reference(now, reference)
    assert off.id.endswith("mse.rf") and "off by" in off.why
    write_folder(now, fcn=B, rf=A)
    worse = {r.id: (r.reference, r.now) for r in compare_with_reference(now, reference)}
    assert worse["wei2019.claim.mse_vs_rf"] == ("reproduced", "contradicted")
    write_folder(now, fcn=A)
    gone = [(r.now, r.why) for r in compare_with_reference(now, reference) if r.id.endswith("2a.mse.rf")]
    missing = "not run: wei2019.table2_2a.mse.rf was not recorded"
    assert gone == [(missing, "the verdict is worse"), ("missing", "the number is no longer recorded")]


def test_a_better_verdict_is_no_regression(tmp_path):
    write_folder(tmp_path / "reference", fcn=B, rf=A)
    write_folder(tmp_path / "now", fcn=A, rf=B)
    worse = compare_with_reference(tmp_path / "now", tmp_path / "reference")
    assert all("verdict" not in r.why for r in worse) and len(worse) == 2


def test_a_reference_keeps_what_another_notebook_left(tmp_path):
    reference, both = tmp_path / "reference", tmp_path / "both"
    write_folder(tmp_path / "first", fcn=A)
    write_reference(tmp_path / "first", reference)
    other = Run(tmp_path / "second", notebook="06", cohort="embedded", profile="smoke", seed=7, paper="inbrainsyn")
    other.number("inbrainsyn.topology.folds", {"s0": 0.0, "s1": 0.0}, unit="share of brain voxels")
    judge_folder(tmp_path / "second")
    (reference / "benchmark.csv").write_text("mine")
    write_reference(tmp_path / "second", reference)
    assert (reference / "benchmark.csv").read_text() == "mine", "what no notebook makes stays too"
    assert {o.notebook for o in load_observations(reference).values()} == {"01", "06"}
    assert load_scorecard(reference).papers == ("wei2019_flair", "inbrainsyn")
    for run in (tmp_path / "first", tmp_path / "second"):
        assert compare_with_reference(run, reference) == [], "a notebook that was not run is no regression"
    write_folder(both, fcn=A, rf=B)
    write_reference(both, reference)
    assert "wei2019.table2_2a.mse.rf" in load_observations(reference)


def test_a_reference_keeps_what_stands_under_its_figures(tmp_path):
    """Those of a notebook that a later run leaves out stay; of one that ran again the last word counts."""
    class Drawn:
        def savefig(self, path, **options):
            Image.new("RGB", (1, 1)).save(path, format="png")

    for folder, notebook, captions in (("a", "01", {"x": "first", "y": "no longer drawn"}), ("b", "02", {"z": "new"}),
                                       ("c", "01", {"x": "last"})):
        told = {"notebook": notebook, "cohort": "embedded", "profile": "smoke", "seed": 7, "paper": "wei2019_flair"}
        run = Run(tmp_path / folder, **told)
        method = "fcn" if notebook == "01" else "rf"
        run.number(f"wei2019.table2_2a.mse.{method}", {"s0": 0.0, "s1": 1.0}, unit="z²")
        for name, caption in captions.items():
            run.figure(name, Drawn(), caption=caption)
        judge_folder(tmp_path / folder)
        write_reference(tmp_path / folder, tmp_path / "ref")
    kept = load_artefacts(tmp_path / "ref")["artefacts"]
    assert {a["file"]: a["caption"] for a in kept} == {"x.png": "last", "z.png": "new"}
    assert {file.name for file in (tmp_path / "ref").glob("*.png")} == {"x.png", "z.png"}
    assert all((tmp_path / "ref" / a["file"]).exists() for a in kept)


def test_a_paper_of_two_notebooks_is_judged_on_both(tmp_path):
    """One notebook records ours, another, run elsewhere, a rival's row."""
    reference, other = tmp_path / "reference", tmp_path / "other"
    write_folder(tmp_path / "one", fcn=A)
    write_reference(tmp_path / "one", reference)
    run = Run(other, notebook="08", cohort="embedded", profile="smoke", seed=7, paper="wei2019_flair")
    run.number("wei2019.table2_2a.mse.rf", {f"s{i}": float(v) for i, v in enumerate(B)}, unit="z²")
    judge_folder(other)
    write_reference(other, reference)
    write_folder(tmp_path / "both", fcn=A, rf=B)
    expected, found = ({c.id: c.verdict for c in load_scorecard(f).claims} for f in (tmp_path / "both", reference))
    assert found["wei2019.claim.mse_vs_rf"] == expected["wei2019.claim.mse_vs_rf"] == "reproduced"


def test_empty_folders_are_named(tmp_path):
    with pytest.raises(NbkitError, match="make reproduce|reference for this profile"):
        compare_with_reference(tmp_path, tmp_path)
