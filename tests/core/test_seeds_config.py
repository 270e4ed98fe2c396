"""Seeds and settings."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.config import Settings, digest
from nbkit.core.device import autocast, one_thread, pick_device
from nbkit.core.seeds import derive, numpy_generator, torch_generator


@dataclass(frozen=True)
class Toy(Settings):
    """Settings of nothing."""

    width: int = 64
    inputs: tuple[str, ...] = ("T1w",)
    profiles: ClassVar = {"smoke": {"width": 4}}


def test_seeds_are_stable_across_machines_and_versions():
    assert derive(7, "phantom", "sub-01") == 9077168031296490233


def test_seeds_depend_on_every_part_and_its_place():
    names = [(7,), (8,), (7, "a"), (7, "b"), (7, "a", "b"), (7, "b", "a"), (7, "ab")]
    seeds = {derive(*name) for name in names}
    assert len(seeds) == len(names)
    assert all(0 <= s < 2**63 for s in seeds)


def test_generators_repeat():
    draws = [torch.rand(4, generator=torch_generator(1, "x")) for _ in range(2)]
    assert torch.equal(*draws)
    assert (numpy_generator(1, "x").random(4) == numpy_generator(1, "x").random(4)).all()


def test_profiles_change_what_they_name_only():
    assert Toy.for_profile("smoke") == Toy(width=4)
    assert Toy.for_profile("paper") == Toy()
    assert Toy.for_profile("smoke", width=5).width == 5
    with pytest.raises(NbkitError, match="Did you mean 'smoke'"):
        Toy.for_profile("smok")
    with pytest.raises(NbkitError, match="Did you mean 'width'"):
        Toy.for_profile("smoke", widht=5)


def test_settings_survive_json_and_their_digest_sees_every_value():
    toy = Toy.from_dict({"width": 3, "inputs": ["a", "b"]})
    assert toy == Toy(3, ("a", "b")) == Toy.from_dict(toy.as_dict())
    assert toy.digest() != toy.changed(width=4).digest()
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_devices(monkeypatch):
    monkeypatch.setenv("DEVICE", "cpu")
    assert pick_device() == torch.device("cpu")
    with pytest.raises(NbkitError, match="Did you mean 'cuda'"):
        pick_device("cuda0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NbkitError, match="a machine with cuda"):
        pick_device("cuda")


def test_autocast_and_threads():
    conv = torch.nn.Conv3d(1, 1, 3)
    for half, kind in ((True, torch.bfloat16), (False, torch.float32)):
        with autocast(torch.device("cpu"), half):
            assert conv(torch.zeros(1, 1, 4, 4, 4)).dtype == kind
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
