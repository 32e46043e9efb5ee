"""Columns of dates as numbers of days, for ``--date ordinal``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from influence_cli.data import dates
from influence_cli.data.options import ORDINAL, TableOptions
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError


def dates_in_days(
    columns: list[str], train: Table, test: Table, options: TableOptions
) -> tuple[Table, Table, dict[str, str], tuple[str, ...]]:
    """Both tables, with the dates among ``columns`` as days since 1970-01-01 if ``--date ordinal`` is given.

    Also returned are the order of day, month and year of each such column, and notes.  Raises FileError.
    """
    date_columns = [
        key for key in columns if train.columns[key].kind == "date" and train.columns[key].described == "dates"
    ]
    if options.date != ORDINAL or not date_columns:
        return train, test, {}, ()
    notes, known = [], {}
    for key in date_columns:
        texts = sorted(set(train.columns[key].values.tolist()) - {None})
        orders = dates.orders_of(texts) if options.date_order is None else (options.date_order,)
        if dates.are_ambiguous(texts[:100], orders):
            raise FileError(
                f"column {key} holds dates such as {texts[0]!r}, in which day, month and year cannot be told apart",
                f"--date-order {' or '.join(orders)}",
            )
        order = known[key] = orders[0]
        is_one = test is train
        train, test = (
            replace(table, columns={**table.columns, key: in_days(key, table.columns[key], order)})
            for table in (train, test)
        )
        test = train if is_one else test
        short = "; years of two digits are 1969 to 2068" * any(map(dates.has_short_year, texts))
        notes.append(
            f"column {key}: dates as days since 1970-01-01 ({texts[0]!r} is {dates.days_of(texts[0], order):g}){short}"
        )
    return train, test, known, tuple(notes)


def in_days(key: str, column: Column, order: str) -> Column:
    """A column of dates as days since 1970-01-01.  Raises FileError for a text that is not a date in that order."""
    days: dict[str | None, float] = {None: np.nan}
    for text in sorted(set(column.values.tolist()) - {None}):
        day = dates.days_of(str(text), order)
        if day is None:
            raise FileError(
                f"column {key} holds {text!r}, which is no date in the order {order} of day, month and year",
                "--date-order names another one: dmy, mdy or ymd",
            )
        days[text] = day
    return Column("numeric", np.array([days[text] for text in column.values.tolist()]), "dates")
