"""A table and the options about it -> a ``Dataset``: label, features, and the columns that define groups."""

from __future__ import annotations

import numpy as np

from influence_cli.data import rates
from influence_cli.data.dataset import Dataset
from influence_cli.data.features import fit_features
from influence_cli.data.frames import FeatureMaker
from influence_cli.data.options import TableOptions
from influence_cli.data.prepare import TEST, Parts, Task, coded, prepare
from influence_cli.data.roles import listed, roles_of
from influence_cli.data.table import Column, ColumnValues, Table
from influence_cli.errors import FileError, about


def prepare_table(
    tables: tuple[Table, Table | None],
    options: TableOptions,
    name: str,
    *,
    task: Task,
    test_fraction: float,
    seed: int,
    maker: FeatureMaker | None = None,
) -> Dataset:
    """The data set made of ``tables``: the training rows (or all rows), and the test rows if they are separate.

    If given, ``maker`` makes the features instead of ginf.  Both parts keep the row order of the file.  Raises
    FileError or UsageError.
    """
    with about(name):
        source = TableSource(*tables, options, maker, is_regression=task == "regression")
        return prepare(source, name, task=task, test_fraction=test_fraction, seed=seed)


TOTALS = frozenset((
    *("total", "totals", "grand total", "subtotal", "column total", "sum", "all", "overall", "mean", "average", "avg"),
    *("gesamt", "summe", "insgesamt", "mittelwert", "total général", "moyenne", "totale", "totaal"),
))  # fmt: skip
"""Texts, in lower case, by which a table names a last row of sums or means."""
FEWEST_TOTALLED = 4
"""Least number of rows, with the last one, for which a sum is not taken for a coincidence."""


class TableSource:
    """A table as a ``Source``.  Raises FileError or UsageError."""

    def __init__(
        self,
        table: Table,
        test: Table | None,
        options: TableOptions,
        maker: FeatureMaker | None,
        *,
        is_regression: bool = False,
    ) -> None:
        roles = roles_of(table, options, choose=maker is None and options.table_rules > 1)
        self.label = roles.label
        self.features = roles.features if maker is None else maker.wanted(table, roles.features)
        self.options, self.maker, self.is_regression = options, maker, is_regression
        notes = [
            *table.notes,
            *(test.notes if test is not None and test is not table else ()),
            *roles.notes,
            *rates.said(options),
        ]
        if test is not None:
            self._check_tests(test)
        if options.drop_missing:
            needed = [*self.features, self.label, *(key for key in options.weights if key in table.columns)]
            if test is table or test is None:
                table, said = _complete(table, needed)
                test = table if test is not None else None
            else:
                table, said = _complete(table, needed)
                test, more = _complete(test, self.features)
                said += tuple(f"{options.test_data}: {note}" for note in more)
            notes += said
        _refuse_total(table)
        if table.rows < 2:
            raise FileError(f"at least 2 rows are needed, but found {table.rows}")
        self.table, self.test, self.notes = table, test, tuple(notes)
        self.has_tests = test is not None

    def labels(self, where: str) -> np.ndarray:
        column = self.table.columns[self.label]
        _check_label(column, self.label)
        missing, values = column.missing, column.values
        if self.is_regression and column.kind == "numeric" and (values == values[0]).all():
            raise FileError(f"the label {self.label} is {values[0]:g} in every row: there is nothing to explain")
        if missing.any():
            count, first = int(missing.sum()), int(self.table.record_numbers[np.argmax(missing)])
            raise FileError(
                f"every training row needs a label, but {self.label} is missing in {count:,} of {len(missing):,} rows: "
                f"the first is record {first:,}",
                "--drop-missing leaves these rows out, or put them into a file of their own for --test-data",
            )
        if self.options.per is not None:
            return rates.quotient(values, self.table.columns[self.options.per], self.table.record_numbers, self.options)
        return _plain(values)

    def test_labels(self, values: np.ndarray | None) -> np.ndarray:
        assert self.test is not None
        with about(self.options.test_data or ""):
            column = self.test.columns.get(self.label)
            missing = np.ones(self.test.rows, dtype=bool) if column is None else column.missing
            labels = (
                np.full(self.test.rows, -1, dtype=np.int64) if values is not None else np.full(len(missing), np.nan)
            )
            if column is not None and not missing.all():
                _check_label(column, self.label)
                present = column.values[~missing]
                if values is not None and values.dtype.kind == "U" and present.dtype.kind != "O":
                    present = present.astype(str).astype(object)  # classes 1, 2, 3+, of which only 1 and 2 are here
                if self.options.per is not None:
                    known = self.test.take(np.flatnonzero(~missing))
                    per = known.columns[self.options.per]
                    present = rates.quotient(present, per, known.record_numbers, self.options)
                labels[~missing] = coded(_plain(present), values, TEST)
            return labels

    def parts(self, train: np.ndarray, test: np.ndarray | None) -> Parts:
        whole = len(train) == self.table.rows
        table = self.table if whole else self.table.take(train)
        if test is None:
            assert self.test is not None
            rest = self.test
        else:
            rest = table if whole and len(test) == len(train) else self.table.take(test)
        standardize = self.options.standardize is not False and self.maker is None
        if self.maker is None:
            made = fit_features(self.features, table, rest, self.options)
        else:
            made = self.maker.of_tables(self.features, table, rest)
        columns = (
            ColumnValues(_named(table, table) | {key: values for key, (values, _) in made.restored.items()}),
            ColumnValues(_named(rest, table) | {key: values for key, (_, values) in made.restored.items()}),
        )
        return Parts(
            made,
            columns=columns,
            records=(table.record_numbers, rest.record_numbers),
            id_column=self.options.id_column,
            preparation={
                "label": self.label,
                **({} if self.options.per is None else {"per": self.options.per}),
                "standardize": standardize,
                "impute": self.options.impute,
                "features": made.state,
                **({} if self.options.coding is None else {"coding": self.options.coding}),
            },
        )

    def _check_tests(self, test: Table) -> None:
        with about(self.options.test_data or ""):
            if not test.rows:
                raise FileError("at least 1 test row is needed, but found none")
            needed = [*self.features, *([] if self.options.id_column is None else [self.options.id_column])]
            if self.options.per is not None and self.label in test.columns:
                needed.append(self.options.per)
            absent = [key for key in needed if key not in test.columns]
            if absent:
                raise FileError(
                    f"the test rows need the columns of the training rows, but {listed(absent)} "
                    f"{'is' if len(absent) == 1 else 'are'} not among {listed(test.names)}"
                )


def _complete(table: Table, columns: list[str]) -> tuple[Table, tuple[str, ...]]:
    """The rows in which no value of ``columns`` is missing, and a note about the rows left out."""
    whole, counts = np.ones(table.rows, dtype=bool), []
    for key in dict.fromkeys(columns):
        if table.columns[key].kind != "other" and (missing := table.columns[key].missing).any():
            counts.append((key, int(missing.sum())))
            whole &= ~missing
    if whole.all():
        return table, ()
    where = ", ".join(f"{key} in {count:,}" for key, count in counts[:10])
    more = f" and {len(counts) - 10} more columns" if len(counts) > 10 else ""
    out = table.rows - int(whole.sum())
    note = f"{out:,} of {table.rows:,} rows are left out because values are missing: {where}{more}"
    return table.take(np.flatnonzero(whole)), (note,)


def _refuse_total(table: Table) -> None:
    """Raises FileError if the last row has the name of a total, and a number that is the sum or mean of the others."""
    last = slice(table.rows - 1, table.rows)
    named = [
        (key, one.part(last)[0])
        for key, one in table.columns.items()
        if one.kind == "text" and str(one.part(last)[0]).lower() in TOTALS
    ]
    if not named or table.rows < FEWEST_TOTALLED:
        return
    for key, column in table.columns.items():
        if column.kind != "numeric":
            continue
        *others, number = np.asarray(column.values, dtype=np.float64)
        if number and any(np.isclose(number, figure(others), rtol=1e-9) for figure in (np.nansum, np.nanmean)):
            raise FileError(
                f"record {int(table.record_numbers[-1]):,}, the last one, is no row but adds the others up: its"
                f" {named[0][0]} is {named[0][1]!r}, and its {key} is their sum or mean",
                "leave it out of the file",
            )


def _check_label(column: Column, label: str) -> None:
    if column.kind in ("date", "other"):
        raise FileError(f"the label {label} must be numbers or text, but it holds {column.described}")


def _plain(values: np.ndarray) -> np.ndarray:
    return values.astype(str) if values.dtype.kind == "O" else values


def _named(table: Table, train: Table) -> dict[str, Column]:
    """The columns of ``table`` that the training rows have too, without those of the kind ``other``."""
    return {key: one for key, one in table.columns.items() if one.kind != "other" and key in train.columns}
