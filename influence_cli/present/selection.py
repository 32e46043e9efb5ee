"""What ``ginf select`` shows of its result: a table, the rows of one group, and the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from influence_cli.analysis.flips import PREDICTED
from influence_cli.analysis.question import Question
from influence_cli.analysis.searches import SINGLE
from influence_cli.analysis.select import row_influences
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import NotConvergedError, UsageError
from influence_cli.present.changes import EFFECT, OF_NETWORK, View
from influence_cli.present.curve import curve_page, draw_curve
from influence_cli.present.described import block_title, described_page
from influence_cli.present.plots import check_plot
from influence_cli.present.plots_select import Curve, Image, images, sizes
from influence_cli.present.records import plain
from influence_cli.present.tables import Block, Page
from influence_cli.present.words import change_text, common_part, effect, figure, meaning, share, with_model
from influence_cli.results import OK, SelectionResult
from influence_cli.specs.names import written

SHOWN_IMAGES = 10
"""Number of training rows in a picture."""
RANKING = {SINGLE, "random", "greedy", "pgd"}
"""Strategies that never retrain; what the others compare by retraining is shown with ``--verify``."""
SHOWN_ROWS = 10
"""Number of training rows of a group that are named below a table."""
TELLING = 20.0
"""Largest ratio of a proven bound to the change found for which a table shows it; records have every bound."""
UNPROVEN = ": the intervals leave it open (a smaller --certify may tell)"
"""Suffix for a best group or a flip that is not proven."""
SHOWN_TESTS = 6
"""Number of test rows in a picture, each a panel or a line."""


def selection_page(result: SelectionResult, columns: Mapping[str, Any], view: View) -> Page:
    """What a search found: one block per test row, and below it the rows of the groups."""
    records = [dict(zip(columns, row, strict=True)) for row in zip(*map(plain, columns.values()), strict=True)]
    if "per_percent" in columns:
        return described_page(result, records, view)
    if "random_draws" in columns:
        return curve_page(result, records)
    flips = any("flips" in record for record in records)
    verified = any(record["actual"] is not None for record in records)
    blocks = []
    marks: dict[str, int] = {}
    for test in dict.fromkeys(record["test"] for record in records):
        of_test = [record for record in records if record["test"] == test]
        merged = _merged(of_test)
        if view.sort == EFFECT and "groups" in columns:
            merged.sort(key=lambda record: -abs(_change(record) or 0.0))
        if view.top is not None:
            merged = merged[: view.top]
        blocks.append(_block(merged, marks, flips=flips, verified=verified, verbose=view.verbose))
    explained = ["predicted: second order, without retraining" + "; retrained: the change itself" * verified]
    if not verified and not flips:
        unretrained = {record["strategy"] for record in records} <= RANKING and "at_most" not in columns
        said = "without --verify nothing is retrained" if unretrained else "--verify adds the change by retraining"
        explained.append(said)
    if result.provenance.config.get("curvature"):
        explained.append(OF_NETWORK.format("is predicted"))
    if flips and any(record["size"] is not None for record in records):
        explained.append("minimal: putting back any single row undoes the flip, retrained each")
    if result.provenance.config.get("within"):
        explained.append(
            "groups are of the rows that may be removed (--within), which holds for what is proven as well"
        )
    explained += [f"[{number}] {status}" for status, number in marks.items()]
    quantity = f"{PREDICTED} (0: the class flips)" if result.quantity == PREDICTED else result.quantity
    config = result.provenance.config
    title = with_model(meaning(quantity, config.get("asked")), config)
    return Page(title, tuple(blocks), tuple(explained))


def _change(record: Mapping[str, Any]) -> float | None:
    return record["predicted_second"] if record["actual"] is None else record["actual"]


def _merged(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records; identical unions of given groups become one record that names all strategies that found it."""
    by_groups: dict[tuple[str, ...], dict[str, Any]] = {}
    merged = []
    for record in records:
        groups = record.get("groups")
        if not groups:
            merged.append(record)
            continue
        key = tuple(sorted(groups))
        if key in by_groups:
            by_groups[key]["strategy"] += f", {record['strategy']}"
            continue
        by_groups[key] = dict(record)
        merged.append(by_groups[key])
    return merged


def _block(
    records: Sequence[Mapping[str, Any]],
    marks: dict[str, int],
    *,
    flips: bool,
    verified: bool,
    verbose: bool,
) -> Block:
    """The groups that were found for one test row."""
    columns = _figures(records, verified, verbose)
    keys, headings = list(columns), ["found by", "rows", "share", *columns.values()]
    grouped = any(record.get("groups") for record in records)
    labels = list(dict.fromkeys(label for record in records for label in record.get("groups") or ()))
    common, names = common_part(labels)
    short = dict(zip(labels, names, strict=True))
    last = ["minimal"] if flips else ["the group"]
    rows, below = [], []
    for record in records:
        name = record["found_by"] or "nothing found" if flips else record["strategy"]
        if record["draws"] is not None:
            name = f"{name}, mean of {record['draws']}"
        if grouped:
            name = f"{' + '.join(short[label] for label in record.get('groups') or ()) or 'any'} ({name})"
        size = "-" if record["size"] is None else f"{record['size']:,}"
        figures = [change_text(record[key], record["status"]) for key in keys]
        word = {True: "yes", False: "no", None: "-"}[record["minimal"]] if flips else ""
        end = [word if flips else effect(record["quantity"], _change(record))]
        if verbose:
            end.append(figure(record["seconds"]))
        mark = f"[{marks.setdefault(record['status'], len(marks) + 1)}]" if record["status"] != OK else ""
        rows.append((name, size, share(record["fraction"]), *figures, *end, mark))
        if record["rows"] is not None and not grouped:
            below.append(_rows_sentence(record, sized=len({one["size"] for one in records}) > 1))
        below += _proven(record, name)
        if flips and record["size"] is not None:
            after = record.get("class_after")
            classes = "" if after is None else f"predicted {record['predicted']} now, {after} without them; "
            below.append(f"  {classes}{figure(record['base'])} before, {figure(record['after'])} after")
    numbers = {1, 2, *range(3, 3 + len(keys))}
    last += ["seconds"] if verbose else []
    headings = [f"group {common}".rstrip() + " (found by)" if grouped else "found by", *headings[1:], *last, ""]
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return Block(block_title(records[0]), tuple(headings), rows, frozenset(numbers), tuple(dict.fromkeys(below)))


def _figures(records: Sequence[Mapping[str, Any]], verified: bool, verbose: bool) -> dict[str, str]:
    """Keys of the records that become columns of figures, with their headings."""
    columns = {"predicted_second": "predicted"}
    columns |= {"predicted_first": "first order"} if verbose else {}
    columns |= {"actual": "retrained"} if verified else {}
    grouped = any(record.get("groups") for record in records)  # names are long, and the sentence below has the bounds
    if (verbose or not grouped) and any(record.get("low") is not None for record in records):
        columns |= {"low": "proven from", "high": "to"}
    drawn = {"predicted_second_spread": "spread", "predicted_second_best": "best drawn"} if verbose else {}
    return columns | {key: drawn[key] for key in drawn if any(record[key] is not None for record in records)}


def _tells(record: Mapping[str, Any]) -> bool:
    """Whether the proven bound on all groups is close enough to the change found to be informative."""
    bound, change = record.get("bound"), _change(record)
    return bound is not None and change is not None and abs(bound) <= TELLING * abs(change)


def _proven(record: Mapping[str, Any], name: str) -> list[str]:
    """The sentences about all other groups (of the rows that may be removed)."""
    sentences = []
    size = record.get("at_most") or record["size"]
    sized = "" if size is None else f"{'at most ' if record.get('at_most') else ''}{size:,}"
    if record.get("optimal") and "flips" not in record:
        sentences.append(f"{name}: optimal, no other group of {sized} rows moves it more")
    elif _tells(record):
        sentences.append(f"no group of {sized} rows can move it by more than {record['bound']:+.4g}: that is proven")
    if "proven" in record and record["proven"] is not None:
        what = "the flip" if "flips" in record else f"{name}: best by retraining of the groups compared, which"
        sentences.append(f"{what} is {'' if record['proven'] else 'not '}proven{'' if record['proven'] else UNPROVEN}")
    if (record.get("at_least") or 1) > 1:
        sentences.append(f"no group of fewer than {record['at_least']:,} rows flips it: that is proven")
    return sentences


def _rows_sentence(record: Mapping[str, Any], *, sized: bool) -> str:
    """A group's rows, at most the first ``SHOWN_ROWS``, by their names in the user's file, and what they have in
    common; ``sized`` adds the group's size, where groups differ in it."""
    what = next((key for key in ("ids", "records") if record.get(key) is not None), "rows")
    rows = record[what]
    first = ", ".join(written([str(name)]) for name in rows[:SHOWN_ROWS])
    more = f" and {len(rows) - SHOWN_ROWS:,} more (--format rows prints all)" if len(rows) > SHOWN_ROWS else ""
    name = f"{record.get('found_by') or record['strategy']}{f', {len(rows):,} rows' if sized else ''}"
    common = f": {record['description']}" if record.get("description") else ""
    return f"{name}: training {what} {first}{more}{common}"


def rows_text(result: SelectionResult) -> str:
    """The row numbers of the best group, one per line; the best of several is the best by retraining."""
    records = [record for record in result.entries if record["rows"] is not None and record["strategy"] != SINGLE]
    if len(records) > 1 and "per_percent" not in records[0]:
        sign = 1.0 if records[0]["direction"] == "increase" else -1.0
        records = [record for record in records if np.isfinite(record["actual"])]
        records.sort(key=lambda record: -sign * record["actual"])
    if not records:
        reason = result.entries[0]["status"] if result.entries else "nothing was found"
        raise NotConvergedError(f"--format rows: there is no group to print: {reason}")
    return "".join(f"{row}\n" for row in records[0]["rows"].tolist())


def draw(question: Question, solver: HessianSolver, result: SelectionResult, path: str, figure: str) -> bytes:
    """The picture that ``figure`` asks for."""
    ending = check_plot(path)
    if any("random_draws" in record for record in result.entries):
        if figure == "rows":
            raise UsageError("--figure rows draws one group, and --sizes has many", hint="leave --figure out")
        return draw_curve(result, ending)
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
    """For each panel (a test row) the strategies with their influences at the sizes, in per cent."""
    panels: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for record in result.entries:
        name = "all test rows" if record["test"] == "mean" else f"test row {record['test']}"
        if record["test"] is None:
            name = question.quantity
        if name in panels or len(panels) < SHOWN_TESTS:
            panels.setdefault(name, {}).setdefault(record["strategy"], []).append(record)
    return {
        name: {strategy: _curve(records) for strategy, records in records_by_strategy.items()}
        for name, records_by_strategy in panels.items()
    }


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
        influence = influences[record["rows"], place[test]]
        order = np.argsort(-influence if record["direction"] == "increase" else influence, kind="stable")[:SHOWN_IMAGES]
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
    """Whether ``record`` beats ``other`` by retraining, or follows it where not both were retrained."""
    if not np.isfinite(record["actual"]) or not np.isfinite(other["actual"]):
        return True
    sign = 1.0 if record["direction"] == "increase" else -1.0
    return bool(sign * record["actual"] > sign * other["actual"])


def _note(question: Question) -> str:
    changed = f"change of the {question.quantity} if it alone is removed (first order)"
    return f"under each training row its label, its number and the {changed}"
