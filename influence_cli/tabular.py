"""Records in the forms that notebooks need: the base class of what the analyses return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

SHOWN = 20
"""Number of a result's records that a notebook shows."""


class Tabular(ABC):
    """A result that can be converted to the forms that notebooks need."""

    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """The records, one list or array per key, NaN where there is no value."""

    def records(self) -> list[dict[str, Any]]:
        """One dictionary per record, with plain Python values, None where there is no value."""
        columns = self.columns()
        lists = [_plain(values) for values in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]

    def __repr__(self) -> str:
        """One line, without the figures of all groups or anybody's rows."""
        columns = self.columns()
        return f"<{type(self).__name__}: {_length(columns):,} records of {', '.join(columns)}>"

    def _repr_html_(self) -> str:
        """The first records as a table, for notebooks."""
        columns = self.columns()
        shown = min(SHOWN, _length(columns))
        head = "".join(f"<th>{escape(str(name))}</th>" for name in columns)
        rows = ["".join(f"<td>{escape(_brief(values[at]))}</td>" for values in columns.values()) for at in range(shown)]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        rest = _length(columns) - shown
        more = f"<p>{rest:,} more records: .to_pandas() has all</p>" if rest else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``; pandas has to be installed."""
        import pandas

        return pandas.DataFrame(self.columns())

    def to_polars(self) -> Any:
        """A ``polars.DataFrame``; polars has to be installed."""
        import polars

        return polars.DataFrame(self.columns(), strict=False)


@dataclass(frozen=True, repr=False)
class Records(Tabular):
    """Records that are already few: one dictionary each (``compare``, ``select``, ``train``)."""

    rows: tuple[dict[str, Any], ...]
    config: dict[str, Any] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """The records, one column per key, in the order of the first record's keys."""
        keys = list(self.rows[0]) if self.rows else []
        return {key: [row[key] for row in self.rows] for key in keys}


def _length(columns: dict[str, Any]) -> int:
    return len(next(iter(columns.values()), ()))


def _brief(value: Any) -> str:
    """A cell of a notebook's table: four digits of a number, empty for a missing value."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4g}"
    return "" if value is None else str(value)


def _plain(values: Any) -> list[Any]:
    """Values as a list of plain Python values, None for NaN."""
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [None if isinstance(value, float) and value != value else value for value in plain]
