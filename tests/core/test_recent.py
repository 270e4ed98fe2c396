"""What is kept in memory: the last used, made once, told apart by every voxel."""

from __future__ import annotations

import numpy as np
import torch

from nbkit.core.recent import Recent, fingerprint
from nbkit.core.volume import Volume


def test_made_once_and_the_oldest_goes_first():
    made, recent = [], Recent(2)
    ask = lambda key: recent.get(key, lambda: made.append(key) or key.upper())  # noqa: E731
    assert [ask(k) for k in "abab"] == list("ABAB") and made == list("ab")
    ask("a"), ask("c")
    assert ("a" in recent, "b" in recent, "c" in recent, len(recent)) == (True, False, True, 2)
    assert ask("b") == "B" and made == list("abcb")


def test_what_is_missing_of_several_is_made_at_once():
    asked, recent = [], Recent(3)
    recent.keep("k2", "two")
    make = lambda names: asked.append(names) or [str(n) for n in names]  # noqa: E731
    for _ in range(2):
        assert recent.get_all({1: "k1", 2: "k2", 3: "k3"}, make) == {1: "1", 2: "two", 3: "3"}
    assert asked == [[1, 3]]


def test_a_failed_attempt_leaves_nothing():
    recent = Recent(2)
    try:
        recent.get("a", lambda: 1 / 0)
    except ZeroDivisionError:
        pass
    assert "a" not in recent and recent.keep("a", 3) == recent.get("a", list) == 3


def test_fingerprints_tell_voxels_grids_and_types_apart():
    data = torch.arange(24.0).reshape(1, 2, 3, 4)
    other = data.clone()
    other[0, 1, 1, 1] += 1e-5
    shifted = np.eye(4)
    shifted[0, 3] = 1e-9
    volumes = [
        Volume(data), Volume(other), Volume(data, shifted), Volume(data.int()), Volume(data.reshape(1, 3, 2, 4)),
    ]
    assert len({fingerprint(v) for v in volumes}) == len(volumes)
    assert fingerprint(Volume(data)) == fingerprint(Volume(data.clone(), history=("read",)))
