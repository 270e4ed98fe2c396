"""Volumes load when looked at, are kept within a budget, and come back from their file exactly."""

from __future__ import annotations

import functools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import lazy


class Loader:
    def __init__(self):
        self.calls = []

    def __call__(self, name: str) -> Volume:
        self.calls.append(name)
        return Volume(torch.full((4, 4, 4), float(len(name))))


def test_nothing_is_loaded_before_it_is_looked_at_and_then_once():
    load = Loader()
    images = lazy.LazyVolumes("s1", ("T1w", "FLAIR"), load, shelf=lazy.Shelf())
    assert list(images) == ["T1w", "FLAIR"] and len(images) == 2 and "T1w" in images and "PDw" not in images
    assert load.calls == []
    assert images["FLAIR"] is images["FLAIR"]
    assert load.calls == ["FLAIR"]
    with pytest.raises(KeyError):
        images["PDw"]


def test_the_shelf_forgets_what_was_used_longest_ago():
    load, size = Loader(), 4 * 4**3
    shelf = lazy.Shelf(capacity=2 * size)
    images = lazy.LazyVolumes("s1", ("a", "bb", "ccc"), load, shelf=shelf)
    for name in ("a", "bb", "a", "ccc"):
        images[name]
    assert len(shelf) == 2
    images["a"]
    assert load.calls == ["a", "bb", "ccc"]
    images["bb"]
    assert load.calls == ["a", "bb", "ccc", "bb"]


def test_threads_share_a_shelf():
    """Four threads that push one another's volumes out all get what they asked for."""
    names = tuple("x" * k for k in range(1, 25))
    shelf = lazy.Shelf(capacity=6 * 4 * 4**3)
    images = lazy.LazyVolumes("s1", names, lambda name: Volume(torch.full((4, 4, 4), float(len(name)))), shelf=shelf)

    def read(start: int) -> list[bool]:
        asked = [names[(start + 7 * k) % len(names)] for k in range(400)]
        return [float(images[name].data[0, 0, 0, 0]) == len(name) for name in asked]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(found) for found in pool.map(read, range(4)))
    assert len(shelf) == 6


def test_owners_on_one_shelf_do_not_mix():
    shelf = lazy.Shelf()
    one = lazy.LazyVolumes("s1", ("T1w",), lambda _: Volume(torch.zeros(2, 2, 2)), shelf=shelf)
    two = lazy.LazyVolumes("s2", ("T1w",), lambda _: Volume(torch.ones(2, 2, 2)), shelf=shelf)
    assert float(one["T1w"].data.max()) == 0 and float(two["T1w"].data.min()) == 1


def test_one_volume_of_many_comes_back_with_type_affine_and_history(tmp_path):
    affine = np.diag([0.9, 0.9, 3.0, 1.0])
    image = Volume(torch.rand(3, 4, 5), affine, ("read x",))
    mask = Volume(torch.rand(3, 4, 5) > 0.5, affine)
    path = lazy.save_volumes(tmp_path / "scan.safetensors", {"T1w": image, "brain": mask})
    load = functools.partial(lazy.load_volume, path)
    images = lazy.LazyVolumes("s1", ("T1w", "brain"), load, shelf=lazy.Shelf())
    travelled = pickle.loads(pickle.dumps(images))
    for back in (images, travelled):
        assert torch.equal(back["T1w"].data, image.data) and torch.equal(back["brain"].data, mask.data)
        np.testing.assert_array_equal(back["T1w"].affine, affine)
        assert back["T1w"].history == ("read x",)


def test_volumes_of_two_grids_do_not_go_into_one_file(tmp_path):
    volumes = {"T1w": Volume(torch.rand(3, 4, 5)), "FLAIR": Volume(torch.rand(3, 4, 6))}
    with pytest.raises(NbkitError, match="FLAIR.*the same shape"):
        lazy.save_volumes(tmp_path / "scan.safetensors", volumes)
    assert list(tmp_path.iterdir()) == []
