"""From parsed group specs and data to row numbers: planned and checked at once, drawn when they are needed.

Ten thousand groups of a third of 60,000 rows are 1.7 GB of row numbers, so a plan knows label, kind and size of every
group and draws rows on demand.  A draw's random numbers depend on the seed, its own spec and its number alone: other
specs in the command change nothing, ``x10`` is a prefix of ``x40``, and drawing twice gives the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TextIO

import numpy as np

from influence_cli.core.quantities import RowTarget
from influence_cli.data.notation import read_numbers
from influence_cli.data.readers.in_place import refuse_streamed
from influence_cli.errors import UsageError, about
from influence_cli.memory import require
from influence_cli.specs.by import conditions_by_keys
from influence_cli.specs.columns import quoted, rows_where
from influence_cli.specs.draws import frozen, kmeans, nearest_rows, random_of, same, seed_of
from influence_cli.specs.files import read_row_file
from influence_cli.specs.groups import (
    EVERY_CLASS,
    GroupSpec,
    Size,
    cell_of,
    check_row,
    resolve_label,
    shown,
)
from influence_cli.specs.keys import Key
from influence_cli.specs.names import SPELLINGS, RowNames
from influence_cli.specs.planned import EveryRow, GroupPlan, PlannedGroup

ALL_ROWS = ("neighbours", "cluster", "gradients", "tail")
"""Kinds of groups that depend on all rows at once."""
NAMELESS = RowNames("training rows")


@dataclass(frozen=True)
class TrainRows:
    """Features X (m, d) and labels or responses y (m,), the ``classes`` (empty for regression), the ``columns`` of a
    table as in ``Dataset.columns_train``, and the ``names`` of the rows.

    ``fitted`` is the loss of each of these rows at the parameters ``theta`` (P, 1) of the model that is asked about;
    None where there is no model.
    """

    X: Any
    y: np.ndarray
    classes: tuple[str, ...] = ()
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: RowNames = NAMELESS
    fitted: RowTarget | None = None
    theta: np.ndarray = field(default_factory=lambda: np.empty((0, 1)))


def plan_groups(
    specs: Sequence[GroupSpec], rows: TrainRows, *, seed: int = 0, stdin: TextIO | None = None
) -> GroupPlan:
    """Check every spec against the data and plan its groups.

    Files are read and clusters are formed here, because their sizes are needed; everything else is drawn later.
    """
    if seed < 0:
        raise UsageError(f"expected a seed of at least 0, found {seed}")
    if not specs:
        raise UsageError("expected at least one group, found none", hint="For example: --group random:5%")
    readers = [spec for spec in specs if spec.reads_stdin]
    if len(readers) > 1:
        raise UsageError(
            f"{len(readers)} groups read standard input ({readers[0].text}), which can be read once",
            hint="Put the row numbers of the others into files: --group rows:@FILE",
        )
    for spec in specs:
        if spec.kind in ALL_ROWS:
            refuse_streamed(rows.X, f"a group of the kind {spec.kind}:")
    data = _Data(**vars(rows), seed=seed, stdin=stdin)
    if len(specs) == 1 and specs[0].each and data.m > 1:
        return GroupPlan(EveryRow(data.m), data.m)
    groups: list[PlannedGroup] = []
    notes: list[str] = []
    wanted_by: dict[tuple[str, int], str] = {}
    for spec in specs:
        first = len(groups)
        for group in _planned(spec, data):
            if group.source in wanted_by:
                other = wanted_by[group.source]
                again = "twice" if other == spec.text else f"by {shown(other)} and by {shown(spec.text)}"
                raise UsageError(f"the group {shown(group.label)} is asked for {again}", hint="Give each group once.")
            wanted_by[group.source] = spec.text
            groups.append(group)
        if spec.kind == "by" and (left := data.m - sum(group.size for group in groups[first:])):
            cut = " or ".join(key.column for key in spec.keys if key.bins is not None)
            of = f"{left:,} of {data.m:,} training rows"
            notes.append(f"{spec.text}: {of} have no number in {cut} and are in no group")
    return GroupPlan(tuple(groups), data.m, tuple(notes))


def _planned(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    """The groups of a spec; an error names the file and line of the spec."""
    try:
        yield from PLANNERS[spec.kind](spec, data)
    except UsageError as error:
        if spec.origin:
            raise UsageError(f"{spec.origin}: {error.message}", hint=error.hint) from None
        raise


@dataclass(frozen=True)
class _Data(TrainRows):
    """The data available to the planners."""

    seed: int = 0
    stdin: TextIO | None = None

    @property
    def m(self) -> int:
        return int(self.X.shape[0])

    @cached_property
    def class_rows(self) -> list[np.ndarray]:
        return [frozen(np.flatnonzero(self.y == code)) for code in range(len(self.classes))]


def _as_named(label: str, classes: Sequence[str]) -> str:
    """The class whose number the label is: a file's 1.0, 10% or 1,000 is the class 1, 10 or 1000."""
    if label in classes:
        return label
    (value,) = read_numbers([label]).values
    same = [one for one in classes if value is not None and read_numbers([one]).values == [value]]
    return same[0] if same else label


def _plan_coherent(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    if not data.classes:
        raise UsageError(
            f"group {shown(spec.text)}: this data has no classes (its response is a number)",
            hint="for example --group by:COLUMN, random:10% or cluster:5",
        )
    if spec.label == EVERY_CLASS:
        codes, size, times = range(len(data.classes)), spec.size, spec.times
    else:
        code, size, times = resolve_label(replace(spec, label=_as_named(spec.label or "", data.classes)), data.classes)
        codes = range(code, code + 1)
    for number in range(times or len(codes)):
        code = codes[number % len(codes)]
        rows = data.class_rows[code]
        # The text names this one class, so that a label copied from a result is a spec for the same rows.
        text = f"coherent:{data.classes[code]}" + (f":{size.text}" if size else "")
        if not len(rows):
            raise UsageError(f"group {shown(text)}: class {data.classes[code]} has no training rows")
        count = _checked(text, size, len(rows) if size is None else size.of(data.m), data.m)
        if count > len(rows):
            raise UsageError(
                f"group {shown(text)}: expected at most the {len(rows):,} training rows of class {data.classes[code]}, "
                f"found a size of {_described(size, count, data.m)}",
                hint=f"A percentage is one of all {data.m:,} training rows. For the whole class: "
                f"--group coherent:{data.classes[code]}",
            )
        if size is None:
            yield PlannedGroup(text, "coherent", count, (text, 0), partial(same, rows))
        else:
            draw = number if times else 0
            yield PlannedGroup(
                f"{text}#{draw}" if times else text,
                "coherent",
                count,
                (text, draw),
                partial(random_of, rows, count, data.seed, text, draw),
                cell=str(count),
            )


def _plan_random(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    assert spec.size is not None
    count = _checked(spec.base, spec.size, spec.size.of(data.m), data.m)
    for number in range(spec.times or 1):
        yield PlannedGroup(
            f"{spec.base}#{number}" if spec.times else spec.base,
            "random",
            count,
            (spec.base, number),
            partial(random_of, data.m, count, data.seed, spec.base, number),
            cell=str(count),
        )


def _plan_rows(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    if spec.each:
        _checked(spec.text, None, 1, data.m)
        yield from EveryRow(data.m)
        return
    if spec.path is None:
        for row in spec.rows:
            check_row(row, f"group {shown(spec.text)}", data.m)
        rows = np.array(spec.rows, dtype=np.int64)
    else:
        rows = np.array(read_row_file(spec.path, data.m, data.stdin), dtype=np.int64)
    count = _checked(spec.text, None, len(rows), data.m)
    yield PlannedGroup(spec.text, "rows", count, (spec.text, 0), partial(same, frozen(rows)))


def _plan_names(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    with about(f"group {shown(spec.text)}"):
        rows = np.sort(data.names.rows(SPELLINGS[spec.kind], spec.names))
    count = _checked(spec.text, None, len(rows), data.m)
    yield PlannedGroup(spec.text, spec.kind, count, (spec.text, 0), partial(same, frozen(rows)))


def _plan_neighbours(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    assert spec.size is not None and spec.row is not None
    check_row(spec.row, f"group {shown(spec.text)}", data.m)
    count = _checked(spec.text, spec.size, spec.size.of(data.m), data.m)
    draw = partial(nearest_rows, data.X, spec.row, count)
    yield PlannedGroup(spec.text, "neighbours", count, (spec.text, 0), draw, cell=str(count))


def _plan_cluster(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    assert spec.clusters is not None
    if spec.clusters > data.m:
        raise UsageError(f"group {shown(spec.text)}: expected at most {data.m:,} clusters, one for each training row")
    points = data.X if spec.kind == "cluster" else _gradients(spec, data)
    members = kmeans(points, spec.clusters, seed_of(data.seed, spec.base, 0))
    clusters, first = np.unique(members, return_index=True)
    if len(clusters) < spec.clusters:
        raise UsageError(
            f"group {shown(spec.text)}: the training rows form only {len(clusters)} distinct clusters",
            hint=f"At most: --group {spec.kind}:{len(clusters)}" if len(clusters) > 1 else None,
        )
    # The cluster numbers of k-means are arbitrary; the smallest row of each cluster is not.
    for number, cluster in enumerate(clusters[np.argsort(first)]):
        rows = frozen(np.flatnonzero(members == cluster))
        source, draw = (spec.base, number), partial(same, rows)
        yield PlannedGroup(f"{spec.base}#{number}", spec.kind, len(rows), source, draw, cell=spec.base)


def _gradients(spec: GroupSpec, data: _Data) -> np.ndarray:
    """Gradient of each row's loss at theta, (m, P)."""
    target = _of_model(spec, data)
    require(f"the gradients of {data.m:,} rows ({spec.text})", 3 * 8.0 * data.m * len(data.theta))
    return np.ascontiguousarray(target.gradient(data.theta).T)


def _plan_tail(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    assert spec.size is not None
    count = _checked(spec.text, spec.size, spec.size.of(data.m), data.m)
    losses = _of_model(spec, data).value(data.theta)[:, 0]
    rows = frozen(np.sort(np.argsort(-losses, kind="stable")[:count]))  # of equal losses the first rows
    yield PlannedGroup(spec.text, "tail", count, (spec.text, 0), partial(same, rows), cell=str(count))


def _of_model(spec: GroupSpec, data: _Data) -> RowTarget:
    """The loss of each row.  Raises UsageError where there is no model."""
    if data.fitted is None:
        raise UsageError(f"group {shown(spec.text)} needs a model, whose losses it goes by")
    return data.fitted


def _plan_column(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    with about(f"group {shown(spec.text)}"):
        rows = frozen(rows_where(data.columns, spec.conditions))
    count = _checked(spec.text, None, len(rows), data.m)
    yield PlannedGroup(spec.text, "column", count, (spec.text, 0), partial(same, rows), cell=cell_of(spec))


def _plan_by(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    whole = spec.body.strip()  # a single column's name may look like several columns
    keys = (Key(whole),) if whole in data.columns else spec.keys
    with about(f"group {shown(spec.text)}"):
        parts = conditions_by_keys(data.columns, keys)
    cell = f"column:{','.join(quoted(key.column) for key in keys)}"
    for conditions, rows in parts:
        # The text names this one value, so that a label copied from a result is a spec for the same rows.
        text = f"column:{','.join(sorted(condition.text for condition in conditions))}"
        yield PlannedGroup(text, "column", len(rows), (text, 0), partial(same, frozen(rows)), cell=cell)


def _checked(text: str, size: Size | None, count: int, m: int) -> int:
    """The size of a group.  Raises UsageError if it would remove no rows, or all of them."""
    if count < 1:
        raise UsageError(
            f"group {shown(text)}: {_described(size, count, m)}: the group is empty; expected at least one row"
        )
    if count >= m:
        raise UsageError(
            f"group {shown(text)}: {_described(size, count, m)} of the {m:,} training rows: nothing would be left to "
            "train on",
            hint=f"A group has 1 to {m - 1:,} rows.",
        )
    return count


def _described(size: Size | None, count: int, m: int) -> str:
    if size is not None and size.percent is not None:
        return f"{size.text} of {m:,} training rows is {count:,} rows"
    return f"{count:,} rows"


PLANNERS: dict[str, Callable[[GroupSpec, _Data], Iterator[PlannedGroup]]] = {
    "coherent": _plan_coherent,
    "random": _plan_random,
    "rows": _plan_rows,
    "records": _plan_names,
    "ids": _plan_names,
    "neighbours": _plan_neighbours,
    "cluster": _plan_cluster,
    "column": _plan_column,
    "by": _plan_by,
    "gradients": _plan_cluster,
    "tail": _plan_tail,
}
