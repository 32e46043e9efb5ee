"""Tables as the frames that other people's transformers were fitted on: pandas where it is installed, else polars."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from influence_cli.data.features import Features
from influence_cli.data.sparse import Rows
from influence_cli.data.table import Column, Table


class FeatureMaker(Protocol):
    """Features by transformers that were fitted elsewhere; raises FileError for rows that do not suit them."""

    def wanted(self, table: Table, features: list[str], name: str) -> list[str]:
        """The columns that it needs, given those that could be features."""

    def of_tables(self, columns: list[str], train: Table, test: Table, name: str) -> Features:
        """The features of both tables."""

    def of_arrays(self, X_train: Rows, X_test: Rows, names: tuple[str, ...], name: str) -> Features:
        """The features of arrays (m, d) and (n, d)."""


def frame_of(table: Table, columns: Sequence[str]) -> Any:
    """A data frame; missing text is NaN in pandas, as its readers have it, and null in polars."""
    if find_spec("pandas") is not None:
        values = {key: _plain(table.columns[key], np.nan) for key in columns}
        import pandas

        return pandas.DataFrame(values)
    import polars

    values = {key: _plain(table.columns[key], None) for key in columns}
    return polars.DataFrame(
        {key: one.tolist() if one.dtype.kind == "O" else one for key, one in values.items()}, strict=False
    )


def matrix_of(table: Table, columns: Sequence[str]) -> np.ndarray:
    """(r, len(columns)) float64 where every column is numeric or boolean, else objects."""
    values = [_plain(table.columns[key], np.nan) for key in columns]
    kind = object if any(one.dtype.kind == "O" for one in values) else np.float64
    return np.column_stack([one.astype(kind) for one in values])


def _plain(column: Column, missing: Any) -> np.ndarray:
    """Numbers and truth values as they are (objects where some are missing), text as objects."""
    if column.kind == "numeric":
        return column.values
    known = {"true": True, "false": False} if column.kind == "boolean" else {}
    values = [missing if value is None else known.get(value, value) for value in column.values.tolist()]
    if column.kind == "boolean" and not column.missing.any():
        return np.array(values, dtype=bool)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out
