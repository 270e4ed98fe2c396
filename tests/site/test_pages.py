"""What the site tells at which size, and whose pictures it shows."""

from __future__ import annotations

import pytest

from nbkit.claims.observe import Run
from nbkit.claims.reference import write_reference
from nbkit.claims.verdicts import judge_folder
from nbkit.site.pages import shown, told
from tests.runner.test_report import Picture


def finished(folder, *, profile="laptop", cohort="embedded", pictures=(), fcn=1.0):
    run = Run(folder, notebook="01_flair_synthesis", cohort=cohort, profile=profile, seed=7, paper="wei2019_flair")
    for method, value in (("fcn", fcn), ("rf", 2.0)):
        run.number(f"wei2019.table2_2a.mse.{method}", {f"s{i}": value * (1 + 0.01 * i) for i in range(8)}, unit="z²")
    for name in pictures:
        run.figure(name, Picture(), caption=f"{name} of {profile}.")
    judge_folder(folder)
    return folder


def kept(root, name, **options):
    profile, cohort = name.split("-")
    results = finished(root / "runs" / name, profile=profile, cohort=cohort, **options)
    write_reference(results, root / "reference" / name)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("smoke", {"embedded": "laptop", "open": "laptop"}), ("laptop", {"embedded": "laptop", "open": "laptop"}),
     ("paper", {"embedded": "paper", "open": "laptop"})],
)
def test_the_largest_profile_is_told_and_of_equals_the_newer_run(tmp_path, profile, expected):
    for name in ("laptop-embedded", "smoke-embedded", "laptop-open"):
        kept(tmp_path, name)
    results = finished(tmp_path / "results", profile=profile)
    found = told(results, {"profile": profile, "cohort": "embedded"}, tmp_path / "reference")
    assert {cohort: one.profile for cohort, one in found.items()} == expected
    assert (found["embedded"].folder == results) == (profile != "smoke")


def test_the_cohort_of_the_run_comes_first_even_without_a_reference(tmp_path):
    kept(tmp_path, "laptop-embedded")
    results = finished(tmp_path / "results", profile="smoke", cohort="dlbs")
    assert list(told(results, {"profile": "smoke", "cohort": "dlbs"}, tmp_path / "reference")) == ["dlbs", "embedded"]


def test_pictures_are_those_of_the_verdicts_and_only_what_lacks_is_this_runs(tmp_path):
    kept(tmp_path, "laptop-embedded", pictures=("fig2_4",))
    results = finished(tmp_path / "results", profile="smoke", pictures=("fig2_4", "fig2_5"))
    one = told(results, {"profile": "smoke", "cohort": "embedded"}, tmp_path / "reference")["embedded"]
    pictures = shown(one, results, tmp_path / "stage")
    assert pictures.picture("fig2_4")["caption"] == "fig2_4 of laptop."
    assert "smoke profile" in pictures.picture("fig2_5")["source"]
    assert pictures.picture("gone") is None
    written = pictures.picture("fig2_4")
    assert written["data"] == "_static/pictures/fig2_4-900.webp" and (tmp_path / "stage" / written["data"]).exists()


def test_a_reference_without_captions_calls_pictures_by_their_names(tmp_path):
    kept(tmp_path, "laptop-embedded", pictures=("fig2_4",))
    (tmp_path / "reference" / "laptop-embedded" / "artefacts.json").unlink()
    results = finished(tmp_path / "results", profile="smoke", pictures=("fig2_4",))
    one = told(results, {"profile": "smoke", "cohort": "embedded"}, tmp_path / "reference")["embedded"]
    found = shown(one, results, tmp_path / "stage").picture("fig2_4")
    assert (found["caption"], found["source"], found["notebook"]) == (
        "fig2 4", "laptop profile, embedded data", "01_flair_synthesis")
