"""The design matrix, and the only loops over its rows.

A Hessian-vector product uses every row twice, once in X v and once in X'(...).  Block by block, the second use finds
the rows still in the cache, and X is streamed from memory once.  In a long pass spans of blocks go to different
threads, each with its own partial sum, so that the work between the matrix products is divided, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from influence_cli.core.parallel import collected, spread, summed
from influence_cli.core.rows.rows import Add, Piece
from influence_cli.core.weights import batches

DOUBLE, SINGLE = np.dtype(np.float64), np.dtype(np.float32)
BLOCK_NUMBERS, OUTPUT_NUMBERS = 1 << 19, 1 << 18
"""Float64 numbers of X (4 MiB) and of outputs (2 MiB) that a block of rows may have: few enough for one block per
thread in the shared cache, enough for matrix products to run at full speed and for Python's overhead not to count.  For
larger outputs the system would map new memory for each of their derivatives, which takes longer than the products."""
PARTS, PART = 8, 1_000_000
"""A pass has at least ``PARTS`` blocks if each then takes ``PART`` multiply-adds, so that threads can share short
passes, too."""
CHOSEN_NUMBERS = 1 << 18
"""Float64 numbers of X in a block of rows that are picked for a group."""
COPY_FLOPS, NARROW_FLOPS = 25.0, 1.7
"""Time to copy a number of X, and time of a multiply-add in a product with few outputs, in units of the time of a
multiply-add in a product with many (measured, docs/performance.md)."""
ROW_COLUMNS = 100
"""Columns of X that take as long as the work on a row that is no matrix product, including the access to a distant
row."""
GROUP_OVERHEAD_FLOPS = 6e5
"""Python's overhead for one group, 27 microseconds, in multiply-adds of a product with many outputs (measured)."""


def read_together(sizes: np.ndarray, columns: int) -> list[slice]:
    """Slices of consecutive groups of the given ``sizes`` (G,) whose rows are read together; single groups where the
    work on the largest exceeds Python's overhead for a group."""
    pays = sizes.max(initial=0) * columns < GROUP_OVERHEAD_FLOPS
    return batches(sizes, max(64, CHOSEN_NUMBERS // max(columns, 1)) if pays else 1)


@dataclass(frozen=True)
class Design:
    """X (m, d) followed by a column of ones if ``intercept`` (never materialised): D columns in all.

    Passes round X and its factors to ``dtype`` block by block; sums over blocks are float64.
    """

    X: np.ndarray
    intercept: bool
    dtype: np.dtype = DOUBLE
    keeps_states: ClassVar[bool] = True
    """Whether results for every row are worth keeping for the next pass.  Here they are, because no row is read from
    disk."""

    may_be_away: ClassVar[bool] = False
    """Whether other processes may do the work on blocks, so that nothing but its return value reaches this process."""

    def single(self, outputs: int) -> Design:
        """The same design with passes in float32; itself where that is not faster."""
        return self if self.dtype == SINGLE else replace(self, dtype=SINGLE)

    def largest(self) -> float:
        """The largest absolute value in X."""
        return max(float(np.abs(self.X[rows]).max(initial=0.0)) for rows in self.blocks(1))

    @property
    def rows(self) -> int:
        return self.X.shape[0]

    @property
    def columns(self) -> int:
        """D."""
        return self.X.shape[1] + self.intercept

    @property
    def stored(self) -> int:
        """The numbers of X that are stored."""
        return int(self.X.size)

    def used_columns(self) -> np.ndarray:
        """Which columns of X (d,) contain a number other than 0."""
        used = np.zeros(self.X.shape[1], dtype=bool)
        for rows in self.blocks(1):
            used |= self.X[rows].any(axis=0)
            if used.all():
                break
        return used

    def blocks(self, outputs: int) -> Iterator[slice]:
        """Slices that cut the rows into blocks for passes with that many outputs for each row."""
        size = min(BLOCK_NUMBERS // max(self.X.shape[1], 1), OUTPUT_NUMBERS // max(outputs, 1))
        parts = max(1, min(PARTS, int(self.operations(outputs)) // PART))
        size = max(64, min(size, -(-self.rows // parts)))
        return (slice(start, min(start + size, self.rows)) for start in range(0, self.rows, size))

    def operations(self, outputs: int) -> float:
        """Multiply-adds of a pass with that many outputs for each row."""
        return float(self.rows) * self.columns * outputs

    def total(self, add: Add, blocks: Sequence[slice], shape: tuple[int, ...], operations: float) -> np.ndarray:
        """The sum of the arrays that ``add(span, out)`` fills, starting from zeros of that shape, for spans of the
        blocks, several at once.  Sizes alone decide the spans, and their sums are added in order."""
        return summed(add, blocks, shape, operations=operations)

    def each(self, work: Callable[[slice], Piece], outputs: int) -> Iterable[Piece]:
        """work(rows) for every block of rows, in order; several are computed at once."""
        return collected(work, self.blocks(outputs), operations=self.operations(outputs))

    def filled(self, work: Callable[[slice], np.ndarray], out: np.ndarray, outputs: int) -> np.ndarray:
        """``out`` (m, ...) with the rows of every block set to work(rows)."""

        def fill(rows: slice) -> None:
            out[rows] = work(rows)

        spread(fill, self.blocks(outputs), operations=self.operations(outputs))
        return out

    def forward(self, W: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        """W [X 1]' for these rows, (C, b), where W is (C, D)."""
        return self.outputs_of(W.astype(self.dtype, copy=False), self._rounded(rows))

    def _rounded(self, rows: slice | np.ndarray) -> np.ndarray:
        return self._chosen(rows).astype(self.dtype, copy=False)

    def _chosen(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice) or not isinstance(self.X, np.ndarray):
            return self.X[rows]
        return self.X.take(rows, axis=0)  # takes less time than X[rows]

    def outputs_of(self, W: np.ndarray, X: np.ndarray) -> np.ndarray:
        """W [X 1]' for a block of rows X (b, d) in the precision of the passes, (C, b)."""
        d = X.shape[1]
        out = W[:, :d] @ X.T
        if self.intercept:
            out += W[:, d:]
        return out

    def add_product(self, R: np.ndarray, X: np.ndarray, out: np.ndarray) -> None:
        """Add R [X 1] for a block of rows X (b, d), with R (outputs, b), to the sum ``out`` (outputs, D)."""
        R, d = R.astype(self.dtype, copy=False), X.shape[1]
        out[:, :d] += R @ X
        if self.intercept:
            out[:, d] += R.sum(axis=1)

    def sweep(self, W: np.ndarray, rowwise: Callable[[np.ndarray, slice], np.ndarray], outputs: int) -> np.ndarray:
        """The sum over all blocks of R [X 1], (outputs, D), where R = rowwise(forward(W), rows) is (outputs, b) and W
        is (C, D).

        ``rowwise`` is called for blocks in any order, and for several at once.
        """
        W, widest = W.astype(self.dtype, copy=False), max(len(W), outputs)
        with_ones = self.intercept and widest >= self.columns

        def add(blocks: Sequence[slice], out: np.ndarray) -> None:
            for rows in blocks:
                if with_ones:  # copying X takes less time than adding the intercept to so many outputs
                    X = np.ones((rows.stop - rows.start, self.columns), dtype=self.dtype)
                    X[:, :-1] = self.X[rows]
                    out += rowwise(W @ X.T, rows).astype(self.dtype, copy=False) @ X
                else:
                    X = self._rounded(rows)
                    self.add_product(rowwise(self.outputs_of(W, X), rows), X, out)

        return self.total(add, list(self.blocks(widest)), (outputs, self.columns), self.operations(widest))

    def sweep_chosen(
        self,
        W: np.ndarray,
        rowwise: Callable[[np.ndarray, slice, int], np.ndarray],
        chosen: Sequence[np.ndarray],
        outputs: int,
    ) -> np.ndarray:
        """G sweeps, each over its own rows, with W (G, F, D): (G, outputs, D).

        For group g only the rows ``chosen[g]`` are read; ``rowwise(forward(W[g]), span, g)`` is (outputs, b) for the
        rows ``chosen[g][span]``.
        """
        W = W.astype(self.dtype, copy=False)
        sums = np.zeros((len(chosen), outputs, self.columns))
        size = max(64, CHOSEN_NUMBERS // max(self.X.shape[1], 1))

        def add(g: int) -> None:
            for start in range(0, len(chosen[g]), size):
                span = slice(start, min(start + size, len(chosen[g])))
                X = self._rounded(chosen[g][span])
                self.add_product(rowwise(self.outputs_of(W[g], X), span, g), X, sums[g])

        operations = sum(map(len, chosen)) * self.columns * max(outputs, COPY_FLOPS)
        spread(add, range(len(chosen)), operations=operations)
        return sums

    def sweep_groups(
        self,
        W: np.ndarray,
        rowwise: Callable[[np.ndarray, slice], np.ndarray],
        chosen: Sequence[np.ndarray],
        outputs: int,
    ) -> np.ndarray:
        """``sweep_chosen`` with one W (C, D) for all groups; many small groups are read together.

        ``rowwise(forward(W), at)`` is (outputs, n) for the rows ``np.concatenate(chosen)[at]``.
        """
        W, sums = W.astype(self.dtype, copy=False), np.zeros((len(chosen), outputs, self.columns))
        sizes, size = np.array([len(rows) for rows in chosen]), max(64, CHOSEN_NUMBERS // max(self.X.shape[1], 1))
        ends = np.cumsum(sizes)

        def add(batch: slice) -> None:
            rows, first = np.concatenate(chosen[batch]), int(ends[batch.start] - sizes[batch.start])
            for start in range(0, len(rows), size):
                X = self._rounded(rows[start : start + size])
                R = rowwise(self.outputs_of(W, X), slice(first + start, first + start + len(X)))
                parts = np.clip(ends[batch] - sizes[batch] - first - start, 0, None)
                for g, low, high in zip(
                    range(batch.start, batch.stop), parts, ends[batch] - first - start, strict=True
                ):
                    self.add_product(R[:, low:high], X[low:high], sums[g])

        operations = int(sizes.sum()) * self.columns * max(outputs, COPY_FLOPS)
        spread(add, read_together(sizes, self.columns), operations=operations)
        return sums

    def _by_group(
        self,
        W: np.ndarray,
        rowwise: Callable[[np.ndarray, slice], np.ndarray],
        chosen: Sequence[np.ndarray],
        outputs: int,
    ) -> np.ndarray:
        """``sweep_groups`` by means of ``sweep_chosen``."""
        begins = np.cumsum([0, *(len(rows) for rows in chosen)])

        def of_group(eta: np.ndarray, span: slice, g: int) -> np.ndarray:
            return rowwise(eta, slice(int(begins[g]) + span.start, int(begins[g]) + span.stop))

        return self.sweep_chosen(np.broadcast_to(W, (len(chosen), *W.shape)), of_group, chosen, outputs)

    def few_rows(self, outputs: int, products: int) -> float:
        """The share of the rows up to which ``sweep_chosen`` for a group is faster than the group's part of a
        ``sweep``.

        A row takes ``products`` matrix products, 1 or 2, of ``outputs`` outputs each.
        """
        work, row = products * outputs, self.columns + ROW_COLUMNS
        saved = work * row - GROUP_OVERHEAD_FLOPS / max(self.rows, 1)
        return max(0.0, saved) / (row * (COPY_FLOPS + NARROW_FLOPS * work))

    def gram(self, w: np.ndarray) -> np.ndarray:
        """[X 1]' diag(w) [X 1], (D, D), for weights w (m,) >= 0."""
        d = self.X.shape[1]

        def add(blocks: Sequence[slice], out: np.ndarray) -> None:
            for rows in blocks:
                block = np.ones((rows.stop - rows.start, self.columns))
                block[:, :d] = self.X[rows]
                block *= np.sqrt(w[rows])[:, None]
                out += block.T @ block  # for an array and its own transpose NumPy computes half of the product

        operations = self.rows * self.columns**2
        return self.total(add, list(self.blocks(1)), (self.columns, self.columns), operations)

    def squares(self, w: np.ndarray) -> np.ndarray:
        """The diagonal of ``gram``, (D,)."""

        def add(blocks: Sequence[slice], out: np.ndarray) -> None:
            for rows in blocks:
                X = self.X[rows]
                out += np.einsum("i,ij,ij->j", w[rows], X, X)

        sums = self.total(add, list(self.blocks(1)), (self.X.shape[1],), self.operations(1))
        return np.append(sums, [w.sum()] * self.intercept)

    def sums(self, w: np.ndarray) -> np.ndarray:
        """w' [X 1] for weights w (m,), (D,)."""

        def add(blocks: Sequence[slice], out: np.ndarray) -> None:
            for rows in blocks:
                out += w[rows] @ self.X[rows]

        sums = self.total(add, list(self.blocks(1)), (self.X.shape[1],), self.operations(1))
        return np.append(sums, [w.sum()] * self.intercept)

    def picked(self, rows: np.ndarray) -> Design:
        """The design of these rows alone, in memory."""
        return replace(self, X=self.X[rows])

    def chosen_moments(self, rows: np.ndarray, w: np.ndarray) -> np.ndarray:
        """The ``sums`` and ``squares`` over these rows (n,) alone, with weights w (n,): (2, D)."""
        out = np.zeros((2, self.columns))
        step = max(1, CHOSEN_NUMBERS // max(1, self.X.shape[1]))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            picked = self.picked(rows[part])
            out += picked.sums(w[part]), picked.squares(w[part])
        return out

    def dense(self, rows: slice | np.ndarray, used: np.ndarray) -> np.ndarray:
        """The columns ``used`` (d,) bool of these rows of X, dense: (b, number of used columns)."""
        return self._chosen(rows) if used.all() else self._chosen(rows)[:, used]

    def outer(self, cotangent: np.ndarray) -> np.ndarray:
        """The outer product of ``cotangent`` (K, m) and [X 1] for each row, (m, K, D)."""
        ones = np.ones((self.rows, int(self.intercept)))
        return np.einsum("kt,tj->tkj", cotangent, np.hstack([self.X, ones]))
