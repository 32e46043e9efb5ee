"""Limits on what a reader allocates, so that a file which claims more than there is ends in an error message."""

from __future__ import annotations

import gzip
import math
import os
import zipfile
from contextlib import AbstractContextManager
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from influence_cli.data.inside import inside
from influence_cli.errors import FileError
from influence_cli.memory import at_hand

SHARE = 0.5
"""Share of the available memory that one array, file or unpacked text may fill; its copies need the rest."""
UNPACKED_BYTES = 256 * 1024 * 1024
UNPACKED_TIMES = 100
"""A packed file may hold this many bytes, or this multiple of its length if that is more: tables are packed to about a
twentieth, and a file packed to less than a hundredth is a mistake or an attack."""


_in_pieces: ContextVar[bool] = ContextVar("in_pieces", default=False)


def unpacking_in_pieces() -> AbstractContextManager[None]:
    """Within this context, what is read is freed piece by piece, so that memory does not limit it."""
    return inside(_in_pieces, True)


def most() -> float:
    """Most bytes that one array, file or unpacked text may take."""
    return math.inf if _in_pieces.get() else SHARE * at_hand()


def most_unpacked(packed: int) -> float:
    """Most bytes that a file of ``packed`` bytes may hold when it is unpacked."""
    return min(most(), max(UNPACKED_BYTES, UNPACKED_TIMES * packed))


def too_large(claimed: float, limit: float) -> FileError:
    """The error for a file that holds, or claims to hold, more than ``limit`` bytes."""
    return FileError(
        f"it holds {claimed:,.0f} bytes or more, and at most {limit:,.0f} fit here",
        "write fewer rows or columns, or numbers instead of text",
    )


def check_archive(archive: zipfile.ZipFile, length: int) -> None:
    """Check the sizes that a zip's members and the arrays in them claim against its length and the memory.

    Raises FileError if one is too large, and ValueError if the archive is damaged.
    """
    limit = most_unpacked(length)
    for member in archive.infolist():
        if member.file_size > (length if member.compress_type == zipfile.ZIP_STORED else limit):
            raise too_large(member.file_size, limit)
        if not member.filename.endswith(".npy"):
            continue
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        claimed = math.prod(shape) * dtype.itemsize
        if claimed > member.file_size and not dtype.hasobject:
            raise ValueError(f"{member.filename} claims {claimed:,} bytes, and the file holds {member.file_size:,}")


class BoundedGzip(gzip.GzipFile):
    """A gzip file that raises FileError once it has returned more bytes than a file of its length may hold."""

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__(path, "rb")
        self._limit = most_unpacked(Path(path).stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        """As ``GzipFile.read``; without a size it reads up to the limit."""
        if size is None or size < 0:
            size = int(self._limit) + 1
        return self._counted(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        """As ``GzipFile.read1``."""
        return self._counted(super().read1(size))

    def readline(self, size: int | None = -1) -> bytes:
        """As ``GzipFile.readline``."""
        if size is None or size < 0:
            size = int(self._limit) + 1
        return self._counted(super().readline(size))

    def _counted(self, content: bytes) -> bytes:
        if self.tell() > self._limit:
            raise too_large(self.tell(), self._limit)
        return content
