"""The conditions of ``column:`` groups: ``site=A,age=60..75`` becomes frozen objects, and with the columns rows.

A comma joins conditions where ``NAME=`` follows it; so does ``&``, which must be quoted in a shell.  A name or a value
is written in double quotes if it contains ``=``, ``&``, ``..``, a quote (written twice) or a space at either end.
Nothing is ever evaluated: a condition is a column with a value or with the two ends of a range.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.errors import UsageError, composed, nearest

MANY_VALUES = 20
ROWS_A_VALUE = 5
"""If a column has over MANY_VALUES numbers that each occur in fewer rows than this on average, it is a measurement and
not a grouping."""

MOST_GROUPS = 10_000
"""Limit on the number of groups, more than anybody reads; a column of identifiers has a value for every row."""

SHOWN_VALUES = 10

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?", re.ASCII)
_COMPARED = re.compile(r"[<>]")
_JOINER = re.compile(r'&|,(?=\s*(?:"(?:[^"]|"")*"|[^,=&"]+)=)')
"""What ends a condition: a comma only where a name and ``=`` follow."""
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


@dataclass(frozen=True)
class Condition:
    """``column`` has ``value``; or lies between ``low`` and ``high``, both included, where ``value`` is None.

    ``value`` "" without quotes stands for the rows in which the column is missing.  ``text`` is the canonical spelling.
    """

    column: str
    value: str | None
    low: str = ""
    high: str = ""

    @property
    def text(self) -> str:
        if self.value is not None:
            return f"{named(self.column)}={quoted(self.value) if self.value else ''}"
        return f"{named(self.column)}={self.low}..{self.high}"


def quoted(text: str) -> str:
    """A name or value as it must be written in a condition."""
    plain = text and text == text.strip() and not re.search(r'["=&]|\.\.', text)
    return text if plain else '"' + text.replace('"', '""') + '"'


def named(column: str, ends: str = ",") -> str:
    """A column's name as it must be written where one of the characters ``ends`` would end it."""
    text = quoted(column)
    plain = text.startswith('"') or not any(character in text for character in ends)
    return text if plain else f'"{text}"'


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """``NAME=VALUE,NAME=LOW..HIGH,...`` as sorted conditions, so that their order does not change the spec."""
    conditions: list[Condition] = []
    rest = text
    while True:
        name, rest = piece(rest, "=&")
        if not name or not rest.startswith("="):
            hint = (
                "write a range with its ends, column:NAME=LOW..HIGH; 'column:age=40..' is from 40 on"
                if _COMPARED.search(name)
                else None
            )
            raise UsageError(f"expected column:NAME=VALUE, found no {'name' if not name else '= behind ' + name}", hint)
        conditions.append(_condition(name, *_value(rest[1:])))
        rest = rest[1 + _length(rest[1:]) :]
        if not rest:
            return tuple(sorted(set(conditions), key=lambda condition: condition.text))
        rest = rest[1:]


def rows_where(columns: Mapping[str, np.ndarray], conditions: tuple[Condition, ...]) -> np.ndarray:
    """Sorted numbers of the rows that meet every condition.  Raises UsageError where a name or value is unknown."""
    masks = [_matches(column_named(columns, one.column), one) for one in conditions]
    together = np.logical_and.reduce(masks)
    if not together.any():
        each = ", ".join(f"{one.text} in {mask.sum():,}" for one, mask in zip(conditions, masks, strict=True))
        raise UsageError(f"no training row meets all the conditions ({each})", hint="Leave one of them out.")
    return np.flatnonzero(together)


def conditions_by_value(columns: Mapping[str, np.ndarray], name: str) -> list[tuple[Condition, np.ndarray]]:
    """The values of a column in order, each as a condition with its rows; missing values come last."""
    values = column_named(columns, name)
    missing = missing_rows(values)
    shown, codes = different(values[~missing])
    if len(shown) + missing.any() < 2:
        only = (
            f"the value {printed_number(shown[0])} in every training row"
            if len(shown)
            else "no value in any training row"
        )
        raise UsageError(f"column {name} has {only}: nothing would be left to train on")
    if values.dtype.kind != "O" and len(shown) > MANY_VALUES:
        fractions = values.dtype.kind == "f" and (shown != np.round(shown)).any()
        if fractions or len(shown) * ROWS_A_VALUE > len(values):
            middle = printed_number(shown[len(shown) // 2])
            raise UsageError(
                f"column {name} is a measurement with {len(shown):,} different numbers, not a grouping",
                hint=f"ask for parts, --group {shell(f'by:{quoted(name)}:5')}, or ranges,"
                f" --group {shell(f'column:{quoted(name)}={printed_number(shown[0])}..{middle}')}",
            )
    if len(shown) > MOST_GROUPS:
        raise UsageError(
            f"column {name} has {len(shown):,} different values, and a group for each is more than {MOST_GROUPS:,}",
            hint="Name the values that matter with column:, or write one spec a line into a file for --groups.",
        )
    rows = np.flatnonzero(~missing)
    order = np.argsort(codes, kind="stable")
    parts = np.split(rows[order], np.cumsum(np.bincount(codes, minlength=len(shown)))[:-1]) if len(shown) else []
    conditions = [(Condition(name, printed_number(value)), part) for value, part in zip(shown, parts, strict=True)]
    if missing.any():
        conditions.append((Condition(name, ""), np.flatnonzero(missing)))
    return conditions


def numbers_of(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A column as float64, NaN where missing.  Raises UsageError for text."""
    values = column_named(columns, name)
    if values.dtype.kind == "O":
        raise UsageError(
            f"column {name} holds text, and only numbers are cut into parts",
            hint=f"--group {shell(f'by:{quoted(name)}')}",
        )
    return values.astype(np.float64)


def shell(spec: str) -> str:
    """A spec as it must be typed in a shell."""
    return shlex.quote(spec)


def different(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values in order, and the index of each value among them; text is not sorted row by row."""
    if values.dtype.kind != "O":
        return np.unique(values, return_inverse=True)
    texts = values.tolist()
    shown = sorted(set(texts))
    places = {text: place for place, text in enumerate(shown)}
    return np.array(shown, dtype=object), np.fromiter(map(places.__getitem__, texts), np.int64, len(texts))


def listed(names: list[str], most: int = SHOWN_VALUES) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


# --- parsing ---


def _length(text: str) -> int:
    """Length of the piece at the beginning: to the first joiner outside of quotes, or to the end."""
    match = _QUOTED.match(text.lstrip())
    start = len(text) - len(text.lstrip()) + match.end() if match else 0
    end = _JOINER.search(text, start)
    return len(text) if end is None else end.start()


def piece(text: str, ends: str) -> tuple[str, str]:
    """A quoted or plain piece, and the text after it."""
    text = text.lstrip()
    if match := _QUOTED.match(text):
        return composed(match[1].replace('""', '"')), text[match.end() :].lstrip()
    if text.startswith('"'):
        raise UsageError(f"expected a quote at the end of {text}")
    end = min((at for at in (text.find(character) for character in ends) if at >= 0), default=len(text))
    return composed(text[:end]).strip(), text[end:]


def _value(text: str) -> tuple[str, bool]:
    """The value at the beginning, and whether it was quoted."""
    whole = text[: _length(text)].strip()
    value, rest = piece(whole, "")
    if rest:
        raise UsageError(f"expected a comma or the end behind the quoted value, found '{rest}'")
    return value, whole.startswith('"')


def _condition(name: str, value: str, in_quotes: bool) -> Condition:
    if not in_quotes and ".." in value:
        low, _, high = (part.strip() for part in value.partition(".."))
        if not low and not high:
            raise UsageError(f"expected a range LOW..HIGH for {name}, found no end of it")
        ends = [end for end in (low, high) if end]
        if all(_NUMBER.fullmatch(end) for end in ends):
            if len(ends) == 2 and float(low) > float(high):
                raise UsageError(f"the range {value} of {name} is empty: {low} is larger than {high}")
            return Condition(name, None, low, high)
        if all(DATE.fullmatch(end) for end in ends):
            if len(ends) == 2 and low > high:
                raise UsageError(f"the range {value} of {name} is empty: {low} is later than {high}")
            return Condition(name, None, low, high)
        raise UsageError(
            f"expected numbers or dates (2024-01-31) at the ends of the range {value} of {name}",
            hint=f'If it is one value, put it in quotes: {quoted(name)}="{value}"',
        )
    if in_quotes and not value:
        raise UsageError(f"expected a value for {name}, found an empty one", hint=f"Missing values are {quoted(name)}=")
    return Condition(name, value)


# --- applying ---


def column_named(columns: Mapping[str, np.ndarray], name: str, example: str = "--group by:") -> np.ndarray:
    """The values of a column.  Raises UsageError if no column has that name; the hint applies ``example`` to one."""
    if not columns:
        hint = "Use coherent:, random:, rows:, neighbours: or cluster:."
        raise UsageError("this data has no named columns", hint=hint)
    if name not in columns:
        same = [other for other in columns if composed(other) == name]
        if len(same) == 1:  # from a file written before names were normalised
            return columns[same[0]]
        near = nearest(name, columns)
        option, _, start = example.partition(" ")
        raise UsageError(
            f"expected one of the columns {listed(list(columns), 20)}, found '{name}'",
            hint=f"did you mean {quoted(near)}?"
            if near
            else f"For example: {option} {shell(f'{start}{quoted(_a_grouping(columns))}')}",
        )
    return columns[name]


def _a_grouping(columns: Mapping[str, np.ndarray]) -> str:
    """As an example, the column whose values repeat most, because a column that names rows would be a poor one."""
    return min(columns, key=lambda name: len({str(value) for value in columns[name][:200].tolist()}))


def missing_rows(values: np.ndarray) -> np.ndarray:
    """Which rows have no value, (m,) bool."""
    if values.dtype.kind == "O":
        return _same(values, None)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)


def _same(values: np.ndarray, value: str | None) -> np.ndarray:
    return np.asarray(values == value, dtype=bool)


def _matches(values: np.ndarray, condition: Condition) -> np.ndarray:
    if condition.value is None:
        return _in_range(values, condition)
    if not condition.value:
        mask = missing_rows(values)
        if not mask.any():
            raise UsageError(f"column {condition.column} is missing in no training row")
        return mask
    if values.dtype.kind == "O":
        mask = _same(values, condition.value)
        if not mask.any():
            mask = np.array([value is not None and composed(value) == condition.value for value in values.tolist()])
        if not mask.any():
            known = sorted({value for value in values.tolist() if value is not None})
            near = nearest(condition.value, known)
            raise UsageError(
                f"no training row has {condition.text}; the values are {listed(known)}",
                hint=f"did you mean {quoted(condition.column)}={quoted(near)}?" if near else None,
            )
        return mask
    if not _NUMBER.fullmatch(condition.value):
        raise UsageError(f"column {condition.column} holds numbers, and '{condition.value}' is none")
    mask = values == _number(condition.value)
    if not mask.any():
        finite = values[~missing_rows(values)]
        between = (
            f"; its numbers lie between {printed_number(finite.min())} and {printed_number(finite.max())}"
            if len(finite)
            else ""
        )
        raise UsageError(
            f"no training row has {condition.text}{between}",
            hint=f"For a range: --group {shell(f'column:{quoted(condition.column)}=LOW..HIGH')}",
        )
    return mask


def _in_range(values: np.ndarray, condition: Condition) -> np.ndarray:
    ends = [end for end in (condition.low, condition.high) if end]
    mask = ~missing_rows(values)
    if values.dtype.kind == "O":
        present = values[mask].tolist()
        if not all(DATE.fullmatch(end) for end in ends) or not all(map(DATE.fullmatch, present)):
            raise UsageError(
                f"column {condition.column} holds text, and a range needs numbers or dates (2024-01-31)",
                hint=f'If it is one value, put it in quotes: "{condition.low}..{condition.high}"',
            )
        # A date is in the range if it begins like an end of it: ..2024-01-31 includes the hours of that day.
        inside = [
            (not condition.low or value >= condition.low)
            and (not condition.high or value[: len(condition.high)] <= condition.high)
            for value in present
        ]
        mask[mask] = inside
    elif not all(_NUMBER.fullmatch(end) for end in ends):
        raise UsageError(f"column {condition.column} holds numbers, but the ends of {condition.text} are dates")
    else:
        if condition.low:
            mask &= values >= _number(condition.low)
        if condition.high:
            mask &= values <= _number(condition.high)
    if not mask.any():
        raise UsageError(f"no training row lies in the range {condition.text}")
    return mask


def _number(text: str) -> int | float:
    """The number; integers stay exact as far as a column can hold them."""
    whole = re.fullmatch(r"[+-]?\d{1,19}", text) and abs(int(text)) < 2**63
    return int(text) if whole else float(text)


def printed_number(value: Any) -> str:
    """The number as a person would type it, such that it reads back as the same number."""
    if isinstance(value, float | np.floating):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
    return str(value)
