"""The lesion segmenter finds bright blobs, keeps to the brain, and comes back from disk."""

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.papers.flair.lesion_segmenter import Config, LesionSegmenter

TINY = Config(first=4, levels=1, epochs=40, crop=(12, 12, 8), crops_per_epoch=12, device="cpu", learning_rate=0.01)


def subject(name):
    g = torch_generator(3, name)
    brain = torch.zeros(1, 16, 16, 10, dtype=torch.bool)
    brain[:, 1:-1, 1:-1, 1:-1] = True
    lesions = torch.zeros_like(brain)
    for _ in range(3):
        x, y, z = (int(torch.randint(3, n - 5, (), generator=g)) for n in (16, 16, 10))
        lesions[:, x:x + 3, y:y + 3, z:z + 2] = True
    image = 100 + 5 * torch.randn(1, 16, 16, 10, generator=g) + 60 * lesions
    masks = {"brain": Volume(brain), "lesions": Volume(lesions & brain)}
    return Subject(name, None, "MS", (Scan(name, "1", None, {"FLAIR": Volume(image)}, masks),))


@pytest.fixture(scope="module")
def cohort():
    return Cohort("toy", tuple(subject(f"s{i}") for i in range(5)), "embedded", {"data_hash": "x"})


@pytest.fixture(scope="module")
def fitted(cohort):
    return LesionSegmenter(TINY).fit(cohort.subset(cohort.ids[:4]))


def overlap(found, truth):
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def test_it_finds_the_lesions_of_an_unseen_subject_whatever_the_gain(fitted, cohort):
    scan = cohort.subjects[4].baseline
    for gain in (1.0, 7.0):
        image = scan.image("FLAIR").with_data(scan.image("FLAIR").data * gain)
        found = fitted.segment(image, mask=scan.mask("brain"))
        assert found.data.dtype == torch.bool
        assert overlap(found.data, scan.mask("lesions").data) > 0.8
        assert not found.data[~scan.mask("brain").data].any()


def test_round_trip_is_identical(fitted, cohort, tmp_path):
    fitted.save(tmp_path / "m")
    again = LesionSegmenter.load(tmp_path / "m")
    scan = cohort.subjects[4].baseline
    a, b = (m.segment(scan.image("FLAIR"), mask=scan.mask("brain")).data for m in (fitted, again))
    assert torch.equal(a, b)


def test_an_unfitted_segmenter_and_a_cohort_without_lesions_are_refused(cohort):
    scan = cohort.subjects[4].baseline
    with pytest.raises(NbkitError, match="fitted"):
        LesionSegmenter(TINY).segment(scan.image("FLAIR"), mask=scan.mask("brain"))
    bare = Scan("a", "1", None, scan.images, {"brain": scan.mask("brain")})
    with pytest.raises(NbkitError, match="mask.*'lesions'"):
        LesionSegmenter(TINY).fit(Cohort("c", (Subject("a", None, "HC", (bare,)),), "embedded"))
