"""Every learned system, killed while it trains and started again, ends with the weights and curves of one piece."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nbkit.core.protocols import Cohort
from nbkit.papers.brlp.brlp import BrLP
from nbkit.papers.countersynth import CounterSynth
from nbkit.papers.countersynth import Config as CounterConfig
from nbkit.papers.daninet.config import Config as DaniConfig
from nbkit.papers.daninet.daninet import DaniNet
from nbkit.papers.flair.conv_synthesis import Config as ConvConfig
from nbkit.papers.flair.conv_synthesis import ConvSynthesizer
from nbkit.papers.inbrainsyn.atlas_gan import AtlasGAN
from nbkit.papers.inbrainsyn.atlas_gan import Config as AtlasConfig
from nbkit.papers.mrextrap.mrextrap import Config as MRConfig
from nbkit.papers.mrextrap.mrextrap import MRExtrap
from nbkit.papers.myelin.synthesis import Config as MyelinConfig
from nbkit.papers.myelin.synthesis import MyelinSynthesizer
from nbkit.papers.pet_dcgan.pet_dcgan import PetDCGAN
from nbkit.papers.trajectories.regional_segmenter import Config as SegmenterConfig
from nbkit.papers.trajectories.regional_segmenter import RegionalSegmenter
from nbkit.training.resume import resumable
from nbkit.training.steps import AdversarialStep, PlainStep
from tests.papers.brlp import test_brlp as brlp
from tests.papers.countersynth import test_countersynth as countersynth
from tests.papers.daninet import test_daninet as daninet
from tests.papers.flair import test_conv_synthesis as flair
from tests.papers.inbrainsyn import test_atlas_gan as atlas
from tests.papers.mrextrap import test_mrextrap as mrextrap
from tests.papers.myelin import test_experiments as myelin
from tests.papers.pet_dcgan import test_pet_dcgan as pet
from tests.papers.trajectories import ageing_balls
from tests.papers.trajectories import test_regional_segmenter as segmenter


pytestmark = pytest.mark.slow


class Killed(Exception):
    """Stands for a kill."""


def balls(module: Any) -> Cohort:
    people = [module.subject(f"{d}{k}", d) for d in ("CN", "AD") for k in range(3)]
    return Cohort("few", tuple(people), "embedded", {"data_hash": "few"})


def toy() -> Cohort:
    names = [f"sub-{i}" for i in range(5)]
    people = (flair.Subject(n, None, "MS", (flair.scan(n),)) for n in names)
    return Cohort("toy", tuple(people), "embedded", {"data_hash": "toy"})


SYSTEMS: dict[str, Callable[[], Any]] = {
    "MRExtrap": lambda: MRExtrap(
        MRConfig(**mrextrap.SMALL | {"epochs": 6, "adversarial_from": 3, "scans_per_epoch": 1})
    ).fit(balls(mrextrap)),
    "BrLP": lambda: BrLP(brlp.TINY.changed(diffusion_steps=3, control_steps=3), space=brlp.new_space()).fit(
        ageing_balls.cohort(ageing_balls.people(2, "HC", seed=1) + ageing_balls.people(2, "AD", seed=2))
    ),
    "CounterSynth": lambda: CounterSynth(
        CounterConfig(**countersynth.SHORT | {"epochs": 6, "steps_per_epoch": 1})
    ).fit(ageing_balls.cohort(countersynth.balls(4))),
    "Atlas-GAN": lambda: AtlasGAN(
        AtlasConfig(**atlas.SHORT | {"epochs": 6, "steps_per_epoch": 1})
    ).fit(atlas.group(3)),
    "DaniNet": lambda: DaniNet(DaniConfig.for_profile("smoke", **daninet.SMALL)).fit(balls(daninet)),
    "FCN": lambda: ConvSynthesizer(
        ConvConfig(**flair.SMALL | {"epochs": 6, "strip": 2, "validation_fraction": 0.4})
    ).fit(toy()),
    "segmenter": lambda: RegionalSegmenter(
        SegmenterConfig.for_profile("smoke", steps=6, device="cpu")
    ).fit(segmenter._cohort(["a"])),
    "Refiner CF-SAGAN": lambda: MyelinSynthesizer(
        MyelinConfig.named("sagan_refiner", "smoke", **myelin.FAST)
    ).fit(myelin.toy_cohort(3)),
    "DCGAN": lambda: PetDCGAN(pet.tiny(averaged=0.9, epochs=3)).fit(pet.head_slices(4)),
}


def saved(model: Any, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    model.save(folder)
    return load_file(folder / "weights.safetensors"), json.loads((folder / "model.json").read_text())


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_killed_fit_goes_on_to_the_same_weights(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache of the whole"))
    torch.set_num_threads(1)
    fit, steps = SYSTEMS[name], []
    for kind in (PlainStep, AdversarialStep):
        real = kind.__call__
        monkeypatch.setattr(kind, "__call__", lambda self, batch, real=real: steps.append(0) or real(self, batch))
    whole = saved(fit(), tmp_path / "whole")
    every = len(steps)
    assert every >= 3

    def dying(at: int) -> None:
        steps.clear()
        with monkeypatch.context() as patch:
            for kind in (PlainStep, AdversarialStep):
                real = kind.__call__

                def call(self, batch, real=real):
                    if len(steps) >= at:
                        raise Killed
                    return real(self, batch)

                patch.setattr(kind, "__call__", call)
            with pytest.raises(Killed), resumable(tmp_path / "run", every_s=0):
                fit()

    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache"))
    dying(every // 2)
    steps.clear()
    with resumable(tmp_path / "run", every_s=0):
        again = saved(fit(), tmp_path / "again")
    assert 0 < len(steps) < every, "it started again from nothing, or took no step"
    assert again[1] == whole[1]
    for key, value in whole[0].items():
        assert torch.equal(again[0][key], value), key
