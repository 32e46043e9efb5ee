"""A table in memory: named columns, each of one kind, without the library that read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from influence_cli.data.kept import Kept, Mapped, Texts
from influence_cli.data.pieces import Pieces, Restored

LOOK_FIRST = 1000
"""Rows that mostly tell whether numbers are whole, before all are looked at."""

PIECE_ROWS = 2**16
"""Of a column that is gone through without having it as a whole."""

ColumnKind = Literal["numeric", "boolean", "text", "date", "other"]


Numbers: TypeAlias = np.ndarray | Pieces | Restored | Kept | Mapped | Texts


@dataclass(frozen=True)
class Column:
    """One column of r rows.

    ``stored`` are int64 or float64 (NaN where missing) if ``kind`` is numeric; else an object array of str as the file
    has them, None where missing.  Of the kind ``other`` (lists, bytes) there are none.  ``rows`` (r,) are those of
    ``stored`` that the column has, None for all: they are picked when they are asked for, and not kept.  ``described``
    names the type to a person.  ``refusal`` is why it cannot be a feature as it stands, and what to do; None where it
    can.  ``words`` are those that were read as missing values, beside nothing at all.
    """

    kind: ColumnKind
    stored: Numbers
    described: str
    refusal: tuple[str, str] | None = None
    words: tuple[str, ...] = ()
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.stored) if self.rows is None else len(self.rows)

    @property
    def values(self) -> np.ndarray:
        """(r,)."""
        return np.asarray(self.stored) if self.rows is None else self.stored[self.rows]

    def part(self, span: slice) -> np.ndarray:
        """The values of some rows."""
        return self.stored[span if self.rows is None else self.rows[span]]

    @property
    def is_finite(self) -> bool:
        """Whether every number is known to be there and finite, without a look at each."""
        return isinstance(self.stored, Pieces | Kept) and self.stored.is_finite

    @property
    def missing(self) -> np.ndarray:
        """(r,) bool."""
        if self.is_finite:
            return np.zeros(len(self), dtype=bool)
        if self.stored.dtype.kind == "O":
            return np.asarray(self.values == None, dtype=bool)  # noqa: E711  (elementwise)
        if self.stored.dtype.kind == "f":
            return np.isnan(self.values)
        return np.zeros(len(self), dtype=bool)

    @property
    def are_whole(self) -> bool:
        """Whether every value that is there is a whole number."""
        if self.kind != "numeric":
            return False
        if self.stored.dtype.kind == "i":
            return True
        return _are_whole(self.part(slice(LOOK_FIRST))) and _are_whole(self.values)  # most columns end at the first

    def take(self, rows: np.ndarray) -> Column:
        """Some rows, in the order given."""
        if self.kind == "other":
            return self
        if isinstance(self.stored, np.ndarray) and self.stored.dtype.kind == "O":
            return replace(self, stored=self.stored[rows])
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


def _are_whole(values: np.ndarray) -> bool:
    return bool(np.all(np.isnan(values) | (values == np.floor(values))))


class ColumnValues(Mapping[str, np.ndarray]):
    """The values of columns by name: of some rows they are picked when they are asked for."""

    def __init__(self, columns: Mapping[str, Column]):
        self._columns = columns

    def __getitem__(self, key: str) -> np.ndarray:
        return self._columns[key].values

    def pieces(self, key: str) -> tuple[np.dtype, int, Iterator[np.ndarray]]:
        """Type and length of a column, and its values a piece at a time."""
        column = self._columns[key]
        spans = (slice(start, start + PIECE_ROWS) for start in range(0, len(column), PIECE_ROWS))
        return column.stored.dtype, len(column), (column.part(span) for span in spans)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


@dataclass(frozen=True)
class Table:
    """Columns by name in the order of the file.

    ``notes`` say what a reader passed over or guessed, one a line.  ``index`` are the columns that the writer stored as
    row labels.  ``records`` (r,) are the rows' numbers in the file, 1 the first; None where they are 1 to r.  ``store``
    is the ``RowStore`` that keeps the columns, None where they are in memory.
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
        """(r,) int64."""
        return np.arange(1, self.rows + 1) if self.records is None else self.records

    def take(self, rows: np.ndarray) -> Table:
        """Some rows of every column, in the order given."""
        picked: dict[int, np.ndarray] = {}
        for one in self.columns.values():  # once for all columns, which would keep an array each
            if one.rows is not None and id(one.rows) not in picked:
                picked[id(one.rows)] = one.rows[rows]
        columns = {
            key: one.take(rows) if one.rows is None else replace(one, rows=picked[id(one.rows)])
            for key, one in self.columns.items()
        }
        return replace(self, columns=columns, rows=len(rows), records=self.record_numbers[rows])
