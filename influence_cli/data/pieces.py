"""Columns of numbers that are not one array: in the pieces in which a file was read, or restored from the features.

A table of a million rows and fifty columns takes 400 MB, and so do the features made of it.  The columns must stay,
because they define groups; but a standardised feature x = (v - mean) / scale gives v back except for rounding, and the
rounding error, in units in the last place, fits into one byte.  Therefore the columns of a large file are read in
pieces, each piece is freed as soon as its features are written, and only that byte of each value is kept.
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
    """A float64 array whose memory returns to the system as soon as the array is freed."""
    count = int(np.prod(shape))
    memory = mmap.mmap(-1, max(8 * count, 1))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)  # a page fault for each 4 kB would take as long as reading the numbers
    return np.frombuffer(memory, dtype=np.float64, count=count).reshape(shape)


class Pieces:
    """A column of numbers (r,) in consecutive pieces, which can be freed one by one."""

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
        """The values of the rows ``key``; if all lie in one piece, only that piece is read."""
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
        """True only if every number is certainly finite; must be computed before a piece is freed."""
        with np.errstate(over="ignore", invalid="ignore"):
            return all(part is not None and bool(np.isfinite(part.sum())) for part in self._parts)

    def piece(self, place: int) -> np.ndarray:
        """The piece at index ``place``."""
        part = self._parts[place]
        assert part is not None, "it was let go"
        return part

    def let_go(self, place: int) -> None:
        """Free the piece at index ``place``, which must not be used again."""
        self._parts[place] = None


@dataclass
class Restored:
    """A column (m,) that was standardised to column ``at`` of X: v = x scale + mean, plus ``units`` in the last place.

    ``exceptions`` are the rows, and their values, that this formula does not restore.
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
        """Keep the ``values`` of these rows explicitly."""
        self.exceptions.append((rows, values))
