"""The mini-language of groups of training rows: one line of text becomes one frozen object, without any data.

``plan.py`` turns the object and the data into row numbers.  ``KINDS`` is the one table of what exists; a kind added
here and in ``plan.PLANNERS`` is known to parser, error messages and help.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

from influence_cli.errors import UsageError, composed, nearest
from influence_cli.specs.columns import Condition, parse_conditions, quoted, shell
from influence_cli.specs.keys import Key, parse_keys
from influence_cli.specs.lists import STDIN
from influence_cli.specs.names import SPELLINGS, parse_names, written
from influence_cli.specs.sizes import Size, parse_size, shown, whole_number

CLUSTERED = ("cluster", "gradients")
"""Kinds of which one spec gives K numbered groups."""
EVERY_CLASS = "*"
EACH_ROW = "each"
SHOWN_CLASSES = 10
LONGEST_GUESS = 80

_NUMBER = re.compile(r"#[0-9]+$")
_TIMES_AT_END = re.compile(r"(?P<rest>.+)x(?P<times>[0-9]+)", re.DOTALL)


@dataclass(frozen=True)
class GroupSpec:
    """One parsed spec; only the fields of its kind are set.

    ``base`` is the canonical text without ``xN``: two spellings of one spec have one base, and the seed of every draw
    derives from it.  ``body`` is the text after the kind, ``origin`` the line of the file that contained the spec.
    """

    kind: str
    base: str
    label: str | None = None
    size: Size | None = None
    times: int | None = None
    row: int | None = None
    clusters: int | None = None
    rows: tuple[int, ...] = ()
    each: bool = False
    path: str | None = None
    names: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    conditions: tuple[Condition, ...] = ()
    body: str = field(default="", compare=False, repr=False)
    origin: str = field(default="", compare=False, repr=False)

    @property
    def text(self) -> str:
        """The canonical text."""
        return self.base if self.times is None else f"{self.base}x{self.times}"

    @property
    def reads_stdin(self) -> bool:
        return self.path == STDIN


@dataclass(frozen=True)
class Kind:
    """A kind of group: how it is written, what it means, and its parser (of the text after ``KIND:``)."""

    form: str
    example: str
    meaning: str
    parse: Callable[[str], GroupSpec]


def parse_group(text: str) -> GroupSpec:
    """Parse one spec, for example ``coherent:3:5%x10``; a UsageError says what was expected and found."""
    spec = text.strip()
    name, colon, body = spec.partition(":")
    name = {"record": "records", "id": "ids"}.get(name, name)
    if name not in KINDS:
        raise UsageError(
            f"group {shown(spec)}: expected one of {', '.join(f'{kind}:' for kind in KINDS)} at the beginning, "
            f"found {shown(name)}",
            hint=_hint_of_kind(spec, name, colon),
        )
    kind = KINDS[name]
    try:
        if not colon or not body.strip():
            raise UsageError(f"expected {kind.form}, found nothing behind {name}")
        return replace(kind.parse(body.strip()), body=body.strip())
    except UsageError as error:
        hint = error.hint or f"For example: --group {shell(kind.example)}"
        raise UsageError(f"group {shown(spec)}: {error.message}", hint=hint) from None


def _hint_of_kind(spec: str, name: str, colon: str) -> str:
    """The hint about what was probably meant by a spec whose kind is missing or misspelt."""
    near, body = nearest(name, KINDS), spec.partition(":")[2]
    if "=" in body and "=" not in name and near not in ("column", "by"):
        return f"did you mean --group {shell(f'column:{body}')}?"
    if near or colon or not spec or len(spec) > LONGEST_GUESS:
        example = shell(KINDS[near].example if near else "random:5%")
        return (f"did you mean {near}? " if near else "") + f"For example: --group {example}"
    rows = spec.replace(",", "").isdecimal()
    kind = "column" if "=" in spec else "rows" if rows else "random" if "%" in spec else "by"
    return f"did you mean --group {shell(f'{kind}:{spec}')}?"


def cell_of(spec: GroupSpec) -> str:
    """What the groups of one kind that are judged together share, as far as the spec alone determines it."""
    if spec.kind == "column":
        return f"column:{quoted(spec.conditions[0].column)}"
    return spec.base if spec.kind in CLUSTERED else ""


def cell_of_label(label: str, size: int) -> str:
    """The cell of a group whose label is its spec, for files that do not store it."""
    spec = parse_group(_NUMBER.sub("", label))
    return cell_of(spec) if spec.size is None else str(size)


def resolve_label(spec: GroupSpec, classes: Sequence[str]) -> tuple[int, Size | None, int | None]:
    """The number of the class that a ``coherent`` spec means, and the remaining size and number of draws.

    ``coherent:10:05`` is five rows of class 10 if there is such a class, else the class 10:05.
    """
    assert spec.label is not None
    if spec.label in classes:
        return classes.index(spec.label), spec.size, spec.times
    if spec.body in classes:
        return classes.index(spec.body), None, None
    head, _, tail = spec.label.rpartition(":")
    if head in classes or head == EVERY_CLASS:
        try:
            parse_size(tail)
        except UsageError as error:
            hint = "For example: --group coherent:3:5%"
            raise UsageError(f"group {shown(spec.text)}: {error.message}", hint=hint) from None
    times = _TIMES_AT_END.fullmatch(spec.label)
    if times and (times["rest"] in classes or times["rest"] == EVERY_CLASS):
        raise UsageError(
            f"group {shown(spec.text)}: expected a SIZE before x{times['times']}: a whole class holds nothing random",
            hint=f"For example: --group {spec.kind}:{times['rest']}:5%x{times['times']}",
        )
    listed = ", ".join(classes[:SHOWN_CLASSES]) + (", ..." if len(classes) > SHOWN_CLASSES else "")
    near = nearest(spec.label, classes)
    raise UsageError(
        f"group {shown(spec.text)}: expected one of the {len(classes)} classes ({listed}), found {shown(spec.label)}",
        hint=f"did you mean coherent:{near}?" if near else f"For example: --group coherent:{classes[0]}",
    )


def check_row(row: int, where: str, m: int) -> None:
    if not 0 <= row < m:
        raise UsageError(f"{where}: expected training rows 0..{m - 1}, found {row}")


def _parse_coherent(body: str) -> GroupSpec:
    head, colon, tail = body.rpartition(":")
    label: str = composed(body)
    size, times = None, None
    if colon and head:
        try:
            size, times = parse_size(tail)
            label = composed(head)
        except UsageError:
            # A label may contain a colon; ``resolve_label``, which knows the classes, repeats this error if needed.
            pass
    elif colon:
        raise UsageError(f"expected coherent:LABEL[:SIZE], found no label in {shown(body)}")
    return GroupSpec("coherent", f"coherent:{label}" + (f":{size.text}" if size else ""), label, size, times)


def _parse_random(body: str) -> GroupSpec:
    size, times = parse_size(body)
    return GroupSpec("random", f"random:{size.text}", size=size, times=times)


def _parse_rows(body: str) -> GroupSpec:
    if body.startswith("@"):
        path = body[1:].strip()
        if not path:
            raise UsageError("expected a file behind @ (or - for standard input), found nothing")
        return GroupSpec("rows", f"rows:@{path}", path=path)
    _refuse_times(body, "a list of rows")
    if body.strip() == EACH_ROW:
        return GroupSpec("rows", f"rows:{EACH_ROW}", each=True)
    numbers = []
    for item in body.split(","):
        number = whole_number(item.strip())
        if number is None:
            raise UsageError(f"expected row numbers with commas between them, found {shown(item.strip())}")
        numbers.append(number)
    ordered = sorted(numbers)
    for number, following in pairwise(ordered):
        if number == following:
            raise UsageError(f"row {number} is listed twice; expected each row once")
    return GroupSpec("rows", f"rows:{','.join(map(str, ordered))}", rows=tuple(ordered))


def _parse_names(kind: str, body: str) -> GroupSpec:
    """Rows by record numbers or by identifiers, sorted, so that the given order does not matter."""
    names = parse_names(SPELLINGS[kind], body)
    ordered = sorted(names, key=int) if kind == "records" else sorted(names)
    return GroupSpec(kind, f"{kind}:{written(ordered)}", names=tuple(ordered))


def _parse_neighbours(body: str) -> GroupSpec:
    first, colon, second = body.partition(":")
    row = whole_number(first.strip())
    if row is None or not colon:
        raise UsageError(f"expected neighbours:ROW:SIZE with a row number first, found {shown(body)}")
    size, times = parse_size(second.strip())
    if times is not None:
        _refuse_times(second.strip(), "the nearest rows")
    return GroupSpec("neighbours", f"neighbours:{row}:{size.text}", size=size, row=row)


def _parse_clusters(kind: str, body: str) -> GroupSpec:
    _refuse_times(body, "a clustering")
    clusters = whole_number(body)
    if clusters is None or clusters < 2:
        raise UsageError(f"expected a number of clusters of at least 2, found {shown(body)}")
    return GroupSpec(kind, f"{kind}:{clusters}", clusters=clusters)


def _parse_tail(body: str) -> GroupSpec:
    size, times = parse_size(body)
    if times is not None:
        _refuse_times(body, "the rows of largest loss")
    return GroupSpec("tail", f"tail:{size.text}", size=size)


def _parse_column(body: str) -> GroupSpec:
    conditions = parse_conditions(body)
    text = ",".join(condition.text for condition in conditions)
    return GroupSpec("column", f"column:{text}", conditions=conditions)


def _parse_by(body: str) -> GroupSpec:
    keys = tuple(dict.fromkeys(parse_keys(body)))
    return GroupSpec("by", f"by:{','.join(key.text for key in keys)}", keys=keys)


def _refuse_times(body: str, what: str) -> None:
    match = _TIMES_AT_END.fullmatch(body)
    if match:
        raise UsageError(
            f"expected no x{match['times']}: nothing is random in {what}, so every draw would be the same group",
            hint="Only a random SIZE can be drawn several times, for example random:5%x10.",
        )


KINDS: dict[str, Kind] = {
    "coherent": Kind(
        "coherent:LABEL[:SIZE[xN]]",
        "coherent:3:5%",
        "SIZE random rows of one class, all of it without SIZE; the label * takes the classes in turn",
        _parse_coherent,
    ),
    "random": Kind("random:SIZE[xN]", "random:36%x40", "SIZE random training rows", _parse_random),
    "rows": Kind(
        "rows:0,5,9 or rows:@FILE or rows:@- or rows:each",
        "rows:0,5,9",
        "these training rows, or every row by itself",
        _parse_rows,
    ),
    "records": Kind(
        "records:1,6,10",
        "records:1,6,10",
        "the training rows that are these records of the file, 1 the first",
        partial(_parse_names, "records"),
    ),
    "ids": Kind(
        "ids:NAME,NAME", "ids:P021,P023", "the training rows of these identifiers (--id)", partial(_parse_names, "ids")
    ),
    "neighbours": Kind(
        "neighbours:ROW:SIZE",
        "neighbours:17:50",
        "the SIZE training rows nearest to training row ROW, which is one of them",
        _parse_neighbours,
    ),
    "cluster": Kind(
        "cluster:K", "cluster:10", "K groups, by k-means on the features", partial(_parse_clusters, "cluster")
    ),
    "column": Kind(
        "column:NAME=VALUE[,NAME=LOW..HIGH]",
        "column:clinic=North,age=60..75",
        "the rows in which columns of the table have all these values, or lie in these ranges with both ends",
        _parse_column,
    ),
    "by": Kind(
        "by:NAME[:BINS][,NAME[:BINS]]",
        "by:clinic",
        "a group for each value of a column of the table, each combination of several, or each of BINS equal parts",
        _parse_by,
    ),
    "gradients": Kind(
        "gradients:K",
        "gradients:10",
        "K groups of rows with like gradients of the loss, by k-means on these",
        partial(_parse_clusters, "gradients"),
    ),
    "tail": Kind("tail:SIZE", "tail:5%", "the SIZE training rows of largest loss", _parse_tail),
}
