"""Readers of tables: ``.csv``, ``.tsv`` (gzipped or not) and ``.parquet``, by polars.

polars reads; this module asks it for what a careful person would check: that every row has as many fields as there
are columns, that names are different, that a column of numbers is one although somebody wrote NA in it.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError

if TYPE_CHECKING:
    import polars as pl

NULLS = ["NA", "N/A", "NaN", "nan", "null", "NULL"]
"""What stands for a missing value beside nothing at all."""

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
ENDINGS = {",": ".csv", "\t": ".tsv"}

SAMPLE_ROWS = 10_000
"""polars guesses types from these and, if a later row contradicts, from all, which takes five times as long."""

FEW_NUMBERS = 20
"""Text of which more sorts than this are numbers is a column of numbers with something else in it."""

UTF16 = (b"\xff\xfe", b"\xfe\xff")
GZIP_MAGIC = b"\x1f\x8b"
_DATES = r"^\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})([ T]\d{1,2}:\d\d.*)?\s*$"
_DECIMAL_COMMA = r"^\s*[+-]?\d+,\d+\s*$"


def read_delimited(path: Path, name: str, like: Table | None = None) -> Table:
    """A ``.csv`` or ``.tsv``; the columns that are text in ``like`` are read as text."""
    separator = "\t" if re.search(r"\.tsv(\.gz)?$", path.name.lower()) else ","
    polars = _polars(name)
    header = _header(path, name, separator)
    texts = set() if like is None else {key for key, column in like.columns.items() if column.kind == "text"}
    overrides = {key: polars.String for key in header if key.strip() in texts}
    frame = _read_csv(polars, path, name, separator, header, overrides)
    if frame.height and (frame.get_column(frame.columns[-1]).null_count() or frame.width == 1):
        _refuse_ragged(path, name, separator, header)  # polars fills short rows with nulls
    frame = frame.rename(dict(zip(frame.columns, [column.strip() for column in header], strict=True)))
    empty = 0
    if all(series.null_count() for series in frame.get_columns()):
        full = frame.filter(~polars.all_horizontal(polars.all().is_null()))
        empty, frame = frame.height - full.height, full
    notes = (f"{name}: {empty:,} empty {'line was' if empty == 1 else 'lines were'} passed over",) if empty else ()
    columns = {
        key: _column(_stripped(series) if key in texts else _typed(_stripped(series), key, name))
        for key, series in zip(frame.columns, frame.get_columns(), strict=True)
    }
    return Table(columns, frame.height, notes)


def read_parquet(path: Path, name: str, like: Table | None = None) -> Table:
    """A ``.parquet``; its types are taken as they are."""
    polars = _polars(name)
    try:
        frame = polars.read_parquet(path)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
        raise FileError(
            f"{name}: a whole .parquet file was expected, but it is damaged or of another kind ({_first_line(error)})",
            "write it again, for example with polars' DataFrame.write_parquet",
        ) from None
    if not frame.width:
        raise FileError(f"{name}: the table has no columns")
    return Table({key: _column(frame.get_column(key)) for key in frame.columns}, frame.height)


def _polars(name: str) -> Any:
    try:
        import polars
    except ImportError:
        raise FileError(f"{name}: tables need polars, which is not installed", "pip install 'ginf[tables]'") from None
    return polars


# --- text files ---


def _read_csv(
    polars: Any, path: Path, name: str, separator: str, header: list[str], texts: dict[str, Any]
) -> pl.DataFrame:
    for sample in (SAMPLE_ROWS, None):
        try:
            return polars.read_csv(
                path,
                separator=separator,
                infer_schema_length=sample,
                null_values=NULLS,
                schema_overrides=texts or None,
            )
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
            if sample is None:
                _refuse_ragged(path, name, separator, header)
                raise _not_utf8(path, name) or FileError(
                    f"{name}: the table cannot be read: {_first_line(error)}",
                    "check its quotes: a field with a separator, a quote or a line break stands in double quotes",
                ) from None
        except OSError as error:
            raise _damaged(name, error) from None
    raise AssertionError


def _header(path: Path, name: str, separator: str) -> list[str]:
    """The names of the columns as they stand in the file, checked."""
    with _opened(path, name) as file:
        start = file.read(2)
    if start in UTF16:
        raise FileError(f"{name}: a table must be UTF-8 text, but this is UTF-16", _iconv(path, "UTF-16"))
    if b"\0" in start:
        raise FileError(f"{name}: a table of text was expected, but this file is binary")
    header = next((fields for _, fields in _records(path, name, separator) if fields), None)
    if header is None:
        raise FileError(f"{name}: the table is empty", "the first line must name the columns")
    if len(header) == 1:
        counts = {other: header[0].count(other) for other in SEPARATORS if other != separator}
        seems = max(counts, key=counts.__getitem__)
        if counts[seems]:
            raise FileError(
                f"{name}: only one column was found, {header[0]!r}: the fields seem to be separated by "
                f"{SEPARATORS[seems]}, and a {ENDINGS[separator]} has {SEPARATORS[separator]}",
                f"name the file {ENDINGS[seems]}"
                if seems in ENDINGS
                else f"write it again with {SEPARATORS[separator]} (and decimal points)",
            )
    names = [field.strip() for field in header]
    twice = sorted({field for field in names if names.count(field) > 1 and field})
    if twice:
        raise FileError(
            f"{name}: the columns must have different names, but {', '.join(twice)} "
            f"{'is' if len(twice) == 1 else 'are'} there more than once",
            "rename them in the first line",
        )
    unnamed = [number for number, field in enumerate(names, 1) if not field]
    if unnamed:
        raise FileError(
            f"{name}: every column needs a name, but column {unnamed[0]} of {len(names)} has none",
            "name it in the first line; an index without a name is often the first column",
        )
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", field) for field in names):
        raise FileError(
            f"{name}: the first line must name the columns, but it holds only numbers ({', '.join(names[:3])}, ...)",
            "put a line with names before it",
        )
    return header


def _refuse_ragged(path: Path, name: str, separator: str, header: list[str]) -> None:
    """A FileError that names the first row with more or fewer fields than there are columns, if there is one."""
    for line, fields in itertools.islice(_records(path, name, separator), 1, None):
        if fields and len(fields) != len(header):
            raise FileError(
                f"{name}: every row must have {len(header)} fields as the first line has, "
                f"but line {line:,} has {len(fields)}",
                "a field that holds a separator must stand in double quotes, and every quote must be closed",
            )


def _records(path: Path, name: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of its last line and the fields of each record; blank lines before the header are passed over."""
    with _opened(path, name) as raw:
        lines = (line.decode("utf-8", "replace") for line in raw)
        begun = False
        reader = csv.reader(
            (line.removeprefix("\ufeff") if number == 0 else line for number, line in enumerate(lines)),
            delimiter=separator,
        )
        try:
            for fields in reader:
                begun = begun or bool(fields)
                if begun:
                    yield reader.line_num, fields
        except csv.Error:  # a field beyond the reader's limit: polars has its own word on that
            return


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    """The bytes of the table, unpacked."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == GZIP_MAGIC
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(name, error) from None


def _not_utf8(path: Path, name: str) -> FileError | None:
    with _opened(path, name) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return FileError(
                    f"{name}: a table must be UTF-8 text, but line {number:,} holds the byte 0x{line[error.start]:02x} "
                    f"behind {line[max(0, error.start - 20) : error.start].decode('utf-8', 'replace')!r}",
                    _iconv(path, "LATIN1"),
                )
    return None


def _iconv(path: Path, encoding: str) -> str:
    return f"if it is {encoding}: iconv -f {encoding} -t UTF-8 {path.name} > utf8{path.suffix}"


def _damaged(name: str, error: Exception) -> FileError:
    if isinstance(error, OSError) and error.strerror:
        return FileError(f"{name}: the file cannot be read: {error.strerror}")
    return FileError(f"{name}: a whole file was expected, but it is cut short or damaged ({_first_line(error)})")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# --- columns ---


def _column(series: pl.Series) -> Column:
    """One column as NumPy has it."""
    import polars as pl

    dtype = series.dtype
    if dtype == pl.Boolean:
        return Column("boolean", _texts(series.cast(pl.String)), "true and false")
    if dtype.is_integer() and not series.null_count():
        whole = series.cast(pl.Int64, strict=False)
        if not whole.null_count():
            return Column("numeric", whole.to_numpy(), "whole numbers")
    if dtype.is_numeric() or dtype == pl.Null:
        return Column("numeric", series.cast(pl.Float64).fill_null(float("nan")).to_numpy(), "numbers")
    if dtype.is_temporal() and dtype != pl.Duration:
        return Column("date", _texts(series.cast(pl.String)), "times of day" if dtype == pl.Time else "dates")
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = series.cast(pl.String)
        present = texts.drop_nulls()
        is_date = len(present) > 0 and present.str.contains(_DATES).all()
        return Column("date" if is_date else "text", _texts(texts), "dates" if is_date else "text")
    return Column("other", np.empty(0, dtype=object), f"values of the type {dtype}")


def _stripped(series: pl.Series) -> pl.Series:
    """Text without the blanks around it, which may have hidden that a value is missing."""
    import polars as pl

    if series.dtype != pl.String:
        return series
    series = series.str.strip_chars()
    return series.to_frame("").select(pl.when(~pl.col("").is_in(["", *NULLS])).then(pl.col(""))).to_series()


def _typed(series: pl.Series, key: str, name: str) -> pl.Series:
    """Text as numbers or truth values if it is nothing else."""
    import polars as pl

    if series.dtype != pl.String:
        return series
    present = series.drop_nulls().unique()
    if not len(present):
        return series.cast(pl.Float64)
    numbers = present.cast(pl.Float64, strict=False)
    if not numbers.null_count():
        whole = present.cast(pl.Int64, strict=False)
        return series.cast(pl.Float64 if whole.null_count() else pl.Int64)
    if present.str.to_lowercase().is_in(["true", "false"]).all():
        return series.str.to_lowercase() == "true"
    good = len(present) - numbers.null_count()
    if good > max(FEW_NUMBERS, len(present) // 2):
        odd = sorted(present.filter(numbers.is_null()).to_list())
        raise FileError(
            f"{name}: column {key} holds numbers, but also {', '.join(map(repr, odd[:3]))}"
            + (f" and {len(odd) - 3:,} more such texts" if len(odd) > 3 else ""),
            "leave the field empty where a value is missing, or write the numbers as numbers",
        )
    if present.str.contains(_DECIMAL_COMMA).all():
        raise FileError(
            f"{name}: column {key} seems to hold numbers with a decimal comma, such as {present[0]!r}",
            "write them with a decimal point",
        )
    return series


def _texts(series: pl.Series) -> np.ndarray:
    """An object array of str and None in which equal texts are one object; an empty text is a missing one."""
    vocabulary = series.drop_nulls().unique().sort()
    codes = series.rank("dense").fill_null(0).to_numpy()
    return np.array([None, *(text or None for text in vocabulary.to_list())], dtype=object)[codes]
