"""Arrays as a reader returned them -> a ``Dataset``: shapes, types and finite values are checked here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import issparse

from influence_cli.data.dataset import Dataset
from influence_cli.data.features import Features, scale_arrays
from influence_cli.data.frames import FeatureMaker
from influence_cli.data.prepare import TEST, TRAIN, UNSPLIT, Parts, Task, coded, prepare
from influence_cli.data.sparse import Rows, checked_rows
from influence_cli.data.stored import FromOne, StoredRows
from influence_cli.errors import FileError, about


@dataclass(frozen=True)
class RawData:
    """What a reader returned: features of two or more dimensions, labels of any type, with or without a test split.

    Without ``feature_names`` the features are numbered.  ``sample_weight`` (m,) are the unchecked weights of the rows
    of X_train; they become a column of the data set.  ``notes`` say what the reader left out.
    """

    X_train: Rows
    y_train: np.ndarray
    X_test: Rows | None = None
    y_test: np.ndarray | None = None
    feature_names: tuple[str, ...] | None = None
    sample_weight: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, arrays: Sequence[Any]) -> RawData:
        """RawData from X and y, or from X_train, y_train, X_test and y_test."""
        return cls(*arrays)


def prepare_arrays(
    raw: RawData,
    name: str,
    *,
    task: Task,
    test_fraction: float,
    seed: int,
    standardize: bool = False,
    maker: FeatureMaker | None = None,
) -> Dataset:
    """The data set made of arrays, standardised if asked, or with features by ``maker``.

    Raises FileError about ``name``.
    """
    if maker is not None and raw.X_test is None:
        raw = replace(raw, X_test=raw.X_train, y_test=raw.y_train)
    with about(name):
        source = ArraySource(raw, standardize, maker)
        return prepare(source, name, task=task, test_fraction=test_fraction, seed=seed)


class ArraySource:
    """Checked arrays as a ``Source``.  Raises FileError."""

    def __init__(self, raw: RawData, standardize: bool, maker: FeatureMaker | None) -> None:
        self.raw, self.standardize, self.maker = raw, standardize, maker
        self.has_tests = raw.X_test is not None and raw.y_test is not None
        self.notes = raw.notes
        self.images = image_shape(raw.X_train)
        self.names = _columns(raw, self.images)
        self.X = checked_features(raw.X_train, self.names, TRAIN if self.has_tests else UNSPLIT)

    @cached_property
    def X_test(self) -> Rows:
        """The checked test rows that the source brings."""
        X, shape = self.raw.X_test, self.raw.X_train.shape[1:]
        assert X is not None
        if isinstance(self.raw.X_train, StoredRows):
            shape = self.raw.X_train.stored_shape[1:]
        if X.ndim < 2 or X.shape[1:] != shape:
            raise FileError(
                f"the test rows must have the shape of the training rows, {shape}, but they have {X.shape[1:]}",
                "both splits need the same features in the same order",
            )
        return checked_features(X, self.names, TEST)

    def labels(self, where: str) -> np.ndarray:
        return _labels(self.raw.y_train, self.X.shape[0], where)

    def test_labels(self, values: np.ndarray | None) -> np.ndarray:
        assert self.raw.y_test is not None
        return coded(_labels(self.raw.y_test, self.X_test.shape[0], TEST), values, TEST)

    def parts(self, train: np.ndarray, test: np.ndarray | None) -> Parts:
        pick = self.X.subset if isinstance(self.X, StoredRows) else self.X.__getitem__
        X_train = self.X if len(train) == self.X.shape[0] else pick(train)
        X_test = self.X_test if test is None else pick(test)
        preparation: dict[str, Any] | None = None
        if self.maker is not None:
            made = self.maker.of_arrays(X_train, X_test, self.names)
            preparation = {"features": made.state}
        elif self.standardize:
            if X_train is self.X and isinstance(X_train, np.ndarray):
                X_train = X_train.copy()  # it is scaled in place and may belong to the caller
            if X_test is self.__dict__.get("X_test") and isinstance(X_test, np.ndarray):
                X_test = X_test.copy()
            made = scale_arrays(X_train, X_test, self.names)
            preparation = {"standardize": True, "features": made.state}
        else:
            made = Features(X_train, X_test, self.names, [], ())
        tests = np.arange(X_test.shape[0]) if test is None else test
        return Parts(
            made,
            columns=(self._weights(train), {}),
            records=(_records(X_train, train), _records(X_test, tests)),
            image_shape=self.images if made.names == self.names else None,
            preparation=preparation,
        )

    def _weights(self, train: np.ndarray) -> dict[str, np.ndarray]:
        """The weights of the training rows as a column; no column if the source has none."""
        if self.raw.sample_weight is None:
            return {}
        weight = np.asarray(self.raw.sample_weight)
        if weight.shape != (self.raw.X_train.shape[0],):
            raise FileError(
                f"sample_weight must have one number a row, {self.raw.X_train.shape[0]}, but its shape "
                f"is {weight.shape}"
            )
        if weight.dtype.kind not in "biuf":
            raise FileError(f"sample_weight must be numbers, but its type is {weight.dtype}")
        return {"sample_weight": weight[train].astype(np.float64)}


def _records(X: Rows, rows: np.ndarray) -> Any:
    """The record numbers of the given rows in their file, counted from 1."""
    if isinstance(X, StoredRows) and X.is_whole:
        return FromOne(len(X))
    return rows.astype(np.int64) + 1


def image_shape(array: Rows) -> tuple[int, int] | None:
    """(height, width) if the rows are grey images, (m, h, w) or (m, h, w, 1), else None."""
    shape = array.stored_shape if isinstance(array, StoredRows) else array.shape
    return (int(shape[1]), int(shape[2])) if len(shape) == 3 or (len(shape) == 4 and shape[3] == 1) else None


def _columns(raw: RawData, images: tuple[int, int] | None) -> tuple[str, ...]:
    """One name for each feature.  Raises FileError if the shape has no features."""
    shape = raw.X_train.stored_shape if isinstance(raw.X_train, StoredRows) else raw.X_train.shape
    if len(shape) < 2:
        raise FileError(
            f"features must be an array of rows and columns, but its shape is {shape}",
            "for a single feature use X.reshape(-1, 1)",
        )
    count = int(np.prod(shape[1:]))
    if count < 1:
        raise FileError(f"at least one feature is needed, but the shape of the features is {shape}")
    if raw.feature_names is not None:
        if len(raw.feature_names) != count:
            raise FileError(f"{len(raw.feature_names)} feature names were found for {count} features")
        return raw.feature_names
    if images is not None:
        return tuple(f"pixel_{row}_{column}" for row in range(images[0]) for column in range(images[1]))
    return tuple(f"x{column}" for column in range(count))


def checked_features(X: Rows, columns: tuple[str, ...], where: str) -> Rows:
    """X as finite float64 (m, d): C-ordered, or unchanged in form if it is sparse or stored.  Raises FileError."""
    needed = 1 if where == TEST else 2
    if X.shape[0] < needed:
        raise FileError(f"at least {needed} {where} are needed, but found {X.shape[0]}")
    if issparse(X):
        return checked_rows(X, columns, where)
    if isinstance(X, StoredRows):
        place = X.first_not_finite()
        if place is not None:
            raise _not_finite(place, X.size, columns, where)
        return X
    X = X.reshape(len(X), -1)
    if X.dtype.kind not in "biuf":
        X = _numbers(X, columns, where)
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes inf, which is reported below
        X = np.ascontiguousarray(X, dtype=np.float64)
    finite = np.isfinite(X)
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        first = row, column, float(X[row, column]), int((~finite).sum())
        raise _not_finite(first, X.size, columns, where)
    return X


def _not_finite(first: tuple[int, int, float, int], size: int, columns: tuple[str, ...], where: str) -> FileError:
    """The error about values that are not finite; ``first`` is the row, column and value of the first, and how many."""
    row, column, value, count = first
    return FileError(
        f"every feature must be finite, but {count} of the {size} values in the {where} "
        f"{'is' if count == 1 else 'are'} not: "
        f"the first is {value} in column {columns[column]}, row {row} (counted from 0)",
        "remove these rows or fill in the values: ginf does not guess",
    )


def _numbers(X: np.ndarray, columns: tuple[str, ...], where: str) -> np.ndarray:
    """An object array of numbers as float64.  Raises FileError, which names the column, for anything else."""
    if X.dtype.kind == "O":
        for column, values in enumerate(X.T):
            for row, value in enumerate(values):
                if not isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
                    raise _not_numeric(where, columns[column], repr(value), row)
        return X.astype(np.float64)
    if X.dtype.kind not in "US":
        raise FileError(f"features must be numbers, but those of the {where} have the type {X.dtype}")
    for column, values in enumerate(X.T):
        for row, value in enumerate(values):
            try:
                float(value)
            except ValueError:
                raise _not_numeric(where, columns[column], repr(value.item()), row) from None
    raise _not_numeric(where, columns[0], repr(X[0, 0].item()), 0)


def _not_numeric(where: str, column: str, holds: str, row: int) -> FileError:
    return FileError(
        f"features must be numbers, but column {column} of the {where} holds {holds} in row {row} (counted from 0)",
        "encode categories as numbers first, for example one 0/1 column a category",
    )


def _labels(y: np.ndarray, rows: int, where: str) -> np.ndarray:
    """y as one label for each row; a column (rows, 1) is flattened.  Raises FileError."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise FileError(
            f"one label a row is needed for the {where}, but the labels have the shape {y.shape}",
            "turn one-hot labels into class numbers with y.argmax(axis=1)" if y.ndim == 2 else None,
        )
    if len(y) != rows:
        raise FileError(f"the {where} need one label each, but there are {rows} rows and {len(y)} labels")
    return y
