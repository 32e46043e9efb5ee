"""Contiguous rows of one file, read by plain reads.

A memory map is not used, because a mapped file counts as memory of the process, takes as much address space as it is
long, and ends the process if the file is truncated.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from influence_cli.errors import FileError

DIRECT_BYTES = 2**18
"""Of rows in chunks that are read to where they belong, without a copy; fewer are read faster with one (measured)."""


class Part(Protocol):
    """Contiguous rows of one file, as numbers of the type that the file has."""

    rows: int
    path: Path

    def read(self, start: int, out: np.ndarray) -> None:
        """Read the n rows from ``start`` on into ``out`` (n, d).  Raises FileError."""


class OpenFile:
    """A file that stays open, is read in many places, and must not change meanwhile."""

    def __init__(self, path: Path):
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._as_opened = self._stamp()

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenFile, (self.path.absolute(),)

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def fill(self, out: np.ndarray, place: int) -> np.ndarray:
        """Fill the contiguous ``out`` with the bytes from offset ``place`` on, and return it.  Raises FileError.

        The system is advised to read the following bytes ahead.
        """
        if self._stamp() != self._as_opened:
            raise FileError(f"{self.path}: the file was changed while it was in use", "leave it as it is until the end")
        view = memoryview(out.view(np.uint8).reshape(-1).data)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), place + len(view), len(view), os.POSIX_FADV_WILLNEED)
        while len(view):
            got = os.preadv(self._file.fileno(), [view], place)
            if not got:
                raise FileError(f"{self.path}: the file ends before its last row", "write it again")
            view, place = view[got:], place + got
        return out

    def bytes_at(self, places: Sequence[int], count: int) -> bytes:
        """``count`` bytes from each offset in ``places``, concatenated."""
        file = self._file.fileno()
        return b"".join([os.pread(file, count, place) for place in places])


class PlainPart:
    """Rows that lie uncompressed in row-major order from ``offset`` bytes on."""

    def __init__(self, path: Path, offset: int, rows: int):
        self.path, self.offset, self.rows = path, offset, rows
        self._file = OpenFile(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return PlainPart, (self.path.absolute(), self.offset, self.rows)

    def read(self, start: int, out: np.ndarray) -> None:
        """See ``Part.read``."""
        self._file.fill(out, self.offset + start * (out.nbytes // max(len(out), 1)))

    def single(self, rows: Sequence[int], row_bytes: int) -> bytes:
        """The bytes of the given rows, each of which is read separately."""
        return self._file.bytes_at([self.offset + row * row_bytes for row in rows], row_bytes)


class ChunkedPart:
    """Rows of a chunked HDF5 dataset, compressed or not, which are read through h5py by one thread at a time."""

    _one_at_a_time = threading.Lock()

    def __init__(self, path: Path, key: str, rows: int):
        import h5py

        self.path, self.rows = path, rows
        self._key, self._dataset = key, h5py.File(path, "r", locking=False)[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkedPart, (self.path.absolute(), self._key, self.rows)

    def read(self, start: int, out: np.ndarray) -> None:
        """See ``Part.read``."""
        try:
            with self._one_at_a_time:
                whole, rows = out.reshape(len(out), *self._dataset.shape[1:]), np.s_[start : start + len(out)]
                if out.nbytes >= DIRECT_BYTES:
                    self._dataset.read_direct(whole, rows)
                else:
                    whole[:] = self._dataset[rows]
        except (OSError, RuntimeError, ValueError) as error:
            raise FileError(f"{self.path}: the rows cannot be read ({error})", "write the file again") from error
