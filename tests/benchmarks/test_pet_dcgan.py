"""What three stages cost beside one, by networks in one pass or side by side on threads, at the laptop Config."""

from __future__ import annotations

import pytest
import torch

from nbkit.core.seeds import torch_generator
from nbkit.data.pet_slices import STAGES, Slices
from nbkit.papers.pet_dcgan.pet_dcgan import Config, PetDCGAN

STEPS, PEOPLE = 6, 16


def table(stages: tuple[str, ...], size: int = Config.for_profile("laptop").size) -> Slices:
    count = PEOPLE * len(stages)
    images = torch.rand(count, 1, size, size, generator=torch_generator(1)) * 2 - 1
    people = tuple(f"{stage}{i}" for stage in stages for i in range(PEOPLE))
    return Slices(images, people, tuple(s for s in stages for _ in range(PEOPLE)), ("axial",) * count, (0.0,) * count)


ACTS = {"nbkit side by side": (STAGES, False), "nbkit in one pass": (STAGES, True), "one alone": (STAGES[:1], False)}


@pytest.mark.benchmark(group="DCGAN, three stages beside one")
@pytest.mark.parametrize("who", list(ACTS))
def test_three_stages(benchmark, who):
    """One alone has one thread, and so has each of three; in one pass they share a thread."""
    stages, grouped = ACTS[who]
    config = Config.for_profile("laptop", epochs=STEPS, snapshots=2, device="cpu", grouped=grouped)
    benchmark.pedantic(lambda: PetDCGAN(config).fit(table(stages)), rounds=5, warmup_rounds=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.benchmark(group="DCGAN of the published sizes on a GPU, in one pass")
@pytest.mark.parametrize("who", ["nbkit three stages", "one alone"])
def test_three_stages_in_one_pass_on_a_gpu(benchmark, who):
    config = Config(epochs=1, batches_per_epoch=4 * STEPS, snapshots=2, device="cuda", grouped=True)
    slices = table(STAGES if who.startswith("nbkit") else STAGES[:1], size=config.size)

    def act() -> None:
        PetDCGAN(config).fit(slices)
        torch.cuda.synchronize()

    benchmark.pedantic(act, rounds=5, warmup_rounds=1)
