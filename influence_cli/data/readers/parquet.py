"""Tables as ``.parquet``; their types are taken as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from influence_cli.data import memory
from influence_cli.data.kinds import Reading, Texts, kind_of
from influence_cli.data.readers.delimited import refuse_other_columns
from influence_cli.data.readers.text_polars import polars_for, texts_of
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError, about

if TYPE_CHECKING:
    import polars as pl


PARQUET_TIMES = 2.5
"""Memory that polars takes for a table, in the length of its file (measured)."""


def read_parquet(paths: Sequence[Path], reading: Reading) -> Table:
    """One table of files with the same columns, in the order given; ``reading.texts`` become text.

    Raises FileError.
    """
    polars = polars_for(PARQUET_TIMES * sum(path.stat().st_size for path in paths if path.is_file()))
    frames: list[pl.DataFrame] = []
    index: set[str] = set()
    for path in paths:
        with about(str(path)) if len(paths) > 1 else nullcontext():
            frame, stored = _frame(polars, path)
            if frames and set(frame.columns) != set(frames[0].columns):
                refuse_other_columns(frames[0].columns, frame.columns)
            frames.append(frame.select(frames[0].columns) if frames else frame)
            index |= stored
    try:
        whole = frames[0] if len(frames) == 1 else polars.concat(frames, how="vertical_relaxed")
    except polars.exceptions.PolarsError as error:
        raise FileError(f"the files have columns of different types: {str(error).splitlines()[0]}") from None
    columns: dict[str, Column] = {}
    notes: list[str] = []
    for key in whole.columns:
        columns[key], said = _column(whole.get_column(key), key, reading)
        notes += said
    return Table(columns, whole.height, tuple(notes), frozenset(index & set(columns)))


def _frame(polars: Any, path: Path) -> tuple[pl.DataFrame, set[str]]:
    """The table, and the columns that pandas stored as its index."""
    try:
        str(path).encode()
        source: Any = path
    except UnicodeEncodeError:  # polars takes no other names
        source = path.read_bytes()
    try:
        _check_claims(polars, source, path.stat().st_size)
        frame = polars.read_parquet(source)
        stored = polars.read_parquet_metadata(source).get("pandas")
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileError(
            f"a whole .parquet file was expected, but it is damaged or of another kind ({reason})",
            "write it again, for example with polars' DataFrame.write_parquet",
        ) from None
    if not frame.width:
        raise FileError("the table has no columns")
    try:
        names = json.loads(stored)["index_columns"] if stored else []
    except (ValueError, KeyError, TypeError):
        names = []
    return frame, {name for name in names if isinstance(name, str)}


def _check_claims(polars: Any, source: Any, length: int) -> None:
    """Hold rows times columns against the file's length and the memory, before any is made."""
    rows = polars.scan_parquet(source).select(polars.len()).collect().item()
    claimed, limit = 8.0 * rows * len(polars.read_parquet_schema(source)), memory.most_unpacked(length)
    if claimed > limit:
        raise memory.too_large(claimed, limit)


def _column(series: pl.Series, key: str, reading: Reading) -> tuple[Column, Sequence[str]]:
    """One column as NumPy has it."""
    import polars as pl

    dtype = series.dtype
    if dtype == pl.Boolean:
        return Column("boolean", texts_of(series.cast(pl.String)).values(), "true and false"), ()
    if dtype.is_integer() and not series.null_count():
        whole = series.cast(pl.Int64, strict=False)
        if not whole.null_count():
            return kind_of(whole.to_numpy(), key, reading)
    if dtype.is_numeric() or dtype == pl.Null:
        return kind_of(series.cast(pl.Float64).fill_null(float("nan")).to_numpy(), key, reading)
    if dtype.is_temporal() and dtype != pl.Duration:
        values = texts_of(series.cast(pl.String)).values()
        return Column("date", values, "times of day" if dtype == pl.Time else "dates"), ()
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _text(texts_of(series.cast(pl.String)), key, reading)
    return Column("other", np.empty(0, dtype=object), f"values of the type {dtype}"), ()


def _text(texts: Texts, key: str, reading: Reading) -> tuple[Column, Sequence[str]]:
    """Text stays text, digits or not: whoever wrote the file chose its type.  Dates written as text are dates."""
    column, notes = kind_of(texts, key, reading)
    if column.kind in ("date", "text") and column.refusal is None:
        return column, notes
    as_text, _ = kind_of(texts, key, Reading(reading.decimal, reading.missing, reading.texts | {key}))
    if column.kind == "boolean":
        return column, notes
    return as_text, (f"column {key}: text, as the file has it, although it looks like {column.described}",)
