"""The design matrix in compressed rows (CSR): only its nonzeros are stored, and no dense copy is ever made.

Each nonzero is used twice in a pass, once in X W' and once in X'(...).  Spans of rows go to different threads, each
with its own partial sum; SciPy's and NumPy's loops run in parallel.  The alternative, temporary dense blocks of rows,
was measured: it takes as long as the nonzeros for MNIST, and up to fifty times as long for sparser data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array

from influence_cli.core.parallel import spread
from influence_cli.core.rows import design
from influence_cli.core.rows.design import Design
from influence_cli.core.rows.rows import Rows
from influence_cli.core.rows.streamed_design import StreamedDesign

Features: TypeAlias = np.ndarray | csr_array

NONZERO_FLOPS = 10.0
"""Time of a multiply-add with a nonzero, in units of the time of one in a dense product (measured)."""
NONZERO_NS, NONZERO_OUTPUT_NS = 2.2, 0.69
"""Nanoseconds of a pass per nonzero, and per nonzero and output (measured; only their ratio matters)."""
PICKED_NS, GROUP_OVERHEAD_NS = 2.0, 5e4
"""Nanoseconds to copy a nonzero of a row that is picked for a group, and of Python's overhead per group (measured)."""


@dataclass(frozen=True)
class SparseDesign(Design):
    """X (m, d) float64 in canonical CSR form: column numbers are sorted, and none occurs twice in a row."""

    X: Any

    def single(self, outputs: int) -> SparseDesign:
        """Itself: arithmetic is the smaller part of a pass over the nonzeros."""
        return self

    @property
    def stored(self) -> int:
        return int(self.X.nnz)

    def used_columns(self) -> np.ndarray:
        used = np.zeros(self.X.shape[1], dtype=bool)
        for rows in self.blocks(1):
            block = _rows_of(self.X, rows)
            used[block.indices[block.data != 0]] = True
        return used

    def blocks(self, outputs: int) -> Iterator[slice]:
        """Slices whose numbers, of X or of outputs, fill about one block; longer ones where the sum itself has more
        numbers."""
        each = max(self.stored / max(self.rows, 1), outputs, 1)
        size = max(64, int(max(design.BLOCK_NUMBERS, self.columns) / each))
        return (slice(start, min(start + size, self.rows)) for start in range(0, self.rows, size))

    def largest(self) -> float:
        return max(float(np.abs(_rows_of(self.X, rows).data).max(initial=0.0)) for rows in self.blocks(1))

    def forward(self, W: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        return _Kernel(self, W).forward(_rows_of(self.X, rows))

    def sweep(self, W: np.ndarray, rowwise: Callable[[np.ndarray, slice], np.ndarray], outputs: int) -> np.ndarray:
        def add(blocks: Sequence[slice], out: np.ndarray) -> None:
            kernel = _Kernel(self, W)
            for rows in blocks:
                block = _rows_of(self.X, rows)
                kernel.back(block, rowwise(kernel.forward(block), rows))
            kernel.write(out)

        widest = max(len(W), outputs)
        operations = self.stored * widest * NONZERO_FLOPS
        return self.total(add, list(self.blocks(widest)), (outputs, self.columns), operations)

    def outputs_of(self, W: np.ndarray, X: csr_array) -> np.ndarray:
        return _Kernel(self, W).forward(X)

    def add_product(self, R: np.ndarray, X: csr_array, out: np.ndarray) -> None:
        d = X.shape[1]
        out[:, :d] += (X.T @ np.ascontiguousarray(R.T, dtype=np.float64)).T
        if self.intercept:
            out[:, d] += R.sum(axis=1)

    def sweep_chosen(
        self,
        W: np.ndarray,
        rowwise: Callable[[np.ndarray, slice, int], np.ndarray],
        chosen: Sequence[np.ndarray],
        outputs: int,
    ) -> np.ndarray:
        sums = np.zeros((len(chosen), outputs, self.columns))
        step = next(self.blocks(outputs), slice(0, 1)).stop

        def add(g: int) -> None:
            kernel = _Kernel(self, W[g])
            for start in range(0, len(chosen[g]), step):
                span = slice(start, min(start + step, len(chosen[g])))
                block = _rows_of(self.X, chosen[g][span])
                kernel.back(block, rowwise(kernel.forward(block), span, g))
            kernel.write(sums[g])

        share = sum(map(len, chosen)) / max(self.rows, 1)
        spread(add, range(len(chosen)), operations=share * self.stored * outputs * NONZERO_FLOPS)
        return sums

    sweep_groups = Design._by_group

    def few_rows(self, outputs: int, products: int) -> float:
        each = NONZERO_OUTPUT_NS * outputs * products / 2
        return max(0.0, self.stored * each - GROUP_OVERHEAD_NS) / max(
            1.0, self.stored * (PICKED_NS + NONZERO_NS + each)
        )

    def gram(self, w: np.ndarray) -> np.ndarray:
        d = self.X.shape[1]
        out = np.zeros((self.columns, self.columns))
        for rows in self.blocks(1):
            block = _rows_of(self.X, rows)
            heavy = _with_data(block, block.data * np.repeat(w[rows], np.diff(block.indptr)))
            product = (block.T @ heavy).tocoo()
            out[product.row, product.col] += product.data
            if self.intercept:
                out[:d, d] += block.T @ w[rows]
        if self.intercept:
            out[d, :d], out[d, d] = out[:d, d], w.sum()
        return out

    def squares(self, w: np.ndarray) -> np.ndarray:
        out = np.ones(self.columns) * w.sum()
        out[: self.X.shape[1]] = 0.0
        for rows in self.blocks(1):
            block = _rows_of(self.X, rows)
            out[: self.X.shape[1]] += _with_data(block, block.data**2).T @ w[rows]
        return out

    def sums(self, w: np.ndarray) -> np.ndarray:
        out = np.zeros(self.X.shape[1])
        for rows in self.blocks(1):
            out += _rows_of(self.X, rows).T @ w[rows]
        return np.append(out, [w.sum()] * self.intercept)

    def chosen_moments(self, rows: np.ndarray, w: np.ndarray) -> np.ndarray:
        block = _rows_of(self.X, rows)
        both = block.T @ w, _with_data(block, block.data**2).T @ w
        return np.stack([np.append(one, [w.sum()] * self.intercept) for one in both])

    def dense(self, rows: slice | np.ndarray, used: np.ndarray) -> np.ndarray:
        return _rows_of(self.X, rows).toarray()[:, used]

    def outer(self, cotangent: np.ndarray) -> np.ndarray:
        out = np.zeros((self.rows, len(cotangent), self.columns))
        at = np.repeat(np.arange(self.rows), np.diff(self.X.indptr))
        out[at, :, self.X.indices] = self.X.data[:, None] * cotangent[:, at].T
        if self.intercept:
            out[:, :, -1] = cotangent.T
        return out


class _Kernel:
    """One thread's work on blocks of rows: ``forward`` and ``back`` for each block, and ``write`` at the end."""

    def __init__(self, owner: SparseDesign, W: np.ndarray):
        d = owner.X.shape[1]
        self._bias = W[:, d:] if owner.intercept else None
        self._right = np.ascontiguousarray(W[:, :d].T, dtype=np.float64)
        self._total: np.ndarray | None = None
        self._ones: np.ndarray | float = 0.0

    def forward(self, block: csr_array) -> np.ndarray:
        """W [X 1]' for the rows of the block, (C, b)."""
        out = np.ascontiguousarray((block @ self._right).T)
        return out if self._bias is None else out + self._bias

    def back(self, block: csr_array, R: np.ndarray) -> None:
        """Add R [X 1] for the block to the partial sum, where R is (outputs, b)."""
        part = block.T @ np.ascontiguousarray(R.T, dtype=np.float64)
        self._total = part if self._total is None else np.add(self._total, part, out=self._total)
        if self._bias is not None:
            self._ones = self._ones + R.sum(axis=1)

    def write(self, out: np.ndarray) -> None:
        """Add the partial sum to ``out`` (outputs, D)."""
        if self._total is None:
            return
        d = len(self._total)
        out[:, :d] += self._total.T
        if self._bias is not None:
            out[:, d] += self._ones


class StreamedSparseDesign(StreamedDesign, SparseDesign):
    """X (m, d) as ``Rows`` whose blocks are CSR arrays."""

    def picked(self, rows: np.ndarray) -> Design:
        return SparseDesign(self.X.take(rows), self.intercept)


def is_compressed(X: Any) -> bool:
    """Whether rows, wherever they are stored, are returned as CSR arrays."""
    return getattr(X, "format", None) == "csr"


def design_of(X: Features | Rows, intercept: bool) -> Design:
    """The design of an array, of a CSR array, or of rows that are read again in every pass."""
    if isinstance(X, np.ndarray):
        return Design(X, intercept)
    if isinstance(X, csr_array):
        return SparseDesign(X, intercept)
    return (StreamedSparseDesign if is_compressed(X) else StreamedDesign)(X, intercept)


def _rows_of(X: csr_array, rows: slice | np.ndarray) -> csr_array:
    """These rows; for a slice a view, because slicing, like the constructor, would copy the numbers."""
    if isinstance(rows, np.ndarray) or not isinstance(X, csr_array):
        return X[rows]
    ends = X.indptr[rows.start : rows.stop + 1]
    part = csr_array((len(ends) - 1, X.shape[1]))  # not rows.stop, which may lie beyond the last row
    part.data, part.indices = X.data[ends[0] : ends[-1]], X.indices[ends[0] : ends[-1]]
    part.indptr = ends - ends[0]
    return part


def _with_data(X: csr_array, data: np.ndarray) -> csr_array:
    """The same sparsity pattern with other values."""
    other = csr_array(X.shape)
    other.data, other.indices, other.indptr = data, X.indices, X.indptr
    return other
