"""Groups and rows in files: one spec per line, the output of a ginf command, or row numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TextIO

from influence_cli.errors import UsageError
from influence_cli.specs.groups import CLUSTERED, GroupSpec, check_row, parse_group, shown, whole_number
from influence_cli.specs.lists import LINE_END, STDIN, read_text


def read_group_file(path: str, stdin: TextIO | None = None) -> list[str]:
    """The specs of a file (``-``: standard input), already checked: the texts of ``read_specs``."""
    return [text for text, _ in read_specs(path, stdin)]


def read_specs(path: str, stdin: TextIO | None = None) -> list[tuple[str, str]]:
    """The specs of a file, one per line, each with the file and line that it comes from.

    A file written by a ginf command as CSV, as JSON or with one JSON object per line gives the groups of its records.
    Blank lines and lines that begin with ``#`` are skipped.  A ``#`` further right belongs to the spec, because a label
    may contain one.
    """
    name, text = read_text(path, stdin)
    records = _records_in(text)
    if records is not None:
        return [(text, name) for text in specs_of_records(records, name)]
    specs = []
    for number, line in enumerate(LINE_END.split(text), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            spec = parse_group(line)
        except UsageError as error:
            raise UsageError(f"{name}:{number}: {error.message}", hint=error.hint) from None
        if spec.reads_stdin and path == STDIN:
            raise UsageError(
                f"{name}:{number}: {line} would read standard input, which already holds the list of groups",
                hint="Put the row numbers into a file and write rows:@FILE.",
            )
        specs.append((line, f"{name}:{number}"))
    if not specs:
        raise UsageError(f"{name} holds no group", hint="Write one spec a line, for example random:5%.")
    return specs


def specs_of_records(records: Iterable[dict[str, Any]], name: str) -> list[str]:
    """The groups of these records, each once: their ``group``, or the ``rows`` that were selected."""
    specs_in_order: dict[str, None] = {}
    for record in records:
        text = record.get("group")
        rows = record.get("rows")
        rows = json.loads(rows) if isinstance(rows, str) and rows.startswith("[") else rows
        if not text and rows:
            text = "rows:" + ",".join(map(str, rows))
        if text:
            specs_in_order[str(text)] = None
    if not specs_in_order:
        raise UsageError(f"{name} holds records without groups", hint="name a file of ginf influence or groundtruth")
    specs = _specs_of_labels(specs_in_order)
    for text in specs:
        try:
            parse_group(text)
        except UsageError as error:
            raise UsageError(f"{name}: {error.message}", hint=error.hint) from None
    return specs


def _specs_of_labels(labels: Iterable[str]) -> list[str]:
    """The specs that give these groups; numbered draws and clusters become one spec that gives all of them."""
    draws: dict[str, int | None] = {}
    for label in labels:
        base, _, number = label.rpartition("#")
        kind = base.partition(":")[0]
        if number.isdigit() and kind in ("random", "coherent", *CLUSTERED):
            draws[base] = max(int(number) + 1, draws.get(base) or 0)
        else:
            draws[label] = None
    return [
        text if times is None or text.partition(":")[0] in CLUSTERED else f"{text}x{times}"
        for text, times in draws.items()
    ]


def _records_in(text: str) -> list[dict[str, Any]] | None:
    """The records of a text in one of ginf's machine formats; None for a list of specs."""
    head = text.lstrip()[:1]
    try:
        if head == "[":
            records = json.loads(text)
            return records if all(isinstance(record, dict) for record in records) else None
        if head == "{":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        return None
    first = text.partition("\n")[0].strip().split(",")
    if "group" in first or {"strategy", "rows"} <= set(first):
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return None


def collect_specs(
    texts: Iterable[str] = (), file: str | None = None, *, stdin: TextIO | None = None
) -> list[GroupSpec]:
    """The specs of ``--group`` (``texts``), followed by those of ``--groups`` (``file``)."""
    specs = [parse_group(text) for text in texts]
    reader = next((spec for spec in specs if spec.reads_stdin), None)
    if reader is not None and file == STDIN:
        raise UsageError(
            f"--groups - and --group {reader.text} both read standard input, which can be read once",
            hint="Put one of the two into a file.",
        )
    if file is not None:
        specs += [replace(parse_group(text), origin=origin) for text, origin in read_specs(file, stdin)]
    return specs


def read_row_file(path: str, m: int, stdin: TextIO | None = None) -> list[int]:
    """The sorted row numbers of a file, separated by whitespace, commas or new lines; ``#`` begins a comment."""
    name, text = read_text(path, stdin)
    line_of: dict[int, int] = {}
    for number, line in enumerate(LINE_END.split(text), start=1):
        for item in line.partition("#")[0].replace(",", " ").split():
            row = whole_number(item)
            if row is None:
                raise UsageError(
                    f"{name}:{number}: expected a row number, found {shown(item)}",
                    hint="Write whole numbers, for example with numpy.savetxt(file, rows, fmt='%d').",
                )
            check_row(row, f"{name}:{number}", m)
            if row in line_of:
                raise UsageError(f"{name}:{number}: row {row} is already in line {line_of[row]}")
            line_of[row] = number
    if not line_of:
        raise UsageError(f"{name} holds no row numbers: the group is empty")
    return sorted(line_of)
