"""What ``ginf select`` shows of its result: a table, the rows of one group, and the pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from influence_cli.analysis.question import Question
from influence_cli.analysis.searches import PREDICTED, SINGLE
from influence_cli.analysis.select import row_influences
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import NotConvergedError, UsageError
from influence_cli.present.headings import meaning
from influence_cli.present.plots import check_plot
from influence_cli.present.plots_select import Curve, Image, images, sizes
from influence_cli.present.tables import Layout
from influence_cli.results import SelectionResult

SHOWN_IMAGES = 10
"""Training rows in a picture."""
SHOWN_TESTS = 6
"""Test rows in a picture, each a panel or a line."""


def selection_table(result: SelectionResult) -> tuple[dict[str, Any], Layout]:
    """The columns as a table shows them, and its layout."""
    columns = result.columns()
    flips = "flips" in columns
    headings = {"strategy": "found by" if flips else "strategy", "groups": "groups", "size": "rows"}
    headings |= {"fraction": "share", "test": "test", "base": "before"}
    if flips:
        columns["strategy"] = columns["found_by"]
        headings |= {"after": "after", "minimal": "minimal"}
    headings |= {"predicted_first": "first order", "predicted_second": "second order", "actual": "actual change"}
    if any(count is not None for count in columns["draws"]):
        columns["strategy"] = [
            f"random, mean of {count}" if count is not None else name
            for name, count in zip(columns["strategy"], columns["draws"], strict=True)
        ]
        headings |= {"predicted_second_best": "best drawn", "predicted_second_spread": "spread"}
        if any(value is not None for value in columns["actual_best"]):
            headings |= {"actual_best": "best actual", "actual_spread": "actual spread"}
    headings["seconds"] = "seconds"
    if any(status != "ok" for status in columns["status"]):
        headings["status"] = "status"
    if "groups" in columns:
        columns["groups"] = [None if names is None else " + ".join(names) for names in columns["groups"]]
    retrained = all(value is not None and np.isfinite(value) for value in columns["actual"])
    explained = ["first and second order: predicted; actual: retrained without the group"]
    if not retrained and not flips:
        explained.append("without --verify nothing is retrained for actual")
    if flips:
        explained.append("minimal: putting back any single row undoes the flip, retrained each")
    breaks = [at for at in range(1, len(columns["test"])) if columns["test"][at] != columns["test"][at - 1]]
    quantity = f"{PREDICTED} (0: the class flips)" if result.quantity == PREDICTED else result.quantity
    return columns, Layout(meaning(quantity), "\n".join(explained), headings, breaks=frozenset(breaks))


def rows_text(result: SelectionResult) -> str:
    """The row numbers of the best group, one a line; of several, the best by retraining."""
    found = [record for record in result.entries if record["rows"] is not None and record["strategy"] != SINGLE]
    if len(found) > 1:
        sign = 1.0 if found[0]["direction"] == "increase" else -1.0
        found = [record for record in found if np.isfinite(record["actual"])]
        found.sort(key=lambda record: -sign * record["actual"])
    if not found:
        reason = result.entries[0]["status"] if result.entries else "nothing was found"
        raise NotConvergedError(f"--format rows: there is no group to print: {reason}")
    return "".join(f"{row}\n" for row in found[0]["rows"].tolist())


def draw(question: Question, solver: HessianSolver, result: SelectionResult, path: str, figure: str) -> bytes:
    """The picture that was asked for."""
    ending = check_plot(path)
    several = len({record["size"] for record in result.entries}) > 1
    flips = any("flips" in record for record in result.entries)
    if figure == "auto":
        pictured = question.model.dataset.image_shape is not None and (flips or not several)
        figure = "rows" if pictured and question.tests is not None and not question.tests.mean else "sizes"
    if figure == "sizes":
        if flips:
            raise UsageError("--flip finds one size: there is nothing to draw", hint="leave --plot out")
        return sizes(_curves(question, result), ending, change=meaning(question.quantity).partition(";")[0])
    return images(_images(question, solver, result), ending, note=_note(question))


def _curves(question: Question, result: SelectionResult) -> dict[str, dict[str, Curve]]:
    """Panel (a test row) to strategy to its influences at the sizes, in per cent."""
    panels: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for record in result.entries:
        name = "all test rows" if record["test"] == "mean" else f"test row {record['test']}"
        if record["test"] is None:
            name = question.quantity
        if name in panels or len(panels) < SHOWN_TESTS:
            panels.setdefault(name, {}).setdefault(record["strategy"], []).append(record)
    return {name: {strategy: _curve(records) for strategy, records in own.items()} for name, own in panels.items()}


def _curve(records: list[dict[str, Any]]) -> Curve:
    records = sorted(records, key=lambda record: record["size"])

    def column(key: str) -> np.ndarray:
        return np.array([np.nan if record[key] is None else record[key] for record in records], dtype=float)

    return Curve(
        100.0 * column("fraction"),
        column("predicted_second"),
        column("actual"),
        column("predicted_second_spread"),
    )


def _images(question: Question, solver: HessianSolver, result: SelectionResult) -> list[tuple[Image, list[Image]]]:
    """Each test row with the rows of its group that matter most by themselves."""
    data, tests = question.model.dataset, question.tests
    if data.image_shape is None or tests is None or tests.mean:
        raise UsageError("--figure rows draws a test row and training rows as images", hint="use --figure sizes")
    influences = row_influences(question, solver)
    best: dict[int, dict[str, Any]] = {}
    for record in result.entries:
        if record["rows"] is not None and (record["test"] not in best or _better(record, best[record["test"]])):
            best[record["test"]] = record
    if not best:
        raise UsageError("--figure rows: no group was found that could be drawn")
    out = []
    names, place = data.classes, {int(row): column for column, row in enumerate(tests.rows)}
    for test, record in list(best.items())[:SHOWN_TESTS]:
        own = influences[record["rows"], place[test]]
        order = np.argsort(-own if record["direction"] == "increase" else own, kind="stable")[:SHOWN_IMAGES]
        pixels = data.X_test[test].reshape(data.image_shape)
        guess = int(question.model.predict(data.X_test[test : test + 1])[0]) if names else None
        said = f", predicted {names[guess]}" if guess is not None else ""
        label = names[data.y_test[test]] if names else f"{data.y_test[test]:.3g}"
        rows = []
        for row in record["rows"][order]:
            own_label = names[data.y_train[row]] if names else f"{data.y_train[row]:.3g}"
            caption = f"{own_label} ({row})\n{influences[row, place[test]]:+.2g}"
            rows.append(Image(data.X_train[row].reshape(data.image_shape), caption))
        out.append((Image(pixels, f"test row {test}:\n{label}{said}"), rows))
    return out


def _better(record: dict[str, Any], other: dict[str, Any]) -> bool:
    """By retraining where both were retrained, else the later strategy."""
    if not np.isfinite(record["actual"]) or not np.isfinite(other["actual"]):
        return True
    sign = 1.0 if record["direction"] == "increase" else -1.0
    return bool(sign * record["actual"] > sign * other["actual"])


def _note(question: Question) -> str:
    changed = f"change of the {question.quantity} if it alone is removed (first order)"
    return f"under each training row its label, its number and the {changed}"
