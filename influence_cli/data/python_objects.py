"""Arrays and frames that a Python user holds: NumPy, SciPy's sparse matrices, pandas, polars, lists.

Frames are told by what they can do, not by their type, so that neither library is imported here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from influence_cli.data.prepare import checked_features
from influence_cli.data.sparse import Rows, refuse_wide
from influence_cli.errors import FileError


def is_frame(X: Any) -> bool:
    """Whether X has named columns."""
    return hasattr(X, "columns") and hasattr(X, "__getitem__") and hasattr(X, "shape")


def column_names(X: Any) -> tuple[str, ...]:
    """The names of a frame's columns; none of an array."""
    return tuple(str(name) for name in X.columns) if is_frame(X) else ()


def frame_columns(X: Any) -> dict[str, np.ndarray]:
    """A frame's columns as ``Dataset.columns_train`` has them; none of an array."""
    return {str(name): _column(np.asarray(X[name])) for name in X.columns} if is_frame(X) else {}


def feature_array(X: Any, name: str, where: str, names: tuple[str, ...] | None = None) -> Rows:
    """X as finite float64 (m, d): C-ordered, or CSR of any sparse matrix.

    Raises FileError that names column and row of what is no number.
    """
    own = column_names(X)
    if issparse(X):
        refuse_wide(X.shape[-1], name)
    else:
        X = np.asarray(X)
    if X.ndim != 2 or not X.shape[1]:
        raise FileError(
            f"{name}: features must be rows and columns, but their shape is {X.shape}",
            "for a single feature use X.reshape(-1, 1)",
        )
    return checked_features(X, names or own or tuple(f"x{column}" for column in range(X.shape[1])), name, where)


def label_array(y: Any, rows: int, name: str, where: str) -> np.ndarray:
    """y as (rows,); a column of one is taken for what it is.  Raises FileError."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (rows,):
        raise FileError(f"{name}: expected one label for each of the {rows:,} {where}, but their shape is {y.shape}")
    return y


def _column(values: np.ndarray) -> np.ndarray:
    """int64, float64, or an object array of str with None where missing."""
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype.kind == "b":
        return np.where(values, "true", "false").astype(object)
    made = [None if value is None or value != value else str(value) for value in values.tolist()]
    return np.array([*made, None], dtype=object)[:-1]
