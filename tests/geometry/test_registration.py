"""Registration recovers known flows without folding; exchange, identity, frames, batches and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity, compose, expv, jacobian_determinant
from nbkit.geometry.registration import Config, Registration, _force, _level, register
from nbkit.geometry.similarity import lncc
from nbkit.geometry.warp import Displacement, warp
from tests.geometry.fields import smooth_field
from tests.geometry.frames import FRAMES, SHAPE
from tests.geometry.scene import CENTRE, grid, places, texture

CUBES, SLABS = (2.5, 2.5, 2.5), (2.0, 2.0, 4.0)
# the scene is far smoother than a brain: a velocity on 4 mm follows it, and finer ones need more steps than these
QUICK = Config(
    levels_mm=(8.0, 4.0, 2.5), iterations=(30, 30, 15), velocity_mm=4.0, smooth_mm=2.5, stiffness=0.1,
)


def bend(like: Volume) -> Velocity:
    """A velocity of up to 8 mm on the grid of `like`, the same in the world whatever the grid."""
    gap = places(like) - CENTRE
    envelope = np.exp(-np.square(gap).sum(axis=1) / (2 * 15**2))
    field = 6 * envelope[:, None] * np.sin(gap[:, [1, 2, 0]] / 12 + [0.3, 1.0, 2.0])
    return Velocity(torch.from_numpy(field.T.reshape(1, 3, *like.shape)).float())


def pair(like: Volume) -> tuple[torch.Tensor, torch.Tensor, Displacement]:
    """The textured scene, the same seen through the flow of :func:`bend`, and that flow."""
    flow = expv(bend(like), affine=like.affine)
    world = places(like)
    seen = [texture(at).reshape(1, 1, *like.shape) for at in (world, world + flow[0].reshape(3, -1).T.numpy())]
    return *(torch.from_numpy(image).float() for image in seen), flow


def registered(
    name: str, spacing: tuple[float, float, float], config: Config = QUICK
) -> tuple[Registration, torch.Tensor, torch.Tensor]:
    """A registration of :func:`pair`; the lengths (mm) of the true flow and of what is missed, within 22 mm."""
    like = grid(name, spacing=spacing, extent=70)
    moving, fixed, flow = pair(like)
    found = register(moving, fixed, affine=like.affine, config=config)
    near = torch.from_numpy(np.linalg.norm(places(like) - CENTRE, axis=1) < 22)
    lengths = (field.norm(dim=1).flatten()[near] for field in (flow, found.displacement - flow))
    return found, *lengths


@pytest.mark.parametrize("name", ["RAS", "LPS", "oblique", "permuted"])
@pytest.mark.parametrize("spacing", [CUBES, SLABS], ids=["cubes", "slabs"])
def test_recovers_a_known_flow(name, spacing):
    _, flow, missed = registered(name, spacing)
    assert float(flow.mean()) > 2.5
    assert float(missed.mean()) < 0.5
    assert float(missed.quantile(0.99)) < 1.5


@pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_forces_are_the_slope_of_the_energy(affine, symmetric):
    """Along any small field δ that leaves the border alone, in mm, in every frame."""
    rng = np.random.default_rng(0)
    moving, fixed = (torch.from_numpy(rng.normal(size=(1, 1, *SHAPE))) for _ in range(2))
    config = Config(levels_mm=(0.1,), iterations=(1,), velocity_mm=0.1, symmetric=symmetric)
    level = _level(moving, fixed, affine, 0.1, config)
    force = _force(torch.zeros(1, 3, *SHAPE, dtype=torch.float64), level, config)
    field = smooth_field(affine, size_mm=1.0) * F.pad(torch.ones([n - 2 for n in SHAPE]), (1,) * 6)

    def similarity(amount: float) -> torch.Tensor:
        ways = (amount / 2, -amount / 2) if symmetric else (amount, 0.0)
        met = (warp(i, Displacement(w * field), affine=affine) for i, w in zip((moving, fixed), ways, strict=True))
        return moving.numel() * lncc(*met, window=config.window)

    slope = float(similarity(1e-6) - similarity(-1e-6)) / 2e-6
    assert abs(slope) > 1e-2
    assert float((force * field).sum()) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("change", [{"similarity": "mse"}, {"symmetric": False}], ids=["mse", "one-sided"])
def test_other_energies_recover_it_too(change):
    _, flow, missed = registered("LAS", CUBES, QUICK.changed(**change))
    assert float(flow.mean()) > 2.5
    assert float(missed.mean()) < 0.6


def test_the_result_is_the_flow_of_its_velocity_and_has_an_inverse():
    """There and back misses a tenth of a voxel at most: interpolation, as for any flow of this size."""
    found, *_ = registered("oblique", CUBES)
    assert torch.equal(found.displacement, expv(found.velocity, affine=found.affine))
    around = compose(found.inverse(), found.displacement, affine=found.affine).norm(dim=1)
    assert float(found.displacement.norm(dim=1).max()) > 4
    assert float(around.max()) < 0.25
    assert float(jacobian_determinant(found.displacement, affine=found.affine).min()) > 0


def test_exchanging_the_images_negates_the_velocity():
    like = grid("RAS", spacing=CUBES, extent=70)
    moving, fixed, _ = pair(like)
    there, back = (register(*images, affine=like.affine, config=QUICK) for images in [(moving, fixed), (fixed, moving)])
    assert float((there.velocity + back.velocity).norm(dim=1).max()) < 0.05
    assert float(there.velocity.norm(dim=1).max()) > 4


def test_an_image_and_itself_need_no_move():
    like = grid("oblique", spacing=CUBES, extent=70)
    image, *_ = pair(like)
    found = register(image, image.clone(), affine=like.affine, config=QUICK)
    assert float(found.displacement.abs().max()) < 1e-3


def test_the_same_scene_stored_otherwise_moves_the_same_way():
    """RAS and LAS storage: the world displacement is equal, voxel by mirrored voxel (an even number of them)."""
    like = grid("RAS", spacing=(2.5, 2.5, 2.5), extent=60)
    assert like.shape[0] % 8 == 0
    moving, fixed, _ = pair(like)
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = like.shape[0] - 1
    a = register(moving, fixed, affine=like.affine, config=QUICK)
    b = register(moving.flip(2), fixed.flip(2), affine=like.affine @ mirror, config=QUICK)
    assert float((a.displacement - b.displacement.flip(2)).norm(dim=1).max()) < 0.05


def test_subjects_do_not_depend_on_their_neighbours_and_runs_repeat():
    like = grid("LAS", spacing=(4.0, 4.0, 4.0), extent=70)
    template, bent, _ = pair(like)
    fixed = torch.cat([bent, 30 + 7 * template.flip(3)])
    settings = QUICK.changed(iterations=(10, 10, 2))
    both = register(template, fixed, affine=like.affine, config=settings)
    again = register(template, fixed, affine=like.affine, config=settings)
    each = torch.cat([register(template, f[None], affine=like.affine, config=settings).velocity for f in fixed])
    assert torch.equal(both.velocity, again.velocity)
    assert float((both.velocity - each).norm(dim=1).max()) < 1e-3 * float(each.norm(dim=1).max())


def test_noise_does_not_fold():
    """Two unrelated images, a long step and hardly any smoothing: the wildest forces there are."""
    like = grid("oblique", spacing=CUBES, extent=50)
    noise = torch.rand(2, 1, *like.shape, generator=torch.Generator().manual_seed(0))
    wild = Config(levels_mm=(5.0, 2.5), iterations=(30, 30), velocity_mm=2.5, step=1.0, smooth_mm=1.5, stiffness=0.0)
    found = register(noise[:1], noise[1:], affine=like.affine, config=wild)
    assert float(jacobian_determinant(found.displacement, affine=like.affine).min()) > 0
    assert float(found.displacement.norm(dim=1).max()) > 1


def test_profiles_and_settings():
    assert Config.for_profile("paper") == Config.for_profile("laptop") == Config()
    assert sum(Config.for_profile("smoke").iterations) < sum(Config().iterations)
    with pytest.raises(NbkitError, match="Did you mean 'stiffness'"):
        Config().changed(stifness=1.0)
    with pytest.raises(NbkitError, match="registration.Config: similarity: expected one of lncc, mse.*'lncc'"):
        Config(similarity="ncc")
    for levels, steps in [((8.0, 4.0), (1,)), ((2.0, 4.0), (1, 1)), ((4.0, 0.0), (1, 1)), ((), ())]:
        with pytest.raises(NbkitError, match="registration.Config: levels_mm, iterations: expected spacings"):
            Config(levels_mm=levels, iterations=steps)


def test_bad_input_is_named():
    image = torch.rand(1, 1, 8, 8, 8)
    with pytest.raises(NbkitError, match=r"register: moving: expected a floating \(B, 1, X, Y, Z\) tensor"):
        register(image[0], image, affine=np.eye(4))
    with pytest.raises(NbkitError, match="register: fixed: expected an image with contrast"):
        register(image, 0 * image, affine=np.eye(4))
    with pytest.raises(NbkitError, match="register: moving: expected finite values"):
        register(image / 0, image, affine=np.eye(4))
    with pytest.raises(NbkitError, match="register: moving, fixed: expected images on one grid.*Align them first"):
        register(image, image[..., 1:], affine=np.eye(4))
    with pytest.raises(NbkitError, match="register: moving, fixed: .*as many of one as of the other"):
        register(image.expand(2, -1, -1, -1, -1), torch.rand(3, 1, 8, 8, 8), affine=np.eye(4))
    with pytest.raises(NbkitError, match="register: affine: expected an invertible 4×4 world matrix"):
        register(image, image, affine=np.eye(3))
