"""A table in memory: named columns, each of one kind, without the library that read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from influence_cli.data.kept import Kept, KeptByPart, Mapped, Texts
from influence_cli.data.pieces import Pieces, Restored

LOOK_FIRST = 1000
"""Rows that are checked for fractions first, because they usually decide."""

PIECE_ROWS = 2**16
"""Rows of a piece of a column that is read in pieces."""

ColumnKind = Literal["numeric", "boolean", "text", "date", "other"]


Numbers: TypeAlias = np.ndarray | Pieces | Restored | Kept | Mapped | Texts


@dataclass(frozen=True)
class Column:
    """One column of r rows.

    ``stored`` holds int64 or float64 (NaN if missing) if ``kind`` is numeric; else an object array of str as in the
    file, None if missing; nothing for the kind ``other`` (lists, bytes).  ``rows`` (r,) are the rows of ``stored`` that
    the column consists of, None for all; their values are selected on access and not kept.  ``described`` names the
    type for messages.  ``refusal`` is an error and a hint if the column cannot be a feature as it is, else None.
    ``words`` are the words that were read as missing values.
    """

    kind: ColumnKind
    stored: Numbers
    described: str
    refusal: tuple[str, str] | None = None
    words: tuple[str, ...] = ()
    rows: np.ndarray | None = None
    unit: str = ""

    def __len__(self) -> int:
        return len(self.stored) if self.rows is None else len(self.rows)

    @property
    def values(self) -> np.ndarray:
        """The values, (r,)."""
        return np.asarray(self.stored) if self.rows is None else self.stored[self.rows]

    def part(self, span: slice) -> np.ndarray:
        """The values of the rows in ``span``."""
        return self.stored[span if self.rows is None else self.rows[span]]

    @property
    def is_finite(self) -> bool:
        """Whether every number is already known to be present and finite."""
        return isinstance(self.stored, Pieces | Kept) and self.stored.is_finite

    @property
    def missing(self) -> np.ndarray:
        """Which values are missing, (r,) bool."""
        if self.is_finite:
            return np.zeros(len(self), dtype=bool)
        if self.stored.dtype.kind == "O":
            return np.asarray(self.values == None, dtype=bool)  # noqa: E711  (elementwise)
        if self.stored.dtype.kind == "f":
            return np.isnan(self.values)
        return np.zeros(len(self), dtype=bool)

    @property
    def are_whole(self) -> bool:
        """Whether every value that is not missing is a whole number."""
        if self.kind != "numeric":
            return False
        if self.stored.dtype.kind == "i":
            return True
        return _are_whole(self.part(slice(LOOK_FIRST))) and _are_whole(self.values)  # the first usually decides

    def take(self, rows: np.ndarray) -> Column:
        """The given rows of the column, in their order."""
        if self.kind == "other":
            return self
        if isinstance(self.stored, np.ndarray) and self.stored.dtype.kind == "O":
            return replace(self, stored=self.stored[rows])
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


def _are_whole(values: np.ndarray) -> bool:
    return bool(np.all(np.isnan(values) | (values == np.floor(values))))


class ColumnValues(Mapping[str, np.ndarray]):
    """A mapping from the names of columns to their values, which are selected on access."""

    def __init__(self, columns: Mapping[str, Column]):
        self._columns = columns

    def __getitem__(self, key: str) -> np.ndarray:
        return self._columns[key].values

    def pieces(self, key: str) -> tuple[np.dtype, int, Iterator[np.ndarray]]:
        """The type and length of a column, and its values in pieces."""
        column = self._columns[key]
        stored = column.stored
        step = max(one.rows for one in stored.places) if isinstance(stored, KeptByPart) else PIECE_ROWS
        spans = (slice(start, start + step) for start in range(0, len(column), max(step, 1)))
        return column.stored.dtype, len(column), (column.part(span) for span in spans)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


@dataclass(frozen=True)
class Table:
    """Columns by name, in the order of the file.

    ``notes`` are lines about what the reader skipped or guessed.  ``index`` holds the columns that were stored as row
    labels.  ``records`` (r,) are the rows' numbers in the file, counted from 1; None means 1 to r.  ``store`` is the
    ``RowStore`` that holds the columns, or None if they are in memory.
    """

    columns: dict[str, Column]
    rows: int
    notes: tuple[str, ...] = ()
    index: frozenset[str] = frozenset()
    records: np.ndarray | None = None
    store: Any = None

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    @property
    def record_numbers(self) -> np.ndarray:
        """The numbers of the rows in the file, (r,) int64, counted from 1."""
        return np.arange(1, self.rows + 1) if self.records is None else self.records

    def take(self, rows: np.ndarray) -> Table:
        """The given rows of every column, in their order."""
        picked: dict[int, np.ndarray] = {}
        for one in self.columns.values():  # columns share one array of rows instead of keeping one each
            if one.rows is not None and id(one.rows) not in picked:
                picked[id(one.rows)] = one.rows[rows]
        columns = {
            key: one.take(rows) if one.rows is None else replace(one, rows=picked[id(one.rows)])
            for key, one in self.columns.items()
        }
        return replace(self, columns=columns, rows=len(rows), records=self.record_numbers[rows])
