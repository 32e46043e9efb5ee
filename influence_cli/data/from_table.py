"""A table and what was asked of it -> a ``Dataset``: label, features, split, and the columns that name groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.data.dataset import Dataset
from influence_cli.data.features import IMPUTE, fit_features
from influence_cli.data.frames import FeatureMaker
from influence_cli.data.labels import class_names, encode, responses
from influence_cli.data.prepare import TEST, TRAIN, UNSPLIT, Task
from influence_cli.data.split import random_split, stratified_split
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError, UsageError, did_you_mean

SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class TableOptions:
    """What the options of ``ginf train`` say about a table; ``standardize`` None is on for tables, off for arrays.

    The entries of ``drop`` and ``features`` are names of columns, or several with commas between them.
    """

    label: str | None = None
    drop: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    impute: str | None = None
    standardize: bool | None = None
    id_column: str | None = None
    test_data: str | None = None
    sample_weight: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Only what was asked for."""
        every = {
            "label": self.label,
            "drop": list(self.drop),
            "features": list(self.features),
            "impute": self.impute,
            "standardize": self.standardize,
            "id": self.id_column,
            "test_data": self.test_data,
            "sample_weight": self.sample_weight,
        }
        return {key: value for key, value in every.items() if value not in (None, [])}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> TableOptions:
        """What ``as_dict`` gave, perhaps among other things."""
        return cls(
            label=kept.get("label"),
            drop=tuple(kept.get("drop", ())),
            features=tuple(kept.get("features", ())),
            impute=kept.get("impute"),
            standardize=kept.get("standardize"),
            id_column=kept.get("id"),
            test_data=kept.get("test_data"),
            sample_weight=kept.get("sample_weight"),
        )


def check_options(options: TableOptions) -> None:
    """What can be said before any file is read.  Raises UsageError."""
    if options.impute is not None and options.impute not in IMPUTE:
        raise UsageError(f"--impute must be one of {', '.join(IMPUTE)}; found {options.impute!r}")


def prepare_table(
    table: Table,
    test: Table | None,
    options: TableOptions,
    *,
    task: Task,
    test_fraction: float,
    seed: int,
    name: str,
    test_name: str = "",
    maker: FeatureMaker | None = None,
) -> Dataset:
    """Split where no test table is given, fit the preparation on the training rows, and encode.

    Row numbers follow the order of the file within either part.
    """
    label, features = _roles(table, options, name)
    if maker is not None:
        features = maker.wanted(table, features, name)
    if table.rows < 2:
        raise FileError(f"{name}: at least 2 rows are needed, but found 1")
    y = _labels(table.columns[label], label, name)
    classes, values = (
        class_names(y, name, UNSPLIT if test is None else TRAIN) if task == "classification" else ((), None)
    )
    codes = _encode(y, values, name, UNSPLIT if test is None else TRAIN)
    if values is None and len(codes) > 1 and (codes == codes[0]).all():
        raise FileError(f"{name}: the label {label} is {codes[0]:g} in every row: there is nothing to explain")
    if test is None:
        if values is None:
            parts = random_split(table.rows, test_fraction, seed, name)
        else:
            parts = stratified_split(codes, classes, test_fraction, seed, name)
        (train, y_train), (rest, y_test) = ((_rows(table, part), codes[part]) for part in parts)
    else:
        if not test.rows:
            raise FileError(f"{test_name}: at least 1 test row is needed, but found none")
        _needed_in_test(features, options, test, test_name)
        train, y_train, rest = table, codes, test
        y_test = _test_labels(test, label, values, test_name)
    standardize = options.standardize is not False and maker is None
    if maker is None:
        made = fit_features(features, train, rest, impute=options.impute, standardize=standardize, name=name)
    else:
        made = maker.of_tables(features, train, rest, name)
    return Dataset(
        name,
        made.X_train,
        y_train,
        made.X_test,
        y_test,
        feature_names=made.names,
        classes=classes,
        columns_train=_named(train),
        columns_test={key: values for key, values in _named(rest).items() if key in train.columns},
        id_column=options.id_column,
        preparation={
            "label": label,
            "standardize": standardize,
            "impute": options.impute,
            "features": made.state,
        },
        notes=(*table.notes, *(test.notes if test is not None else ()), *made.notes),
    )


def _roles(table: Table, options: TableOptions, name: str) -> tuple[str, list[str]]:
    """The label and the features, both by name."""
    if not table.rows:
        raise FileError(f"{name}: the table has columns but no rows")
    if options.label is None:
        raise UsageError(
            f"{name}: a table needs --label COLUMN, the column to predict; its columns are {_listed(table.names)}",
            f"for example --label {table.names[-1]}",
        )
    _known(options.label, table, "--label", name)
    if options.id_column is not None:
        _known(options.id_column, table, "--id", name)
        _groupable(options.id_column, table, name)
    if options.sample_weight is not None:
        _known(options.sample_weight, table, "--sample-weight", name)
    drop = _several(options.drop, table, "--drop", name)
    chosen = _several(options.features, table, "--features", name)
    for option, names in (("--drop", drop), ("--features", chosen)):
        if options.label in names:
            raise UsageError(f"{options.label} is the --label and stands in {option} too", "take it out of one of them")
    both = [key for key in chosen if key in drop]
    if both:
        raise UsageError(f"{both[0]} stands both in --features and in --drop", "take it out of one of them")
    out = {options.label, *drop, *(one for one in (options.id_column, options.sample_weight) if one is not None)}
    features = chosen or [key for key in table.names if key not in out]
    if not features:
        raise UsageError(f"{name}: no feature is left: the columns are {_listed(table.names)}", "drop fewer columns")
    return options.label, features


def _several(texts: Sequence[str], table: Table, option: str, name: str) -> list[str]:
    """Names of columns, each a text of its own or with commas between them."""
    found: dict[str, None] = {}
    for text in texts:
        for key in [text] if text in table.columns else [part.strip() for part in text.split(",")]:
            _known(key, table, option, name)
            found[key] = None
    return list(found)


def _known(key: str, table: Table, option: str, name: str) -> None:
    if key in table.columns:
        return
    raise UsageError(
        f"{name}: {option} {key!r} is no column of the table; its columns are {_listed(table.names)}",
        did_you_mean(key, table.names),
    )


def _groupable(key: str, table: Table, name: str) -> None:
    if table.columns[key].kind == "other":
        raise UsageError(f"{name}: column {key} holds {table.columns[key].described} and cannot identify rows")


def _needed_in_test(features: list[str], options: TableOptions, test: Table, test_name: str) -> None:
    needed = [*features, *([] if options.id_column is None else [options.id_column])]
    absent = [key for key in needed if key not in test.columns]
    if absent:
        raise FileError(
            f"{test_name}: the test rows need the columns of the training rows, but {_listed(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not among {_listed(test.names)}"
        )


def _labels(column: Column, label: str, name: str) -> np.ndarray:
    """Labels as ``labels.py`` takes them: numbers or text, none missing."""
    _label_kind(column, label, name)
    missing = column.missing
    if missing.any():
        count = int(missing.sum())
        raise FileError(
            f"{name}: every training row needs a label, but {label} is missing in {count:,} of {len(missing):,} rows: "
            f"the first is row {int(np.argmax(missing))} (counted from 0)",
            "remove these rows, or put them into a file of their own for --test-data",
        )
    return _plain(column.values)


def _test_labels(test: Table, label: str, values: np.ndarray | None, name: str) -> np.ndarray:
    """Codes or responses of the test table, -1 or NaN where a row has no label."""
    column = test.columns.get(label)
    missing = np.ones(test.rows, dtype=bool) if column is None else column.missing
    found = np.full(test.rows, -1, dtype=np.int64) if values is not None else np.full(test.rows, np.nan)
    if column is not None and not missing.all():
        _label_kind(column, label, name)
        present = column.values[~missing]
        if values is not None and values.dtype.kind == "U" and present.dtype.kind != "O":
            present = present.astype(str).astype(object)  # classes 1, 2, 3+ of which the test rows have 1 and 2
        found[~missing] = _encode(_plain(present), values, name, TEST)
    return found


def _label_kind(column: Column, label: str, name: str) -> None:
    if column.kind in ("date", "other"):
        raise FileError(f"{name}: the label {label} must be numbers or text, but it holds {column.described}")


def _plain(values: np.ndarray) -> np.ndarray:
    return values.astype(str) if values.dtype.kind == "O" else values


def _encode(y: np.ndarray, values: np.ndarray | None, name: str, where: str) -> np.ndarray:
    return responses(y, name, where) if values is None else encode(y, values, name, where)


def _rows(table: Table, rows: np.ndarray) -> Table:
    """Some rows of every column."""
    columns = {
        key: one if one.kind == "other" else Column(one.kind, one.values[rows], one.described)
        for key, one in table.columns.items()
    }
    return Table(columns, len(rows))


def _named(table: Table) -> dict[str, np.ndarray]:
    return {key: column.values for key, column in table.columns.items() if column.kind != "other"}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_COLUMNS:,} more" if len(names) > SHOWN_COLUMNS else ""
    return ", ".join(name if name.isprintable() else repr(name) for name in names[:SHOWN_COLUMNS]) + more
