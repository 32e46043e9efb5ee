"""From what ``--data`` says to checked arrays: a built-in name, or a path with a reader for its kind."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from influence_cli.data.builtin import BUILTIN
from influence_cli.data.dataset import Dataset
from influence_cli.data.files import IDX_NAME, read_idx_folder, read_npz
from influence_cli.data.prepare import RawData, Task, prepare
from influence_cli.errors import FileError, UsageError

Reader = Callable[[Path, str], RawData]

READERS: dict[str, Reader] = {".npz": read_npz}
"""The end of a file's name -> its reader, called with the path and the name for error messages."""

KINDS = f"a folder of four IDX files or a file of the kind {', '.join(READERS)}"


def load(source: str, *, task: Task, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """The data set that ``source`` names: ``digits``, ``synthetic``, ``blobs``, ``mnist``, or a path.

    ``seed`` draws the random data sets, and the split of sources that have none; ``test_fraction`` is the share of
    test rows in such a split.  A built-in name goes before a file of that name (``./digits`` is the file).
    """
    if not 0 < test_fraction < 1:
        raise UsageError(f"the test fraction must lie between 0 and 1, but it is {test_fraction}", "try 0.2")
    if seed < 0:
        raise UsageError(f"the seed must be a whole number from 0, but it is {seed}")
    raw = BUILTIN[source](seed) if source in BUILTIN else _read(source)
    return prepare(raw, task=task, test_fraction=test_fraction, seed=seed)


def _read(source: str) -> RawData:
    try:
        path = Path(source).expanduser()
        if not source or not path.exists():
            raise _not_found(source)
        if path.is_dir():
            return read_idx_folder(path, source)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~name of nobody
        raise FileError(f"{source}: the path cannot be read: {getattr(error, 'strerror', None) or error}") from error
    for ending, reader in READERS.items():
        if path.name.lower().endswith(ending):
            return reader(path, source)
    if IDX_NAME.fullmatch(path.name):
        raise FileError(f"{source}: this is one of four IDX files", f"pass the folder: --data {path.parent}")
    raise FileError(f"{source}: expected {KINDS}, but this kind is not supported")


def _not_found(source: str) -> FileError:
    names = f"the names are {', '.join(BUILTIN)}; a path can be {KINDS}"
    if "/" in source or "\\" in source or Path(source).suffix:
        return FileError(f"{source}: no such file or folder", names)
    close = difflib.get_close_matches(source.lower(), BUILTIN, n=1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return FileError(f"'{source}' is neither a data set nor a path", guess + names)
