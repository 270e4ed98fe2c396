"""Growth as asked: a ball in a sphere of fluid, where the flow is known, and what no flow can bring about."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity
from nbkit.phantom.growth import TOLERANCE, realised_change, velocities_for, velocity_for
from nbkit.phantom.regions import Regions

ROTATED = np.eye(4)
ROTATED[:3, :3] = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()


def ball(affine: np.ndarray, shape=(20, 22, 24), *, radius: float = 6.0, skull: float = 9.0) -> Regions:
    """A ball of tissue with a soft edge in a sphere of fluid; radii in voxels."""
    axes = [np.arange(n) - (n - 1) / 2 for n in shape]
    r = torch.from_numpy(np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij"))))
    inner, outer = (radius + 0.5 - r).clamp(0, 1), (r < skull).double()
    return Regions(("ball", "csf"), Volume(torch.stack([inner, outer - inner]).float(), affine))


def test_the_divergence_is_the_prescribed_one_deep_inside():
    """Where tissue has the ball all round, it shrinks by one number: that of the whole ball is as asked."""
    regions = ball(np.diag([2.0, 2.0, 2.0, 1.0]))
    velocity = velocity_for(regions, {"ball": -0.04})
    outward = -velocity[0]
    divergence = sum(torch.gradient(outward[k], spacing=2.0, dim=k)[0] for k in range(3))
    core = divergence[8:12, 9:13, 10:14]
    assert float((core.max() - core.min()) / core.mean().abs()) < 0.01
    assert -0.06 < float(core.mean()) < np.log(1 - 0.04)  # the soft edge is part fluid and shrinks less
    assert realised_change(regions, velocity)["ball"] == pytest.approx(-0.04, rel=TOLERANCE)


@pytest.mark.parametrize("rate", [-0.1, -0.01, 0.05])
def test_the_fluid_takes_up_what_the_ball_loses(rate):
    regions = ball(np.diag([1.5, 2.0, 2.5, 1.0]))
    change = realised_change(regions, velocity_for(regions, {"ball": rate}))
    volumes = regions.volumes
    assert change["ball"] == pytest.approx(rate, rel=TOLERANCE)
    whole = sum(change[n] * volumes[n] for n in volumes) / sum(volumes.values())
    assert abs(whole) < 1e-3


@pytest.mark.parametrize("frame", [np.diag([-1.0, 1, 1, 1]), np.diag([-1.0, -1, 1, 1]), ROTATED])
def test_the_frame_turns_the_velocity_and_nothing_else(frame):
    affine = np.diag([1.5, 2.0, 2.5, 1.0])
    straight = velocity_for(ball(affine), {"ball": -0.03})
    turned = velocity_for(ball(frame @ affine), {"ball": -0.03})
    expected = torch.einsum("ij,bjxyz->bixyz", torch.from_numpy(frame[:3, :3]).float(), straight)
    torch.testing.assert_close(turned, Velocity(expected), atol=1e-5, rtol=1e-4)


def test_velocity_is_in_millimetres():
    small, large = (velocity_for(ball(np.diag([h, h, h, 1.0])), {"ball": -0.03}) for h in (1.0, 3.0))
    torch.testing.assert_close(large, Velocity(3 * small), atol=1e-5, rtol=1e-3)


def test_a_stray_voxel_outside_the_skull_does_not_matter():
    regions = ball(np.eye(4))
    regions.maps.data[1, 0, 0, 0] = 1
    velocity = velocity_for(regions, {"ball": -0.03})
    assert (velocity[..., 0, 0, 0] == 0).all()


def test_several_changes_of_one_anatomy_are_the_same_as_one_by_one():
    whole = ball(np.diag([2.0, 2.0, 2.0, 1.0]))
    left, right = whole.maps.data[:1].clone(), whole.maps.data[:1].clone()
    left[:, 10:], right[:, :10] = 0, 0
    regions = Regions(("a", "b", "csf"), whole.maps.with_data(torch.cat([left, right, whole.maps.data[1:]])))
    changes = [{"a": -0.03, "b": 0.0}, {"a": 0.02, "b": 0.05}, {"a": -0.01, "b": -0.02}]
    for change, together in zip(changes, velocities_for(regions, changes), strict=True):
        alone = velocity_for(regions, change)
        assert float((together - alone).norm(dim=1).max()) < 1e-3 * float(alone.norm(dim=1).max())
        found = realised_change(regions, together)
        assert all(abs(found[n] - rate) <= max(TOLERANCE * abs(rate), 1e-4) for n, rate in change.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: (r, {"bal": 0.1}), "velocity_for: change: .*Use one of the listed names"),
        (lambda r: (Regions(("ball", "fluid"), r.maps), {"ball": 0.1, "fluid": 0.0}), "fluid .'csf'. that takes up"),
        (lambda r: (Regions(r.names, r.maps.with_data(r.maps.data * torch.tensor([0.0, 1]).view(2, 1, 1, 1))),
                    {"ball": 0.1}), "expected voxels of ball, found none"),
        (lambda r: (ball(np.eye(4) + np.eye(4, k=1) * 0.2), {"ball": 0.1}), "perpendicular grid axes"),
        (lambda r: (r, {"ball": -1.4}), "finite changes above -1 .all of the volume., found .'ball': -1.4"),
        (lambda r: (r, {"ball": np.nan}), "finite changes above -1"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(NbkitError, match=message):
        velocity_for(*change(ball(np.eye(4))))


def test_regions_that_share_all_voxels_are_refused():
    lone = ball(np.eye(4))
    halves = lone.maps.data[:1] / 2
    twins = Regions(("a", "b", "csf"), lone.maps.with_data(torch.cat([halves, halves, lone.maps.data[1:]])))
    with pytest.raises(NbkitError, match="regions with voxels of their own, found regions that share all of theirs"):
        velocity_for(twins, {"a": -0.05, "b": 0.05})


def test_changes_that_are_not_reached_are_refused(monkeypatch):
    monkeypatch.setattr("nbkit.phantom.growth._ROUNDS", 1)
    with pytest.raises(NbkitError, match=r"a flow can bring about to 5%, found -\d+\.\d+% missing in ball"):
        velocity_for(ball(np.eye(4)), {"ball": -0.5})
