"""Arrays and frames that a Python user passes: NumPy, SciPy's sparse matrices, pandas, polars, lists.

Frames are recognised by their attributes and not by their type, so that neither library is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np
from scipy.sparse import issparse

from influence_cli.data.dataset import Dataset
from influence_cli.data.from_arrays import checked_features
from influence_cli.data.labels import printed
from influence_cli.data.prepare import TEST, TRAIN, coded
from influence_cli.data.sparse import Rows, no_rows, refuse_wide
from influence_cli.errors import FileError, about, composed

SHOWN_COLUMNS = 20


def is_frame(X: Any) -> bool:
    """Whether X is a data frame, with named columns."""
    return hasattr(X, "columns") and hasattr(X, "__getitem__") and hasattr(X, "shape")


def column_names(X: Any) -> tuple[str, ...]:
    """The names of a frame's columns; empty for an array."""
    return tuple(str(name) for name in X.columns) if is_frame(X) else ()


def frame_columns(X: Any) -> dict[str, np.ndarray]:
    """A frame's columns in the form of ``Dataset.columns_train``; empty for an array.  Raises FileError."""
    if not is_frame(X):
        return {}
    names = column_names(X)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        with about("X"):
            raise FileError(f"columns need different names, but {_listed(twice)} is there more than once", "rename it")
    return {str(name): _categories(X[name]) for name in X.columns}


def feature_array(X: Any, where: str, names: tuple[str, ...] | None = None) -> Rows:
    """X as finite float64 (m, d): C-ordered, or CSR if X is sparse.

    Raises FileError, which names the column and row of a value that is not a finite number.
    """
    frame_names = column_names(X)
    if issparse(X):
        refuse_wide(X.shape[-1])
    else:
        X = np.asarray(X)
    if X.ndim != 2 or not X.shape[1]:
        raise FileError(
            f"features must be rows and columns, but their shape is {X.shape}",
            "for a single feature use X.reshape(-1, 1)",
        )
    return checked_features(X, names or frame_names or tuple(f"x{column}" for column in range(X.shape[1])), where)


def label_array(y: Any, rows: int, where: str) -> np.ndarray:
    """y as (rows,); a column (rows, 1) is flattened.  Raises FileError."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (rows,):
        raise FileError(f"expected one label for each of the {rows:,} {where}, but their shape is {y.shape}")
    return y


def training_set(X: Any, features: Rows, names: tuple[str, ...], y: Any, values: np.ndarray | None) -> Dataset:
    """A ``Dataset`` of training rows without test rows.  Raises FileError."""
    with about("y"):
        codes = coded(label_array(y, features.shape[0], TRAIN), values, TRAIN)
        classes = () if values is None else printed(values)
        missing = [label for code, label in enumerate(classes) if not (codes == code).any()]
        if missing:
            raise FileError(f"no training row is of class {missing[0]}", "give the rows that the model is of")
    return Dataset(
        "X",
        features,
        codes,
        no_rows(features),
        codes[:0],
        feature_names=names or tuple(f"x{column}" for column in range(features.shape[1])),
        classes=classes,
        columns_train=frame_columns(X),
        records_train=np.arange(1, features.shape[0] + 1),
    )


def test_labels(y: Any, rows: int, values: np.ndarray | None) -> np.ndarray:
    """Class codes or responses of the test rows; all -1 or NaN if ``y`` is None.  Raises FileError."""
    if y is None:
        return np.full(rows, -1, dtype=np.int64) if values is not None else np.full(rows, np.nan)
    with about("y_test"):
        return coded(label_array(y, rows, TEST), values, TEST)


def typed(classes: np.ndarray) -> np.ndarray:
    """Class labels as an array of numbers or text, not of objects."""
    return np.array(classes.tolist()) if classes.dtype.kind == "O" else classes


def with_columns(X: Any, columns: tuple[str, ...], name: str) -> Any:
    """The ``columns`` of a frame in that order; anything without column names is returned unchanged.

    Raises FileError.
    """
    if not columns or not is_frame(X):
        return X
    by_text = {str(key): key for key in X.columns}
    missing = [key for key in columns if key not in by_text]
    if missing:
        raise FileError(
            f"{name}: the model was made of the columns {_listed(columns)}, but there is no {_listed(missing)} among"
            f" {_listed(list(by_text))}",
            "give the columns that it was made of",
        )
    return X if tuple(by_text) == columns else X[[by_text[key] for key in columns]]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN_COLUMNS]) + (", ..." if len(names) > SHOWN_COLUMNS else "")


def _column(values: np.ndarray) -> np.ndarray:
    """The values as int64, float64, or an object array of str with None for missing values."""
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype.kind == "b":
        return np.where(values, "true", "false").astype(object)
    given = [value if _is_there(value) else None for value in values.tolist()]
    types = {type(value) for value in given if value is not None}
    if types and all(issubclass(kind, Number) and kind is not bool for kind in types) and complex not in types:
        return _column(np.array([np.nan if value is None else value for value in given], dtype=_kind_of(given)))
    made = [None if value is None else composed(str(value)) for value in given]
    return np.array([*made, None], dtype=object)[:-1]


def _categories(series: Any) -> np.ndarray:
    """A frame's column in the same form; numeric categories become text if some are missing."""
    values = np.asarray(series)
    if values.dtype.kind != "f" or str(series.dtype) != "category" or not np.isnan(values).any():
        return _column(values)
    return np.array([*(str(one) if _is_there(one) else None for one in series.astype(object)), None], object)[:-1]


def _kind_of(numbers: Sequence[Any]) -> type:
    """int64 if all numbers are whole and fit into it, else float64."""
    whole = all(isinstance(one, int | np.integer) and abs(int(one)) < 2**63 for one in numbers)
    return np.int64 if whole else np.float64


def _is_there(value: Any) -> bool:
    """Whether the value is not missing, that is not None, NaN, NaT or pandas' NA."""
    try:
        return value is not None and bool(value == value)
    except TypeError:
        return False
    except ValueError:  # an array
        return True
