"""Columns of polars -> numbers and texts in the form of a ``Table``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from influence_cli.data.keeping import Values
from influence_cli.data.kept import Texts
from influence_cli.data.notation import LARGEST_EXACT
from influence_cli.data.pieces import apart

if TYPE_CHECKING:
    import polars as pl


def separate(frame: pl.DataFrame) -> dict[str, Values]:
    """The columns of a piece, with the float64 numbers in memory that can be returned to the system."""
    import polars as pl

    floats = [key for key, dtype in frame.schema.items() if dtype == pl.Float64]
    block = apart((len(floats), frame.height))
    for row, key in zip(block, floats, strict=True):
        series = frame.get_column(key)
        row[:] = (series.fill_null(float("nan")) if series.null_count() else series).to_numpy()
    separated = dict(zip(floats, block, strict=True))
    return {key: separated[key] if key in separated else values_of(frame.get_column(key)) for key in frame.columns}


def stacked(frame: pl.DataFrame, rest: Callable[[pl.Series], Values]) -> dict[str, Values]:
    """The columns of a piece that is freed at once: float64 columns, copied together, and ``rest`` of each other."""
    import polars as pl

    floats = [key for key, dtype in frame.schema.items() if dtype == pl.Float64]
    block = frame.select(floats).fill_null(float("nan")).to_numpy(order="fortran").T
    separated = dict(zip(floats, block, strict=True))
    return {key: separated[key] if key in separated else rest(frame.get_column(key)) for key in frame.columns}


def values_of(series: pl.Series, *, exact: bool = True) -> Values:
    """Numbers as int64 or float64, anything else as text; with ``exact`` also whole numbers that neither can hold."""
    import polars as pl

    dtype = series.dtype
    if dtype == pl.String:
        return texts_of(series)
    if dtype.is_integer() and not series.null_count():
        whole = series.cast(pl.Int64, strict=False)
        if not whole.null_count():
            return whole.to_numpy()
    if exact and dtype.is_integer() and series.len() > series.null_count() and _largest(series) > LARGEST_EXACT:
        return texts_of(series.cast(pl.String))
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _largest(series: pl.Series) -> int:
    return max(abs(int(str(one))) for one in (series.min(), series.max()))


def texts_of(series: pl.Series) -> Texts:
    """A series of text as sorted distinct texts and codes."""
    vocabulary = series.drop_nulls().unique().sort()
    codes = series.rank("dense").cast(int).fill_null(0).to_numpy() - 1
    return Texts(vocabulary.to_list(), codes.astype(np.int64))
