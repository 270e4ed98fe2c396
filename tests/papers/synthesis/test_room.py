"""The room on toys whose ends are known: bent, straight, level of the person, place, and noise."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.metrics.image import mse
from nbkit.papers.synthesis import room as module
from nbkit.papers.synthesis.room import Config, Reach, places, room, smoothed
from tests.papers.conftest import AFFINE, SHAPE, smooth

TINY = Config(inputs=("a", "b"), target="c", voxels=4_000, trees=50, leaves=8, leaf_voxels=10)
BARE = TINY.changed(voxels=20_000, trees=30, leaves=31, scales=())
ALONE = TINY.changed(inputs=("a",))
NOISE = 0.2


def cohort_of(law: Callable[..., torch.Tensor], *, people: int = 6, noise: float = 0.0, called: str = "p") -> Cohort:
    """People whose contrast "c" is law(a, b, name, x) and noise; x is the voxel's place along X."""
    x = torch.linspace(-1, 1, SHAPE[0])[None, :, None, None].expand(1, *SHAPE)
    subjects, clean = [], {}
    for name in (f"{called}{i}" for i in range(people)):
        a, b = smooth(name, "a"), smooth(name, "b")
        clean[name, "1"] = law(a, b, name, x)
        noisy = clean[name, "1"] + noise * torch.randn(1, *SHAPE, generator=torch_generator(3, name))
        brain = (smooth(name, "brain") > -1.2) & (x.abs() < 0.95)
        images = {n: Volume(v, AFFINE) for n, v in (("a", a), ("b", b), ("c", noisy))}
        scan = Scan(name, "1", None, images, {"brain": Volume(brain, AFFINE)})
        subjects.append(Subject(name, None, "MS", (scan,), {"clean": Volume(clean[name, "1"], AFFINE)}))
    return Cohort("toy", tuple(subjects), "embedded", {"data_hash": called})


def error(subject: Subject, prediction: Volume) -> dict[str, float]:
    scan = subject.baseline
    a, b, mask = (v.data[None] for v in (prediction, scan.image("c"), scan.mask("brain")))
    return {"mse": float(mse(a, b, mask=mask)), "undefined": float("nan")}


def halves(cohort: Cohort) -> list[SimpleNamespace]:
    ids, middle = cohort.ids, len(cohort) // 2
    parts = ids[:middle], ids[middle:]
    return [SimpleNamespace(name=f"fold{k + 1}", train_ids=parts[1 - k], test_ids=parts[k]) for k in (0, 1)]


def ends(cohort: Cohort, folder, config: Config = TINY, **more) -> dict[str, float]:
    frame = room(cohort, halves(cohort), config=config, score=error, cache=Cache(folder), **more)
    assert set(frame["metric"]) == {"mse"} and set(frame["fold"]) == {"fold1", "fold2"}
    assert (frame.groupby("system")["subject"].nunique() == len(cohort)).all()
    return frame.groupby("system")["value"].mean().to_dict()


def test_a_bent_target_leaves_room_over_linear_regression(tmp_path):
    found = ends(cohort_of(lambda a, b, *_: torch.tanh(3 * a) * b), tmp_path)
    assert found["reach"] < found["linear"] / 4 and found["linear"] > 0.9 * found["mean"]


def test_a_straight_target_leaves_none_and_noise_is_the_floor(tmp_path):
    cohort = cohort_of(lambda a, b, *_: 2 * a - b, noise=NOISE)
    clean = {(s.id, "1"): s.covariates["clean"] for s in cohort}
    found = ends(cohort, tmp_path, noise_free=clean)
    assert found["floor"] == pytest.approx(NOISE**2, rel=0.05)
    assert found["linear"] == pytest.approx(found["floor"], rel=0.05)
    alone = ends(cohort, tmp_path, noise_free=clean, only=("reach", "floor"), n_jobs=2)
    assert alone == {"reach": found["reach"], "floor": found["floor"]}
    assert abs(found["linear"] - found["reach"]) < 0.1 * (found["mean"] - found["reach"])


def test_what_no_input_carries_is_the_persons_part(tmp_path):
    level = {f"p{i}": (1 + 0.2 * i, 0.5 * i) for i in range(6)}
    found = ends(cohort_of(lambda a, b, name, x: level[name][0] * a + level[name][1]), tmp_path, ALONE)
    assert found["linear"] > 0.1 and found["person"] == pytest.approx(0, abs=1e-6)
    assert found["reach"] > 100 * found["person"]


def test_the_reach_knows_where_it_is_and_what_lies_around(tmp_path):
    found = ends(cohort_of(lambda a, b, name, x: torch.sin(4 * x) + 0 * a), tmp_path)
    assert found["reach"] < found["linear"] / 20
    ring = smoothed(torch.ones(1, *SHAPE), torch.ones(SHAPE, dtype=torch.bool), (1.0,) * 3)
    torch.testing.assert_close(ring, torch.ones(1, *SHAPE))


def test_strangers_teach_once_and_more_of_them_tell_more(tmp_path):
    few, many = (cohort_of(lambda a, b, *_: torch.tanh(3 * a) * b, noise=1.0, **who)
                 for who in ({}, {"people": 20, "called": "s"}))
    fits = []
    before = Reach.fit

    def counted(self, cohort):
        fits.append(len(cohort))
        return before(self, cohort)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Reach, "fit", counted)
        found, again = (ends(few, tmp_path, BARE, strangers=many) for _ in range(2))
    assert sorted(fits) == [3, 3, 20] and again == found
    assert found["reach_tenfold"] < found["reach"]


def test_means_inside_a_mask_ignore_what_lies_outside():
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[4:9, 3:9, 2:8] = True
    field = torch.where(inside, 3.0, 1e4)[None]
    out = smoothed(field, inside, (1.5, 1.0, 0.5))
    torch.testing.assert_close(out[0][inside], torch.full((int(inside.sum()),), 3.0))
    assert not out[0][~inside].any()


def test_places_are_shares_of_the_box_and_millimetres_of_depth():
    inside = torch.ones(5, 5, 5, dtype=torch.bool)
    found = places(inside, (1.0, 1.0, 3.0))
    assert found[0, :, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found[3, 2, 2, 2] == 3 and found[3, 0, 0, 0] == 1 and found[3, 2, 2, 0] == 3


def test_a_person_on_both_sides_and_one_without_floor_are_refused(tmp_path):
    cohort = cohort_of(lambda a, b, *_: a)
    fold = SimpleNamespace(name="fold1", train_ids=cohort.ids[:4], test_ids=cohort.ids[3:])
    with pytest.raises(NbkitError, match="fold1"):
        room(cohort, [fold], config=TINY, score=error, cache=Cache(tmp_path))
    with pytest.raises(NbkitError, match="Did you mean 'reach'"):
        ends(cohort, tmp_path, only=("rech",))
    clean = {("p0", "1"): cohort.subjects[0].covariates["clean"]}
    with pytest.raises(NbkitError, match="noise-free image of p1/1"):
        ends(cohort, tmp_path, noise_free=clean)
