"""Records for machines: CSV, JSON and one JSON object per line, with every digit of every record."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from influence_cli.core import stopping

FORMATS = ("auto", "table", "json", "ndjson", "csv", "md", "html")
CHUNK = 10_000
"""Records turned into text at a time."""


def resolve_format(name: str, stream: TextIO) -> str:
    """auto is a table on a terminal and CSV in a pipe."""
    if name != "auto":
        return name
    return "table" if stream.isatty() else "csv"


def write_records(columns: Mapping[str, Any], form: str, stream: TextIO) -> None:
    """Write records (one column per key) as ``csv``, ``ndjson`` or ``json``."""
    if form == "csv":
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for part in _parts(columns, stream):
            writer.writerows(zip(*map(_csv_cells, part.values()), strict=True))
    elif form == "ndjson":
        for part in _parts(columns, stream):
            for record in _records(part):
                stream.write(json.dumps(record, allow_nan=False) + "\n")
    else:
        separator = "["
        for part in _parts(columns, stream):
            for record in _records(part):
                stream.write(f"{separator}\n{json.dumps(record, allow_nan=False)}")
                separator = ","
        stream.write("[]\n" if separator == "[" else "\n]\n")


def plain(values: Any) -> list[Any]:
    """Values as plain Python objects, with NaN and infinities as None."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "iub" or (values.dtype.kind == "f" and np.isfinite(values).all()):
            return list(values.tolist())
        values = values.tolist()
    if not any(issubclass(kind, float) for kind in set(map(type, values))):
        return list(values)
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def largest(columns: Mapping[str, Any], key: str, count: int) -> dict[str, Any]:
    """For every test row the ``count`` records with the largest absolute value of ``key``, in the order given."""
    values = plain(columns[key])
    tests = plain(columns["test"]) if "test" in columns else [None] * len(values)
    by_test: dict[Any, list[int]] = {}
    for at, test in enumerate(tests):
        by_test.setdefault(test, []).append(at)
    kept: list[int] = []
    for places in by_test.values():
        kept += sorted(places, key=lambda at: -abs(values[at]) if values[at] is not None else 0.0)[:count]
    return {name: [plain_values[at] for at in sorted(kept)] for name, plain_values in map(_as_list, columns.items())}


def _as_list(item: tuple[str, Any]) -> tuple[str, list[Any]]:
    return item[0], plain(item[1])


def _parts(columns: Mapping[str, Any], stream: TextIO) -> Iterator[dict[str, list[Any]]]:
    """Slices of the columns as plain Python values, as long as the stream is read."""
    length = len(next(iter(columns.values()))) if columns else 0
    for start in range(0, length, CHUNK):
        stopping.check()
        if getattr(stream, "unread", False):
            return
        yield {key: plain(values[start : start + CHUNK]) for key, values in columns.items()}


def _csv_cells(values: list[Any]) -> list[Any]:
    """The cells with lists written as JSON."""
    if list not in set(map(type, values)):
        return values
    return [json.dumps(value) if isinstance(value, list) else value for value in values]


def _records(part: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(part, row, strict=True)) for row in zip(*part.values(), strict=True))
