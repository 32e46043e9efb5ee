"""Rows that stay in their file and are read block by block in every pass, never all at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Self, TypeAlias

import numpy as np

from influence_cli.data.inside import inside
from influence_cli.data.parts import Part, PlainPart
from influence_cli.data.stamps import trusted
from influence_cli.errors import FileError, UsageError

NO_ROWS = np.empty(0, dtype=np.int64)
BLOCK_BYTES = 4 * 2**20
"""Bytes of a block in passes over the rows that do not belong to a model."""
WINDOW_BYTES = 2**20
"""Bytes of the rows that are read together when single rows are asked for."""
SMALL_BYTES = 64 * 2**20
"""Bytes of test rows up to which they are read into memory."""
SINGLE_READS = 100
"""Rows of a window up to which each is read separately: so many reads take as long as one whole window (measured)."""


@dataclass(frozen=True)
class Cost:
    """What one pass over all rows reads: ``bytes``, the number of ``files``, and the expected ``seconds`` (0 if nothing
    has been read yet)."""

    bytes: int
    files: int
    seconds: float


@dataclass
class ReadSoFar:
    """The bytes read in blocks so far and the seconds this took, for forecasts.

    Concurrent threads may lose a few of each other's additions.
    """

    bytes: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        self.bytes, self.seconds = self.bytes + count, self.seconds + seconds


class StoredRows:
    """m rows of d features in parts of files, returned as float64 and, if asked, standardised.

    ``stored_shape`` is the shape of the array in the file, which may hold images.  Conversion to one array of all rows
    raises UsageError.
    """

    ndim = 2
    by_choice = False
    """Whether the rows would fit into memory, and stay in their files because only a few of them are needed."""
    dtype = np.dtype(np.float64)

    def __init__(self, parts: Sequence[Part], columns: int, dtype: np.dtype, stored_shape: tuple[int, ...]):
        self.parts, self.columns, self.file_dtype, self.stored_shape = tuple(parts), columns, dtype, stored_shape
        self._starts = np.cumsum([0, *(part.rows for part in parts)])
        self._chosen: np.ndarray | None = None
        self._mean: np.ndarray | None = None
        self._scale: np.ndarray | None = None
        self._kept: np.ndarray | None = None
        self._own = threading.local()
        self.read = ReadSoFar()

    @property
    def shape(self) -> tuple[int, int]:
        """(m, d)."""
        return int(self._starts[-1]) if self._chosen is None else len(self._chosen), self.columns

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """m times d."""
        return self.shape[0] * self.shape[1]

    @property
    def cost(self) -> Cost:
        """The cost of one pass."""
        size = int(self._starts[-1]) * self._stored_columns * self.file_dtype.itemsize
        return Cost(size, len(self.parts), size * self.read.seconds / max(self.read.bytes, 1))

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise UsageError(
            f"this needs all {self.shape[0]:,} rows in memory at once, and they are read from {self.parts[0].path} in"
            " every pass because they do not fit",
            "docs/scale.md says what can be streamed; raise --memory for the rest",
        )

    @property
    def is_whole(self) -> bool:
        """Whether these are all rows of the files, not a subset."""
        return self._chosen is None

    def subset(self, rows: np.ndarray) -> StoredRows:
        """Only the given rows (n,), in ascending order."""
        made = self._copied()
        made._chosen = rows if self._chosen is None else self._chosen[rows]
        return made

    def with_columns(self, kept: np.ndarray) -> StoredRows:
        """Only the columns with the indices ``kept``."""
        made = self._copied()
        made._kept, made.columns = (kept if self._kept is None else self._kept[kept]), len(kept)
        return made

    def standardised(self, mean: np.ndarray, scale: np.ndarray) -> StoredRows:
        """Every row x as (x - mean) / scale; both are (d,)."""
        made = self._copied()
        made._mean, made._scale = mean, scale
        return made

    def _copied(self) -> Self:
        made = copy(self)
        made._own = threading.local()
        return made

    def check_reachable(self) -> None:
        """Raises FileError if workers in other processes cannot read these files; here there are none."""

    def blocks(self) -> Iterator[slice]:
        """Consecutive slices over the rows for a pass."""
        step = max(1, BLOCK_BYTES // (8 * max(self.columns, 1)))
        return (slice(start, min(start + step, len(self))) for start in range(0, len(self), step))

    def pieces(self) -> Iterator[Any]:
        """All rows, a block at a time."""
        return (self[rows] for rows in self.blocks())

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, tuple):
            which, columns = rows
            own = self if which == slice(None) else self.subset(np.arange(len(self))[which])
            return self._stacked([block[:, columns] for block in own.pieces()])
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            return self._block(start, max(stop, start)) if step == 1 else self.take(np.arange(start, stop, step))
        if isinstance(rows, int | np.integer):
            return self.take(np.array([rows]))[0]
        rows = np.asarray(rows)
        return self.take(np.flatnonzero(rows) if rows.dtype == bool else rows)

    @staticmethod
    def _stacked(blocks: Sequence[Any]) -> Any:
        return np.concatenate(blocks)

    def take(self, rows: np.ndarray) -> Any:
        """The rows with the given numbers (n,), in their order: (n, d)."""
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) > 1 and (rows[1:] < rows[:-1]).any():
            order = np.argsort(rows, kind="stable")
            out = np.empty((len(rows), self.columns))
            out[order] = self.take(rows[order])
            return out
        at = rows if self._chosen is None else self._chosen[rows]
        out = np.empty((len(at), self._stored_columns), dtype=self.file_dtype)
        step = max(1, WINDOW_BYTES // max(1, out.itemsize * out.shape[1]))
        ends = np.append(np.flatnonzero(np.diff(at // step)) + 1, len(at)) if len(at) else NO_ROWS
        far_apart = len(at) <= SINGLE_READS * len(ends) and all(isinstance(part, PlainPart) for part in self.parts)
        begin = 0
        for end in ends[-1:] if far_apart else ends:
            self._window(at[begin:end], out[begin:end], far_apart)
            begin = int(end)
        return self._finished(out)

    def _window(self, at: np.ndarray, out: np.ndarray, far_apart: bool) -> None:
        """Read the rows ``at`` of the files into ``out``: those between as well, or each row separately."""
        number = int(np.searchsorted(self._starts, at[0], side="right")) - 1
        part, first = self.parts[number], int(self._starts[number])
        if at[-1] >= self._starts[number + 1]:
            split = int(np.searchsorted(at, self._starts[number + 1]))
            self._window(at[:split], out[:split], far_apart)
            self._window(at[split:], out[split:], far_apart)
        elif (
            isinstance(part, PlainPart)
            and (far_apart or len(at) <= SINGLE_READS)
            and (len(at) == 1 or at[-1] - at[0] >= len(at))
        ):
            content = part.single((at - first).tolist(), out.itemsize * out.shape[1])
            if len(content) != out.nbytes:
                raise FileError(f"{part.path}: the file ends before its last row", "write it again")
            out[:] = np.frombuffer(content, self.file_dtype).reshape(out.shape)
        else:
            whole = np.empty((int(at[-1] - at[0]) + 1, out.shape[1]), dtype=self.file_dtype)
            part.read(int(at[0]) - first, whole)
            out[:] = whole[at - at[0]]

    def _block(self, start: int, stop: int) -> Any:
        """The rows ``start:stop``.  Each thread's last block is kept, because two successive products need it."""
        buffers = self._own
        if getattr(buffers, "place", None) == (start, stop):
            return buffers.block
        buffers.place = buffers.block = None
        if stop <= start:
            return self.take(NO_ROWS)
        first, last = (start, stop) if self._chosen is None else (self._chosen[start], self._chosen[stop - 1] + 1)
        out = self._span(int(first), int(last))
        if self._chosen is not None and last - first > stop - start:
            out = out[self._chosen[start:stop] - first]
        block = self._finished(out)
        (block if isinstance(block, np.ndarray) else block.data).flags.writeable = False
        buffers.place, buffers.block = (start, stop), block
        return block

    def _span(self, first: int, last: int) -> Any:
        """The rows ``first:last`` of the files, unchanged."""
        out = self._buffer(last - first)
        for number, low, high in self._places(first, last):
            begin = int(self._starts[number]) + low - first
            started = perf_counter()
            self.parts[number].read(low, out[begin : begin + high - low])
            self.read.add((high - low) * out.strides[0], perf_counter() - started)
        return out

    def _places(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """For each part with rows in ``first:last``: its number, and the range ``low:high`` of its rows."""
        for number in range(int(np.searchsorted(self._starts, first, side="right")) - 1, len(self.parts)):
            start = int(self._starts[number])
            low, high = max(first - start, 0), min(last - start, self.parts[number].rows)
            if high > low:
                yield number, low, high
            elif start >= last:
                return

    @property
    def _stored_columns(self) -> int:
        return int(np.prod(self.stored_shape[1:]))

    def _buffer(self, rows: int) -> np.ndarray:
        """An array for so many rows: the thread's last buffer, unless it is still referenced elsewhere."""
        needed, buffers = rows * self._stored_columns, self._own
        if getattr(buffers, "room", None) is None or buffers.room.size < needed or self._holders() > buffers.alone:
            buffers.room = np.empty(needed, dtype=self.file_dtype)
            buffers.alone = self._holders()
        return buffers.room[:needed].reshape(rows, self._stored_columns)

    def _holders(self) -> int:
        return sys.getrefcount(self._own.room)

    def _finished(self, out: Any) -> Any:
        if out.dtype != np.float64:
            with np.errstate(over="ignore"):
                out = out.astype(np.float64)
        if self._mean is not None:
            out -= self._mean  # in place: nobody else has these numbers, which were read or copied for this block
            out /= self._scale
        return out if self._kept is None else np.ascontiguousarray(out[:, self._kept])

    def first_not_finite(self) -> tuple[int, int, float, int] | None:
        """Row, column and value of the first number that is not finite, and how many there are; None if all are finite.

        Within ``trusting``, None is returned without reading.
        """
        first_place: tuple[int, int, float] | None = None
        count = 0
        if trusted.get():
            return None
        for rows in self.blocks():
            block = self[rows]
            if np.isfinite(block.sum()):
                continue
            bad = ~np.isfinite(block)
            count += int(bad.sum())
            if first_place is None and bad.any():
                row, column = (int(place) for place in np.argwhere(bad)[0])
                first_place = rows.start + row, column, float(block[row, column])
        return None if first_place is None else (*first_place, count)


class FromOne:
    """The numbers 1, 2, ..., n, indexed as an array but without its memory."""

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Any) -> Any:
        return np.arange(self._count)[rows] + 1 if isinstance(rows, slice) else np.asarray(rows) + 1

    def tolist(self) -> list[int]:
        """All numbers as a list."""
        return list(range(1, self._count + 1))


Maker: TypeAlias = Callable[[type[StoredRows], Sequence[Any], int, np.dtype, tuple[int, ...]], StoredRows]


def _made_here(
    kind: type[StoredRows], parts: Sequence[Any], columns: int, dtype: np.dtype, stored_shape: tuple[int, ...]
) -> StoredRows:
    return kind(parts, columns, dtype, stored_shape)


_maker: ContextVar[Maker] = ContextVar("maker", default=_made_here)


def making(maker: Maker) -> AbstractContextManager[None]:
    """Within this context, ``maker`` makes the stored rows of every file that is opened, for example remote rows."""
    return inside(_maker, maker)


def made_of(
    parts: Sequence[Any],
    columns: int,
    dtype: np.dtype,
    stored_shape: tuple[int, ...],
    kind: type[StoredRows] = StoredRows,
) -> StoredRows:
    """Stored rows of the given kind, made by the current ``maker`` (see ``making``)."""
    return _maker.get()(kind, parts, columns, dtype, stored_shape)


def worked_elsewhere() -> bool:
    """Whether workers in other processes read the rows, which then stay in their files however few they are."""
    return _maker.get() is not _made_here
