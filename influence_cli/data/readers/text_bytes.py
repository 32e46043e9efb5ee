"""The bytes of a text table: whether they are gzipped, their encoding, line ends and quotes.

They are determined in one pass over the file.  For a large file they can be presumed from the first bytes, and then
each piece is checked as it is read.
"""

from __future__ import annotations

import codecs
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from influence_cli.data.memory import BoundedGzip
from influence_cli.errors import FileError

HEAD_BYTES = 2**18
"""Bytes from which the header and the separator are determined."""
CHUNK_BYTES = 2**22
"""Bytes that are read at a time to determine encoding, line ends and quotes."""
GZIP_MAGIC = b"\x1f\x8b"
UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_AS_LATIN = "influence_cli.latin-1"
"""Error handler that decodes the few bytes that cp1252 leaves undefined as Latin-1."""
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of .xlsx and .xls files."""


class PresumedError(Exception):
    """A file is not as its first bytes suggest, or cannot be read so: a pass over all its bytes is needed."""


def check_piece(lines: bytes) -> None:
    """Raises PresumedError if bytes are not UTF-8, or contain quotes, or carriage returns without a line feed."""
    if b'"' in lines or (b"\r" in lines and lines.count(b"\r") != lines.count(b"\r\n")):
        raise PresumedError
    try:
        lines.isascii() or lines.decode()
    except UnicodeDecodeError:
        raise PresumedError from None


@dataclass(frozen=True)
class Content:
    """Properties of a file's bytes: the first ones (``head``), and Python's name of the encoding.

    ``other`` is the offset and value of the first byte that is not UTF-8, or None.  ``lone_returns``: there are
    carriage returns without a line feed.  ``is_presumed``: only the first bytes were examined.
    """

    head: bytes
    encoding: str
    other: tuple[int, int] | None
    lone_returns: bool
    has_quotes: bool
    zipped: bool = False
    is_presumed: bool = False


def content_of(path: Path, encoding: str | None, *, presumes: bool = False) -> Content:
    """The properties of a text file, in the ``encoding`` that the user named, if any.

    With ``presumes``, only the first bytes are examined if they suggest a plain file (``check_piece``).  Raises
    FileError if the file is not text.
    """
    with opened(path) as file:
        zipped = isinstance(file, BoundedGzip)
        head = file.read(HEAD_BYTES)
        content = _from_head(head, encoding)
        if content is None and presumes and not zipped and _is_plain(head):
            content = Content(head, "utf-8", None, False, False, is_presumed=True)
        return replace(content or _from_all(file, head), zipped=zipped)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file opened for reading its unpacked bytes.  Raises FileError for a damaged file."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == GZIP_MAGIC
        with BoundedGzip(path) if zipped else path.open("rb") as content:
            yield content  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(error) from None


def damaged(error: BaseException) -> FileError:
    """The error about a file that cannot be read, or not to its end."""
    if isinstance(error, OSError) and error.strerror:
        return FileError(f"the file cannot be read: {error.strerror}")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return FileError(f"a whole file was expected, but it is cut short or damaged ({reason})")


def decoded(content: IO[bytes], encoding: str) -> io.TextIOWrapper:
    """The bytes decoded as a text stream, whose lines keep their line ends."""
    codecs.register_error(_AS_LATIN, lambda error: (error.object[error.start : error.end].decode("latin-1"), error.end))  # type: ignore[attr-defined]
    return io.TextIOWrapper(content, encoding, _AS_LATIN if encoding == "cp1252" else "strict", newline="")


def other_encoding(encoding: str, error: UnicodeDecodeError) -> FileError:
    byte = error.object[error.start]
    return FileError(f"the file is not in the encoding {encoding}: it holds the byte 0x{byte:02x}", "try another one")


def _is_plain(head: bytes) -> bool:
    """Whether there are complete lines in the first bytes, and they pass ``check_piece``."""
    try:
        check_piece(head[: head.rfind(b"\n") + 1])
    except PresumedError:
        return False
    return b"\n" in head


def _from_head(head: bytes, encoding: str | None) -> Content | None:
    """The properties if the first bytes determine them; None if the others must be examined.  Raises FileError."""
    if re.match(rb"PK\x03\x04.{26}[ -~]{1,200}?\.(?:csv|tsv|tab|txt|data?)", head, re.DOTALL | re.IGNORECASE):
        raise FileError("this is a ZIP archive, not text", "unpack it, and give the table inside")
    if head.startswith(WORKBOOKS):
        raise FileError("this is a workbook of a spreadsheet, not text", "save the sheet as CSV (UTF-8)")
    if encoding is not None:
        return Content(head, encoding, None, True, True)
    if head[:2] in UTF16 or (len(head) > 3 and head[1::2].count(0) > 0.3 * len(head) > head[::2].count(0)):
        return Content(head, UTF16.get(head[:2], "utf-16-le"), None, True, True)
    if b"\0" in head:
        raise FileError("a table of text was expected, but this file is binary")
    return None


def _from_all(file: IO[bytes], head: bytes) -> Content:
    """The properties, from a pass over all bytes; ``head`` was already read from the file."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    returns = both = place = 0
    has_quotes, other, chunk, ended_in_return = False, None, head, False
    while chunk:
        if other is None and not (chunk.isascii() and not decoder.getstate()[0]):
            other = _not_utf8(decoder, chunk, place)
        place += len(chunk)
        if b"\r" in chunk:  # if there are none, this is twenty times as fast as counting
            returns += chunk.count(b"\r")
            both += chunk.count(b"\r\n")
        both += ended_in_return and chunk[:1] == b"\n"
        ended_in_return = chunk[-1:] == b"\r"
        has_quotes = has_quotes or b'"' in chunk
        chunk = file.read(CHUNK_BYTES)
    return Content(head, "utf-8" if other is None else "cp1252", other, returns != both, has_quotes)


def line_of(path: Path, place: int) -> int:
    """The number of the line, counted from 1, that contains the byte at offset ``place``."""
    line = 1
    with opened(path) as file:
        while place > 0 and (chunk := file.read(min(place, CHUNK_BYTES))):
            line += chunk.count(b"\n")
            place -= len(chunk)
    return line


def _not_utf8(decoder: codecs.IncrementalDecoder, chunk: bytes, place: int) -> tuple[int, int] | None:
    try:
        decoder.decode(chunk)
    except UnicodeDecodeError as error:
        whole = bytes(error.object)  # includes bytes that the decoder kept from the previous chunk
        return place + len(chunk) - len(whole) + error.start, whole[error.start]
    return None


def has_loose_quotes(path: Path, separator: str) -> bool:
    """Whether an unquoted field contains a quote, such as an inch sign, or a quoted field a single one (\\")."""
    mark = re.escape(separator.encode())
    other = rb'[^"\n\r' + mark + rb"]"
    loose = re.compile(rb"(?:^|[\n\r]|" + mark + rb")" + other + rb'+"|' + other + rb'"' + other)
    tail = b""
    with opened(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            if loose.search(tail + chunk):
                return True
            tail = chunk[-4096:]
    return False
