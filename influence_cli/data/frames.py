"""Tables as data frames for transformers that were fitted elsewhere: pandas if it is installed, else polars."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from influence_cli.data.features import Features
from influence_cli.data.sparse import Rows
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError


class FeatureMaker(Protocol):
    """Makes features by transformers that were fitted elsewhere.  Raises FileError for rows that do not suit them.

    ``width`` is the number of columns that the transformers take, or None if unknown.
    """

    width: int | None

    @property
    def texts(self) -> frozenset[str]:
        """The columns whose values are text even if they look like numbers."""

    @property
    def label_is_text(self) -> bool:
        """Whether the labels are text even if they look like numbers."""

    def wanted(self, table: Table, features: list[str]) -> list[str]:
        """The columns that the transformers need, given those that may be features."""

    def of_tables(self, columns: list[str], train: Table, test: Table) -> Features:
        """The features of both tables."""

    def of_arrays(self, X_train: Rows, X_test: Rows, names: tuple[str, ...]) -> Features:
        """The features of arrays (m, d) and (n, d)."""


def frame_of(table: Table, columns: Sequence[str]) -> Any:
    """The columns as a data frame; missing text is NaN in pandas, as its readers give it, and null in polars."""
    if find_spec("pandas") is not None:
        values = {key: _plain(table.columns[key], np.nan) for key in columns}
        import pandas

        # From lists pandas infers the types that its readers give, by which a pipeline may choose columns.
        return pandas.DataFrame({key: one.tolist() if one.dtype.kind == "O" else one for key, one in values.items()})
    import polars

    values = {key: _plain(table.columns[key], None) for key in columns}
    return polars.DataFrame(
        {key: one.tolist() if one.dtype.kind == "O" else one for key, one in values.items()}, strict=False
    )


def matrix_of(table: Table, columns: Sequence[str]) -> np.ndarray:
    """The columns as an array (r, len(columns)): float64 if all are numeric or boolean, else objects."""
    values = [_plain(table.columns[key], np.nan) for key in columns]
    kind = object if any(one.dtype.kind == "O" for one in values) else np.float64
    return np.column_stack([one.astype(kind) for one in values])


def texts_of(table: Table, column: str) -> Any:
    """One column of text as a pandas Series, or as a list without pandas.  Raises FileError if a text is missing."""
    one = table.columns[column]
    if one.kind != "text":
        raise FileError(f"the pipeline begins with texts, but column {column} holds {one.described}")
    if one.missing.any():
        count = int(one.missing.sum())
        raise FileError(
            f"the pipeline begins with texts, and column {column} has none in {count:,} of {table.rows:,} rows",
            "remove these rows, or write a text into them",
        )
    if find_spec("pandas") is None:
        return one.values.tolist()
    import pandas

    return pandas.Series(one.values, name=column)


def _plain(column: Column, missing: Any) -> np.ndarray:
    """The values of a column: numbers as they are, bool (objects if some are missing), or text as objects."""
    if column.kind == "numeric":
        return column.values
    known = {"true": True, "false": False} if column.kind == "boolean" else {}
    values = [missing if value is None else known.get(value.casefold(), value) for value in column.values.tolist()]
    if column.kind == "boolean" and not column.missing.any():
        return np.array(values, dtype=bool)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out
