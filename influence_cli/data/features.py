"""Columns of a table -> the features of a model, as scikit-learn's transformers make them.

All preprocessing is fitted on the training rows.  When a group is removed, it is either refitted or kept
(``--preprocessing``; docs/design.md, section 2.1).

The fitted state is kept as plain data, from which the features can be recomputed by hand::

    {"label": "died", "standardize": true, "impute": "median",
     "features": [{"column": "age", "kind": "numeric", "impute": 61.0, "mean": 60.2, "scale": 11.9},
                  {"column": "smoker", "kind": "boolean", "impute": null},
                  {"column": "site", "kind": "categorical", "impute": null, "categories": ["A", "B"]}]}

A numeric column gives one feature, (value - mean) / scale; a boolean column gives 0 or 1; a categorical column gives a
0/1 feature for each category of the training rows, all of which are 0 for a category that only test rows have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Any

import numpy as np

from influence_cli.data.ahead import ahead
from influence_cli.data.kept import Mapped
from influence_cli.data.options import IMPUTE, REFERENCE, TableOptions
from influence_cli.data.ordinal import dates_in_days
from influence_cli.data.placing import BLOCK_ROWS, Block, Placed, in_blocks, write
from influence_cli.data.sparse import CENTRED, Rows, is_compressed, scaled_rows
from influence_cli.data.stored import SMALL_BYTES, StoredRows
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError

MOST_CATEGORIES = 1_000
"""Most categories of one column: each gives a feature, and the Hessian grows with the square of their number."""

MOST_DENSE_BYTES = 4 * 2**30
"""Bytes of the largest dense array of features, training and test rows together."""
SMALLEST = 1e-280
"""Variance below which the squares lose digits or underflow to 0."""
UNSEEN = ", which no training row has: all its features are 0 there"
"""The end of the note about a category that only test rows have."""


@dataclass(frozen=True)
class Features:
    """X_train (m, d) and X_test (n, d) with their names, and the state from which they were made."""

    X_train: Rows
    X_test: Rows
    names: tuple[str, ...]
    state: list[dict[str, Any]]
    notes: tuple[str, ...]
    restored: Mapping[str, tuple[Column, Column]] = field(default_factory=dict)
    """Columns, by name, for training and test rows, whose values the tables no longer hold."""


def fit_features(columns: list[str], train: Table, test: Table, options: TableOptions) -> Features:
    """The features made of ``columns`` of both tables, fitted on ``train``.  Raises FileError."""
    train, test, orders, notes = dates_in_days(columns, train, test, options)
    for key in columns:
        _usable(key, train.columns[key])
    if options.impute is None:
        _refuse_missing(columns, train, test)

    def fitted(key: str) -> Block:
        fit = _fit_text if train.columns[key].kind == "text" else _fit_number
        return fit(key, train.columns[key], test.columns[key], options)

    blocks = list(ahead(fitted, columns))
    count = sum(len(block.names) for block in blocks)
    if not count:
        raise FileError(f"every feature ({', '.join(columns[:10])}) has one value in all training rows")
    starts = np.cumsum([0, *(len(block.names) for block in blocks)]).tolist()
    placed = [(start, block) for start, block in zip(starts, blocks, strict=False) if block.names]
    if train.store is None:
        refuse_large(train.rows + test.rows, count)
    X_train, X_test = (np.empty((one.rows if train.store is None else 0, count)) for one in (train, test))
    made = Features(
        X_train,
        X_test,
        tuple(feature for block in blocks for feature in block.names),
        [_with_date(block.state, orders) for block in blocks],
        (*notes, *(note for block in blocks for note in block.notes)),
        write(X_train, X_test, placed) if train.store is None else {},
    )
    return made if train.store is None else _onto_disk(made, placed, train, test)


def _onto_disk(made: Features, placed: Placed, train: Table, test: Table) -> Features:
    """The same features with the rows in the stores of their tables; a small X_test is read into memory."""
    count, columns = len(made.names), []
    for one in (train,) if test is train else (train, test):
        blocks = in_blocks(one.rows, count, placed, is_test=one is not train)
        if one.store is not None:
            columns.append(one.store.features(json.dumps(made.state), one.record_numbers, blocks, count))
        else:
            columns.append(np.concatenate([block.copy() for block in blocks]))
    X_test = columns[-1]
    return replace(made, X_train=columns[0], X_test=X_test[:] if 8 * X_test.size <= SMALL_BYTES else X_test)


def _with_date(state: dict[str, Any], orders: Mapping[str, str]) -> dict[str, Any]:
    order = orders.get(state["column"])
    return state if order is None else state | {"date": order}


def scale_arrays(X_train: Rows, X_test: Rows, names: tuple[str, ...]) -> Features:
    """Arrays standardised as the numeric columns of a table are; compressed rows are scaled but not centred.

    Dense arrays are changed in place.
    """
    if is_compressed(X_train):
        X_train, X_test, scales = scaled_rows(X_train, X_test)
        state = [_numeric(key, 0.0, scale) for key, scale in zip(names, scales.tolist(), strict=True)]
        return Features(X_train, X_test, names, state, (CENTRED,))
    mean, scale = mean_and_scale(X_train)
    state = [_numeric(*one) for one in zip(names, mean.tolist(), scale.tolist(), strict=True)]
    if isinstance(X_train, StoredRows):
        made = X_test.standardised(mean, scale) if isinstance(X_test, StoredRows) else (X_test - mean) / scale
        return Features(X_train.standardised(mean, scale), made, names, state, ())
    for X in (X_train, X_test):
        for start in range(0, len(X), BLOCK_ROWS):
            block = X[start : start + BLOCK_ROWS]
            block -= mean
            block /= scale
    return Features(X_train, X_test, names, state, ())


def mean_and_scale(X: np.ndarray | StoredRows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the rows of X (m,) or (m, d), each () or (d,).

    They are computed as by scikit-learn's ``StandardScaler``, in blocks of rows; the standard deviation is replaced by
    1 where X is constant by its rule.
    """
    count, size = len(X), len(X) if X.ndim == 1 else BLOCK_ROWS
    spans = [slice(start, start + size) for start in range(0, count, size)]
    mean = np.sum([X[span].sum(axis=0) for span in spans], axis=0) / count
    left, squares = np.zeros_like(mean), np.zeros_like(mean)
    with np.errstate(over="ignore"):  # squares of numbers above 1e154 overflow, which training reports
        for span in spans:
            centred = X[span] - mean
            left += centred.sum(axis=0)
            squares += np.square(centred, out=centred).sum(axis=0)
    variance = (squares - left**2 / count) / count
    eps = np.finfo(np.float64).eps
    constant = variance <= count * eps * variance + (count * mean * eps) ** 2
    scale = np.where(constant, 1.0, np.sqrt(variance))
    small = np.flatnonzero(np.atleast_1d(variance) < SMALLEST)
    if small.size and not isinstance(X, StoredRows) and (own := X if X.ndim == 1 else X[:, small]).any():
        scale.reshape(-1)[small] = _scale_of_small(own)
    return mean, scale


def _scale_of_small(X: np.ndarray) -> np.ndarray:
    """The scale of columns (m,) or (m, d) whose squares underflow, computed after division by the largest number."""
    largest = np.abs(X).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    alike = X.min(axis=0) == X.max(axis=0)
    return np.where(alike, 1.0, np.where(largest > 0, (X / unit).std(axis=0), 1.0) * unit)


def _numeric(key: str, mean: float, scale: float) -> dict[str, Any]:
    return {"column": key, "kind": "numeric", "impute": None, "mean": mean, "scale": scale}


def refuse_large(rows: int, features: int) -> None:
    """Raises FileError if a dense table of that size exceeds ``MOST_DENSE_BYTES``."""
    size = 8 * rows * features
    if size > MOST_DENSE_BYTES:
        raise FileError(
            f"{rows:,} rows of {features:,} features would take {size / 2**30:,.0f} GiB as a dense table, "
            f"more than the {MOST_DENSE_BYTES / 2**30:.0f} GiB that ginf holds",
            "leave out columns or rows, or group rare categories",
        )


def _fit_number(key: str, train: Column, test: Column, options: TableOptions) -> Block:
    """The one feature of a numeric or boolean column."""
    is_boolean = train.kind == "boolean"
    if train.unit != test.unit and test.kind == "numeric" and not test.missing.all():
        _refuse_units(key, train.unit, test.unit)
    train, test = (_numbers(key, column, is_boolean) for column in (train, test))
    state: dict[str, Any] = {"column": key, "kind": "boolean" if is_boolean else "numeric", "impute": None}
    if options.impute is not None and (train.missing.any() or test.missing.any()):
        train, test, value = _imputed(train, test, "most_frequent" if is_boolean else IMPUTE[options.impute])
        state["impute"] = float(value)
    values = train.values
    if options.coding == REFERENCE and (values == values[0]).all():
        return _constant(key, state, train, test)
    if not is_boolean:
        numbers = values.astype(np.float64, copy=False)
        mean, scale = (0.0, 1.0) if options.standardize is False else mean_and_scale(numbers)
        state |= {"mean": float(mean), "scale": float(scale)}
    return Block((key,), state, train, test)


def _refuse_units(key: str, unit: str, other: str) -> None:
    """A FileError for percentages in one file and none in the other, and for two currencies; no sign may be any."""
    if "%" in (unit, other) or (unit and other):
        signs = [f"{one!r}" if one else "nothing" for one in (unit, other)]
        raise FileError(
            f"column {key} has {signs[0]} beside its numbers in the training rows, but {signs[1]} in the test rows",
            "write them in one unit",
        )


def _imputed(train: Column, test: Column, strategy: str) -> tuple[Column, Column, Any]:
    """Both columns with missing values filled in by scikit-learn's SimpleImputer, and the value filled in."""
    from sklearn.impute import SimpleImputer

    missing = None if train.stored.dtype.kind == "O" else np.nan
    imputer = SimpleImputer(missing_values=missing, strategy=strategy).fit(train.values[:, None])
    value = imputer.statistics_[0]

    def filled(values: np.ndarray) -> np.ndarray:
        lacking = values == missing if missing is None else np.isnan(values)
        return np.where(lacking, value, values)

    kind = np.dtype(object if missing is None else np.float64)
    train, test = (replace(one, stored=Mapped(one.stored, filled, kind)) for one in (train, test))
    return train, test, value


def _constant(key: str, state: dict[str, Any], train: Column, test: Column) -> Block:
    """The block without features of a column that has one value in all training rows, as the intercept has."""
    note = f"column {key}: left out as a feature: it has one value in all training rows, as the intercept has"
    return Block((), state | {"kind": "constant"}, train, test, notes=(note,))


def _fit_text(key: str, train: Column, test: Column, options: TableOptions) -> Block:
    """The features of a text column, one for each category; in reference coding, the first category has none."""
    if test.kind != "text" and not test.missing.all():
        raise _other_kind(key, "text", test)
    if test.kind != "text":
        test = Column("text", np.array([None] * len(test), dtype=object), "text")
    count = len(set(train.values.tolist()) - {None})
    if count > MOST_CATEGORIES:
        raise FileError(
            f"column {key} has {count:,} different texts, more than the {MOST_CATEGORIES:,} that ginf turns "
            "into 0/1 features",
            f"--drop {quote(key)} leaves it out as a feature (it can still name groups), or group its values",
        )
    state: dict[str, Any] = {"column": key, "kind": "categorical", "impute": None}
    if options.impute is not None and (train.missing.any() or test.missing.any()):
        train, test, value = _imputed(train, test, "most_frequent")
        state["impute"] = str(value)
    with_reference = options.coding == REFERENCE
    categories = state["categories"] = sorted(set(train.values.tolist()))
    if with_reference and len(categories) == 1:
        del state["categories"]
        return _constant(key, state, train, test)
    notes = []
    if with_reference:
        state["reference"] = categories[0]
        notes.append(f"column {key}: {categories[0]!r} is the reference level, which has no feature of its own")
    unseen = sorted(set(test.values.tolist()) - set(categories))
    if unseen:
        rows = sum(value in unseen for value in test.values.tolist())
        notes.append(
            f"column {key} of {rows:,} test {'row' if rows == 1 else 'rows'} holds "
            + ", ".join(map(repr, unseen[:5]))
            + (f" and {len(unseen) - 5:,} more" if len(unseen) > 5 else "")
            + UNSEEN
            + (", as for the reference level" if with_reference else "")
        )
    kept = categories[1 if with_reference else 0 :]
    places = {one: place for place, one in enumerate(kept)}

    def encode(values: np.ndarray) -> np.ndarray:
        codes = np.array([places.get(one, -1) for one in values.tolist()])
        return np.equal.outer(codes, np.arange(len(kept)))

    return Block(tuple(f"{key}={one}" for one in kept), state, train, test, encode, tuple(notes))


def _numbers(key: str, column: Column, is_boolean: bool) -> Column:
    """A column of finite numbers, NaN if missing; true is 1 and false is 0.  Raises FileError."""
    if is_boolean:
        if column.kind != "boolean" and not column.missing.all():
            raise _other_kind(key, "true and false", column)
        return Column("numeric", Mapped(column.stored, _truth, np.dtype(np.float64)), "numbers", rows=column.rows)
    if column.kind != "numeric":
        raise _other_kind(key, "numbers", column)
    if column.is_finite:
        return column
    values = column.values
    if values.dtype.kind != "f" or np.isfinite(values.sum()):
        return column
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        rows = "1 row" if len(infinite) == 1 else f"{len(infinite):,} rows"
        raise FileError(
            f"every number must be finite, but column {key} holds {values[infinite[0]]} in {rows}",
            "leave the field empty where a value is missing",
        )
    return column


def _truth(values: np.ndarray) -> np.ndarray:
    """1 for true, 0 for false, NaN for None."""
    table = {"true": 1.0, "false": 0.0, None: np.nan}
    codes = [table[text.lower() if isinstance(text, str) else None] for text in values.tolist()]
    return np.array(codes, dtype=np.float64)


def _other_kind(key: str, expected: str, column: Column) -> FileError:
    return FileError(
        f"column {key} holds {expected} in the training rows, but {column.described} in the test rows",
        "both files need the same columns with the same meaning",
    )


def _usable(key: str, column: Column) -> None:
    if column.refusal is not None:
        raise FileError(*column.refusal)
    if column.kind == "date":
        days = ", or --date ordinal makes days of it" if column.described == "dates" else ""
        raise FileError(
            f"column {key} holds {column.described}, which are no features as they stand",
            f"--drop {quote(key)} (it can still name groups){days}",
        )
    if column.kind == "other":
        raise FileError(f"column {key} holds {column.described}, which are no features", f"--drop {quote(key)}")
    if column.missing.all():
        raise FileError(f"column {key} has no value in any training row", f"--drop {quote(key)}")


def _words(table: Table, key: str) -> str:
    words = table.columns[key].words
    return f" (as {', '.join(map(repr, words[:3]))}{', ...' if len(words) > 3 else ''})" if words else ""


def _refuse_missing(columns: list[str], train: Table, test: Table) -> None:
    tables = (train,) if test is train else (train, test)
    counts = {key: sum(int(one.columns[key].missing.sum()) for one in tables) for key in columns}
    missing = {key: count for key, count in counts.items() if count}
    if not missing:
        return
    shown = [f"{key} in {count:,} row{'' if count == 1 else 's'}{_words(train, key)}" for key, count in missing.items()]
    more = f" and {len(shown) - 10} more columns" if len(shown) > 10 else ""
    raise FileError(
        f"values are missing: {', '.join(shown[:10])}{more} (of {sum(one.rows for one in tables):,} rows)",
        "--impute median (or mean, most-frequent) fills them in; --drop-missing leaves these rows out, --drop COLUMN"
        " a column",
    )
