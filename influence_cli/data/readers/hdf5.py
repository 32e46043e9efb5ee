"""Arrays from HDF5 files of any origin: the root datasets ``X_train y_train X_test y_test``, or ``X y``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from influence_cli.data import memory
from influence_cli.data.from_arrays import RawData
from influence_cli.data.readers.npz import array_keys
from influence_cli.errors import FileError, check_regular

if TYPE_CHECKING:
    import h5py

CHUNK_BYTES = 256 * 1024 * 1024
"""Most bytes of one chunk: HDF5 unpacks whole chunks, so that a larger one is a mistake or an attack."""
HINT = "write the datasets X_train, y_train, X_test and y_test (or X and y) at the root of the file"


def read_hdf5(path: Path) -> RawData:
    """The arrays, unchecked; ``x`` may be written for ``X``.  Raises FileError, also for a file that ginf wrote."""
    import h5py

    check_regular(path, "an HDF5 file")
    try:
        if not h5py.is_hdf5(path):
            raise FileError("an HDF5 file was expected, but this is another kind", HINT)
        with h5py.File(path, "r", locking=False) as file:
            if is_model(file):
                raise _is_ours(file.attrs.get("kind"), path)
            inside = [key for key in file if link_problem(file, key) is None and isinstance(file[key], h5py.Dataset)]
            for key, problem in ((key, link_problem(file, key)) for key in file):
                if problem is not None:
                    raise FileError(f"{key}: {problem}", "copy the numbers into one file")
            keys = array_keys(inside, HINT)
            arrays = [_array(file[key], key) for key in keys]
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise FileError(f"a whole HDF5 file was expected, but it is cut short or damaged ({error})") from None
    return RawData.of(arrays)


def is_model(file: h5py.File) -> bool:
    """Whether ginf wrote the file."""
    return file.attrs.get("format") in (b"ginf", "ginf")


def link_problem(group: h5py.Group, name: str) -> str | None:
    """Why ``name`` in a group must not be read: it is a link to another file or name.  None if it is not a link, or
    does not exist."""
    import h5py

    if not group.id.links.exists(name.encode("utf-8", "surrogateescape")):
        return None
    if group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type == h5py.h5l.TYPE_HARD:
        return None
    return "expected numbers in this file, found a link to elsewhere"


def storage_problem(dataset: h5py.Dataset, most: float) -> str | None:
    """Why a dataset must not be read: its numbers lie in other files, are fewer than it claims, or take more than
    ``most`` bytes when unpacked.  None if it is sound.  Nothing is read or allocated for this check."""
    import h5py

    if dataset.shape is None:
        return None
    if dataset.is_virtual or dataset.external:
        return "expected numbers in this file, found a dataset whose numbers lie in other files"
    claimed = dataset.dtype.itemsize * math.prod(dataset.shape)
    stored = dataset.id.get_storage_size()
    properties = dataset.id.get_create_plist()
    filters = {properties.get_filter(number)[0] for number in range(properties.get_nfilters())}
    packed = bool(filters - {h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_SHUFFLE})
    if not packed and claimed > stored:
        return f"cut short: it claims {claimed:,} bytes, and the file holds {stored:,} of them"
    if packed and claimed and not stored:
        return f"cut short: it claims {claimed:,} bytes, and the file holds none"
    if claimed > most:
        return f"it claims {claimed:,} bytes of memory, and at most {int(most):,} are expected of this file"
    if dataset.chunks is not None and dataset.dtype.itemsize * math.prod(dataset.chunks) > CHUNK_BYTES:
        return f"expected chunks of at most {CHUNK_BYTES:,} bytes, found {dataset.chunks}"
    return None


def _array(dataset: h5py.Dataset, key: str) -> np.ndarray:
    import h5py

    if (problem := storage_problem(dataset, memory.most())) is not None:
        raise FileError(f"{key}: {problem}", "copy the numbers into one file" if "lie in" in problem else None)
    if dataset.shape is None:
        raise FileError(f"the dataset {key} is empty", HINT)
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[()]).astype(str)
    if dataset.dtype.kind not in "biuf":
        raise FileError(f"numbers or strings were expected in {key}, but it holds {dataset.dtype}", HINT)
    return np.asarray(dataset[()])


def _is_ours(kind: object, path: Path) -> FileError:
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind == "model":
        return FileError(
            "this is a model that ginf train wrote, not data to train on",
            f"ask it with ginf influence --model {path}, or name the data that it was trained on",
        )
    return FileError(f"this is a result of ginf's (of the kind {kind}), not data to train on")
