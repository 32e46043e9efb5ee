"""The arrays that every command works on, after they have been read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from influence_cli.data.sparse import Rows, is_compressed, parts
from influence_cli.data.stored import StoredRows
from influence_cli.data.table import ColumnValues


@dataclass(frozen=True)
class Dataset:
    """Training and test rows, checked and encoded.

    ``X_train`` (m, d) and ``X_test`` (n, d) are C-ordered float64 without an intercept column, or both are canonical
    CSR (SciPy's csr_array of float64, sorted column indices, no duplicates, no stored zeros).  ``y_train`` (m,) and
    ``y_test`` (n,) are int64 class codes, which index ``classes``, or float64 responses, for which ``classes`` is
    empty.  A test row without a label has the code -1 or the response NaN.  Rows are numbered from 0 in this order.

    For a table, ``columns_train`` and ``columns_test`` keep every column as it was read, feature or not, so that it can
    define groups: numbers as int64 or float64 (NaN if missing), others as an object array of str (None if missing).
    ``id_column`` identifies the rows.  ``preparation`` describes how the features were made from the columns, as JSON
    in the form that ``features.py`` gives.  ``weights`` (m,) are the weights of the training rows, which sum to 1, or
    None if all are equal.  ``records_train`` (m,) and ``records_test`` (n,) are the int64 numbers of the rows in their
    file before the split, counted from 1, or None if unknown.  ``notes`` are shown after training and not stored.
    """

    name: str
    X_train: Rows
    y_train: np.ndarray
    X_test: Rows
    y_test: np.ndarray
    feature_names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    columns_train: Mapping[str, np.ndarray] = field(default_factory=dict)
    columns_test: Mapping[str, np.ndarray] = field(default_factory=dict)
    id_column: str | None = None
    preparation: Mapping[str, Any] | None = None
    weights: np.ndarray | None = None
    records_train: np.ndarray | None = None
    records_test: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def task(self) -> str:
        return "classification" if self.classes else "regression"

    @property
    def rows(self) -> int:
        """m, the number of training rows."""
        return int(self.X_train.shape[0])

    @property
    def streamed(self) -> StoredRows | None:
        """The training rows if they are read from their file in every pass, else None."""
        return self.X_train if isinstance(self.X_train, StoredRows) else None

    @property
    def labelled(self) -> np.ndarray:
        """Which test rows have a label, (n,) bool."""
        return self.y_test >= 0 if self.classes else ~np.isnan(self.y_test)

    @property
    def ids_train(self) -> np.ndarray | None:
        """The identifiers of the training rows, (m,), or None without an ``id_column``."""
        return None if self.id_column is None else self.columns_train[self.id_column]

    @property
    def ids_test(self) -> np.ndarray | None:
        return None if self.id_column is None else self.columns_test[self.id_column]

    def on_itself(self) -> Dataset:
        """The same data with the training rows as test rows; the digest stays the same."""
        dataset = replace(
            self,
            X_test=self.X_train,
            y_test=self.y_train,
            columns_test=self.columns_train,
            records_test=self.records_train,
        )
        dataset.__dict__["digest"] = self.digest
        return dataset

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all arrays and names except the records; data sets with the same digest are the same data."""
        digest = hashlib.sha256()
        for array in (self.X_train, self.y_train, self.X_test, self.y_test):
            if is_compressed(array):
                digest.update(f"csr{array.shape}".encode())
            for part in parts(array) if is_compressed(array) else (array,):
                digest.update(f"{part.dtype.str}{part.shape}".encode())
                for piece in (part,) if isinstance(part, np.ndarray) else part.pieces():
                    digest.update(np.ascontiguousarray(piece).data)
        digest.update(repr((self.feature_names, self.classes)).encode())
        for part, columns in (("train", self.columns_train), ("test", self.columns_test)):
            for name in columns:
                dtype, rows, pieces = _pieces(columns, name)
                digest.update(repr((part, name, dtype.str, (rows,))).encode())
                for number, values in enumerate(pieces):
                    digest.update(b"\0" if number and dtype.kind == "O" else b"")
                    digest.update(_column_bytes(values))
        if self.id_column is not None or self.preparation is not None:
            digest.update(json.dumps([self.id_column, self.preparation], sort_keys=True).encode())
        if self.weights is not None:
            digest.update(b"weights")
            digest.update(np.ascontiguousarray(self.weights).data)
        return digest.hexdigest()


def _pieces(columns: Mapping[str, np.ndarray], name: str) -> tuple[np.dtype, int, Iterable[np.ndarray]]:
    """The type and length of a column, and its values in pieces (one piece if they are in memory)."""
    if isinstance(columns, ColumnValues):
        return columns.pieces(name)
    return columns[name].dtype, len(columns[name]), (columns[name],)


def _column_bytes(values: np.ndarray) -> bytes:
    """The bytes of numbers, or texts joined by NUL, which no stored text contains."""
    if values.dtype.kind != "O":
        return np.ascontiguousarray(values).tobytes()
    texts = values.tolist()
    if None in texts:
        texts = ["\0" if text is None else text for text in texts]
    return "\0".join(texts).encode("utf-8", "surrogateescape")
