"""Locks that end with their process: one writer per file, and a distinction between leftovers of killed runs and files
in use."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from influence_cli.errors import FileError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; atomic replacement still keeps the file whole
    fcntl = None  # type: ignore[assignment]

PREFIX = ".ginf-"
"""Prefix of the names of temporary files and locks."""
NEW_SECONDS = 2.0
"""Seconds after its creation within which an empty file may still be about to be locked by the run that created it."""
OLD_SECONDS = 7 * 24 * 3600.0
"""Seconds after which a file is a leftover if the file system has no locks: no run writes one file for a week."""

_ours: set[Path] = set()
"""The temporary files and locks of this process that currently exist."""


@contextmanager
def exclusive(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold ``path`` for this process.  Raises FileError if another process holds it."""
    target = Path(os.path.realpath(path))
    name = target.with_name(f"{PREFIX}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.lock")
    if fcntl is None:
        yield
        return
    handle = _locked(name, path)
    with ours(name):
        try:
            yield
        finally:
            name.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def ours(path: Path) -> Iterator[None]:
    """Register a file for removal in case the process ends within the block."""
    _ours.add(path)
    try:
        yield
    finally:
        _ours.discard(path)


def remove_ours() -> None:
    """Remove this process's temporary files and locks, if it ends without unwinding the stack."""
    for path in list(_ours):
        with suppress(OSError):
            path.unlink()


def hold(handle: int) -> None:
    """Lock an open file until it is closed, so that no process takes it for a leftover."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs of this user left in a folder, but nothing of running processes, which hold locks."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.name.endswith((".tmp", ".lock")):
                with suppress(OSError):
                    _remove_if_left(entry.path)


def _remove_if_left(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    try:
        status = os.fstat(handle)
        age = time.time() - status.st_mtime
        if not stat.S_ISREG(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
            return
        if fcntl is None:
            left = age > OLD_SECONDS
        else:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left = age > (0.0 if status.st_size else NEW_SECONDS)
            except BlockingIOError:
                left = False
            except OSError:
                left = age > OLD_SECONDS
        if left:
            os.unlink(path)  # noqa: PTH108
    finally:
        os.close(handle)


def _locked(name: Path, shown: str | os.PathLike[str]) -> int:
    """An open file that this process alone has locked."""
    while True:
        try:
            handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise FileError(f"cannot write beside {shown}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise FileError(
                f"another ginf process is filling {shown}", hint="wait for it to end, or write to another file with -o"
            ) from error
        same = False
        with suppress(OSError):
            same = os.path.samestat(os.fstat(handle), name.stat())
        if same:
            try:
                os.write(handle, b"\n")  # no longer empty: once unlocked it counts as a leftover at once
            except OSError as error:
                os.close(handle)
                name.unlink(missing_ok=True)
                raise FileError(f"cannot write beside {shown}: {error.strerror}") from error
            return handle
        os.close(handle)  # its holder removed it between our open and our lock, which therefore locks nothing
