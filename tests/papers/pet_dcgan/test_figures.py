"""Sheets of slices: what stands where, at one scale; histograms whose shares add up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.papers.pet_dcgan.figures import (
    example_slices, generator_progress, joint_histograms, neighbour_counts, neighbour_sheet, real_and_synthetic,
)
from tests.figures.conftest import pixels


def images(n: int, level: float = 0.0) -> torch.Tensor:
    return torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(n)) * 0.5 - 0.5 + level


def shown(figure) -> list:
    return [axes for axes in figure.axes if axes.images]


def test_what_lies_to_the_right_and_up_is_drawn_there():
    spot = torch.full((1, 1, 12, 12), -1.0)
    spot[0, 0, 9:11, 8:10] = 1
    figure = example_slices({"axial": spot}, suvr_max=2.0, width_mm=80)
    (axes,) = shown(figure)
    box, shot = axes.get_window_extent(), pixels(figure)
    rows, columns = np.nonzero(shot[:, : int(box.x1)].mean(-1) * (shot[:, : int(box.x1)].std(-1) > 0.1) > 0.5)
    assert columns.mean() - box.x0 > 0.6 * box.width and shot.shape[0] - rows.mean() - box.y0 > 0.6 * box.height


def test_views_have_the_letters_of_their_sides():
    figure = example_slices({view: images(3) for view in ("axial", "sagittal")}, suvr_max=2.0)
    texts = [[t.get_text() for t in axes.texts] for axes in shown(figure)]
    assert texts == [["L", "R"], [], [], ["P", "A"], [], []]


def test_all_images_share_one_scale_in_suvr():
    figure = real_and_synthetic({"CN": images(3)}, {"CN": images(3, 0.4)}, suvr_max=2.0, columns=3)
    assert {axes.images[0].get_clim() for axes in shown(figure)} == {(0, 2.0)}
    assert np.allclose(shown(figure)[0].images[0].get_array(), (images(3)[0, 0].T + 1) * 1.0)


def test_real_ones_stand_left_and_synthetic_ones_right_stage_by_stage():
    real = {"CN": images(4), "AD": images(2)}
    figure = real_and_synthetic(real, {"CN": images(3), "AD": images(2)}, suvr_max=2.0, columns=2)
    assert len(shown(figure)) == 4 + 3 + 2 + 2
    heads = {t.get_text(): t.get_position() for t in figure.texts}
    assert heads["a  real"][0] < heads["b  synthetic"][0] and heads["CN"][1] > heads["AD"][1]
    with pytest.raises(NbkitError, match="the stages CN, AD"):
        real_and_synthetic(real, {"CN": images(3)}, suvr_max=2.0)


def test_training_runs_downwards_to_the_real_images():
    snapshots = {1200: images(4), 0: images(4), 48: images(4)}
    figure = generator_progress(snapshots, suvr_max=2.0, real=images(9))
    labels = sorted((t for t in figure.texts if t.get_rotation() == 90), key=lambda t: -t.get_position()[1])
    assert [t.get_text() for t in labels] == ["0", "48", "1 200", "real"] and len(shown(figure)) == 16


def test_neighbours_carry_their_distances():
    figure = neighbour_sheet(images(2), images(2), images(2), distances=[(0.1, 0.5), (0.2, 0.6)], suvr_max=2.0)
    texts = [[t.get_text() for t in axes.texts] for axes in shown(figure)]
    assert texts == [[], [], ["0.1"], ["0.2"], ["0.5"], ["0.6"]]


def test_every_pixel_with_a_right_neighbour_is_counted_where_it_belongs():
    counts = neighbour_counts(images(3), bins=8)
    assert counts.sum() == 3 * 11 * 12
    ramp = torch.linspace(-0.99, 0.99, 8)[None, None, :, None].expand(1, 1, 8, 5)
    assert np.array_equal(neighbour_counts(ramp, bins=8), 5 * np.eye(8, k=1))


def test_histograms_share_one_colour_scale():
    figure = joint_histograms({"a  real": images(3), "b  synthetic": images(6, 0.3)}, suvr_max=2.0, bins=16)
    first, second = (axes.images[0] for axes in shown(figure)[:2])
    assert first.norm is second.norm and np.isclose(first.get_array().sum(), 1)
    assert [axes.get_title() for axes in shown(figure)[:2]] == ["a  real", "b  synthetic"]


def test_volumes_are_refused():
    with pytest.raises(NbkitError, match="of volumes, cut planes first"):
        example_slices({"axial": torch.zeros(2, 1, 8, 8, 8)}, suvr_max=2.0)
