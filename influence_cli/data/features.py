"""Columns of a table -> the features of a model, by scikit-learn's transformers.

Everything is fitted on the training rows; without a group it is made again, or stays as it is (``--preprocessing``,
docs/design.md, "What else the rows took part in").

What was fitted is kept as plain data, from which the features can be made again by hand::

    {"label": "died", "standardize": true, "impute": "median",
     "features": [{"column": "age", "kind": "numeric", "impute": 61.0, "mean": 60.2, "scale": 11.9},
                  {"column": "smoker", "kind": "boolean", "impute": null},
                  {"column": "site", "kind": "categorical", "impute": null, "categories": ["A", "B"]}]}

A numeric column gives one feature, (value - mean) / scale; a boolean one 0 or 1; a categorical one a 0/1 feature for
each category of the training rows, all of them 0 for a category that occurs among the test rows only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from influence_cli.data import dates
from influence_cli.data.options import IMPUTE, ORDINAL, REFERENCE, TableOptions
from influence_cli.data.sparse import CENTRED, Rows, scaled_rows
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError

MOST_CATEGORIES = 1_000
"""Categories of one column; each gives a feature, and the Hessian grows with their square."""

MOST_DENSE_BYTES = 4 * 2**30
"""The largest table of features, training and test rows together, that is held as a dense array."""
UNSEEN = ", which no training row has: all its features are 0 there"
"""What is said of a category that only test rows have."""


@dataclass(frozen=True)
class Features:
    """X_train (m, d) and X_test (n, d) with their names, and the state from which they were made."""

    X_train: Rows
    X_test: Rows
    names: tuple[str, ...]
    state: list[dict[str, Any]]
    notes: tuple[str, ...]


def fit_features(columns: list[str], train: Table, test: Table, options: TableOptions) -> Features:
    """The features that ``columns`` of both tables give, fitted on ``train``.  Raises FileError."""
    train, test, orders, notes = _dates_in_days(columns, train, test, options)
    for key in columns:
        _usable(key, train.columns[key])
    if options.impute is None:
        _refuse_missing(columns, train, test)
    blocks: list[_Block] = []
    for key in columns:
        fit = _fit_text if train.columns[key].kind == "text" else _fit_number
        blocks.append(fit(key, train.columns[key], test.columns[key], options))
    count = sum(len(block.names) for block in blocks)
    if not count:
        raise FileError(f"every feature ({', '.join(columns[:10])}) has one value in all training rows")
    refuse_large(train.rows + test.rows, count)
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
        [_with_date(block.state, orders) for block in blocks],
        (*notes, *(note for block in blocks for note in block.notes)),
    )


def _with_date(state: dict[str, Any], orders: Mapping[str, str]) -> dict[str, Any]:
    order = orders.get(state["column"])
    return state if order is None else state | {"date": order}


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


def refuse_large(rows: int, features: int) -> None:
    """Raises FileError where a dense table of that size is more than a process should take."""
    size = 8 * rows * features
    if size > MOST_DENSE_BYTES:
        raise FileError(
            f"{rows:,} rows of {features:,} features would take {size / 2**30:,.0f} GiB as a dense table, "
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


def _fit_number(key: str, train: Column, test: Column, options: TableOptions) -> _Block:
    """A numeric or a boolean column, each one feature."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    is_boolean = train.kind == "boolean"
    X_train, X_test = (_numbers(key, column, is_boolean) for column in (train, test))
    state: dict[str, Any] = {"column": key, "kind": "boolean" if is_boolean else "numeric", "impute": None}
    missing = np.isnan(X_train).any() or np.isnan(X_test).any()
    if missing and options.impute is not None:
        imputer = SimpleImputer(strategy="most_frequent" if is_boolean else IMPUTE[options.impute]).fit(X_train)
        state["impute"] = float(imputer.statistics_[0])
        X_train = imputer.transform(X_train)
        X_test = imputer.transform(X_test) if len(X_test) else X_test
    if options.coding == REFERENCE and (X_train == X_train[0]).all():
        return _constant(key, state, X_train, X_test)
    if is_boolean or options.standardize is False:
        return _Block((key,), state | ({} if is_boolean else {"mean": 0.0, "scale": 1.0}), X_train, X_test, _as_it_is)
    scaler = StandardScaler().fit(X_train)
    state |= {"mean": float(scaler.mean_[0]), "scale": float(scaler.scale_[0])}
    return _Block((key,), state, X_train, X_test, scaler.transform)


def _constant(key: str, state: dict[str, Any], train: np.ndarray, test: np.ndarray) -> _Block:
    """No feature, of a column with one value in all training rows: the intercept has its effect already."""
    note = f"column {key}: left out as a feature: it has one value in all training rows, as the intercept has"
    return _Block((), state | {"kind": "constant"}, train, test, _none_of, (note,))


def _fit_text(key: str, train: Column, test: Column, options: TableOptions) -> _Block:
    """A column of text, a feature for each of its categories; in reference coding for each but the first."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    if test.kind != "text" and not test.missing.all():
        raise _other_kind(key, "text", test)
    X_train = train.values[:, None]
    X_test = (test.values if test.kind == "text" else np.array([None] * len(test.values), dtype=object))[:, None]
    count = len(set(X_train[:, 0].tolist()) - {None})
    if count > MOST_CATEGORIES:
        raise FileError(
            f"column {key} has {count:,} different texts, more than the {MOST_CATEGORIES:,} that ginf turns "
            "into 0/1 features",
            f"--drop {key} leaves it out as a feature (it can still name groups), or group its values",
        )
    state: dict[str, Any] = {"column": key, "kind": "categorical", "impute": None}
    if options.impute is not None and (train.missing.any() or test.missing.any()):
        imputer = SimpleImputer(missing_values=None, strategy="most_frequent").fit(X_train)
        state["impute"] = str(imputer.statistics_[0])
        X_train = imputer.transform(X_train)
        X_test = imputer.transform(X_test) if len(X_test) else X_test
    with_reference = options.coding == REFERENCE
    if with_reference and len(set(X_train[:, 0].tolist())) == 1:
        return _constant(key, state, X_train, X_test)
    drop = "first" if with_reference else None
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, drop=drop).fit(X_train)
    categories = [str(category) for category in encoder.categories_[0]]
    state["categories"] = categories
    notes = []
    if with_reference:
        state["reference"] = categories[0]
        notes.append(f"column {key}: {categories[0]!r} is the reference level, which has no feature of its own")
    unseen = sorted(set(X_test[:, 0].tolist()) - set(categories))
    if unseen:
        rows = sum(value in unseen for value in X_test[:, 0].tolist())
        notes.append(
            f"column {key} of {rows:,} test {'row' if rows == 1 else 'rows'} holds "
            + ", ".join(map(repr, unseen[:5]))
            + (f" and {len(unseen) - 5:,} more" if len(unseen) > 5 else "")
            + UNSEEN
            + (", as for the reference level" if with_reference else "")
        )
    names = tuple(f"{key}={one}" for one in categories[1 if with_reference else 0 :])
    return _Block(names, state, X_train, X_test, _quietly(encoder.transform), tuple(notes))


def _quietly(transform: Any) -> Any:
    """Without scikit-learn's warning about categories that it does not know: a note says more."""

    def transformed(X: np.ndarray) -> np.ndarray:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return transform(X)

    return transformed


def _none_of(X: np.ndarray) -> np.ndarray:
    return np.empty((len(X), 0))


def _dates_in_days(
    columns: list[str], train: Table, test: Table, options: TableOptions
) -> tuple[Table, Table, dict[str, str], tuple[str, ...]]:
    """Both tables with the dates among ``columns`` as days since 1970-01-01, where ``--date ordinal`` asks for that.

    Behind them the order of day, month and year by column, and notes.
    """
    found = [key for key in columns if train.columns[key].kind == "date" and train.columns[key].described == "dates"]
    if options.date != ORDINAL or not found:
        return train, test, {}, ()
    notes, known = [], {}
    for key in found:
        texts = sorted(set(train.columns[key].values.tolist()) - {None})
        orders = dates.orders_of(texts) if options.date_order is None else (options.date_order,)
        if dates.are_ambiguous(texts[:100], orders):
            raise FileError(
                f"column {key} holds dates such as {texts[0]!r}, in which day, month and year cannot be told apart",
                f"--date-order {' or '.join(orders)}",
            )
        order = known[key] = orders[0]
        train, test = (
            replace(table, columns={**table.columns, key: in_days(key, table.columns[key], order)})
            for table in (train, test)
        )
        notes.append(
            f"column {key}: dates as days since 1970-01-01 ({texts[0]!r} is {dates.days_of(texts[0], order):g})"
        )
    return train, test, known, tuple(notes)


def in_days(key: str, column: Column, order: str) -> Column:
    """A column of dates as days since 1970-01-01.  Raises FileError for what is no date in that order."""
    days: dict[str | None, float] = {None: np.nan}
    for text in set(column.values.tolist()) - {None}:
        day = dates.days_of(str(text), order)
        if day is None:
            raise FileError(
                f"column {key} holds {text!r}, which is no date in the order {order} of day, month and year",
                "--date-order names another one: dmy, mdy or ymd",
            )
        days[text] = day
    return Column("numeric", np.array([days[text] for text in column.values.tolist()]), "dates")


def _as_it_is(X: np.ndarray) -> np.ndarray:
    return X


def _numbers(key: str, column: Column, is_boolean: bool) -> np.ndarray:
    """(r, 1) float64, NaN where missing; of a column of such numbers it is the column itself."""
    if is_boolean:
        if column.kind != "boolean" and not column.missing.all():
            raise _other_kind(key, "true and false", column)
        table = {"true": 1.0, "false": 0.0, None: np.nan}
        values = np.array([table[text.lower() if isinstance(text, str) else None] for text in column.values.tolist()])
    elif column.kind != "numeric":
        raise _other_kind(key, "numbers", column)
    else:
        values = column.values.astype(np.float64, copy=False)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        rows = "1 row" if len(infinite) == 1 else f"{len(infinite):,} rows"
        raise FileError(
            f"every number must be finite, but column {key} holds {values[infinite[0]]} in {rows}",
            "leave the field empty where a value is missing",
        )
    return values[:, None]


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
            f"--drop {key} (it can still name groups){days}",
        )
    if column.kind == "other":
        raise FileError(f"column {key} holds {column.described}, which are no features", f"--drop {key}")
    if column.missing.all():
        raise FileError(f"column {key} has no value in any training row", f"--drop {key}")


def _words(table: Table, key: str) -> str:
    words = table.columns[key].words
    return f" (as {', '.join(map(repr, words[:3]))}{', ...' if len(words) > 3 else ''})" if words else ""


def _refuse_missing(columns: list[str], train: Table, test: Table) -> None:
    counts = {key: int(train.columns[key].missing.sum() + test.columns[key].missing.sum()) for key in columns}
    found = {key: count for key, count in counts.items() if count}
    if not found:
        return
    shown = [f"{key} in {count:,} row{'' if count == 1 else 's'}{_words(train, key)}" for key, count in found.items()]
    more = f" and {len(shown) - 10} more columns" if len(shown) > 10 else ""
    raise FileError(
        f"values are missing: {', '.join(shown[:10])}{more} (of {train.rows + test.rows:,} rows)",
        "--impute median (or mean, most-frequent) fills them in; --drop-missing leaves these rows out, --drop COLUMN"
        " a column",
    )
