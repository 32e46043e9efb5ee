"""The changes in a report: estimates and retraining of the same pairs side by side, with bars, largest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from influence_cli.present.changes import (
    BEST_FIRST,
    CREDIT_NAMES,
    MEASURED,
    TABLE_ROWS,
    View,
    closing_line,
    credited,
    evaluated,
    influence_figures,
    of_each,
)
from influence_cli.present.removed import IN_SAMPLE
from influence_cli.present.report import Bar, Cell, Section, Sheet
from influence_cli.present.words import (
    Meaning,
    called,
    change_text,
    common_part,
    counted,
    effect,
    figure,
    group_name,
    label_text,
    meaning_of,
    row_name,
    share,
)
from influence_cli.results import OK, REFINED, REMOVED, InfluenceResult, TruthResult

Result = InfluenceResult | TruthResult
MOST_STRETCH = 2.0
"""Limit of the drawn error range, as a multiple of the longest bar; longer ranges are cut at the picture's edge."""


@dataclass
class Pair:
    """What is known about one group and one test row; None where it is unknown."""

    record: Mapping[str, Any]
    method: str | None = None
    estimate: float | None = None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    actual: float | None = None
    credit: Mapping[str, float | None] = field(default_factory=dict)
    """The group's Shapley or Banzhaf value, by name in words."""
    status: str = OK
    truth_status: str = OK
    objective: str | None = None
    """The objective that the estimate is about, for a network."""
    is_verified: bool = False
    """Whether the truth was retrained beside the estimate."""

    @property
    def best(self) -> float | None:
        """The change by retraining if it is known, else the estimate."""
        return self.estimate if self.actual is None else self.actual

    @property
    def unbounded(self) -> bool:
        return any(change_text(None, status) == "unbounded" for status in (self.status, self.truth_status))

    def rank(self) -> tuple[int, float]:
        """Sort key: pairs without a finite value first, then the largest effects, and unknown ones last."""
        if self.best is not None:
            return 1, -abs(self.best)
        return (0 if self.unbounded else 2), 0.0


def pairs_of(results: Sequence[Result]) -> dict[tuple[str, Any], Pair]:
    """Every pair of the files, by the digest of the group's rows and the test row."""
    pairs: dict[tuple[str, Any], Pair] = {}
    for result in results:
        digests = [digest for digest in result.groups.digest for _ in range(len(result.tests))]
        method = error = None
        if isinstance(result, InfluenceResult):
            method = next((name for name in BEST_FIRST if name in result.values), next(iter(result.values)))
            error = influence_figures(result, result.columns()).errors.get(method)
        for digest, record in zip(digests, result.records(), strict=True):
            pair = pairs.setdefault((digest, record["test"]), Pair(record))
            if record.get("actual") is not None:
                pair.actual = record["actual"]
                pair.is_verified = method is not None
            if record.get("low") is not None and record.get("high") is not None:
                pair.low, pair.high = record["low"], record["high"]
            if isinstance(result, TruthResult):
                pair.credit = {CREDIT_NAMES[kind]: record[kind] for kind in CREDIT_NAMES if kind in result.credit}
            if method is None:
                pair.truth_status = record["status"]
                continue
            if pair.method is None or _place(method) < _place(pair.method):
                pair.status, pair.method, pair.estimate = record["status"], method, record[method]
                pair.objective = record.get("objective") if method == REFINED else None
                pair.error = None if error is None else record[error]
    return pairs


def _place(method: str) -> int:
    """Rank of a method, the most exact first."""
    return BEST_FIRST.index(method) if method in BEST_FIRST else len(BEST_FIRST)


def changes_section(results: Sequence[Result], pairs: Sequence[Pair], view: View) -> Section:
    """The groups of one quantity by the size of their effect, one table per test row; one table for a single group."""
    quantity = results[0].quantity
    marks: dict[str, int] = {}
    tests: dict[Any, list[Pair]] = {}
    for pair in pairs:
        tests.setdefault(pair.record["test"], []).append(pair)
    one_group = len(tests) > 1 and len({(pair.record["group"], pair.record["size"]) for pair in pairs}) == 1
    of_removed = any(pair.record["test"] == REMOVED for pair in pairs)
    meaning = meaning_of(quantity, results[0].provenance.config.get("asked"), removed=of_removed)
    blocks = [list(pairs)] if one_group else list(tests.values())
    sheets: list[Sheet] = []
    left, most = 0, max(TABLE_ROWS // max(len(blocks), 1), 1) if view.top is None else view.top
    for block in blocks:
        block.sort(key=Pair.rank)
        left += len(block[most:])
        sheets.append(_sheet(block[:most], quantity, meaning, marks, view, one_group=one_group))
    notes = [f"[{number}] {status}" for status, number in marks.items()]
    if left:
        each = of_each(results[0].tests)
        notes.append(f"{left:,} smaller effects are left out (--top N shows the N largest{each})")
    estimates = [result for result in results if isinstance(result, InfluenceResult)]
    said = dict.fromkeys(sentence for result in estimates for sentence in evaluated(result))
    notes += filter(None, map(_closing, results))
    sign = f"A positive change says that {meaning.sign.removeprefix('positive: ')}."
    if not meaning.about:
        sign += " Without the group the figure is higher then"
        sign += ": a gap below 0 is closer to 0, or beyond it." if quantity.startswith("gap") else "."
    return Section(
        f"Change of the {meaning.name} if a group is removed",
        (sign,),
        tuple(sheets),
        notes=(
            _drawn(pairs, several=len(sheets) > 1),
            *said,
            *dict.fromkeys(text for result in results for text in credited(result)),
            *notes,
        ),
    )


def _drawn(pairs: Sequence[Pair], *, several: bool) -> str:
    """What the pictures of the changes show."""
    parts = ["bar: the change"]
    if any(end is not None for pair in pairs for end in _ends(pair)):
        parts.append("thin line: how far it may be off")
    if any(pair.estimate is not None and pair.actual is not None for pair in pairs):
        parts.append("upright mark: the change by retraining")
    if several:
        parts.append("every table has a scale of its own")
    return "; ".join(parts)


def _closing(result: Result) -> str:
    """The closing sentence about all groups of a file."""
    columns = result.columns()
    named = influence_figures(result, columns).changes if isinstance(result, InfluenceResult) else MEASURED
    return closing_line(result, columns, named)


def _sheet(
    pairs: Sequence[Pair], quantity: str, meaning: Meaning, marks: dict[str, int], view: View, *, one_group: bool
) -> Sheet:
    """One table, whose first sentence describes the largest effect."""
    first = pairs[0].record
    if one_group:
        names = [row_name(pair.record["test"], pair.record["record"], pair.record["id"]) for pair in pairs]
        heading, title = "test row", f"Group {group_name(first['group'])}"
    else:
        common, names = common_part([group_name(pair.record["group"]) for pair in pairs])
        if first["test"] == REMOVED:
            names = [name + called(pair.record) for name, pair in zip(names, pairs, strict=True)]
        else:
            names = [name + view.name_of_row(pair.record["group"]) for name, pair in zip(names, pairs, strict=True)]
        heading, title = f"group {common}".rstrip(), about(first)
    known = {key: any(getattr(pair, key) is not None for pair in pairs) for key in ("estimate", "actual", "low")}
    known["difference"] = known["estimate"] and known["actual"]
    known["note"] = any({pair.status, pair.truth_status} != {OK} for pair in pairs)
    methods = list(dict.fromkeys(pair.method for pair in pairs if pair.method is not None))
    objectives = list(dict.fromkeys(pair.objective for pair in pairs if pair.objective is not None))
    estimate = f"estimate ({', '.join((*methods, *objectives))})"
    retrained = "retrained (warm)" if objectives and any(pair.is_verified for pair in pairs) else "retrained"
    headings = [heading, "rows", "share", "size of the effect", estimate, retrained, "difference"]
    headings += ["proven from", "to", IN_SAMPLE if first["test"] == REMOVED else "the group", "note"]
    named_credits = list(dict.fromkeys(name for pair in pairs for name in pair.credit))
    needs = {4: "estimate", 5: "actual", 6: "difference", 7: "low", 8: "low", 10: "note"}
    kept = [at for at in range(len(headings)) if at not in needs or known[needs[at]]]
    rows = []
    for name, pair, bar in zip(names, pairs, bars(pairs, quantity), strict=True):
        cells = _cells(name, pair, bar, quantity, marks)
        if len(methods) > 1 and pair.method is not None:
            cells[4] = replace(cells[4], text=f"{cells[4].text} ({pair.method})")
        shares = [pair.credit.get(name) for name in named_credits]
        divided = [Cell(change_text(meaning, pair.truth_status), meaning) for meaning in shares]
        rows.append((*(cells[at] for at in kept), *divided))
    figures = (1, 2, 4, 5, 6, 7, 8, *([9] if first["test"] == REMOVED else []))
    numbers = frozenset(kept.index(at) for at in figures if at in kept)
    numbers |= set(range(len(kept), len(kept) + len(named_credits)))
    return Sheet(
        title,
        (*(headings[at] for at in kept), *named_credits),
        rows,
        numbers,
        lead=(in_words(pairs[0], quantity, meaning, names[0] if one_group else ""),),
    )


def _cells(name: str, pair: Pair, bar: Bar | None, quantity: str, marks: dict[str, int]) -> list[Cell]:
    record = pair.record
    statuses = dict.fromkeys(status for status in (pair.status, pair.truth_status) if status != OK)
    noted = " ".join(f"[{marks.setdefault(status, len(marks) + 1)}]" for status in statuses)
    status = next(iter(statuses), OK)
    return [
        Cell(name),
        Cell(f"{record['size']:,}", record["size"]),
        Cell(share(record["fraction"]), record["fraction"]),
        Cell("", None if pair.best is None else abs(pair.best), bar),
        Cell(_with_error(pair), pair.estimate),
        Cell(change_text(pair.actual, status), pair.actual),
        Cell(_difference(pair), None if pair.estimate is None or pair.actual is None else pair.estimate - pair.actual),
        Cell(change_text(pair.low), pair.low),
        Cell(change_text(pair.high), pair.high),
        Cell(figure(record["base"]), record["base"])
        if record["test"] == REMOVED
        else Cell(effect(quantity, pair.best)),
        Cell(noted),
    ]


def _with_error(pair: Pair) -> str:
    text = change_text(pair.estimate, pair.status)
    return text if pair.error is None or pair.estimate is None else f"{text} ± {pair.error:.2g}"


def _difference(pair: Pair) -> str:
    if pair.estimate is None or pair.actual is None:
        return "-"
    difference = pair.estimate - pair.actual
    part = f" ({abs(difference / pair.actual):.1%})" if pair.actual else ""
    return f"{difference:+.2g}{part}"


def about(record: Mapping[str, Any]) -> str:
    """The test row in words: its name and its classes."""
    name = row_name(record["test"], record["record"], record["id"])
    if record["test"] == REMOVED:
        return name
    parts = [f"{key} {label_text(record[key])}" for key in ("true", "predicted") if record[key] is not None]
    return f"{name}: {', '.join(parts)}" if parts else name


def in_words(pair: Pair, quantity: str, meaning: Meaning, row: str) -> str:
    """The largest effect as a sentence: the group, the quantity (of a test ``row`` not yet named), size and
    certainty."""
    record = pair.record
    who = f"without {group_name(record['group'])} ({counted(record['size'], 'row')}, {share(record['fraction'])})"
    of_row = f" of {row[0].lower()}{row[1:]}," if row else ""
    name = meaning.short.replace("each group's own rows", "its own rows")
    now = f"the {name}{of_row} now at {figure(record['base'])}"
    if pair.best is None:
        why = "has no finite value" if pair.unbounded else "has no change that could be computed"
        return f"Largest effect: {who}, {now} {why}."
    change = f"{now} changes by {change_text(pair.best)}"
    before, after = figure(record["base"]), figure(record["base"] + pair.best)
    if before != after and (pair.actual is not None or pair.method == REFINED):
        change = f"the {name}{of_row} goes from {before} to {after} and so changes by {change_text(pair.best)}"
    sure = "retrained" if pair.actual is not None else "an estimate without a stated error"
    if pair.actual is None and pair.error is not None:
        sure = f"estimated, ± {pair.error:.2g}"
    if pair.low is not None:
        sure += f", proven from {change_text(pair.low)} to {change_text(pair.high)}"
    word = effect(quantity, pair.best)
    return f"Largest effect: {who}, {change} ({sure}): the group {_did(word, meaning.about)}."


def _did(word: str, what: str) -> str:
    return "had no effect" if word == "no effect" else f"{word} {what}".rstrip()


def bars(pairs: Iterable[Pair], quantity: str) -> list[Bar | None]:
    """A bar for each pair, all on one line from the smallest change to the largest, with room for the errors."""
    pairs = list(pairs)
    reached = [abs(value) for pair in pairs for value in (pair.estimate, pair.actual) if value is not None]
    longest = max(reached, default=0.0)
    if longest == 0.0:
        return [None] * len(pairs)
    edge = MOST_STRETCH * longest
    ends = [_ends(pair) for pair in pairs]
    values = [0.0, *(value for pair in pairs for value in (pair.estimate, pair.actual) if value is not None)]
    values += [min(max(value, -edge), edge) for pair in ends for value in pair if value is not None]
    low, high = min(values), max(values)

    def place(value: float | None) -> float | None:
        return None if value is None else 1000.0 * (min(max(value, low), high) / (high - low) - low / (high - low))

    drawn: list[Bar | None] = []
    for pair, (start, end) in zip(pairs, ends, strict=True):
        value = pair.best if pair.estimate is None else pair.estimate
        at, zero = place(value), place(0.0)
        if value is None or at is None or zero is None:
            drawn.append(None)
            continue
        text = f"{change_text(value)}: {effect(quantity, value)}"
        truth = place(pair.actual) if pair.estimate is not None else None
        drawn.append(Bar(zero, min(at, zero), abs(at - zero), value > 0, text, place(start), place(end), truth))
    return drawn


def _ends(pair: Pair) -> tuple[float | None, float | None]:
    """The range in which the change may lie: proven, or else from the estimated error."""
    if pair.low is not None:
        return pair.low, pair.high
    value = pair.estimate
    if value is None or pair.error is None:
        return None, None
    return value - pair.error, value + pair.error
