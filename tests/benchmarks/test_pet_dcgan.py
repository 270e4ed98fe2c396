"""What three stages cost beside one, by networks in one pass or side by side on threads, at the laptop Config."""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from nbkit.core.seeds import torch_generator
from nbkit.data.pet_slices import STAGES, Slices
from nbkit.papers.pet_dcgan.pet_dcgan import Config, PetDCGAN

STEPS, TURNS, PEOPLE = 6, 5, 16


def table(stages: tuple[str, ...]) -> Slices:
    size = Config.for_profile("laptop").size
    count = PEOPLE * len(stages)
    images = torch.rand(count, 1, size, size, generator=torch_generator(1)) * 2 - 1
    people = tuple(f"{stage}{i}" for stage in stages for i in range(PEOPLE))
    return Slices(images, people, tuple(s for s in stages for _ in range(PEOPLE)), ("axial",) * count, (0.0,) * count)


def seconds(stages: tuple[str, ...], grouped: bool) -> float:
    config = Config.for_profile("laptop", epochs=STEPS, snapshots=2, device="cpu", grouped=grouped)
    start = time.perf_counter()
    PetDCGAN(config).fit(table(stages))
    return time.perf_counter() - start


def test_three_stages_cost_no_more_than_three_times_one(capsys):
    """One alone has one thread, and so has each of three: with three cores three cost what one does, with two twice
    that. In one pass they share a thread."""
    acts = {"one alone": (STAGES[:1], False), "side by side": (STAGES, False), "in one pass": (STAGES, True)}
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(TURNS + 1):
        for name, act in acts.items():
            taken[name].append(seconds(*act))
    found = {name: statistics.median(values[1:]) for name, values in taken.items()}
    with capsys.disabled():
        text = ", ".join(f"{name} {value * 1e3 / STEPS:.0f} ms" for name, value in found.items())
        ratios = ", ".join(f"{name} / one alone = {found[name] / found['one alone']:.2f}" for name in list(found)[1:])
        print(f"\nDCGAN step of three stages, {torch.get_num_threads()} threads: {text}; {ratios}", end="")
    assert found["side by side"] <= 3.3 * found["one alone"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_three_stages_in_one_pass_on_a_gpu_cost_little_more_than_one(capsys):
    """The published sizes; what was asked for, and not yet measured on any GPU."""
    taken: dict[int, list[float]] = {1: [], 3: []}
    for _ in range(TURNS + 1):
        for count in taken:
            stages = STAGES[:count]
            size, people = 128, tuple(f"{stage}{i}" for stage in stages for i in range(PEOPLE))
            images = torch.rand(len(people), 1, size, size, generator=torch_generator(1)) * 2 - 1
            labels = (tuple(s for s in stages for _ in range(PEOPLE)), ("axial",) * len(people), (0.0,) * len(people))
            model = PetDCGAN(Config(epochs=1, batches_per_epoch=4 * STEPS, snapshots=2, device="cuda", grouped=True))
            start = time.perf_counter()
            model.fit(Slices(images, people, *labels))
            torch.cuda.synchronize()
            taken[count].append(time.perf_counter() - start)
    ratio = statistics.median(taken[3][1:]) / statistics.median(taken[1][1:])
    with capsys.disabled():
        print(f"\nDCGAN at the published sizes on a GPU: three stages in one pass / one alone = {ratio:.2f}", end="")
    assert ratio <= 1.2
