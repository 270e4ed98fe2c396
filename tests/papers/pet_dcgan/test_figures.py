"""Sheets of slices: what stands where, at one scale; histograms whose shares add up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean
from nbkit.data.pet_slices import Slices
from nbkit.papers.pet_dcgan.augmentation_experiments import classified
from nbkit.papers.pet_dcgan.figures import (
    ARMS, augmentation_curves, example_slices, generator_progress, joint_histograms, likeness,
    mean_images, neighbour_sheet, real_and_synthetic,
)
from nbkit.papers.pet_dcgan.pet_volumes import Volumes
from tests.figures.conftest import pixels
from tests.papers.pet_dcgan.test_augmentation_experiments import study_table


def images(n: int, level: float = 0.0) -> torch.Tensor:
    return torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(n)) * 0.5 - 0.5 + level


def slices(stages: dict[str, int], view: str = "axial", level: float = 0.0) -> Slices:
    """As many slices of each stage, a person each."""
    stage = tuple(s for s, n in stages.items() for _ in range(n))
    made = torch.cat([images(n, level) for n in stages.values()])
    people = tuple(f"{s}{i}" for i, s in enumerate(stage))
    return Slices(made, people, stage, (view,) * len(stage), (0.0,) * len(stage))


def shown(figure) -> list:
    return [axes for axes in figure.axes if axes.images]


def test_what_lies_to_the_right_and_up_is_drawn_there():
    spot = torch.full((1, 1, 12, 12), -0.79)  # a head as large as the image
    spot[0, 0, 9:11, 8:10] = 1
    figure = example_slices(Slices(spot, ("a",), ("CN",), ("axial",), (0.0,)), width_mm=80)
    (axes,) = shown(figure)
    box, shot = axes.get_window_extent(), pixels(figure)
    rows, columns = np.nonzero(shot[:, : int(box.x1)].mean(-1) * (shot[:, : int(box.x1)].std(-1) > 0.1) > 0.5)
    assert columns.mean() - box.x0 > 0.6 * box.width and shot.shape[0] - rows.mean() - box.y0 > 0.6 * box.height


def test_views_have_the_letters_of_their_sides():
    made = torch.rand(6, 1, 12, 12)
    table = Slices(made, ("a",) * 6, ("CN",) * 6, ("axial", "sagittal") * 3, (0.0,) * 6)
    figure = example_slices(table)
    texts = [[t.get_text() for t in axes.texts] for axes in shown(figure)]
    assert texts == [["L", "R"], [], [], ["P", "A"], [], []]
    assert np.allclose(shown(figure)[3].images[0].get_array(), made[1, 0].T + 1), "the first sagittal one"


def test_all_images_share_one_scale_in_suvr():
    figure = real_and_synthetic({"real": slices({"CN": 3}), "made": slices({"CN": 3}, level=0.4)}, count=3)
    assert {axes.images[0].get_clim() for axes in shown(figure)} == {(0, 2.0)}
    assert np.allclose(shown(figure)[0].images[0].get_array(), (images(3)[0, 0].T + 1) * 1.0)


def test_real_ones_stand_left_and_synthetic_ones_right_row_by_row():
    real, made = slices({"CN": 4, "AD": 2}), slices({"CN": 3, "AD": 2})
    figure = real_and_synthetic({"real": real, "synthetic": made, "conditional": made}, count=3)
    assert len(shown(figure)) == 3 + 3 + 3 + 2 + 2 + 2
    heads = {t.get_text(): t.get_position() for t in figure.texts}
    assert heads["real"][0] < heads["synthetic"][0] < heads["conditional"][0] and heads["CN"][1] > heads["AD"][1]
    assert len(shown(real_and_synthetic({"real": real, "made": made}, stages="AD", by="view", count=1))) == 2
    with pytest.raises(NbkitError, match="real_and_synthetic: made"):
        real_and_synthetic({"real": real, "made": slices({"CN": 3})})


def test_slices_are_cropped_to_a_square_round_all_real_heads():
    made = torch.full((2, 1, 20, 20), -1.0)
    made[0, 0, 6:10, 4:16], made[1, 0, 8:14, 8:12] = 0.0, 0.0
    table = Slices(made, ("a", "b"), ("CN",) * 2, ("axial",) * 2, (0.0,) * 2)
    for axes in shown(real_and_synthetic({"real": table, "made": slices({"CN": 1})})):
        assert np.allclose(axes.get_xlim(), (0.18, 0.82)) and np.allclose(axes.get_ylim(), (0.18, 0.82))


def test_means_and_what_the_ill_have_less_are_those_of_each_table():
    flat = {stage: torch.full((2, 1, 16, 16), level) for stage, level in (("CN", 0.5), ("MCI", 0.25), ("AD", 0.0))}
    stage = tuple(s for s in flat for _ in range(2))
    table = Slices(torch.cat([*flat.values()]), tuple("abcdef"), stage, ("axial",) * 6, (0.0,) * 6)
    same = Slices(torch.full((6, 1, 16, 16), 0.5), tuple("abcdef"), stage, ("axial",) * 6, (0.0,) * 6)
    figure = mean_images({"real": table, "made": same})
    means = [float(np.nanmean(axes.images[0].get_array().filled(np.nan))) for axes in shown(figure) if axes.get_xlim()]
    tiles = [m for axes, m in zip(shown(figure), means, strict=True) if not axes.get_ylabel()]
    np.testing.assert_allclose(tiles, [1.5, 1.25, 1.0, 1.5, 1.5, 1.5, -0.5, 0.0], atol=1e-6)
    said = [axes.get_title() for axes in shown(figure) if axes.get_title()]
    assert said == ["CN, mean", "MCI, mean", "AD, mean", "real", "made"]
    bars = [axes.get_ylabel().replace("\n", " ") for axes in figure.axes if axes.get_ylabel()]
    assert bars == ["uptake ratio (SUVR)"] * 2 + ["difference (SUVR)"]
    assert not any("mm" in t.get_text() for axes in figure.axes for t in axes.texts), "a mean has no level"


def test_training_runs_downwards_to_the_real_images():
    snapshots = {step: torch.stack([images(3), images(3) * 0]) for step in (1200, 0, 48)}
    figure = generator_progress(snapshots, real=slices({"CN": 9}))
    labels = sorted((t for t in figure.texts if t.get_rotation() == 90), key=lambda t: -t.get_position()[1])
    assert [t.get_text() for t in labels] == ["0", "48", "1 200", "real"] and len(shown(figure)) == 12
    many = {step: torch.stack([images(9)]) for step in range(0, 900, 100)}
    labels = [t.get_text() for t in generator_progress(many, real=slices({"CN": 9})).texts if t.get_rotation() == 90]
    assert labels == ["0", "200", "400", "600", "800", "real"], "five steps at most"
    assert len(shown(generator_progress(many, real=slices({"CN": 9})))) == 6 * 6, "six seeds at most"
    second = generator_progress(snapshots, real=slices({"CN": 9}), network=1)
    assert np.allclose(shown(second)[0].images[0].get_array(), 1.0)


def test_neighbours_carry_their_distances():
    distances = {"synthetic": [], "nearest training": [0.1, 0.2], "other": [0.5, 0.6]}
    found = {name: (images(2), far) for name, far in distances.items()}
    figure = neighbour_sheet(found, suvr_max=2.0)
    texts = [[t.get_text() for t in axes.texts] for axes in shown(figure)]
    assert texts == [[], [], ["0.1"], ["0.2"], ["0.5"], ["0.6"]]
    assert "nearest\ntraining" in {t.get_text() for t in figure.texts}


def test_every_pixel_with_a_right_neighbour_is_counted_where_it_belongs():
    ramp = torch.linspace(-0.99, 0.99, 8)[None, None, :, None].expand(3, 1, 8, 8)
    table = Slices(ramp, ("a",) * 3, ("CN",) * 3, ("axial",) * 3, (0.0,) * 3)
    both = {"a  real": table, "b  synthetic": slices({"CN": 6}, level=0.3)}
    figure = joint_histograms(both, stage="CN", bins=8)
    panels = [axes for axes in figure.axes if axes.get_title()]
    first, second = (axes.collections[0] for axes in panels[2:])
    # rows upwards are the right neighbour's, columns the pixel's own intensity
    counts = np.ma.filled(first.get_array().reshape(8, 8), 0)
    assert np.allclose(counts, np.eye(8, k=-1) / 7)
    assert first.norm is second.norm and np.ma.filled(second.get_array(), 0).sum() == pytest.approx(1)
    names = ("a  real", "b  synthetic")
    rows = ("one image", "all slices")
    assert [axes.get_title() for axes in panels] == [f"{name}, {row}" for row in rows for name in names]
    one = np.ma.filled(panels[1].collections[0].get_array(), 0)
    assert panels[1].collections[0].norm is not first.norm
    assert np.allclose(one * 132, np.round(one * 132)), "of 12 × 11 pairs"


def test_volumes_are_refused():
    with pytest.raises(NbkitError, match="of volumes, cut planes first"):
        example_slices(Volumes(torch.zeros(2, 1, 8, 8, 8), ("a", "b"), ("CN", "CN")))


def test_every_view_has_its_panel_with_a_line_for_each_arm():
    found = classified(study_table())
    figure = augmentation_curves(found, published={"real": 61.45})
    assert [axes.get_title() for axes in figure.axes] == ["axial", "all views"]
    for axes in figure.axes:
        mine = found[(found["view"] == axes.get_title()) & (found["system"] == "real + synthetic")]
        means = mine[mine["metric"] == "accuracy"].groupby("real_subjects")["value"].mean()
        colour = ARMS["real + synthetic"].colour
        lines = [line for line in axes.lines if line.get_color() == colour and len(line.get_xdata())]
        (drawn,) = (line for line in lines if line.get_linestyle() != "None")
        assert np.allclose(drawn.get_ydata(), means)
        assert np.allclose(np.log(drawn.get_xdata()) - np.log(means.index), 0, atol=0.1)
        assert axes.get_ylabel() == ("accuracy, %" if axes is figure.axes[0] else "")
    published = [line for line in figure.axes[-1].lines if line.get_label() == "published, real"]
    assert len(published) == 1 and list(published[0].get_ydata()) == [61.45]


def test_lines_stand_at_the_floor_and_at_the_best_reach():
    found = classified(study_table())
    values = {"floor": 95.0, "reach": 60.0, "reach_ridge": 65.0, "reach_tenfold": 80.0}
    ends = pd.DataFrame([{"view": "axial", "system": name, "role": name.split("_")[0], "value": value}
                         for name, value in values.items()])
    figure = augmentation_curves(found, ends=[ends])
    lines = [[line for line in axes.lines if len(line.get_ydata())] for axes in figure.axes]
    drawn, other = ({line.get_label(): line.get_ydata()[0] for line in some} for some in lines)
    ends = {"floor": 95.0, "reach": 65.0, "reach (10×)": 80.0}
    assert ends.items() <= drawn.items() and not ends.keys() & other.keys()
    assert ends.keys() <= {t.get_text() for t in figure.legends[0].texts}


def test_likeness_has_a_dot_for_each_generator_and_lines_of_what_needs_none():
    compared = pd.DataFrame([(m, s, k) for m in ("psnr", "ssim") for k, s in enumerate(("separate", "told", "volume"))],
                            columns=["metric", "system", "value"])
    ends = pd.DataFrame([(m, "reach", s, v) for m in ("psnr", "ssim") for s, v in (("CN", 5.0), ("AD", 7.0))],
                        columns=["metric", "system", "stage", "value"])
    printed = {"islam2020.text.psnr": 4.5, "islam2020.text.ssim": 0.5}
    figure = likeness(compared, ends, published=printed)
    for axes, label in zip(figure.axes, ("PSNR, dB", "SSIM"), strict=True):
        assert list(axes.lines[0].get_xdata()) == [0, 1] and axes.get_xlabel() == label
        assert [line.get_xdata()[0] for line in axes.lines if line.get_label().startswith("reach")] == [6.0]
        said = [line.get_xdata()[0] for line in axes.lines if line.get_label() == "published"]
        assert said == [printed[f"islam2020.text.{'psnr' if 'PSNR' in label else 'ssim'}"]]


def test_bars_are_the_intervals_of_the_ledger():
    found = classified(study_table())
    (axes, _) = augmentation_curves(found[found["system"] == "real"]).axes
    mine = found[(found["view"] == "axial") & (found["metric"] == "accuracy") & (found["system"] == "real")]
    expected = [bootstrap_mean(x) for _, x in mine.groupby("real_subjects")["value"]]
    ends = [segment[:, 1] for segment in axes.collections[0].get_segments()]
    assert np.allclose(ends, [(m.low, m.high) for m in expected])


def test_one_number_of_subjects_is_drawn_too():
    found = classified(study_table()).query("share == 1.0")
    x = {line.get_color(): line.get_xdata()[0] for line in augmentation_curves(found).axes[0].lines
         if len(line.get_xdata())}
    assert len(set(x.values())) == 4 and max(x.values()) / min(x.values()) < 1.1


@pytest.mark.parametrize(("act", "said"), [
    (lambda found: augmentation_curves(found.drop(columns="real_subjects")), "no real_subjects"),
    (lambda found: augmentation_curves(found.replace("real", "reel")), "augmentation_curves: arms"),
    (lambda found: augmentation_curves(found, published={"reall": 0.5}), "Did you mean 'real'"),
])
def test_what_cannot_be_drawn_is_refused(act, said):
    with pytest.raises(NbkitError, match=said):
        act(classified(study_table()))
