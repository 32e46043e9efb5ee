"""The design matrix and the only loops over its rows.

A Hessian-vector product needs every row twice, once for X v and once for X'(...).  Done block of rows by block of rows,
the second use finds the block still in the cache, and X is streamed from memory once.  In a long pass spans of blocks
go to different threads, each with a sum of its own: the work between the matrix products is spread with them.
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
"""Float64 numbers of X (4 MiB) and of outputs (2 MiB) that a block of rows may hold: small enough for one a thread in
the shared cache, large enough that matrix products run at full speed and Python's part does not count.  Larger arrays
of outputs the system would map anew for each of their derivatives, which takes longer than the products."""
PARTS, PART = 8, 1_000_000
"""Blocks of a pass at least, as long as each has that many multiply-adds: threads share short passes too."""
CHOSEN_NUMBERS = 1 << 18
"""The same for rows that are picked for one group."""
COPY_FLOPS, NARROW_FLOPS = 25.0, 1.7
"""Time of picking a number of X, and of a multiply-add in a product with few outputs, in that of one in a product with
many (measured, docs/performance.md)."""
ROW_COLUMNS = 100
"""Columns of X in whose time the rest of a row is done: what is no matrix product, and the way to a row far off."""
GROUP_OVERHEAD_FLOPS = 6e5
"""Python's overhead for one group, 27 microseconds, in multiply-adds of a product with many outputs (measured)."""


def read_together(sizes: np.ndarray, columns: int) -> list[slice]:
    """Groups of so many rows (G,) in parts whose rows are read at once: one group by itself where its work is more than
    Python's part of it."""
    pays = sizes.max(initial=0) * columns < GROUP_OVERHEAD_FLOPS
    return batches(sizes, max(64, CHOSEN_NUMBERS // max(columns, 1)) if pays else 1)


@dataclass(frozen=True)
class Design:
    """X (m, d), with a column of ones behind it if ``intercept`` (never materialised): D columns in all.

    Passes round X and what it is multiplied with to ``dtype``, block by block; sums over blocks are float64.
    """

    X: np.ndarray
    intercept: bool
    dtype: np.dtype = DOUBLE
    keeps_states: ClassVar[bool] = True
    """Whether what a pass has made of all rows is worth keeping for the next: no row has to be read for that."""

    may_be_away: ClassVar[bool] = False
    """Whether other processes may do the work on blocks, so that all it leaves is its result."""

    def single(self, outputs: int) -> Design:
        """The same with passes in float32, where with that many outputs a row they take half the time; else itself."""
        return self if self.dtype == SINGLE else replace(self, dtype=SINGLE)

    def largest(self) -> float:
        """The largest of X's numbers, without their signs."""
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
        """Numbers of X that are kept in memory."""
        return int(self.X.size)

    def used_columns(self) -> np.ndarray:
        """Which columns of X (d,) have a number other than 0."""
        used = np.zeros(self.X.shape[1], dtype=bool)
        for rows in self.blocks(1):
            used |= self.X[rows].any(axis=0)
            if used.all():
                break
        return used

    def blocks(self, outputs: int) -> Iterator[slice]:
        """Slices over the rows for passes with that many outputs a row."""
        size = min(BLOCK_NUMBERS // max(self.X.shape[1], 1), OUTPUT_NUMBERS // max(outputs, 1))
        parts = max(1, min(PARTS, int(self.operations(outputs)) // PART))
        size = max(64, min(size, -(-self.rows // parts)))
        return (slice(start, min(start + size, self.rows)) for start in range(0, self.rows, size))

    def operations(self, outputs: int) -> float:
        """Multiply-adds of a pass with that many outputs a row."""
        return float(self.rows) * self.columns * outputs

    def total(self, add: Add, blocks: Sequence[slice], shape: tuple[int, ...], operations: float) -> np.ndarray:
        """The sum of what ``add(span, out)`` adds to zeros of that shape for spans of the blocks, several at once: the
        spans are fixed by the sizes, and their sums are added in their order."""
        return summed(add, blocks, shape, operations=operations)

    def each(self, work: Callable[[slice], Piece], outputs: int) -> Iterable[Piece]:
        """work(rows) of every block of rows, in their order; several at once."""
        return collected(work, self.blocks(outputs), operations=self.operations(outputs))

    def filled(self, work: Callable[[slice], np.ndarray], out: np.ndarray, outputs: int) -> np.ndarray:
        """``out`` (m, ...), with work(rows) of every block of rows in the place of these."""

        def fill(rows: slice) -> None:
            out[rows] = work(rows)

        spread(fill, self.blocks(outputs), operations=self.operations(outputs))
        return out

    def forward(self, W: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        """W (C, D) to W [X 1]' of these rows, (C, b)."""
        return self.outputs_of(W.astype(self.dtype, copy=False), self._rounded(rows))

    def _rounded(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.X[rows].astype(self.dtype, copy=False)

    def outputs_of(self, W: np.ndarray, X: np.ndarray) -> np.ndarray:
        """(C, b) for a block of rows X (b, d) in the precision of the passes."""
        d = X.shape[1]
        out = W[:, :d] @ X.T
        if self.intercept:
            out += W[:, d:]
        return out

    def add_product(self, R: np.ndarray, X: np.ndarray, out: np.ndarray) -> None:
        """R [X 1] of a block of rows X (b, d), for R (outputs, b), into the sum ``out`` (outputs, D)."""
        R, d = R.astype(self.dtype, copy=False), X.shape[1]
        out[:, :d] += R @ X
        if self.intercept:
            out[:, d] += R.sum(axis=1)

    def sweep(self, W: np.ndarray, rowwise: Callable[[np.ndarray, slice], np.ndarray], outputs: int) -> np.ndarray:
        """sum over blocks of R [X 1] with R = rowwise(forward(W), rows) of shape (outputs, b): (outputs, D).

        ``rowwise`` is called for blocks in any order, and for several at once.
        """
        W, widest = W.astype(self.dtype, copy=False), max(len(W), outputs)
        with_ones = self.intercept and widest >= self.columns

        def add(blocks: Sequence[slice], out: np.ndarray) -> None:
            for rows in blocks:
                if with_ones:  # a copy of X takes less time than what the intercept adds to so many outputs
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
        """G sweeps, each over rows of its own: W (G, F, D) to (G, outputs, D).

        Of group g the rows ``chosen[g]`` alone are read; ``rowwise(forward(W[g]), span, g)`` is (outputs, b) of the
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
        """``sweep_chosen`` with one W (C, D) for all groups, many small ones of which are read together.

        ``rowwise(forward(W), at)`` is (outputs, n) of the rows ``np.concatenate(chosen)[at]``.
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
        """``sweep_groups`` by ``sweep_chosen``."""
        begins = np.cumsum([0, *(len(rows) for rows in chosen)])

        def of_group(eta: np.ndarray, span: slice, g: int) -> np.ndarray:
            return rowwise(eta, slice(int(begins[g]) + span.start, int(begins[g]) + span.stop))

        return self.sweep_chosen(np.broadcast_to(W, (len(chosen), *W.shape)), of_group, chosen, outputs)

    def few_rows(self, outputs: int, products: int) -> float:
        """The share of the rows up to which ``sweep_chosen`` takes less time than a group's part of a ``sweep``.

        With ``products`` matrix products a row, 1 or 2, of that many outputs each.
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
                out += block.T @ block  # of one array with itself NumPy computes half

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
        """These rows alone, in memory."""
        return replace(self, X=self.X[rows])

    def chosen_moments(self, rows: np.ndarray, w: np.ndarray) -> np.ndarray:
        """The ``sums`` and the ``squares`` of these rows (n,) alone, with weights w (n,): (2, D)."""
        out = np.zeros((2, self.columns))
        step = max(1, CHOSEN_NUMBERS // max(1, self.X.shape[1]))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            picked = self.picked(rows[part])
            out += picked.sums(w[part]), picked.squares(w[part])
        return out

    def dense(self, rows: slice | np.ndarray, used: np.ndarray) -> np.ndarray:
        """Columns ``used`` (d,) bool of these rows of X, (b, used)."""
        return self.X[rows] if used.all() else self.X[rows][:, used]

    def outer(self, cotangent: np.ndarray) -> np.ndarray:
        """cotangent (K, m) times its row of [X 1], (m, K, D)."""
        ones = np.ones((self.rows, int(self.intercept)))
        return np.einsum("kt,tj->tkj", cotangent, np.hstack([self.X, ones]))
