"""The dialect of a text table: its separator, the place of its header, and the names of its columns.

``text_bytes.py`` determines the encoding; ``delimited.py`` reads a table by its dialect.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from influence_cli.data.readers.text_bytes import (
    HEAD_BYTES,
    content_of,
    decoded,
    has_loose_quotes,
    line_of,
    opened,
    other_encoding,
)
from influence_cli.errors import FileError, UsageError, composed, did_you_mean

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
SEPARATOR_WORDS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "blank": " ", "space": " ", "\\t": "\t"}
"""Names that ``--separator`` accepts in addition to the character itself."""

HEAD_RECORDS = 60
"""Records from which the separator and the header are determined."""
MOST_FIELD = 2**31 - 1
"""Most characters of one field, for the csv module."""


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    ``encoding`` is Python's name of the encoding, ``header`` the names of the columns, and ``skipped`` the number of
    lines above it.  ``is_plain``: libraries can read the bytes directly, because they are UTF-8 with LF or CRLF line
    ends and quotes only around whole fields.  ``row_names``: the rows have one field more than the header, with their
    names first.  ``trailing``: the rows end in a separator.  ``notes`` are for the user.  ``has_quotes``: there may be
    quotes.  ``is_presumed``: only the first bytes were examined, and ``check_piece`` must examine the others.
    """

    zipped: bool
    encoding: str
    separator: str
    header: list[str]
    skipped: int
    is_plain: bool
    row_names: bool = False
    trailing: bool = False
    notes: tuple[str, ...] = ()
    has_quotes: bool = True
    is_presumed: bool = False


def separator_of(text: str) -> str:
    """The character that ``--separator`` names.  Raises UsageError."""
    mark = SEPARATOR_WORDS.get(text.lower(), text)
    if len(mark) == 1 and mark not in "\"\n\r'" and not mark.isalnum():
        return mark
    raise UsageError(
        f"--separator must be one character, or one of {', '.join(SEPARATOR_WORDS)}; found {text!r}",
        did_you_mean(text, SEPARATOR_WORDS),
    )


def encoding_of(text: str) -> str:
    """Python's name of the encoding that ``--encoding`` names.  Raises UsageError."""
    try:
        return codecs.lookup(text).name
    except LookupError:
        raise UsageError(f"--encoding {text!r} is no encoding that Python knows", "for example latin-1") from None


def dialect_of(
    path: Path, usual: str, *, separator: str | None, encoding: str | None, label: str | None, presumes: bool = False
) -> Dialect:
    """The dialect of a text table whose fields are usually separated by ``usual``.

    ``separator`` and ``encoding`` are those that the user named, or None; ``label`` is a column that must exist.  With
    ``presumes``, only the first bytes are examined if they suggest a plain file.  Raises FileError if it is not a
    table.
    """
    content = content_of(path, encoding, presumes=presumes)
    notes = []
    if content.other is not None and encoding is None:
        line, byte = line_of(path, content.other[0]), content.other[1]
        notes.append(f"the file is read as Latin-1 (line {line:,} holds the byte 0x{byte:02x}, which UTF-8 has not)")
    elif content.encoding.startswith("utf-16"):
        notes.append("the file is read as UTF-16")
    text = content.head.decode(content.encoding, "replace").removeprefix("\ufeff")
    lines = _lines(text, whole=len(content.head) < HEAD_BYTES)
    above = 0
    if match := re.fullmatch(r'"?sep=(.)"?\s*', lines[0] if lines else "", re.IGNORECASE):
        separator, above, lines = separator or match[1], 1, lines[1:]
    mark = separator or _separator(lines, usual)
    records = _head(lines, mark)
    if not records:
        raise FileError("the table is empty", "the first line must name the columns")
    at, extra = _header_at(records, label)
    header = [composed(field).strip() for field in records[at][1]]
    if at:
        shown = mark.join(records[0][1])[:60]
        many = f"{at} lines above the header were" if at > 1 else "one line above the header was"
        notes.append(f"{many} passed over: {shown!r}" + (" ..." if at > 1 else ""))
    if separator is None and mark != usual:
        notes.append(f"fields are separated by {SEPARATORS[mark]}")
    following = [fields for _, fields in records[at + 1 :]]
    trailing = extra and all(not fields[-1].strip() for fields in following)
    is_plain = (
        content.encoding in ("utf-8", "ascii")
        and not content.lone_returns
        and not at + above
        and not extra
        and not content.head.startswith((b"x^", b"x\x01"))  # polars would take these bytes (a column x^2) for zlib data
        and mark != " "
        and not (content.has_quotes and has_loose_quotes(path, mark))
    )
    names = _names(["", *header] if extra and not trailing else header, label, following[:1])
    for key, name in zip(names[-len(header) :], header, strict=True):
        if name and key != name:
            notes.append(f"column {key}: the header calls it {name}, as a column before it")
    if extra and not trailing:
        notes.append(f"the rows have one field more than the header: the first is their name, {following[0][0]!r}")
    skipped = above + records[at][0] - 1
    return Dialect(
        *(content.zipped, content.encoding, mark, names, skipped, is_plain, extra and not trailing, trailing),
        *(tuple(notes), content.has_quotes, content.is_presumed),
    )


def records_of(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yields the line on which each record begins, and its fields (none on an empty line), beginning with the header.

    Raises FileError.
    """
    with opened(path) as content:
        text = decoded(content, dialect.encoding)
        try:
            lines = itertools.chain([text.readline().removeprefix("\ufeff")], text)
            for line, fields in parsed(itertools.islice(lines, dialect.skipped, None), dialect.separator):
                yield line + dialect.skipped, fields
        except UnicodeDecodeError as error:
            raise other_encoding(dialect.encoding, error) from None


def parsed(lines: Iterator[str] | Sequence[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the line on which each record begins, counted from 1, and its fields, none on an empty line.

    Raises FileError.
    """
    csv.field_size_limit(MOST_FIELD)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    line = 1
    try:
        for fields in reader:
            if separator == " " and fields and not fields[-1]:
                fields = fields[:-1]
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileError(f"line {line:,} cannot be read: {error}") from None


def _head(lines: Sequence[str], separator: str) -> list[tuple[int, list[str]]]:
    """The first records, without empty lines."""
    return list(itertools.islice((one for one in parsed(lines, separator) if one[1]), HEAD_RECORDS))


def _lines(text: str, *, whole: bool) -> list[str]:
    """The lines with their line ends, without the last one unless the text is the ``whole`` file."""
    lines = list(io.StringIO(text, newline=""))
    return lines if whole or len(lines) < 2 else lines[:-1]


def _separator(lines: list[str], usual: str) -> str:
    """The separator with the fewest lines whose number of fields differs from that of most lines; ``usual`` if tied."""
    odd: dict[str, tuple[int, int]] = {}
    for mark in (usual, *(one for one in SEPARATORS if one != usual)):
        counts = [len(fields) for _, fields in _head(lines, mark)]
        if not counts:
            return usual
        width, times = Counter(counts).most_common(1)[0]
        if width > 1 and 2 * times > len(counts) and not (mark == " " and odd):
            odd[mark] = (len(counts) - times, -width if mark != usual else -(10**9))
    return min(odd, key=odd.__getitem__) if odd else usual


def _header_at(records: Sequence[tuple[int, list[str]]], label: str | None) -> tuple[int, bool]:
    """The index of the header among the records, and whether the rows have one field more than it.

    Records above it are skipped that have another number of fields than the rows, that are comments (``#``), or that
    have mostly empty fields while a later record contains the label.
    """
    if titles := _titles(records, label):
        return titles, False
    widths = [len(fields) for _, fields in records]
    width = Counter(widths[len(widths) // 2 :]).most_common(1)[0][0]
    if widths[0] == width and not _is_comment(records[0][1], records, label):
        return 0, False
    if label is not None and label in records[0][1] and widths[0] != width - 1:
        return 0, False  # a ragged table
    rest = widths[1:]
    if widths[0] == width - 1 and rest and all(one == width for one in rest) and width > 1:
        return 0, True
    candidates = [
        at for at, one in enumerate(widths[:-1]) if one == width and not _is_comment(records[at][1], records, label)
    ]
    regular = candidates and candidates[0] and all(one == width for one in widths[candidates[0] :])
    return (candidates[0], False) if regular else (0, False)


def _titles(records: Sequence[tuple[int, list[str]]], label: str | None) -> int:
    """The number of records above the one with the label if all are titles, with mostly empty fields; else 0."""
    named = [label in [field.strip() for field in fields] for _, fields in records]
    if True not in named[1:] or named[0]:
        return 0
    at = named.index(True)
    are_titles = all(2 * sum(map(bool, map(str.strip, fields))) <= len(fields) for _, fields in records[:at])
    return at if are_titles and len({len(fields) for _, fields in records}) == 1 else 0


def _is_comment(fields: list[str], records: Sequence[tuple[int, list[str]]], label: str | None) -> bool:
    """Whether a record begins with ``#``, ``//`` or ``%`` and is a comment, not the header."""
    if not fields[0].startswith(("#", "//", "%")) or len(records) < 3:
        return False
    return label is None or (label not in map(str.strip, fields) and any(label in other for _, other in records))


def _names(header: list[str], label: str | None, following: Sequence[list[str]]) -> list[str]:
    """The distinct names of the columns: a column without a name is named by its position, and a repeated name gets a
    suffix as in pandas (age.1).  Raises FileError if the header looks like a row of numbers."""
    header_names = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    taken, counts, names = set(header_names), Counter[str](), []
    for name in header_names:
        key = name
        while counts[name] and key in taken:
            key = f"{name}.{counts[name]}"
            counts[name] += key in taken
        counts[name] += 1
        taken.add(key)
        names.append(key)
    if label is not None and header.count(label) > 1:
        raise FileError(f"the label {label} is the name of {header.count(label)} columns", "rename the other ones")
    numbers = all(re.fullmatch(r"[+-]?\d+([.,]\d+)?", name) for name in names if not name.startswith("Unnamed: "))
    counting = names == [str(number) for number in range(len(names))]
    if numbers and following and not counting and (label is None or label not in names):
        raise FileError(
            f"the first line must name the columns, but it holds only numbers ({', '.join(names[:3])}, ...)",
            "put a line with names above it if it is a row; if the numbers are the columns' names, rename them",
        )
    return names
