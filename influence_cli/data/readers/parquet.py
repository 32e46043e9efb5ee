"""Tables in ``.parquet`` files, whose column types are kept."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from influence_cli.data import memory
from influence_cli.data.ahead import PIECE_BYTES, ahead
from influence_cli.data.keeping import TEXT_TIMES, Keeper, Part, Values
from influence_cli.data.kept import Texts
from influence_cli.data.kinds import Reading, kind_of, plainly_text
from influence_cli.data.readers.delimited import joined, refuse_other_columns
from influence_cli.data.readers.parquet_footer import Sizes, footer_of
from influence_cli.data.readers.polars_columns import stacked, values_of
from influence_cli.data.readers.text_polars import polars_for
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError, about, composed
from influence_cli.memory import at_most, require

if TYPE_CHECKING:
    import polars as pl


PARQUET_TIMES = 2.5
"""Memory that polars takes for a table, as a multiple of the length of its file (measured)."""
SLICE_NUMBERS, SLICE_SHARE = 2**22, 1 / 32
"""Numbers in a piece that is read into a store on disk, and the share of --memory that it may take; the batches of
polars are not used, because the writer of the file determines their length."""
GROUP_SHARE = 1 / 8
"""Share of --memory for the columns of a row group that are read together, which polars may hold packed."""
SMALLER_GROUPS = (
    "raise --memory, or write the file again with smaller row groups, for example with polars'"
    " scan_parquet(FILE).sink_parquet(NEW, row_group_size=100_000)"
)


def read_parquet(paths: Sequence[Path], reading: Reading, keeper: Keeper = Keeper()) -> Table:
    """One table made of files with the same columns, in the order given; the columns ``reading.texts`` become text.

    A ``keeper`` on disk receives the table in pieces.  Raises FileError.
    """
    held = 0.0 if keeper.on_disk else sum(path.stat().st_size for path in paths if path.is_file())
    polars = polars_for(PARQUET_TIMES * held)
    frames: list[pl.LazyFrame] = []
    names: list[str] = []
    index: set[str] = set()
    for path in paths:
        with about(str(path)) if len(paths) > 1 else nullcontext():
            frame, schema_names, stored = _frame(polars, path, on_disk=keeper.on_disk)
            if frames and set(schema_names) != set(names):
                refuse_other_columns(names, schema_names)
            names = names if frames else schema_names
            frames.append(frame.select(names))
            index |= stored
    try:
        whole = frames[0] if len(frames) == 1 else polars.concat(frames, how="vertical_relaxed")
        schema = whole.collect_schema()
        parts = _parts(whole, paths, keeper)
    except polars.exceptions.PolarsError as error:
        raise FileError(f"the files have columns of different types: {str(error).splitlines()[0]}") from None
    columns: dict[str, Column] = {}
    notes: list[str] = []
    for key, dtype in schema.items():
        values = [] if _is_other(dtype) else [part.columns[key] for part in parts]
        is_text = dtype == polars.String
        many = keeper.many_texts(values, partial(plainly_text, key=key, reading=reading)) if is_text else None
        column, said = (many, ()) if many else _column(dtype, joined(values) if values else None, key, reading)
        columns[key] = keeper.column(column)
        notes += said
    return Table(columns, sum(part.rows for part in parts), tuple(notes), frozenset(index & set(columns)))


def _parts(whole: pl.LazyFrame, paths: Sequence[Path], keeper: Keeper) -> list[Part]:
    """The rows as NumPy has them, at once or in pieces; pieces that are known are not read again."""
    keeper.start(set())
    parts, begin = keeper.known(paths[0])
    if not keeper.on_disk:
        return [keeper.part(paths[0], _part(whole.collect(), exact=True), 0)]
    plan = _plan(whole, paths)

    def read(span: tuple[int, int]) -> tuple[Part, int]:
        import polars as pl

        frames = [whole.select(names).slice(*span).collect() for names in plan.columns]
        part = _part(pl.concat(frames, how="horizontal"))
        return part, span[0] + part.rows

    for part, end in ahead(read, plan.spans(begin), plan.threads):
        if parts and not part.rows:
            break
        parts.append(keeper.part(paths[0], part, end))
    return parts


@dataclass(frozen=True)
class _Plan:
    """How files are read onto disk: so many ``rows`` at a time, and of these some ``columns`` together.

    ``ends`` are those of the row groups.
    """

    rows: int
    columns: list[list[str]]
    threads: int | None
    ends: list[int]

    def spans(self, begin: int) -> Iterator[tuple[int, int]]:
        """First rows and numbers of rows, without end: parts of a row group, or whole ones."""
        while True:
            stop = begin + self.rows
            place = bisect_right(self.ends, stop)
            if place and self.ends[place - 1] > begin:
                stop = self.ends[place - 1]
            yield begin, stop - begin
            begin = stop


def _plan(whole: pl.LazyFrame, paths: Sequence[Path]) -> _Plan:
    """Pieces that stay within --memory.  Raises MemoryLackError where a column of a row group alone does not fit."""
    schema, footer = whole.collect_schema(), footer_of(paths)
    names = [key for key, dtype in schema.items() if not _is_other(dtype)] or schema.names()[:1]
    known = [footer.sizes.get(key, Sizes()) for key in names]
    row_bytes = sum(8 + (TEXT_TIMES * one.row_bytes if one.text_bytes else 0) for one in known)
    room, columns, filled = at_most(PIECE_BYTES, GROUP_SHARE), list[list[str]](), 0.0
    for key, one in zip(names, known, strict=True):
        filled += one.packed
        if not columns or filled > room:
            columns.append([])
            filled = one.packed
        columns[-1].append(key)
    largest = max(one.packed for one in known)
    if largest > room:
        name = names[[one.packed for one in known].index(largest)]
        require(f"reading the column {name}, whose largest row group is", largest, SMALLER_GROUPS)
    rows = max(1, int(at_most(8 * SLICE_NUMBERS, SLICE_SHARE) / row_bytes))
    return _Plan(rows, columns, 1 if largest > room else None, list(accumulate(footer.groups)))


def _part(frame: pl.DataFrame, *, exact: bool = False) -> Part:
    known = frame.select(one for one in frame.get_columns() if not _is_other(one.dtype))
    return Part(stacked(known, partial(_values_of, exact=exact)), frame.height, 0)


def _frame(polars: Any, path: Path, *, on_disk: bool) -> tuple[pl.LazyFrame, list[str], set[str]]:
    """The table, the names of its columns, and those of the columns that pandas stored as its index.

    Raises FileError.
    """
    try:
        str(path).encode()
        source: Any = path
    except UnicodeEncodeError:  # polars only accepts paths that are valid Unicode
        source = path.read_bytes()
    try:
        _check_claims(polars, source, path.stat().st_size)
        frame = polars.scan_parquet(source) if on_disk else polars.read_parquet(source).lazy()
        schema_names = frame.collect_schema().names()
        stored = polars.read_parquet_metadata(source).get("pandas")
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileError(
            f"a whole .parquet file was expected, but it is damaged or of another kind ({reason})",
            "write it again, for example with polars' DataFrame.write_parquet",
        ) from None
    if not schema_names:
        raise FileError("the table has no columns")
    if len(set(plain := [composed(name) for name in schema_names])) == len(plain):
        frame, schema_names = frame.rename(dict(zip(schema_names, plain, strict=True))), plain
    try:
        names = json.loads(stored)["index_columns"] if stored else []
    except (ValueError, KeyError, TypeError):
        names = []
    return frame, schema_names, {composed(name) for name in names if isinstance(name, str)}


def _check_claims(polars: Any, source: Any, length: int) -> None:
    """Check rows times columns against the file's length and the memory before reading.  Raises FileError."""
    rows = polars.scan_parquet(source).select(polars.len()).collect().item()
    claimed, limit = 8.0 * rows * len(polars.read_parquet_schema(source)), memory.most_unpacked(length)
    if claimed > limit:
        raise memory.too_large(claimed, limit)


def _is_other(dtype: pl.DataType) -> bool:
    """Whether the type is none of numbers, text, truth values, dates and times."""
    import polars as pl

    known = dtype.is_numeric() or dtype in (pl.Null, pl.Boolean, pl.String, pl.Categorical, pl.Enum)
    return not (known or (dtype.is_temporal() and dtype != pl.Duration))


def _values_of(series: pl.Series, *, exact: bool) -> Values:
    """Numbers as NumPy has them, anything else by its texts."""
    import polars as pl

    is_number = series.dtype.is_numeric() or series.dtype == pl.Null
    return values_of(series if is_number else series.cast(pl.String), exact=exact)


def _column(dtype: pl.DataType, values: Values | None, key: str, reading: Reading) -> tuple[Column, Sequence[str]]:
    """The ``Column`` of values that have the type ``dtype`` in the file, and notes about it."""
    import polars as pl

    if values is None:
        return Column("other", np.empty(0, dtype=object), f"values of the type {dtype}"), ()
    if not isinstance(values, Texts) or dtype.is_integer():
        return kind_of(values, key, reading)
    if dtype == pl.Boolean:
        return Column("boolean", values, "true and false"), ()
    if dtype.is_temporal():
        return Column("date", values, "times of day" if dtype == pl.Time else "dates"), ()
    return _text(values, key, reading)


def _text(texts: Texts, key: str, reading: Reading) -> tuple[Column, Sequence[str]]:
    """The ``Column`` of texts: the file's type stands, so that digits stay text; dates written as text become dates."""
    column, notes = kind_of(texts, key, reading)
    if column.kind in ("date", "text") and column.refusal is None:
        return column, notes
    as_text, _ = kind_of(texts, key, Reading(reading.decimal, reading.missing, reading.texts | {key}))
    if column.kind == "boolean":
        return column, notes
    return as_text, (f"column {key}: text, as the file has it, although it looks like {column.described}",)
