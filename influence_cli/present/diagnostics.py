"""Regression diagnostics: the page of the groups with the largest Cook's distances, and a picture of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from influence_cli.errors import UsageError
from influence_cli.present.changes import View
from influence_cli.present.plot_names import name_points
from influence_cli.present.plots import rendered, style
from influence_cli.present.records import plain
from influence_cli.present.tables import Block, Page
from influence_cli.present.words import figure, group_name

NAMED = 5
"""Number of rows, those with the largest Cook's distances, that a picture names."""
LARGE_RESIDUAL, LARGE_LEVERAGE = 2.0, 2.0
"""Studentised residual, and multiple of the mean leverage P / n, above which textbooks recommend examining a row."""
SHOWN = 20
"""Groups that are shown without --top."""
HEADINGS = {
    "leverage": "leverage",
    "cooks_distance": "Cook's distance",
    "studentized": "studentised residual",
    "dffits": "DFFITS",
}


def diagnostics_page(columns: Mapping[str, Any], view: View) -> Page:
    """The groups with the largest Cook's distances, preceded by those without one."""
    distance = np.asarray(columns["cooks_distance"], dtype=float)
    order = np.argsort(np.where(np.isnan(distance), -np.inf, -distance), kind="stable")
    count = view.top or SHOWN
    lists = {key: plain(columns[key]) for key in ("size", *HEADINGS, "status")}
    known = [key for key in HEADINGS if any(value is not None for value in lists[key])]  # groups of rows lack two
    what = "Training rows" if 1 in lists["size"] else "Groups of training rows"
    title = f"{what} by Cook's distance: how far all estimates move without them"
    if len(order) > count:
        title += f" (the largest {count} of {len(order):,}; all of them: --format csv)"
    names = names_of(columns)
    marks: dict[str, int] = {}
    rows = []
    for at in order[:count].tolist():
        status = lists["status"][at]
        mark = f"[{marks.setdefault(status, len(marks) + 1)}]" if status != "ok" else ""
        cells = (figure(lists[key][at]) for key in known)
        rows.append((names[at], f"{lists['size'][at]:,}", *cells, mark))
    last = 2 + len(known)
    block = Block("", ("group", "rows", *(HEADINGS[key] for key in known), ""), rows, frozenset(range(1, last)))
    if not marks:
        block = block.without(last)
    notes = [f"[{number}] {status}" for status, number in marks.items()]
    if "dffits" in known:
        notes.insert(0, "DFFITS: fitted values of all rows minus without the row")
    return Page(title, (block,), tuple(notes))


def names_of(columns: Mapping[str, Any]) -> list[str]:
    """The names of the groups; a single row has its identifier, if its file has one."""
    pairs = zip(columns["group"], columns["id"], strict=True)
    return [group_name(group) if identifier is None else f"id {identifier}" for group, identifier in pairs]


def check_rows(sizes: np.ndarray) -> None:
    """Raises UsageError for groups that no picture can show."""
    if not (sizes == 1).any():
        raise UsageError("--plot draws single rows, and these groups have several", hint="--group rows:each")


def leverage_picture(columns: Mapping[str, Any], size: int, count: int, ending: str) -> bytes:
    """Studentised residual against leverage: a circle per row whose area is its Cook's distance; the largest are named.
    ``size`` is the number of parameters, ``count`` that of training rows.
    """
    from matplotlib.figure import Figure

    leverage, residual, distance = (
        np.asarray(columns[key], dtype=float) for key in ("leverage", "studentized", "cooks_distance")
    )
    shown = np.isfinite(residual)
    largest = np.argsort(-np.where(shown, distance, -np.inf), kind="stable")[: min(NAMED, int(shown.sum()))]
    area = 900.0 * distance[shown] / max(float(distance[shown].max(initial=0.0)), np.finfo(float).tiny)
    with style():
        figure = Figure(figsize=(6.0, 4.2), layout="constrained")
        ax = figure.subplots()
        ax.margins(0.08, 0.14)
        for height in (-LARGE_RESIDUAL, 0.0, LARGE_RESIDUAL):
            ax.axhline(height, color="0.75", linewidth=0.8, linestyle="-" if height == 0 else (0, (4, 3)), zorder=1)
        ax.axvline(LARGE_LEVERAGE * size / count, color="0.75", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        ax.scatter(leverage[shown], residual[shown], s=area, color="#0072B2", alpha=0.25, linewidths=0, zorder=2)
        ax.scatter(leverage[shown], residual[shown], s=6, color="#0072B2", linewidths=0, zorder=3)
        ax.set_ylabel("studentised residual")
        ax.set_xlabel("leverage\narea: Cook's distance; dashed: residuals of 2, leverage of twice the mean")
        names = names_of(columns)
        named = ((float(leverage[at]), float(residual[at]), names[at].removeprefix("id ")) for at in largest.tolist())
        name_points([(ax, list(named))], size=8.0)
        return rendered(figure, ending)
