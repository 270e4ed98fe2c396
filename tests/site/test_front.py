"""README's pictures: what they come from, how much they weigh, and that README shows each."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from nbkit import cli
from nbkit.claims.observe import Run
from nbkit.claims.verdicts import judge_folder
from nbkit.core.checks import NbkitError
from nbkit.site import front
from nbkit.site.front import BYTES, FRONT, front_pictures
from tests.sources import ROOT

SHOWN = re.findall(r"!\[[^\]]{20,}\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))


def opened(path):
    """A picture, read whole."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def test_readme_shows_three_small_pictures_with_their_words():
    assert SHOWN == [f"docs/pictures/{name}.png" for name in FRONT]
    assert sum((ROOT / path).stat().st_size for path in SHOWN) <= BYTES
    assert {opened(ROOT / path).mode for path in SHOWN} == {"P"}


def test_they_are_copies_of_the_reference_and_what_it_lacks_stays(tmp_path):
    (tmp_path / "reference").mkdir()
    half = np.zeros((200, 1520, 3), np.uint8)
    half[:, 760:] = (200, 30, 30)
    half = np.concatenate([half, np.full_like(half, 255)])
    Image.fromarray(half).save(tmp_path / "reference" / "fig2_4_longer.png")
    (tmp_path / "pictures").mkdir()
    Image.new("P", (1, 1)).save(tmp_path / "pictures" / "pet.png")
    written = front_pictures(tmp_path / "reference", tmp_path / "pictures")
    assert [p.name for p in written] == ["flair.png", "pet.png"]
    small = opened(tmp_path / "pictures" / "flair.png").convert("RGB")
    assert small.size == (760, 97), "the upper half alone"
    assert small.getpixel((100, 50)) == (0, 0, 0) and small.getpixel((700, 50)) == (200, 30, 30)
    assert opened(tmp_path / "pictures" / "pet.png").size == (1, 1)


def test_too_much_for_a_readme_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(front, "BYTES", 100)
    Image.effect_noise((800, 600), 80).save(tmp_path / "what_if.png")
    with pytest.raises(NbkitError, match="0 kB together"):
        front_pictures(tmp_path, tmp_path / "pictures")


def test_the_committed_reference_renews_them_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "FILES", tmp_path)
    for profile in ("smoke", "laptop"):
        folder = tmp_path / "results" / f"{profile}-embedded"
        run = Run(folder, notebook="01_a", cohort="embedded", profile=profile, seed=7, paper="wei2019_flair")
        run.number("wei2019.table2_2a.mse.fcn", {"s0": 1.0, "s1": 2.0}, unit="z²")
        judge_folder(folder)
        (folder / "figures").mkdir()
        Image.new("RGB", (1520, 124), "red").save(folder / "figures" / "fig2_4_longer.png")
        cli.reference(profile=profile, cohort="embedded", out=tmp_path / "results", to=tmp_path / "reference")
        assert (tmp_path / "docs" / "pictures" / "flair.png").exists() == (profile == "laptop")
    assert opened(tmp_path / "docs" / "pictures" / "flair.png").size == (760, 30)
