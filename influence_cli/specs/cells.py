"""Columns cut into cells, and the conditions of ``column:`` groups that name ranges of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from influence_cli.core.selection.causes import LARGEST_SHARE, Cells
from influence_cli.data.dataset import Dataset
from influence_cli.errors import UsageError
from influence_cli.specs.columns import DATE, Condition, column_named, different, missing_rows, printed_number
from influence_cli.specs.keys import Key, parse_keys

BINS = 8
"""Parts with equally many rows into which numbers and dates are cut; every range of adjacent parts is a condition."""
MOST_VALUES = 100
"""Number of values of a text column, the most frequent ones, that become conditions."""


@dataclass(frozen=True)
class CutColumn:
    """A column's cells, and the conditions that correspond to its spans, in the same order."""

    name: str
    cells: Cells
    conditions: tuple[Condition, ...]


def cut_columns(
    columns: Mapping[str, np.ndarray], asked: str | None, least: int, without: Collection[str | None] = ()
) -> list[CutColumn]:
    """The requested columns (``NAME[:BINS],...``), or else all except ``without``, as far as they have conditions that
    at least ``least`` rows meet, but not all rows.  Raises UsageError where a name is unknown or no column is left."""
    if not columns:
        raise UsageError(
            "this data has no named columns to describe groups by", hint="train on a table: .csv, .parquet"
        )
    keys = [Key(name) for name in columns if name not in without] if asked is None else parse_keys(asked)
    each = {key.column: (column_named(columns, key.column, "--columns "), least, key.bins or BINS) for key in keys}
    rows = len(next(iter(columns.values())))
    if not 1 <= least < rows:
        raise UsageError(f"--support: {least:,} rows are all of them", hint="for example --support 5%")
    if least > (most := int(LARGEST_SHARE * rows)):
        raise UsageError(
            f"--support: a described group has at most half of the {rows:,} rows, {most:,}, and at least {least:,} are"
            " asked for",
            hint="for example --support 5%",
        )
    cuts = [cut for name, how in each.items() if (cut := _cut(name, *how)) is not None]
    if not cuts:
        raise UsageError(f"no column has values or ranges that at least {least:,} rows share", hint="lower --support")
    return cuts


def plain_names(data: Dataset) -> tuple[str | None, ...]:
    """The columns that describe groups only on request: the label, which repeats what is known, and row names."""
    return (data.preparation or {}).get("label"), data.id_column


def _cut(name: str, values: np.ndarray, least: int, bins: int) -> CutColumn | None:
    missing = missing_rows(values)
    shown, places = different(values[~missing])
    if values.dtype.kind == "f" and not np.isfinite(shown).all():
        return None
    counts = np.bincount(places, minlength=len(shown))
    if values.dtype.kind == "O" and not _are_dates(shown):
        codes, conditions, spans = _by_value(name, shown, places, counts, least)
    else:
        codes, conditions, spans = _by_range(name, shown, places, counts, bins)
    whole = np.empty(len(values), dtype=np.int64)
    whole[~missing] = codes
    if missing.any():
        whole[missing] = codes.max(initial=-1) + 1
        spans.append((int(whole.max()), int(whole.max())))
        conditions.append(Condition(name, ""))
    per_cell = np.concatenate([[0], np.cumsum(np.bincount(whole))])
    rows = [int(per_cell[high + 1] - per_cell[low]) for low, high in spans]
    kept = [at for at, count in enumerate(rows) if least <= count < len(values)]
    if not kept:
        return None
    return CutColumn(name, Cells(whole, np.array(spans)[kept]), tuple(conditions[at] for at in kept))


def _by_value(
    name: str, shown: np.ndarray, codes: np.ndarray, counts: np.ndarray, least: int
) -> tuple[np.ndarray, list[Condition], list[tuple[int, int]]]:
    """One cell per frequent value, and one for all others: codes, conditions, spans."""
    often = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    often = np.sort(often[counts[often] >= least])
    cell = np.full(len(shown), len(often))
    cell[often] = np.arange(len(often))
    return cell[codes], [Condition(name, shown[at]) for at in often], [(at, at) for at in range(len(often))]


def _by_range(
    name: str, shown: np.ndarray, codes: np.ndarray, counts: np.ndarray, bins: int
) -> tuple[np.ndarray, list[Condition], list[tuple[int, int]]]:
    """Cells of equally many rows as far as equal values allow, and every range of adjacent cells."""
    cell = np.arange(len(shown))
    if len(shown) > bins:
        # A value belongs to the cell in which the middle one of its rows lies.
        middle = np.cumsum(counts) - (counts + 1) / 2
        cell = np.unique((middle * bins / counts.sum()).astype(np.int64), return_inverse=True)[1]
    first = np.searchsorted(cell, np.arange(cell.max(initial=-1) + 1))
    last = np.append(first[1:], len(shown)) - 1
    spans = [(low, high) for low in range(len(first)) for high in range(low, len(first))]
    conditions = [_range(name, shown[first[low]], shown[last[high]]) for low, high in spans]
    return cell[codes], conditions, spans


def _are_dates(shown: np.ndarray) -> bool:
    """Whether texts are dates of one form, so that their order is that of the texts."""
    return len({len(text) for text in shown}) == 1 and all(DATE.fullmatch(text) for text in shown)


def _range(name: str, low: object, high: object) -> Condition:
    ends = printed_number(low), printed_number(high)
    return Condition(name, ends[0]) if low == high else Condition(name, None, *ends)
