"""Every learned system at toy size, fitted, saved, loaded and asked on the pretended device."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.papers.brlp.brlp import BrLP
from nbkit.papers.countersynth import Config as CounterConfig
from nbkit.papers.countersynth import CounterSynth
from nbkit.papers.daninet.config import Config as DaniConfig
from nbkit.papers.daninet.daninet import DaniNet
from nbkit.papers.daninet.daninet3d import Config3D, DaniNet3D
from nbkit.papers.flair.conv_synthesis import Config as ConvConfig
from nbkit.papers.flair.conv_synthesis import ConvSynthesizer
from nbkit.papers.flair.lesion_segmenter import LesionSegmenter
from nbkit.papers.flair.modality_propagation import Config as PropagationConfig
from nbkit.papers.flair.modality_propagation import ModalityPropagation
from nbkit.papers.flair.saliency import p3s_maps
from nbkit.papers.inbrainsyn.atlas_gan import AtlasGAN
from nbkit.papers.inbrainsyn.atlas_gan import Config as AtlasConfig
from nbkit.papers.inbrainsyn.inbrainsyn import Config as CarrierConfig
from nbkit.papers.inbrainsyn.inbrainsyn import InBrainSyn, Transition
from nbkit.papers.inbrainsyn.kernel_template import Config as KernelConfig
from nbkit.papers.inbrainsyn.kernel_template import KernelTemplate
from nbkit.papers.mrextrap.metrics import explained_by_latents
from nbkit.papers.mrextrap.mrextrap import Config as MRConfig
from nbkit.papers.mrextrap.mrextrap import MRExtrap
from nbkit.papers.myelin.experiments import attention_saliency
from nbkit.papers.myelin.synthesis import Config as MyelinConfig
from nbkit.papers.myelin.synthesis import MyelinSynthesizer
from nbkit.papers.pet_dcgan.pet_dcgan import PetDCGAN
from nbkit.papers.trajectories.regional_segmenter import Config as SegmenterConfig
from nbkit.papers.trajectories.regional_segmenter import RegionalSegmenter, own_error
from nbkit.papers.trajectories.scan_segmenter import ScanSegmenter
from nbkit.training.steps import AdversarialStep, PlainStep
from tests.gpu.device import GPU, Traffic, pretended_gpu
from tests.papers.brlp import test_brlp as brlp
from tests.papers.countersynth import test_countersynth as countersynth
from tests.papers.daninet import test_daninet as daninet
from tests.papers.daninet import test_daninet3d as daninet3d
from tests.papers.flair import test_conv_synthesis as flair
from tests.papers.flair import test_lesion_segmenter as lesions
from tests.papers.inbrainsyn import test_atlas_gan as atlas
from tests.papers.mrextrap import test_mrextrap as mrextrap
from tests.papers.myelin import test_experiments as myelin
from tests.papers.pet_dcgan import test_pet_dcgan as pet
from tests.papers.trajectories import ageing_balls
from tests.papers.trajectories import test_regional_segmenter as segmenter
from tests.papers.trajectories import test_scan_segmenter as scans

ON_GPU = {"device": "cuda", "half": True}
CARRIER = {"levels_mm": (8.0,), "iterations": (2,), "velocity_mm": 8.0, "device": "cuda"}


Ask = Callable[[Any], Any]


@dataclass
class Case:
    """How a system is fitted, what is asked of it, and how it is read back."""

    fit: Callable[[], Any]
    asks: Sequence[Ask]
    load: Callable[[type, Path], Any] = lambda kind, path: kind.load(path)


@dataclass
class Seen:
    """Traffic of every training step, and of everything, by source line."""

    steps: list[tuple[int, Traffic]] = field(default_factory=list)
    """How many updates a training step made, and what it cost."""
    all: Traffic = field(default_factory=Traffic)


def check(name: str, folder: Path) -> Seen:
    """Fit, save, and ask each question of the model as it is and as it is read back; what CUDA would refuse raises."""
    # trained anew, whatever is kept
    os.environ["NBKIT_CACHE"] = str(folder / "cache")
    torch.set_num_threads(1)
    seen = Seen()
    with pretended_gpu() as traffic, _watched(traffic, seen):
        case, begun = CASES[name](), traffic.copy()
        model = case.fit()
        assert seen.steps or name in UNTRAINED, "no training step was taken"
        model.save(folder / "model")
        for ask in case.asks:
            ask(model)
            ask(case.load(type(model), folder / "model"))
        seen.all = traffic.since(begun)
    return seen


@contextmanager
def _watched(traffic: Traffic, seen: Seen) -> Iterator[None]:
    """Note every training step."""
    with ExitStack() as stack:
        for kind in (PlainStep, AdversarialStep):
            stack.enter_context(mock.patch.object(kind, "__call__", _noting(kind.__call__, traffic, seen)))
        yield


def _noting(act: Callable, traffic: Traffic, seen: Seen) -> Callable:
    def call(self: Any, batch: Any) -> dict[str, float]:
        before = traffic.copy()
        made = act(self, batch)
        seen.steps.append((getattr(self, "critic_steps", 0) + 1, traffic.since(before)))
        return made

    return call


def _few(subject: Callable[[str, str], Subject]) -> Cohort:
    people = [subject(f"{d}{k}", d) for d in ("CN", "AD") for k in range(2)]
    return Cohort("few", tuple(people), "embedded", {"data_hash": "few"})


def _toy() -> Cohort:
    people = tuple(flair.Subject(n, None, "MS", (flair.scan(n),)) for n in ("a", "b", "c"))
    return Cohort("toy", people, "embedded", {"data_hash": "toy"})


def _balls() -> Cohort:
    return ageing_balls.cohort(ageing_balls.people(2, "HC", seed=1) + ageing_balls.people(2, "AD", seed=2))


def _synthesises(scan: Callable[[], Scan]) -> Ask:
    def ask(model: Any) -> None:
        made = model.synthesize(scan().images, mask=scan().mask("brain"))
        assert made.data.device.type == "cpu" and made.data.isfinite().all()

    return ask


def _predicts(history: Callable[[], Sequence[Scan]], ages: Sequence[float] = (70.0, 75.0), told: str = "CN") -> Ask:
    def ask(model: Any) -> None:
        for made in model.predict(history(), list(ages), told):
            assert made.data.device.type == "cpu" and made.data.isfinite().all()

    return ask


def _draws(history: Callable[[], Sequence[Scan]]) -> Ask:
    return lambda model: model.predict_with_uncertainty(history(), [75.0], "CN", draws=2)


def _reads(scan: Callable[[], Scan]) -> tuple[Ask, Ask]:
    return (lambda model: model.segment(scan().image("T1w"), mask=scan().mask("brain")),
            lambda model: model.volumes(scan().image("T1w"), mask=scan().mask("brain")))


def _conv(network: str) -> Case:
    config = ConvConfig(**flair.SMALL | {"network": network, "epochs": 1, "crops_per_epoch": 4} | ON_GPU)
    asks = (_synthesises(lambda: flair.scan("a")), lambda model: p3s_maps(model, flair.scan("a")))
    return Case(lambda: ConvSynthesizer(config).fit(_toy()), asks)


def _propagation() -> Case:
    config = PropagationConfig.for_profile("smoke", database=200, inputs=("T1w", "T2w"), device="cuda")
    return Case(lambda: ModalityPropagation(config).fit(_toy()), (_synthesises(lambda: flair.scan("a")),))


def _lesions() -> Case:
    people = Cohort("toy", tuple(map(lesions.subject, ("s0", "s1"))), "embedded", {"data_hash": "x"})
    scan = people.subjects[0].baseline
    return Case(
        lambda: LesionSegmenter(lesions.TINY.changed(epochs=1, device="cuda")).fit(people),
        (lambda model: model.segment(scan.image("FLAIR"), mask=scan.mask("brain")),),
    )


def _myelin(name: str) -> Case:
    changes = {"epochs": 1, "crops_per_epoch": 2, "validate_every": 1, **ON_GPU}
    config, people = MyelinConfig.named(name, "smoke", **myelin.FAST | changes), myelin.toy_cohort(3)
    scan = people.subjects[0].baseline
    return Case(
        lambda: MyelinSynthesizer(config).fit(people.subset(people.ids[:2]), validation=people.subset(people.ids[2:])),
        (_synthesises(lambda: scan), lambda model: attention_saliency(model, scan)),
    )


def _daninet(variant: str) -> Case:
    config = DaniConfig.variant(variant, "smoke", **daninet.SMALL | {"epochs": 2, "transfer_steps": 2} | ON_GPU)
    return Case(
        lambda: DaniNet(config).fit(_few(daninet.subject)), (_predicts(lambda: daninet.subject("new", "AD").scans[:1]),)
    )


def _daninet3d() -> Case:
    config = Config3D.for_profile("smoke", **daninet3d.SMALL | {"epochs": 1, "transfer_steps": 2} | ON_GPU)
    return Case(
        lambda: DaniNet3D(config).fit(_few(daninet3d.person)),
        (_predicts(lambda: daninet3d.person("new", "AD").scans[:1]),),
    )


def _mrextrap() -> Case:
    config = MRConfig(**mrextrap.SMALL | {"epochs": 2, "adversarial_from": 1, "scans_per_epoch": 2} | ON_GPU)
    history = mrextrap.subject("CN0", "CN").scans

    def all_lines(model: MRExtrap) -> None:
        for estimator in ("ols", "bayes", "population"):
            _predicts(lambda: history)(model.estimating(estimator))

    asks = (all_lines, _draws(lambda: history), lambda model: explained_by_latents(model, history[0]))
    return Case(lambda: MRExtrap(config).fit(_few(mrextrap.subject)), asks)


def _brlp() -> Case:
    history = ageing_balls.people(1, "HC", seed=3)[0].scans
    config = brlp.TINY.changed(diffusion_steps=1, control_steps=1, samples=2, **ON_GPU)

    def fit() -> BrLP:
        space = brlp.new_space()
        space.net.to(GPU)
        return BrLP(config, space=space).fit(_balls())

    return Case(fit, (_predicts(lambda: history, [75.0]), _draws(lambda: history)))


def _carrier(variant: str) -> Case:
    kernel = KernelConfig.for_profile("smoke", variant=variant, mean_persons=2, **CARRIER)
    scan = ageing_balls.people(1, "HC", seed=3)[0].baseline

    def fit() -> InBrainSyn:
        templates = {group: KernelTemplate(kernel) for group in ("HC", "AD")}
        align = "similarity" if variant == "intensity" else "none"
        config = CarrierConfig.for_profile("smoke", change_step=0.1, align=align, **CARRIER)
        return InBrainSyn(config, templates=templates).fit(_balls())

    def everything(model: InBrainSyn) -> None:
        futures = model.futures(scan, [62.0, 66.0], "CN")
        for what in (futures.images, futures.labels, futures.masks, futures.growth, futures.volumes):
            what()
        model.variant(transport="direct").futures(scan, [66.0], "AD").images()
        model.futures(scan, [66.0], Transition(64.0)).images()
        model.way(scan)

    return Case(fit, (everything,), lambda kind, path: kind.load(path, template_types=[KernelTemplate]))


def _segmenter() -> Case:
    config = SegmenterConfig.for_profile("smoke", steps=2, device="cuda")
    people = segmenter._cohort(["a"])
    asks = (*_reads(lambda: people.subjects[0].baseline), lambda model: own_error(model, people))
    return Case(lambda: RegionalSegmenter(config).fit(people), asks)


def _pet(**changes: Any) -> Case:
    config = pet.tiny(epochs=2, device="cuda", **changes)
    return Case(lambda: PetDCGAN(config).fit(pet.head_slices(4)), (lambda model: model.sample(2, "CN", 1),))


def _countersynth() -> Case:
    fit = CounterSynth(CounterConfig(**countersynth.SHORT | ON_GPU)).fit
    people = ageing_balls.cohort(countersynth.balls(4))
    return Case(lambda: fit(people), (_predicts(lambda: people.subjects[0].scans),))


def _atlas() -> Case:
    fit = AtlasGAN(AtlasConfig(**atlas.SHORT | {"steps_per_epoch": 2} | ON_GPU)).fit
    return Case(lambda: fit(atlas.group(3)), (lambda model: model.template(70.0),))


def _scan_segmenter() -> Case:
    fit = ScanSegmenter(scans.SMALL.changed(steps=2, device="cuda")).fit
    return Case(lambda: fit(scans.heads("ab")), _reads(lambda: scans.head("e")))


CASES: dict[str, Callable[[], Case]] = {
    **{f"FLAIR {network}": partial(_conv, network) for network in ("fcn", "unet", "mlp")},
    "lesion segmenter": _lesions,
    "modality propagation": _propagation,
    **{f"myelin {name}": partial(_myelin, name) for name in ("dnn", "refiner", "sagan_refiner")},
    **{f"DaniNet {variant}": partial(_daninet, variant) for variant in ("P-C-T", "[9]")},
    "DaniNet, 3D": _daninet3d,
    "MRExtrap": _mrextrap,
    "BrLP": _brlp,
    "CounterSynth": _countersynth,
    "Atlas-GAN": _atlas,
    **{f"InBrainSyn, {variant}": partial(_carrier, variant) for variant in ("longitudinal", "intensity")},
    "segmenter": _segmenter,
    "segmenter of scans": _scan_segmenter,
    "DCGAN": partial(_pet, averaged=0.9),
    "DCGAN, conditional": partial(_pet, kind="conditional"),
}
UNTRAINED = ("modality propagation", "InBrainSyn, longitudinal", "InBrainSyn, intensity")
"""Those that no training step of ours fits."""

