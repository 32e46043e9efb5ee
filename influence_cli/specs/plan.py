"""Parsed group specs and data to row numbers: planned and checked at once, drawn when they are needed.

Ten thousand groups of a third of 60,000 rows are 1.7 GB of row numbers, so a plan knows label, kind and size of
every group and draws rows on demand.  A draw's random numbers depend on the seed, its own spec and its number
alone: other specs in the command change nothing, ``x10`` is a prefix of ``x40``, and drawing twice gives the
same rows.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TextIO

import numpy as np

from influence_cli.errors import UsageError
from influence_cli.specs.columns import conditions_by_value, rows_where
from influence_cli.specs.groups import EVERY_CLASS, GroupSpec, Size, check_row, read_row_file, resolve_label, shown

KMEANS_STARTS = 1
"""k-means++ tries several rows for every centre already; on 60,000 x 784 more starts cost a minute."""

NEIGHBOUR_BLOCK = 2**20
"""Differences formed at a time, 8 MB of float64: enough to be fast, and far from a copy of X."""


@dataclass(frozen=True)
class Group:
    """Rows of the training set: sorted, unique, int64."""

    label: str
    kind: str
    rows: np.ndarray

    @property
    def size(self) -> int:
        return len(self.rows)

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted row numbers as little-endian int64."""
        return hashlib.sha256(np.ascontiguousarray(self.rows, dtype="<i8").tobytes()).hexdigest()


@dataclass(frozen=True)
class PlannedGroup:
    """A group that is known but not drawn; ``draw()`` gives the same rows every time.

    ``source`` is the spec of this one group and the number of the draw: together with the seed and the data it
    fixes the rows.
    """

    label: str
    kind: str
    size: int
    source: tuple[str, int]
    draw: Callable[[], np.ndarray]


@dataclass(frozen=True)
class GroupPlan:
    """All groups of a command, in the order of their specs; ``m`` is the number of training rows."""

    groups: tuple[PlannedGroup, ...]
    m: int

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[PlannedGroup]:
        return iter(self.groups)

    @cached_property
    def label(self) -> tuple[str, ...]:
        return tuple(group.label for group in self.groups)

    @cached_property
    def kind(self) -> tuple[str, ...]:
        return tuple(group.kind for group in self.groups)

    @cached_property
    def size(self) -> np.ndarray:
        """(G,) int64."""
        return np.array([group.size for group in self.groups], dtype=np.int64)

    @property
    def fraction(self) -> np.ndarray:
        """(G,) size / m."""
        return self.size / self.m

    def rows(self, index: int) -> np.ndarray:
        """The sorted row numbers of one group, drawn now."""
        return self.groups[index].draw()

    def group(self, index: int) -> Group:
        """One group, drawn now."""
        planned = self.groups[index]
        return Group(planned.label, planned.kind, planned.draw())


def plan_groups(
    specs: Sequence[GroupSpec],
    X_train: Any,
    y_train: np.ndarray,
    classes: Sequence[str] = (),
    *,
    columns: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    stdin: TextIO | None = None,
) -> GroupPlan:
    """Check every spec against the data and plan its groups; ``classes`` is empty for regression.

    ``columns`` are those of a table, as ``Dataset.columns_train`` has them.
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
    data = _Data(X_train, y_train, tuple(classes), columns or {}, seed, stdin)
    groups: list[PlannedGroup] = []
    wanted_by: dict[tuple[str, int], str] = {}
    for spec in specs:
        for group in PLANNERS[spec.kind](spec, data):
            if group.source in wanted_by:
                other = wanted_by[group.source]
                again = "twice" if other == spec.text else f"by {shown(other)} and by {shown(spec.text)}"
                raise UsageError(f"the group {shown(group.label)} is asked for {again}", hint="Give each group once.")
            wanted_by[group.source] = spec.text
            groups.append(group)
    return GroupPlan(tuple(groups), data.m)


def draw_groups(
    specs: Sequence[GroupSpec],
    X_train: Any,
    y_train: np.ndarray,
    classes: Sequence[str] = (),
    *,
    columns: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    stdin: TextIO | None = None,
) -> list[Group]:
    """Plan and draw everything at once: for few groups, and for notebooks."""
    plan = plan_groups(specs, X_train, y_train, classes, columns=columns, seed=seed, stdin=stdin)
    return [plan.group(index) for index in range(len(plan))]


@dataclass(frozen=True)
class _Data:
    """What the planners may look at."""

    X: Any
    y: np.ndarray
    classes: tuple[str, ...]
    columns: Mapping[str, np.ndarray]
    seed: int
    stdin: TextIO | None

    @property
    def m(self) -> int:
        return int(self.X.shape[0])

    @cached_property
    def class_rows(self) -> list[np.ndarray]:
        return [_frozen(np.flatnonzero(self.y == code)) for code in range(len(self.classes))]


def _plan_coherent(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    if not data.classes:
        raise UsageError(
            f"group {shown(spec.text)}: this data has no classes (its response is a number)",
            hint="Use random:, rows:, neighbours: or cluster:.",
        )
    if spec.label == EVERY_CLASS:
        codes, size, times = range(len(data.classes)), spec.size, spec.times
    else:
        code, size, times = resolve_label(spec, data.classes)
        codes = range(code, code + 1)
    for number in range(times or len(codes)):
        code = codes[number % len(codes)]
        rows = data.class_rows[code]
        # The text of this one class, so that a label copied from a result is a spec for the same rows.
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
            yield PlannedGroup(text, "coherent", count, (text, 0), partial(_same, rows))
        else:
            draw = number if times else 0
            yield PlannedGroup(
                f"{text}#{draw}" if times else text,
                "coherent",
                count,
                (text, draw),
                partial(_random_of, rows, count, data.seed, text, draw),
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
            partial(_random_of, data.m, count, data.seed, spec.base, number),
        )


def _plan_rows(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    if spec.path is None:
        for row in spec.rows:
            check_row(row, f"group {shown(spec.text)}", data.m)
        rows = np.array(spec.rows, dtype=np.int64)
    else:
        rows = np.array(read_row_file(spec.path, data.m, data.stdin), dtype=np.int64)
    count = _checked(spec.text, None, len(rows), data.m)
    yield PlannedGroup(spec.text, "rows", count, (spec.text, 0), partial(_same, _frozen(rows)))


def _plan_neighbours(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    assert spec.size is not None and spec.row is not None
    check_row(spec.row, f"group {shown(spec.text)}", data.m)
    count = _checked(spec.text, spec.size, spec.size.of(data.m), data.m)
    yield PlannedGroup(spec.text, "neighbours", count, (spec.text, 0), partial(_nearest, data.X, spec.row, count))


def _plan_cluster(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    assert spec.clusters is not None
    if spec.clusters > data.m:
        raise UsageError(f"group {shown(spec.text)}: expected at most {data.m:,} clusters, one for each training row")
    members = _kmeans(data.X, spec.clusters, _seed_of(data.seed, spec.base, 0))
    found, first = np.unique(members, return_index=True)
    if len(found) < spec.clusters:
        raise UsageError(
            f"group {shown(spec.text)}: the training rows form only {len(found)} distinct clusters",
            hint=f"At most: --group cluster:{len(found)}" if len(found) > 1 else None,
        )
    # The numbers that k-means gives mean nothing; the smallest row of a cluster does not change with them.
    for number, cluster in enumerate(found[np.argsort(first)]):
        rows = _frozen(np.flatnonzero(members == cluster))
        yield PlannedGroup(f"{spec.base}#{number}", "cluster", len(rows), (spec.base, number), partial(_same, rows))


def _plan_column(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    with _named(spec):
        rows = _frozen(rows_where(data.columns, spec.conditions))
    count = _checked(spec.text, None, len(rows), data.m)
    yield PlannedGroup(spec.text, "column", count, (spec.text, 0), partial(_same, rows))


def _plan_by(spec: GroupSpec, data: _Data) -> Iterator[PlannedGroup]:
    assert spec.column is not None
    with _named(spec):
        values = conditions_by_value(data.columns, spec.column)
    for condition, rows in values:
        # The text of this one value, so that a label copied from a result is a spec for the same rows.
        text = f"column:{condition.text}"
        yield PlannedGroup(text, "column", len(rows), (text, 0), partial(_same, _frozen(rows)))


@contextmanager
def _named(spec: GroupSpec) -> Iterator[None]:
    """Errors about columns, with the group that they are about."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"group {shown(spec.text)}: {error.message}", hint=error.hint) from None


def _checked(text: str, size: Size | None, count: int, m: int) -> int:
    """The size of a group, refused where nothing would be removed or nothing would be left."""
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


def _seed_of(seed: int, text: str, number: int) -> int:
    """A seed of 128 bits for one draw.  Hashed, so that neighbouring seeds or numbers share nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{number}\n{text}".encode()).digest()[:16], "little")


def _random_of(pool: np.ndarray | int, count: int, seed: int, text: str, number: int) -> np.ndarray:
    rng = np.random.default_rng(_seed_of(seed, text, number))
    return np.sort(rng.choice(pool, count, replace=False, shuffle=False)).astype(np.int64, copy=False)


def _same(rows: np.ndarray) -> np.ndarray:
    return rows


def _frozen(rows: np.ndarray) -> np.ndarray:
    """Rows that several draws hand out: nobody may change them."""
    rows = rows.astype(np.int64, copy=False)
    rows.flags.writeable = False
    return rows


def _nearest(X: Any, row: int, count: int) -> np.ndarray:
    """The rows with the smallest Euclidean distance, ties by row number; in blocks, without a copy of X."""
    squared = np.empty(X.shape[0])
    sparse = hasattr(X, "indptr")
    step = max(1, NEIGHBOUR_BLOCK // max(1, X.nnz // X.shape[0] if sparse else X.shape[1]))
    centre = X[[row]].toarray()[0] if sparse else X[row]
    for start in range(0, X.shape[0], step):
        block = X[start : start + step]
        if sparse:
            # Where a row has no number its difference is the centre's: all of them, less those where it has one.
            there = centre[block.indices]
            block.data = (block.data - there) ** 2 - there**2
            squared[start : start + step] = block.sum(axis=1) + (centre**2).sum()
        else:
            difference = block - centre
            squared[start : start + step] = np.einsum("ij,ij->i", difference, difference)
    squared[row] = -1.0  # first even among equal rows
    return np.sort(np.argsort(squared, kind="stable")[:count])


def _kmeans(X: Any, clusters: int, seed: int) -> np.ndarray:
    """The cluster number of every row."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # Threads add up in any order, and one row that changes its cluster is another group: one thread only.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: an error above
        return KMeans(clusters, n_init=KMEANS_STARTS, random_state=seed % 2**32).fit_predict(X)


PLANNERS: dict[str, Callable[[GroupSpec, _Data], Iterator[PlannedGroup]]] = {
    "coherent": _plan_coherent,
    "random": _plan_random,
    "rows": _plan_rows,
    "neighbours": _plan_neighbours,
    "cluster": _plan_cluster,
    "column": _plan_column,
    "by": _plan_by,
}
