"""Columns of numbers that are not one array: in pieces as a file was read, and as what a matrix of features leaves out.

A table of a million rows and fifty columns is 400 MB, and so are the features that are made of it.  Its columns name
groups, so that they must stay; but a standardised feature x = (v - mean) / scale gives v back but for rounding, and how
many units in the last place are missing is one byte.  So the columns of a large file are read in pieces, each piece is
let go as soon as it is placed, and what stays of a column is that byte a row.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np


def apart(shape: tuple[int, ...]) -> np.ndarray:
    """A float64 array whose memory goes back to the system as soon as it is let go."""
    count = int(np.prod(shape))
    memory = mmap.mmap(-1, max(8 * count, 1))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)  # a fault for each 4 kB would take as long as reading the numbers
    return np.frombuffer(memory, dtype=np.float64, count=count).reshape(shape)


class Pieces:
    """A column of numbers (r,) in pieces, one behind the other, which can be let go one by one."""

    def __init__(self, parts: Sequence[np.ndarray], dtype: np.dtype):
        self._parts: list[np.ndarray | None] = list(parts)
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.dtype = dtype

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate([part for part in self._parts if part is not None]).astype(
            dtype or self.dtype, copy=False
        )

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        """The values of these rows; a few rows that are near each other come from their pieces alone."""
        if isinstance(key, slice):
            key = np.arange(*key.indices(len(self)))
        if not len(key):
            return np.empty(0, dtype=self.dtype)
        first, last = self.starts.searchsorted((key[0], key[-1]), side="right") - 1
        part = self._parts[first] if first == last else None
        if part is not None and key.min() >= self.starts[first] and key.max() < self.starts[first + 1]:
            return part[key - self.starts[first]].astype(self.dtype, copy=False)
        return np.asarray(self)[key]

    def min(self) -> float:
        return min(float(part.min()) for part in self._parts if part is not None)

    def max(self) -> float:
        return max(float(part.max()) for part in self._parts if part is not None)

    @cached_property
    def is_finite(self) -> bool:
        """Whether every number is finite: certain, or false; asked before a piece is let go."""
        with np.errstate(over="ignore", invalid="ignore"):
            return all(part is not None and bool(np.isfinite(part.sum())) for part in self._parts)

    def piece(self, place: int) -> np.ndarray:
        """The piece at that place."""
        part = self._parts[place]
        assert part is not None, "it was let go"
        return part

    def let_go(self, place: int) -> None:
        """Of the piece at that place: it is not asked for again."""
        self._parts[place] = None


@dataclass
class Restored:
    """A column (m,) that was standardised to column ``at`` of X: v = x scale + mean, plus ``units`` in the last place.

    ``exceptions`` are rows, and their values, that this does not give back.
    """

    X: np.ndarray
    at: int
    mean: float
    scale: float
    units: np.ndarray
    dtype: np.dtype
    exceptions: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        out = self.X[:, self.at] * self.scale
        out += self.mean
        bits = out.view(np.int64)
        bits += self.units
        for rows, values in self.exceptions:
            out[rows] = values
        return out.astype(dtype or self.dtype, copy=False)

    def except_for(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Keep the values of these rows as they are."""
        self.exceptions.append((rows, values))
