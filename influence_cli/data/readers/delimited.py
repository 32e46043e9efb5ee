"""Text tables: ``.csv``, ``.tsv`` and other separated fields, gzipped or not.

polars reads regular files, or NumPy if the address space is too small for polars.  All other files, and those that
these libraries refuse, are read record by record, so that an error can name the wrong line.
"""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from influence_cli.data.keeping import Keeper, Part, Values, joined_numbers, joined_texts
from influence_cli.data.kept import Kept, Texts
from influence_cli.data.kinds import Reading, kind_of, plainly_text
from influence_cli.data.notation import read_numbers
from influence_cli.data.pieces import Pieces, apart
from influence_cli.data.readers.dialect import Dialect, dialect_of, records_of
from influence_cli.data.readers.text_bytes import PresumedError
from influence_cli.data.readers.text_polars import (
    LEAST_ADDRESSES,
    PIECES_FROM,
    SAMPLE_ROWS,
    LearnedError,
    address_space,
    by_polars,
    check_width,
    in_pieces,
    not_to_be_guessed,
    whole_lines,
)
from influence_cli.data.table import Table
from influence_cli.errors import FileError, about

RECORDS = 50_000
"""Records in a piece of a file that is read record by record into a store on disk."""


def read_delimited(
    paths: Sequence[Path],
    usual: str,
    reading: Reading,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    label: str | None = None,
    keeper: Keeper = Keeper(),
) -> Table:
    """One table made of text files with the same columns, in the order given; ``usual`` is the expected separator.

    ``separator`` and ``encoding`` are those that the user named, or None; ``label`` is a column that must exist.  The
    ``keeper`` receives the pieces.  Raises FileError.
    """
    dialects: list[Dialect] = []
    ask = partial(dialect_of, usual=usual, separator=separator, encoding=encoding, label=label)
    for path in paths:
        with _about(path, paths):
            dialects.append(ask(path, presumes=not keeper.on_disk and _is_read_in_pieces(path)))
            if set(dialects[-1].header) != set(dialects[0].header):
                refuse_other_columns(dialects[0].header, dialects[-1].header)
    first = dialects[0]
    reading = replace(reading, separator=first.separator)
    texts = set(reading.texts & set(first.header)) | keeper.learned
    while True:
        parts = []
        keeper.start(texts)
        try:
            for at, path in enumerate(paths):
                with _about(path, paths):
                    try:
                        parts += _read(path, dialects[at], texts, reading, keeper)
                    except PresumedError:
                        dialects[at] = ask(path)
                        parts += _read(path, dialects[at], texts, reading, keeper)
        except LearnedError as learned:
            texts |= learned.columns
            continue
        if reading.decimal is None and reading.separator == ";" and not reading.has_decimal_commas:
            has = any(_has_decimal_comma(part.columns[key]) for part in parts for key in first.header)
            reading = replace(reading, has_decimal_commas=has)
        again = _to_read_as_text(parts, first.header, reading)
        if not again - texts:
            break
        texts |= again
    _refuse_repeated_header(parts, first.header)
    columns, notes = {}, list(dict.fromkeys(note for one in dialects for note in one.notes))
    empty = sum(part.empty for part in parts)
    if empty:
        notes.append(f"{empty:,} empty {'line was' if empty == 1 else 'lines were'} passed over")
    for key in first.header:
        values = [part.columns[key] for part in parts]
        many = keeper.many_texts(values, partial(plainly_text, key=key, reading=reading))
        column, said = (many, ()) if many is not None else kind_of(joined(values), key, reading)
        columns[key] = keeper.column(column)
        notes += said
    return Table(columns, sum(part.rows for part in parts), tuple(notes))


def _refuse_repeated_header(parts: Sequence[Part], header: Sequence[str]) -> None:
    """Raises FileError if a record repeats the names of the columns, as happens when files are concatenated."""
    before = 0
    for part in parts:
        repeats = np.ones(part.rows, dtype=bool)
        for key in header:
            values = part.columns[key]
            if not isinstance(values, Texts) or key not in (words := values.vocabulary):
                break
            repeats &= values.codes == words.index(key)
        else:
            if repeats.any():
                raise FileError(
                    f"record {before + int(np.argmax(repeats)) + 1:,} holds the names of the columns again",
                    "leave it out, as if files were put one behind the other, or give them as several files",
                )
        before += part.rows


def _about(path: Path, paths: Sequence[Path]) -> AbstractContextManager[None]:
    """Errors name the file if there are several; the caller names a single file."""
    return about(str(path)) if len(paths) > 1 else nullcontext()


def refuse_other_columns(expected: Sequence[str], names: Sequence[str]) -> None:
    """Raises the FileError about a file of a table that has other columns than the first file."""
    missing, new = [key for key in expected if key not in names], [key for key in names if key not in expected]
    said = [f"it has no {', '.join(missing[:5])}"] if missing else []
    said += [f"it also has {', '.join(new[:5])}"] if new else []
    raise FileError(f"all files of one data set need the same columns, but {' and '.join(said)}")


def joined(parts: Sequence[Values]) -> Values:
    """The concatenated values of one column of several files or pieces."""
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return Pieces(arrays, np.result_type(*arrays))
    kept = [part for part in parts if isinstance(part, Kept)]
    if len(kept) == len(parts):
        return joined_numbers(kept)
    return joined_texts([part for part in parts if isinstance(part, Texts)])


def _to_read_as_text(parts: Sequence[Part], header: Sequence[str], reading: Reading) -> set[str]:
    """Columns to read again as text: those that are text in only some parts, and fractions if commas are decimal."""
    mixed = {key for key in header if len({isinstance(part.columns[key], Texts) for part in parts}) > 1}
    if reading.decimal != "," and not reading.has_decimal_commas:
        return mixed
    return mixed | {
        key
        for key in header
        if any(not isinstance(values := part.columns[key], Texts) and values.dtype.kind == "f" for part in parts)
    }


def _has_decimal_comma(values: Values) -> bool:
    if not isinstance(values, Texts) or not any("," in text for text in values.vocabulary[:100]):
        return False
    numbers = read_numbers(values.vocabulary, None, ";")
    return numbers.decimal == "," and 2 * numbers.count > len(values.vocabulary)


def _read(path: Path, dialect: Dialect, texts: set[str], reading: Reading, keeper: Keeper) -> list[Part]:
    has_polars = address_space() >= LEAST_ADDRESSES
    if keeper.on_disk:
        parts = in_pieces(path, dialect, texts, reading, keeper) if dialect.is_plain and has_polars else None
        return parts or _by_record(path, dialect, keeper)
    if dialect.is_plain and not (dialect.zipped or dialect.has_quotes):
        parts = None
        if not (has_polars or reading.missing):
            parts = _by_numpy(path, dialect, texts)
        elif _is_read_in_pieces(path):
            parts = in_pieces(path, dialect, texts, reading, keeper)
        if parts is not None:
            return parts
    if dialect.is_presumed:
        raise PresumedError
    if dialect.is_plain and has_polars:
        frame = by_polars(path, dialect, texts, reading)
        if frame is not None:
            return [frame]
    return _by_record(path, dialect, keeper)


def _is_read_in_pieces(path: Path) -> bool:
    """Whether a file is large enough to be read in pieces, and the address space large enough for polars."""
    return path.stat().st_size >= PIECES_FROM and address_space() >= LEAST_ADDRESSES


def _by_numpy(path: Path, dialect: Dialect, texts: set[str]) -> list[Part] | None:
    """The columns of a file without quotes, read in pieces by NumPy; None if later rows differ from the first ones."""
    parts: list[Part] = []
    as_text, kinds = texts | not_to_be_guessed(path, dialect), np.dtype([])
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        file.readline()
        while lines := whole_lines(file):
            rows = lines.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
            try:
                if not parts:
                    columns = zip(*(row.split(dialect.separator) for row in rows[:SAMPLE_ROWS]), strict=True)
                    pairs = zip(dialect.header, columns, strict=True)
                    kinds = np.dtype([(key, object if key in as_text else _type_of(column)) for key, column in pairs])
                block = np.loadtxt(rows, kinds, comments=None, delimiter=dialect.separator, ndmin=1)
            except (ValueError, Warning):
                return None
            if len(block) < len(rows):
                return None  # empty lines
            values: dict[str, Values] = {}
            for key, numbers in zip(dialect.header, apart((len(dialect.header), len(rows))), strict=True):
                if kinds[key].hasobject:
                    values[key] = _texts_of(block[key])
                else:
                    values[key] = number = numbers.view(kinds[key])
                    number[:] = block[key]
            parts.append(Part(values, len(rows), 0))
    return parts or None


def _type_of(column: Sequence[str]) -> type:
    for kind in (int, float):
        with suppress(ValueError, Warning):
            if "" not in column and np.loadtxt(column, kind, comments=None, delimiter="\0", ndmin=1).ndim == 1:
                return kind
    return object


def _texts_of(fields: Iterable[str]) -> Texts:
    vocabulary: dict[str, int] = {}
    codes = array("q", (vocabulary.setdefault(field, len(vocabulary)) for field in fields))
    return Texts(list(vocabulary), np.frombuffer(codes, dtype=np.int64))


def _by_record(path: Path, dialect: Dialect, keeper: Keeper) -> list[Part]:
    """The columns as text, read record by record.  Raises FileError, which names the line of an irregular record."""
    parts, begin = keeper.known(path)
    records = islice(records_of(path, dialect), 1 + begin, None)
    together = RECORDS if keeper.on_disk else None
    while True:
        columns: list[dict[str, int]] = [{} for _ in dialect.header]
        codes = [array("q") for _ in dialect.header]
        empty = rows = 0
        for line, fields in islice(records, together):
            check_width(line, fields, dialect)
            if not any(map(str.strip, fields)):
                empty += 1
                continue
            rows += 1
            for field, vocabulary, places in zip(fields, columns, codes, strict=False):
                places.append(vocabulary.setdefault(field, len(vocabulary)))
        if parts and not rows + empty:
            return parts
        coded = zip(dialect.header, columns, codes, strict=True)
        texts = {key: Texts(list(words), np.frombuffer(places, dtype=np.int64)) for key, words, places in coded}
        begin += rows + empty
        parts.append(keeper.part(path, Part(texts, rows, empty), begin))
        if together is None or not rows + empty:
            return parts
