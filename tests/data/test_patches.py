"""Patches as rows: against slicing by hand; the draw of training voxels."""

from __future__ import annotations

import pytest
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.patches import PatchReader, patch_rows

SHAPE = (7, 6, 5)


def scan(name: str) -> Scan:
    """Two random contrasts; every voxel of FLAIR has its own value."""
    g = torch.Generator().manual_seed(sum(map(ord, name)))
    t1 = torch.randn(SHAPE, generator=g) * 20 + 100
    flair = torch.arange(t1.numel()).reshape(SHAPE).float()
    brain = torch.rand(SHAPE, generator=g) < 0.6
    return Scan(name, "1", None, {"T1w": Volume(t1), "FLAIR": Volume(flair)}, {"brain": Volume(brain)})


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    """Three subjects."""
    return Cohort("tiny", tuple(Subject(n, None, "MS", (scan(n),)) for n in ("a", "b", "c")), "embedded")


@pytest.fixture(scope="module")
def reader(cohort) -> PatchReader:
    """3×3×3 patches of T1w."""
    return PatchReader(("T1w",), "FLAIR", Standardiser.fit_cohort(cohort, ("T1w", "FLAIR")), radius=1)


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_rows_equal_slices_with_zeros_beyond_the_border(radius):
    channels = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    places = torch.tensor([[0, 0, 0], [3, 2, 1], [6, 5, 4], [0, 3, 4]])
    rows = patch_rows(channels, places, radius=radius)
    far = torch.zeros(3, *(n + 2 * radius for n in SHAPE))
    inner = (slice(None), *(slice(radius, radius + n) for n in SHAPE))
    far[inner] = channels
    for row, (x, y, z) in zip(rows, places.tolist()):
        block = far[:, x : x + 2 * radius + 1, y : y + 2 * radius + 1, z : z + 2 * radius + 1]
        assert torch.equal(row, block.flatten())


def test_values_sit_at_the_centres_of_their_patches(cohort, reader):
    for subject, (rows, values) in zip(cohort, reader.training(cohort)):
        s = subject.baseline
        brain = s.mask("brain").data[0]
        assert rows.shape == (int(brain.sum()), 27)
        z = reader.standardiser.stack(s.images, ("T1w", "FLAIR"), mask=s.mask("brain"))
        assert torch.equal(rows[:, 13], z[0][brain])
        assert torch.equal(values, z[1][brain])


def test_draws_are_equal_shares_and_depend_on_seed_and_subject_only(cohort, reader):
    drawn = dict(zip(cohort.ids, reader.training(cohort, count=30, seed=1)))
    assert [len(values) for _, values in drawn.values()] == [10, 10, 10]
    assert len(drawn["a"][1].unique()) == 10
    again = dict(zip("ca", reader.training(cohort.subset("ca"), count=20, seed=1)))
    assert all(torch.equal(again[k][0], drawn[k][0]) for k in "ca")
    other = next(reader.training(cohort, count=30, seed=2))
    assert not torch.equal(other[1], drawn["a"][1])


def test_synthesize_puts_each_voxel_back_in_its_place(cohort, reader):
    s = cohort.subjects[1].baseline
    out = reader.synthesize(s.images, lambda rows: rows[:, 13] * 2, mask=s.mask("brain"), step="twice")
    c = reader.standardiser
    z = (s.image("T1w").data - c.mean["T1w"]) / c.sd["T1w"]
    expected = (2 * z * c.sd["FLAIR"] + c.mean["FLAIR"]) * s.mask("brain").data
    torch.testing.assert_close(out.data, expected)
    assert out.history[-1] == "twice"
