"""What ``ginf compare`` shows of its records: a table to be read at a glance, and the pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from influence_cli.analysis.matching import Matched
from influence_cli.core.agreement import ROUNDING
from influence_cli.errors import UsageError
from influence_cli.present.headings import meaning, phrase
from influence_cli.present.plots import Cloud, Line, curve, scatter
from influence_cli.present.tables import Layout
from influence_cli.results import Records

CURVE_FROM = 4
"""Sizes of one kind from which ``--figure auto`` draws the curve."""
MOST_COLUMNS = 4
"""Panels side by side in the scatter plot."""
HEADINGS = {
    "kind": "kind",
    "share": "share",
    "groups": "groups",
    "method": "method",
    "pearson": "correlation",
    "ceiling": "ceiling",
    "interval": "95% interval",
    "slope": "slope",
    "spearman": "of ranks",
    "relative_error": "error",
    "sign_agreement": "same sign",
}
NUMBERS = {
    *("share", "pearson", "ceiling", "slope", "spearman", "relative_error", "sign_agreement", "groups", "difference")
}
"""Columns that stand to the right."""


def agreement_table(matched: Matched, records: Records) -> tuple[dict[str, list[str]], Layout]:
    """The pooled records as text to be read at a glance, block by block; the best method of a block is marked."""
    shown = [row for row in records.rows if row["test"] is None]
    against = records.config["against"]
    blocks = [shown[start : start + len(matched.methods)] for start in range(0, len(shown), len(matched.methods))]
    if len(matched.cells) == 1:
        blocks = blocks[:1]  # all groups are that one block
    lines: list[dict[str, str]] = []
    breaks = []
    fractions = [*(matched.groups.fraction[cell.rows] for cell in matched.cells), matched.groups.fraction]
    for block, share in zip(blocks, map(_share, fractions), strict=False):
        best = max((row["pearson"] for row in block if row["pearson"] is not None), default=0.0)
        breaks.append(len(lines))
        for row in block:
            leads = row is block[0]
            marked = len(block) > 1 and row["pearson"] is not None and row["pearson"] >= best - ROUNDING
            line = {
                "kind": (row["kind"] or "all") if leads else "",
                "share": share if leads else "",
                "groups": f"{row['groups']:,}" if leads or row["groups"] != block[0]["groups"] else "",
                "method": ("* " if marked else "  ") + row["method"],
                "pearson": _fixed(row["pearson"], 3),
                "interval": _interval(row["pearson_low"], row["pearson_high"]),
                "slope": _short(row["slope"]),
                "spearman": _fixed(row["spearman"], 3),
                "relative_error": _short(row["relative_error"]),
                "sign_agreement": "-" if row["sign_agreement"] is None else f"{row['sign_agreement']:.0%}",
            }
            if "ceiling" in row:
                line["ceiling"] = _fixed(row["ceiling"], 3)
            if against is not None:
                line["difference"] = _signed(row["difference"])
                line["difference_interval"] = _interval(row["difference_low"], row["difference_high"], signed=True)
                line["gain"] = _verdict(row)
            if any(other["pearson"] is None for other in shown):
                line["status"] = row["status"]
            lines.append(line)
    headings = HEADINGS | {
        "difference": f"gain over {against}",
        "difference_interval": "95% interval",
        "gain": "verdict",
        "status": "status",
    }
    columns = {key: [line[key] for line in lines] for key in headings if key in lines[0]}
    for key in NUMBERS & columns.keys():
        width = max(len(headings[key]), *map(len, columns[key]))
        columns[key] = [text.rjust(width) for text in columns[key]]
    tests, bootstrap = len(matched.tests), records.config["bootstrap"]
    pooling = f"mean over {tests} test rows (one by one: --format csv)" if tests > 1 else "one test row"
    explained = [
        f"correlation: Pearson, {pooling}" + ("; * highest" if len(matched.methods) > 1 else ""),
        "ceiling: the correlation that the noise between repeated retrainings leaves to any estimate"
        if matched.repeats is not None
        else "",
        f"95% interval: BCa bootstrap, {bootstrap:,} resamples of the groups; - where they lie to one side"
        if bootstrap
        else "",
        "a gain or loss is called one where its interval excludes 0" if against is not None else "",
        "slope: of truth on estimate, 1 is ideal; error: |estimate - truth| / |truth|",
    ]
    caption = "\n".join(filter(None, explained))
    title = f"Estimates against retraining. {meaning(matched.quantity)}"
    return columns, Layout(title, caption, headings, breaks=frozenset(breaks))


def _share(fractions: np.ndarray, digits: int = 3) -> str:
    """Sizes of groups as a percentage of the training rows, or the range of them."""
    low, high = (f"{100 * fraction:.{digits}g}" for fraction in (fractions.min(), fractions.max()))
    return f"{low}%" if low == high else f"{low}-{high}%"


def _fixed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if 0.01 <= abs(value) < 1000 else f"{value:.1e}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    if low is None or high is None:
        return "-"
    return f"[{low:+.3f}, {high:+.3f}]" if signed else f"[{low:6.3f}, {high:6.3f}]"


def _verdict(row: Mapping[str, Any]) -> str:
    if row["difference_low"] is None:
        return "-"
    return "gain" if row["gain"] else "loss" if row["difference_high"] < 0 else "not shown"


def draw(matched: Matched, records: Records, figure: str, ending: str) -> bytes:
    """The picture that ``--figure`` asks for, as the bytes of its file."""
    sizes = max(Counter(cell.kind for cell in matched.cells).values())
    if figure == "auto":
        figure = "curve" if sizes >= CURVE_FROM else "scatter"
    tests = len(matched.tests)
    pooled = f"mean over {tests} test rows" if tests > 1 else ""
    if figure == "scatter":
        name, sign = phrase(matched.quantity)
        clouds = _clouds(matched, records)
        if not clouds:
            raise UsageError("--plot: there is nothing to draw, no pair has both an estimate and a truth")
        note = "; ".join(filter(None, (sign, f"correlation: {pooled}" if pooled else "")))
        columns = min(sizes, MOST_COLUMNS) if sizes > 1 else 3
        change = f"change of the {name} if the group is removed"
        return scatter(clouds, ending, change=change, note=note, columns=columns)
    lines = _lines(records)
    if not lines:
        raise UsageError("--plot: there is no correlation to draw at any size", hint="try --figure scatter")
    band = "band: 95% bootstrap interval over the groups" if records.config["bootstrap"] else ""
    return curve(lines, ending, note="; ".join(filter(None, (pooled, band))))


def _clouds(matched: Matched, records: Records) -> dict[str, dict[str, Any]]:
    """The panels of the scatter plot."""
    panels: dict[str, dict[str, Any]] = {}
    pooled = [row for row in records.rows if row["test"] is None and row["kind"] is not None]
    for number, cell in enumerate(matched.cells):
        rows = pooled[number * len(matched.methods) : (number + 1) * len(matched.methods)]
        clouds = {}
        for row in rows:
            estimate, truth = matched.estimates[row["method"]][cell.rows], matched.truth[cell.rows]
            keep = np.isfinite(estimate) & np.isfinite(truth)
            if keep.any():
                clouds[row["method"]] = Cloud(estimate[keep], truth[keep], row["pearson"])
        if clouds:
            title = f"{cell.kind}, {_share(matched.groups.fraction[cell.rows], 2)} of the rows"
            panels[f"{title} ({number})" if title in panels else title] = clouds
    return panels


def _lines(records: Records) -> dict[str, dict[str, Any]]:
    """The panels of the curve: kind to method to its line, sizes ascending."""
    points: dict[str, dict[str, list[list[float]]]] = {}
    for row in records.rows:
        if row["test"] is None and row["kind"] is not None and row["pearson"] is not None:
            keys = ("fraction", "pearson", "pearson_low", "pearson_high")
            values = [float("nan") if row[key] is None else row[key] for key in keys]
            points.setdefault(row["kind"], {}).setdefault(row["method"], []).append(values)
    return {
        f"{kind} groups": {
            method: Line(*(np.array(sorted(rows)) * [100, 1, 1, 1]).T) for method, rows in methods.items()
        }
        for kind, methods in points.items()
    }
