"""The words of every page: the name of a quantity, the meaning of its sign, and how figures and names are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from influence_cli.results import MEAN_TEST, REMOVED_TEST, names_in
from influence_cli.specs.names import written

INFINITE = "unbounded"
"""The beginning of statuses of figures that have no finite truth."""
MISSING = "(missing)"
"""The value shown for rows in which a column has none."""
LONGEST_LIST = 60
"""Characters of a group's list of rows that are shown; the middle of a longer one is left out."""


@dataclass(frozen=True)
class Meaning:
    """The name of a quantity in a sentence, and what a group did whose removal raises or lowers it."""

    name: str
    raised: str
    lowered: str
    about: str = "this prediction"

    @property
    def sign(self) -> str:
        """What a positive change means."""
        return f"positive: the group {self.raised} {self.about}".rstrip()

    @property
    def short(self) -> str:
        """The name without its explanation in brackets, for a sentence under a heading that gives it."""
        name = re.sub(r" \(for one standard deviation, [^()]*\)", "", self.name)
        return re.sub(r"^((?:size of the )?gap[^(]*|margin) \(.*\)$", r"\1", name)


_HELD = ("held it down", "held it up", "")
_MEANING = {
    "loss": Meaning("loss", "helped", "hurt"),
    "margin": Meaning("margin (log-odds of the true class against its rival)", "hurt", "helped"),
    "prob": Meaning("probability of the true class", "hurt", "helped"),
    "prediction": Meaning("prediction", *_HELD),
}
_NAMES = {
    "logit": "score (logit) of class {}",
    "prob": "probability of class {}",
    "param": "parameter {}",
    "t": "Wald statistic of {}",
    "gap": "gap of {} (mean prediction where it has its second value, in sorted order, minus where it has its first)",
    "gap-loss": "gap of {} (mean loss where it has its second value, in sorted order, minus where it has its first)",
    "gap-tpr": "gap of {} (true positive rate where it has its second value, in sorted order, minus where its first)",
    "gap-fpr": "gap of {} (false positive rate where it has its second value, in sorted order, minus where its first)",
    "score": "score {} of the test rows (larger is better)",
    "worst": "largest mean loss over the values of {}",
    "significance": "|t| of {} minus the limit of significance at 5% (0: it flips)",
}


def meaning_of(quantity: str, asked: str | None = None, *, removed: bool = False) -> Meaning:
    """The meaning of a quantity, as ``--quantity`` names it; ``asked`` is its name where that depends on the data, and
    ``removed`` says that it is measured on each group's own rows."""
    if removed:
        of_tests = meaning_of(quantity)
        name = f"{of_tests.name.replace(' of the test rows', '')} of each group's own rows"
        return replace(of_tests, name=name, about="its own rows" if of_tests.about else "")
    if quantity in _MEANING:
        return replace(_MEANING[quantity], name=asked or _MEANING[quantity].name)
    kind, _, name = quantity.removeprefix("abs:").partition(":")
    if asked is not None and "\n" in asked:  # several parameters
        asked = "parameters " + ", ".join(part.removeprefix("parameter ") for part in asked.splitlines())
    if kind in ("param", "t"):
        name = ", ".join(names_in(name))
    called = asked or (_NAMES[kind].format(name) if name and kind in _NAMES else quantity)
    if quantity.startswith("abs:"):
        called = called if asked else f"size of the {called}"
        if kind.startswith("gap"):
            return Meaning(called, "narrowed", "widened", "it")
    if kind == "score" and not quantity.startswith("abs:"):
        return Meaning(called, "hurt", "helped", "it")
    if kind == "worst":
        return Meaning(called, "helped", "hurt", "these rows")
    return Meaning(called, *_HELD)


def meaning(quantity: str, asked: str | None = None, *, removed: bool = False) -> str:
    """The sentence with which every page begins."""
    meaning_found = meaning_of(quantity, asked, removed=removed)
    return f"Change of the {meaning_found.name} if the group is removed; {meaning_found.sign}"


def with_model(title: str, config: Mapping[str, Any]) -> str:
    """A page's first sentence with the model that it is about, where that has a file."""
    return f"{title} (model {config['model']})" if config.get("model") is not None else title


def meaning_of_several(quantities: Sequence[str], asked: Sequence[str | None]) -> str:
    """The sentence about several quantities of the model, which are of one kind; if any is ``asked`` in words, they are
    parameters."""
    kinds, names = zip(*(quantity.split(":", 1) for quantity in quantities), strict=True)
    if any(asked):
        parts = (words or f"parameter {name}" for words, name in zip(asked, names, strict=True))
        return meaning(quantities[0], "\n".join(parts))
    return meaning(f"{kinds[0]}:{written(names)}")


def effect(quantity: str, change: float | None) -> str:
    """What the group did, in a word or two."""
    meaning_found = meaning_of(quantity)
    if change is None:
        return ""
    return "no effect" if change == 0 else meaning_found.raised if change > 0 else meaning_found.lowered


def change_text(value: float | None, status: str = "ok") -> str:
    """A change with its sign; in words where it has no finite value."""
    if value is None:
        return "unbounded" if status.startswith(INFINITE) else "-"
    return f"{value:+.4g}"


def figure(value: float | int | None) -> str:
    """A figure rounded for reading."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def label_text(value: Any) -> str:
    """A label or a prediction: a class's name, or a rounded figure."""
    return figure(value) if isinstance(value, float) else "-" if value is None else str(value)


def share(fraction: float | None) -> str:
    """A share of the training rows as a percentage."""
    return "-" if fraction is None else f"{fraction:.1%}"


def common_part(labels: Sequence[str]) -> tuple[str, list[str]]:
    """The common beginning of all names, up to a sign that ends a part of them, and the rest of each."""
    distinct = set(labels)
    if len(distinct) < 2:
        return "", list(labels)
    low, high = min(distinct), max(distinct)
    alike = next((at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    ends = [match.end() for match in re.finditer(r"[:=#]", low[:alike])]
    cut = ends[-1] if ends else 0
    # A quoted name or value is not divided, nor is one that contains a colon and a space.
    while cut and (low[:cut].count('"') % 2 or any(label[cut : cut + 1] == " " for label in distinct)):
        ends.pop()
        cut = ends[-1] if ends else 0
    if any(len(label) == cut for label in distinct) and not low[:cut].endswith("="):
        return "", list(labels)
    return low[:cut], [label[cut:] or MISSING for label in labels]


def group_name(label: str) -> str:
    """A group's name, whole except for the middle of a long list of rows."""
    if not label.startswith(("rows:", "records:", "ids:")) or len(label) <= LONGEST_LIST:
        return label
    items = label.split(",")
    first, last = items[:4], items[-1]
    return f"{','.join(first)},...,{last}" if len(items) > 5 else f"{label[:LONGEST_LIST]}..."


def row_name(test: int | str | None, record: int | None, name: object) -> str:
    """The name of a test row in a heading."""
    if test is None:
        return "The model"
    if test == "mean":
        return "All chosen test rows"
    if test == "removed":
        return "The removed rows themselves"
    known = [f"id {name}"] if name is not None else []
    known += [f"record {record}"] if record is not None else []
    return f"Test row {test}" + (f" ({', '.join(known)})" if known else "")


def called(record: Mapping[str, Any]) -> str:
    """The name and label of a single row that is measured by itself, in parentheses; empty for several rows."""
    name = f"id {record['id']}" if record["id"] is not None else f"record {record['record']}"
    parts = [name] * (name != "record None") + [f"true {label_text(record['true'])}"] * (record["true"] is not None)
    return f" ({', '.join(parts)})" if parts else ""


def asked_of(tests: Sequence[int]) -> str:
    """What figures with these codes belong to: test rows, all of them together, each group's own rows, or the model."""
    if min(tests) >= 0:
        return counted(len(tests), "test row")
    of_one = {MEAN_TEST: "all test rows together", REMOVED_TEST: "each group's own rows"}
    return of_one.get(tests[0], f"{counted(len(tests), 'figure')} of the model")


def counted(number: int, what: str) -> str:
    """A number of things: 1 test row, 2 test rows."""
    return f"{number:,} {what}{'s' * (number != 1)}"
