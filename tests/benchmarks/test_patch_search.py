"""Exact patch search beside scikit-learn's exact searches, on 3×3×3 patches of two phantom subjects (D = 135)."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances_argmin
from sklearn.neighbors import NearestNeighbors

from nbkit.cohorts.ms_phantom import GRIDS, roster
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.data.intensity import Standardiser
from nbkit.data.patches import PatchReader
from nbkit.papers.flair.nearest import nearest
from nbkit.phantom.ms import Person, simulate
from nbkit.phantom.parameters import load_parameters

INPUTS = ("T1w", "T1SE", "T2w", "PDw", "DIR")
DATABASE, QUERIES = 20_000, 10_000
TREE_SHARE = 50  # the trees are so slow here that they answer only one query in so many

Rows = tuple[torch.Tensor, torch.Tensor]


def subject(person: Person) -> Subject:
    """One phantom subject on the laptop grid."""
    made = simulate(person, grid=GRIDS["laptop"], seed=7, parameters=load_parameters())
    scan = Scan(person.id, "1", person.age, made.images, made.masks)
    return Subject(person.id, person.sex, person.diagnosis, (scan,))


@pytest.fixture(scope="module")
def patches() -> Rows:
    """Database of one patient, queries of another, z-scored by the first."""
    people = roster("laptop", seed=7, parameters=load_parameters())[:2]
    cohorts = [Cohort("phantom", (subject(person),), "embedded") for person in people]
    reader = PatchReader(INPUTS, "FLAIR", Standardiser.fit_cohort(cohorts[0], (*INPUTS, "FLAIR")), radius=1)
    (database, _), (queries, _) = (next(reader.training(c, count=n)) for c, n in zip(cohorts, (DATABASE, QUERIES)))
    return queries, database


@cache
def built(algorithm: str, database: torch.Tensor) -> NearestNeighbors:
    """A search tree of scikit-learn; building it is not timed."""
    return NearestNeighbors(n_neighbors=1, algorithm=algorithm).fit(database.numpy())


def ask_tree(algorithm: str, rows: Rows) -> np.ndarray:
    """Nearest rows of a part of the queries."""
    return built(algorithm, rows[1]).kneighbors(rows[0][::TREE_SHARE].numpy(), return_distance=False)[:, 0]


TREES = {f"scikit-learn {n}, 1/{TREE_SHARE} of queries": partial(ask_tree, n) for n in ("kd_tree", "ball_tree")}
CONTENDERS = {
    "nbkit": lambda rows: nearest(*rows)[0].numpy(),
    "scikit-learn brute": lambda rows: pairwise_distances_argmin(rows[0].numpy(), rows[1].numpy()),
    **TREES,
}


@pytest.mark.benchmark(group="exact patch search")
@pytest.mark.parametrize("who", list(CONTENDERS))
def test_patch_search(benchmark, patches, who):
    found = benchmark.pedantic(CONTENDERS[who], args=(patches,), rounds=3, warmup_rounds=1)
    expected = CONTENDERS["nbkit"](patches)
    assert np.array_equal(found, expected[:: len(expected) // len(found)])
