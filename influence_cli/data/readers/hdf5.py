"""Arrays from other people's HDF5: ``X_train y_train X_test y_test``, or ``X y``, as datasets at the root."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from influence_cli.data.prepare import RawData
from influence_cli.data.readers.arrays import array_keys
from influence_cli.errors import FileError

HINT = "write the datasets X_train, y_train, X_test and y_test (or X and y) at the root of the file"


def read_hdf5(path: Path, name: str) -> RawData:
    """The arrays as they are; the case of ``X`` does not matter.  A model of ginf's is told from data."""
    import h5py

    try:
        if not h5py.is_hdf5(path):
            raise FileError(f"{name}: an HDF5 file was expected, but this is another kind", HINT)
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("format") in (b"ginf", "ginf"):
                raise _is_ours(file.attrs.get("kind"), name)
            keys = array_keys([key for key, item in file.items() if isinstance(item, h5py.Dataset)], name, HINT)
            arrays = [_array(file[key], key, name) for key in keys]
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise FileError(f"{name}: a whole HDF5 file was expected, but it is cut short or damaged ({error})") from None
    return RawData.of(name, arrays)


def _array(dataset, key: str, name: str) -> np.ndarray:
    import h5py

    if dataset.shape is None:
        raise FileError(f"{name}: the dataset {key} is empty", HINT)
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[()]).astype(str)
    if dataset.dtype.kind not in "biuf":
        raise FileError(f"{name}: numbers or strings were expected in {key}, but it holds {dataset.dtype}", HINT)
    return np.asarray(dataset[()])


def _is_ours(kind: object, name: str) -> FileError:
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind == "model":
        return FileError(
            f"{name}: this is a model that ginf train wrote, not data to train on",
            f"ask it with ginf influence --model {name}, or name the data that it was trained on",
        )
    return FileError(f"{name}: this is a result of ginf's (of the kind {kind}), not data to train on")
