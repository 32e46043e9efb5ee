"""Features written into their matrices, a block of rows at a time.

Written column by column, every number would go to another cache line.  If the columns of a large file are in pieces,
each piece is freed as soon as its rows are written.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from influence_cli.data.ahead import ahead
from influence_cli.data.kept import Kept, side_by_side
from influence_cli.data.pieces import Pieces, Restored
from influence_cli.data.table import Column

BLOCK_ROWS = 2048
"""Rows that are standardised and written at a time, few enough to stay in the cache."""
FILE_BLOCK = 2**18
"""Numbers that are written to a file at a time; with fewer, each column would be read in many small reads."""
TOGETHER = 240_000
"""Numbers of pieces that are written at a time; with fewer, threads mostly wait for the interpreter's lock (with 15,000
it takes 1.3 times as long, measured)."""
LARGEST_BYTE, LARGEST_WHOLE = 127, 2**53
"""The largest number of units in the last place that an int8 holds; up to 2^53, float64 holds all whole numbers."""
UNSCALED = {"mean": 0.0, "scale": 1.0}
"""The state of a numeric column that is not standardised."""
WORKERS = min(4, os.cpu_count() or 1)
"""Threads that write at the same time, each the rows of one piece."""


@dataclass(frozen=True)
class Block:
    """The features of one column: their names, fitted state, and the columns of training and test rows.

    They are (value - mean) / scale, or ``encode`` of the values (b,) as (b, k) for a column of text.
    """

    names: tuple[str, ...]
    state: dict[str, Any]
    train: Column
    test: Column
    encode: Callable[[np.ndarray], np.ndarray] | None = None
    notes: tuple[str, ...] = ()

    def write(self, values: np.ndarray, out: np.ndarray) -> None:
        """Write the features of the ``values`` (b,) into ``out`` (b, k)."""
        if self.encode is not None:
            out[:] = self.encode(values)
            return
        mean, scale = (self.state.get(key, usual) for key, usual in UNSCALED.items())
        np.subtract(values, mean, out=out[:, 0])
        out[:, 0] /= scale

    @property
    def pieces(self) -> Pieces | None:
        """The pieces from which training and test rows are both taken, if the values can be restored; else None."""
        stored = self.train.stored
        shared = stored is self.test.stored and self.train.rows is not None and self.test.rows is not None
        if not shared or self.encode is not None or not isinstance(stored, Pieces):
            return None
        return stored if stored.dtype.kind == "f" or max(-stored.min(), stored.max()) <= LARGEST_WHOLE else None


Placed = Sequence[tuple[int, Block]]
"""The index of the first feature of each block, and the block."""


def write(X_train: np.ndarray, X_test: np.ndarray, placed: Placed) -> dict[str, tuple[Column, Column]]:
    """Fill X_train (m, d) and X_test (n, d).

    Returns, by name, the training and test columns whose pieces were freed and which are restored from X.
    """
    split = [(start, block) for start, block in placed if block.pieces is not None]
    whole = [(start, block) for start, block in placed if block.pieces is None]
    for X, is_test in ((X_train, False), (X_test, True)):
        for first in range(0, len(X) if whole else 0, BLOCK_ROWS):
            span = slice(first, min(first + BLOCK_ROWS, len(X)))
            _fill(X[span], span, whole, is_test=is_test)
    return _by_pieces(X_train, X_test, split) if split else {}


def _fill(X: np.ndarray, span: slice, placed: Placed, *, is_test: bool) -> None:
    """Write the features of the rows of ``span`` into X (b, d)."""
    for start, block in placed:
        column = block.test if is_test else block.train
        block.write(column.part(span), X[:, start : start + len(block.names)])


def in_blocks(rows: int, count: int, placed: Placed, *, is_test: bool) -> Iterator[np.ndarray]:
    """The features of training or test rows for a file, in consecutive blocks (b, count)."""
    step = max(1, min(rows, FILE_BLOCK // count))
    alike, picked = _alike(placed, is_test=is_test)
    at = list(alike)
    numbers, others = ([one for one in placed if (one[0] in alike) == is_alike] for is_alike in (True, False))
    mean, scale = (np.array([[block.state.get(key, usual)] for _, block in numbers]) for key, usual in UNSCALED.items())

    def filled(first: int) -> np.ndarray:
        span = slice(first, min(first + step, rows))
        X = np.empty((span.stop - first, count))
        if alike:
            of_span = np.arange(span.start, span.stop) if picked is None else picked[span]
            values = side_by_side(list(alike.values()), of_span)
            values -= mean
            values /= scale
            X[:, at] = values.T
        _fill(X, span, others, is_test=is_test)
        return X

    return ahead(filled, range(0, rows, step))


def _alike(placed: Placed, *, is_test: bool) -> tuple[dict[int, Kept], np.ndarray | None]:
    """The numeric columns with the same places in a file, by index of their feature, and which ascending rows of them
    are needed (None for all)."""
    alike: dict[int, Kept] = {}
    rows: np.ndarray | None = None
    for at, block in placed:
        column = block.test if is_test else block.train
        stored = column.stored
        if block.encode is not None or not isinstance(stored, Kept) or stored.dtype.kind not in "if":
            continue
        if not alike and (column.rows is None or (np.diff(column.rows) >= 0).all()):
            rows, alike[at] = column.rows, stored
        elif alike and column.rows is rows and stored.is_like(next(iter(alike.values()))):
            alike[at] = stored
    return alike, rows


def _by_pieces(X_train: np.ndarray, X_test: np.ndarray, split: Placed) -> dict[str, tuple[Column, Column]]:
    """As ``write``, for columns in pieces: each thread writes one piece, all columns of a few rows at a time."""
    pieces = [block.pieces for _, block in split if block.pieces is not None]
    mean, scale = (np.array([[block.state[key]] for _, block in split]) for key in ("mean", "scale"))
    at = np.array([at for at, _ in split])
    columns = slice(at[0], at[-1] + 1) if at[-1] - at[0] == len(at) - 1 else at
    made: list[list[Restored]] = []
    jobs: list[list[tuple[_Side, slice]]] = [[] for _ in pieces[0].starts[1:]]
    for X, rows in ((X_train, split[0][1].train.rows), (X_test, split[0][1].test.rows)):
        assert rows is not None
        units = np.zeros((len(split), len(X)), dtype=np.int8)
        made.append([Restored(X, *one, group.dtype) for one, group in zip(_each(split, units), pieces, strict=True)])
        side = _Side(X, rows, columns, mean, scale, units, made[-1])
        for job, ends in zip(jobs, itertools.pairwise(rows.searchsorted(pieces[0].starts).tolist()), strict=True):
            job.append((side, slice(*ends)))

    def placed(place: int) -> None:
        for side, span in jobs[place]:
            side.write(pieces, place, span)
        for one in pieces:
            one.let_go(place)

    for _ in ahead(placed, range(len(jobs)), WORKERS):
        pass
    return {
        block.state["column"]: (
            replace(block.train, stored=train, rows=None),
            replace(block.test, stored=test, rows=None),
        )
        for (_, block), train, test in zip(split, *made, strict=True)
    }


def _each(split: Placed, units: np.ndarray) -> Iterator[tuple[int, float, float, np.ndarray]]:
    for (at, block), unit in zip(split, units, strict=True):
        yield at, block.state["mean"], block.state["scale"], unit


@dataclass(frozen=True)
class _Side:
    """One matrix of features, X_train or X_test, into whose ``columns`` the features of the table's ``rows`` go."""

    X: np.ndarray
    rows: np.ndarray
    columns: slice | np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    units: np.ndarray
    kept: Sequence[Restored]

    def write(self, pieces: Sequence[Pieces], place: int, span: slice) -> None:
        """Write the rows of ``span``, which all lie in the piece at index ``place``."""
        step = max(1, TOGETHER // len(pieces))
        for first in range(span.start, span.stop, step):
            self._write(pieces, place, slice(first, min(first + step, span.stop)))

    def _write(self, pieces: Sequence[Pieces], place: int, span: slice) -> None:
        local = self.rows[span] - pieces[0].starts[place]
        values = np.empty((len(pieces), len(local)))
        for row, one in zip(values, pieces, strict=True):
            part = one.piece(place)
            if part.dtype == values.dtype:
                part.take(local, out=row, mode="clip")  # checking the bounds would take a copy
            else:
                row[:] = part[local]
        made = values - self.mean
        made /= self.scale
        self.X[span, self.columns] = made.T
        made *= self.scale
        made += self.mean
        missing = values.view(np.int64) - made.view(np.int64)
        self.units[:, span] = missing
        if missing.min() < -LARGEST_BYTE or missing.max() > LARGEST_BYTE:
            wrong = (missing < -LARGEST_BYTE) | (missing > LARGEST_BYTE)
            self.units[:, span][wrong] = 0
            for number in np.flatnonzero(wrong.any(axis=1)).tolist():
                places = np.flatnonzero(wrong[number])
                self.kept[number].except_for(span.start + places, values[number, places])
