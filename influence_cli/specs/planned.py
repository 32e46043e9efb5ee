"""Planned groups: label, kind and size of every group are known, and its rows are drawn when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from influence_cli.results import GroupTable
from influence_cli.specs.draws import frozen
from influence_cli.specs.groups import EACH_ROW

KEPT_ROWS = 1 << 20
"""Rows of drawn groups that a plan keeps (8 MiB): drawing a few rows again takes as long as retraining without them."""


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
        return digest_of(self.rows)


def digest_of(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<i8").tobytes()).hexdigest()


@dataclass(frozen=True)
class PlannedGroup:
    """A group that is known but not drawn; ``draw()`` gives the same rows every time.

    ``source`` is the spec of this one group and the number of the draw, which together with the seed and the data
    determine the rows.
    """

    label: str
    kind: str
    size: int
    source: tuple[str, int]
    draw: Callable[[], np.ndarray]
    cell: str = ""
    """What the groups of its kind that are judged together share: their size, or a spec that gave many sizes."""


@dataclass(frozen=True)
class EveryRow(Sequence[PlannedGroup]):
    """Each of m rows as a group, made on access, because there may be millions."""

    m: int

    def __len__(self) -> int:
        return self.m

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return tuple(_single_row(row) for row in range(*at.indices(self.m)))
        return _single_row(range(self.m)[at])


@dataclass(frozen=True)
class RowDigests(Sequence[str]):
    """The digests of the single rows, made on access."""

    m: int

    def __len__(self) -> int:
        return self.m

    def __iter__(self) -> Iterator[str]:
        return (hashlib.sha256(row.to_bytes(8, "little")).hexdigest() for row in range(self.m))

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return tuple(digest_of(np.array([row])) for row in range(*at.indices(self.m)))
        return digest_of(np.array([range(self.m)[at]]))


def _single_row(row: int) -> PlannedGroup:
    label = f"rows:{row}"
    return PlannedGroup(label, "rows", 1, (label, 0), partial(np.array, [row], dtype=np.int64), cell=EACH_ROW)


@dataclass(frozen=True)
class RowsOf(Sequence[np.ndarray]):
    """The sorted row numbers of each planned group, drawn on access."""

    plan: GroupPlan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, at: Any) -> Any:
        return self.plan.rows(at)


@dataclass(frozen=True)
class GroupPlan:
    """All groups of a command, in the order of their specs; ``m`` is the number of training rows.

    ``notes`` say which rows are in no group of a spec that divides the rows.
    """

    groups: Sequence[PlannedGroup]
    m: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[PlannedGroup]:
        return iter(self.groups)

    @property
    def each_row(self) -> bool:
        """Whether the groups are the single rows, in order."""
        return isinstance(self.groups, EveryRow)

    @cached_property
    def label(self) -> tuple[str, ...]:
        if self.each_row:
            return tuple(map("rows:{}".format, range(self.m)))
        return tuple(group.label for group in self.groups)

    @cached_property
    def kind(self) -> tuple[str, ...]:
        if self.each_row:
            return ("rows",) * self.m
        return tuple(group.kind for group in self.groups)

    @cached_property
    def size(self) -> np.ndarray:
        """(G,) int64."""
        if self.each_row:
            return np.ones(self.m, dtype=np.int64)
        return np.array([group.size for group in self.groups], dtype=np.int64)

    @property
    def fraction(self) -> np.ndarray:
        """(G,) size / m."""
        return self.size / self.m

    def table(self, digests: Sequence[str]) -> GroupTable:
        """The groups as results store them, with the digest of each group's rows."""
        each = self.each_row
        cells = (EACH_ROW,) * self.m if each else tuple(group.cell for group in self.groups)
        return GroupTable(
            self.label, self.kind, self.size, self.fraction, RowDigests(self.m) if each else tuple(digests), cells
        )

    def rows(self, index: int) -> np.ndarray:
        """The sorted row numbers of one group, drawn again on each call unless it is among the first KEPT_ROWS rows."""
        rows = self._drawn.get(index)
        if rows is None:
            rows = frozen(self.groups[index].draw())
            if not self.each_row and self._starts[index + 1] <= KEPT_ROWS:
                self._drawn[index] = rows
        return rows

    def group(self, index: int) -> Group:
        """One group, drawn as in ``rows``."""
        planned = self.groups[index]
        return Group(planned.label, planned.kind, self.rows(index))

    @cached_property
    def _drawn(self) -> dict[int, np.ndarray]:
        return {}

    @cached_property
    def _starts(self) -> np.ndarray:
        """Total rows of the groups before each one, and of all groups, (G + 1,)."""
        return np.cumsum([0, *self.size])
