"""Two dask workers in processes of their own give the numbers of one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import distributed
import numpy as np
import pytest
import torch
from joblib import Parallel, _dask, delayed
from typer.testing import CliRunner

from nbkit import cli
from nbkit.core.checks import NbkitError
from nbkit.core.cluster import VARIABLE, on_cluster
from nbkit.core.files import Cache
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.data import nifti
from nbkit.data.lazy import Shelf
from nbkit.data.preprocess import Config, Reference, Source, prepare_files
from nbkit.data.splits import folds
from nbkit.papers.synthesis.linear import LinearSynthesizer
from nbkit.phantom.study import facts_of, made_folders, store, stored
from nbkit.training.crossval import cross_validate, scores_frame
from tests.data.test_preprocess import GRID, QUICK, head
from tests.papers.myelin.myelin_toy import INPUTS, toy_cohort


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with distributed.LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def where(_: int) -> tuple[int, int]:
    return os.getpid(), torch.get_num_threads()


@pytest.mark.slow
def test_jobs_run_in_the_workers_and_kernels_are_told_the_address(address):
    with on_cluster(address):
        seen = Parallel(n_jobs=1, prefer="threads")(delayed(where)(k) for k in range(20))
        assert os.environ[VARIABLE] == address
    assert os.getpid() not in {pid for pid, _ in seen} and len({pid for pid, _ in seen}) == 2
    assert VARIABLE not in os.environ


def simulated(number: int, folder: Path) -> None:
    """A smooth random image of one person."""
    noise = torch.randn(1, 1, 24, 24, 24, generator=torch_generator(7, number))
    image = Volume(filter_separable(noise, (gaussian_kernel(2.0),) * 3)[0], np.eye(4))
    store(folder, {"image": {"T1w": image}}, {"person": number})


@pytest.mark.slow
def test_people_are_simulated_alike(address, tmp_path):
    def build(cache: Cache) -> list[Path]:
        jobs = [partial(simulated, k) for k in range(8)]
        return made_folders("toy", "smoke", list(range(8)), jobs, cache=cache, prefer="processes", progress=False)

    here = build(Cache(tmp_path / "here"))
    with on_cluster(address):
        there = build(Cache(tmp_path / "there"))
    for number, pair in enumerate(zip(here, there, strict=True)):
        a, b = (stored(folder, "image", ("T1w",), Shelf())["T1w"].data for folder in pair)
        assert torch.equal(a, b) and all(facts_of(folder) == {"person": number} for folder in pair)


@pytest.mark.slow
def test_scans_are_prepared_and_registered_alike(address, tmp_path):
    image, mask = head(seed=2)
    t1w = nifti.save_image(tmp_path / "a_T1w.nii.gz", image)
    sources = [Source("a", "1", t1w, nifti.save_labels(tmp_path / "a_labels.nii.gz", mask.with_data(mask.data.int())))]
    settings: Config = QUICK.changed(alignment="affine")
    prepare = partial(prepare_files, sources, Reference(*head(seed=1)), shape=GRID[0], affine=GRID[1], config=settings,
                      progress=False)
    here = prepare(cache=Cache(tmp_path / "here"))
    with on_cluster(address):
        there = prepare(cache=Cache(tmp_path / "there"))
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.image("T1w").data, b.image("T1w").data)


def first_error(subject, prediction) -> dict[str, float]:
    return {"error": float((prediction.data - subject.baseline.image("DVR").data).abs().mean())}


@pytest.mark.slow
def test_folds_are_trained_and_predicted_alike(address, tmp_path):
    people = toy_cohort(4)
    systems = {"linear": LinearSynthesizer(LinearSynthesizer.settings(inputs=INPUTS, target="DVR"))}
    validate = partial(
        cross_validate, systems, people, folds=folds(people, 2, seed=7), score=first_error, progress=False
    )
    here = scores_frame(validate(cache=Cache(tmp_path / "here")))
    with on_cluster(address):
        there = scores_frame(validate(cache=Cache(tmp_path / "there")))
    assert here.equals(there) and len(here) == 4


def test_without_an_address_work_stays_here(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with on_cluster():
        assert {pid for pid, _ in Parallel(n_jobs=1)(delayed(where)(k) for k in range(2))} == {os.getpid()}


def test_a_scheduler_that_does_not_answer_is_refused(monkeypatch):
    monkeypatch.setitem(distributed.config["distributed"]["comm"]["timeouts"], "connect", "0.2s")
    refused = "--scheduler: expected the address of a dask scheduler.*dask worker"
    with pytest.raises(NbkitError, match=refused), on_cluster("tcp://127.0.0.1:9"):
        pass


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(_dask, "distributed", None)
    with pytest.raises(NbkitError, match=r"no dask\.distributed. Install the extra"), on_cluster("tcp://127.0.0.1:9"):
        pass


def test_the_command_line_sets_it_for_the_whole_command(monkeypatch):
    told = []

    @contextmanager
    def noted(address: str) -> Iterator[None]:
        told.append(address)
        yield

    monkeypatch.setattr(cli, "on_cluster", noted)
    for given in (["--scheduler", "tcp://a:1"], []):
        monkeypatch.setenv(VARIABLE, "tcp://b:2")
        assert CliRunner().invoke(cli.app, [*given, "cache", "info"]).exit_code == 0
    assert told == ["tcp://a:1", "tcp://b:2"]
