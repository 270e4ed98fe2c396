"""Generators beside each other: what differs in one thing, what it costs, what last weights draw."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.core.tidy import where
from nbkit.papers.pet_dcgan.experiments import as_printed, feature_scores, over_stages, quality
from nbkit.papers.pet_dcgan.generator_experiments import (
    CHAIN, TITLES, by_generator, cost, drawn_by, generators, open_points, qualities,
)
from nbkit.papers.pet_dcgan.pet_dcgan import PetDCGAN
from nbkit.papers.pet_dcgan.settings import Config
from tests.papers.pet_dcgan.pet_heads import head_slices, head_volumes
from tests.papers.pet_dcgan.test_experiments import HELD, TRAIN, drawn


def test_generators_are_compared_by_means_over_stages():
    kinds = {"separate": "new", "told": "copies", "averaged": "new", "conditional": "swapped"}
    made = {name: drawn(kind) for name, kind in kinds.items()}
    scored = qualities(made, HELD, judged="separate")
    compared = generators(made, {name: (TRAIN, HELD) for name in made}, scored=scored)
    alone = generators({"told": made["told"]}, {"told": (TRAIN, HELD)})
    assert alone.equals(where(compared, system="told").reset_index(drop=True)), "scored before, or now"
    scores = feature_scores(made["separate"], train=TRAIN, held_out=HELD)
    table = compared.set_index(["metric", "system"])["value"]
    frechet = where(scores, metric="frechet", system="generated")["value"].mean()
    assert table["frechet", "separate"] == pytest.approx(frechet)
    assert table["psnr", "separate"] > table["psnr", "conditional"]
    everyone = over_stages(quality(made["separate"], HELD))
    assert table["ssim", "separate"] == pytest.approx(where(everyone, id="islam2020.text.ssim")["value"].mean())
    rows = by_generator(compared)
    assert list(rows.index) == [TITLES[name] for name in kinds]
    assert rows.loc[TITLES["told"], "psnr"] == table["psnr", "told"]
    printed = as_printed(everyone, {"islam2020.text.psnr": 32.83, "islam2020.text.ssim": 0.7748})
    assert printed.loc["psnr", ("published", "")] == 32.83
    assert printed.loc["ssim", ("random", "generated")] == pytest.approx(table["ssim", "separate"])
    found = open_points(scored, compared, judged="separate")
    moved = found.set_index(["left open", "one choice"])["other − one"]
    by = where(everyone, metric="psnr").groupby(["setting", "system"])["value"].mean()
    for metric, left in (("psnr", "Generator, PSNR"), ("frechet", "Generator, Fréchet distance")):
        for one, other in CHAIN:
            assert moved[left, TITLES[one]] == pytest.approx(table[metric, other] - table[metric, one])
    assert moved["Which real image, PSNR"].item() == pytest.approx(
        by["nearest", "generated"] - by["random", "generated"])
    assert moved["What it is compared with, PSNR"].item() == pytest.approx(
        by["random", "real"] - by["random", "generated"])
    assert (found["low"] <= found["high"]).sum() == 10 and found["low"].isna().sum() == 3


def test_what_last_weights_draw_stands_beside_what_averaged_ones_do():
    config = Config.for_profile("smoke", size=16, widths=(8, 8), critic_widths=(8, 8), epochs=4, averaged=0.9)
    table = head_slices(4, stages=("CN", "AD"))
    models = {"averaged": PetDCGAN(config).fit(table), "volume": PetDCGAN(Config.volumetric("smoke"))}
    other = replace(table, subject=tuple(f"new {s}" for s in table.subject))
    found = drawn_by(models, other, seed=1)
    assert set(found) == {"averaged", "told"} and not torch.allclose(found["told"].images, found["averaged"].images)


def test_cost_is_that_of_all_stages_of_the_slowest_and_of_the_other_kinds():
    config = Config.for_profile("smoke", size=16, widths=(8, 8), critic_widths=(8, 8))
    table = head_slices(4)
    cubic = Config.volumetric("smoke"), head_volumes(4)
    jobs = {"averaged": (config, table), "conditional": (config.changed(kind="conditional"), table), "volume": cubic}
    found = cost(jobs, judged="averaged", repeats=2)
    assert set(found["id"]) == {f"islam2020.seconds.{k}" for k in ("separate", "slowest", "conditional", "volume")}
    assert set(found["subject"]) == {"repeat 1", "repeat 2"} and len(found) == 8 and (found["value"] > 0).all()
