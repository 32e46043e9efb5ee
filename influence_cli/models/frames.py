"""Frames with columns of text or missing values, turned into features as ``ginf train`` does with a table."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any
from warnings import warn

import numpy as np

from influence_cli.data.dataset import Dataset
from influence_cli.data.features import UNSEEN, Features, fit_features
from influence_cli.data.options import TableOptions
from influence_cli.data.python_objects import column_names, frame_columns, is_frame
from influence_cli.data.sparse import Rows
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError, about
from influence_cli.models.preprocessing import as_table


def needs_preparation(X: Any) -> bool:
    """Whether X is a frame that has a column of text or of objects, or with missing values."""
    if not is_frame(X):
        return False
    return any(str(kind) == "object" for kind in X.dtypes) or any(
        column.kind == "text" or column.missing.any() for column in _table(X).columns.values()
    )


def prepared(X: Any, impute: str | None) -> Features:
    """The features of a frame's columns: numbers as they are, a 0/1 feature for each category.  Raises FileError."""
    table = _table(X)
    return fit_features(
        table.names, table, table.take(np.empty(0, np.int64)), TableOptions(impute=impute, standardize=False)
    )


def features_of(dataset: Dataset, X: Any) -> Rows:
    """The features of a frame of test rows, made in the same way as those of the training rows.  Raises FileError."""
    preparation: Mapping[str, Any] = dataset.preparation or {}
    states: Sequence[Mapping[str, Any]] = preparation["features"]
    columns = [state["column"] for state in states]
    missing = [key for key in columns if key not in column_names(X)]
    if missing:
        raise FileError(f"X_test: the model was made of columns that it has not: {', '.join(missing[:10])}")
    names_given = frame_columns(X)
    texts = {state["column"] for state in states if state["kind"] != "numeric"}
    for key in texts & names_given.keys():
        if names_given[key].dtype.kind != "O":
            names_given[key] = np.array([*map(str, names_given[key].tolist()), None], dtype=object)[:-1]
    options = TableOptions(
        impute=preparation.get("impute"),
        standardize=bool(preparation.get("standardize")),
        coding=preparation.get("coding"),
    )
    with about("X_test"):
        made = fit_features(columns, as_table(dataset.columns_train, states), as_table(names_given, states), options)
    for note in made.notes:
        if UNSEEN in note:
            warn(f"X_test: {note}", stacklevel=2)
    places = [made.names.index(name) for name in dataset.feature_names]
    return made.X_test[:, places]


def _table(X: Any) -> Table:
    """The columns of a frame as a table, each of a single kind."""
    made = {}
    keys = {str(key): key for key in X.columns}
    for name, values in frame_columns(X).items():
        given = X[keys[name]]
        kind = str(given.dtype)
        with about("X"):
            _refuse_others(name, kind, given)
        if values.dtype.kind == "O":
            made[name] = Column("boolean" if kind.lower() in ("bool", "boolean") else "text", values, "text")
        elif kind.startswith(("category", "Categorical", "Enum")):
            made[name] = Column("text", np.array([*map(str, values.tolist()), None], dtype=object)[:-1], "categories")
        else:
            made[name] = Column("numeric", values, "numbers")
    return Table(made, len(X))


def _refuse_others(name: str, kind: str, values: Any) -> None:
    """Raises FileError for a column that holds anything but numbers, text and truth values."""
    is_date = kind.lower().startswith(("date", "period", "time", "duration"))
    first = None
    if kind == "object" or kind.startswith(("List", "Array", "Struct", "Binary", "Object", "complex")):
        known = (one for one in np.asarray(values, dtype=object).tolist() if one is not None)
        first = next(known, None)
        is_date = isinstance(first, datetime.date | datetime.time | datetime.timedelta)
    if is_date:
        what = "times or durations" if kind.lower().startswith(("time", "duration")) else "dates"
        raise FileError(f"column {name} holds {what}", "give a number, such as days since a date, or drop it")
    if isinstance(first, list | tuple | dict | set | bytes | complex | np.ndarray):
        raise FileError(
            f"column {name} holds values of the type {type(first).__name__}, which are no features", "drop it"
        )
