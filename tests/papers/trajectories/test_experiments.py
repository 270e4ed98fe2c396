"""Scores of known futures, against scikit-image and closed forms, and the controls on balls that shrink."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.protocols import TrajectoryModel
from nbkit.geometry.futures import Futures
from nbkit.geometry.warp import Displacement, grid_positions
from nbkit.papers.inbrainsyn.inbrainsyn import Config, InBrainSyn
from nbkit.metrics.regions import regional_volumes
from nbkit.papers.trajectories.controls import Hindsight, NoChange
from nbkit.papers.trajectories.experiments import (
    bend_age, by_person, folded_share, futures_of, per_subject, rate_between, score_trajectories,
    scored_trajectories, volume_curve, volumes_at_visits, yearly_change,
)
from nbkit.papers.trajectories.image_scores import PEAK_QUANTILE, image_scores
from tests.papers.trajectories.ageing_balls import (
    AFFINE, NAMES, RATES, SHAPE, START, BallTemplate, cohort, people, person,
)


class Stretch:
    """Knows the truth of balls in the middle: the radius at each age."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def futures(self, scan, ages, course=None) -> Futures:
        radii = [1 - self.rate * (age - START) for age in (scan.age, *ages)]
        places = grid_positions(SHAPE, AFFINE)
        fields = torch.cat([(radii[0] / r - 1) * places for r in radii[1:]])
        return Futures(scan, tuple(ages), Displacement(fields))

    def predict(self, history, ages, diagnosis):
        return self.futures(history[-1], ages).images()


class Painter:
    """Gives images only, the baseline's."""

    def predict(self, history, ages, diagnosis):
        return [history[-1].image("T1w")] * len(ages)


class Threshold:
    """Segments by where the image is bright enough to be a ball."""

    config, trained_on = None, ""

    def segment(self, image, *, mask):
        return image.with_data(torch.where(mask.data & (image.data > 0.02), 2, 0).to(torch.int16))

    def volumes(self, image, *, mask):
        return regional_volumes(self.segment(image, mask=mask), NAMES)


AGES = (62.0, 66.0, 72.0)
BALL = person("p", "AD", ages=AGES, size=1.0, centre=(0, 0, 0))


@pytest.fixture(scope="module")
def scores():
    models = {"truth": Stretch(RATES["AD"]), "no change": NoChange(), "painter": Painter()}
    return score_trajectories(models, cohort([BALL]), progress=False)


def test_one_row_per_visit_and_model_and_one_per_structure(scores):
    keys = ["subject", "session", "diagnosis", "age", "years", "model"]
    assert scores.visits[keys].values.tolist() == [
        ["p", f"{age:g}", "AD", age, age - 62, model]
        for model in ("truth", "no change", "painter") for age in AGES[1:]
    ]
    assert len(scores.regions) == 2 * 2 * 2
    assert set(scores.regions["structure"]) == {"hippocampus", "white_matter"}


def test_image_scores_equal_scikit_image(scores):
    """PSNR, SSIM and MAE of 'no change', by the peak that the docstring states, inside the brain and on the whole."""
    first, later = BALL.scans[0], BALL.scans[2]
    peak = np.quantile(first.image("T1w").data[first.mask("brain").data].double(), PEAK_QUANTILE)
    a, b = (s.image("T1w").numpy().astype(float) / peak for s in (first, later))
    brain = (first.mask("brain").data | later.mask("brain").data).numpy()[0]
    _, ssim_map = structural_similarity(
        a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    row = scores.visits.query("model == 'no change' and age == 72").iloc[0]
    assert row["psnr_whole"] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0))
    assert row["psnr"] == pytest.approx(-10 * np.log10(np.square(a - b)[brain].mean()))
    assert row["mae"] == pytest.approx(np.abs(a - b)[brain].mean())
    assert row["mae_whole"] == pytest.approx(np.abs(a - b).mean())
    assert row["ssim"] == pytest.approx(ssim_map[brain].mean(), abs=1e-5)
    assert row["ssim_whole"] == pytest.approx(ssim_map[5:-5, 5:-5, 5:-5].mean(), abs=1e-5)


def test_sharpness_is_that_of_the_truth_inside_both_brains():
    """One for the truth itself, a quarter at half its contrast; the step at the edge of the brain does not count."""
    last, scan = BALL.scans[0], BALL.scans[1]
    image = scan.image("T1w")
    assert image_scores(last, scan, image)["sharpness"] == pytest.approx(1)
    assert image_scores(last, scan, image.with_data(image.data / 2 + 3))["sharpness"] == pytest.approx(0.25)
    edged = image.with_data(torch.where(scan.mask("brain").data & last.mask("brain").data, image.data, 99.0))
    assert image_scores(last, scan, edged)["sharpness"] == pytest.approx(1)


def test_volumes_follow_from_growth(scores):
    """The truth shrinks by the cube of its radius; its error is that of counting voxels."""
    ours = scores.regions.query("structure == 'white_matter' and age == 72").set_index("model")
    exact = 100 * ((1 - 0.02 * 12) ** 3 / (1 - 0.02 * 2) ** 3 - 1)
    assert ours["change_pct"]["truth"] == pytest.approx(exact, abs=0.01)
    assert ours["change_pct"]["no change"] == pytest.approx(0)
    counted = [int((s.labels.data == 2).sum()) * 64.0 for s in BALL.scans]
    assert ours["true_mm3"].tolist() == pytest.approx([counted[2]] * 2)
    assert ours["mm3"]["no change"] == pytest.approx(counted[0])
    assert ours["error_mm3"]["no change"] == pytest.approx(counted[0] - counted[2])
    assert ours["error_pct"]["no change"] == pytest.approx(100 * (counted[0] / counted[2] - 1))
    assert abs(ours["error_pct"]["truth"]) < 5 < ours["error_pct"]["no change"]


def test_topology_and_dice(scores):
    visits = scores.visits.set_index(["model", "age"])
    assert (visits.loc[["truth", "no change"], "folds"] == 0).all()
    assert visits["smallest_jacobian"]["truth", 72.0] == pytest.approx(((1 - 0.04) / (1 - 0.24)) ** 3, rel=1e-4)
    assert visits["smallest_jacobian"]["no change", 72.0] == 1
    assert visits["dice"]["truth", 72.0] > 0.85 > visits["dice"]["no change", 72.0]
    assert visits.loc["painter"][["folds", "dice", "smallest_jacobian"]].isna().all().all()
    assert visits["psnr"]["painter", 66.0] == visits["psnr"]["no change", 66.0]
    assert (visits["seconds"] > 0).all()


def test_true_volumes_and_courses_can_be_given():
    seen = []

    class Listener(NoChange):
        def futures(self, scan, ages, course=None):
            seen.append(course)
            return super().futures(scan, ages, course)

    volumes = [{"hippocampus_left": v, "white_matter_left": 2 * v} for v in (1000.0, 900.0, 800.0)]
    found = score_trajectories(
        {"none": Listener()}, cohort([BALL]), true_volumes={"p": volumes}, courses={"p": "HC"}, progress=False
    ).regions
    assert seen == ["HC"]
    assert found["error_mm3"].tolist() == [100, 200, 200, 400]
    assert found["true_change_pct"].tolist() == pytest.approx([-10, -10, -20, -20])
    with pytest.raises(NbkitError, match="true_volumes: expected one of q, found 'p'"):
        score_trajectories({"n": NoChange()}, cohort([BALL]), true_volumes={"q": volumes}, progress=False)


def test_a_segmenter_scores_what_gives_images_only():
    found = score_trajectories(
        {"painter": Painter()}, cohort([BALL]), segmenter=Threshold(), progress=False
    ).regions.query("structure == 'white_matter'")
    assert (found["change_pct"] == 0).all()
    assert (found["error_mm3"] > 0).all() and (found["dice"] > 0.5).all()


def test_a_history_of_several_scans_starts_at_the_last_one():
    """With two visits seen, the third is predicted, from the second in every respect."""
    asked = []

    class Listener(Painter):
        def predict(self, history, ages, diagnosis):
            asked.append(([scan.age for scan in history], list(ages)))
            return super().predict(history, ages, diagnosis)

    found = score_trajectories({"none": NoChange(), "painter": Listener()}, cohort([BALL]), seen=2, progress=False)
    assert asked == [([62.0, 66.0], [72.0])]
    late = replace(BALL, scans=BALL.scans[1:])
    alone = score_trajectories({"none": NoChange()}, cohort([late]), progress=False)
    columns = [c for c in alone.visits if c != "seconds"]
    pd.testing.assert_frame_equal(found.visits.query("model == 'none'")[columns], alone.visits[columns])
    pd.testing.assert_frame_equal(found.regions, alone.regions)
    assert found.visits["years"].tolist() == [6, 6]


def test_reading_alike_starts_at_the_models_own_picture():
    """Paints balls a tenth too small, today and later: its growth is true, its reading against the scan is not."""

    class Shrunk:
        def predict(self, history, ages, diagnosis):
            balls = person("p", "AD", ages=ages, size=0.9, centre=(0, 0, 0))
            return [scan.image("T1w") for scan in balls.scans]

    models = {"shrunk": Shrunk(), "hindsight": Hindsight(cohort([BALL])), "stretch": Stretch(RATES["AD"])}
    both = score_trajectories(
        models, cohort([BALL]), segmenter=Threshold(), readings=("own", "alike"), progress=False
    )
    rows = both.regions.query("structure == 'white_matter' and age == 72").set_index(["model", "reading"])
    wrong = {key: abs(value) for key, value in rows["error_pct"].items()}
    assert wrong["shrunk", "alike"] < 6 < 20 < wrong["shrunk", "own"]
    assert wrong["hindsight", "own"] == pytest.approx(wrong["hindsight", "alike"])
    brain = BALL.baseline.mask("brain")
    start, later = (
        Threshold().volumes(image, mask=brain)["white_matter_left"]
        for image in models["stretch"].predict(BALL.scans[:1], [62.0, 72.0], "AD")
    )
    assert rows["change_pct"]["stretch", "alike"] == pytest.approx(100 * (later / start - 1))
    assert wrong["stretch", "own"] < 5
    assert rows["dice"].drop(index="hindsight", level=0).notna().tolist() == [True, True, True, True]
    whole = sum(both.regions.query("model == 'stretch' and age == 72 and reading == 'own'")["true_mm3"])
    row = rows.loc[("shrunk", "own")]
    assert row["error_brain_pct"] == pytest.approx(100 * row["error_mm3"] / whole)
    one = score_trajectories(models, cohort([BALL]), segmenter=Threshold(), progress=False).regions
    pd.testing.assert_frame_equal(one, both.regions.query("reading == 'own'").reset_index(drop=True))


def test_hindsight_is_the_true_scan():
    control = Hindsight(cohort([BALL]))
    images = control.predict(BALL.scans[:1], [72.0, 65.0], "AD")
    assert [i.data is s.image("T1w").data for i, s in zip(images, (BALL.scans[2], BALL.scans[1]))] == [True, True]
    clean = {(s.subject, s.session): s.image("T1w").with_data(s.image("T1w").data + 1) for s in BALL.scans}
    (image,) = Hindsight(cohort([BALL]), clean).predict(BALL.scans[:1], [72.0], "AD")
    assert image is clean[BALL.id, BALL.scans[2].session]
    stranger = person("q", "AD", ages=AGES, size=1.0, centre=(0, 0, 0))
    with pytest.raises(NbkitError, match="subject"):
        control.predict(stranger.scans[:1], [72.0], "AD")


def test_volumes_at_visits_are_the_simulations_or_counted():
    class Known:
        ages = AGES
        volumes = tuple({"hippocampus_left": k, "hippocampus_right": 2.0} for k in (1.0, 2.0, 3.0))

    other = replace(BALL, id="q")
    blank = replace(BALL, id="r", scans=(replace(BALL.scans[0], labels=None), *BALL.scans[1:]))
    found = volumes_at_visits(replace(cohort([BALL, other, blank]), truth={"p": Known}))
    assert found["p"] == [{"hippocampus": v} for v in (3.0, 4.0, 5.0)]
    late = replace(cohort([replace(BALL, scans=BALL.scans[1:])]), truth={"p": Known})
    assert volumes_at_visits(late)["p"] == found["p"][1:], "visits that were left out have no volume"
    counted = regional_volumes(BALL.scans[1].labels, NAMES)
    assert found["q"][1] == {"hippocampus": counted["hippocampus_left"], "white_matter": counted["white_matter_left"]}
    assert set(found) == {"p", "q"}


def test_one_value_per_subject_ready_to_record(scores):
    means = per_subject(scores.visits, "psnr", model="truth")
    assert means == {"p": pytest.approx(scores.visits.query("model == 'truth'")["psnr"].mean())}
    assert per_subject(scores.visits, "folds", model="painter") == {}
    some = pd.DataFrame({"subject": ["b", "a", "b"], "x": [1.0, 2.0, 3.0], "model": "m"})
    assert per_subject(some, "x", model="m") == {"b": 2.0, "a": 2.0}
    with pytest.raises(NbkitError, match="per_subject: column.*Did you mean 'psnr'"):
        per_subject(scores.visits, "psnrr")
    with pytest.raises(NbkitError, match="per_subject: model.*Did you mean 'truth'"):
        per_subject(scores.visits, "psnr", model="trut")


def test_means_of_each_person_as_a_tidy_frame(scores):
    frame = by_person(scores.visits, "psnr", by=["diagnosis"], id="x.{metric}.{system}", unit="dB", setting="one")
    row = frame[frame["system"] == "truth"].iloc[0]
    assert row[["id", "subject", "diagnosis", "metric", "unit", "setting"]].tolist() == [
        "x.psnr.truth", "p", "AD", "psnr", "dB", "one"]
    assert row["value"] == pytest.approx(per_subject(scores.visits, "psnr", model="truth")["p"])
    assert "painter" not in set(by_person(scores.visits, "folds")["system"]), "rows without a value do not count"


def test_bad_subjects_are_named():
    alone = replace(BALL, scans=BALL.scans[:1])
    with pytest.raises(NbkitError, match="score_trajectories: p: expected more visits than seen = 1, .*found 1"):
        score_trajectories({"n": NoChange()}, cohort([alone]), progress=False)
    with pytest.raises(NbkitError, match="seen = 0"):
        score_trajectories({"n": NoChange()}, cohort([BALL]), seen=0, progress=False)
    with pytest.raises(NbkitError, match="segmenter: expected one, to read alike"):
        score_trajectories({"n": NoChange()}, cohort([BALL]), readings=("alike",), progress=False)
    with pytest.raises(NbkitError, match="readings.*Did you mean 'alike'"):
        score_trajectories({"n": NoChange()}, cohort([BALL]), readings=("alik",), progress=False)


def test_curves_and_rates_of_a_known_shrinkage():
    futures = Stretch(0.01).futures(BALL.baseline, [64.0, 60.0, 63.0])
    curve = volume_curve(futures).query("structure == 'white_matter'")
    assert curve["age"].tolist() == [60, 62, 63, 64]
    relative = (1 - 0.01 * (curve["age"] - START)) / (1 - 0.01 * 2)
    assert curve["change_pct"].to_numpy() == pytest.approx(100 * (relative**3 - 1).to_numpy(), abs=0.01)
    years = np.array([2.0, -2, 1])
    by_hand = (years * [curve.set_index("age")["change_pct"][62 + y] for y in years]).sum() / np.square(years).sum()
    assert yearly_change(futures)["white_matter"] == pytest.approx(by_hand)


def test_rates_between_two_ages_and_the_largest_folded_share():
    curve = pd.DataFrame({"age": [60.0, 62.0, 66.0], "change_pct": [0.0, 4.0, 24.0]})
    assert rate_between(curve, 60, 62) == pytest.approx(2)
    assert rate_between(curve, 62, 66) == pytest.approx(5)
    assert rate_between(curve, 61, 64) == pytest.approx((14 - 2) / 3)
    places = grid_positions(SHAPE, AFFINE)
    mirrored = torch.cat([torch.zeros_like(places), -2 * places])
    assert folded_share(Futures(BALL.baseline, (63.0, 64.0), Displacement(mirrored))) == 1
    assert folded_share(NoChange().futures(BALL.baseline, [63.0, 64.0])) == 0


def test_scores_are_made_once_and_read_back_equal(tmp_path):
    asked = []

    class Counted(NoChange):
        def futures(self, scan, ages, course=None):
            asked.append(scan.subject)
            return super().futures(scan, ages, course)

    people_ = cohort([replace(BALL, id="007")])
    first, again = (
        scored_trajectories({"none": Counted()}, people_, key=1, cache=Cache(tmp_path), progress=False)
        for _ in range(2)
    )
    assert len(asked) == 1
    for made, read in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(made, read)
    assert set(again.visits["subject"]) == {"007"}
    scored_trajectories({"none": Counted()}, people_, key=2, cache=Cache(tmp_path), progress=False)
    assert len(asked) == 2


@pytest.mark.parametrize("turn", [66.3, 70.0, 74.71])
def test_the_bend_of_a_broken_line(turn):
    ages = np.arange(64.0, 78.0, 1.0)
    values = 20 + 0.5 * ages + 1.5 * np.maximum(ages - turn, 0)
    assert bend_age(ages, values) == pytest.approx(turn, abs=0.011)
    assert bend_age(ages, -3 * values + 7) == pytest.approx(turn, abs=0.011)


def test_a_bend_needs_points():
    with pytest.raises(NbkitError, match="bend_age: ages: expected five rising ages or more"):
        bend_age([60, 61, 62, 63], [1, 2, 3, 4])
    with pytest.raises(NbkitError, match="rising"):
        bend_age([60, 61, 61, 63, 64], [1, 2, 3, 4, 5])


def test_no_change_is_a_trajectory_model(tmp_path):
    model = NoChange().fit(cohort([BALL]))
    assert isinstance(model, TrajectoryModel)
    images = model.predict(BALL.scans[:2], [70.0, 71.0], "AD")
    assert all(torch.equal(image.data, BALL.scans[1].image("T1w").data) for image in images)
    model.save(tmp_path / "model")
    again = NoChange.load(tmp_path / "model")
    assert (again.config, again.trained_on) == (model.config, model.trained_on)


def test_inbrainsyn_beats_its_controls_on_balls():
    """Eight people of other sizes and places: the change of the template is worth more than none."""
    templates = {group: BallTemplate(rate) for group, rate in RATES.items()}
    settings = Config(levels_mm=(8.0, 4.0), iterations=(12, 10), velocity_mm=4.0, align="similarity")
    model = InBrainSyn(settings, templates=templates).fit(cohort(people(2, "HC", seed=4) + people(2, "AD", seed=5)))
    test = cohort(people(3, "AD", seed=6) + people(1, "HC", seed=7))
    scores = score_trajectories({"ours": model, "none": NoChange()}, test, progress=False)
    for column, sign in (("mae", 1), ("psnr", -1), ("ssim", -1), ("dice", -1)):
        ours, none = (per_subject(scores.visits, column, model=m) for m in ("ours", "none"))
        assert all(sign * (none[s] - ours[s]) > 0 for s in test.ids if s.startswith("AD"))
    regions = scores.regions.assign(size=scores.regions["error_pct"].abs())
    ours, none = (per_subject(regions, "size", model=m) for m in ("ours", "none"))
    assert all(ours[s] < 0.7 * none[s] for s in test.ids)
    assert not scores.visits["folds"].any()


def test_futures_of_several_people_are_those_of_each():
    scans = [BALL.baseline, person("q", "AD", ages=AGES, size=0.8, centre=(0, 0, 0)).baseline]
    model, years = Stretch(RATES["AD"]), (1.0, 2.0)
    both = futures_of(model, scans, {"own": lambda scan: "AD"}, years=years)
    assert list(both) == ["p", "q"]
    for scan in scans:
        alone = model.futures(scan, [scan.age + k for k in years], "AD")
        assert torch.equal(both[scan.subject]["own"].displacements, alone.displacements)
