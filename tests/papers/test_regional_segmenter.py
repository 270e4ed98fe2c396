"""The regional segmenter learns planted structures, reads contrasts it never met, and says how wrong it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.papers.regional_segmenter import Config, RegionalSegmenter, own_error

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
    assert volumes["white_matter"] == pytest.approx(float(shares.data[2].double().sum()) * 27.0, rel=1e-6)
    scaled = scan.image("T1w").with_data(40 * scan.image("T1w").data)
    assert segmenter.volumes(scaled, mask=scan.mask("brain")) == pytest.approx(volumes, rel=1e-3)


def test_what_was_saved_segments_the_same(segmenter, tmp_path):
    segmenter.save(tmp_path / "model")
    again, scan = RegionalSegmenter.load(tmp_path / "model"), _scan("i", 0)
    first, second = (m.segment(scan.image("T1w"), mask=scan.mask("brain")).data for m in (segmenter, again))
    assert torch.equal(first, second) and again.names == NAMES and again.trained_on == segmenter.trained_on


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
