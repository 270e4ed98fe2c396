"""CounterSynth's networks: fields in millimetres, nothing folds, sizes as published."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import torch_generator
from nbkit.geometry.flow import expv
from nbkit.metrics.deformation import folding_fraction
from nbkit.papers.countersynth.countersynth import Config
from nbkit.papers.countersynth.networks import (
    DiffeoGenerator, Judge, VelocityUNet, drawn_generator, drawn_judge, refined,
)

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SIZES = {"encoder": (4, 8), "decoder": (8,), "fine": (), "squarings": 5}


def generator(**changes) -> DiffeoGenerator:
    return drawn_generator(torch_generator(3), AFFINE, 3, **{**SIZES, **changes}).eval()


@pytest.mark.parametrize("sizes", [{}, {"decoder": (8, 8), "fine": (8, 4)}])
def test_a_new_generator_moves_nothing_on_grids_of_any_size(sizes):
    image = torch.rand(2, 1, 9, 12, 11)
    made = generator(**sizes)(image, torch.randn(2, 3))
    assert made["velocity"].shape == (2, 3, 5, 6, 6) and made["velocity"].abs().max() < 0.01
    torch.testing.assert_close(made["moved"], image, atol=0.01, rtol=0)


@pytest.mark.parametrize(("sizes", "voxels"), [({}, 1.0), ({"decoder": (8, 8), "fine": (4,)}, 2.0)])
def test_a_constant_velocity_is_a_translation_in_mm(sizes, voxels):
    """One voxel of the half grid is 4 mm, two voxels of the scan; of the full grid, half of that."""
    net = generator(**sizes)
    torch.nn.init.zeros_(net.net.out.weight)
    net.net.out.bias.data = torch.tensor([voxels, 0.0, 0.0])
    image = torch.rand(1, 1, 12, 8, 8)
    made = net(image, torch.zeros(1, 3))
    torch.testing.assert_close(made["velocity"][0, :, 2, 2, 2], torch.tensor([4.0, 0.0, 0.0]))
    torch.testing.assert_close(made["moved"][:, :, :-2], image[:, :, 2:], atol=1e-4, rtol=0)


def test_strong_fields_do_not_fold_and_depend_on_the_condition():
    net = generator()
    torch.nn.init.normal_(net.net.out.weight, std=0.1)
    image = torch.rand(1, 1, 16, 16, 16)
    told = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    fields = torch.cat([net.velocity(image, one[None]) for one in told])
    assert not torch.allclose(fields[0], fields[1], atol=0.05)
    flow = expv(refined(fields, image.shape[2:]), affine=AFFINE)
    assert flow.abs().max() > 2 and float(folding_fraction(flow, affine=AFFINE).max()) == 0


def test_a_refined_field_keeps_slopes_and_places():
    """A linear field on the half grid is the same function of the world on the full one, away from the border."""
    half, full = (torch.meshgrid(*(s * torch.arange(n) + o for n in shape), indexing="ij")
                  for s, o, shape in ((4.0, 1.0, (5, 6, 7)), (2.0, 0.0, (10, 12, 13))))
    found = refined(torch.stack(half)[None], (10, 12, 13))
    assert found.shape == (1, 3, 10, 12, 13)
    inner = (..., slice(1, -1), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(found[inner], torch.stack(full)[None][inner])


def test_published_sizes():
    """Counted by hand from the widths of the public code, two numbers in the condition."""
    c = Config()
    net = VelocityUNet(2, encoder=c.encoder, decoder=c.decoder, fine=c.fine)
    joined = [(3, 16), (16, 32), (32, 32), (32, 32), (32, 32), (32, 32), (64, 32), (64, 32), (64, 32), (48, 32),
              (35, 32), (32, 16), (16, 16), (16, 3)]
    assert sum(p.numel() for p in net.parameters()) == sum(27 * a * b + b for a, b in joined)
    judge = Judge((128, 128, 128), diagnoses=0, widths=c.judge_widths, norm=c.norm)
    assert judge.heads.weight.shape == (3, 64, 2, 2, 2) and judge.heads.bias is None
    assert sum(isinstance(m, torch.nn.MaxPool3d) for m in judge.modules()) == 6


def test_a_decoder_that_does_not_fit_is_refused():
    with pytest.raises(NbkitError, match="2 widths"):
        VelocityUNet(1, encoder=(4, 8), decoder=(8,), fine=(4,))


@pytest.mark.parametrize(
    ("draw", "given", "options"),
    [(drawn_generator, (AFFINE, 3), SIZES),
     (drawn_judge, ((8, 8, 8),), {"diagnoses": 2, "widths": (4, 8), "norm": "batch"})],
)
def test_first_weights_come_from_the_generator_given_alone(draw, given, options):
    """Threads share torch's own generator: a network that drew from it would change what another one draws."""
    before = torch.random.get_rng_state()
    one, two, other = (draw(torch_generator(seed), *given, **options) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    states = one.state_dict(), two.state_dict(), other.state_dict()
    assert all(torch.equal(states[0][n], states[1][n]) and bool(states[0][n].isfinite().all()) for n in states[0])
    first = next(iter(states[0]))
    assert not torch.equal(states[0][first], states[2][first])


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_judge_says_one_of_each_for_every_subject(norm):
    judge = drawn_judge(torch_generator(0), (9, 8, 10), diagnoses=4, widths=(4, 8, 8), norm=norm)
    said = judge(torch.rand(3, 1, 9, 8, 10))
    assert said.real.shape == said.age.shape == said.sex.shape == (3,) and said.diagnosis.shape == (3, 4)


def test_a_judge_with_group_normalisation_judges_each_scan_by_itself():
    """What the gradient penalty and a batch of a few need."""
    torch.manual_seed(0)
    judge = Judge((8, 8, 8), diagnoses=2, widths=(4, 8), norm="group").train()
    images = torch.rand(3, 1, 8, 8, 8)
    torch.testing.assert_close(judge(images).age[1:2], judge(images[1:2]).age)
    published = Judge((8, 8, 8), diagnoses=2, widths=(4, 8), norm="batch").train()
    assert not torch.allclose(published(images).age[1:2], published(images[1:2]).age)


@pytest.mark.parametrize(
    ("changes", "words"), [({"widths": (4, 4, 4, 4, 4)}, "halvings"), ({"norm": "batsh"}, "batch")]
)
def test_a_judge_that_cannot_be_is_refused(changes, words):
    with pytest.raises(NbkitError, match=words):
        Judge((8, 8, 8), **{"diagnoses": 1, "widths": (4, 4), "norm": "batch", **changes})
