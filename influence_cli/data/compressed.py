"""Compressed (CSR) rows in a store beside their file, read as ``csr_array`` block by block in every pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_array, vstack

from influence_cli.data.parts import OpenFile
from influence_cli.data.stored import BLOCK_BYTES, Cost, StoredRows

ENDS, INDICES, NUMBERS = np.dtype(np.int32), np.dtype(np.int32), np.dtype(np.float64)
"""Types of the three arrays that the store holds of a piece of the file: the ends of its rows, the columns of its
numbers, and the numbers."""
NUMBER_BYTES = INDICES.itemsize + NUMBERS.itemsize
SINGLE_READS = 64
"""If the requested rows lie farther apart than this on average, each is read separately."""


@dataclass(frozen=True)
class CompressedPart:
    """The rows of one piece of a file; ``places`` are the byte offsets of their ends, indices and numbers in the store.

    ``count`` is the number of stored numbers, ``base`` the index of the first column (0 or 1).
    """

    file: OpenFile
    rows: int
    count: int
    places: tuple[int, int, int]
    base: int
    is_finite: bool

    @property
    def path(self) -> Path:
        """The path of the store."""
        return self.file.path

    def ends(self, start: int, stop: int) -> np.ndarray:
        """How many numbers stand before each of the rows ``start`` to ``stop`` inclusive, (stop - start + 1,)."""
        out = np.empty(stop - start + 1, dtype=ENDS)
        return self.file.fill(out, self.places[0] + start * ENDS.itemsize)

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers, column indices and row lengths of the rows ``start:stop``.  Raises FileError."""
        ends = self.ends(start, stop)
        low, count = int(ends[0]), int(ends[-1] - ends[0])
        indices, numbers = np.empty(count, dtype=INDICES), np.empty(count, dtype=NUMBERS)
        self.file.fill(indices, self.places[1] + low * INDICES.itemsize)
        self.file.fill(numbers, self.places[2] + low * NUMBERS.itemsize)
        return numbers, indices - INDICES.type(self.base), np.diff(ends)

    def take(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The same for the given rows (n,), in ascending order; one tuple for each read."""
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 > SINGLE_READS * len(rows):
            return [self.read(row, row + 1) for row in rows.tolist()]
        numbers, indices, lengths = self.read(first, last + 1)
        chosen = np.zeros(len(lengths), dtype=bool)
        chosen[rows - first] = True
        inside = np.repeat(chosen, lengths)
        return [(numbers[inside], indices[inside], lengths[chosen])]


class CompressedRows(StoredRows):
    """``StoredRows`` in canonical CSR form, in parts of stores.

    Indexing returns a ``csr_array``; ``size`` counts the stored numbers, as SciPy's does.
    """

    format = "csr"
    parts: tuple[CompressedPart, ...]  # type: ignore[assignment]

    @cached_property
    def _lengths_known(self) -> int:
        whole = sum(part.count for part in self.parts)
        return whole if self._chosen is None else int(self._lengths().sum(dtype=np.int64))

    def _lengths(self) -> np.ndarray:
        """How many numbers each row holds, (m,)."""
        every = [np.diff(part.ends(0, part.rows)) for part in self.parts]
        lengths = np.concatenate(every) if every else np.empty(0, dtype=ENDS)
        return lengths if self._chosen is None else lengths[self._chosen]

    def _copied(self) -> Self:
        made = super()._copied()
        vars(made).pop("_lengths_known", None)
        return made

    @property
    def nnz(self) -> int:
        """How many numbers all rows hold."""
        return self._lengths_known

    @property
    def size(self) -> int:
        return self.nnz

    @property
    def cost(self) -> Cost:
        size = sum(part.count * NUMBER_BYTES + part.rows * ENDS.itemsize for part in self.parts)
        return Cost(size, len({part.path for part in self.parts}), size * self.read.seconds / max(self.read.bytes, 1))

    @property
    def strips(self) -> tuple[Strip, Strip, Strip]:
        """The three arrays of the CSR form: numbers, column indices, and row pointers."""
        index = np.dtype(np.int32 if max(self.nnz, *self.shape) <= np.iinfo(np.int32).max else np.int64)
        return (
            Strip(self, "data", NUMBERS, self.nnz),
            Strip(self, "indices", index, self.nnz),
            Strip(self, "indptr", index, len(self) + 1),
        )

    def scaled(self, scale: np.ndarray) -> CompressedRows:
        """Every row divided by ``scale`` (d,)."""
        made = self._copied()
        made._scale = 1.0 / scale
        return made

    def blocks(self) -> Iterator[slice]:
        row_bytes = NUMBER_BYTES * sum(part.count for part in self.parts) / max(int(self._starts[-1]), 1)
        step = max(1, int(BLOCK_BYTES / max(row_bytes, 1.0)))
        return (slice(start, min(start + step, len(self))) for start in range(0, len(self), step))

    @staticmethod
    def _stacked(blocks: Sequence[Any]) -> Any:
        return csr_array(vstack(blocks))

    def take(self, rows: np.ndarray) -> csr_array:
        rows = np.where(rows < 0, rows + len(self), rows)
        at = rows if self._chosen is None else self._chosen[rows]
        order = None
        if len(at) > 1 and (at[1:] <= at[:-1]).any():
            at, order = np.unique(at, return_inverse=True)
        blocks = []
        ends = at.searchsorted(self._starts)
        for part, first, low, high in zip(self.parts, self._starts, ends[:-1], ends[1:], strict=False):
            if high > low:
                blocks += part.take(at[low:high] - first)
        made = self._finished(self._joined(blocks))
        return made if order is None else made[order]

    def _span(self, first: int, last: int) -> csr_array:
        started = perf_counter()
        out = self._joined([self.parts[number].read(low, high) for number, low, high in self._places(first, last)])
        self.read.add(NUMBER_BYTES * out.nnz + ENDS.itemsize * (last - first), perf_counter() - started)
        return out

    def _joined(self, pieces: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> csr_array:
        """The ``csr_array`` of the pieces, each a tuple of numbers, column indices and row lengths, in order."""
        none = np.empty(0), np.empty(0, dtype=INDICES), np.empty(0, dtype=ENDS)
        numbers, indices, lengths = (
            one[0] if len(one) == 1 else np.concatenate(one) for one in zip(*(pieces or [none]), strict=True)
        )
        made = csr_array((len(lengths), self.columns))  # given the arrays, the constructor would check every index
        made.data, made.indices = numbers, indices
        made.indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(INDICES)
        return made

    def _finished(self, out: csr_array) -> csr_array:
        return out if self._scale is None else scaled(out, self._scale)

    def first_not_finite(self) -> tuple[int, int, float, int] | None:
        if all(part.is_finite for part in self.parts):
            return None
        place: tuple[int, int, float] | None = None
        count = 0
        for rows in self.blocks():
            block = self[rows]
            bad = np.flatnonzero(~np.isfinite(block.data))
            count += len(bad)
            if place is None and len(bad):
                at = int(bad[0])
                row = rows.start + int(np.searchsorted(block.indptr, at, side="right")) - 1
                place = row, int(block.indices[at]), float(block.data[at])
        return None if place is None else (*place, count)


@dataclass(frozen=True)
class Strip:
    """One of the three CSR arrays of compressed rows, which is read piece by piece."""

    rows: CompressedRows
    name: str
    dtype: np.dtype
    length: int

    @property
    def shape(self) -> tuple[int]:
        """The shape of the array."""
        return (self.length,)

    def pieces(self) -> Iterator[np.ndarray]:
        """The array in consecutive pieces."""
        if self.name == "indptr":
            yield np.concatenate([[0], np.cumsum(self.rows._lengths(), dtype=np.int64)]).astype(self.dtype)
            return
        for rows in self.rows.blocks():
            yield getattr(self.rows[rows], self.name).astype(self.dtype, copy=False)


def scaled(X: csr_array, factor: np.ndarray) -> csr_array:
    """X with every number multiplied by the ``factor`` (d,) of its column."""
    made = csr_array(X.shape)
    made.data, made.indices, made.indptr = X.data * factor[X.indices], X.indices, X.indptr
    return made


def parts_of(ends: Any, indices: Any, numbers: Any, base: int) -> list[CompressedPart]:
    """The parts of which these columns of a store (``Kept``) consist, one for each piece of the file."""
    file, parts = OpenFile(ends.path), []
    for one, other, number in zip(ends.places, indices.places, numbers.places, strict=True):
        places = one.offset, other.offset, number.offset
        parts.append(CompressedPart(file, one.rows - 1, number.rows, places, base, number.is_finite or not number.rows))
    return parts
