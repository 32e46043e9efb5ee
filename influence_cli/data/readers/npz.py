"""Arrays from NumPy's ``.npz``: ``X_train y_train X_test y_test``, or ``X y``."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from influence_cli.data import memory
from influence_cli.data.from_arrays import RawData
from influence_cli.errors import FileError

ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")

NPZ_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, MemoryError, struct.error)
"""What zipfile and NumPy raise on a damaged archive (RuntimeError if it claims to be encrypted)."""

NPZ_HINT = "save the arrays with numpy.savez(FILE, X_train=..., y_train=..., X_test=..., y_test=...) or (X=..., y=...)"


def read_npz(path: Path) -> RawData:
    """``X_train y_train X_test y_test``, or ``X y`` to be split, unchecked.  Raises FileError.

    There may also be ``sample_weight``, a number for each training row (or row of X); other keys are ignored.  The case
    of the keys does not matter, since Keras writes ``x_train``.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) not in ZIP_MAGIC:
                raise FileError("an .npz file was expected, but this is another kind", NPZ_HINT)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                memory.check_archive(archive.zip, path.stat().st_size)
                arrays = [_npz_array(archive, key) for key in array_keys(archive.files, NPZ_HINT)]
                weight = _npz_array(archive, "sample_weight") if "sample_weight" in archive.files else None
    except OSError as error:
        raise FileError(f"the file cannot be read: {error.strerror or error}") from error
    except NPZ_DAMAGE as error:
        raise FileError(
            f"a whole .npz file was expected, but it is cut short or damaged ({error})", NPZ_HINT
        ) from error
    return replace(RawData.of(arrays), sample_weight=weight)


def array_keys(names: list[str], hint: str) -> list[str]:
    """The keys of the four arrays, or of the two; ``X`` is preferred to ``x``.  Raises FileError with this ``hint``."""
    by_name = {key.lower(): key for key in sorted(names, reverse=True)}  # capitals come last, and the last is kept
    for wanted in (("x_train", "y_train", "x_test", "y_test"), ("x", "y")):
        if all(key in by_name for key in wanted):
            return [by_name[key] for key in wanted]
    raise FileError(
        f"the arrays X_train, y_train, X_test, y_test (or X, y) were expected, "
        f"but found {', '.join(names) if names else 'no array'}",
        hint,
    )


def _npz_array(archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    try:
        array = archive[key]
    except NPZ_DAMAGE as error:
        if "allow_pickle" in str(error):
            raise FileError(
                f"numbers or strings were expected in {key}, but it is an array of Python objects, "
                "which could run code when it is read",
                "convert it before saving, for example with X.astype(float) or y.astype(str)",
            ) from error
        raise FileError(f"the array {key} is cut short or damaged ({error})", NPZ_HINT) from error
    if not isinstance(array, np.ndarray):
        raise FileError(f"a NumPy array was expected in {key}, but it is another kind of file", NPZ_HINT)
    return array
