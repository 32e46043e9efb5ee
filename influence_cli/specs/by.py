"""Groups by the values of columns: each value, each combination of several, or equal parts of a numeric range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from influence_cli.errors import UsageError
from influence_cli.specs.columns import MOST_GROUPS, Condition, conditions_by_value, numbers_of, printed_number
from influence_cli.specs.keys import Key


def conditions_by_keys(
    columns: Mapping[str, np.ndarray], keys: Sequence[Key]
) -> list[tuple[tuple[Condition, ...], np.ndarray]]:
    """The groups as conditions and sorted rows, in the order of the first column's values, then of the next column's.

    Combinations without rows are left out.  Raises UsageError where a column cannot be grouped by.
    """
    parts_found: list[tuple[tuple[Condition, ...], np.ndarray]] = []
    for key in keys:
        parts = conditions_by_value(columns, key.column) if key.bins is None else _by_bins(columns, key)
        if not parts_found:
            parts_found = [((condition,), rows) for condition, rows in parts]
            continue
        pairs = [
            ((*known, condition), np.intersect1d(before, rows, assume_unique=True))
            for known, before in parts_found
            for condition, rows in parts
        ]
        parts_found = [(conditions, rows) for conditions, rows in pairs if len(rows)]
        if len(parts_found) > MOST_GROUPS:
            raise UsageError(f"these columns have over {MOST_GROUPS:,} combinations of values", hint="name fewer")
    return parts_found


def _by_bins(columns: Mapping[str, np.ndarray], key: Key) -> list[tuple[Condition, np.ndarray]]:
    """Ranges with equally many rows as far as equal values allow; each from its smallest to its largest value."""
    assert key.bins is not None
    values = numbers_of(columns, key.column)
    known = np.flatnonzero(~np.isnan(values))
    ordered = np.sort(values[known])
    if not len(ordered) or ordered[0] == ordered[-1]:
        raise UsageError(f"column {key.column} has fewer than two different numbers: there is nothing to cut")
    which = np.searchsorted(_ends(ordered, key.bins), values[known], side="left")
    bins = []
    for part in np.unique(which).tolist():
        rows = known[which == part]
        low, high = values[rows].min(), values[rows].max()
        bins.append((Condition(key.column, None, printed_number(low), printed_number(high)), rows))
    return bins


def _ends(ordered: np.ndarray, bins: int) -> np.ndarray:
    """The largest value of each part of these sorted values.  These are the values at equal shares; if equal values
    fill several shares, each end is instead chosen from below, nearest to an equal share of the remaining rows."""
    places = np.arange(1, bins + 1) * len(ordered) / bins
    ends = np.unique(ordered[np.ceil(places).astype(int) - 1])
    different, first = np.unique(ordered, return_index=True)
    count = min(bins, len(different))
    if len(ends) == count:
        return ends
    last, chosen = 0, []
    for left in range(count, 1, -1):
        share = (len(ordered) - first[last]) / left
        free = first[last + 1 : len(first) + 2 - left]
        last += 1 + int(np.abs(free - first[last] - share).argmin())
        chosen.append(different[last - 1])
    return np.array([*chosen, different[-1]])
