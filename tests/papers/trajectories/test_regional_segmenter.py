"""The regional segmenter learns planted structures, reads contrasts it never met, and says how wrong it is."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.metrics.regions import regional_volumes
from nbkit.papers.trajectories.regional_segmenter import Config, RegionalSegmenter, own_error

NAMES = {3: "hippocampus_left", 7: "lateral_ventricle", 9: "white_matter"}
GREY = {0: 0.0, 3: 0.6, 7: 0.1, 9: 1.0}
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def _scan(subject: str, session: int, *, grey: dict[int, float] = GREY) -> Scan:
    """A ball of white matter that holds a ball of fluid, growing with the visit, and a ball at its left."""
    rng = torch_generator(1, subject)
    x, y, z = torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij")
    shift = 2 * torch.rand(3, generator=rng) - 1
    labels = torch.zeros(24, 24, 24, dtype=torch.int16)
    for code, centre, radius in ((9, (12, 12, 12), 9.5), (7, (14, 12, 12), 3.0 + 0.4 * session), (3, (7, 12, 12), 3.4)):
        a, b, c = (float(v + s) for v, s in zip(centre, shift, strict=True))
        labels[(x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < radius**2] = code
    image = torch.zeros(24, 24, 24)
    for code, value in grey.items():
        image[labels == code] = value
    image = image + 0.03 * torch.randn(image.shape, generator=rng) * (labels > 0)
    return Scan(subject, f"M{session}", 70.0 + session, {"T1w": Volume(image, AFFINE)},
                {"brain": Volume(labels > 0, AFFINE)}, Volume(labels, AFFINE), NAMES)


def _cohort(names: list[str]) -> Cohort:
    subjects = tuple(Subject(n, "F", "CN", tuple(_scan(n, k) for k in range(2))) for n in names)
    return Cohort("balls", subjects, "embedded", {"data_hash": "x"})


@pytest.fixture(scope="module")
def segmenter() -> RegionalSegmenter:
    return RegionalSegmenter(Config.for_profile("smoke", steps=200, device="cpu")).fit(_cohort(["a", "b", "c", "d"]))


def test_planted_structures_are_found_on_people_never_seen(segmenter):
    table = own_error(segmenter, _cohort(["e", "f"]))
    assert list(table.index) == list(NAMES.values())
    assert (table["Dice"] > 0.8).all(), table
    assert table["SD of error in change (%)"].notna().all()


def test_another_scanners_contrast_is_read_too(segmenter):
    inverted = _scan("g", 0, grey={0: 0.0, 3: 0.5, 7: 1.0, 9: 0.2})
    found = segmenter.segment(inverted.image("T1w"), mask=inverted.mask("brain")).data
    for code in NAMES:
        a, b = found == code, inverted.labels.data == code
        assert 2 * float((a & b).sum()) / float(a.sum() + b.sum()) > 0.6, NAMES[code]


def test_shares_are_shares_and_volumes_count_them(segmenter):
    scan = _scan("h", 1)
    shares = segmenter.probabilities(scan.image("T1w"), mask=scan.mask("brain"))
    assert shares.data.min() >= 0 and shares.data.sum(0).max() <= 1 + 1e-5
    assert not shares.data[:, ~scan.mask("brain").data[0]].any()
    volumes = segmenter.volumes(scan.image("T1w"), mask=scan.mask("brain"))
    a, b = segmenter.calibration["white_matter"]
    counted = float(shares.data[2].double().sum()) * 27.0
    assert volumes["white_matter"] == pytest.approx(math.exp(a) * counted**b, rel=1e-6)
    scaled = scan.image("T1w").with_data(40 * scan.image("T1w").data)
    assert segmenter.volumes(scaled, mask=scan.mask("brain")) == pytest.approx(volumes, rel=1e-3)


def test_growth_is_read_without_a_gain_on_the_people_it_was_calibrated_on(segmenter):
    for name in set(segmenter.calibration) - {"white_matter"}:
        grown, shown, offsets = [], [], []
        for subject in _cohort(["a", "b", "c", "d"]):
            read = [segmenter.volumes(s.image("T1w"), mask=s.mask("brain"))[name] for s in subject.scans]
            true = [regional_volumes(s.labels, NAMES)[name] for s in subject.scans]
            grown.append(math.log(true[1] / true[0]))
            shown.append(math.log(read[1] / read[0]))
            offsets += [math.log(t / r) for t, r in zip(true, read, strict=True)]
        assert np.mean(offsets) == pytest.approx(0, abs=1e-6), name
        if segmenter.calibration[name][1] != 1:
            assert np.dot(grown, shown) / np.dot(shown, shown) == pytest.approx(1, rel=1e-5), name


def test_what_a_simulation_knows_counts_for_more_than_its_labels(segmenter):
    """Twice the volumes of the labels, growing at the square: offset and slope follow."""
    cohort = _cohort(["a", "b"])
    counted = {s.id: [regional_volumes(scan.labels, NAMES) for scan in s.scans] for s in cohort}
    known_of = {
        name: SimpleNamespace(ages=(70.0, 71.0), volumes=[{n: 2 * v**2 for n, v in visit.items()} for visit in visits])
        for name, visits in counted.items()
    }
    told = segmenter._calibrated(replace(cohort, truth=known_of))["lateral_ventricle"]
    bare = segmenter._calibrated(cohort)["lateral_ventricle"]
    assert told == pytest.approx((math.log(2) + 2 * bare[0], 2 * bare[1]), rel=1e-6)


def test_nobody_with_two_visits_leaves_counts_as_they_are():
    people = tuple(replace(s, scans=s.scans[:1]) for s in _cohort(["a", "b"]))
    once = replace(_cohort(["a", "b"]), subjects=people)
    model = RegionalSegmenter(Config.for_profile("smoke", steps=2, device="cpu")).fit(once)
    scan = _scan("a", 0)
    shares = model.probabilities(scan.image("T1w"), mask=scan.mask("brain")).data.double().sum((1, 2, 3)) * 27.0
    read = model.volumes(scan.image("T1w"), mask=scan.mask("brain"))
    assert model.calibration == {} and list(read.values()) == pytest.approx(shares.tolist(), rel=1e-6)


def test_what_was_saved_segments_the_same(segmenter, tmp_path):
    segmenter.save(tmp_path / "model")
    again, scan = RegionalSegmenter.load(tmp_path / "model"), _scan("i", 0)
    first, second = (m.segment(scan.image("T1w"), mask=scan.mask("brain")).data for m in (segmenter, again))
    assert again.calibration == segmenter.calibration
    assert torch.equal(first, second) and again.names == NAMES and again.trained_on == segmenter.trained_on


@pytest.mark.parametrize("change", [{"usual": None}, {"usual": torch.zeros(2, 2)}, {"extra": torch.zeros(1)}])
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(segmenter, tmp_path, change):
    segmenter.save(tmp_path / "model")
    file = tmp_path / "model" / "weights.safetensors"
    save_file({k: v for k, v in (load_file(file) | change).items() if v is not None}, file)
    with pytest.raises(NbkitError, match=next(iter(change))):
        RegionalSegmenter.load(tmp_path / "model")


def test_the_same_seed_gives_the_same_weights():
    models = [RegionalSegmenter(Config.for_profile("smoke", steps=3, device="cpu")).fit(_cohort(["a"])) for _ in "12"]
    for a, b in zip(models[0].net.parameters(), models[1].net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_scans_without_or_with_other_labels_are_refused():
    cohort = _cohort(["a", "b"])
    bare = replace(cohort.subjects[1].scans[0], labels=None)
    broken = replace(cohort, subjects=(cohort.subjects[0], replace(cohort.subjects[1], scans=(bare,))))
    with pytest.raises(NbkitError, match="b/M0: labels"):
        RegionalSegmenter(Config.for_profile("smoke", device="cpu")).fit(broken)
    with pytest.raises(NbkitError, match="fit"):
        RegionalSegmenter(Config.for_profile("smoke", device="cpu")).segment(
            cohort.subjects[0].baseline.image("T1w"), mask=cohort.subjects[0].baseline.mask("brain"))
