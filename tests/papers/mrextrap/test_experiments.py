"""The experiments on latent lines, on people whose volumes are known and with readers that cannot err."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Forecast, Scan, Subject
from nbkit.core.tidy import by_subject, where
from nbkit.core.volume import Volume
from nbkit.metrics.calibration import LEVELS
from nbkit.papers.mrextrap import Config, experiments
from nbkit.papers.mrextrap.metrics import agreement, explained_by_latents, straightness
from nbkit.papers.mrextrap.volumes import (
    STRUCTURES, FourVolumes, forecast_volumes, four_volumes, histories, interpolated_volumes, latent_volume,
    person_curve, shown, true_volumes,
)

SHAPE, AFFINE = (8, 6, 10), np.diag([3.0, 3.0, 3.0, 1.0])
REGIONS = ("lateral_ventricle_left", "lateral_ventricle_right", "hippocampus_left", "frontal_left", "white_matter_left",
           "csf_left")
WEIGHT = {"lateral_ventricle": 2.0, "hippocampus": 1.0, "grey_matter": 2.0, "white_matter": 1.0}
"""The paper's volumes per unit of brightness: grey matter is frontal and hippocampus."""


class Brightness:
    """Reads every region as the mean brightness of the image, times a bias that forecasts must not feel."""

    config, trained_on = None, "nobody"

    def __init__(self, bias: float = 1.0) -> None:
        self.bias = bias

    def volumes(self, image: Volume, *, mask: Volume) -> dict[str, float]:
        return dict.fromkeys(REGIONS, self.bias * float(image.data[mask.data].mean()))


class Line:
    """Continues brightness along least squares, however few the scans; blurs all it paints by `damp`."""

    def __init__(self, estimator: str, *, damp: float = 1.0) -> None:
        self.config, self.damp = SimpleNamespace(estimator=estimator), damp

    def predict(self, history, ages, diagnosis):
        seen = [float(s.image("T1w").data.mean()) for s in history]
        years = [s.age for s in history]
        slope, level = np.polyfit(years, seen, 1) if len(seen) > 1 else (0.0, seen[0])
        return [picture(self.damp * (slope * age + level)) for age in ages]

    def predict_with_uncertainty(self, history, ages, diagnosis, *, draws, measure):
        told = []
        for age, image in zip(ages, self.predict(history, ages, diagnosis), strict=True):
            drawn = [measure(picture(float(image.data.mean()) + k * (age - history[-1].age))) for k in range(draws)]
            draws_of = {name: np.array([d[name] for d in drawn]) for name in drawn[0]}
            told.append(Forecast(age, image, image, draws_of))
        return told


def picture(value: float) -> Volume:
    return Volume(torch.full((1, *SHAPE), value), AFFINE)


def person(name: str, diagnosis: str, values, ages=None) -> Subject:
    brain = {"brain": Volume(torch.ones(1, *SHAPE, dtype=torch.bool), AFFINE)}
    ages = ages or [70.0 + 2 * k for k in range(len(values))]
    visits = enumerate(zip(ages, values, strict=True))
    scans = tuple(Scan(name, f"M{k}", age, {"T1w": picture(value)}, brain) for k, (age, value) in visits)
    return Subject(name, None, diagnosis, scans)


def cohort(*people: Subject, truth=None) -> Cohort:
    return Cohort("bright", people, "embedded", {}, truth or {})


STEADY, BENT = person("steady", "CN", [10.0, 12.0, 14.0, 16.0, 18.0]), person("bent", "AD", [10.0, 9.0, 8.0, 4.0])
PEOPLE, READER = cohort(STEADY, BENT), FourVolumes(Brightness())
TRUTH = true_volumes(PEOPLE, READER)


def table(models, **options) -> pd.DataFrame:
    given = {"segmenter": READER, "truth": TRUTH, "designs": ["all", "latest", "first"], "progress": False} | options
    return forecast_volumes(models, PEOPLE, **given)


def test_the_four_volumes_add_up_sides_and_lobes():
    regions = {"hippocampus_left": 1.0, "hippocampus_right": 2.0, "frontal_left": 10.0, "thalamus_right": 5.0,
               "lateral_ventricle_left": 7.0, "white_matter_left": 20.0, "hindbrain_left": 100.0, "csf_left": 50.0}
    assert four_volumes(regions) == {
        "lateral_ventricle": 7.0, "hippocampus": 3.0, "grey_matter": 18.0, "white_matter": 20.0,
    }


def test_truth_is_simulated_or_read():
    known = SimpleNamespace(volumes=[dict.fromkeys(REGIONS, 1.0 + k) for k in range(4)])
    found = true_volumes(cohort(STEADY, BENT, truth={"bent": known}), FourVolumes(Brightness(bias=3.0)))
    assert found["bent"][1]["lateral_ventricle"] == 4.0 and found["steady"][0]["hippocampus"] == pytest.approx(30.0)
    assert found["steady"][0] == pytest.approx({n: 30.0 * w for n, w in WEIGHT.items()})


def test_histories_keep_the_target_and_count_the_scans():
    asked = histories(5, "all", "latest", "first")
    assert {h.target for h in asked} == {4}
    assert [h.seen for h in asked if h.design == "all"] == [(0, 1, 2, 3)]
    assert [h.seen for h in asked if h.design == "latest"] == [(3,), (2, 3), (1, 2, 3)]
    assert [h.seen for h in asked if h.design == "first"] == [(0,), (0, 1), (0, 1, 2)]
    assert histories(3, "all", "latest") == []
    assert [h.seen for h in histories(3, "all", "latest", seen=2)] == [(0, 1), (1,)]
    with pytest.raises(NbkitError, match="Did you mean 'latest'"):
        histories(5, "lates")


def test_where_nobody_has_a_fourth_visit_two_are_shown():
    three = person("three", "CN", [10.0, 12.0, 14.0])
    assert (shown([STEADY, three]), shown([three])) == (3, 2)
    assert experiments.ages_seen(three) == (70.0, 72.0) and experiments.ages_seen(STEADY) == (70.0, 74.0)
    now, later = experiments.seen_and_later(three)
    assert (now.age, [scan.age for scan in later]) == (72.0, [74.0])
    found = forecast_volumes(
        {"line": Line("ols")}, cohort(three), segmenter=READER, truth=true_volumes(cohort(three), READER),
        designs=["all"], progress=False,
    )
    line = found[found["model"] == "line"]
    assert set(line["scans"]) == {2} and line["miss"].max() == pytest.approx(0.0, abs=1e-3), "a steady line is met"
    for nobody in ([], [person("two", "CN", [1.0, 2.0])]):
        with pytest.raises(NbkitError, match="test people with three visits or more"):
            shown(nobody)


def test_a_line_meets_who_follows_it_and_nothing_else_gains():
    found = table({"line": Line("bayes", damp=0.4)}, segmenter=FourVolumes(Brightness(bias=0.7)), designs=["all"])
    line = found[(found["model"] == "line") & (found["subject"] == "steady")]
    assert np.allclose(line["miss"], 0, atol=1e-3), "neither a reader's bias nor a dim image is change"
    assert np.allclose(line["true_change_pct"], 100 * (18 / 16 - 1)) and set(line["structure"]) == set(STRUCTURES)
    still = found[(found["model"] == "no_change") & (found["subject"] == "bent")]
    assert np.allclose(still["error_pct"], 100 * (8 / 4 - 1)) and np.allclose(still["change_pct"], 0)
    assert (still["scans"] == 3).all() and np.allclose(still["years"], 2.0)


def test_least_squares_waits_for_the_second_scan():
    found = table({"ols": Line("ols"), "bayes": Line("bayes")}, designs=["latest", "first"])
    counts = found.groupby("model")["scans"].agg(["min", "max"])
    assert counts.loc["ols"].tolist() == [2, 3] and counts.loc["bayes"].tolist() == [1, 3]
    early, late = (found[(found["design"] == d) & (found["scans"] == 1)]["years"] for d in ("first", "latest"))
    assert set(early) == {6.0, 8.0} and set(late) == {2.0}


def test_floors_see_the_target():
    found = table({}, designs=["all"], floors={"hindsight": lambda scan: scan.image("T1w")})
    assert np.allclose(found[found["model"] == "hindsight"]["miss"], 0, atol=1e-4)


def test_agreement_by_hand():
    rows = pd.DataFrame({
        "structure": "hippocampus", "model": "half", "subject": ["a", "b", "c"], "true_change_pct": [0.0, 2.0, 4.0],
        "change_pct": [1.0, 2.0, 3.0], "error_pct": [1.0, 0.0, -1.0], "miss": [1.0, 0.0, 1.0],
    })
    found = agreement(rows).loc[("hippocampus", "half")]
    assert found["pace"] == pytest.approx(0.5) and found["correlation"] == pytest.approx(1.0)
    assert (found["miss (%)"], found["bias (%)"], found["people"]) == (pytest.approx(2 / 3), 0.0, 3)


ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def mixed(power: float):
    """From the first scan to the last, straight for a power of 1."""
    return lambda last, first, a: picture(float(first.image("T1w").data.mean()) * (1 - a**power)
                                          + float(last.image("T1w").data.mean()) * a**power)


def test_straight_and_bent_interpolations_are_told_apart():
    ways = {"straight": mixed(1.0), "bent": mixed(2.0)}
    found = straightness(interpolated_volumes(ways, PEOPLE, segmenter=READER, alphas=ALPHAS))
    found = found.set_index(["way", "subject"])
    straight, bent = (found.loc[(way, "steady")].iloc[0] for way in ways)
    assert straight["bend_pct"] == pytest.approx(0, abs=1e-4) and straight["r2"] == pytest.approx(1)
    assert straight["middle_mm3"] == pytest.approx(straight["mean_mm3"]) == pytest.approx(straight["chord_mm3"])
    # at α = 1/2 the bent way has come a quarter of the way from 10 to 18, and is 2 below the mean of 14
    assert bent["bend_pct"] == pytest.approx(100 * 2 / 14, rel=1e-4) and bent["r2"] < 0.95
    assert bent["change_pct"] == pytest.approx(80, rel=1e-4)


def test_the_chord_is_that_of_the_scans_not_of_what_a_way_makes():
    dim = {"dim": lambda last, first, a: picture(0.5 * (10 + 8 * a))}
    row = straightness(interpolated_volumes(dim, cohort(STEADY), segmenter=READER, alphas=ALPHAS)).iloc[1]
    assert row["chord_mm3"] == pytest.approx(14.0) and row["mean_mm3"] == pytest.approx(7.0)


def test_no_change_at_all_has_no_r2():
    still = cohort(person("still", "CN", [5.0, 5.0]))
    found = straightness(interpolated_volumes({"way": mixed(1.0)}, still, segmenter=READER, alphas=ALPHAS))
    assert found["r2"].isna().all()


def test_a_curve_starts_at_the_true_volume_and_spreads_with_the_years():
    given = {"seen": 3, "segmenter": FourVolumes(Brightness(bias=5.0)), "truth": TRUTH}
    curve = person_curve(Line("bayes"), STEADY, ages=[74.0, 76.0, 78.0], draws=4, **given)
    one = curve[curve["structure"] == "hippocampus"]
    assert np.allclose(one["mm3"], [14, 16, 18], rtol=1e-5) and one["count"].tolist() == [4] * 3
    assert one["sd"].is_monotonic_increasing and one["sd"].iloc[0] == pytest.approx(0, abs=1e-5)
    plain = person_curve(Line("ols"), STEADY, ages=[78.0], **given)
    assert list(plain.columns) == ["structure", "age", "mm3"]


class Halves:
    """Latents are means over blocks of two voxels, the first channel; the second is noise."""

    config = SimpleNamespace(contrast="T1w")
    space = SimpleNamespace(net=SimpleNamespace(factor=2))

    def encode(self, scan: Scan) -> torch.Tensor:
        x = scan.image("T1w").data.float()
        mean = torch.nn.functional.avg_pool3d(x[None], 2)[0]
        return torch.cat([3 * mean - 1, torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))])


def test_latents_lie_where_they_were_made():
    noise = torch.randn(1, 12, 14, 10, generator=torch.Generator().manual_seed(1))
    brain = Volume(torch.ones_like(noise).bool(), AFFINE)
    scan = Scan("a", "M0", 70.0, {"T1w": Volume(noise, AFFINE)}, {"brain": brain})
    latents = latent_volume(Halves(), scan)
    assert latents.shape == (6, 7, 5) and np.allclose(latents.spacing, 6.0)
    # the centre of the first cell is between the first two voxels along each axis
    assert np.allclose(latents.affine @ [0, 0, 0, 1], AFFINE @ [0.5, 0.5, 0.5, 1])
    assert explained_by_latents(Halves(), scan) == pytest.approx(1.0, abs=1e-6)
    assert explained_by_latents(Halves(), scan, shift=2) < 0.1


def told() -> pd.DataFrame:
    """Forecasts of everybody by every name that the figures ask for."""
    names = ("mrextrap_ols", "mrextrap_bayes", "mrextrap_population", "pixel_ols")
    floors = {name: (lambda scan: scan.image("T1w")) for name in experiments.FLOORS}
    return table({name: Line(name.split("_")[1]) for name in names}, designs=["all"], floors=floors)


def test_forecasts_are_recorded_by_place_and_model():
    last = told()
    change = experiments.figure_2b(last)
    assert by_subject(change, id="mrextrap.fig2b.ventricle.true") == pytest.approx({"steady": 12.5, "bent": -50.0})
    assert by_subject(change, id="mrextrap.fig2b.grey.ols")["steady"] == pytest.approx(12.5, rel=1e-4)
    misses = experiments.controls(last)
    assert by_subject(misses, id="mrextrap.miss.white.no_change")["bent"] == pytest.approx(100.0)
    assert {f"mrextrap.miss.grey.{name}" for name in ("ols", "pixel_ols", "hindsight")} < set(misses["id"])
    gaps = experiments.differences(misses)
    assert set(gaps["system"]) == {"no_change", "mrextrap_bayes", "mrextrap_population", "pixel_ols"}
    miss = {m: by_subject(misses, system=m, structure="hippocampus") for m in ("no_change", "mrextrap_ols")}
    expected = {s: miss["no_change"][s] - miss["mrextrap_ols"][s] for s in miss["no_change"]}
    assert by_subject(gaps, system="no_change", structure="hippocampus") == pytest.approx(expected)


def test_numbers_of_scans_are_recorded_and_what_is_lacking_is_named():
    scans = table({"mrextrap_ols": Line("ols"), "mrextrap_bayes": Line("bayes")}, designs=["latest", "first"])
    counted = experiments.by_scans(told(), scans)
    found = experiments.figure_2c(counted)
    assert where(found, id="mrextrap.fig2c.grey.latest.bayes.k1")["subject"].tolist() == ["steady", "bent"]
    assert set(where(found, system="mrextrap_ols")["scans"]) == {2, 3, 4} and not found["id"].str.contains("no_").any()
    means = experiments.means_by_scans(counted).loc[("grey_matter", "latest", "no_change")]
    assert means.loc[[3, 4]].tolist() == pytest.approx([(100 + 100 * 2 / 18) / 2, 100 * 2 / 18], abs=0.01)
    assert {"no_change"} < set(counted["model"]) and set(found["setting"]) == {"latest", "first"}
    ids = ["m.fig2c.grey.latest.ols.k9", "m.fig2c.grey.daninet", "m.fig2b.grey", found["id"].iloc[0]]
    assert experiments.without_forecast(ids, found) == {
        ids[0]: "nobody was forecast for from 9 scans", ids[1]: "no DaniNet in three dimensions was trained here",
    }


def test_a_rival_that_knows_one_scan_is_asked_from_the_last_one():
    found = table({"daninet": Line("bayes")}, designs=["last"])
    assert set(found["scans"]) == {1} and set(found["design"]) == {"latest"} and set(found["years"]) == {2.0}
    recorded = experiments.figure_2c(experiments.by_scans(told(), found[found["model"] == "daninet"]))
    assert by_subject(recorded, id="mrextrap.fig2c.ventricle.daninet") == pytest.approx(
        {"steady": 100 * 2 / 18, "bent": 100.0})


def test_who_is_bent_counts_once_and_can_be_nobody():
    straight = pd.DataFrame({
        "subject": ["a", "a", "b", "b"], "way": "latent", "structure": ["hippocampus", "grey_matter"] * 2,
        "r2": [0.99, 0.5, 0.99, 0.96], **dict.fromkeys(("bend_pct", "middle_mm3", "chord_mm3", "mean_mm3"), 1.0),
    })
    assert by_subject(experiments.figure_1d(straight), id="mrextrap.fig1d.bent") == {"a": 1.0, "b": 0.0}
    assert by_subject(experiments.figure_1d(straight, limit=0.4), id="mrextrap.fig1d.bent") == {"a": 0.0, "b": 0.0}


def test_settings_are_those_of_the_object_that_ran():
    """Whatever is changed in what ran leaves the tolerance, and nothing else does."""
    names = {"beta1": "perceptual_weight", "beta2": "adversarial_weight", "beta3": "kl_weight", "epochs": "epochs",
             "adversarial_from": "adversarial_from"}

    def verdicts(config: Config, channels: int = 4) -> dict[str, str]:
        space = SimpleNamespace(latent_shape=(channels, 1, 1, 1))
        frame = experiments.settings(SimpleNamespace(config=config, space=space))
        found = {row.id: Observation(row.id, row.value) for row in frame.itertuples()}
        numbers = judge("mrextrap", found).numbers
        return {n.id.rpartition(".")[2]: n.verdict for n in numbers if n.id in found}

    everything = dict.fromkeys((*names, "latent_channels"), "within tolerance")
    assert verdicts(Config()) == everything
    for name, field in names.items():
        changed = Config().changed(**{field: 2 * getattr(Config(), field)})
        assert verdicts(changed) == everything | {name: "outside tolerance"}
    assert verdicts(Config(), channels=3) == everything | {"latent_channels": "outside tolerance"}
    assert verdicts(Config.for_profile("laptop"))["epochs"] == "outside tolerance"


def test_interpolations_are_recorded_by_way():
    between = interpolated_volumes({"latent": mixed(2.0), "image": mixed(1.0)}, PEOPLE, segmenter=READER, alphas=ALPHAS)
    straight = straightness(between)
    frame = experiments.figure_1d(straight)
    assert by_subject(frame, id="mrextrap.fig1d.bent") == {"steady": 1.0, "bent": 1.0}
    bend = by_subject(frame, id="mrextrap.fig1d.hippocampus.bend.latent")
    assert bend["steady"] == pytest.approx(100 * 2 / 14, rel=1e-4)
    assert by_subject(frame, id="mrextrap.fig1d.grey.bend.image")["bent"] == pytest.approx(0, abs=1e-4)
    chord, middle = (by_subject(frame, id=f"mrextrap.fig1d.white.{name}")["steady"] for name in ("chord", "middle"))
    assert (chord, middle) == (pytest.approx(14.0), pytest.approx(12.0))
    rows = experiments.bends(straight)
    assert rows.loc[("hippocampus", "image"), "half-way − mean of the scans (%)"] == pytest.approx(0, abs=1e-3)
    lines = experiments.about_errors(told(), straight)
    assert len(lines) == 5 and "no change 55.56 %" in lines[0] and "0.00 %" in lines[-1]


def test_intervals_are_mended_by_the_others_and_recorded_only_then():
    rng, rows = np.random.default_rng(0), []
    for subject in (f"s{k}" for k in range(8)):
        rows += [(subject, name, 100 + rng.normal(), 100.0, 0.1, 4) for name in STRUCTURES]
    judged = pd.DataFrame(rows, columns=["subject", "structure", "true", "mean", "sd", "count"])
    parts = [[f"s{k}", f"s{k + 4}"] for k in range(4)]
    forecasts = experiments.intervals(judged, parts)
    assert len(forecasts) == 2 * len(LEVELS) * len(judged) and forecasts["setting"].iloc[-1] == experiments.MENDED
    shares = experiments.uncertainty(forecasts)
    assert by_subject(shares, id="mrextrap.nominal.80") == dict.fromkeys(judged["subject"].unique(), 0.8)
    mended = np.mean([*by_subject(shares, id="mrextrap.coverage.80").values()])
    drawn = where(shares, setting=experiments.DRAWN, structure=experiments.ALL, level=0.8)
    assert abs(mended - 0.8) < 0.15 and drawn["value"].mean() < 0.3 and set(drawn["id"]) == {""}
    assert "mrextrap.coverage.95.ventricle" in set(shares["id"])
    wide = experiments.by_level(where(shares, metric="coverage"), "value", ["setting", "structure"])
    assert list(wide.columns) == ["50 %", "80 %", "95 %"] and len(wide) == 10
    alone = experiments.uncertainty(experiments.intervals(judged[judged["subject"] == "s0"], []))
    assert set(alone["id"]) == {""} and set(alone["setting"]) == {experiments.DRAWN}


def test_one_persons_curve_holds_truth_and_two_forecasts():
    models = {f"mrextrap_{name}": Line(name) for name in ("ols", "bayes")}
    curves = experiments.one_person(models, STEADY, reader=READER, truth=TRUTH, draws=3)
    assert curves.groupby("model")["age"].nunique().to_dict() == {"truth": 5, "mrextrap_bayes": 3, "mrextrap_ols": 5}
    sure = curves[curves["model"] == "mrextrap_bayes"]
    assert (sure["low"] <= sure["high"]).all() and curves[curves["model"] == "truth"]["low"].isna().all()


def test_people_are_counted_and_those_of_a_known_diagnosis_kept():
    counts = experiments.people_counts(PEOPLE, cohort(STEADY)).set_index("id")["value"]
    assert counts.to_dict() == {
        "mrextrap.data.scans": 9, "mrextrap.data.people": 2, "mrextrap.data.training_people": 1,
    }
    assert experiments.with_known_diagnosis(PEOPLE, cohort(STEADY, person("once", "AD", [1.0]))).ids == ("steady",)
    assert experiments.first_ages(forecast_for=PEOPLE).loc["mean", "forecast for"] == 70.0
    assert experiments.true_pace(PEOPLE, TRUTH).loc["hippocampus", "max"] == pytest.approx(10.0)


def test_images_between_and_ahead_are_made_by_every_way():
    ours = SimpleNamespace(interpolate=mixed(2.0))
    images = experiments.between(ours, STEADY, (0.0, 0.5, 1.0))
    middle = {way: float(made[0.5].data.mean()) for way, made in images.items()}
    assert middle == pytest.approx({"latent": 12.0, "image": 14.0}, rel=1e-5)
    names = ("mrextrap_anchored", "mrextrap_ols", "pixel_ols")
    made = experiments.predicted({name: Line("ols") for name in names}, STEADY)
    assert [round(float(i.data.mean())) for i in made["pixel_ols"]] == [16, 18]
    assert [round(float(i.data.mean())) for i in made["no_change"]] == [14, 14]


def test_shares_are_told_in_place_and_away():
    shares = pd.DataFrame({"setting": ["in_place", "in_place", "shifted"], "value": [0.5, 0.7, 0.1]})
    assert experiments.about_latents(shares) == (
        "Latents explain 60 % of the image's variance in place, two cells away 10 %.")
