"""Results as text: the only user of Rich.

Machine formats never pass through it: a piped Rich table is cut to the terminal's width.  Only the table rounds.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from influence_cli.core import stopping
from influence_cli.errors import FileError

FORMATS = ("auto", "table", "json", "ndjson", "csv")
TABLE_ROWS = 200
"""Rows that a table shows: more than that nobody reads on a terminal."""
CHUNK = 10_000
"""Records turned into text at a time."""
LONGEST_NAME, NAME_HEAD, NAME_TAIL = 40, 26, 11
"""A group's name in a table: longer ones keep this much of their beginning and end."""


@dataclass(frozen=True)
class Layout:
    """How records look as a table: what the numbers are, and the columns to show, in order, with their headings.

    ``headings`` maps a record's key to a heading; keys left out are the same in every record and stand in the title.
    A line is left free before the rows in ``breaks``.
    """

    title: str
    caption: str
    headings: Mapping[str, str]
    breaks: Collection[int] = ()


def resolve_format(name: str, stream: TextIO) -> str:
    """auto is a table on a terminal and CSV in a pipe."""
    if name != "auto":
        return name
    return "table" if stream.isatty() else "csv"


def write_records(columns: Mapping[str, Any], layout: Layout, name: str, stream: TextIO, *, color: bool) -> None:
    """Write records (a column a key) in that format.  Raises FileError where the stream takes no more (a full disk)."""
    try:
        _write(columns, layout, name, stream, color)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"cannot write the results to standard output: {reason}") from error


def _write(columns: Mapping[str, Any], layout: Layout, name: str, stream: TextIO, color: bool) -> None:
    if name == "table":
        _write_table(columns, layout, stream, color)
    elif name == "csv":
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for part in _parts(columns, stream):
            writer.writerows(zip(*map(_csv_cells, part.values()), strict=True))
    elif name == "ndjson":
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


def _parts(columns: Mapping[str, Any], stream: TextIO) -> Iterator[dict[str, list[Any]]]:
    """Slices of the columns as plain Python values, NaN and infinities as None, as long as the stream is read."""
    length = len(next(iter(columns.values()))) if columns else 0
    for start in range(0, length, CHUNK):
        stopping.check()
        if getattr(stream, "unread", False):
            return
        yield {key: _plain(values[start : start + CHUNK]) for key, values in columns.items()}


def _plain(values: Any) -> list[Any]:
    values = values.tolist() if hasattr(values, "tolist") else values
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def _csv_cells(values: list[Any]) -> list[Any]:
    """Lists as JSON."""
    return [json.dumps(value) if isinstance(value, list) else value for value in values]


def _records(part: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(part, row, strict=True)) for row in zip(*part.values(), strict=True))


def _write_table(columns: Mapping[str, Any], layout: Layout, stream: TextIO, color: bool) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    length = len(next(iter(columns.values())))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = {key: _plain(columns[key][:TABLE_ROWS]) for key in layout.headings if key in columns}
    for key, values in shown.items():
        numeric = all(value is None or isinstance(value, int | float) for value in values)
        table.add_column(layout.headings[key], justify="right" if numeric else "left", no_wrap=True)
    for number, row in enumerate(zip(*shown.values(), strict=True)):
        if number in layout.breaks:
            table.add_section()
        table.add_row(*(Text(_cell(key, value)) for key, value in zip(shown, row, strict=True)))
    out = console(stream, color)
    out.print(Text(layout.title, style="bold"))
    # A figure is never cut: where the terminal is narrower than the table, its lines run over.
    wide = console(stream, color)
    wide.width = max(out.width, out.measure(table, options=out.options.update(width=10_000)).maximum)
    wide.print(table)
    more = f"{length - TABLE_ROWS:,} more rows: use --format csv" if length > TABLE_ROWS else ""
    for line in filter(None, (layout.caption, more)):
        out.print(Text(line, style="dim italic"))


def _cell(key: str, value: Any) -> str:
    """One value as a table shows it.  A group of many listed rows loses the middle of its name, never a figure."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1%}" if key == "fraction" else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if key == "size" else str(value)
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))
    return f"{text[:NAME_HEAD]}...{text[-NAME_TAIL:]}" if key == "group" and len(text) > LONGEST_NAME else text


def console(stream: TextIO, color: bool) -> Any:
    """A Rich console on that stream; ``--no-color`` and a ``NO_COLOR`` that is not empty both make it plain text."""
    from rich.console import Console

    plain = not color or bool(os.environ.get("NO_COLOR"))
    return Console(file=stream, color_system=None if plain else "auto", highlight=False, soft_wrap=False)
