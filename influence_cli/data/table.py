"""A table in memory: named columns, each of one kind, without the library that read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

ColumnKind = Literal["numeric", "boolean", "text", "date", "other"]


@dataclass(frozen=True)
class Column:
    """One column of r rows.

    ``values`` are int64 or float64 (NaN where missing) if ``kind`` is numeric; else an object array of str as the file
    has them, None where missing.  Of the kind ``other`` (lists, bytes) there are none.  ``described`` names the type to
    a person.  ``refusal`` is why it cannot be a feature as it stands, and what to do; None where it can.  ``words`` are
    those that were read as missing values, beside nothing at all.
    """

    kind: ColumnKind
    values: np.ndarray
    described: str
    refusal: tuple[str, str] | None = None
    words: tuple[str, ...] = ()

    @property
    def missing(self) -> np.ndarray:
        """(r,) bool."""
        if self.values.dtype.kind == "O":
            return np.asarray(self.values == None, dtype=bool)  # noqa: E711  (elementwise)
        if self.values.dtype.kind == "f":
            return np.isnan(self.values)
        return np.zeros(len(self.values), dtype=bool)

    @property
    def are_whole(self) -> bool:
        """Whether every value that is there is a whole number."""
        if self.kind != "numeric":
            return False
        return self.values.dtype.kind == "i" or bool(
            np.all(np.isnan(self.values) | (self.values == np.floor(self.values)))
        )

    def take(self, rows: np.ndarray) -> Column:
        """Some rows, in the order given."""
        return self if self.kind == "other" else replace(self, values=self.values[rows])


@dataclass(frozen=True)
class Table:
    """Columns by name in the order of the file.

    ``notes`` say what a reader passed over or guessed, one a line.  ``index`` are the columns that the writer stored as
    row labels.  ``records`` (r,) are the rows' numbers in the file, 1 the first; None where they are 1 to r.
    """

    columns: dict[str, Column]
    rows: int
    notes: tuple[str, ...] = ()
    index: frozenset[str] = frozenset()
    records: np.ndarray | None = None

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    @property
    def record_numbers(self) -> np.ndarray:
        """(r,) int64."""
        return np.arange(1, self.rows + 1) if self.records is None else self.records

    def take(self, rows: np.ndarray) -> Table:
        """Some rows of every column, in the order given."""
        columns = {key: one.take(rows) for key, one in self.columns.items()}
        return replace(self, columns=columns, rows=len(rows), records=self.record_numbers[rows])
