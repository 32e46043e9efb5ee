"""Rows by the names that their file gives them: ``record:12``, ``id:P021``, several separated by commas.

An identifier that contains a comma or a quote is written in double quotes, with a quote inside written twice.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.errors import UsageError, composed, did_you_mean

RECORD, ID = "record", "id"
SPELLINGS = {"record": RECORD, "records": RECORD, "id": ID, "ids": ID}
"""The prefix of a spec -> the kind of name that it asks by."""
LARGEST_GUESSED = 100_000
"""Number of identifiers up to which the nearest one to a misspelt name is searched for."""


@dataclass(frozen=True)
class RowNames:
    """Names of the training or test rows (r,); ``called`` says which of these.

    ``records`` are their numbers in the file, ``ids`` their identifiers (int64, float64 or objects), None where the
    model has none; ``others`` are the names of the rows of the other part.
    """

    called: str
    records: np.ndarray | None = None
    ids: np.ndarray | None = None
    others: RowNames | None = None

    def rows(self, by: str, names: Sequence[str]) -> np.ndarray:
        """The row numbers (k,) of these names, in the order given.  Raises UsageError for an unknown name."""
        names_known = self._own(by)
        if names_known is None:
            if by == ID:
                raise UsageError(
                    "this model has no identifiers", hint="train it with --id COLUMN, or ask by record: or row number"
                )
            raise UsageError(
                "this model does not know the records of its file", hint="train it again, or ask by row number"
            )
        place = {name: row for row, name in enumerate(names_known)}
        places = [place.get(name, -1) for name in names]
        if -1 in places:
            raise self._unknown(by, names[places.index(-1)], names_known)
        return np.array(places, dtype=np.int64)

    def _own(self, by: str) -> list[str | None] | None:
        values = self.records if by == RECORD else self.ids
        return None if values is None else [printed(value) for value in values.tolist()]

    def _unknown(self, by: str, name: str, names_known: Sequence[str | None]) -> UsageError:
        what = f"record {name}" if by == RECORD else f"the identifier {name!r}"
        others = [] if self.others is None else self.others._own(by) or []
        if name in others:
            assert self.others is not None
            option = "--group" if self.others.called == "training rows" else "--test"
            spec = f"{by}s:{written([name])}" if option == "--group" else f"{by}:{written([name])}"
            return UsageError(
                f"{what} is among the {self.others.called}, not the {self.called}", f"{option} {spec} asks for it there"
            )
        known = [one for one in names_known if one is not None]
        if by == RECORD:
            both = [int(one) for one in [*known, *(one for one in others if one is not None)]]
            return UsageError(f"there is no {what}: the records are {min(both):,} to {max(both):,}")
        hint = did_you_mean(name, [written([one]) for one in known]) if len(known) <= LARGEST_GUESSED else None
        return UsageError(f"no row of the {self.called} has {what}", hint)


def parse_names(by: str, text: str) -> tuple[str, ...]:
    """The names after ``record:`` or ``id:``, each once.  Raises UsageError."""
    try:
        items = next(csv.reader([composed(text)], skipinitialspace=True, strict=True), [])
    except csv.Error:
        raise UsageError(f"expected a quote at the end of {text}") from None
    names = [item.strip() for item in items]
    if not names or not all(names):
        raise UsageError(f"expected {by}:NAME, or several with commas between them, found no name")
    if by == RECORD:
        for name in names:
            if not (name.isascii() and name.isdigit() and int(name) > 0):
                raise UsageError(f"expected the number of a record, 1 or more, found '{name}'")
        names = [str(int(name)) for name in names]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{by} {name} is listed twice; expected each once")
    return tuple(names)


def written(names: Sequence[str]) -> str:
    """Names as they are written in a spec."""
    return ",".join(f'"{name.replace(chr(34), 2 * chr(34))}"' if set(name) & set(',"') else name for name in names)


def printed(value: Any) -> str | None:
    """An identifier as a person types it; None where there is none."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)
