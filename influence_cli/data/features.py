"""Columns of a table -> the features of a model, by scikit-learn's transformers.

Everything is fitted on the training rows, once, and stays as it is when rows are removed: a group's effect is then
that of its rows on the model, not on the means and scales that were agreed on before.

What was fitted is kept as plain data, from which the features can be made again by hand::

    {"label": "died", "standardize": true, "impute": "median",
     "features": [{"column": "age", "kind": "numeric", "impute": 61.0, "mean": 60.2, "scale": 11.9},
                  {"column": "smoker", "kind": "boolean", "impute": null},
                  {"column": "site", "kind": "categorical", "impute": null, "categories": ["A", "B"]}]}

A numeric column gives one feature, (value - mean) / scale; a boolean one 0 or 1; a categorical one a 0/1 feature for
each category of the training rows, all of them 0 for a category that occurs among the test rows only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from influence_cli.data.sparse import CENTRED, Rows, scaled_rows
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError

IMPUTE = {"median": "median", "mean": "mean", "most-frequent": "most_frequent"}
"""``--impute`` -> the strategy of scikit-learn's SimpleImputer; text always takes its most frequent value."""

MOST_CATEGORIES = 1_000
"""Categories of one column; each gives a feature, and the Hessian grows with their square."""

MOST_DENSE_BYTES = 4 * 2**30
"""The largest table of features, training and test rows together, that is held as a dense array."""


@dataclass(frozen=True)
class Features:
    """X_train (m, d) and X_test (n, d) with their names, and the state from which they were made."""

    X_train: Rows
    X_test: Rows
    names: tuple[str, ...]
    state: list[dict[str, Any]]
    notes: tuple[str, ...]


def fit_features(
    columns: list[str], train: Table, test: Table, *, impute: str | None, standardize: bool, name: str
) -> Features:
    """The features that ``columns`` of both tables give, fitted on ``train``.  Raises FileError."""
    for key in columns:
        _usable(key, train.columns[key], name)
    if impute is None:
        _refuse_missing(columns, train, test, name)
    blocks: list[_Block] = []
    for key in columns:
        fit = _fit_text if train.columns[key].kind == "text" else _fit_number
        blocks.append(fit(key, train.columns[key], test.columns[key], impute, standardize, name))
    count = sum(len(block.names) for block in blocks)
    refuse_large(train.rows + test.rows, count, name)
    X_train, X_test = np.empty((train.rows, count)), np.empty((test.rows, count))
    start = 0
    for block in blocks:
        stop = start + len(block.names)
        block.write(X_train[:, start:stop], X_test[:, start:stop])
        start = stop
    return Features(
        X_train,
        X_test,
        tuple(feature for block in blocks for feature in block.names),
        [block.state for block in blocks],
        tuple(note for block in blocks for note in block.notes),
    )


def scale_arrays(X_train: Rows, X_test: Rows, names: tuple[str, ...]) -> Features:
    """Arrays standardised as a table's numeric columns are; compressed rows without centring."""
    from sklearn.preprocessing import StandardScaler

    if isinstance(X_train, csr_array):
        assert isinstance(X_test, csr_array)
        X_train, X_test, scales = scaled_rows(X_train, X_test)
        state = [_numeric(key, 0.0, scale) for key, scale in zip(names, scales.tolist(), strict=True)]
        return Features(X_train, X_test, names, state, (CENTRED,))
    scaler = StandardScaler().fit(X_train)
    means = zip(names, scaler.mean_.tolist(), scaler.scale_.tolist(), strict=True)
    state = [_numeric(key, mean, scale) for key, mean, scale in means]
    X_test = scaler.transform(X_test) if len(X_test) else X_test
    return Features(np.ascontiguousarray(scaler.transform(X_train)), np.ascontiguousarray(X_test), names, state, ())


def _numeric(key: str, mean: float, scale: float) -> dict[str, Any]:
    return {"column": key, "kind": "numeric", "impute": None, "mean": mean, "scale": scale}


def refuse_large(rows: int, features: int, name: str) -> None:
    """Raises FileError where a dense table of that size is more than a process should take."""
    size = 8 * rows * features
    if size > MOST_DENSE_BYTES:
        raise FileError(
            f"{name}: {rows:,} rows of {features:,} features would take {size / 2**30:,.0f} GiB as a dense table, "
            f"more than the {MOST_DENSE_BYTES / 2**30:.0f} GiB that ginf holds",
            "leave out columns or rows, or group rare categories",
        )


@dataclass(frozen=True)
class _Block:
    """The features of one column: their names, their state, and the transformer that writes them."""

    names: tuple[str, ...]
    state: dict[str, Any]
    train: np.ndarray
    test: np.ndarray
    transform: Any
    notes: tuple[str, ...] = ()

    def write(self, X_train: np.ndarray, X_test: np.ndarray) -> None:
        X_train[:] = self.transform(self.train)
        if len(X_test):
            X_test[:] = self.transform(self.test)


def _fit_number(key: str, train: Column, test: Column, impute: str | None, standardize: bool, name: str) -> _Block:
    """A numeric or a boolean column, each one feature."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    is_boolean = train.kind == "boolean"
    X_train, X_test = (_numbers(key, column, is_boolean, name) for column in (train, test))
    state: dict[str, Any] = {"column": key, "kind": "boolean" if is_boolean else "numeric", "impute": None}
    missing = np.isnan(X_train).any() or np.isnan(X_test).any()
    if missing and impute is not None:
        imputer = SimpleImputer(strategy="most_frequent" if is_boolean else IMPUTE[impute]).fit(X_train)
        state["impute"] = float(imputer.statistics_[0])
        X_train = imputer.transform(X_train)
        X_test = imputer.transform(X_test) if len(X_test) else X_test
    if is_boolean or not standardize:
        return _Block((key,), state | ({} if is_boolean else {"mean": 0.0, "scale": 1.0}), X_train, X_test, _as_it_is)
    scaler = StandardScaler().fit(X_train)
    state |= {"mean": float(scaler.mean_[0]), "scale": float(scaler.scale_[0])}
    return _Block((key,), state, X_train, X_test, scaler.transform)


def _fit_text(key: str, train: Column, test: Column, impute: str | None, standardize: bool, name: str) -> _Block:
    """A column of text, a feature for each of its categories."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    if test.kind != "text" and not test.missing.all():
        raise _other_kind(key, "text", test, name)
    X_train = train.values[:, None]
    X_test = (test.values if test.kind == "text" else np.array([None] * len(test.values), dtype=object))[:, None]
    count = len(set(X_train[:, 0].tolist()) - {None})
    if count > MOST_CATEGORIES:
        raise FileError(
            f"{name}: column {key} has {count:,} different texts, more than the {MOST_CATEGORIES:,} that ginf turns "
            "into 0/1 features",
            f"--drop {key} leaves it out as a feature (it can still name groups), or group its values",
        )
    state: dict[str, Any] = {"column": key, "kind": "categorical", "impute": None}
    if impute is not None and (train.missing.any() or test.missing.any()):
        imputer = SimpleImputer(missing_values=None, strategy="most_frequent").fit(X_train)
        state["impute"] = str(imputer.statistics_[0])
        X_train = imputer.transform(X_train)
        X_test = imputer.transform(X_test) if len(X_test) else X_test
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(X_train)
    categories = [str(category) for category in encoder.categories_[0]]
    state["categories"] = categories
    unseen = sorted(set(X_test[:, 0].tolist()) - set(categories))
    notes: tuple[str, ...] = ()
    if unseen:
        rows = sum(value in unseen for value in X_test[:, 0].tolist())
        notes = (
            f"{name}: column {key} of {rows:,} test {'row' if rows == 1 else 'rows'} holds "
            + ", ".join(map(repr, unseen[:5]))
            + (f" and {len(unseen) - 5:,} more" if len(unseen) > 5 else "")
            + ", which no training row has: all its features are 0 there",
        )
    return _Block(tuple(f"{key}={one}" for one in categories), state, X_train, X_test, encoder.transform, notes)


def _as_it_is(X: np.ndarray) -> np.ndarray:
    return X


def _numbers(key: str, column: Column, is_boolean: bool, name: str) -> np.ndarray:
    """(r, 1) float64, NaN where missing; of a column of such numbers it is the column itself."""
    if is_boolean:
        if column.kind != "boolean" and not column.missing.all():
            raise _other_kind(key, "true and false", column, name)
        table = {"true": 1.0, "false": 0.0, None: np.nan}
        values = np.array([table.get(value, np.nan) for value in column.values.tolist()])
    elif column.kind != "numeric":
        raise _other_kind(key, "numbers", column, name)
    else:
        values = column.values.astype(np.float64, copy=False)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        rows = "1 row" if len(infinite) == 1 else f"{len(infinite):,} rows"
        raise FileError(
            f"{name}: every number must be finite, but column {key} holds {values[infinite[0]]} in {rows}",
            "leave the field empty where a value is missing",
        )
    return values[:, None]


def _other_kind(key: str, expected: str, column: Column, name: str) -> FileError:
    return FileError(
        f"{name}: column {key} holds {expected} in the training rows, but {column.described} in the test rows",
        "both files need the same columns with the same meaning",
    )


def _usable(key: str, column: Column, name: str) -> None:
    if column.kind == "date":
        raise FileError(
            f"{name}: column {key} holds {column.described}, which are no features as they stand",
            f"--drop {key} (it can still name groups), or replace it by a number such as days since a fixed day",
        )
    if column.kind == "other":
        raise FileError(f"{name}: column {key} holds {column.described}, which are no features", f"--drop {key}")
    if column.missing.all():
        raise FileError(f"{name}: column {key} has no value in any training row", f"--drop {key}")


def _refuse_missing(columns: list[str], train: Table, test: Table, name: str) -> None:
    counts = {key: int(train.columns[key].missing.sum() + test.columns[key].missing.sum()) for key in columns}
    found = {key: count for key, count in counts.items() if count}
    if not found:
        return
    shown = [f"{key} in {count:,} rows" if count > 1 else f"{key} in 1 row" for key, count in found.items()]
    more = f" and {len(shown) - 10} more columns" if len(shown) > 10 else ""
    raise FileError(
        f"{name}: values are missing: {', '.join(shown[:10])}{more} (of {train.rows + test.rows:,} rows)",
        "--impute median (or mean, most-frequent) fills them in; --drop COLUMN leaves a column out",
    )
