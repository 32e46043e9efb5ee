"""Columns whose values stay in a file and are read on access, one column or a few rows at a time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.errors import FileError

CODES = np.dtype(np.int32)
"""Type in the file of text codes, which are positions in a vocabulary."""


@dataclass(frozen=True)
class Place:
    """A contiguous run of one column's values: byte offset in the file, number of rows, type, and whether all values
    are known to be finite."""

    offset: int
    rows: int
    dtype: str
    is_finite: bool = False


class Kept:
    """A column (r,) of int64 or float64, or of text (None if missing) given a ``vocabulary``, in places of one file.

    Without a vocabulary, text codes are returned as they are.
    """

    def __init__(
        self, path: Path, file: int, places: Sequence[Place], vocabulary: Callable[[], list[str]] | None = None
    ):
        self.path, self.places = path, tuple(places)
        self._file, self._vocabulary = file, vocabulary
        self._as_stored = np.result_type(*(place.dtype for place in places))
        self.dtype = self._as_stored if vocabulary is None else np.dtype(object)

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each place, and the number of all rows."""
        return np.cumsum([0, *(place.rows for place in self.places)])

    def of(self, places: Sequence[Place]) -> Kept:
        """The numbers or codes in other places of the same file."""
        return Kept(self.path, self._file, places)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def is_finite(self) -> bool:
        """Whether every number is known to be present and finite."""
        return self.dtype.kind == "f" and all(place.is_finite for place in self.places)

    @property
    def vocabulary(self) -> list[str]:
        """The distinct texts."""
        return self._texts[:-1].tolist()

    @cached_property
    def _texts(self) -> np.ndarray:
        assert self._vocabulary is not None
        return np.array([*self._vocabulary(), None], dtype=object)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        """The values of the rows ``key``: a slice, an array of row numbers from 0, or a mask."""
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            key = np.arange(start, stop, step) if step != 1 else (start, max(start, stop))
        values = self._span(*key) if isinstance(key, tuple) else self._take(np.asarray(key))
        return values if self._vocabulary is None else self._texts[values]

    def _span(self, start: int, stop: int) -> np.ndarray:
        out = np.empty(stop - start, dtype=self._as_stored)
        begin = int(self.starts.searchsorted(start, side="right")) - 1
        for number in range(begin, len(self.places)):
            low, high = max(start, int(self.starts[number])), min(stop, int(self.starts[number + 1]))
            if high > low:
                out[low - start : high - start] = self._read(number, low, high)
            if high == stop:
                break
        return out

    def _take(self, rows: np.ndarray) -> np.ndarray:
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        if len(rows) > 1 and (rows[1:] < rows[:-1]).any():
            order = np.argsort(rows, kind="stable")
            out = np.empty(len(rows), dtype=self._as_stored)
            out[order] = self._take(rows[order])
            return out
        out = np.empty(len(rows), dtype=self._as_stored)
        for number, low, high in self._places_of(rows):
            begin = int(rows[low])
            out[low:high] = self._read(number, begin, int(rows[high - 1]) + 1)[rows[low:high] - begin]
        return out

    def _places_of(self, rows: np.ndarray) -> Iterator[tuple[int, int, int]]:
        """For ascending rows: the number of each place that holds some of them, and their range ``low:high``."""
        if len(rows):
            first, last = self.starts.searchsorted((rows[0], rows[-1]), side="right") - 1
            ends = [0, *rows.searchsorted(self.starts[first + 1 : last + 1]).tolist(), len(rows)]
            for number, (low, high) in enumerate(itertools.pairwise(ends), start=int(first)):
                if high > low:
                    yield number, low, high

    def is_like(self, other: Kept) -> bool:
        """Whether both have the same number of rows in every place."""
        return np.array_equal(self.starts, other.starts)

    def _read(self, number: int, start: int, stop: int) -> np.ndarray:
        """The rows ``start:stop`` of the column, which all lie in place ``number``."""
        place = self.places[number]
        kind = np.dtype(place.dtype)
        begin = place.offset + (start - int(self.starts[number])) * kind.itemsize
        content = os.pread(self._file, (stop - start) * kind.itemsize, begin)
        if len(content) != (stop - start) * kind.itemsize:
            raise FileError(f"{self.path}: the file ends before its last row", "remove its folder: it is made again")
        return np.frombuffer(content, kind)

    def min(self) -> float:
        """The smallest number."""
        return min(self._read(number, *self._ends(number)).min() for number in self._filled)

    def max(self) -> float:
        """The largest number."""
        return max(self._read(number, *self._ends(number)).max() for number in self._filled)

    @property
    def _filled(self) -> list[int]:
        return [number for number, place in enumerate(self.places) if place.rows]

    def _ends(self, number: int) -> tuple[int, int]:
        return int(self.starts[number]), int(self.starts[number + 1])


def side_by_side(columns: Sequence[Kept], rows: np.ndarray) -> np.ndarray:
    """The values (k, b) of ascending rows (b,) in k columns with the same places, which are located only once."""
    out = np.empty((len(columns), len(rows)))
    for number, low, high in columns[0]._places_of(rows):
        begin, end = int(rows[low]), int(rows[high - 1]) + 1
        local = rows[low:high] - begin
        for one, row in zip(columns, out, strict=True):
            values = one._read(number, begin, end)
            if values.dtype == out.dtype:
                values.take(local, out=row[low:high], mode="clip")  # checking the bounds would take a copy
            else:
                row[low:high] = values[local]
    return out


class KeptByPart(Kept):
    """A column (r,) of text, None if missing, in which each place has its own vocabulary, because there are too many
    distinct texts to hold at once."""

    def __init__(self, path: Path, file: int, places: Sequence[Place], each: Sequence[Callable[[], list[str]]]):
        super().__init__(path, file, places)
        self._each = tuple(each)
        self.dtype = self._as_stored = np.dtype(object)
        self.at: list[list[int]] = []
        """Where the vocabularies lie: offset and size of each in the store."""
        self._last: tuple[int, np.ndarray] = -1, np.empty(0, dtype=object)

    @property
    def vocabulary(self) -> list[str]:
        return list(dict.fromkeys(text for texts_of in self._each for text in texts_of()))

    def _read(self, number: int, start: int, stop: int) -> np.ndarray:
        codes = super()._read(number, start, stop)
        held, texts = self._last
        if held != number:
            texts = np.array([*self._each[number](), None], dtype=object)
            self._last = number, texts
        return texts[codes]


@dataclass(frozen=True)
class Texts:
    """A column of text: its distinct texts, and each row's position among them, (r,), -1 if missing."""

    vocabulary: list[str]
    codes: np.ndarray

    dtype = np.dtype(object)
    is_finite = False

    @property
    def counts(self) -> np.ndarray:
        """How many rows have each text, (v,)."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.vocabulary))

    def __len__(self) -> int:
        return len(self.codes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The texts as an object array (r,) of str, None if missing; equal texts share one object."""
        return np.array([*self.vocabulary, None], dtype=object)[self.codes]

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(Texts(self.vocabulary, self.codes[key]))


@dataclass(frozen=True)
class Mapped:
    """A column (r,) whose values are ``change`` of the values of another column, computed on access."""

    stored: Any
    change: Callable[[np.ndarray], np.ndarray]
    dtype: np.dtype

    is_finite = False

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.change(self.stored[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.change(np.asarray(self.stored)).astype(dtype or self.dtype, copy=False)
