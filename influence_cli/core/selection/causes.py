"""Search for the groups, among those described by conditions on columns, that change f most for their size.

Every group of one or two conditions is examined.  Rows are summed once for each pair of columns, over the cells into
which both columns are cut; ranges of cells follow from cumulative sums.  Only four numbers per row are summed, so that
the number of groups hardly affects the cost.  With v = H^-1 grad f, c = v'Hv and c_U = sum_U w_i v' hess l_i v,

    change of f = first(U) c / (c - c_U)                   (per-sum; per-mean the remaining rows are scaled up)

is ``first`` with v replaced by that multiple of v which minimises 1/2 x'(H - H_U)x - x' grad f.  With one parameter it
is the Newton step itself; with more it accounts for the curvature along v that the group removes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from influence_cli.core.removal import PER_MEAN
from influence_cli.core.selection.second_order import Expansion

LARGEST_SHARE = 0.5
"""Largest share of all rows in a group; for a larger one, its complement is the simpler description."""
DEEPEST = 6
"""Largest number of conditions of a group; descriptions with more are not readable."""
OVERLAP = 0.5
"""Share of the smaller group's rows above which two groups are one finding, which the better group represents."""
MOST_STRETCH = 10.0
"""Largest factor by which lost curvature may scale ``first``; beyond it a linear model of f is not credible."""
KEPT_PER_PAIR, KEPT = 500, 20_000
"""Number of best groups that are kept for each pair of columns, and in all."""
BEAM, BEAM_EACH = 40, 10
"""Findings, and groups in each of them, to which a third condition and further ones are added."""
SAMPLED = 2000
"""Evenly spaced rows of a group from which its overlap with other groups is estimated."""
CHUNK = 1 << 24
"""Bytes of masks that are compared in one block."""


@dataclass(frozen=True)
class Cells:
    """A column cut into cells: ``codes`` (m,) is the cell of each row, and ``spans`` (C, 2) are the conditions on the
    column, each a range from a first to a last cell.  Rows in a cell outside all spans meet no condition."""

    codes: np.ndarray
    spans: np.ndarray

    @cached_property
    def count(self) -> int:
        return int(self.codes.max()) + 1

    def over_spans(self, table: np.ndarray, axis: int) -> np.ndarray:
        """Sums over spans (..., C, ...) from sums over cells (..., cells, ...) on one axis."""
        running = np.cumsum(table, axis=axis)
        running = np.insert(running, 0, 0.0, axis=axis)
        return np.take(running, self.spans[:, 1] + 1, axis=axis) - np.take(running, self.spans[:, 0], axis=axis)

    def mask(self, condition: int) -> np.ndarray:
        low, high = self.spans[condition]
        return (self.codes >= low) & (self.codes <= high)


@dataclass(frozen=True)
class Found:
    """N groups, the best first.  ``members`` (N, D, 2) has a column and a condition for each level, then -1; ``worth``
    (N,) is sign * change of f divided by ``size`` (N,), the rows.  ``tried`` is the number of groups examined."""

    members: np.ndarray
    worth: np.ndarray
    size: np.ndarray
    tried: int

    def __len__(self) -> int:
        return len(self.worth)

    def best(self, most: int) -> Found:
        """The ``most`` best groups; ties go to the group with fewer conditions."""
        order = np.lexsort(((self.members[:, :, 0] >= 0).sum(axis=1), -self.worth))[:most]
        return Found(self.members[order], self.worth[order], self.size[order], self.tried)


class RowEffects:
    """Four numbers per row, ``rows`` (4, m), whose sums over a group give its size, its share of the weights, its pull
    and its curvature along v, and from these an estimate of its change of f."""

    def __init__(self, expansion: Expansion):
        problem, v = expansion.problem, expansion.adjoint
        objective, w = problem.objective, problem.objective.weights
        curvatures = objective.row_curvatures(problem.theta, v, v)[:, 0]
        self.rows = np.stack([np.ones(problem.rows), w, w * expansion.row_influence, w * curvatures])
        self._total = self.rows.sum(axis=1)
        self._curvature = float((v * problem.target.gradient(problem.theta)).sum())
        self._renormalised = problem.scaling == PER_MEAN
        self._sign = problem.sign

    def worth(self, sums: np.ndarray) -> np.ndarray:
        """sign * change of f per removed row, from the sums (4, ...) over groups."""
        size, share, pull, curvatures = sums
        with np.errstate(divide="ignore", invalid="ignore"):
            alpha = 1.0 / (1.0 - share) if self._renormalised else np.ones_like(share)
            first = alpha * pull - (alpha - 1.0) * self._total[2]
            left = alpha * (self._total[3] - curvatures) + self._curvature - self._total[3]
            stretch = np.ones_like(left)
            if self._curvature > 0:
                stretch = np.clip(self._curvature / np.maximum(left, 0.0), 1.0 / MOST_STRETCH, MOST_STRETCH)
            return self._sign * first * stretch / size

    def over_cells(self, codes: np.ndarray, count: int, rows: np.ndarray | None = None) -> np.ndarray:
        """Sums (4, count) over the rows of each code; ``codes`` are those of ``rows``, by default of all."""
        chosen = self.rows if rows is None else self.rows[:, rows]
        return np.stack([np.bincount(codes, weights=weights, minlength=count) for weights in chosen])


class _Gathering:
    """Collects the best groups of ``least`` to ``most`` rows while they are examined."""

    def __init__(self, effects: RowEffects, depth: int, least: int, most: int):
        self.effects, self.depth, self.least, self.most = effects, depth, least, most
        self.tried = 0
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, sums: np.ndarray, members: np.ndarray, inside: np.ndarray) -> None:
        """Add the groups with ``members`` (N, D, 2) and sums (4, N) that are smaller than all of ``inside`` (..., N),
        the sizes of the groups with one condition fewer; otherwise a condition is redundant."""
        size = np.rint(sums[0])
        fits = np.flatnonzero((size >= self.least) & (size <= self.most) & (size < inside).all(axis=0))
        self.tried += len(fits)
        worth = self.effects.worth(sums[:, fits])
        worth[~np.isfinite(worth)] = -np.inf
        good = np.flatnonzero(worth > -np.inf)
        if len(good) > KEPT_PER_PAIR:
            good = good[np.argpartition(-worth[good], KEPT_PER_PAIR)[:KEPT_PER_PAIR]]
        self._parts.append((_padded(members[fits[good]], self.depth), worth[good], size[fits[good]].astype(int)))

    def found(self) -> Found:
        members, worth, size = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return Found(members, worth, size, self.tried).best(KEPT)


def describe(
    expansion: Expansion,
    columns: Sequence[Cells],
    depth: int,
    least: int,
    advance: Callable[[str], None] = lambda note: None,
) -> Found:
    """The best groups of up to ``depth`` conditions on different columns, with at least ``least`` rows.

    All groups of one or two conditions are examined.  Further conditions are added to the best findings that have one
    condition fewer.
    """
    effects = RowEffects(expansion)
    gathering = _Gathering(effects, depth, least, int(LARGEST_SHARE * expansion.problem.rows))
    alone = [cells.over_spans(effects.over_cells(cells.codes, cells.count), 1) for cells in columns]
    everything = np.array([[expansion.problem.rows]])
    for at, sums in enumerate(alone):
        gathering.add(sums, _members(at, len(columns[at].spans)), everything)
    for a, b in combinations(range(len(columns)), 2) if depth > 1 else ():
        advance("describe")
        first, second = columns[a], columns[b]
        sums = effects.over_cells(first.codes * second.count + second.codes, first.count * second.count)
        sums = first.over_spans(second.over_spans(sums.reshape(4, first.count, second.count), 2), 1)
        inside = np.stack(np.broadcast_arrays(alone[a][0][:, None], alone[b][0][None])).reshape(2, -1)
        outer, inner = _members(a, len(first.spans)), _members(b, len(second.spans))
        members = np.concatenate([np.repeat(outer, len(inner), axis=0), np.tile(inner, (len(outer), 1, 1))], axis=1)
        gathering.add(sums.reshape(4, -1), members, inside)
    for level in range(3, depth + 1):
        _deepen(gathering, columns, level, advance)
    return gathering.found()


def _deepen(gathering: _Gathering, columns: Sequence[Cells], level: int, advance: Callable[[str], None]) -> None:
    """Add groups of ``level`` conditions that refine the best findings with one condition fewer."""
    described = gathering.found()
    deepest = np.flatnonzero((described.members[:, :, 0] >= 0).sum(axis=1) == level - 1)
    known = Found(described.members[deepest], described.worth[deepest], described.size[deepest], 0)
    seen: set[bytes] = set()
    for place in [place for family in findings(known, columns, BEAM, BEAM_EACH) for place in family]:
        advance("describe")
        conditions = known.members[place, : level - 1]
        rows = np.flatnonzero(mask_of(conditions, columns))
        for at in set(range(len(columns))) - set(conditions[:, 0].tolist()):
            cells = columns[at]
            sums = cells.over_spans(gathering.effects.over_cells(cells.codes[rows], cells.count, rows), 1)
            added = _members(at, len(cells.spans))
            members = np.concatenate([np.repeat(conditions[None], len(added), axis=0), added], axis=1)
            members = members[:, np.argsort(members[0, :, 0])]
            new = np.array([one.tobytes() not in seen for one in members])
            seen |= {one.tobytes() for one in members}
            sums[0, ~new] = 0.0
            gathering.add(sums, members, np.array([[len(rows)]]))


def mask_of(members: np.ndarray, columns: Sequence[Cells]) -> np.ndarray:
    """The mask (m,) of the rows that meet all conditions ``members`` (D, 2)."""
    masks = [columns[column].mask(condition) for column, condition in members.tolist() if column >= 0]
    return np.logical_and.reduce(masks)


def findings(gathered: Found, columns: Sequence[Cells], most: int, each: int) -> list[list[int]]:
    """The places of the groups in each of the ``most`` best findings, at most ``each`` for a finding.

    A finding is the best group that is left, with all groups that share more than ``OVERLAP`` of the smaller one's rows
    with it.
    """
    places = np.cumsum([0, *(len(cells.spans) for cells in columns)])
    flat = np.where(
        gathered.members[:, :, 0] >= 0, places[gathered.members[:, :, 0]] + gathered.members[:, :, 1], places[-1]
    )
    left = np.arange(len(gathered))
    out: list[list[int]] = []
    while len(left) and len(out) < most:
        rows = np.flatnonzero(mask_of(gathered.members[left[0]], columns))
        share = len(rows) / min(len(rows), SAMPLED)
        rows = rows[:: max(1, len(rows) // SAMPLED)][:SAMPLED]
        masks = [
            (cells.codes[rows] >= cells.spans[:, :1]) & (cells.codes[rows] <= cells.spans[:, 1:]) for cells in columns
        ]
        inside = np.concatenate([*masks, np.ones((1, len(rows)), dtype=bool)])
        both = np.empty(len(left))
        step = max(1, CHUNK // (len(rows) * flat.shape[1]))
        for start in range(0, len(left), step):
            part = inside[flat[left[start : start + step], 0]]
            for level in range(1, flat.shape[1]):
                part = part & inside[flat[left[start : start + step], level]]
            both[start : start + step] = share * part.sum(axis=1)
        alike = both > OVERLAP * np.minimum(gathered.size[left], gathered.size[left[0]])
        alike[0] = True
        out.append(left[alike][:each].tolist())
        left = left[~alike]
    return out


def distinct(groups: Sequence[np.ndarray], m: int, most: int) -> list[int]:
    """Places of the first ``most`` groups (sorted rows each) that share at most ``OVERLAP`` of the smaller one's rows
    with every group kept before."""
    kept: list[tuple[int, np.ndarray]] = []
    for place, rows in enumerate(groups):
        if len(kept) == most:
            break
        if all(mask[rows].sum() <= OVERLAP * min(len(rows), mask.sum()) for _, mask in kept):
            mask = np.zeros(m, dtype=bool)
            mask[rows] = True
            kept.append((place, mask))
    return [place for place, _ in kept]


def _members(column: int, conditions: int) -> np.ndarray:
    """The members of groups with one condition on ``column``, (C, 1, 2)."""
    return np.stack([np.full(conditions, column), np.arange(conditions)], axis=-1)[:, None]


def _padded(members: np.ndarray, depth: int) -> np.ndarray:
    """Members (n, d, 2) padded with -1 to (n, depth, 2)."""
    out = np.full((len(members), depth, 2), -1)
    out[:, : members.shape[1]] = members
    return out
