"""The design matrix in compressed rows: its nonzeros alone are kept, and no dense copy is ever made.

Few outputs a row are computed from the nonzeros, each of which is met twice, once in X W' and once in X'(...).  Many
outputs a row of a matrix that is not very sparse are computed from dense blocks of rows that fit the cache and are
thrown away: a dense product takes a seventh of the time for each number.  Spans of rows go to different threads, each
with a sum of its own; SciPy's and NumPy's loops run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array

from influence_cli.core.parallel import spread, summed
from influence_cli.core.rows import design
from influence_cli.core.rows.design import SINGLE, Design

Features: TypeAlias = np.ndarray | csr_array

DENSE_ELEMENTS = 1 << 18
"""Float64 numbers (2 MiB) of a dense block of rows, one a thread."""
DIRECT_OPERATION = 10.0
"""Time of a multiply-add with a nonzero, in that of one in a dense product."""
NONZERO, NONZERO_OUTPUT = 2.2, 0.69
"""Time of a sweep for each nonzero, and for each nonzero and output, in nanoseconds on the machine that measured it."""
PLACE, PLACE_OUTPUT = 2.5, 0.093
"""The same for each place, zero or not, of dense blocks that are made, used and thrown away.  Only ratios count."""
PICKED, CALLS = 2.0, 5e4
"""The same for each nonzero of rows that are picked for a group, and for Python to start on it."""


@dataclass(frozen=True)
class SparseDesign(Design):
    """X (m, d) float64 in canonical CSR form: sorted column numbers, none twice."""

    X: Any

    def single(self, outputs: int) -> SparseDesign:
        """Itself for few outputs: most of a pass over the nonzeros is no arithmetic."""
        return self._single if self.dtype != SINGLE and self._is_wide(outputs) else self

    @cached_property
    def _single(self) -> SparseDesign:
        twin = replace(self, dtype=SINGLE)
        vars(twin)["_packed"] = self._packed
        return twin

    @property
    def stored(self) -> int:
        return int(self.X.nnz)

    def used_columns(self) -> np.ndarray:
        used = np.zeros(self.X.shape[1], dtype=bool)
        for rows in self._spans(self.rows, self._narrow_rows(1)):
            block = _rows_of(self.X, rows)
            used[block.indices[block.data != 0]] = True
        return used

    def blocks(self, outputs: int) -> Iterator[slice]:
        size = self._dense_rows if self._is_wide(outputs) else self._narrow_rows(outputs)
        return self._spans(self.rows, size)

    def operations(self, outputs: int) -> float:
        return float(self.stored) * outputs * DIRECT_OPERATION

    def largest(self) -> float:
        return float(np.abs(self.X.data).max(initial=0.0))

    def forward(self, W: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        W = W.astype(self.dtype, copy=False)
        first, count = (0, len(rows)) if isinstance(rows, np.ndarray) else (rows.start, rows.stop - rows.start)
        out = np.empty((len(W), count), dtype=W.dtype)
        step = self._steps(W, len(W))
        for part in self._spans(count, step.rows):
            step.load(rows[part] if isinstance(rows, np.ndarray) else slice(first + part.start, first + part.stop))
            out[:, part] = step.forward()
        return out

    def sweep(self, W: np.ndarray, rowwise: Callable[[np.ndarray, slice], np.ndarray], outputs: int) -> np.ndarray:
        d = self.X.shape[1]
        W = W.astype(self.dtype, copy=False)

        def add(blocks: Sequence[slice], out: np.ndarray) -> None:
            step = self._steps(W, outputs)
            for rows in blocks:
                step.load(rows)
                R = rowwise(step.forward(), rows).astype(self.dtype, copy=False)
                step.back(R)
                if self.intercept:
                    out[:, d] += R.sum(axis=1)
            step.write(out)

        widest = max(len(W), outputs)
        return summed(add, list(self.blocks(widest)), (outputs, self.columns), operations=self.operations(widest))

    def sweep_chosen(
        self,
        W: np.ndarray,
        rowwise: Callable[[np.ndarray, slice, int], np.ndarray],
        chosen: Sequence[np.ndarray],
        outputs: int,
    ) -> np.ndarray:
        d = self.X.shape[1]
        W = W.astype(self.dtype, copy=False)
        sums = np.zeros((len(chosen), outputs, self.columns))

        def add(g: int) -> None:
            step = self._steps(W[g], outputs)
            for start in range(0, len(chosen[g]), step.rows):
                span = slice(start, min(start + step.rows, len(chosen[g])))
                step.load(chosen[g][span])
                R = rowwise(step.forward(), span, g).astype(self.dtype, copy=False)
                step.back(R)
                if self.intercept:
                    sums[g, :, d] += R.sum(axis=1)
            step.write(sums[g])

        share = sum(map(len, chosen)) / max(self.rows, 1)
        spread(add, range(len(chosen)), operations=share * self.operations(outputs))
        return sums

    def few_rows(self, outputs: int, products: int) -> float:
        places, each = self.rows * self.X.shape[1], outputs * products / 2
        wide = min(self.stored * NONZERO_OUTPUT, places * PLACE_OUTPUT) * each
        return max(0.0, wide - CALLS) / max(1.0, self.stored * (PICKED + NONZERO + NONZERO_OUTPUT * each))

    def gram(self, w: np.ndarray) -> np.ndarray:
        d = self.X.shape[1]
        out = np.zeros((self.columns, self.columns))
        out[:d, :d] = self._dense_gram(w) if self._is_wide(self.columns) else self._direct_gram(w)
        if self.intercept:
            for rows in self._spans(self.rows, self._narrow_rows(1)):
                out[:d, d] += _rows_of(self.X, rows).T @ w[rows]
            out[d, :d], out[d, d] = out[:d, d], w.sum()
        return out

    def _direct_gram(self, w: np.ndarray) -> np.ndarray:
        out = np.zeros((self.X.shape[1],) * 2)
        for rows in self._spans(self.rows, self._narrow_rows(1)):
            block = _rows_of(self.X, rows)
            heavy = _with_data(block, block.data * np.repeat(w[rows], np.diff(block.indptr)))
            product = (block.T @ heavy).tocoo()
            out[product.row, product.col] += product.data
        return out

    def _dense_gram(self, w: np.ndarray) -> np.ndarray:
        X, kept = self._packed
        packed = np.zeros((len(kept),) * 2)
        for rows in self._spans(self.rows, self._dense_rows):
            block = _rows_of(X, rows).toarray()
            packed += block.T @ (block * w[rows, None])
        out = np.zeros((self.X.shape[1],) * 2)
        out[np.ix_(kept, kept)] = packed
        return out

    def squares(self, w: np.ndarray) -> np.ndarray:
        out = np.ones(self.columns) * w.sum()
        out[: self.X.shape[1]] = 0.0
        for rows in self._spans(self.rows, self._narrow_rows(1)):
            block = _rows_of(self.X, rows)
            out[: self.X.shape[1]] += _with_data(block, block.data**2).T @ w[rows]
        return out

    def dense(self, rows: slice | np.ndarray, used: np.ndarray) -> np.ndarray:
        X, kept = self._packed
        if np.array_equal(kept, np.flatnonzero(used)):
            return _rows_of(X, rows).toarray()
        return _rows_of(self.X, rows).toarray()[:, used]

    def outer(self, cotangent: np.ndarray) -> np.ndarray:
        out = np.zeros((self.rows, len(cotangent), self.columns))
        at = np.repeat(np.arange(self.rows), np.diff(self.X.indptr))
        out[at, :, self.X.indices] = self.X.data[:, None] * cotangent[:, at].T
        if self.intercept:
            out[:, :, -1] = cotangent.T
        return out

    def _is_wide(self, outputs: int) -> bool:
        """Whether dense blocks pay for passes with that many outputs a row."""
        direct = self.stored * (NONZERO + NONZERO_OUTPUT * outputs)
        return direct > self.rows * self.X.shape[1] * (PLACE + PLACE_OUTPUT * outputs)

    @cached_property
    def _packed(self) -> tuple[csr_array, np.ndarray]:
        """X with its used columns alone, and their numbers: columns of zeros have no part in a dense product."""
        used = self.used_columns()
        kept = np.flatnonzero(used)
        if used.all():
            return self.X, kept
        number = np.cumsum(used) - 1
        packed = csr_array((self.rows, len(kept)))
        # An explicit zero of a column that is dropped adds nothing wherever it lands.
        packed.data, packed.indptr = self.X.data, self.X.indptr
        packed.indices = np.maximum(number, 0).astype(self.X.indices.dtype)[self.X.indices]
        return packed, kept

    @property
    def _dense_rows(self) -> int:
        return max(64, DENSE_ELEMENTS // max(self.X.shape[1], 1))

    def _narrow_rows(self, outputs: int) -> int:
        """Rows that hold about a block's numbers, of X or of outputs; more where the sum itself has as many."""
        each = max(self.stored / max(self.rows, 1), outputs, 1)
        return max(64, int(max(design.BLOCK_ELEMENTS, self.columns) / each))

    @staticmethod
    def _spans(stop: int, size: int, start: int = 0) -> Iterator[slice]:
        return (slice(at, min(at + size, stop)) for at in range(start, stop, size))

    def _steps(self, W: np.ndarray, outputs: int) -> _Steps:
        kind = _DenseSteps if self._is_wide(max(len(W), outputs)) else _DirectSteps
        return kind(self, W, outputs)


class _Steps:
    """One thread's way through blocks of rows: ``load`` one, ``forward`` and ``back`` with it, at last ``write``."""

    rows: int

    def load(self, rows: slice | np.ndarray) -> None:
        raise NotImplementedError

    def forward(self) -> np.ndarray:
        raise NotImplementedError

    def back(self, R: np.ndarray) -> None:
        raise NotImplementedError

    def write(self, out: np.ndarray) -> None:
        raise NotImplementedError


class _DirectSteps(_Steps):
    """From the nonzeros alone."""

    def __init__(self, own: SparseDesign, W: np.ndarray, outputs: int):
        d = own.X.shape[1]
        self.X, self.dtype, self.bias = own.X, W.dtype, W[:, d:] if own.intercept else None
        self.right = np.ascontiguousarray(W[:, :d].T, dtype=np.float64)
        self.outputs, self.rows = outputs, own._narrow_rows(max(len(W), outputs))
        self.total: np.ndarray | None = None

    def load(self, rows):
        self.block = _rows_of(self.X, rows)

    def forward(self):
        out = np.ascontiguousarray((self.block @ self.right).T, dtype=self.dtype)
        if self.bias is not None:
            out += self.bias
        return out

    def back(self, R):
        part = self.block.T @ np.ascontiguousarray(R.T, dtype=np.float64)
        self.total = part if self.total is None else np.add(self.total, part, out=self.total)

    def write(self, out):
        if self.total is not None:
            out[:, : len(self.total)] += self.total.T


class _DenseSteps(_Steps):
    """From dense blocks of the used columns."""

    def __init__(self, own: SparseDesign, W: np.ndarray, outputs: int):
        d = own.X.shape[1]
        self.X, self.kept = own._packed
        self.bias = W[:, d:] if own.intercept else None
        self.left = np.ascontiguousarray(W[:, self.kept])
        self.rows = own._dense_rows
        self.buffer = np.empty((self.rows, len(self.kept)), dtype=W.dtype)
        self.total = np.zeros((outputs, len(self.kept)))

    def load(self, rows):
        block = _rows_of(self.X, rows)
        block.data = block.data.astype(self.buffer.dtype, copy=False)
        self.block = block.toarray(out=self.buffer[: block.shape[0]])

    def forward(self):
        out = self.left @ self.block.T
        if self.bias is not None:
            out += self.bias
        return out

    def back(self, R):
        self.total += R @ self.block

    def write(self, out):
        out[:, self.kept] += self.total


def design_of(X: Features, intercept: bool) -> Design:
    """The design of an array or of compressed rows."""
    return SparseDesign(X, intercept) if isinstance(X, csr_array) else Design(X, intercept)


def _rows_of(X: csr_array, rows: slice | np.ndarray) -> csr_array:
    """These rows; of a slice as a view: slicing, and the constructor too, would copy the numbers."""
    if isinstance(rows, np.ndarray):
        return X[rows]
    ends = X.indptr[rows.start : rows.stop + 1]
    part = csr_array((rows.stop - rows.start, X.shape[1]))
    part.data, part.indices = X.data[ends[0] : ends[-1]], X.indices[ends[0] : ends[-1]]
    part.indptr = ends - ends[0]
    return part


def _with_data(X: csr_array, data: np.ndarray) -> csr_array:
    """The same places with other numbers."""
    other = csr_array(X.shape)
    other.data, other.indices, other.indptr = data, X.indices, X.indptr
    return other
