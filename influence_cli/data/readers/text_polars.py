"""Text tables read by polars: as a whole, or in pieces that can be freed."""

from __future__ import annotations

import csv
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from gzip import GzipFile
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from influence_cli.data.ahead import ahead
from influence_cli.data.keeping import Keeper, Part
from influence_cli.data.kinds import Reading
from influence_cli.data.readers.dialect import Dialect, records_of
from influence_cli.data.readers.polars_columns import separate, stacked, values_of
from influence_cli.data.readers.text_bytes import check_piece, damaged, opened
from influence_cli.errors import FileError
from influence_cli.memory import require

if TYPE_CHECKING:
    import polars as pl

SAMPLE_BYTES = 2**16
SAMPLE_PLACES = 8
"""Samples of a file in which columns are searched for texts that polars would wrongly read as numbers."""
SAMPLE_ROWS = 10_000
"""Rows from which polars guesses types; if a later row contradicts, it uses all, which takes five times as long."""
PIECES_FROM, PIECE_BYTES = 2**26, 2**23
"""Length in bytes from which a file is read in pieces, and that of a piece."""
LONGEST_PIECE = 8
"""Longest piece, in multiples of PIECE_BYTES, that is searched for the end of a quoted field."""
POLARS_BYTES = 2.5e8
"""Address space in bytes that the library itself takes (measured)."""
ALLOCATOR = "dirty_decay_ms:50,muzzy_decay_ms:0"
"""Setting of polars' allocator: freed memory returns to the system after that many milliseconds and does not wait until
the system lacks memory, so that it does not count against --memory (0 ms would take a quarter more time)."""
LEAST_ADDRESSES = 2 * 2**30
"""Bytes of address space (``ulimit -v``) below which polars is not used: it ends the process if an allocation fails."""


def address_space() -> float:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def polars_for(content: float = 0.0) -> Any:
    """The imported library, with one thread if address space is limited, because each thread takes some.

    Raises MemoryLackError if there is no room for the library and ``content`` bytes that it will read, because polars
    ends the process if an allocation fails.
    """
    if address_space() < float("inf"):
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
        if "polars" not in sys.modules or content:
            require("reading tables", POLARS_BYTES + content)
    os.environ.setdefault("_RJEM_MALLOC_CONF", ALLOCATOR)
    import polars

    return polars


def by_polars(path: Path, dialect: Dialect, texts: set[str], reading: Reading) -> Part | None:
    """The columns as polars reads them; None if it refuses the file.  Raises FileError for a row of another length."""
    polars = polars_for()
    as_text = texts | not_to_be_guessed(path, dialect)
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
            overrides = {name: polars.String for name, key in zip(raw, dialect.header, strict=True) if key in as_text}
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
        return by_polars(path, dialect, as_text | also, reading)
    if _may_be_ragged(frame):
        _refuse_ragged(path, dialect)
    full = _without_empty(frame)
    columns = {series.name: values_of(series) for series in full.get_columns()}
    return Part(columns, full.height, frame.height - full.height)


def _may_be_ragged(frame: pl.DataFrame) -> bool:
    """Whether some rows may be too short, which polars fills with nulls."""
    return bool(frame.height and (frame.get_column(frame.columns[-1]).null_count() or frame.width == 1))


def _without_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without its empty rows."""
    import polars as pl

    if not all(series.null_count() for series in frame.get_columns()):
        return frame
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _holds(frame: pl.DataFrame, nulls: list[str]) -> bool:
    """Whether one of the words ``nulls``, none of which is a number, was read as text or NaN instead of missing."""
    import polars as pl

    texts = [pl.col(key).is_in(nulls).any() for key, kind in frame.schema.items() if kind == pl.String]
    floats = [pl.col(key).is_nan().any() for key, kind in frame.schema.items() if kind == pl.Float64]
    return bool(texts + floats) and any(frame.select(texts + floats).row(0))


class LearnedError(Exception):
    """A later piece shows that some columns are text; the store must be written again with this knowledge."""

    def __init__(self, columns: set[str]):
        self.columns = columns


def in_pieces(path: Path, dialect: Dialect, texts: set[str], reading: Reading, keeper: Keeper) -> list[Part] | None:
    """The pieces of a large file, about PIECE_BYTES each, which the ``keeper`` receives.

    With a ``keeper`` in memory, None is returned if a piece differs from the first rows, if a column has truth values,
    or if a row may be too short.  With one on disk, LearnedError names columns that must be read again as text.
    """
    parts, end = keeper.known(path)
    as_text = texts | not_to_be_guessed(path, dialect)
    ask = _Asking(path, dialect, reading, keeper)
    with opened(path) as file:
        file.readline()
        lines = whole_lines(file, dialect.has_quotes)
        kinds = ask.kinds(lines) if lines else None
        if kinds is None:
            return None
        polars = polars_for()
        if not keeper.on_disk and polars.Boolean in kinds:
            return None
        names = zip(dialect.header, kinds, strict=True)
        kinds = [polars.String if key in as_text or kind == polars.Boolean else kind for key, kind in names]
        if end:
            file.seek(end)
            lines = whole_lines(file, dialect.has_quotes)
        for part, end in ahead(lambda one: (ask.part(one[0], kinds), one[1]), _pieces(file, lines, dialect)):
            if part is None:
                return None
            parts.append(keeper.part(path, part, end))
    return parts


def _pieces(file: IO[bytes], lines: bytes, dialect: Dialect) -> Iterator[tuple[bytes, int]]:
    """Yields these lines and the following pieces of the file, each with the offset of its end."""
    while lines:
        yield lines, file.tell()
        lines = whole_lines(file, dialect.has_quotes)


class _Asking:
    """Reads lines of a file, without its header, by polars."""

    def __init__(self, path: Path, dialect: Dialect, reading: Reading, keeper: Keeper):
        self._path, self._dialect, self._on_disk = path, dialect, keeper.on_disk
        self._nulls = sorted(reading.nulls - {""})
        self._may_lack_nulls = not any(set(word) & set("0123456789") or "inf" in word.lower() for word in self._nulls)
        self._was_checked = False

    def _read(self, lines: bytes, nulls: list[str], **how: Any) -> pl.DataFrame | None:
        polars = polars_for()
        try:
            frame = polars.read_csv(
                lines, has_header=False, separator=self._dialect.separator, null_values=nulls, **how
            )
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException):
            return None
        return frame if frame.width == len(self._dialect.header) else None

    def kinds(self, lines: bytes) -> list[Any] | None:
        """Types of the columns, guessed from the first rows, or from all ``lines`` if these contradict (only on disk).

        Raises PresumedError.
        """
        if self._dialect.is_presumed:
            check_piece(lines)
        frame = self._read(lines, self._nulls, infer_schema_length=SAMPLE_ROWS)
        if frame is None and self._on_disk:
            frame = self._read(lines, self._nulls, infer_schema_length=None)
        return None if frame is None else frame.dtypes

    def part(self, lines: bytes, kinds: list[Any]) -> Part | None:
        """The columns of these lines; None if they differ from the first lines.  Raises PresumedError."""
        if self._dialect.is_presumed:
            check_piece(lines)
        frame = self._frame(lines, kinds)
        if frame is None:
            return None
        full = _without_empty(frame) if self._on_disk else frame
        columns = stacked(full, values_of) if self._on_disk else separate(full)
        return Part(columns, full.height, frame.height - full.height)

    def _frame(self, lines: bytes, kinds: list[Any]) -> pl.DataFrame | None:
        """The lines read with the types ``kinds``, which are corrected if the lines contradict them (only on disk)."""
        frame = self._with(lines, kinds)
        if frame is None and self._on_disk:
            self._learn(lines, kinds)
            frame = self._with(lines, kinds)
        if frame is None:
            return None
        frame.columns = self._dialect.header
        if _may_be_ragged(frame) and not self._was_checked:
            if not self._on_disk:
                return None
            fields = (lines.count(b"\n") + (lines[-1:] != b"\n")) * (frame.width - 1)
            if self._dialect.has_quotes or lines.count(self._dialect.separator.encode()) != fields:
                _refuse_ragged(self._path, self._dialect)
                self._was_checked = True
        return frame

    def _with(self, lines: bytes, kinds: list[Any]) -> pl.DataFrame | None:
        schema = {f"column_{at}": kind for at, kind in enumerate(kinds, start=1)}
        if self._may_lack_nulls:
            # Comparing every field with the words for a missing value takes a fifth of the time of parsing.
            frame = self._read(lines, [], schema=schema)
            if frame is not None and not _holds(frame, self._nulls):
                return frame
        frame = self._read(lines, self._nulls, schema=schema)
        self._may_lack_nulls &= frame is None
        return frame

    def _learn(self, lines: bytes, kinds: list[Any]) -> None:
        """Correct ``kinds`` for whole numbers that turn out to have fractions.

        Raises LearnedError for numbers that turn out to be text, and FileError for rows of another length.
        """
        import polars as pl

        frame = self._read(lines, self._nulls, infer_schema_length=None)
        if frame is None:
            _refuse_ragged(self._path, self._dialect)
            return
        learned = set()
        for at, (series, key) in enumerate(zip(frame.get_columns(), self._dialect.header, strict=True)):
            if kinds[at].is_integer() and series.dtype.is_float():
                kinds[at] = series.dtype
            elif kinds[at] != pl.String and not series.dtype.is_numeric() and series.null_count() < len(series):
                learned.add(key)
        if learned:
            raise LearnedError(learned)


def whole_lines(file: IO[bytes], has_quotes: bool = False) -> bytes:
    """About PIECE_BYTES of the file, up to the end of a line outside of quoted fields.  Raises FileError."""
    if isinstance(file, GzipFile):
        content = file.read(PIECE_BYTES) + file.readline()
    else:  # one read, because joining two would copy them
        begin = file.tell()
        file.seek(PIECE_BYTES, os.SEEK_CUR)
        file.readline()
        length = file.tell() - begin
        file.seek(begin)
        content = file.read(length)
    while has_quotes and content.count(b'"') % 2 and (more := file.readline()):
        content += more
        if len(content) > LONGEST_PIECE * PIECE_BYTES:
            raise FileError(f"a quote is not closed in {len(content):,} bytes", "close every quote")
    return content


def not_to_be_guessed(path: Path, dialect: Dialect) -> set[str]:
    """Columns that must be read as text although polars would guess otherwise: leading zeros, and true and false.

    A small file is searched as a whole, a large one at its beginning, its end and places between.
    """
    columns = set()
    for lines in _samples(path, dialect.zipped):
        for fields in csv.reader(lines, delimiter=dialect.separator, skipinitialspace=True):
            if len(fields) != len(dialect.header):
                continue
            for key, field in zip(dialect.header, fields, strict=True):
                text = field.strip()
                if (text[:1] == "0" and text.isdigit() and len(text) > 1) or text.lower() in ("true", "false"):
                    columns.add(key)
    return columns


def _samples(path: Path, zipped: bool) -> Iterator[list[str]]:
    size, whole = path.stat().st_size, SAMPLE_PLACES * SAMPLE_BYTES
    places, length = (1, whole) if zipped or size <= whole else (SAMPLE_PLACES, SAMPLE_BYTES)
    with opened(path) as file:
        for place in range(places):
            file.seek(0 if not place else (size - length) * place // (places - 1))
            lines = file.read(length).decode("utf-8", "replace").splitlines()
            yield lines[1 if place else 0 :]


def _refuse_ragged(path: Path, dialect: Dialect) -> None:
    """Raises FileError, which names the line, if a row has more or fewer fields than there are columns."""
    for line, fields in islice(records_of(path, dialect), 1, None):
        check_width(line, fields, dialect)


def check_width(line: int, fields: Sequence[str], dialect: Dialect) -> None:
    expected = len(dialect.header) + dialect.trailing
    if fields and len(fields) != expected:
        first = "as most rows have" if dialect.row_names or dialect.trailing else "as the first line has"
        raise FileError(
            f"every row must have {expected} fields {first}, but line {line:,} has {len(fields)}",
            "a field that holds a separator must stand in double quotes, and every quote must be closed"
            if len(fields) > 1 or expected == 1
            else "leave the line out if it is none of the rows, and close every quote",
        )
