"""The page of estimated or measured changes: one block per test row, groups by the size of their effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.analysis.several import separate
from influence_cli.core.credit import BANZHAF, CREDITS, EXACT_UP_TO, SHAPLEY
from influence_cli.data.dataset import Dataset
from influence_cli.present.records import plain
from influence_cli.present.removed import IN_SAMPLE, pooled, removed_title, without_text
from influence_cli.present.tables import Block, Page
from influence_cli.present.words import (
    called,
    change_text,
    common_part,
    effect,
    figure,
    group_name,
    label_text,
    meaning,
    row_name,
    share,
    with_model,
)
from influence_cli.results import OK, REFINED, REMOVED_TEST, InfluenceResult, TruthResult

TABLE_ROWS = 200
"""Rows that a page shows without --top: nobody reads more than that on a terminal."""
EFFECT, GIVEN, SIZE = "effect", "given", "size"
SORTS = (EFFECT, GIVEN, SIZE)
BEST_FIRST = (*CREDITS, "actual", "refined", "newton", "second-full", "second", "rif", "first", "first-koh")
"""The order of preference for the figure that a table is sorted by and that says what the group did."""

CREDIT_NAMES = {SHAPLEY: "Shapley value", BANZHAF: "Banzhaf value"}
AVERAGED = {
    SHAPLEY: "on average over all orders in which groups join",
    BANZHAF: "on average over all sets of other groups",
}
EVALUATED = {
    "linear": "estimates: gradient of f times the change of the parameters",
    "exact": "estimates: f at the changed parameters minus f now; f is what the heading names",
}
"""What the estimates are, by how they were evaluated."""
NO_ERROR = "no error is known of these estimates: --verify shows how far they are off"
"""The note shown if no figure has an error and nothing was retrained."""
MEASURED = {"actual": "retrained"}
"""The key of the change in a result of retraining, and its heading."""
OWN = "estimates: f at the changed parameters; change: that of the last estimate or of retraining, minus in-sample"
"""The sentence of EVALUATED for ``--test removed``."""
ESTIMATED = "refined and the errors estimate"
OF_NETWORK = (
    "proximal: what {} is how the trained network responds, held near its parameters;"
    " training it again without the group can end elsewhere, even with the other sign (retrained, ginf groundtruth)"
)


@dataclass(frozen=True)
class View:
    """How a page is to look: the order of the groups, how many for each test row, and whether with diagnostics."""

    sort: str = EFFECT
    top: int | None = None
    verbose: bool = False
    data: Dataset | None = None
    """The training rows, where their names are known."""

    def name_of_row(self, label: str) -> str:
        """The file's name for the row of a group of one row, in parentheses; empty for other groups."""
        row = label.removeprefix("rows:")
        if self.data is None or row == label or not row.isdigit():
            return ""
        for what, names in (("id", self.data.ids_train), ("record", self.data.records_train)):
            if names is not None:
                return f" ({what} {names[int(row)]})"
        return ""


@dataclass(frozen=True)
class Figures:
    """The columns of numbers: the ``changes`` (key to heading), the keys of their ``errors``, and diagnostics
    (``others``)."""

    changes: Mapping[str, str]
    errors: Mapping[str, str]
    others: Mapping[str, str]

    @property
    def headline(self) -> str:
        """The change by which the table is sorted."""
        return next((key for key in BEST_FIRST if key in self.changes), next(iter(self.changes)))


def influence_page(result: InfluenceResult, columns: Mapping[str, Any], view: View) -> Page:
    """The page of an influence result with its ``columns()``."""
    figures = influence_figures(result, columns)
    return _page(result, columns, figures, view, *evaluated(result))


def evaluated(result: InfluenceResult) -> tuple[str, ...]:
    """What the estimates are, in sentences."""
    said = [EVALUATED[result.evaluate]]
    if result.actual is None and REFINED in result.errors and np.isnan(result.errors[REFINED]).all():
        said.append(NO_ERROR)
    return (*said, *([] if result.objective is None else [OF_NETWORK.format(ESTIMATED)]))


def influence_figures(result: InfluenceResult, columns: Mapping[str, Any]) -> Figures:
    """The columns of numbers in a result of estimates."""
    changes = {method: method for method in result.values}
    if result.objective is not None and "refined" in changes:
        changes["refined"] = f"refined ({result.objective})"
    named = {method: "error" if method == "refined" else f"{method}_error" for method in changes}
    errors = {method: key for method, key in named.items() if key in columns}
    if "low" in columns:
        changes |= {"low": "proven from", "high": "to"}
    if "actual" in columns:
        changes["actual"] = "retrained" if result.objective is None else "retrained (warm)"
    return Figures(changes, errors, {"steps": "steps"} if "steps" in columns else {})


def truth_page(result: TruthResult, columns: Mapping[str, Any], view: View) -> Page:
    """The page of changes by retraining: of a truth result with its ``columns()``."""
    changes = {"actual": "retrained" if result.tests.tolist() == [REMOVED_TEST] else "actual change"}
    errors = {"actual": "actual_error"} if view.verbose and "actual_error" in columns else {}
    if "low" in columns:
        changes |= {"low": "proven from", "high": "to"}
    if result.repeats is not None:
        changes["spread"] = "spread"
    how = [_measured(result)]
    for kind in result.credit.keys() & set(CREDITS):
        changes = {kind: CREDIT_NAMES[kind], **changes}
        if view.verbose or len(result.groups) > EXACT_UP_TO:
            errors = {kind: f"{kind}_error", **errors}
    how += credited(result)
    diagnostics = {"grad_norm": "gradient norm", "iterations": "iterations", "seconds": "seconds"}
    return _page(result, columns, Figures(changes, errors, diagnostics), view, *how)


def credited(result: InfluenceResult | TruthResult) -> list[str]:
    """What the credited values of groups in a result are, in sentences."""
    kinds = [kind for kind in CREDITS if isinstance(result, TruthResult) and kind in result.credit]
    return [f"{CREDIT_NAMES[kind]}: f without the group minus f with it, {AVERAGED[kind]}" for kind in kinds]


def _measured(result: TruthResult) -> str:
    """How the truth was computed; without naming the strategy if the model has a single minimum."""
    config = result.provenance.config
    how = {
        "proximal": "measured: minimum of the proximal objective without each group, which estimates approximate",
        "cold": "measured: retrained without each group, from where training began",
    }.get(config.get("retrain", "cold" if config.get("cold") else ""), "measured: retrained without each group")
    if result.actual_error is not None and (known := result.actual_error[np.isfinite(result.actual_error)]).size:
        how += f", estimated to be off by {known.max():.1g} at most"
    if result.repeats is None:
        return how
    return f"{how}; actual change: mean of {len(result.repeats)} seeds, spread: their standard deviation"


class _Sheet:
    """The records of a result, by group and test row, as cells."""

    def __init__(self, result: InfluenceResult | TruthResult, columns: Mapping[str, Any], figures: Figures, view: View):
        self.quantity, self.figures, self.view = result.quantity, figures, view
        self.removed = result.tests.tolist() == [REMOVED_TEST]
        self.groups, self.tests = len(result.groups), len(result.tests)
        names = [group_name(label) for label in result.groups.label]
        self.common, self.names = common_part(names)
        self.columns, self.known = columns, {**figures.changes, **(figures.others if view.verbose else {})}
        self.marks: dict[str, int] = {}

    def record(self, group: int, test: int) -> dict[str, Any]:
        """One record with plain Python values."""
        at = group * self.tests + test
        return {key: plain([values[at]])[0] for key, values in self.columns.items()}

    def order(self, groups: Sequence[int], value: Callable[[int], dict[str, Any]]) -> list[int]:
        """The indices in the order of ``--sort``; by effect, infinite values come first and missing ones last."""
        if self.view.sort == GIVEN:
            return list(groups)
        if self.view.sort == SIZE:
            return sorted(groups, key=lambda at: -value(at)["size"])
        key = self.figures.headline

        def rank(at: int) -> tuple[int, float]:
            record = value(at)
            if record[key] is not None:
                return 1, -abs(record[key])
            return (0 if change_text(None, record["status"]) == "unbounded" else 2), 0.0

        return sorted(groups, key=rank)

    def cells(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """The figures of a record, what the group did, and the mark of a note."""
        status = record["status"]
        shown = [figure(record["base"])] if self.removed else []
        for key in self.known:
            if key in self.figures.others or key == "spread":
                shown.append(figure(record[key]))
                continue
            text = without_text(record, key) if self.removed else change_text(record[key], status)
            error = record[self.figures.errors[key]] if key in self.figures.errors else None
            is_proven = record.get("low") is not None  # bounds say more than an estimated error
            shown.append(text if error is None or is_proven else f"{text} ± {error:.2g}")
        mark = ""
        if status != OK:
            mark = f"[{self.marks.setdefault(status, len(self.marks) + 1)}]"
        change = record[self.figures.headline]
        return (*shown, change_text(change, status) if self.removed else effect(record["quantity"], change), mark)

    def headings(self) -> tuple[str, ...]:
        if self.removed:
            named = [f"estimated ({name})" if key == "refined" else name for key, name in self.known.items()]
            return (IN_SAMPLE, *named, "change", "")
        return (*self.known.values(), "the group", "")

    def numbers(self, first: int) -> frozenset[int]:
        return frozenset(range(first, first + len(self.known) + 2 * self.removed))

    def spare(self, first: int) -> tuple[int, ...]:
        """The columns that a narrow terminal omits: all figures except the headline, the truth and the bounds."""
        kept = {self.figures.headline, "actual", "refined", "low", "high"}
        return tuple(first + self.removed + at for at, key in enumerate(self.known) if key not in kept)

    def notes(self) -> list[str]:
        return [f"[{number}] {status}" for status, number in self.marks.items()]


def _page(
    result: InfluenceResult | TruthResult, columns: Mapping[str, Any], figures: Figures, view: View, *how: str
) -> Page:
    sheet = _Sheet(result, columns, figures, view)
    blocks, left = _by_group(sheet) if sheet.groups == 1 and sheet.tests > 1 else _by_test(sheet)
    blocks = [_without_empty(block) for block in blocks]
    legend = [*how, *sheet.notes()]
    if left:
        legend.append(f"{left:,} more rows: --format csv has all, --top N the N largest{of_each(result.tests)}")
    title = meaning(result.quantity, result.provenance.config.get("asked"))
    if sheet.removed:
        title = removed_title(result.quantity)
        legend = [sentence.replace(EVALUATED["exact"], OWN) for sentence in legend]
    legend += filter(None, closing_line(result, columns, figures.changes).split("\n"))
    return Page(with_model(title, result.provenance.config), tuple(blocks), tuple(legend))


def of_each(tests: np.ndarray) -> str:
    """The unit that ``--top`` counts in: each test row, if the figures belong to single ones."""
    return " of each test row" if (tests >= 0).any() else ""


def closing_line(result: InfluenceResult | TruthResult, columns: Mapping[str, Any], changes: Mapping[str, str]) -> str:
    """The result of all groups together, or an empty text: for ``--test removed`` the mean by each of the ``changes``
    (key to heading), for a coefficient and clusters its standard error."""
    errors = [_standard_error(part) for part in separate(result) if part.crv3 and part.crv3[0]]
    if errors:
        return "\n".join(errors)
    if result.tests.tolist() != [REMOVED_TEST]:
        return ""
    no_changes = {"low", "high", "spread"}
    return pooled(result.quantity, columns, {key: name for key, name in changes.items() if key not in no_changes})


def _standard_error(result: InfluenceResult | TruthResult) -> str:
    """The sentence with the standard error of a coefficient from the changes without each cluster."""
    name, count, base, error = result.quantity.partition(":")[2], len(result.groups), result.base[0], result.crv3[0]
    assert error is not None
    estimated = isinstance(result, InfluenceResult) and result.actual is None
    return (
        f"cluster-jackknife standard error of {name} (CRV3, {count:,} clusters): {figure(error)}; the coefficient is"
        f" {figure(float(base))}, t = {figure(float(base) / error)} with {count - 1:,} degrees of freedom"
        + (" (from the estimates)" if estimated else "")
    )


def _by_test(sheet: _Sheet) -> tuple[list[Block], int]:
    """One block per test row, and how many rows are left out."""
    blocks: list[Block] = []
    left, room = 0, TABLE_ROWS
    heading = f"group {sheet.common}" if sheet.common else "group"
    for test in range(sheet.tests):
        if room <= 0 and sheet.view.top is None:
            left += sheet.groups
            continue
        order = sheet.order(range(sheet.groups), lambda group, test=test: sheet.record(group, test))  # type: ignore[misc]
        kept = order[: room if sheet.view.top is None else sheet.view.top]
        left += len(order) - len(kept)
        room -= len(kept)
        rows = []
        for group in kept:
            record = sheet.record(group, test)
            name = sheet.names[group] + (called(record) if sheet.removed else sheet.view.name_of_row(record["group"]))
            rows.append((name, f"{record['size']:,}", share(record["fraction"]), *sheet.cells(record)))
        title = _about(sheet, sheet.record(0, test)) if sheet.groups and not sheet.removed else ""
        numbers = sheet.numbers(3) | {1, 2}
        spare = (*sheet.spare(3), 2)
        blocks.append(Block(title, (heading, "rows", "share", *sheet.headings()), rows, numbers, spare=spare))
    return blocks, left


def _by_group(sheet: _Sheet) -> tuple[list[Block], int]:
    """One group and several test rows: a single block with one row per test row."""
    records = [sheet.record(0, test) for test in range(sheet.tests)]
    order = sheet.order(range(sheet.tests), records.__getitem__)
    kept = order[: TABLE_ROWS if sheet.view.top is None else sheet.view.top]
    rows = []
    for at in kept:
        record = records[at]
        name = (
            record["quantity"] if record["test"] is None else row_name(record["test"], record["record"], record["id"])
        )
        classes = (label_text(record["true"]), label_text(record["predicted"]))
        rows.append((name, *classes, figure(record["base"]), *sheet.cells(record)))
    first = records[0]
    title = f"Group {sheet.names[0]}: {first['size']:,} training rows ({share(first['fraction'])})"
    headings = ("test row", "true", "predicted", "now", *sheet.headings())
    block = Block(title, headings, rows, sheet.numbers(4) | {3}, spare=sheet.spare(4))
    return [block], len(order) - len(kept)


def _without_empty(block: Block) -> Block:
    """The block without its last column if no row has a note."""
    return block if any(row[-1] for row in block.rows) else block.without(len(block.headings) - 1)


def _about(sheet: _Sheet, record: Mapping[str, Any]) -> str:
    """The test row in words: its name, its classes, and f now."""
    parts = []
    if record["true"] is not None:
        parts.append(f"true {label_text(record['true'])}")
    if record["predicted"] is not None:
        parts.append(f"predicted {label_text(record['predicted'])}")
    name = row_name(record["test"], record["record"], record["id"])
    about = f"{name}: {', '.join(parts)}" if parts else name
    now = f"{_short(record['quantity'], record)} now {figure(record['base'])}"
    return f"{about}; {now}" if parts else f"{about}: {now}"


def _short(quantity: str, record: Mapping[str, Any]) -> str:
    """The quantity in a word or two, with its class."""
    if quantity == "prob":
        label = record["predicted"] if record["true"] is None else record["true"]
        return "probability" if label is None else f"probability of {label_text(label)}"
    kind, _, name = quantity.partition(":")
    return f"probability of {name}" if kind == "prob" else quantity
