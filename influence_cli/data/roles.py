"""Which column of a table is the label, which are features, and which are left out.

A column that numbers or names the rows identifies each training row and says nothing about others: it is not a feature
unless it is asked for (``--keep``, ``--features``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

import numpy as np

from influence_cli.data.options import TableOptions
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError, UsageError, composed, did_you_mean

SHOWN_COLUMNS = 20
SHOWN_DUPLICATES = 3
ROW_NAMES = frozenset({"rownames", "row.names", "row_names", "rownum", "row_number", "rowid", "row_id", "index", "idx"})
"""Names, in lower case, of columns that name the rows if their values all differ."""
UNNAMED = re.compile(r"Unnamed: \d+(_level_\d+)?|__index_level_\d+__|\.\.\.\d+")
"""Names that programs give to a column without a name."""
LEAST_DIFFERENT = 0.95
"""Least share of distinct values with which a text column is taken for names of rows."""
COUNTS = "it numbers the rows"
NO_VALUE = "it has no value in any row"
FEW_ROWS = 20
"""With fewer rows than this, all values must be distinct instead of that share of them."""


@dataclass(frozen=True)
class Roles:
    """The names of the label and the features; ``left_out`` maps each column that was left out to the reason."""

    label: str
    features: list[str]
    left_out: dict[str, str]
    notes: tuple[str, ...]


def roles_of(table: Table, options: TableOptions, *, choose: bool = True) -> Roles:
    """The roles of the columns; without ``choose`` no column is left out automatically.

    Raises UsageError or FileError.
    """
    if not table.rows:
        raise FileError("the table has columns but no rows", "at least two rows must follow the line of names")
    if options.label is None:
        raise UsageError(
            f"a table needs --label COLUMN, the column to predict; its columns are {listed(table.names)}",
            f"for example --label {quote(table.names[-1])}",
        )
    label = known(options.label, table, "--label")
    others = [known(one, table, option) for option, one in options.beside if one is not None]
    if options.id_column is not None:
        _check_ids(table.columns[others[0]], others[0])
    drop, chosen, keep = (
        several(texts, table, option)
        for option, texts in (("--drop", options.drop), ("--features", options.features), ("--keep", options.keep))
    )
    several(options.categorical, table, "--categorical")
    _check_disjoint(label, drop, chosen, keep)
    if options.per in (label, *chosen, *keep):
        raise UsageError(f"{options.per} is what the response is divided by: it cannot be response or feature too")
    if chosen:
        return Roles(label, list(dict.fromkeys([*chosen, *keep])), {}, ())
    out = {label, *drop, *others}
    left_out = {}
    notes = []
    for key in table.names:
        if key in out or not choose:
            continue
        reason = None if key in keep else _no_feature(key, table)
        if reason is not None:
            left_out[key] = reason
            remedy = "" if reason == NO_VALUE else f" (--keep {quote(key)} takes it)"
            notes.append(f"column {key}: left out as a feature: {reason}{remedy}")
        elif key not in keep and (doubt := _doubt(key, table.columns[key])) is not None:
            notes.append(f"column {key}: {doubt}")
    features = [key for key in table.names if key not in out and key not in left_out]
    if not features and list(left_out.values()) == [COUNTS]:
        features = list(left_out)
        left_out, notes = {}, [f"column {features[0]}: {COUNTS}, but there is no other feature"]
    if not features:
        why = "".join(f"; {key} is left out: {reason}" for key, reason in left_out.items())
        raise UsageError(
            f"no feature is left: the columns are {listed(table.names)}{why}",
            f"--keep {quote(next(iter(left_out)))} takes it all the same" if left_out else "drop fewer columns",
        )
    return Roles(label, features, left_out, tuple(notes))


def _check_disjoint(label: str, drop: list[str], chosen: list[str], keep: list[str]) -> None:
    for option, names in (("--drop", drop), ("--features", chosen), ("--keep", keep)):
        if label in names:
            raise UsageError(f"{label} is the --label and stands in {option} too", "take it out of one of them")
    for option, names in (("--features", chosen), ("--keep", keep)):
        both = [key for key in names if key in drop]
        if both:
            raise UsageError(f"{both[0]} stands both in {option} and in --drop", "take it out of one of them")


def several(texts: Sequence[str], table: Table, option: str) -> list[str]:
    """The columns that an option names; each text is one name, or several with commas.  Raises UsageError."""
    columns: dict[str, None] = {}
    for text in map(composed, texts):
        for key in [text] if text in table.columns else [part.strip() for part in text.split(",")]:
            columns[known(key, table, option)] = None
    return list(columns)


def known(key: str, table: Table, option: str) -> str:
    """The name ``key`` as the table has it.  Raises UsageError if there is no such column."""
    if composed(key) in table.columns:
        return composed(key)
    raise UsageError(
        f"{option} {key!r} is no column of the table; its columns are {listed(table.names)}",
        did_you_mean(key, table.names, "the first line of the file must name the columns"),
    )


def listed(names: Sequence[str]) -> str:
    """The names with commas between them; at most ``SHOWN_COLUMNS`` are listed."""
    more = f" and {len(names) - SHOWN_COLUMNS:,} more" if len(names) > SHOWN_COLUMNS else ""
    return ", ".join(name if name.isprintable() else repr(name) for name in names[:SHOWN_COLUMNS]) + more


def _no_feature(key: str, table: Table) -> str | None:
    """Why a column is not a feature, or None if it is one."""
    column = table.columns[key]
    if key in table.index:
        return "it is the index that was stored with the table"
    if column.kind in ("date", "other") or column.refusal is not None:
        return None  # as a feature it is refused later, by an error that names it
    if column.missing.all():
        return NO_VALUE
    if column.are_whole and _counts_rows(column.values):
        return COUNTS
    if UNNAMED.fullmatch(key):
        return "it has no name of its own"
    if key.lower() in ROW_NAMES and (column.kind == "text" or column.are_whole) and _all_differ(column):
        return "it names the rows"
    if column.kind == "text":
        different, rows = _texts_in(column)
        if different > 1 and different >= (rows if rows < FEW_ROWS else LEAST_DIFFERENT * rows):
            share = "every row" if different == rows else "nearly every row"
            return f"{share} has another text, so that it names rows and is no category"
    return None


def _doubt(key: str, column: Column) -> str | None:
    """A note about a feature that possibly should not be one, or None."""
    if column.are_whole and _all_differ(column):
        return f"kept as a number, though every row has another whole number (--id {quote(key)} if it names the rows)"
    if column.kind == "text" and column.refusal is None:
        different, rows = _texts_in(column)
        if rows >= FEW_ROWS and 2 * different >= rows:
            remedy = f"--drop {quote(key)} leaves it out"
            return f"{different:,} different texts in {rows:,} rows, a feature each ({remedy})"
    return None


def _texts_in(column: Column) -> tuple[int, int]:
    """The number of distinct texts, and the number of rows that have one."""
    present = column.values[~column.missing].tolist()
    return len(set(present)), len(present)


def _counts_rows(values: np.ndarray) -> bool:
    """Whether whole numbers are 0, 1, 2, ... or 1, 2, 3, ... in some order."""
    if len(values) < 2 or np.isnan(values).any() or values.min() not in (0, 1):
        return False
    return bool(values.max() - values.min() == len(values) - 1 and len(np.unique(values)) == len(values))


def _all_differ(column: Column) -> bool:
    if column.values.dtype.kind == "O":
        return len(set(column.values.tolist())) == len(column.values)
    if column.are_whole and column.values.max() - column.values.min() + 1 < len(column.values):
        return False  # the range holds fewer whole numbers than there are rows
    return len(np.unique(column.values)) == len(column.values)


def _check_ids(column: Column, key: str) -> None:
    """Raises UsageError or FileError for a column that cannot identify rows."""
    if column.kind == "other":
        raise UsageError(f"column {key} holds {column.described} and cannot identify rows")
    present = column.values[~column.missing]
    different, first, counts = np.unique(present.astype(str), return_index=True, return_counts=True)
    if len(different) == len(present):
        return
    order = np.argsort(first[counts > 1])
    twice = [
        f"{text} ({count:,} rows)"
        for text, count in zip(different[counts > 1][order][:SHOWN_DUPLICATES], counts[counts > 1][order], strict=False)
    ]
    more = int((counts > 1).sum()) - len(twice)
    raise FileError(
        f"--id {key}: identifiers must differ, but {', '.join(twice)}{f' and {more:,} more' if more else ''} "
        f"{'occurs' if len(twice) == 1 and not more else 'occur'} more than once",
        f"name a column with one value a row; groups of rows with one value are {quote(f'by:{key}')}",
    )
