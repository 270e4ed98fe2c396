"""Pictures inside a page: as wide as asked, and still the same picture."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from nbkit.figures.web import ACROSS, colours, embedded, grey_levels


def _decoded(data: str) -> np.ndarray:
    assert data.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB"))


def test_a_wide_picture_is_made_as_wide_as_the_page(tmp_path):
    ramp = np.linspace(0, 255, 2400)[None, :, None].repeat(600, 0).repeat(3, 2).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    found = embedded(tmp_path / "a.png")
    assert (found.width, found.height) == (ACROSS, ACROSS // 4)
    np.testing.assert_allclose(_decoded(found.data)[100, :, 0], np.linspace(0, 255, ACROSS), atol=6)
    assert embedded(tmp_path / "a.png", most=360).width == 360


def test_a_small_picture_keeps_its_size(tmp_path):
    Image.new("P", (40, 30)).save(tmp_path / "a.png")
    assert embedded(tmp_path / "a.png")[1:] == (40, 30)


def test_a_looping_picture_loops_on(tmp_path):
    first, *others = [Image.new("RGB", (60, 40), colour) for colour in ("red", "green", "blue")]
    first.save(tmp_path / "a.png", save_all=True, append_images=others, duration=[350, 350, 1400], loop=0)
    found = Image.open(io.BytesIO(base64.b64decode(embedded(tmp_path / "a.png").data.partition(",")[2])))
    assert found.n_frames == 3 and found.info["loop"] == 0
    found.seek(2)
    assert found.convert("RGB").getpixel((30, 20))[2] > 200


def test_of_grey_levels_nothing_is_lost():
    noise = np.random.default_rng(0).integers(0, 256, (31, 17), dtype=np.uint8)
    np.testing.assert_array_equal(_decoded(grey_levels(noise))[..., 1], noise)


def test_colours_run_from_end_to_end_of_the_map():
    found = colours("RdBu_r", 5)
    assert len(found) == 5 and found[0][2] > found[0][0] and found[4][0] > found[4][2]
    assert max(found[2]) - min(found[2]) <= 1 and min(found[2]) > 240
