"""What ``ginf select --describe`` found: causes in words, in a table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from influence_cli.present.changes import OF_NETWORK, View
from influence_cli.present.tables import Block, Page
from influence_cli.present.words import change_text, figure, label_text, meaning, row_name, share, with_model
from influence_cli.results import OK, SelectionResult
from influence_cli.specs.groups import parse_group


def described_page(result: SelectionResult, records: Sequence[Mapping[str, Any]], view: View) -> Page:
    """One block per test row, with the groups in the order of the records."""
    marks: dict[str, int] = {}
    tests = dict.fromkeys(record["test"] for record in records)
    blocks = [_block([record for record in records if record["test"] == test][: view.top], marks) for test in tests]
    verified = any(record["actual"] is not None for record in records)
    explained = [
        f"the best of {max(record['tried'] for record in records):,} groups by estimated change for each percent of the"
        " training rows removed; of groups that share over half of the smaller one's rows the better is named",
        "estimated: without retraining, and ± how far it may be off" + ("; retrained: the change itself" * verified),
    ]
    if result.provenance.config.get("curvature"):
        explained.append(OF_NETWORK.format("is estimated"))
    explained += [f"[{number}] {status}" for status, number in marks.items()]
    config = result.provenance.config
    title = with_model(meaning(result.quantity, config.get("asked")), config)
    return Page(title, tuple(blocks), tuple(explained))


def _block(records: Sequence[Mapping[str, Any]], marks: dict[str, int]) -> Block:
    verified = any(record["actual"] is not None for record in records)
    rows = []
    for record in records:
        # a space after each comma allows a narrow table to break there
        name = ", ".join(one.text for one in parse_group(record["group"]).conditions) if record["group"] else "none"
        status = record["status"]
        mark = "" if status == OK else f"[{marks.setdefault(status, len(marks) + 1)}]"
        measured = (record["actual"],) if verified else ()
        changes = [change_text(value, status) for value in (record["per_percent"], record["estimate"])]
        error = "-" if record["error"] is None else f"{record['error']:.2g}"
        size = "-" if record["size"] is None else f"{record['size']:,}"
        figures = (*changes, error, *(change_text(value, status) for value in measured))
        rows.append((name, size, share(record["fraction"]), *figures, mark))
    headings = ("group column:", "rows", "share", "per 1%", "estimated", "±", *["retrained"] * verified, "")
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    below = (f"to ask about the first: --group {shlex.quote(records[0]['group'])}",) if records[0]["group"] else ()
    numbers = frozenset(range(1, 6 + verified))
    return Block(block_title(records[0]), headings, rows, numbers, below, spare=(2,))


def block_title(record: Mapping[str, Any]) -> str:
    """The heading of a test row's groups, from one of their records."""
    known = [key for key in ("true", "predicted") if record.get(key) is not None]
    classes = "".join(f"{key} {label_text(record[key])}, " for key in known)
    name = row_name(record["test"], record.get("record"), record.get("id"))
    return f"{name}: {classes}{record['quantity']} now {figure(record['base'])}"
