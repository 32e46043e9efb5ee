"""What is sent to another process: work on blocks of rows, and the large values that it refers to.

A piece of work is a function of the core that closes over parameters, weights and rows.  Large arrays, weights and rows
that many passes share are sent once, under a number, and kept by the worker; the rest is sent with each pass.
"""

from __future__ import annotations

import ctypes
import io
import pickle
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import numpy as np
from threadpoolctl import threadpool_limits

from influence_cli.core.weights import Weights
from influence_cli.data.compressed import CompressedRows
from influence_cli.data.stored import StoredRows

SHARED_BYTES = 1 << 14
"""Least bytes of an array that is sent once and kept."""

DRIVERS = 8
"""Number of programs whose values are kept at once, because a killed program never releases its values."""

_kept: dict[str, dict[int, Any]] = {}
"""On the worker, for each program: the shared values by their numbers."""
_held: list[Any] = []


class Sender:
    """Assigns numbers to values that are sent once, and forgets values that no longer exist."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._owners: dict[int, weakref.ref[Any]] = {}
        self.values: dict[int, bytes] = {}
        self._count = 0

    def number_of(self, value: Any) -> int | None:
        """The number of a value that is shared; None for a value that is sent with the work."""
        large = isinstance(value, np.ndarray) and value.nbytes >= SHARED_BYTES
        many = isinstance(value, Weights) and 8 * value.sizes.sum() >= SHARED_BYTES
        if not (large or many or isinstance(value, StoredRows)):
            return None
        known = self._numbers.get(id(value))
        if known is not None and self._owners[known]() is value:
            return known
        self._count += 1
        number = self._count
        self.values[number] = self._packed(value, plain=value)
        self._numbers[id(value)] = number
        self._owners[number] = weakref.ref(value, self._forgetter(number, id(value)))
        return number

    def packed(self, work: Any) -> bytes:
        """A piece of work as bytes; its shared values are added to ``values``."""
        return self._packed(work)

    def _packed(self, work: Any, plain: Any = None) -> bytes:
        file = io.BytesIO()
        _Pickler(file, self, plain).dump(work)
        return file.getvalue()

    def _forgetter(self, number: int, place: int) -> Callable[[weakref.ref[Any]], None]:
        def forget(_: weakref.ref[Any]) -> None:
            self.values.pop(number, None)
            self._owners.pop(number, None)
            if self._numbers.get(place) == number:
                del self._numbers[place]

        return forget


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, sender: Sender, plain: Any):
        super().__init__(file, protocol=5)
        self._sender, self._plain = sender, plain

    def persistent_id(self, value: Any) -> int | None:
        return None if value is self._plain else self._sender.number_of(value)

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.ndarray and _strided(value):
            content = (ctypes.c_char * _extent(value)).from_address(value.ctypes.data).raw
            return _with_strides, (value.shape, value.dtype.str, content, value.strides)
        if isinstance(value, StoredRows):
            changed = {name: vars(value)[name] for name in ("_chosen", "_mean", "_scale", "_kept")}
            kind = CompressedRows if isinstance(value, CompressedRows) else StoredRows
            return _read_here, (kind, value.parts, value.columns, value.file_dtype, value.stored_shape, changed)
        if isinstance(value, Weights):  # without its cached results, which are larger than itself
            state = (value.base, value.rows, value.kept, value.taken, value.membership, value.penalty)
            return Weights, state
        return super().reducer_override(value)


def _read_here(
    kind: type[StoredRows],
    parts: Sequence[Any],
    columns: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    changed: dict[str, Any],
) -> StoredRows:
    """The stored rows, unpickled so that this process reads them."""
    rows = kind(parts, columns, dtype, shape)
    vars(rows).update(changed)
    return rows


def _extent(value: np.ndarray) -> int:
    """Bytes from the beginning of the first to the end of the last number in memory."""
    return value.itemsize + sum((length - 1) * step for length, step in zip(value.shape, value.strides, strict=True))


def _strided(value: np.ndarray) -> bool:
    """Whether an array must be sent with its strides: it is not in row-major order, and not too sparse in memory.

    The strides, even those of axes of length one, determine which BLAS routine computes a product, and thereby its last
    bits.
    """
    if value.dtype.hasobject or not value.size or min(value.strides, default=0) < 0:
        return False
    steps = value.itemsize * np.cumprod((1, *value.shape[:0:-1]))[::-1]
    return value.strides != tuple(steps.tolist()) and _extent(value) <= 4 * value.nbytes


def _with_strides(shape: tuple[int, ...], dtype: str, content: bytes, strides: tuple[int, ...]) -> np.ndarray:
    return np.ndarray(shape, np.dtype(dtype), bytearray(content), strides=strides)


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, kept: dict[int, Any]):
        super().__init__(io.BytesIO(content))
        self._kept = kept

    def persistent_load(self, number: int) -> Any:
        return self._kept[number]


def keep(program: str, values: dict[int, bytes], forget: Sequence[int] = ()) -> None:
    """Keep values that a program shares, which may refer to earlier ones, and free those numbered in ``forget``."""
    kept = _kept.setdefault(program, {})
    for number in forget:
        kept.pop(number, None)
    for number, content in values.items():
        if number not in kept:
            kept[number] = _Unpickler(content, kept).load()
    while len(_kept) > DRIVERS:
        _kept.pop(next(iter(_kept)))


def let_go(program: str) -> None:
    """Free all values that a program has shared."""
    _kept.pop(program, None)


def worked(
    program: str, content: bytes, values: dict[int, bytes], shape: tuple[int, ...] | None, items: Sequence[Any]
) -> list[Any] | None:
    """The results of the packed work for each item; with a ``shape``, the arrays of zeros to which it has added.

    None is returned if a shared value is missing.  BLAS uses one thread, as in passes on a single machine, because the
    last bits of a product depend on it.
    """
    if not _held:
        _held.append(threadpool_limits(1, user_api="blas"))
    try:
        keep(program, values)
        work: Callable[..., Any] = _Unpickler(content, _kept[program]).load()
    except KeyError:
        return None
    if shape is None:
        return [work(item) for item in items]
    sums = []
    for item in items:
        partial = np.zeros(shape)
        work(item, partial)
        sums.append(partial)
    return sums
