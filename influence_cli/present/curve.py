"""Removal curves as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from influence_cli.present.changes import OF_NETWORK
from influence_cli.present.described import block_title
from influence_cli.present.plots_select import Removal, removals
from influence_cli.present.tables import Block, Page
from influence_cli.present.words import change_text, figure, meaning, meaning_of, row_name, share, with_model
from influence_cli.results import OK, SelectionResult

SHOWN_TESTS = 6
"""Number of test rows in a picture, one panel each."""


def curve_page(result: SelectionResult, records: Sequence[Mapping[str, Any]]) -> Page:
    """One block per test row, one line per size."""
    config, marks = result.provenance.config, dict[str, int]()
    tests = dict.fromkeys(record["test"] for record in records)
    blocks = [_block([record for record in records if record["test"] == test], marks) for test in tests]
    verified = any(record["actual"] is not None for record in records)
    first = records[0]
    explained = [
        f"the rows that {first['strategy']} removes, against the mean of {first['random_draws']} random groups of as"
        " many rows and their standard deviation",
        "estimated: without retraining, and ± how far it may be off" + ("; retrained: the change itself" * verified),
    ]
    if config.get("curvature"):
        explained.append(OF_NETWORK.format("is estimated"))
    explained += [f"[{number}] {status}" for status, number in marks.items()]
    title = with_model(meaning(result.quantity, config.get("asked")), config)
    return Page(title, tuple(blocks), tuple(explained))


def _block(records: Sequence[Mapping[str, Any]], marks: dict[str, int]) -> Block:
    verified = any(record["actual"] is not None for record in records)
    random = "random_actual" if verified else "random_estimate"
    rows = []
    for record in records:
        status = record["status"]
        mark = "" if status == OK else f"[{marks.setdefault(status, len(marks) + 1)}]"
        cells = [change_text(record["estimate"], status), "-" if record["error"] is None else f"{record['error']:.2g}"]
        cells += [change_text(record["actual"], status)] if verified else []
        cells += [change_text(record[random]), figure(record[f"{random}_spread"])]
        rows.append((f"{record['size']:,}", share(record["fraction"]), *cells, mark))
    headings = ("rows", "share", "estimated", "±", *["retrained"] * verified, "random", "spread", "")
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return Block(block_title(records[0]), headings, rows, frozenset(range(6 + verified)))


def draw_curve(result: SelectionResult, ending: str) -> bytes:
    """The picture: one panel for each of the first ``SHOWN_TESTS`` test rows."""
    panels = {}
    for test in list(dict.fromkeys(record["test"] for record in result.entries))[:SHOWN_TESTS]:
        records = [record for record in result.entries if record["test"] == test]
        names = ("estimate", "error", "actual", "random_estimate", "random_estimate_spread", "random_actual")
        figures = {name: np.array([record[name] for record in records], dtype=float) for name in names}
        percent = np.array([100.0 * record["fraction"] for record in records])
        panels[row_name(test, None, None)] = Removal(percent, *figures.values())
    first = result.entries[0]
    change = f"change of the {meaning_of(result.quantity, result.provenance.config.get('asked')).name}"
    return removals(panels, ending, change=change, chosen=first["strategy"], draws=first["random_draws"])
