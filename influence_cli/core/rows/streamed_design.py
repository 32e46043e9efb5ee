"""The design matrix whose rows are read again in every pass.

The blocks, and thus all sums, are bit for bit those of rows in memory, with one exception: groups that have many rows
in total are visited in one pass over all rows that serves all groups, because a single row costs a page of the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from influence_cli.core.parallel import collected, thread_count
from influence_cli.core.rows.design import Design
from influence_cli.core.rows.rows import Add, Engine, Piece, Rows

PAGE_BYTES = 4096
"""Bytes at least that are read for a single row."""
SCATTERED = 8.0
"""Cost per byte of reading single pages, in units of the cost of reading in order."""
AHEAD = 2
"""Blocks per thread that are computed ahead of the caller."""
SHARED_NUMBERS = 1 << 21
"""Float64 numbers (16 MiB) of a block in a pass that many groups share: so many that each group has some rows in the
block, and Python's overhead per group and block does not count."""


@dataclass(frozen=True)
class StreamedDesign(Design):
    """X (m, d) float64 as ``Rows``, which are read in every pass."""

    X: Rows  # type: ignore[assignment]
    keeps_states: ClassVar[bool] = False
    may_be_away: ClassVar[bool] = True

    def picked(self, rows: np.ndarray) -> Design:
        return Design(self.X.take(rows), self.intercept, self.dtype)

    def total(self, add: Add, blocks: Sequence[slice], shape: tuple[int, ...], operations: float) -> np.ndarray:
        if isinstance(self.X, Engine):
            return self.X.total(add, blocks, shape, operations)
        return super().total(add, blocks, shape, operations)

    def each(self, work: Callable[[slice], Piece], outputs: int) -> Iterator[Piece]:
        blocks, operations = list(self.blocks(outputs)), self.operations(outputs)
        if isinstance(self.X, Engine):
            yield from self.X.each(work, blocks, operations)
            return
        step = AHEAD * thread_count()
        for start in range(0, len(blocks), step):
            yield from collected(work, blocks[start : start + step], operations=operations)

    def filled(self, work: Callable[[slice], np.ndarray], out: np.ndarray, outputs: int) -> np.ndarray:
        for rows, piece in zip(self.blocks(outputs), self.each(work, outputs), strict=True):
            out[rows] = piece
        return out

    def sweep_chosen(
        self,
        W: np.ndarray,
        rowwise: Callable[[np.ndarray, slice, int], np.ndarray],
        chosen: Sequence[np.ndarray],
        outputs: int,
    ) -> np.ndarray:
        if not self._many(chosen):
            return super().sweep_chosen(W, rowwise, chosen, outputs)
        each = max(self.stored / max(self.rows, 1), 1.0)
        W, size = W.astype(self.dtype, copy=False), max(64, int(SHARED_NUMBERS / each))
        blocks = [slice(start, min(start + size, self.rows)) for start in range(0, self.rows, size)]

        def add(span: Sequence[slice], out: np.ndarray) -> None:
            for rows in span:
                places = [one.searchsorted((rows.start, rows.stop)) for one in chosen]
                if all(low == high for low, high in places):
                    continue
                block = self._rounded(rows)
                for g, (low, high) in enumerate(places):
                    if low == high:
                        continue
                    X = block[chosen[g][low:high] - rows.start]
                    self.add_product(rowwise(self.outputs_of(W[g], X), slice(int(low), int(high)), g), X, out[g])

        operations = sum(map(len, chosen)) * self.columns * outputs + float(self.X.size)
        return self.total(add, blocks, (len(chosen), outputs, self.columns), operations)

    def sweep_groups(
        self,
        W: np.ndarray,
        rowwise: Callable[[np.ndarray, slice], np.ndarray],
        chosen: Sequence[np.ndarray],
        outputs: int,
    ) -> np.ndarray:
        sweep = self._by_group if self._many(chosen) else super().sweep_groups
        return sweep(W, rowwise, chosen, outputs)

    def _many(self, chosen: Sequence[np.ndarray]) -> bool:
        """Whether reading these rows page by page takes longer than reading all rows in order."""
        row_bytes = 8 * max(self.stored / max(self.rows, 1), 1.0)
        return sum(map(len, chosen)) * max(row_bytes, PAGE_BYTES) * SCATTERED > self.rows * row_bytes
