"""Tables as text: ``.csv``, ``.tsv`` and whatever else separates fields, gzipped or not.

polars reads what is written regularly; the rest, and whatever polars refuses, is read record by record, so that the
line that is wrong can be named.
"""

from __future__ import annotations

import csv
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from influence_cli.data.kinds import Reading, Texts, kind_of
from influence_cli.data.notation import read_numbers
from influence_cli.data.readers.dialect import Dialect, damaged, dialect_of, opened, records_of
from influence_cli.data.table import Table
from influence_cli.errors import FileError, about

if TYPE_CHECKING:
    import polars as pl

Values = np.ndarray | Texts
SAMPLE_BYTES = 2**16
SAMPLE_PLACES = 8
"""Places of a file at which columns are looked at for what polars would read as a number and is none."""
SAMPLE_ROWS = 10_000
"""polars guesses types from these and, if a later row contradicts, from all, which takes five times as long."""
LEAST_ADDRESSES = 2 * 2**30
"""Bytes of address space (``ulimit -v``) below which polars is not asked: it ends the process where it gets none."""


def read_delimited(
    paths: Sequence[Path],
    usual: str,
    reading: Reading,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    label: str | None = None,
) -> Table:
    """One table of text files with the same columns, in the order given; ``usual`` is the separator to expect.

    ``separator`` and ``encoding`` are what was asked for, ``label`` a column that there must be.  Raises FileError.
    """
    dialects = []
    for path in paths:
        with _about(path, paths):
            dialects.append(dialect_of(path, usual, separator=separator, encoding=encoding, label=label))
            if set(dialects[-1].header) != set(dialects[0].header):
                refuse_other_columns(dialects[0].header, dialects[-1].header)
    first = dialects[0]
    reading = replace(reading, separator=first.separator)
    texts = set(reading.texts & set(first.header))
    while True:
        parts = []
        for path, dialect in zip(paths, dialects, strict=True):
            with _about(path, paths):
                parts.append(_read(path, dialect, texts, reading))
        if reading.decimal is None and reading.separator == ";" and not reading.has_decimal_commas:
            has = any(_has_decimal_comma(part.columns[key]) for part in parts for key in first.header)
            reading = replace(reading, has_decimal_commas=has)
        again = _to_read_as_text(parts, first.header, reading)
        if not again - texts:
            break
        texts |= again
    columns, notes = {}, list(dict.fromkeys(note for one in dialects for note in one.notes))
    empty = sum(part.empty for part in parts)
    if empty:
        notes.append(f"{empty:,} empty {'line was' if empty == 1 else 'lines were'} passed over")
    for key in first.header:
        columns[key], said = kind_of(joined([part.columns[key] for part in parts]), key, reading)
        notes += said
    return Table(columns, sum(part.rows for part in parts), tuple(notes))


def _about(path: Path, paths: Sequence[Path]) -> AbstractContextManager[None]:
    """Errors of one of several files say which; of a single file the caller does."""
    return about(str(path)) if len(paths) > 1 else nullcontext()


def refuse_other_columns(expected: Sequence[str], found: Sequence[str]) -> None:
    """A FileError for a part of a table that has other columns than its first part."""
    missing, new = [key for key in expected if key not in found], [key for key in found if key not in expected]
    said = [f"it has no {', '.join(missing[:5])}"] if missing else []
    said += [f"it also has {', '.join(new[:5])}"] if new else []
    raise FileError(f"all files of one data set need the same columns, but {' and '.join(said)}")


def joined(parts: Sequence[Values]) -> Values:
    """The values of one column of several files, one behind the other."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)  # type: ignore[arg-type]
    vocabulary: dict[str, int] = {}
    codes = []
    for part in parts:
        assert isinstance(part, Texts)
        places = [vocabulary.setdefault(text, len(vocabulary)) for text in part.vocabulary]
        codes.append(np.array([*places, -1], dtype=np.int64)[part.codes])
    return Texts(list(vocabulary), np.concatenate(codes))


@dataclass(frozen=True)
class _Part:
    """The columns of one file; ``empty`` lines were left out."""

    columns: dict[str, Values]
    rows: int
    empty: int


def _to_read_as_text(parts: Sequence[_Part], header: Sequence[str], reading: Reading) -> set[str]:
    """Columns that must be read as text: text in another part, or written with points where commas are decimal."""
    mixed = {key for key in header if len({isinstance(part.columns[key], Texts) for part in parts}) > 1}
    if reading.decimal != "," and not reading.has_decimal_commas:
        return mixed
    return mixed | {
        key
        for key in header
        if any(isinstance(part.columns[key], np.ndarray) and part.columns[key].dtype.kind == "f" for part in parts)  # type: ignore[union-attr]
    }


def _has_decimal_comma(values: Values) -> bool:
    if not isinstance(values, Texts) or not any("," in text for text in values.vocabulary[:100]):
        return False
    found = read_numbers(values.vocabulary, None, ";")
    return found.decimal == "," and 2 * found.count > len(values.vocabulary)


def _read(path: Path, dialect: Dialect, texts: set[str], reading: Reading) -> _Part:
    if dialect.is_plain and _address_space() >= LEAST_ADDRESSES:
        frame = _by_polars(path, dialect, texts, reading)
        if frame is not None:
            return frame
    return _by_record(path, dialect)


# --- by polars ---


def _address_space() -> float:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def polars_for() -> Any:
    """The library, asked for little where address space is limited: each of its threads wants some of its own."""
    if _address_space() < float("inf"):
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
    import polars

    return polars


def _by_polars(path: Path, dialect: Dialect, texts: set[str], reading: Reading) -> _Part | None:
    """The columns as polars reads them; None where it finds a row that is not as the others."""
    polars = polars_for()
    as_text = texts | _not_to_be_guessed(path, dialect)
    source: Any = path
    try:
        str(path).encode()
    except UnicodeEncodeError:
        source = path.read_bytes()
    frame = None
    for sample in (SAMPLE_ROWS, None):
        try:
            raw = polars.read_csv(source, separator=dialect.separator, n_rows=0, infer_schema=False).columns
            if len(raw) != len(dialect.header):
                return None
            overrides = {own: polars.String for own, key in zip(raw, dialect.header, strict=True) if key in as_text}
            frame = polars.read_csv(
                source,
                separator=dialect.separator,
                infer_schema_length=sample,
                null_values=sorted(reading.nulls - {""}),
                schema_overrides=overrides or None,
            )
            break
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException):
            continue
        except OSError as error:
            raise damaged(error) from None
    if frame is None:
        return None
    frame.columns = dialect.header
    if any(series.dtype == polars.Boolean for series in frame.get_columns()):
        also = {series.name for series in frame.get_columns() if series.dtype == polars.Boolean}
        return _by_polars(path, dialect, as_text | also, reading)
    if frame.height and (frame.get_column(frame.columns[-1]).null_count() or frame.width == 1):
        _refuse_ragged(path, dialect)  # polars fills short rows with nulls
    empty = 0
    if all(series.null_count() for series in frame.get_columns()):
        full = frame.filter(~polars.all_horizontal(polars.all().is_null()))
        empty, frame = frame.height - full.height, full
    return _Part({series.name: _values(series) for series in frame.get_columns()}, frame.height, empty)


def _values(series: pl.Series) -> Values:
    """Numbers as int64 or float64, anything else as text."""
    import polars as pl

    dtype = series.dtype
    if dtype == pl.String:
        return texts_of(series)
    if dtype.is_integer() and not series.null_count():
        whole = series.cast(pl.Int64, strict=False)
        if not whole.null_count():
            return whole.to_numpy()
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def texts_of(series: pl.Series) -> Texts:
    """A series of text by its different texts."""
    vocabulary = series.drop_nulls().unique().sort()
    codes = series.rank("dense").cast(int).fill_null(0).to_numpy() - 1
    return Texts(vocabulary.to_list(), codes.astype(np.int64))


def _not_to_be_guessed(path: Path, dialect: Dialect) -> set[str]:
    """Columns that polars would read as numbers or truth values and that stay text: codes with leading zeros, words.

    They are looked for at the beginning of the file and at places spread over it.
    """
    found = set()
    for lines in _samples(path, dialect.zipped):
        for fields in csv.reader(lines, delimiter=dialect.separator, skipinitialspace=True):
            if len(fields) != len(dialect.header):
                continue
            for key, field in zip(dialect.header, fields, strict=True):
                text = field.strip()
                if (text[:1] == "0" and text.isdigit() and len(text) > 1) or text.lower() in ("true", "false"):
                    found.add(key)
    return found


def _samples(path: Path, zipped: bool) -> Iterator[list[str]]:
    size = path.stat().st_size
    with opened(path) as file:
        for place in range(1 if zipped or size < SAMPLE_PLACES * SAMPLE_BYTES else SAMPLE_PLACES):
            file.seek(0 if not place else (size - SAMPLE_BYTES) * place // (SAMPLE_PLACES - 1))
            lines = file.read(SAMPLE_BYTES).decode("utf-8", "replace").splitlines()
            yield lines[1 if place else 0 : -1] if len(lines) > 2 else lines


def _refuse_ragged(path: Path, dialect: Dialect) -> None:
    """A FileError that names the first row with more or fewer fields than there are columns, if there is one."""
    for line, fields in islice(records_of(path, dialect), 1, None):
        _check_width(line, fields, dialect)


# --- by record ---


def _by_record(path: Path, dialect: Dialect) -> _Part:
    """The columns as text, record by record.  Raises FileError that names the line of the first irregular one."""
    columns: list[dict[str, int]] = [{} for _ in dialect.header]
    codes: list[list[int]] = [[] for _ in dialect.header]
    empty = rows = 0
    for line, fields in islice(records_of(path, dialect), 1, None):
        _check_width(line, fields, dialect)
        if not any(map(str.strip, fields)):
            empty += 1
            continue
        rows += 1
        for field, vocabulary, places in zip(fields, columns, codes, strict=False):
            places.append(vocabulary.setdefault(field, len(vocabulary)))
    return _Part(
        {
            key: Texts(list(vocabulary), np.array(places, dtype=np.int64))
            for key, vocabulary, places in zip(dialect.header, columns, codes, strict=True)
        },
        rows,
        empty,
    )


def _check_width(line: int, fields: Sequence[str], dialect: Dialect) -> None:
    expected = len(dialect.header) + dialect.trailing
    if len(fields) != expected:
        first = "as most rows have" if dialect.row_names or dialect.trailing else "as the first line has"
        raise FileError(
            f"every row must have {expected} fields {first}, but line {line:,} has {len(fields)}",
            "a field that holds a separator must stand in double quotes, and every quote must be closed"
            if len(fields) > 1 or expected == 1
            else "leave the line out if it is none of the rows, and close every quote",
        )
