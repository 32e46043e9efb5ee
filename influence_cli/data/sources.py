"""What a source names: built-in data, a path, or a pattern of paths."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from influence_cli.data.builtin import BUILTIN
from influence_cli.data.readers.npy import beside_of
from influence_cli.data.row_store import SUFFIX
from influence_cli.errors import FileError, UsageError, check_regular, nearest

KINDS = (
    "a folder of four IDX files or a file of the kind .csv, .tsv, .txt (or .gz of these), .parquet, .npz, .npy, .svm"
    " or .h5"
)
PATTERN = "*?["
"""Characters that make a path that does not exist a pattern of paths."""


def check_source(source: str) -> None:
    """Raises FileError if ``source`` is neither a built-in name nor an existing path."""
    if source not in BUILTIN:
        existing(source)


def files_of(source: str | None) -> list[str]:
    """The files that a source names; empty for a built-in name and for a path that does not exist."""
    try:
        files = [] if source is None or source in BUILTIN else existing(source)
        beside = [beside_of(path) for path in files if path.suffix.lower() == ".npy"]
        return [str(path) for path in (*files, *beside)]
    except FileError:
        return []


def located(source: str) -> str:
    """A built-in name unchanged, a path made absolute."""
    return source if source in BUILTIN else str(Path(source).expanduser().absolute())


def existing(source: str) -> list[Path]:
    """The existing path, or the paths that match a pattern, sorted by name.  Raises FileError."""
    try:
        path = Path(source).expanduser()
        if source and path.exists():
            if not path.is_dir():
                check_regular(path, "a file or a folder")
            return [path]
        if source and any(mark in source for mark in PATTERN):
            files = sorted(Path(one) for one in glob.glob(str(path)) if not one.endswith(SUFFIX))  # noqa: PTH207
            if files:
                return files
        raise _not_found(source)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: ~name, and there is no such user
        raise FileError(f"{source}: the path cannot be read: {getattr(error, 'strerror', None) or error}") from error


def test_paths(source: str, kinds: Iterable[str], beside: str) -> list[Path]:
    """The files of ``--test-data``.  Raises UsageError if they are not of one of the ``kinds``."""
    paths = existing(source)
    if any(path.is_dir() or not path.name.lower().endswith(tuple(kinds)) for path in paths):
        raise UsageError(
            f"--test-data {source} must be of the kind {', '.join(kinds)}, as {beside} is",
            "write both files in the same way",
        )
    return paths


def _not_found(source: str) -> FileError:
    if "://" in source:
        name = source.rsplit("/", 1)[-1] or "data.csv"
        return FileError(f"{source}: data is read from files, not from the network", f"curl -Lo {name} {source}")
    if source == "-":
        return FileError("data is read from files, not from standard input", "write it to one: ... > data.csv")
    names = f"the names are {', '.join(BUILTIN)}; a path can be {KINDS}"
    if "/" in source or "\\" in source or Path(source).suffix:
        return FileError(f"{source}: no such file or folder", names)
    close = nearest(source, BUILTIN)
    guess = f"did you mean '{close}'? " if close else ""
    return FileError(f"'{source}' is neither a data set nor a path", guess + names)
