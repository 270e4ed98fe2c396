"""The patch search is exact: against brute force in double precision, with ties, offsets and hostile spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.papers.flair import nearest as module
from nbkit.papers.flair.nearest import nearest


def brute(queries: torch.Tensor, database: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """All squared distances in float64, lowest index first."""
    gaps = queries.double().numpy()[:, None] - database.double().numpy()
    squared = (gaps**2).sum(-1)
    return squared.argmin(1), squared.min(1)


def check(queries: torch.Tensor, database: torch.Tensor) -> None:
    """Same indices and distances as brute force."""
    indices, squared = nearest(queries, database)
    expected, distances = brute(queries, database)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(squared, distances, rtol=1e-12, atol=0)


def spectrum(seed: int, rows: int, columns: int, decay: float) -> torch.Tensor:
    """Rows whose variance falls by `decay` from one hidden axis to the next."""
    g = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(columns, columns)))[0]
    return torch.tensor((g.normal(size=(rows, columns)) * decay ** np.arange(columns)) @ turn, dtype=torch.float32)


@pytest.mark.parametrize("decay", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_equals_brute_force_whatever_the_spectrum_and_offset(decay, offset):
    check(spectrum(1, 90, 27, decay) + offset, spectrum(2, 700, 27, decay) + offset)


def test_equals_brute_force_over_several_blocks(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", (16, 2 * module._GROUP))
    monkeypatch.setattr(module, "_PAIRS", 7)
    monkeypatch.setattr(module, "_SAMPLE", 50)
    check(spectrum(3, 50, 27, 0.8), spectrum(4, 333, 27, 0.8))


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("stretch", [1.0, 3.0])
def test_no_block_is_skipped_too_early(monkeypatch, columns, stretch):
    """Many small blocks along the axis, and as many answers in a neighbouring block."""
    monkeypatch.setattr(module, "_BLOCK", (64, module._GROUP))
    scale = torch.tensor([stretch, 1.0, 1.0])[:columns]
    check(spectrum(11, 400, columns, 1.0) * scale * 1.2, spectrum(12, 900, columns, 1.0) * scale)


@given(
    seed=st.integers(0, 2**31), queries=st.integers(1, 40), rows=st.integers(1, 90), columns=st.integers(1, 12),
    levels=st.integers(1, 4),
)
def test_ties_go_to_the_lowest_index(seed, queries, rows, columns, levels):
    """Few grey levels: duplicates and exactly equal distances everywhere."""
    g = np.random.default_rng(seed)
    draw = lambda n: torch.tensor(g.integers(0, levels, (n, columns)), dtype=torch.float32)  # noqa: E731
    check(draw(queries), draw(rows))


def test_copies_across_blocks_go_to_the_first(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", (64, module._GROUP))
    database = spectrum(5, 200, 27, 0.7)
    queries = database[torch.randperm(200, generator=torch.Generator().manual_seed(0))[:60]]
    indices, squared = nearest(queries, torch.cat([database, database, database]))
    assert torch.equal(database[indices], queries) and int(indices.max()) < 200
    assert not squared.any()


def test_neighbours_closer_than_single_precision_resolves():
    """Rows that differ in the last bits of large values; products of float32 alone cannot tell them apart."""
    base = spectrum(6, 1, 27, 1.0) + 1000
    steps = torch.arange(400)[:, None] * torch.finfo(torch.float32).eps * 1024
    database = (base + steps * (torch.arange(27) == 3)).float()
    check(database[::7].clone(), database.flip(0).contiguous())


def test_reduced_precision_products_are_not_used(monkeypatch):
    seen, search = [], module._search

    def watched(*arguments):
        seen.append(torch.get_float32_matmul_precision())
        return search(*arguments)

    monkeypatch.setattr(module, "_search", watched)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        nearest(spectrum(7, 4, 27, 0.9), spectrum(8, 50, 27, 0.9))
        assert seen == ["highest"] and torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("scale", [1e-30, 1e-21, 1e-22, 1e-23, 1e14])
def test_any_scale(scale):
    check(spectrum(9, 40, 27, 0.9) * scale, spectrum(10, 500, 27, 0.9) * scale)


def test_no_queries_give_no_answers():
    indices, squared = nearest(torch.empty(0, 5), torch.ones(3, 5))
    assert indices.shape == squared.shape == (0,)
    assert indices.dtype == torch.int64 and squared.dtype == torch.float64


@pytest.mark.parametrize(
    ("queries", "database", "message"),
    [
        (torch.ones(2, 3).double(), torch.ones(4, 3), r"queries: expected shape \(rows, D\) float32, found \(2, 3\)"),
        (torch.ones(3), torch.ones(4, 3), r"queries: expected shape \(rows, D\) float32, found \(3,\)"),
        (torch.ones(2, 3), torch.ones(4, 5), r"database: expected at least one row of 3 values, found \(4, 5\)"),
        (torch.ones(2, 3), torch.ones(0, 3), r"database: expected at least one row of 3 values, found \(0, 3\)"),
        (torch.ones(2, 3), torch.full((1, 3), torch.nan), "database: expected finite values below 1e.15, found larger"),
    ],
)
def test_bad_input_is_refused(queries, database, message):
    with pytest.raises(NbkitError, match=message):
        nearest(queries, database)
