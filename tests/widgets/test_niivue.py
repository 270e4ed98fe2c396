"""The 3D view: one viewer that follows the state, here a stand-in for the optional package."""

from __future__ import annotations

import gzip
import sys
import types
from dataclasses import replace

import ipywidgets
import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError, require
from nbkit.papers.trajectories.outlook import Outlook
from nbkit.core.volume import Volume
from nbkit.data.nifti import read_image, save_image
from nbkit.widgets.explorer import Explorer, Person
from nbkit.widgets.niivue import Viewer
from nbkit.widgets.panel import Panel


class Layer(types.SimpleNamespace):
    """What a viewer makes of a description."""

    closed = False

    def close(self) -> None:
        self.closed = True


class NiiVue(ipywidgets.Box):
    """Keeps what it was asked to load."""

    made = 0

    def __init__(self, height: int) -> None:
        super().__init__()
        NiiVue.made += 1
        self.volumes: list[Layer] = []

    def load_volumes(self, volumes: list[dict]) -> None:
        self.volumes = [Layer(**v) for v in volumes]


@pytest.fixture
def package(monkeypatch):
    """ipyniivue, as far as it is used."""
    NiiVue.made = 0
    monkeypatch.setitem(sys.modules, "ipyniivue", types.SimpleNamespace(NiiVue=NiiVue))


def fading(person: Person, age: float, course: str) -> Outlook:
    require(age < 78, "fading", expected="ages below 78", found=age, remedy="Ask for less.")
    left = 1 - 0.01 * (age - person.age)
    return Outlook(person.baseline.with_data(person.baseline.data * left), {"thalamus": 7000.0 * left})


@pytest.fixture
def explorer() -> Explorer:
    image = Volume(torch.rand(8, 9, 10, generator=torch.Generator().manual_seed(3)), np.diag([3.0, 3.0, 3.0, 1.0]))
    person = Person("sub-01", image, 70.0, {70.0: {"thalamus": 7000.0}})
    return Explorer([person], {"fading": fading}, courses=["HC"], structures=["thalamus"], horizon=10.0,
                    trained=(55.0, 78.0), save=save_image)


def test_the_one_viewer_follows_the_slider(explorer, package, tmp_path):
    viewer = Viewer(explorer)
    panel = Panel(explorer, also=viewer)
    before = list(viewer.widget.volumes)
    panel.controls["age"].value = 76.0
    brain, change = viewer.widget.volumes
    assert NiiVue.made == 1 and viewer.widget in panel.box.children
    assert all(old.closed for old in before) and not brain.closed
    # bytes with another ending leave the viewer waiting for ever
    assert [layer.name for layer in (brain, change)] == ["brain.nii", "change.nii"]
    (tmp_path / "brain.nii").write_bytes(brain.data)
    (tmp_path / "change.nii").write_bytes(change.data)
    baseline = explorer.people["sub-01"].baseline.data
    torch.testing.assert_close(read_image(tmp_path / "brain.nii").data, baseline * 0.94)
    torch.testing.assert_close(read_image(tmp_path / "change.nii").data, baseline * -0.06)
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(brain.data)


def test_a_state_that_is_refused_leaves_it_empty(explorer, package):
    viewer = Viewer(explorer)
    viewer.follow(explorer.start)
    assert len(viewer.widget.volumes) == 2
    viewer.follow(replace(explorer.start, age=79.0))
    assert viewer.widget.volumes == []


def test_without_the_package_it_says_how_to_install_it(explorer, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(NbkitError, match="view_3d = False"):
        Viewer(explorer)
