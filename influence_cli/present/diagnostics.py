"""The page of regression diagnostics: the groups of the largest Cook's distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from influence_cli.present.changes import View
from influence_cli.present.records import plain
from influence_cli.present.tables import Block, Page
from influence_cli.present.words import figure, group_name

SHOWN = 20
"""Groups that are shown where --top does not say how many."""
HEADINGS = {
    "leverage": "leverage",
    "cooks_distance": "Cook's distance",
    "studentized": "studentised residual",
    "dffits": "DFFITS",
}


def diagnostics_page(columns: Mapping[str, Any], view: View) -> Page:
    """The groups of the largest Cook's distance, those without one first."""
    distance = np.asarray(columns["cooks_distance"], dtype=float)
    order = np.argsort(np.where(np.isnan(distance), -np.inf, -distance), kind="stable")
    count = view.top or SHOWN
    title = "Training rows by Cook's distance: how far all estimates move without them"
    if len(order) > count:
        title += f" (the largest {count} of {len(order):,}; all of them: --format csv)"
    lists = {key: plain(columns[key]) for key in ("group", "size", *HEADINGS, "status")}
    marks: dict[str, int] = {}
    rows = []
    for at in order[:count].tolist():
        status = lists["status"][at]
        mark = f"[{marks.setdefault(status, len(marks) + 1)}]" if status != "ok" else ""
        cells = (figure(lists[key][at]) for key in HEADINGS)
        rows.append((group_name(lists["group"][at]), f"{lists['size'][at]:,}", *cells, mark))
    block = Block("", ("group", "rows", *HEADINGS.values(), ""), rows, frozenset(range(1, 6)))
    if not marks:
        block = block.without(6)
    notes = (f"[{number}] {status}" for status, number in marks.items())
    return Page(title, (block,), ("DFFITS: fitted values of all rows minus without the row", *notes))
