"""Arrays in ``.npz``, ``.npy`` and HDF5 whose features stay in the file and are located without being read.

If features do not fit into memory and cannot be read in place, an error says why before any work begins.
"""

from __future__ import annotations

import math
import struct
import zipfile
from contextlib import AbstractContextManager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.data.from_arrays import RawData
from influence_cli.data.inside import inside
from influence_cli.data.parts import ChunkedPart, PlainPart
from influence_cli.data.readers.hdf5 import HINT, is_model, link_problem, storage_problem
from influence_cli.data.readers.npy import labels_of
from influence_cli.data.readers.npz import NPZ_DAMAGE, NPZ_HINT, array_keys
from influence_cli.data.stamps import trusted
from influence_cli.data.stored import SMALL_BYTES, StoredRows, made_of, worked_elsewhere
from influence_cli.errors import FileError, UsageError, check_regular
from influence_cli.memory import at_hand, lack

SHARE = 0.6
"""Features that take more than this share of the available memory stay in the file."""
SPLIT_COPIES = 2.2
"""Memory that features take while they are split, as a multiple of their size (measured)."""
ROW_BYTES = 32 * 2**10
"""Bytes that are read sequentially in the time of reading one single row, which takes a page.  Reading only the rows
that are needed is faster if the features have more bytes than this for each of them."""
LOCAL_HEADER = 30
"""Bytes of the local header of a zip member, before its name."""
CONVERT = "store them as float64 in row order without packing: numpy.savez(FILE, X=np.ascontiguousarray(X), y=y)"
ENDINGS = (".npz", ".npy", ".h5", ".hdf5")


_asked: ContextVar[int | None] = ContextVar("asked", default=None)


def for_few(rows: int | None) -> AbstractContextManager[None]:
    """Within this context, files are read for about ``rows`` of their rows (None if unknown) and not for a full pass.

    Features that need no check then stay in their file even if they would fit into memory.
    """
    return inside(_asked, rows)


def read_in_place(path: Path) -> RawData | None:
    """The arrays of a file with the features left in the file; None if they are better read into memory.

    Raises MemoryLackError for features that do not fit and cannot be read in place (UsageError with ``--scheduler``),
    and FileError for a damaged file.
    """
    check_regular(path, "a file of data")
    of = {".npz": _of_npz, ".npy": _of_npy}.get(path.suffix.lower(), _of_hdf5)
    table = of(path)
    if table is None:
        return None
    features = [one for one in table.values() if isinstance(one, StoredRows | _Unfit)]
    needed = 8.0 * sum(math.prod(one.stored_shape) for one in features)
    by_choice = not is_large(needed, split=len(features) == 1)
    if by_choice and not (_is_for_few(needed) and all(isinstance(one, StoredRows) for one in features)):
        return None
    for one in features:
        if isinstance(one, _Unfit) and worked_elsewhere():
            raise UsageError(f"--scheduler: {path}: {one.reason}, so workers cannot read them in place", CONVERT)
        if isinstance(one, _Unfit):
            raise lack(f"reading {path}", needed, f"{one.reason}, so it cannot be streamed; {CONVERT}")
        one.check_reachable()
        one.by_choice = by_choice
    weight = table.pop("sample_weight", None)
    arrays = [_labels(one) if isinstance(one, _Labels) else one for one in table.values()]
    if len(arrays) == 4 and 8 * arrays[2].size <= SMALL_BYTES:
        arrays[2] = np.array(arrays[2][:])
    raw = RawData.of(arrays)
    if weight is not None:
        raw = RawData(raw.X_train, raw.y_train, raw.X_test, raw.y_test, sample_weight=_labels(weight))
    return raw


def is_large(needed: float, *, split: bool) -> bool:
    """Whether features of ``needed`` bytes should stay in their file."""
    if worked_elsewhere():
        return True
    available = at_hand()
    return needed > SHARE * available or (split and SPLIT_COPIES * needed > available)


def _is_for_few(needed: float) -> bool:
    """Whether so few rows of features of ``needed`` bytes are asked for that reading single rows is faster."""
    asked = _asked.get()
    return asked is not None and trusted.get() and needed > SMALL_BYTES and asked * ROW_BYTES <= needed


class _Unfit:
    """Features that cannot be read in place, and the reason."""

    def __init__(self, shape: tuple[int, ...], reason: str):
        self.stored_shape, self.reason = shape, reason


class _Labels:
    """An array that is read into memory when it is needed."""

    def __init__(self, read: Any):
        self.read = read


def _labels(one: Any) -> np.ndarray:
    return np.asarray(one.read())


def _of_npz(path: Path) -> dict[str, Any] | None:
    """The arrays by key, in the order of ``array_keys``; None if ``read_npz`` is to report what is wrong."""
    arrays: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [one.filename.removesuffix(".npy") for one in archive.infolist() if one.filename.endswith(".npy")]
            keys = array_keys(names, NPZ_HINT)
            for key in keys + ["sample_weight"] * ("sample_weight" in names):
                info = archive.getinfo(f"{key}.npy")
                with archive.open(info) as member:
                    shape, is_fortran, dtype = _header(member)
                    header = member.tell()
                if math.prod(shape) * dtype.itemsize != info.file_size - header:
                    return None
                if not key.lower().startswith("x"):
                    arrays[key] = _Labels(lambda key=key: np.load(path, allow_pickle=False)[key])
                    continue
                packed = info.compress_type != zipfile.ZIP_STORED
                offset = info.header_offset + _local_header(path, info.header_offset) + header
                arrays[key] = _rows(path, offset, shape, dtype, "packed" if packed else "", is_fortran)
    except (OSError, FileError, *NPZ_DAMAGE):
        return None
    return arrays


def _of_npy(path: Path) -> dict[str, Any] | None:
    """The same for a file of features alone, whose labels are in a file beside it."""
    try:
        with path.open("rb") as file:
            shape, is_fortran, dtype = _header(file)
            offset = file.tell()
    except (OSError, ValueError):
        return None
    if dtype.hasobject or path.stat().st_size - offset != math.prod(shape) * dtype.itemsize:
        return None
    return {"X": _rows(path, offset, shape, dtype, "", is_fortran), "y": _Labels(lambda: labels_of(path))}


def _header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)


def _local_header(path: Path, offset: int) -> int:
    """Length in bytes of the local header before the content of a zip member."""
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read(LOCAL_HEADER)
    name, extra = struct.unpack("<HH", content[26:30])
    return int(LOCAL_HEADER + name + extra)


def _rows(
    path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype, unfit: str, is_fortran: bool
) -> StoredRows | _Unfit:
    """The features that begin at ``offset``, as stored rows if they can be read in place."""
    if is_fortran and len(shape) > 1:
        unfit = "in column order"
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        unfit = f"of the type {dtype}"
    if len(shape) < 2 or math.prod(shape) == 0:
        unfit = f"of the shape {shape}"
    if unfit:
        return _Unfit(shape, f"its features are {unfit}")
    return made_of([PlainPart(path, offset, shape[0])], math.prod(shape[1:]), dtype, shape)


def _of_hdf5(path: Path) -> dict[str, Any] | None:
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            if is_model(file):
                return None
            if any(link_problem(file, key) is not None for key in file):
                return None
            keys = array_keys([key for key in file if isinstance(file[key], h5py.Dataset)], HINT)
            return {key: _of_dataset(path, file[key], key) for key in keys}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, FileError):
        return None


def _of_dataset(path: Path, dataset: Any, key: str) -> Any:
    if not key.lower().startswith("x"):
        return _Labels(lambda: _whole(path, key))
    if (problem := storage_problem(dataset, float("inf"))) is not None:
        raise FileError(problem)
    offset = dataset.id.get_offset() if dataset.chunks is None else None
    if offset is not None or dataset.dtype.kind not in "biuf":
        return _rows(path, offset or 0, dataset.shape, dataset.dtype, "", False)
    shape = dataset.shape
    return made_of([ChunkedPart(path, key, shape[0])], math.prod(shape[1:]), dataset.dtype, shape)


def _whole(path: Path, key: str) -> np.ndarray:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        dataset = file[key]
        text = h5py.check_string_dtype(dataset.dtype) is not None
        return np.asarray(dataset.asstr()[()]).astype(str) if text else np.asarray(dataset[()])


def refuse_streamed(X: Any, what: str) -> None:
    """Raises UsageError if X is streamed, because ``what`` needs all rows at once."""
    if isinstance(X, StoredRows):
        raise UsageError(
            f"{what} needs all rows in memory at once, and they are streamed from {X.parts[0].path}",
            "raise --memory, or see docs/scale.md for what can be streamed",
        )
