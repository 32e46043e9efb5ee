"""The weights of all rows for each of G groups: base weights of the rows and, for each group, its rows and two factors.

    w_ig = base_i * (kept_g + (taken_g - kept_g) * s_ig)        s_ig = 1 for the rows of group g, 0 for the others

The weights on the group alone (kept 0, taken 1), those after its removal (kept 1 or 1/(1-p), taken 0) and their
differences thus have the same rows and differ in the factors only, and a group of ten rows takes ten numbers, however
many rows there are.  An array of m rows and G groups is never formed: a pass asks for the weights of one block at a
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from influence_cli.memory import at_most

NO_ROWS = np.empty(0, dtype=np.int64)
TOGETHER, TOGETHER_BYTES, TOGETHER_SHARE = 1 << 20, 50, 1 / 32
"""Rows of all groups up to which they are processed together, bytes per row that this takes, and the share of
``--memory`` that it may take."""


def together() -> float:
    """Rows of all groups up to which they are processed together; above it, fewer groups are processed at a time."""
    return at_most(TOGETHER * TOGETHER_BYTES, TOGETHER_SHARE) / TOGETHER_BYTES


@dataclass(frozen=True)
class GroupPenalty:
    """The penalty of each group, where it differs from the objective's (docs/design.md, section 2.1).

        (1/2) sum_p scaling_pg ridge_p theta_p^2 + (1/2) sum_k (direction_g' theta_k)^2

    ``scaling`` (P, G) multiplies the objective's diagonal.  ``direction`` (D, G), if any, is the rank-one term of a
    penalised intercept whose features were shifted, with the factor sqrt(lambda) included; theta_k are the D
    coefficients of output k (in a network, of unit k of the first layer).
    """

    scaling: np.ndarray
    direction: np.ndarray | None = None

    def take(self, columns: np.ndarray) -> GroupPenalty:
        """The penalties of the groups ``columns`` (A,)."""
        direction = None if self.direction is None else self.direction[:, columns]
        return GroupPenalty(self.scaling[:, columns], direction)


@dataclass(frozen=True)
class Weights:
    """Weights of m rows for G groups; the module's docstring has the formula.

    ``base`` (m,); ``rows``, G sorted arrays of row numbers; ``kept`` and ``taken`` (G,); ``membership``, G arrays of
    s_ig for the group's rows where a group is relaxed to shares of its rows (the paper's Eq. 18), else None;
    ``penalty`` is None where every group has the objective's.  A single group serves any number of parameter vectors.
    """

    base: np.ndarray
    rows: tuple[np.ndarray, ...]
    kept: np.ndarray
    taken: np.ndarray
    membership: tuple[np.ndarray, ...] | None = None
    penalty: GroupPenalty | None = None

    @property
    def groups(self) -> int:
        """G."""
        return len(self.rows)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Rows of each group, (G,)."""
        return np.array([len(rows) for rows in self.rows], dtype=np.int64)

    @property
    def whole(self) -> bool:
        """Whether these are the base weights themselves, shared by all groups."""
        return bool(self.groups == 1 and self.kept[0] == 1.0 and not len(self.rows[0]))

    def take(self, columns: np.ndarray) -> Weights:
        """The weights of the groups ``columns`` (A,); a single group, which serves all, is returned as it is."""
        if self.groups == 1 or np.array_equal(columns, np.arange(self.groups)):
            return self
        return Weights(
            self.base,
            tuple(self.rows[g] for g in columns),
            self.kept[columns],
            self.taken[columns],
            None if self.membership is None else tuple(self.membership[g] for g in columns),
            None if self.penalty is None else self.penalty.take(columns),
        )

    def joined(self, other: Weights) -> Weights:
        """These groups followed by the groups of ``other``, which has the same base weights; without penalties."""
        membership = None
        if self.membership is not None or other.membership is not None:
            membership = tuple(share for one in (self, other) for share in one._shares())
        kept, taken = np.concatenate([self.kept, other.kept]), np.concatenate([self.taken, other.taken])
        return Weights(self.base, self.rows + other.rows, kept, taken, membership)

    def scaled(self, kept: np.ndarray, taken: np.ndarray, penalty: GroupPenalty | None = None) -> Weights:
        """The same groups with other factors (G,)."""
        return replace(self, kept=kept, taken=taken, penalty=penalty)

    def inside(self, g: int) -> np.ndarray:
        """The weights of the rows of group g, (n,)."""
        return self._within(g, slice(None))

    def block(self, rows: slice) -> np.ndarray:
        """The weights of a block of rows, (G, b), which must not be modified."""
        base = self.base[rows]
        if self.whole:
            return base[None]
        out = self.kept[:, None] * base
        for groups, at, values in self._places(rows):
            out[groups, at] = values * base[at]
        return out

    @property
    def alike(self) -> float:
        """The base weight that all rows share, where ``base`` is one number broadcast to m; else 1."""
        return float(self.base[0]) if self.base.strides == (0,) else 1.0

    def over_kept(self, R: np.ndarray, rows: slice, alike: float) -> np.ndarray:
        """R (G, F, b), derivatives for a block of rows, multiplied in place by the weights and divided by ``kept`` and
        ``alike``.

        After that division only the rows of the groups themselves have factors that differ by group.  For several
        groups, removed rows become 0 even where R is infinite or NaN.
        """
        if self.groups == 1:
            R *= (self.block(rows) / (self.kept * alike)).astype(R.dtype, copy=False)
            return R
        if alike == 1.0:
            R *= self.base[rows].astype(R.dtype, copy=False)
        for groups, at, values in self._places(rows):
            if not values.any():
                R[groups, :, at] = 0.0
                continue
            ratio = (values / self.kept[groups]).astype(R.dtype, copy=False)[:, None]
            R[groups, :, at] = np.where(ratio == 0.0, 0.0, ratio * R[groups, :, at])
        return R

    def total(self, values: np.ndarray, rows: slice) -> np.ndarray:
        """sum_i w_ig values_ig over a block of rows, (G,), for ``values`` (1 or G, b)."""
        if len(values) > 1 or self.groups == 1:
            return np.asarray((self.block(rows) * values).sum(axis=1))
        weighted = self.base[rows] * values[0]
        out = self.kept * weighted.sum()
        for groups, at, factors in self._places(rows):
            out += np.bincount(groups, (factors - self.kept[groups]) * weighted[at], minlength=self.groups)
        return out

    def parts(self) -> list[np.ndarray]:
        """The groups (numbers) in parts that share a pass over the rows.  A group with weights on less than half of the
        rows is a part by itself, because ``pieces`` then visits its rows only; all others are one part."""
        together = np.flatnonzero(~self._sparse)
        return [np.array([g]) for g in np.flatnonzero(self._sparse)] + ([together] if len(together) else [])

    def pieces(self, step: int) -> Iterator[Piece]:
        """All rows in order, ``step`` at a time; for a single group with weights on few rows, its rows only."""
        if not (self.groups == 1 and self._sparse[0]):
            yield from self.blocks(step)
            return
        for start in range(0, len(self.rows[0]), step):
            span = slice(start, min(start + step, len(self.rows[0])))
            yield Piece(self.rows[0][span], self, span)

    def blocks(self, step: int) -> Iterator[Piece]:
        """All rows in order, ``step`` at a time."""
        for start in range(0, len(self.base), step):
            rows = slice(start, min(start + step, len(self.base)))
            yield Piece(rows, self, rows)

    def column(self, g: int = 0) -> np.ndarray:
        """The weights of all rows for one group, (m,)."""
        return self.take(np.array([g])).block(slice(0, len(self.base)))[0]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """sum_i s_ig values_i over each group's rows, (G,), for values (m,); the weights do not enter."""
        if self.membership is None:
            return np.array([values[rows].sum() for rows in self.rows])
        shares = zip(self.rows, self.membership, strict=True)
        return np.array([values[rows] @ share for rows, share in shares])

    def squares(self) -> np.ndarray:
        """The sum of the squared weights of each group, (G,)."""
        if self.groups > 1 and self.sizes.sum() > together():
            halves = np.array_split(np.arange(self.groups), 2)
            return np.concatenate([self.take(half).squares() for half in halves])
        groups, rows, factors = self.in_groups
        squares = self.base[rows] ** 2
        outside, inside = (np.bincount(groups, squares * factor, self.groups) for factor in (1.0, factors**2))
        return self.kept**2 * (self.base @ self.base - outside) + inside

    def present(self, kinds: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Which kinds of rows keep a weight other than 0, (G, S) bool.

        ``kinds`` (m,) numbers each row's kind from 0; ``counts`` (S,) counts the rows of each with a base weight over
        0.
        """
        if self.groups > 1 and self.sizes.sum() > together():
            halves = np.array_split(np.arange(self.groups), 2)
            return np.concatenate([self.take(half).present(kinds, counts) for half in halves])
        groups, rows, factors = self.in_groups
        shape, places = (self.groups, len(counts)), groups * len(counts) + kinds[rows]

        def counted(which: np.ndarray) -> np.ndarray:
            return np.bincount(places[which], minlength=self.groups * len(counts)).reshape(shape)

        outside = counts - counted(self.base[rows] != 0.0) > 0
        return (counted(factors * self.base[rows] != 0.0) > 0) | (outside & (self.kept[:, None] != 0.0))

    def _places(self, rows: slice) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The places (groups, rows in the block) of the groups' rows in a block, and the factors of their weights: all
        at once or, where the groups have many rows, group by group."""
        if self.sizes.sum() <= together():
            groups, at, factors = self._sorted
            span = slice(*at.searchsorted((rows.start, rows.stop)))
            if span.stop > span.start:
                yield groups[span], at[span] - rows.start, factors[span]
            return
        for g, chosen in enumerate(self.rows):
            low, high = chosen.searchsorted((rows.start, rows.stop))
            if high > low:
                owners = np.full(high - low, g)
                yield owners, chosen[low:high] - rows.start, self._factors(g, slice(low, high))

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``in_groups``, sorted by row."""
        groups, rows, factors = self.in_groups
        order = np.argsort(rows, kind="stable")
        return groups[order], rows[order], factors[order]

    @property
    def in_groups(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For all rows of the groups, group after group: the group, the row number and the factor of the weight, (n,)
        each."""
        groups, rows = np.repeat(np.arange(self.groups), self.sizes), np.concatenate((NO_ROWS, *self.rows))
        if self.membership is None:
            return groups, rows, self.taken[groups]
        return groups, rows, np.concatenate([self._factors(g, slice(None)) for g in range(self.groups)])

    @property
    def _sparse(self) -> np.ndarray:
        """Which groups have weights on less than half of the rows, (G,) bool."""
        return (self.kept == 0.0) & (self.sizes < len(self.base) / 2)

    def _shares(self) -> tuple[np.ndarray, ...]:
        if self.membership is not None:
            return self.membership
        return tuple(np.ones(len(rows)) for rows in self.rows)

    def _within(self, g: int, span: slice) -> np.ndarray:
        return self._factors(g, span) * self.base[self.rows[g][span]]

    def _factors(self, g: int, span: slice) -> np.ndarray:
        if self.membership is None:
            return np.full(len(self.rows[g][span]), self.taken[g])
        return self.kept[g] + (self.taken[g] - self.kept[g]) * self.membership[g][span]


def batches(sizes: np.ndarray, most: int) -> list[slice]:
    """Consecutive groups of the given ``sizes`` (G,), cut into slices of at most ``most`` rows or of one group."""
    out, ends = [], np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        stop = max(start + 1, int(ends.searchsorted(ends[start] - sizes[start] + most, side="right")))
        out.append(slice(start, stop))
        start = stop
    return out


@dataclass(frozen=True)
class Piece:
    """Some rows of a pass: a slice of all rows, or row numbers of a single group; ``span`` is their place in either."""

    rows: slice | np.ndarray
    of: Weights
    span: slice

    @property
    def count(self) -> int:
        """b, the rows."""
        return int(self.span.stop - self.span.start)

    def weights(self) -> np.ndarray:
        """The weights, (G, b)."""
        return self.of.block(self.span) if isinstance(self.rows, slice) else self.of.inside(0)[None, self.span]


RowWeights: TypeAlias = Weights | np.ndarray
"""Weights of G groups, or weights (m,) that all groups share."""


def as_weights(w: RowWeights) -> Weights:
    """Weights unchanged; an array (m,) as the weights of one group without rows.  Raises ValueError for other
    shapes."""
    if isinstance(w, Weights):
        return w
    if w.ndim != 1:
        raise ValueError(f"weights that all groups share are an array (m,); found one of shape {w.shape}")
    return Weights(w, (NO_ROWS,), np.ones(1), np.zeros(1))


def members(base: np.ndarray, groups: Sequence[np.ndarray]) -> Weights:
    """The base weights (m,) on the rows of each group and 0 elsewhere."""
    rows = tuple(group if (group[1:] > group[:-1]).all() else np.unique(group) for group in groups)
    return Weights(base, rows, np.zeros(len(rows)), np.ones(len(rows)))


def relaxed_members(base: np.ndarray, shares: np.ndarray) -> Weights:
    """Like ``members``, for groups that are relaxed to shares (G, m) of the rows, most of which are 0."""
    rows = tuple(np.flatnonzero(share) for share in shares)
    membership = tuple(share[chosen] for share, chosen in zip(shares, rows, strict=True))
    return Weights(base, rows, np.zeros(len(rows)), np.ones(len(rows)), membership)
