"""Whether files are what they were when they were last read, without reading them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from time import time
from typing import Any
from zlib import crc32

import numpy as np

from influence_cli.data.inside import inside

CHECKED_BYTES = 2**18
"""Of a file that are read at a time for their checksum."""

STARTED, TICK = time(), 0.1
"""When this process began to look at files, and seconds by which the clock of a file system may lag behind."""

trusted: ContextVar[bool] = ContextVar("trusted", default=False)
"""Whether what is read was checked before, and nobody has touched it since."""


def trusting() -> AbstractContextManager[None]:
    """Files that are read inside have been checked before, and nobody has touched them since."""
    return inside(trusted, True)


def stamps(names: Iterable[str], *, before: float = np.inf) -> list[int] | None:
    """What tells files that were written again from those that they were, without reading them: the length of each, and
    when its content and its place were last changed.  None of no files, of such that are gone, and of such that were
    touched in the last moment ``before`` (seconds since 1970), so that what was read of them may be what they were."""
    numbers = []
    try:
        for path in map(Path, names):
            for one in sorted(path.iterdir()) if path.is_dir() else [path]:
                now = one.stat()
                if now.st_ctime > before - TICK:
                    return None
                numbers += [now.st_size, now.st_mtime_ns, now.st_ctime_ns]
    except OSError:
        return None
    return numbers or None


def content_digest(path: Path) -> str:
    """The SHA-256 of a file; read once while its length and time stay as they are.  Raises OSError."""
    status = path.stat()
    return _digest_as_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest_as_of(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def marked(paths: Sequence[Path]) -> dict[str, Any]:
    """By what files are known again."""
    return {"stamps": stamps(map(str, paths)), "checksums": [checksum(path) for path in paths]}


def checksum(path: Path) -> int:
    """The CRC-32 of a file, which tells a changed one at a fifth of the cost of a SHA-256."""
    check, room = 0, memoryview(bytearray(CHECKED_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(room):
            check = crc32(room[:count], check)
    return check


def is_still(paths: Sequence[Path], known: dict[str, Any], path: Path, kept: Mapping[str, Any]) -> bool:
    """Whether files have the content by which they are ``known``; ``path`` has that among what is ``kept``."""
    now = stamps(map(str, paths))
    if now is None or now != known["stamps"]:
        lengths = [path.stat().st_size for path in paths]
        if lengths != known["stamps"][::3] or [checksum(path) for path in paths] != known["checksums"]:
            return False
        known["stamps"] = now
        written(path, kept)
    return True


def written(path: Path, content: Mapping[str, Any]) -> None:
    """JSON that is there as a whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(json.dumps(content))  # in one piece, which is ten times as fast
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
