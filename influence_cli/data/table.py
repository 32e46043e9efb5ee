"""A table in memory: named columns, each of one kind, without the library that read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

ColumnKind = Literal["numeric", "boolean", "text", "date", "other"]


@dataclass(frozen=True)
class Column:
    """One column of r rows.

    ``values`` are int64 or float64 (NaN where missing) if ``kind`` is numeric; else an object array of str, None where
    missing: ``true`` and ``false``, text, or dates as 2024-01-31.  Of the kind ``other`` (lists, bytes) there are none.
    ``described`` names the type to a person.
    """

    kind: ColumnKind
    values: np.ndarray
    described: str

    @property
    def missing(self) -> np.ndarray:
        """(r,) bool."""
        if self.values.dtype.kind == "O":
            return np.asarray(self.values == None, dtype=bool)  # noqa: E711  (elementwise)
        if self.values.dtype.kind == "f":
            return np.isnan(self.values)
        return np.zeros(len(self.values), dtype=bool)


@dataclass(frozen=True)
class Table:
    """Columns by name in the order of the file; ``notes`` say what a reader passed over."""

    columns: dict[str, Column]
    rows: int
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return list(self.columns)
