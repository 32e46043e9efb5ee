"""The columns of ``by:`` groups: ``site,age:5`` becomes frozen objects."""

from __future__ import annotations

import re
from dataclasses import dataclass

from influence_cli.errors import UsageError
from influence_cli.specs.columns import MOST_GROUPS, named, piece


@dataclass(frozen=True)
class Key:
    """A column to group by: each of its values, or ``bins`` parts of its numbers with equally many rows."""

    column: str
    bins: int | None = None

    @property
    def text(self) -> str:
        name = named(self.column, ",:")
        return name if self.bins is None else f"{name}:{self.bins}"


def parse_keys(text: str) -> tuple[Key, ...]:
    """``NAME[:BINS],...``: columns to group by; a name that contains a comma is written in double quotes."""
    keys: list[Key] = []
    rest = text
    while True:
        name, rest = piece(rest, ",")
        bins = None
        if rest[:1] == ":":  # after a quoted name
            tail, _, rest = rest[1:].partition(",")
            rest = f",{rest}" if _ else ""
            name, tail = name, tail.strip()
            bins = _bins(tail)
        elif (plain := re.fullmatch(r"(.+):(\d+)", name)) and not text.lstrip().startswith('"'):
            name, bins = plain[1].strip(), _bins(plain[2])
        if not name or (rest and rest[0] != ","):
            raise UsageError(f"expected the names of columns with commas between them, found '{text}'")
        keys.append(Key(name, bins))
        if not rest:
            return tuple(keys)
        rest = rest[1:]


def _bins(text: str) -> int:
    if not text.isdigit() or not 2 <= int(text) <= MOST_GROUPS:
        raise UsageError(f"expected a number of parts from 2 on behind the column, found '{text}'")
    return int(text)
