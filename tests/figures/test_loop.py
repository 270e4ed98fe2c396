"""A looping picture has a frame for each age, in order, and stays one when a run keeps it."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from nbkit.claims.shown import save_png
from nbkit.core.checks import NbkitError
from nbkit.figures.loop import FRAME_MS, LAST_MS, Loop, ageing_loop
from nbkit.figures.marks import FUTURES
from nbkit.figures.style import new_figure

AGES = [60.0, 65.0, 70.0]


@pytest.fixture(scope="module")
def loop(scan) -> Loop:
    image = scan.images["T1w"]
    shrinking = [image.with_data(image.data * (1 - 0.1 * k)) for k in range(3)]
    volumes = pd.DataFrame([(m, a, 20.0 + k * k_m) for m, k_m in (("HC", 1), ("AD", 4)) for k, a in enumerate(AGES)],
                           columns=["model", "age", "value"])
    courses = {"HC": [image] * 3, "AD": shrinking}
    return ageing_loop(courses, AGES, volumes, brain=scan.mask("brain"), ylabel="ventricles (mL)", level_mm=0.0)


def test_each_frame_is_an_age_with_courses_beside_each_other_and_a_dot(loop):
    for frame, age, volume in zip(loop.frames, AGES, (20.0, 21.0, 22.0), strict=True):
        titles = [axes.get_title() for axes in frame.axes if axes.get_title()]
        assert titles == [f"HC, {age:.0f} years", f"AD, {age:.0f} years"]
        dots = frame.axes[-1].collections[-1].get_offsets()
        assert dots[0].tolist() == [age, volume]
        assert [t.get_text() for t in frame.axes[0].texts] == ["L", "R"]
    changes = [frame.axes[3].images[-1] for frame in loop.frames]
    assert len({c.get_clim() for c in changes}) == 1, "one scale for all ages"
    assert not changes[0].get_array().compressed().any() and changes[2].get_array().compressed().max() < 0
    colours = {line.get_label(): line.get_color() for line in loop.frames[0].axes[-1].get_legend().get_lines()}
    assert FUTURES["HC"].colour in colours.values()


def test_a_run_keeps_it_a_loop_of_one_palette(loop, tmp_path):
    save_png(loop, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.n_frames == 3 and picture.mode == "P" and picture.info["loop"] == 0
        seen = []
        for k in range(3):
            picture.seek(k)
            shot = picture.convert("RGB")
            assert shot.getpixel((0, 0)) == (255, 255, 255), "white stays white"
            seen.append((picture.info["duration"], shot.tobytes()))
    assert [ms for ms, _ in seen] == [FRAME_MS, FRAME_MS, LAST_MS] and len({shot for _, shot in seen}) == 3
    assert loop._repr_png_() == (tmp_path / "a.png").read_bytes()


def test_one_picture_is_no_loop_and_ages_need_their_images(scan):
    with pytest.raises(NbkitError, match="Loop: frames"):
        Loop([new_figure(20, 20)])
    table = pd.DataFrame({"model": ["HC"], "age": [60.0], "value": [1.0]})
    with pytest.raises(NbkitError, match="ageing_loop: HC: expected one image for each of 2 ages"):
        ageing_loop({"HC": [scan.images["T1w"]]}, [60.0, 65.0], table, brain=scan.mask("brain"), ylabel="mL")
