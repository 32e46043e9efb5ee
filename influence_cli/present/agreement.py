"""What ``ginf compare`` shows of its records: a table that can be read at a glance, and the pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from influence_cli.analysis.compare import GROUPS
from influence_cli.analysis.matching import Matched
from influence_cli.core.agreement import ROUNDING
from influence_cli.errors import UsageError
from influence_cli.present.changes import BEST_FIRST, GIVEN, View
from influence_cli.present.plots import Cloud, Line, curve, scatter
from influence_cli.present.tables import Block, Page
from influence_cli.present.words import (
    asked_of,
    change_text,
    common_part,
    group_name,
    meaning,
    meaning_of,
    meaning_of_several,
    row_name,
)
from influence_cli.results import REMOVED_TEST, name_of_test
from influence_cli.tabular import Records

CURVE_FROM = 4
"""Number of sizes of one kind from which ``--figure auto`` draws the curve."""
MOST_COLUMNS = 4
"""Largest number of panels side by side in the scatter plot."""
MOST_GROUPS = 30
"""Number of groups up to which each is shown separately."""
MOST_TESTS = 5
"""Number of test rows up to which each is shown separately; more are taken together."""


def agreement_page(matched: Matched | Sequence[Matched], records: Records, view: View) -> Page:
    """Each group separately if there are few, and the pooled records, block by block; the best method is marked."""
    each = [matched] if isinstance(matched, Matched) else list(matched)
    first = each[0]
    tests, bootstrap = len(first.tests), records.config["bootstrap"]
    drawn = _drawn(records, "the groups and of the test rows")
    interval = "95% interval:" if records.config["against"] is None else "its interval: 95%,"
    correlation = "correlation" if records.config["against"] is None else "r, correlation"
    marks: dict[str, int] = {}
    blocks: list[Block] = []
    for agreement in each:
        shown = [row for row in records.rows if row["test"] is None and row["quantity"] == agreement.quantity]
        table = _agreement_block(agreement, shown, records.config["against"], marks, verbose=view.verbose)
        if len(each) > 1:
            table = replace(table, title=f"{table.title} of {agreement.quantity}")
        blocks += [*_group_blocks(agreement, view, several=len(each) > 1), table]
    pooling = f"mean over {tests} test rows (one by one: --format csv)" if tests > 1 else "one test row"
    if first.tests[0] < 0:
        pooling = asked_of(first.tests.tolist())
    against = records.config["against"]
    explained = [
        f"{correlation}: Pearson, {pooling}" + ("; * highest" if len(first.methods) > 1 else ""),
        "ceiling: the correlation that the noise between repeated retrainings leaves to any estimate"
        if first.repeats is not None
        else "",
        f"{interval} BCa bootstrap, {bootstrap:,} resamples of {drawn}; none from fewer than 8 of them"
        if bootstrap
        else "",
        "a gain or loss is called one where its interval excludes 0" if against is not None else "",
        f"error by: change of the error, relative to that of {against}; below 0 is better"
        if against is not None
        else "",
        "slope: of truth on estimate, 1 is ideal; error: |estimate - truth| / |truth|",
        *(f"[{number}] {status}" for status, number in marks.items()),
        first.objective,
    ]
    words = meaning(first.quantity, first.in_words, removed=_of_removed(first))
    if len(each) > 1:
        words = meaning_of_several([agreement.quantity for agreement in each], [one.in_words for one in each])
    return Page(f"Estimates against retraining. {words}", tuple(blocks), tuple(filter(None, explained)))


def _of_removed(matched: Matched) -> bool:
    return bool(matched.tests.tolist() == [REMOVED_TEST])


def _group_blocks(matched: Matched, view: View, *, several: bool = False) -> Iterator[Block]:
    """Estimates, truth and error of every group, if they are few enough to be read; many test rows are pooled."""
    count, methods = len(matched.groups), matched.methods
    if count > MOST_GROUPS:
        return
    common, names = common_part([group_name(label) for label in matched.groups.label])
    heading = f"group {common}" if common else "group"
    lone = len(matched.tests) <= MOST_TESTS
    for column in range(len(matched.tests)) if lone else (None,):
        part = slice(None) if column is None else slice(column, column + 1)
        truth = matched.truth[:, part]
        size = np.linalg.norm(truth, axis=1)
        order = range(count) if view.sort == GIVEN else np.argsort(-np.nan_to_num(size), kind="stable").tolist()
        rows = []
        for group in list(order)[: view.top]:
            cells = [names[group], f"{matched.groups.size[group]:,}"]
            if column is not None:
                cells.append(change_text(_finite(truth[group, 0])))
            for method in methods:
                estimate = matched.estimates[method][group, part]
                error = _error(estimate, truth[group])
                cells.append(error if column is None else f"{change_text(_finite(estimate[0]))} ({error})")
            rows.append(tuple(cells))
        headings = (heading, "rows", *(("retrained",) if column is not None else ()))
        start, headings = len(headings), (*headings, *(f"{method} (error)" for method in methods))
        code = None if column is None else name_of_test(int(matched.tests[column]))
        called = (None, None) if column is None else matched.names.get(int(matched.tests[column]), (None, None))
        title = f"All {len(matched.tests)} test rows together" if column is None else row_name(code, *called)
        title += f": {matched.quantity}" if several else ""
        headline = next((name for name in BEST_FIRST if name in methods), methods[0])
        spare = tuple(start + at for at, method in enumerate(methods) if method != headline)
        yield Block(title, headings, rows, frozenset(range(1, len(headings))), spare=spare)


def _error(estimate: np.ndarray, truth: np.ndarray) -> str:
    """|estimate - truth| / |truth| over the test rows that have both, as a percentage."""
    keep = np.isfinite(estimate) & np.isfinite(truth)
    size = float(np.linalg.norm(truth[keep]))
    if not keep.any() or size == 0:
        return "-"
    error = float(np.linalg.norm(estimate[keep] - truth[keep])) / size
    return f"{error:.1%}" if error < 10 else f"{error:.0f} times"


def _agreement_block(
    matched: Matched, shown: list[dict[str, Any]], against: str | None, marks: dict[str, int], *, verbose: bool
) -> Block:
    """The pooled records; the best method of each kind and size is marked."""
    blocks = [shown[start : start + len(matched.methods)] for start in range(0, len(shown), len(matched.methods))]
    if len(matched.cells) == 1:
        blocks = blocks[:1]  # the block of all groups would be the same
    fractions = [*(matched.groups.fraction[cell.rows] for cell in matched.cells), matched.groups.fraction]
    headings = ["groups", "number", "method", "correlation" if against is None else "r"]
    headings += ["95% interval"] if against is None else [f"gain over {against}", "its interval", "verdict"]
    headings += ["slope", "error"] if against is None else ["error by", "slope", "error"]
    headings += ["ceiling"] if any("ceiling" in row for row in shown) else []
    headings += ["of ranks", "same sign"] if verbose else []
    rows = []
    for block, sizes in zip(blocks, map(_share, fractions), strict=False):
        best = max((row["pearson"] for row in block if row["pearson"] is not None), default=0.0)
        for row in block:
            leads = row is block[0]
            marked = len(block) > 1 and row["pearson"] is not None and row["pearson"] >= best - ROUNDING
            mark = f" [{marks.setdefault(row['status'], len(marks) + 1)}]" if row["pearson"] is None else ""
            cells = [
                f"{row['cell'] or row['kind'] or 'all'}, {sizes}" if leads else "",
                f"{row['groups']:,}" if leads or row["groups"] != block[0]["groups"] else "",
                ("* " if marked else "  ") + row["method"] + mark,
                _fixed(row["pearson"], 3),
            ]
            if against is None:
                cells.append(_interval(row["pearson_low"], row["pearson_high"]))
            else:
                gain = _interval(row["difference_low"], row["difference_high"], signed=True)
                change = row["error_change"]
                cells += [_signed(row["difference"]), gain, _verdict(row), "-" if change is None else f"{change:+.0%}"]
            cells += [_short(row["slope"]), _short(row["relative_error"])]
            if "ceiling" in headings:
                cells.append(_fixed(row.get("ceiling"), 3))
            if verbose:
                same = "-" if row["sign_agreement"] is None else f"{row['sign_agreement']:.0%}"
                cells += [_fixed(row["spearman"], 3), same]
            rows.append(tuple(cells))
    numbers = frozenset(at for at, heading in enumerate(headings) if heading not in ("groups", "method", "verdict"))
    spare = tuple(
        headings.index(heading)
        for heading in ("same sign", "of ranks", "slope", "number", "error")
        if heading in headings
    )
    return Block("Agreement", tuple(headings), rows, numbers, spare=spare)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _share(fractions: np.ndarray, digits: int = 3) -> str:
    """Sizes of groups as a percentage of the training rows, or as the range of the percentages."""
    low, high = (f"{100 * fraction:.{digits}g}" for fraction in (fractions.min(), fractions.max()))
    return f"{low}%" if low == high else f"{low}-{high}%"


def _fixed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.1e}"


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


def draw(matched: Matched, records: Records, figure: str, ending: str, *, from_one: bool = False) -> bytes:
    """The picture that ``--figure`` asks for, as the bytes of its file."""
    sizes = max(Counter(cell.kind for cell in matched.cells).values())
    if figure == "auto":
        figure = "curve" if sizes >= CURVE_FROM else "scatter"
    tests = len(matched.tests)
    pooled = f"mean over {tests} test rows" if tests > 1 else ""
    if figure == "scatter":
        meaning = meaning_of(matched.quantity, matched.in_words, removed=_of_removed(matched))
        clouds = _clouds(matched, records)
        if not clouds:
            raise UsageError("--plot: there is nothing to draw, no pair has both an estimate and a truth")
        note = "; ".join(filter(None, (meaning.sign, f"correlation: {pooled}" if pooled else "")))
        columns = min(sizes, MOST_COLUMNS) if sizes > 1 else 3
        change = f"change of the {meaning.name} if the group is removed"
        return scatter(clouds, ending, change=change, note=note, columns=columns)
    lines = _lines(records)
    if not lines:
        raise UsageError("--plot: there is no correlation to draw at any size", hint="try --figure scatter")
    if max(len(line.percent) for panel in lines.values() for line in panel.values()) == 1:
        raise UsageError(
            "--figure curve draws a line over sizes, and no kind of group has two", hint="--figure scatter"
        )
    band = f"band: 95% bootstrap interval over {_drawn(records, 'groups and test rows')}"
    band = band if records.config["bootstrap"] else ""
    return curve(lines, ending, note="; ".join(filter(None, (pooled, band))), from_one=from_one)


def _drawn(records: Records, both: str) -> str:
    return "the groups" if records.config["resample"] == GROUPS else both


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
                labels = [group_name(matched.groups.label[at]) for at in np.arange(len(matched.groups))[cell.rows]]
                _, names = common_part(labels)
                called = tuple(names[at] for at in np.nonzero(keep)[0].tolist())
                clouds[row["method"]] = Cloud(estimate[keep], truth[keep], row["pearson"], called)
        if clouds:
            name = cell.name or cell.kind
            kind = f"by {name.removeprefix('column:')}" if name.startswith("column:") else name
            title = f"{kind}, {_share(matched.groups.fraction[cell.rows], 2)} of the rows"
            panels[f"{title} ({number})" if title in panels else title] = clouds
    return panels


def _lines(records: Records) -> dict[str, dict[str, Any]]:
    """The panels of the curve: kind to method to its line, with sizes ascending."""
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
