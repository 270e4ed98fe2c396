"""Scores of generated images against closed forms, brute force and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from nbkit.core.checks import NbkitError
from nbkit.metrics import image
from nbkit.papers.pet_dcgan.metrics import (
    density_coverage, frechet_distance, frechet_gaussians, memorisation, pairwise_quality, placements, strangers,
)


def blobs(count: int, seed: int, size: int = 24) -> torch.Tensor:
    """Images (N, 1, S, S) in [−1, 1]: a bright blob in noise."""
    rng = np.random.default_rng(seed)
    x, y = np.indices((size, size))[:, None] - rng.uniform(8, 16, (2, count, 1, 1))
    values = 1.6 * np.exp(-(x**2 + y**2) / rng.uniform(10, 40, (count, 1, 1))) - 0.9
    return torch.from_numpy(np.clip(values + rng.normal(0, 0.05, values.shape), -1, 1)).float()[:, None]


def normal(count: int, dims: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(shift, 1, (count, dims)))


# pairs


def test_every_pair_has_the_psnr_and_ssim_of_the_references():
    fake, real = blobs(3, 0), blobs(4, 1)
    psnr, ssim = pairwise_quality(fake, real)
    assert psnr.shape == ssim.shape == (3, 4)
    settings = {"data_range": 2.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for i, a in enumerate(fake[:, 0].double().numpy()):
        for j, b in enumerate(real[:, 0].double().numpy()):
            assert float(psnr[i, j]) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=2.0), rel=1e-9)
            assert float(ssim[i, j]) == pytest.approx(structural_similarity(a, b, **settings), abs=1e-9)


def test_pairs_agree_with_the_metrics_of_single_images():
    fake, real = blobs(4, 2), blobs(4, 3)
    psnr, ssim = pairwise_quality(fake, real)
    volumes = fake[..., None], real[..., None]
    torch.testing.assert_close(psnr.diagonal(), image.psnr(*volumes, data_range=2.0))
    torch.testing.assert_close(ssim.diagonal(), image.ssim(*volumes, data_range=2.0, dims=2), atol=1e-5, rtol=0)


def test_equal_images_are_infinitely_alike_and_pairs_are_symmetric():
    x, y = blobs(3, 4), blobs(3, 5)
    psnr, ssim = pairwise_quality(x, x)
    assert torch.isinf(psnr.diagonal()).all() and torch.allclose(ssim.diagonal(), torch.ones(3).double())
    there, back = pairwise_quality(x, y), pairwise_quality(y, x)
    torch.testing.assert_close(there[0], back[0].T)
    torch.testing.assert_close(there[1], back[1].T)


def test_summaries_leave_out_pairs_of_one_person():
    values = torch.tensor([[5.0, 1.0, 3.0], [2.0, 4.0, 8.0]])
    every, allowed = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[False, True, True], [True, False, True]])
    found = strangers(values, every)
    assert found["random"].tolist() == [3.0, pytest.approx(14 / 3)] and found["nearest"].tolist() == [5.0, 8.0]
    found = strangers(values, allowed)
    assert found["random"].tolist() == [2.0, 5.0] and found["nearest"].tolist() == [3.0, 8.0]
    with pytest.raises(NbkitError, match="a real image of somebody else for everybody"):
        strangers(values, torch.tensor([[False] * 3, [True] * 3]))


@pytest.mark.parametrize(
    ("fake", "real", "message"),
    [
        (blobs(2, 0, 24), blobs(2, 0, 32), "of one size"),
        (blobs(2, 0)[:, 0], blobs(2, 0), r"images \(N, 1, S, S\)"),
        (blobs(2, 0, 11)[..., :10, :10], blobs(2, 0, 11)[..., :10, :10], "more than 10 pixels"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(fake, real, message):
    with pytest.raises(NbkitError, match=message):
        pairwise_quality(fake, real)


# sets


@given(st.lists(st.floats(0.1, 9), min_size=4, max_size=4), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_the_frechet_distance_of_known_normal_distributions(variances, shift):
    found = frechet_gaussians(np.zeros(4), np.eye(4), np.array(shift), np.diag(variances))
    closed = np.square(shift).sum() + np.square(1 - np.sqrt(variances)).sum()
    assert found == pytest.approx(closed, abs=1e-9)


def test_the_root_is_that_of_scipy_for_covariances_that_do_not_commute():
    rng = np.random.default_rng(0)
    a, b = (m @ m.T for m in rng.normal(size=(2, 6, 6)))
    mean = rng.normal(size=6)
    wanted = mean @ mean + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet_gaussians(np.zeros(6), a, mean, b) == pytest.approx(wanted, rel=1e-8)
    assert frechet_gaussians(mean, b, np.zeros(6), a) == pytest.approx(wanted, rel=1e-8)


def test_singular_covariances_have_a_real_distance():
    line = np.diag([1.0, 0.0])
    assert frechet_gaussians(np.zeros(2), line, np.zeros(2), line[::-1, ::-1]) == pytest.approx(2.0)


def test_samples_are_described_by_mean_and_shrunk_covariance():
    a, b = normal(30, 8, 1), 2 * normal(40, 8, 2, shift=1.0)
    fitted = [LedoitWolf().fit(x.numpy()) for x in (a, b)]
    wanted = frechet_gaussians(*(v for f in fitted for v in (f.location_, f.covariance_)))
    assert frechet_distance(a, b) == pytest.approx(wanted)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(8 * (2**2 + 1), rel=0.25)


def test_density_and_coverage_by_brute_force():
    real, fake, k = normal(40, 3, 3), normal(25, 3, 4, shift=0.5), 5
    found = density_coverage(real, fake, k=k)
    reach = NearestNeighbors(n_neighbors=k + 1).fit(real).kneighbors(real)[0][:, k]
    gaps = np.linalg.norm(fake.numpy()[:, None] - real.numpy()[None], axis=-1)
    inside = gaps <= reach
    assert found.density == pytest.approx(inside.mean() * len(real) / k)
    assert found.coverage == pytest.approx(inside.any(axis=0).mean())


def test_equal_sets_are_covered_and_far_ones_are_not():
    real = normal(60, 4, 5)
    assert density_coverage(real, real).coverage == 1.0
    far = density_coverage(real, real + 100)
    assert far == (0.0, 0.0)
    collapsed = density_coverage(real, real.mean(dim=0, keepdim=True).repeat(60, 1))
    assert collapsed.density > 1 and collapsed.coverage < 0.6


# copies


def people(count: int, slices: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """Features of several slices of each person, people farther apart than their slices."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(0, 1, (count, 1, 10))
    values = centre + rng.normal(0, 0.7, (count, slices, 10))
    return torch.from_numpy(values.reshape(-1, 10)), [f"{seed}-{i}" for i in range(count) for _ in range(slices)]


@pytest.fixture
def sides():
    (train, owners), (heldout, others) = people(30, 4, 1), people(30, 4, 2)
    return train, heldout, {"groups_train": owners, "groups_heldout": others}


def test_copies_of_training_images_are_flagged(sides):
    train, heldout, groups = sides
    found = memorisation(train + 0.05 * normal(120, 10, 3), train, heldout, **groups)
    assert found.flagged and found.share == 1.0 and found.expected == 0.5
    assert float(found.ratios.median()) < 0.3 and found.high < 0.8


def test_a_third_of_copies_is_enough(sides):
    train, heldout, groups = sides
    fake = torch.cat([people(20, 4, 4)[0], train[:40] + 0.05 * normal(40, 10, 5)])
    assert memorisation(fake, train, heldout, **groups).flagged


def test_images_of_other_people_are_not_flagged_more_often_than_chance_allows(sides):
    train, heldout, groups = sides
    found = [memorisation(people(20, 4, 100 + k)[0], train, heldout, **groups, draws=300) for k in range(20)]
    assert sum(m.flagged for m in found) <= 2
    assert np.mean([m.share for m in found]) == pytest.approx(0.5, abs=0.05)
    assert all(m.low < 0.5 < m.high for m in found)


def test_a_generator_of_a_handful_of_images_is_flagged(sides):
    _, heldout, groups = sides
    few, owner = people(2, 3, 6)
    fake = few.repeat(20, 1) + 0.1 * normal(120, 10, 7)
    found = memorisation(fake, few, heldout, groups_train=owner, groups_heldout=groups["groups_heldout"])
    assert found.flagged and found.expected == pytest.approx(6 / 126)


def test_copies_of_held_out_images_are_not_training_images(sides):
    train, heldout, groups = sides
    found = memorisation(heldout, train, heldout, **groups)
    assert found.share == 0.0 and not found.flagged and torch.isinf(found.ratios).all()


def test_the_same_seed_gives_the_same_interval(sides):
    train, heldout, groups = sides
    fake = people(10, 4, 8)[0]
    one, two = (memorisation(fake, train, heldout, **groups, draws=200, seed=3) for _ in range(2))
    assert (one.low, one.high) == (two.low, two.high)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: memorisation(x, x, x, groups_train=["a"] * 6, groups_heldout=["b"] * 5 + ["a"]),
         "no subject both in training and in test, found a"),
        (lambda x: memorisation(x, x, x, groups_train=["a"], groups_heldout=["b"] * 6), "6 and 6, one per image"),
        (lambda x: memorisation(x, x[:0], x, groups_train=[], groups_heldout=["b"] * 6), "at least 1 images"),
        (lambda x: frechet_distance(x, x[:, :2]), r"finite features \(N, 3\)"),
        (lambda x: frechet_distance(x, x * torch.nan), "finite features"),
        (lambda x: density_coverage(x, x, k=6), "from 1 to 5"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(call, message):
    with pytest.raises(NbkitError, match=message):
        call(normal(6, 3, 0))


# classes


PAIRS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40)


@given(PAIRS.filter(lambda pairs: len({p for _, p in pairs}) == 2))
def test_the_mean_is_the_area_under_the_curve(pairs):
    scores, positive = np.array(pairs).T
    placed, area = placements(scores, positive), roc_auc_score(positive.astype(bool), scores)
    for those in (placed, placed[positive.astype(bool)], placed[~positive.astype(bool)]):
        assert those.mean() == pytest.approx(area)


def test_a_subject_alone_on_the_wrong_side_has_nothing():
    assert placements([0.9, 0.2, 0.1, 0.8], [True, True, False, False]).tolist() == [1.0, 0.5, 1.0, 0.5]
    assert placements([0.1, 0.5], [True, False]).tolist() == [0.0, 0.0]


def test_one_class_alone_has_no_area():
    assert np.isnan(placements([0.1, 0.2], [True, True])).all() and np.isnan(placements([0.1], [False])).all()


def test_scores_that_do_not_fit_are_refused():
    with pytest.raises(NbkitError, match="one finite score per subject"):
        placements([0.1, 0.2], [True])
    with pytest.raises(NbkitError, match="placements: scores"):
        placements([0.1, np.nan], [True, False])
