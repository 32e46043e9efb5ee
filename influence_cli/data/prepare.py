"""Arrays as a reader found them -> a checked, encoded ``Dataset``.

Every reader ends here, so that a source may be damaged or unsuitable in any way and the core still only ever sees
finite float64 features, class codes that start at 0, and row numbers that mean the same in every command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.sparse import issparse

from influence_cli.data.dataset import Dataset
from influence_cli.data.labels import class_names, encode, responses
from influence_cli.data.sparse import Rows, checked_rows
from influence_cli.data.split import random_split, stratified_split
from influence_cli.errors import FileError

Task = Literal["classification", "regression"]

TRAIN, TEST, UNSPLIT = "training rows", "test rows", "rows"


@dataclass(frozen=True)
class RawData:
    """What a reader found: features of two or more dimensions, labels of any type, a test split or none.

    ``name`` begins every error message.  ``feature_names`` are made up where the source has none.
    """

    name: str
    X_train: Rows
    y_train: np.ndarray
    X_test: Rows | None = None
    y_test: np.ndarray | None = None
    feature_names: tuple[str, ...] | None = None
    sample_weight: np.ndarray | None = None
    """Of the rows of X_train, as they were found; it becomes a column of the data set."""
    notes: tuple[str, ...] = ()
    """What the reader left out, for the person who trains."""

    @classmethod
    def of(cls, name: str, arrays: Sequence[Any]) -> RawData:
        """From X and y, or from X_train, y_train, X_test and y_test."""
        if len(arrays) == 2:
            return cls(name, arrays[0], arrays[1])
        return cls(name, arrays[0], arrays[1], arrays[2], arrays[3])


def prepare(raw: RawData, *, task: Task, test_fraction: float, seed: int) -> Dataset:
    """Check, split where the source has no test rows, and encode.

    A split keeps the source's order within either part, so that row numbers can be found again in the source.
    """
    name = raw.name
    images = image_shape(raw.X_train)
    where = UNSPLIT if raw.X_test is None else TRAIN
    columns = _columns(raw, images)
    X = checked_features(raw.X_train, columns, name, where)
    y = _labels(raw.y_train, X.shape[0], name, where)
    classes, values = class_names(y, name, where) if task == "classification" else ((), None)
    codes = _encode(y, values, name, where)
    if raw.X_test is None or raw.y_test is None:
        if task == "classification":
            train, test = stratified_split(codes, classes, test_fraction, seed, name)
        else:
            train, test = random_split(X.shape[0], test_fraction, seed, name)
        made = _dataset(name, (X[train], codes[train]), (X[test], codes[test]), columns, classes, images)
        return _weighted(made, raw, train)

    if raw.X_test.ndim < 2 or raw.X_test.shape[1:] != raw.X_train.shape[1:]:
        raise FileError(
            f"{name}: the test rows must have the shape of the training rows, {raw.X_train.shape[1:]}, "
            f"but they have {raw.X_test.shape[1:]}",
            "both splits need the same features in the same order",
        )
    X_test = checked_features(raw.X_test, columns, name, TEST)
    y_test = _labels(raw.y_test, X_test.shape[0], name, TEST)
    made = _dataset(name, (X, codes), (X_test, _encode(y_test, values, name, TEST)), columns, classes, images)
    return _weighted(made, raw, np.arange(X.shape[0]))


def _weighted(made: Dataset, raw: RawData, train: np.ndarray) -> Dataset:
    """With the reader's notes, and the weights of the training rows as a column, where the source has them."""
    made = replace(made, notes=(*made.notes, *raw.notes))
    if raw.sample_weight is None:
        return made
    weight = np.asarray(raw.sample_weight)
    if weight.shape != (raw.X_train.shape[0],):
        raise FileError(
            f"{made.name}: sample_weight must have one number a row, {raw.X_train.shape[0]}, but its shape "
            f"is {weight.shape}"
        )
    if weight.dtype.kind not in "biuf":
        raise FileError(f"{made.name}: sample_weight must be numbers, but its type is {weight.dtype}")
    return replace(made, columns_train={"sample_weight": weight[train].astype(np.float64)})


def image_shape(array: Rows) -> tuple[int, int] | None:
    """(height, width) of rows that are grey images, (m, h, w) or (m, h, w, 1)."""
    if array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 1):
        return int(array.shape[1]), int(array.shape[2])
    return None


def _columns(raw: RawData, images: tuple[int, int] | None) -> tuple[str, ...]:
    """One name a feature, once the shape is known to have features."""
    shape = raw.X_train.shape
    if len(shape) < 2:
        raise FileError(
            f"{raw.name}: features must be an array of rows and columns, but its shape is {shape}",
            "for a single feature use X.reshape(-1, 1)",
        )
    count = int(np.prod(shape[1:]))
    if count < 1:
        raise FileError(f"{raw.name}: at least one feature is needed, but the shape of the features is {shape}")
    if raw.feature_names is not None:
        if len(raw.feature_names) != count:
            raise FileError(f"{raw.name}: {len(raw.feature_names)} feature names were found for {count} features")
        return raw.feature_names
    if images is not None:
        return tuple(f"pixel_{row}_{column}" for row in range(images[0]) for column in range(images[1]))
    return tuple(f"x{column}" for column in range(count))


def checked_features(X: Rows, columns: tuple[str, ...], name: str, where: str) -> Rows:
    """(m, d) finite float64, C-ordered or, where it came so, in compressed rows."""
    needed = 1 if where == TEST else 2
    if X.shape[0] < needed:
        raise FileError(f"{name}: at least {needed} {where} are needed, but found {X.shape[0]}")
    if issparse(X):
        return checked_rows(X, columns, name, where)
    X = X.reshape(len(X), -1)
    if X.dtype.kind not in "biuf":
        X = _numbers(X, columns, name, where)
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes inf, which is reported below
        X = np.ascontiguousarray(X, dtype=np.float64)
    finite = np.isfinite(X)
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        count = int((~finite).sum())
        raise FileError(
            f"{name}: every feature must be finite, but {count} of the {X.size} values in the {where} "
            f"{'is' if count == 1 else 'are'} not: "
            f"the first is {X[row, column]} in column {columns[column]}, row {row} (counted from 0)",
            "remove these rows or fill in the values: ginf does not guess",
        )
    return X


def _numbers(X: np.ndarray, columns: tuple[str, ...], name: str, where: str) -> np.ndarray:
    """The float64 form of an object array that holds only numbers; anything else is refused by column."""
    if X.dtype.kind == "O":
        for column, values in enumerate(X.T):
            for row, value in enumerate(values):
                if not isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
                    raise _not_numeric(name, where, columns[column], repr(value), row)
        return X.astype(np.float64)
    if X.dtype.kind not in "US":
        raise FileError(f"{name}: features must be numbers, but those of the {where} have the type {X.dtype}")
    for column, values in enumerate(X.T):
        for row, value in enumerate(values):
            try:
                float(value)
            except ValueError:
                raise _not_numeric(name, where, columns[column], repr(value.item()), row) from None
    raise _not_numeric(name, where, columns[0], repr(X[0, 0].item()), 0)


def _not_numeric(name: str, where: str, column: str, found: str, row: int) -> FileError:
    return FileError(
        f"{name}: features must be numbers, but column {column} of the {where} holds {found} "
        f"in row {row} (counted from 0)",
        "encode categories as numbers first, for example one 0/1 column a category",
    )


def _labels(y: np.ndarray, rows: int, name: str, where: str) -> np.ndarray:
    """One label a row; a column vector is taken for what it is."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise FileError(
            f"{name}: one label a row is needed for the {where}, but the labels have the shape {y.shape}",
            "turn one-hot labels into class numbers with y.argmax(axis=1)" if y.ndim == 2 else None,
        )
    if len(y) != rows:
        raise FileError(f"{name}: the {where} need one label each, but there are {rows} rows and {len(y)} labels")
    return y


def _encode(y: np.ndarray, values: np.ndarray | None, name: str, where: str) -> np.ndarray:
    """Class codes, or responses where there are no classes."""
    return responses(y, name, where) if values is None else encode(y, values, name, where)


def _dataset(
    name: str,
    train: tuple[Rows, np.ndarray],
    test: tuple[Rows, np.ndarray],
    columns: tuple[str, ...],
    classes: tuple[str, ...],
    images: tuple[int, int] | None,
) -> Dataset:
    return Dataset(name, *train, *test, feature_names=columns, classes=classes, image_shape=images)
