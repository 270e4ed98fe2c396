"""Registration beside ANTs and greedy, on affinely aligned, skull-stripped pairs of real brains at 2 mm.

Reads the scans (IXI, CC BY-SA 3.0) from NBKIT_MIRROR. The peers' deformable stages
start from the same aligned pair, at the identity.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from nbkit.core.volume import Volume, bounding_box
from nbkit.data.nifti import read_image, read_labels, save_image, save_labels
from nbkit.geometry.affine import align, apply_affine
from nbkit.geometry.flow import jacobian_determinant
from nbkit.geometry.registration import register
from nbkit.geometry.warp import warp
from nbkit.metrics.overlap import dice_per_label

MIRROR = os.environ.get("NBKIT_MIRROR")
if not MIRROR:
    pytest.skip("needs real brains: set NBKIT_MIRROR to a folder that holds nichart_ixi", allow_module_level=True)
ants = pytest.importorskip("ants", reason="the peer is not installed: pip install antspyx")
picsl_greedy = pytest.importorskip("picsl_greedy", reason="the peer is not installed: pip install picsl-greedy")

IXI = Path(MIRROR) / "nichart_ixi" / "sample_datasets" / "demo_dataset_IXI"
PAIRS = [("IXI132-HH-1415", "IXI174-HH-1571"), ("IXI211-HH-1568", "IXI213-HH-1642")]
PEERS = {
    "SyN": {"type_of_transform": "SyNOnly"},
    "SyN CC": {"type_of_transform": "SyNOnly", "syn_metric": "CC", "syn_sampling": 4, "reg_iterations": (40, 20, 10)},
}
"""Mutual information that stops at half resolution, as by default; cross-correlation in a radius of 4 with the default
iterations to full resolution. (The recipe "SyNCC", up to 2100 iterations a level, took 4 to 6 minutes a pair.)
"""

GREEDY = {"NCC, coarse to half": "100x50x10", "NCC, to full resolution": "100x100x50"}
"""Iterations by level of greedy's diffeomorphic registration with cross-correlation in a radius of 2."""


@dataclass(frozen=True)
class Pair:
    """Two brains on the grid of the first, the second affinely aligned, with their label maps."""

    fixed: Volume
    moving: Volume
    fixed_labels: Volume
    moving_labels: Volume

    def dice(self, moved_labels: torch.Tensor) -> float:
        """Mean Dice over all structures that either brain has."""
        codes = {int(c): str(int(c)) for v in (self.fixed_labels, self.moving_labels) for c in v.data.unique() if c}
        scores = dice_per_label(moved_labels, self.fixed_labels.data[None], codes)
        return float(torch.cat(list(scores.values())).nanmean())


def brain(name: str) -> tuple[Volume, Volume]:
    """One scan without its head, and its labels, cropped to the brain."""
    image = read_image(IXI / "t1" / f"{name}_T1.nii.gz")
    labels = read_labels(IXI / "dlmuse" / f"{name}_T1_DLMUSE.nii.gz")
    box = bounding_box(labels.data[0] > 0, margin=5)
    return image.with_data(image.data * (labels.data > 0)).crop(box), labels.crop(box)


def aligned(names: tuple[str, str]) -> Pair:
    (fixed, fixed_labels), (moving, moving_labels) = map(brain, names)
    matrix = align(moving, fixed)
    return Pair(
        fixed, apply_affine(moving, matrix, like=fixed), fixed_labels,
        apply_affine(moving_labels, matrix, like=fixed, mode="nearest"),
    )


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [aligned(names) for names in PAIRS]


def ours(pair: Pair) -> torch.Tensor:
    """Displacement (1, 3, X, Y, Z) in mm."""
    return register(pair.moving.data[None], pair.fixed.data[None], affine=pair.fixed.affine).displacement


def by_ants(settings: dict, folder: Path) -> Callable[[Pair], dict]:
    """A registration of ANTs; writing and reading its inputs is not timed (see :func:`timed`)."""

    def run(pair: Pair) -> dict:
        fixed, moving = (
            ants.image_read(str(save_image(folder / f"{name}.nii.gz", volume)))
            for name, volume in (("fixed", pair.fixed), ("moving", pair.moving))
        )
        start = time.perf_counter()
        made = ants.registration(fixed, moving, random_seed=0, **settings)
        return {**made, "seconds": time.perf_counter() - start, "fixed": fixed}

    return run


def by_greedy(iterations: str, pair: Pair, folder: Path) -> tuple[float, float]:
    """(seconds, Dice) of greedy; writing its inputs and moving the labels is not timed."""
    names = ("fixed", "moving", "labels", "moved", "warp")
    fixed, moving, labels, moved, field = (folder / f"greedy_{name}.nii.gz" for name in names)
    for place, volume in ((fixed, pair.fixed), (moving, pair.moving)):
        save_image(place, volume)
    save_labels(labels, pair.moving_labels)
    greedy, threads = picsl_greedy.Greedy3D(), f"-threads {torch.get_num_threads()}"
    start = time.perf_counter()
    greedy.execute(f"-d 3 -i {fixed} {moving} -m NCC 2x2x2 -n {iterations} -o {field} {threads}")
    seconds = time.perf_counter() - start
    greedy.execute(f"-d 3 -rf {fixed} -ri NN -rm {labels} {moved} -r {field} {threads}")
    return seconds, pair.dice(read_labels(moved).data[None])


def dice_of_ants(made: dict, pair: Pair) -> float:
    labels = made["fixed"].new_image_like(pair.moving_labels.numpy().astype(np.float32))
    moved = ants.apply_transforms(made["fixed"], labels, made["fwdtransforms"], interpolator="nearestNeighbor")
    return pair.dice(torch.from_numpy(moved.numpy()).round().int()[None, None])


def measure(pair: Pair, folder: Path) -> dict[str, tuple[float, float]]:
    """(seconds, Dice) by contender on one pair; ours must not fold."""
    start = time.perf_counter()
    field = ours(pair)
    seconds = time.perf_counter() - start
    assert float(jacobian_determinant(field, affine=pair.fixed.affine).min()) > 0
    moved = warp(pair.moving_labels.data[None].float(), field, affine=pair.fixed.affine, mode="nearest")
    scores = {
        "affine": (0.0, pair.dice(pair.moving_labels.data[None])),
        "nbkit": (seconds, pair.dice(moved.round().int())),
    }
    for name, settings in PEERS.items():
        made = by_ants(settings, folder)(pair)
        scores[f"ANTs {name}"] = (made["seconds"], dice_of_ants(made, pair))
    scores |= {f"greedy {name}": by_greedy(iterations, pair, folder) for name, iterations in GREEDY.items()}
    return scores


def test_at_least_as_good_as_syn_with_cross_correlation(pairs, tmp_path, capsys):
    ours(pairs[0])  # the first run of a process also pays for starting up
    rows = [measure(pair, tmp_path) for pair in pairs]
    mean = {who: tuple(np.mean([row[who] for row in rows], axis=0)) for who in rows[0]}
    with capsys.disabled():
        for who, (seconds, dice) in mean.items():
            beside = f"  nbkit / {who} = {mean['nbkit'][0] / seconds:.2f}" if who not in ("affine", "nbkit") else ""
            print(f"\n{len(rows)} IXI pairs at 2 mm  {who:<30} {seconds:7.2f} s  Dice {dice:.3f}{beside}", end="")
    assert mean["nbkit"][1] >= mean["ANTs SyN CC"][1]
