"""Tables as text: ``.csv``, ``.tsv`` and whatever else separates fields, gzipped or not.

polars reads what is written regularly; the rest, and whatever polars refuses, is read record by record, so that the
line that is wrong can be named.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from influence_cli.data.kinds import Reading, Texts, kind_of
from influence_cli.data.notation import read_numbers
from influence_cli.data.pieces import Pieces
from influence_cli.data.readers.dialect import Dialect, dialect_of, records_of
from influence_cli.data.readers.text_polars import (
    LEAST_ADDRESSES,
    PIECES_FROM,
    Part,
    Values,
    address_space,
    by_polars,
    check_width,
    in_pieces,
)
from influence_cli.data.table import Table
from influence_cli.errors import FileError, about

if TYPE_CHECKING:
    pass


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
                parts += _read(path, dialect, texts, reading)
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
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return Pieces(arrays, np.result_type(*arrays))
    vocabulary: dict[str, int] = {}
    codes = []
    for part in parts:
        assert isinstance(part, Texts)
        places = [vocabulary.setdefault(text, len(vocabulary)) for text in part.vocabulary]
        codes.append(np.array([*places, -1], dtype=np.int64)[part.codes])
    return Texts(list(vocabulary), np.concatenate(codes))


def _to_read_as_text(parts: Sequence[Part], header: Sequence[str], reading: Reading) -> set[str]:
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


def _read(path: Path, dialect: Dialect, texts: set[str], reading: Reading) -> list[Part]:
    if dialect.is_plain and address_space() >= LEAST_ADDRESSES:
        if not (dialect.zipped or dialect.has_quotes) and path.stat().st_size >= PIECES_FROM:
            parts = in_pieces(path, dialect, texts, reading)
            if parts is not None:
                return parts
        frame = by_polars(path, dialect, texts, reading)
        if frame is not None:
            return [frame]
    return [_by_record(path, dialect)]


# --- by record ---


def _by_record(path: Path, dialect: Dialect) -> Part:
    """The columns as text, record by record.  Raises FileError that names the line of the first irregular one."""
    columns: list[dict[str, int]] = [{} for _ in dialect.header]
    codes: list[list[int]] = [[] for _ in dialect.header]
    empty = rows = 0
    for line, fields in islice(records_of(path, dialect), 1, None):
        check_width(line, fields, dialect)
        if not any(map(str.strip, fields)):
            empty += 1
            continue
        rows += 1
        for field, vocabulary, places in zip(fields, columns, codes, strict=False):
            places.append(vocabulary.setdefault(field, len(vocabulary)))
    return Part(
        {
            key: Texts(list(vocabulary), np.array(places, dtype=np.int64))
            for key, vocabulary, places in zip(dialect.header, columns, codes, strict=True)
        },
        rows,
        empty,
    )
