"""Exact nearest neighbours among image patches: single precision proposes, double precision decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch

from nbkit.core.checks import require
from nbkit.core.device import one_thread, side_by_side

_GROUP = 32  # database rows whose smallest score is looked at together
_BLOCK = (512, 64 * _GROUP)  # queries × database rows at a time: their scores fit a processor's cache
_BLOCK_CUDA = (8192, 512 * _GROUP)
_LARGEST, _UNDERFLOW = 1e15, 1e-36  # squares beyond these leave the range of float32
_PAIRS = 1 << 15  # exact distances at a time
_SAMPLE = 10_000  # database rows that decide the axis to sort along: a matter of speed only


def nearest(queries: torch.Tensor, database: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest database row of each query row by Euclidean distance, exact, on any device.

    The database is sorted along its first principal axis and cut into blocks; a block whose gap to a query along
    that axis exceeds the smallest distance so far is skipped. In the others one matrix product in single precision
    gives all distances, and rows whose distance, less its rounding error, does not exceed the smallest so far are
    compared in double precision. The data decide the time, never the answer.

    Parameters
    ----------
    queries : torch.Tensor
        (N, D) float32.
    database : torch.Tensor
        (M, D) float32, on the device of `queries`.

    Returns
    -------
    indices : torch.Tensor
        (N,) int64; of equally near rows the lowest.
    squared : torch.Tensor
        (N,) float64 squared distances (on the CPU for mps, which has no float64).

    Raises
    ------
    NbkitError
        If shapes do not fit, the database is empty, or a value is not finite or above 1e15.
    """
    _check(queries, database)
    if queries.device.type == "mps":  # has no double precision
        indices, squared = nearest(queries.cpu(), database.cpu())
        return indices.to(queries.device), squared
    best = torch.full((len(queries),), torch.inf, dtype=torch.float64, device=queries.device)
    found = torch.full_like(best, len(database), dtype=torch.int64)
    step, width = _BLOCK_CUDA if queries.is_cuda else _BLOCK
    with _full_precision():
        with one_thread():
            index = _Index.build(database, width)
            blocks = index.along(queries).argsort().split(step)
        act = map if queries.is_cuda else side_by_side
        for rows, answer in zip(blocks, act(lambda rows: _search(queries[rows], index), blocks)):
            best[rows], found[rows] = answer
    return found, best


@dataclass(frozen=True)
class _Index:
    """The database sorted along `axis` and cut into blocks.

    `blocks` (blocks, width, D + 1) holds centred rows and their squared lengths, the last block filled up with
    infinitely far rows; `order` gives their place in `rows`; `low` and `high` are the blocks' ends along the axis.
    """

    rows: torch.Tensor
    order: torch.Tensor
    centre: torch.Tensor
    axis: torch.Tensor
    blocks: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    longest: float

    @classmethod
    def build(cls, rows: torch.Tensor, width: int) -> Self:
        sample = rows[:: -(-len(rows) // _SAMPLE)].double()
        centre = sample.mean(0)
        axis = torch.linalg.eigh((sample - centre).T @ (sample - centre)).eigenvectors[:, -1]
        along = (rows.double() - centre) @ axis
        order = along.argsort()
        along, offsets = along[order], rows[order].double() - centre
        squared = offsets.square().sum(1, keepdim=True)
        width = min(width, -(-len(rows) // _GROUP) * _GROUP)
        starts = torch.arange(0, len(rows), width, device=rows.device)
        blocks = torch.zeros(len(starts) * width, rows.shape[1] + 1, device=rows.device)
        blocks[:, -1] = torch.inf
        blocks[: len(rows)] = torch.cat([offsets, squared], 1)
        ends = (starts + width).clamp(max=len(rows)) - 1
        return cls(rows, order, centre, axis, blocks.view(len(starts), width, -1), along[starts], along[ends],
                   float(squared.max().sqrt()))

    def along(self, rows: torch.Tensor) -> torch.Tensor:
        """Coordinate of each row along the axis, float64."""
        return (rows.double() - self.centre) @ self.axis


def _search(queries: torch.Tensor, index: _Index) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distance and database row of one block of queries, nearest database blocks first."""
    offsets, along = queries.double() - index.centre, index.along(queries)[:, None]
    squared = offsets.square().sum(1)
    left = torch.cat([-2 * offsets, torch.ones_like(along)], 1).float()
    # float32 error of a product of D terms: D units in the last place of |q||d|, doubled for what is rounded around it
    slack = 2 * (queries.shape[1] + 8) * 2.0**-24 * (squared.sqrt() + index.longest) ** 2 + _UNDERFLOW
    gaps = (index.low - along).maximum(along - index.high).clamp(min=0).square()
    width = index.blocks.shape[1]
    best = torch.full_like(squared, torch.inf)
    found = torch.full_like(squared, len(index.rows), dtype=torch.int64)
    for block in gaps.sum(0).argsort().tolist():
        near = (gaps[:, block] <= best + slack).nonzero().flatten()
        # squared distance less the query's own squared length
        scores = (left[near] @ index.blocks[block].T).view(len(near), _GROUP, width // _GROUP)
        lowest = scores.amin(1)
        for choose in (_promising, _within):
            rows, columns = choose(scores, lowest, (best - squared + slack)[near].float())
            _compare(queries, index.rows, near[rows], index.order[columns + block * width], best, found)
    return best, found


def _promising(
    scores: torch.Tensor, lowest: torch.Tensor, limit: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of queries with a score within `limit`, the column of the smallest; columns count member · groups + group."""
    smallest, group = lowest.min(1)
    rows = (smallest <= limit).nonzero().flatten()
    group = group[rows]
    return rows, scores[rows, :, group].argmin(1) * lowest.shape[1] + group


def _within(scores: torch.Tensor, lowest: torch.Tensor, limit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All (query, column) whose score does not exceed the query's `limit`."""
    rows, groups = (lowest <= limit[:, None]).nonzero(as_tuple=True)
    pair, member = (scores[rows, :, groups] <= limit[rows, None]).nonzero(as_tuple=True)
    return rows[pair], member * lowest.shape[1] + groups[pair]


def _compare(
    queries: torch.Tensor, database: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, best: torch.Tensor,
    found: torch.Tensor,
) -> None:
    """Improve `best` and `found` with the distances of the pairs (rows, columns), in place."""
    if not len(rows):
        return
    pieces = zip(rows.split(_PAIRS), columns.split(_PAIRS))
    squared = torch.cat([_squared(queries[r], database[c]) for r, c in pieces])
    smallest = best.scatter_reduce(0, rows, squared, "amin")
    ties = squared == smallest[rows]
    kept = torch.where(smallest < best, len(database), found)
    found.copy_(kept.scatter_reduce(0, rows[ties], columns[ties], "amin"))
    best.copy_(smallest)


def _squared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared distances of paired rows; halves are added elementwise, so equal rows give equal bits everywhere."""
    terms = (a.double() - b.double()).square_()
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        rest = terms[:, 2 * half :]
        terms = torch.cat([terms[:, :half] + terms[:, half : 2 * half], rest], 1)
    return terms[:, 0]


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 or bfloat16 products inside: the rounding error allowed for is that of float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _check(queries: torch.Tensor, database: torch.Tensor) -> None:
    for name, rows in (("queries", queries), ("database", database)):
        require(
            rows.ndim == 2 and rows.shape[1] > 0 and rows.dtype == torch.float32, f"nearest: {name}",
            expected="shape (rows, D) float32", found=f"{tuple(rows.shape)} {rows.dtype}",
            remedy="Flatten each patch into one row.",
        )
        require(
            bool((rows.abs() < _LARGEST).all()), f"nearest: {name}", expected=f"finite values below {_LARGEST:g}",
            found="larger ones, NaN or infinity", remedy="Check the images the patches come from.",
        )
    require(
        queries.shape[1] == database.shape[1] and len(database) > 0, "nearest: database",
        expected=f"at least one row of {queries.shape[1]} values", found=tuple(database.shape),
        remedy="Use the same inputs and patch size for both.",
    )
