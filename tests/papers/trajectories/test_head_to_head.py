"""The tables of the head-to-head, from scores whose means are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nbkit.papers.trajectories import head_to_head as tables
from nbkit.papers.trajectories.design import Design
from nbkit.papers.trajectories.experiments import Scores
from tests.papers.trajectories.ageing_balls import cohort, people

SYSTEMS = ("inbrainsyn", "brlp", "brlp_one_sample", "mrextrap_bayes", "no_change", "hindsight", "daninet3d")


def scores(shift: float = 0.0) -> Scores:
    """Two people, two visits each; a system errs by its place, a visit by one more than the last, "own" by ten more."""
    visits, regions = [], []
    for place, model in enumerate(SYSTEMS):
        for subject, diagnosis in (("a", "CN"), ("b", "LMCI")):
            for visit in (0, 1):
                where = {"subject": subject, "session": str(visit), "diagnosis": diagnosis, "age": 70 + visit,
                         "years": 1.0 + visit, "model": model}
                images = {f"{m}{w}": place + visit / 2 for m in ("ssim", "psnr", "mae") for w in ("", "_whole")}
                images["sharpness"] = 0.1 * (place + visit / 2)
                visits.append(where | images | {"seconds": 1.0, "folds": visit * 0.1, "smallest_jacobian": 0.5})
                for structure, sign in (("lateral_ventricle", -1), ("hippocampus", 1), ("caudate", 1)):
                    for reading, more in (("alike", 0), ("own", 10)):
                        miss = sign * (place + visit + more + shift)
                        regions.append(where | {
                            "structure": structure, "reading": reading, "error_pct": miss, "error_mm3": 100 * miss,
                            "error_brain_pct": miss / 100, "change_pct": 5.0, "true_change_pct": 6.0,
                        })
    return Scores(pd.DataFrame(visits), pd.DataFrame(regions))


@pytest.fixture(scope="module")
def scored() -> pd.DataFrame:
    return tables.tidy_scores({"one": scores(), "several": scores(1.0)})


def value(frame: pd.DataFrame, id: str) -> float:
    """The mean over people of what is recorded under an id."""
    found = frame[frame["id"] == id]
    assert found["subject"].is_unique and len(found)
    return float(found["value"].mean())


def test_errors_lose_their_sign_before_the_mean_over_visits(scored):
    main = tables.deciding(scored)
    assert value(main, "head_to_head.one.ventricle.brlp") == pytest.approx(1.5)
    assert value(main, "head_to_head.several.hippocampus.mrextrap_bayes") == pytest.approx(4.5)
    assert value(main, "head_to_head.one.ssim.no_change") == pytest.approx(4.25)
    assert set(main["metric"]) == set(tables.TITLES)
    units = main.groupby("metric")["unit"].unique().str[0]
    assert units["ventricle"] == "% of the true volume, absolute" and units["psnr"] == "dB"


def test_sharpness_is_recorded_and_ranks_nothing(scored):
    found = tables.sharpness_scores(scored)
    assert value(found, "head_to_head.several.sharpness.brlp") == pytest.approx(0.125)
    assert "sharpness" not in set(tables.deciding(scored)["metric"])


def test_hindsight_reads_volumes_and_is_recorded_nowhere(scored):
    main = tables.deciding(scored)
    rows = main[main["system"] == "hindsight"]
    assert set(rows["metric"]) == {"ventricle", "hippocampus"} and (rows["id"] == "").all()
    assert not main["id"].str.contains("hindsight").any()


def test_every_structure_is_in_its_table_three_times(scored):
    table = tables.structure_table(scored, "one")
    assert len(table) == 9 and table.loc[("error (mm³), alike", "caudate"), "brlp"] == pytest.approx(150)
    assert table.loc[("error (%), own", "lateral_ventricle"), "brlp"] == pytest.approx(11.5)


def test_people_are_told_apart_by_diagnosis(scored):
    table = tables.by_diagnosis(tables.deciding(scored), "one")
    assert list(table.index.get_level_values(1).unique()) == ["CN", "LMCI"] and "hindsight" not in table
    assert table.loc[("SSIM in the brain", "CN"), "brlp"] == pytest.approx(1.25)


def test_brlps_measures_are_of_the_whole_image_and_of_the_brain(scored):
    found = tables.brlp_tables(scored, samples=4)
    mse = np.mean([10 ** (-(1 + v / 2) / 10) for v in (0, 1)])
    assert value(found, "head_to_head.internal_one.mse.brlp") == pytest.approx(mse)
    assert value(found, "head_to_head.internal_several.ventricle.brlp") == pytest.approx(0.025)
    assert value(found, "head_to_head.samples.ssim.m1") == pytest.approx(2.25)
    assert value(found, "head_to_head.by_diagnosis.ssim.mci.brlp") == pytest.approx(1.25)
    assert value(found, "head_to_head.by_diagnosis.ssim.cn.daninet") == pytest.approx(6.25)
    assert value(found, "head_to_head.internal_one.ssim.daninet") == pytest.approx(6.25), "theirs is in 3D too"
    assert not found["id"].str.contains("daninet3d").any()
    assert value(found, "head_to_head.copy.mae.no_change") == pytest.approx(4.25)
    notes = found.dropna(subset="note").groupby("id")["note"].first()
    assert notes["head_to_head.samples.ventricle.ours"] == "m = 4" and notes["head_to_head.samples.ssim.m1"] == "m = 1"


def test_a_history_is_compared_on_the_same_visits(scored):
    history = tables.history_scores(scores(3.0), tables.deciding(scored))
    assert value(history, "head_to_head.history.ventricle.brlp.one") == pytest.approx(4.5)
    assert value(history, "head_to_head.history.ventricle.brlp.several") == pytest.approx(2.5)
    gains = tables.differences(history, "setting", "several", "one")
    assert np.allclose(gains["value"], -2) and set(gains["system"]) == {"mrextrap_bayes", "brlp"}


def test_the_way_of_reading_moves_errors(scored):
    gaps = tables.reading_gaps(scored)
    assert np.allclose(gaps["value"], 10) and set(gaps["metric"]) == {"ventricle", "hippocampus"}


def test_costs_are_means_and_worst_cases():
    both = {"one": scores(), "several": scores()}
    found = tables.cost_scores(both)
    assert value(found, "head_to_head.folds.inbrainsyn") == pytest.approx(0.1)
    assert value(found, "head_to_head.time.seconds.several.brlp") == 1.0
    table = tables.cost_table(both, dict.fromkeys(SYSTEMS, 3.0))
    assert table.loc[("one scan", "inbrainsyn")].tolist() == pytest.approx([0.1, 0.5, 1.0, 3.0])
    assert "hindsight" not in table.index.get_level_values(1)


def test_coverage_is_a_share_of_each_persons_volumes():
    rows = [
        {"subject": subject, "model": "brlp", "structure": structure, "true": true, "mean": 0.0, "sd": 1.0, "count": 50,
         "spread_vs_error": 0.4}
        for subject in "ab" for structure, true in (("hippocampus", 0.0), ("temporal", 9.0), ("caudate", 0.0))
    ]
    forecasts = {"one": pd.DataFrame(rows)}
    found = tables.coverage_scores(forecasts)
    assert value(found, "head_to_head.coverage.one.brlp.level80") == 0.5
    assert value(found, "head_to_head.coverage.nominal.level95") == 0.95
    assert value(found, "head_to_head.spread.error.brlp") == pytest.approx(0.4)
    table = tables.coverage_table(forecasts)
    assert table["level"].tolist() == [0.5, 0.8, 0.95] and (table["forecasts"] == 4).all()


def test_what_no_run_answers_says_why():
    ids = ["head_to_head.internal_one.mse.daninet", "head_to_head.one.ventricle.brlp", "head_to_head.others.ssim.sadm"]
    found = tables.never_run(ids, labelled=False)
    assert ids[0] not in found and ids[1] not in found and "not one of our systems" in found[ids[2]]
    assert found["head_to_head.external"] and "no labels" in found["head_to_head"]
    assert "head_to_head" not in tables.never_run(ids)


def test_what_inbrainsyns_ledger_asks_of_its_rivals(scored, monkeypatch):
    """Their rows of its table, everybody's sharpness, and InBrainSyn beside what uses several scans."""
    asked = []

    def kept(models, people, **options):
        asked.append((list(models), people.ids, options["key"]))
        return Scores(scores().visits.assign(dice=0.5), pd.DataFrame())

    monkeypatch.setattr(tables, "scored_trajectories", kept)
    carrier = SimpleNamespace(config=SimpleNamespace(healthy=("CN",)), covers=lambda person: person.id != "HC0")
    models = dict.fromkeys(("brlp", "no_change", "daninet3d"), SimpleNamespace()) | {"inbrainsyn": carrier}
    models["brlp"] = SimpleNamespace(space=SimpleNamespace(constants=lambda: {"latents": 3}))
    test = cohort(people(4, "HC", seed=1) + people(2, "AD", seed=2))
    main = tables.deciding(scored)
    found = tables.table1_rows(models, test, design=Design(healthy=2), main=main, segmenter=None)
    assert asked == [(["inbrainsyn", "brlp", "daninet3d"], ("HC1", "HC2"),
                      {"inbrainsyn": {}, "brlp": {"latents": 3}, "daninet3d": {}})]
    assert value(found, "inbrainsyn.table1.ssim.daninet3d") == pytest.approx(6.25)
    assert value(found, "inbrainsyn.sharpness.inbrainsyn") == pytest.approx(0.025)
    assert not found["id"].str.startswith("inbrainsyn.table1.psnr.inbrainsyn").any(), "notebook 06 records it"
    long = value(found, "inbrainsyn.longitudinal.ventricle.inbrainsyn")
    assert long == value(main, "head_to_head.several.ventricle.inbrainsyn")


def test_reasons_carry_the_numbers():
    ventricle, mae = {"brlp": 2.0, "no_change": 5.0}, {"brlp": 9.0, "no_change": 1.0}
    main = pd.DataFrame([
        {"setting": "one", "metric": metric, "system": system, "subject": f"s{k}", "value": mean + 0.01 * k}
        for metric, means in (("ventricle", ventricle), ("mae", mae))
        for system, mean in means.items() for k in range(8)
    ])
    first, second = tables.reasons(main, {"one": scores()})
    assert first == "From one scan, lateral ventricle, error (%): better than no change: brlp; worse: none."
    assert "truly grow by 6.0 %" in second and "single volumes by 5.5 %" in second and "brlp says 5.0 %" in second
    assert "daninet3d says 5.0 %" in second and "countersynth" not in second


def test_tables_of_a_setting_leave_out_volumes_that_nobody_has(scored):
    main = tables.deciding(scored)
    assert list(tables.tables(scored, main, "one")) == ["structures", "diagnosis"]
    images = scored[~scored["unit"].str.contains("volume|mm|brain")]
    assert list(tables.tables(images, main, "one")) == ["diagnosis"]
