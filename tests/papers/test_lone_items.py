"""No system at smoke settings leaves a convolution to torch's slow loop where oneDNN would be faster.

Grids are larger than those of other toys: the smaller a convolution, the less oneDNN gains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.papers.inbrainsyn.atlas_gan import AtlasGAN
from nbkit.papers.inbrainsyn.atlas_gan import Config as AtlasConfig
from nbkit.papers.brlp.brlp import BrLP
from nbkit.papers.brlp.brlp import Config as BrlpConfig
from nbkit.papers.countersynth import Config as CounterConfig
from nbkit.papers.countersynth import CounterSynth
from nbkit.papers.flair.conv_synthesis import Config as ConvConfig
from nbkit.papers.flair.conv_synthesis import ConvSynthesizer
from nbkit.papers.flair.lesion_segmenter import Config as LesionConfig
from nbkit.papers.flair.lesion_segmenter import LesionSegmenter
from nbkit.papers.mrextrap.mrextrap import Config as MrextrapConfig
from nbkit.papers.mrextrap.mrextrap import MRExtrap
from nbkit.papers.myelin.synthesis import Config as MyelinConfig
from nbkit.papers.myelin.synthesis import MyelinSynthesizer
from nbkit.papers.trajectories.regional_segmenter import Config as SegmenterConfig
from nbkit.papers.trajectories.regional_segmenter import RegionalSegmenter
from tests.flops import Convolutions

SHAPE, AFFINE = (32, 36, 32), np.diag([5.0, 5.0, 5.0, 1.0])
NAMES = {1: "hippocampus_left", 2: "white_matter", 3: "lateral_ventricle"}
CONTRASTS = ("T1w", "T2w", "FLAIR", "MTR", "FA", "RD", "AD", "DVR")


def field(*name: object) -> torch.Tensor:
    """A smooth random field (1, X, Y, Z)."""
    coarse = torch.randn(1, 1, 8, 9, 8, generator=torch_generator(5, *name))
    return F.interpolate(coarse, size=SHAPE, mode="trilinear")[0]


def visit(name: str, session: int) -> Scan:
    """Every contrast inside a ball, with masks and three bands of labels."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    brain = (sum(a**2 for a in axes) < 0.8)[None]
    lesions = brain & (field(name, "lesions") > 1)
    masks = {"brain": brain, "lesions": lesions, "nawm": brain & ~lesions, "wm": brain}
    masks["csf"] = brain & (field(name) > 1)
    images = {
        c: (2 + field(name, c) + 0.1 * session * field(name, c, "change")).clamp(0.1) * brain for c in CONTRASTS
    }
    labels = (1 + (axes[0] > -0.3).int() + (axes[0] > 0.4).int()) * brain
    return Scan(
        name, f"M{session}", 60.0 + 3 * session, {c: Volume(x.float(), AFFINE) for c, x in images.items()},
        {m: Volume(x, AFFINE) for m, x in masks.items()}, Volume(labels.to(torch.int16), AFFINE), NAMES,
    )


def person(name: str, diagnosis: str) -> Subject:
    """Three visits."""
    return Subject(name, "F", diagnosis, tuple(visit(name, session) for session in range(3)))


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    people = tuple(person(f"p{i}", "MS" if i % 2 else "HC") for i in range(4))
    return Cohort("fields", people, "embedded", {"data_hash": "fields"})


def synthesizer(make: Callable[[], object]) -> Callable[[Cohort], Iterator[Callable[[], object]]]:
    """Fit, then predict, a contrast. The model is made in the test: it asks at once what the CPU can do."""
    def steps(cohort: Cohort) -> Iterator[Callable[[], object]]:
        model, scan = make(), cohort.subjects[0].baseline
        yield lambda: model.fit(cohort)
        yield lambda: model.synthesize(scan.images, mask=scan.mask("brain"))
    return steps


def lesions(cohort: Cohort) -> Iterator[Callable[[], object]]:
    model, scan = LesionSegmenter(LesionConfig.for_profile("smoke", epochs=1)), cohort.subjects[0].baseline
    yield lambda: model.fit(cohort)
    yield lambda: model.segment(scan.image("FLAIR"), mask=scan.mask("brain"))


def regions(cohort: Cohort) -> Iterator[Callable[[], object]]:
    model, scan = RegionalSegmenter(SegmenterConfig.for_profile("smoke", steps=2)), cohort.subjects[0].baseline
    yield lambda: model.fit(cohort)
    yield lambda: model.volumes(scan.image("T1w"), mask=scan.mask("brain"))


def atlas(cohort: Cohort) -> Iterator[Callable[[], object]]:
    model = AtlasGAN(AtlasConfig.for_profile("smoke", epochs=1, steps_per_epoch=2))
    yield lambda: model.fit([scan for subject in cohort for scan in subject.scans])
    yield lambda: model.template(61.0)


def warped(cohort: Cohort) -> Iterator[Callable[[], object]]:
    model = CounterSynth(CounterConfig.for_profile("smoke", epochs=1, steps_per_epoch=2))
    yield lambda: model.fit(cohort)
    yield lambda: model.predict(cohort.subjects[0].scans, [66.0], "HC")


def latents(cohort: Cohort) -> Iterator[Callable[[], object]]:
    healthy = Cohort("fields", tuple(replace(s, diagnosis="CN") for s in cohort), "embedded", cohort.provenance)
    settings = {"epochs": 2, "adversarial_from": 1, "scans_per_epoch": 4, "perceptual": "random"}
    model = MRExtrap(MrextrapConfig.for_profile("smoke", **settings))
    yield lambda: model.fit(healthy)
    yield lambda: model.predict(healthy.subjects[0].scans, [66.0], "CN")
    brlp = BrLP(BrlpConfig.for_profile("smoke", regions=("hippocampus", "white_matter"), diffusion_steps=2,
                                       control_steps=2, samples=1), space=model.space)
    yield lambda: brlp.fit(healthy)
    yield lambda: brlp.predict(healthy.subjects[0].scans, [66.0], "CN")


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    """bfloat16, where a CPU has it, is convolved by oneDNN in any case."""
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, probe, lambda: False, raising=False)


FLAIR = {"inputs": ("T1w", "T2w"), "epochs": 1, "device": "cpu"}
SYSTEMS = {
    **{name: synthesizer(lambda name=name: ConvSynthesizer(ConvConfig.for_profile("smoke", network=name, **FLAIR)))
       for name in ("fcn", "unet")},
    **{name: synthesizer(lambda name=name: MyelinSynthesizer(MyelinConfig.named(name, "smoke", epochs=1, device="cpu")))
       for name in ("dnn", "cgan", "sagan_a")},
    "lesion segmenter": lesions, "regional segmenter": regions, "Atlas-GAN": atlas, "CounterSynth": warped,
    "MRExtrap and BrLP": latents,
}


@pytest.mark.slow
@pytest.mark.parametrize("steps", SYSTEMS.values(), ids=SYSTEMS)
def test_nothing_of_weight_is_left_to_the_loop(steps, cohort):
    for act in steps(cohort):
        with Convolutions() as seen:
            act()
        assert seen.all > 0
        assert seen.large == []
        assert seen.share_left() < 0.1
