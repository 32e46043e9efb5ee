"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from influence_cli.artifacts.lock import PREFIX, hold, ours, remove_leftovers
from influence_cli.core import stopping
from influence_cli.errors import FileError, UsageError

_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EINVAL}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# Longer writes are the contents of large arrays, which HDF5 does not read back.
_KEPT_BYTES = 64 * 1024 * 1024
_swept: set[Path] = set()
"""Folders that this process has cleared of leftovers: once is enough, and a folder may contain a million files."""


class Sink(io.RawIOBase):
    """A file for HDF5 to write to that records a failure instead of reporting it.

    After a failed write HDF5 cannot close its file: it keeps it open and tries again when the process ends.  Therefore
    every write reports success, the first failure (a full disk, Ctrl-C) is kept in ``failure``, and ``replacing``
    raises it once HDF5 has closed the file.  Until then lost writes are kept in memory, because HDF5 reads parts of its
    metadata back, and crashes on anything other than what it wrote.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._raw = io.FileIO(path, "r+b")
        self._position = 0
        self._end = path.stat().st_size
        self._lost: list[tuple[int, bytes]] = []
        self.failure: BaseException | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._end - self._position)]
        start, done = self._position, 0
        self._raw.seek(start)
        while count := self._raw.readinto(view[done:]):
            done += count
        view[done:] = bytes(len(view) - done)
        for offset, content in self._lost:
            first, last = max(offset, start), min(offset + len(content), start + len(view))
            if first < last:
                view[first - start : last - start] = content[first - offset : last - offset]
        self._position += len(view)
        return len(view)

    def write(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self.failure is None:
            try:
                self._write_all(view)
            except BaseException as error:
                self.failure = error
        if self.failure is not None and len(view) <= _KEPT_BYTES:
            self._lost.append((self._position, bytes(view)))
        self._position += len(view)
        self._end = max(self._end, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._end = self._position if size is None else size
        if self.failure is None:
            try:
                self._raw.truncate(self._end)
            except BaseException as error:
                self.failure = error
        return self._end

    def sync(self) -> None:
        if self.failure is not None:
            raise self.failure
        os.fsync(self._raw.fileno())

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _write_all(self, view: memoryview) -> None:
        self._raw.seek(self._position)
        done = 0
        while done < len(view):  # the system may write less than requested, and past 2 GiB always does
            done += self._raw.write(view[done:])


def check_target(path: str | os.PathLike[str], force: bool) -> Path:
    """Refuse early what writing would refuse later; return the path with symbolic links followed."""
    given = Path(path)
    try:
        target = Path(os.path.realpath(given))  # a link then keeps pointing to what replaces its target
        parent = target.parent
        if not parent.is_dir():
            raise FileError(f"cannot write {given}: there is no folder {parent}", hint=f"mkdir -p {parent}")
        if target.is_dir():
            raise FileError(f"cannot write {given}: it is a folder", hint="name a file in it")
        if target.exists():
            if not stat.S_ISREG(target.stat().st_mode):
                raise FileError(f"cannot write {given}: it is not a regular file", hint="HDF5 needs a real file")
            if not force:
                raise _exists(given)
        if not os.access(parent, os.W_OK | os.X_OK):
            raise FileError(f"cannot write {given}: permission denied", hint=f"choose a folder other than {parent}")
    except OSError as error:
        raise _unwritable(given, error) from error
    return target


@contextmanager
def replacing(path: str | os.PathLike[str], *, force: bool, extend: bool = False) -> Iterator[Sink]:
    """Write to a temporary sibling, which takes the name ``path`` only if the block ends without an error.

    With ``extend`` the sibling starts as a copy of the file, which is replaced only if nobody has changed it meanwhile.
    Leftovers of killed runs in the folder are removed.  Ctrl-C is delayed until the block has ended.
    """
    target = check_target(path, force or extend)
    if target.parent not in _swept:
        _swept.add(target.parent)
        remove_leftovers(target.parent)
    temporary = target.with_name(f"{PREFIX}{secrets.token_hex(8)}.tmp")
    handle, sink = -1, None
    with _interrupt_held(), ours(temporary):
        try:
            try:
                before = _state(target) if extend else None
                # os.open gives the permissions of any new file; those of tempfile are for the owner alone
                handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                hold(handle)
                if extend:
                    shutil.copyfile(target, temporary)
                    shutil.copymode(target, temporary)
                sink = Sink(temporary)
            except OSError as error:
                raise _unwritable(path, error) from error
            yield from _closed_after(sink, path)
            try:
                if before is not None and _state(target) != before:
                    raise FileError(f"{path} was changed by another process meanwhile", hint="run the command again")
                _publish(temporary, target, force or extend, path)
                if not extend:
                    stopping.keeping(f"{path} is complete and kept")
            except OSError as error:
                raise _unwritable(path, error) from error
        finally:
            if sink is not None:
                sink.close()
            with suppress(OSError):
                temporary.unlink()
            if handle >= 0:
                os.close(handle)


def _closed_after(sink: Sink, path: str | os.PathLike[str]) -> Iterator[Sink]:
    """Yield the sink to the block of ``replacing``, and flush it to the disk when the block has ended."""
    try:
        yield sink
    except Exception:
        if not sink.failure:
            raise
        # HDF5 fails because of its own lost writes: their cause is raised below
        with suppress(BaseException):
            sink.close()
    try:
        sink.sync()
        sink.close()
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Raise Ctrl-C when the block has ended, where Python's default handler would raise it inside HDF5."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:  # the command line's handler sets a flag and raises nothing
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            raise KeyboardInterrupt


def _publish(temporary: Path, target: Path, force: bool, shown: str | os.PathLike[str]) -> None:
    if force:
        temporary.replace(target)
    else:
        try:
            os.link(temporary, target)  # fails if another process was first; a rename would overwrite
        except FileExistsError as error:
            raise _exists(shown) from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _claim_and_replace(temporary, target, shown)
    _sync_folder(target.parent)


def _claim_and_replace(temporary: Path, target: Path, shown: str | os.PathLike[str]) -> None:
    """For file systems without links: the process that creates the empty file owns the name."""
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError as error:
        raise _exists(shown) from error
    try:
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system can open a folder; the file itself is already safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _exists(path: str | os.PathLike[str]) -> UsageError:
    return UsageError(f"{path} exists already", hint="--force replaces it")


def _unwritable(path: str | os.PathLike[str], error: OSError) -> FileError:
    hint = None
    if error.errno in _NO_SPACE:
        hint = "free some space or write to another disk; nothing was changed"
    elif error.errno in _FORBIDDEN:
        hint = "choose a folder that you may write to"
    return FileError(f"cannot write {path}: {(error.strerror or str(error)).lower()}", hint=hint)
