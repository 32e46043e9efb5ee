"""One writer a file: a run that fills an artifact holds a lock beside it, which a killed run loses by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from influence_cli.errors import FileError

try:
    import fcntl
except ImportError:  # Windows: no advisory locks; atomic replacement still keeps the file whole
    fcntl = None  # type: ignore[assignment]


@contextmanager
def exclusive(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold ``path`` for this process.  Raises FileError where another one holds it."""
    target = Path(os.path.realpath(path))
    name = target.with_name(f".{target.name}.lock")
    if fcntl is None:
        yield
        return
    try:
        handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise FileError(f"cannot write beside {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between our open and our lock its holder may have ended and removed it: then this locks nothing any more.
            if not name.exists() or not os.path.samestat(os.fstat(handle), name.stat()):
                raise BlockingIOError
        except OSError as error:
            raise FileError(
                f"another ginf process is filling {path}", hint="wait for it to end, or write to another file with -o"
            ) from error
        try:
            yield
        finally:
            name.unlink(missing_ok=True)
    finally:
        os.close(handle)
