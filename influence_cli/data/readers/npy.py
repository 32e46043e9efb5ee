"""Features in a NumPy file ``X*.npy``, with their labels in ``y*.npy`` beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.data import memory
from influence_cli.data.from_arrays import RawData
from influence_cli.errors import FileError, check_regular

HINT = "numpy.save('X.npy', X) and numpy.save('y.npy', y), or numpy.savez(FILE, X=..., y=...)"


def read_npy(path: Path) -> RawData:
    """X from ``path`` and y from the file beside it.  Raises FileError."""
    return RawData.of([_array(path), labels_of(path)])


def labels_of(path: Path) -> np.ndarray:
    """The labels of the features in ``path``, from the file whose name has y for the initial X.  Raises FileError."""
    if path.name[:1] not in "xX":
        raise FileError(
            f"a .npy file holds one array; of X*.npy the labels are looked for in y*.npy beside it, but this one is"
            f" called {path.name}",
            HINT,
        )
    beside = beside_of(path)
    if not beside.exists():
        raise FileError(f"a .npy file holds no labels, and there is no {beside} beside it", HINT)
    check_regular(beside, "a file of labels")
    return _array(beside)


def beside_of(path: Path) -> Path:
    """The path of the labels that belong to the features in ``path``; the file may not exist."""
    return path.with_name(f"y{path.name[1:]}")


def _array(path: Path) -> np.ndarray:
    try:
        if path.stat().st_size > memory.most():
            raise memory.too_large(path.stat().st_size, memory.most())
        array: Any = np.load(path, allow_pickle=False)
    except OSError as error:
        raise FileError(f"{path.name} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise FileError(
            f"a whole .npy file was expected, but {path.name} is damaged, or no array ({error})", HINT
        ) from error
    if not isinstance(array, np.ndarray):
        raise FileError(f"a .npy file was expected, but {path.name} is another kind", HINT)
    return array
