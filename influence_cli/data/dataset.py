"""The arrays that every command works on, after they have been read and checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """Training and test rows, checked and encoded.

    ``X_train`` (m, d) and ``X_test`` (n, d) are C-ordered float64 without an intercept column.
    ``y_train`` (m,) and ``y_test`` (n,) are int64 class codes into ``classes`` for classification, or
    float64 responses (``classes`` is then empty).  Rows are numbered from 0 in this order everywhere.
    """

    name: str
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    feature_names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None

    @property
    def task(self) -> str:
        return "classification" if self.classes else "regression"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every array and name: two data sets with one digest are the same data."""
        digest = hashlib.sha256()
        for array in (self.X_train, self.y_train, self.X_test, self.y_test):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(repr((self.feature_names, self.classes)).encode())
        return digest.hexdigest()
