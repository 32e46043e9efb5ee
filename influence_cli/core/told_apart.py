"""Groups that the features tell from all other rows: what M does not know of them.

Where a combination x'z of the features is 1 on the group's rows and 0 on all others, the rows that are left have no
curvature along z, and the penalty alone holds it: the rows of the level that a dummy coding leaves out, say, after
which the dummies add up to the intercept.  M, the Hessian with the group, is blind to that: M^-1 times a gradient moves
far too little along z, in steps that look like a way that has ended.

With e an output's intercept and D the group's part of H, z = M^-1 D e regresses the group's membership on the features,
in the metric of the curvature, and z'D e / e'D e is the share of it that they tell (R^2).  Where that is nearly all,
z is put right: with H_r the Hessian after removal, c = z'H_r z and s = (H_r z)'B (H_r z), which would be c if the
preconditioner B were right, (c - s) / c^2 z z' is added to B.  Of several outputs this is done on the span of their z.
Where a group is told apart but for some of its rows, or in several ways at once, the directions are where M^-1 D leads
in a few steps.  Which groups these are is seen from their rows alone; they cost a pass for each direction.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import dots
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.solvers.preconditioners import Along, Preconditioner, for_columns
from influence_cli.core.weights import Weights

BLIND = 0.5
"""Share of a way along z that a preconditioner makes in one step, under which it is put right."""
WHOLLY = 1e-3
"""1 - R^2, in shares of the weight that is left, up to which the features tell a group apart with all of its rows."""
HINTED, SMALL = 2.0, 0.5
"""Sum of the features' own R^2, in what is expected of rows that are drawn, from which on a group is looked at; or in
the group's share of the weight: a small one costs little."""
LOOKS, STEPS = 3, 6
"""Steps of M^-1 D in which a direction shows to which M is blind, and after which it stands alone."""
SPARE, FEW = 2, 3
"""Further directions of that kind for each of at most so many outputs: of more they cost too much."""
NEARLY = 0.15
"""Curvature that is left along such a direction, in shares of the weight that is left, under which it is put right:
where more is left the mixing finds it, as in wide tables, of which any group leaves little somewhere."""
UNDETERMINED = 1e-12
"""Curvature that is left, relative to what M has, under which nothing is: that is left to ``recession``."""


def raised_where_told_apart(
    objective: Objective, w: Weights, inverse: Preconditioner, known: Preconditioner, theta: np.ndarray
) -> Preconditioner:
    """``known`` put right for groups, with the weights w after removal, that the features tell apart: it is M^-1, the
    ``inverse``, with what else is known of them.  They set out from theta (P, 1 or G)."""
    if not isinstance(objective, Glm) or not objective.design.intercept:
        return known
    groups = np.flatnonzero(_may_be_told(objective, w) & ~objective.loses_class(w))
    if not groups.size:
        return known
    at = _Groups(objective, w, inverse, theta)
    of_one = at.taken(_intercepts(objective)[:, :1], groups)
    total, kept = of_one[objective.design.columns - 1], 1.0 - w.take(groups).sums(w.base)
    told = dots(at.solved(of_one, groups), of_one)
    wholly = total - told < WHOLLY * kept * total
    known = at.put_right(known, groups[wholly & (total > 0)], _intercepts(objective), 1)
    partly = at.blind(of_one[:, ~wholly], groups[~wholly], kept[~wholly])
    return at.put_right(known, partly, _starts(objective), STEPS)


class _Groups:
    """What the groups take of the Hessian, and what is left, for ways from theta (P, 1 or G)."""

    def __init__(self, objective: Glm, w: Weights, inverse: Preconditioner, theta: np.ndarray):
        self._objective, self._w, self._inverse, self._theta = objective, w, inverse, theta
        self._product = objective.loss_curvature(theta, w.scaled(np.zeros(w.groups), np.ones(w.groups)))

    def taken(self, V: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """D V (P, A) of the groups ``columns`` (A,) that those of V (P, 1 or A) belong to."""
        return self._product(np.broadcast_to(V, (len(V), len(columns))), columns)

    def solved(self, V: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """M^-1 V (P, A)."""
        return for_columns(self._inverse, columns)(V)

    def blind(self, of_one: np.ndarray, groups: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Those of the groups (A,) that leave M blind to some direction: to which M^-1 D, from an intercept's D e
        (P, A), leads."""
        for limit in (BLIND,) * LOOKS + (NEARLY,) if groups.size else ():
            z = self.solved(of_one, groups)
            again = self.taken(z, groups)
            length = dots(z, of_one)
            near = (length > 0) & (length - dots(z, again) < limit * kept * length)
            groups, kept, of_one = groups[near], kept[near], again[:, near]
            if not groups.size:
                break
        return groups

    def put_right(self, known: Preconditioner, groups: np.ndarray, starts: np.ndarray, steps: int) -> Preconditioner:
        """``known`` put right for these groups (A,) on the span to which so many ``steps`` of M^-1 D lead from
        ``starts`` (P, s)."""
        if not groups.size:
            return known
        count = starts.shape[1]
        columns, Z = np.repeat(groups, count), np.tile(starts, len(groups))
        for _ in range(steps):
            taken = self.taken(Z, columns)
            Z = self.solved(taken, columns)
        theta = self._theta if self._theta.shape[1] == 1 else self._theta[:, columns]
        left = self._objective.curvature(theta, self._w.take(columns))(Z)
        made = for_columns(known, columns)(left)
        Z, taken, left, made = (
            one.reshape(-1, len(groups), count).transpose(1, 0, 2) for one in (Z, taken, left, made)
        )
        across = Z.transpose(0, 2, 1)
        spans = zip(across @ taken, across @ left, left.transpose(0, 2, 1) @ made, strict=True)
        inner = np.array([_put_right(*span) for span in spans])
        places = np.full(self._w.groups, -1)
        places[groups] = np.arange(len(groups))
        return Along(known, Z, inner, places)


def _may_be_told(objective: Glm, w: Weights) -> np.ndarray:
    """Which groups (G,) single features, each by itself, tell apart better than those that are drawn: such a feature
    has an R^2 of 1 / m."""
    design, mean = objective.design, objective.means[:-1, None]
    taken = np.stack([design.chosen_moments(rows, w.base[rows])[0] for rows in w.rows], axis=-1)
    share, varies = taken[-1], objective.mean_squares[:-1, None] - mean**2
    varies = np.where(varies > UNDETERMINED * objective.mean_squares[:-1, None], varies, np.inf)
    told = ((taken[:-1] - share * mean) ** 2 / varies).sum(axis=0)
    enough = np.minimum(HINTED * len(mean) / design.rows, SMALL * share)
    return np.asarray(told > enough * share * (1.0 - share))


def _intercepts(objective: Glm) -> np.ndarray:
    """The unit vectors of the outputs' intercepts, (P, K)."""
    out = np.zeros((objective.outputs, objective.design.columns, objective.outputs))
    out[:, -1] = np.eye(objective.outputs)
    return out.reshape(objective.size, objective.outputs)


def _starts(objective: Glm) -> np.ndarray:
    """The same, and for each of few outputs ``SPARE`` drawn directions, (P, s): a group may be told apart in several
    ways."""
    spare = SPARE * objective.outputs if objective.outputs <= FEW else 0
    drawn = np.random.default_rng(0).normal(size=(objective.size, spare))
    return np.hstack([_intercepts(objective), drawn / objective.units[:, None]])


def _put_right(before: np.ndarray, after: np.ndarray, made: np.ndarray) -> np.ndarray:
    """What is added to a preconditioner on a span (K, K): M is ``before`` there, the Hessian after removal ``after``,
    and ``made`` what the preconditioner makes of that twice; where it makes less than ``BLIND`` of what it should."""
    sizes, basis = np.linalg.eigh((before + before.T) / 2.0)
    seen = sizes > UNDETERMINED * sizes.max(initial=0.0)  # a constant added to all outputs has no part in it
    basis = basis[:, seen] / np.sqrt(sizes[seen])
    left, turned = np.linalg.eigh(basis.T @ ((after + after.T) / 2.0) @ basis)
    along = basis @ turned
    found = np.einsum("ki,kl,li->i", along, made, along)
    blind = (left > UNDETERMINED) & (found < BLIND * left)
    return np.asarray((along[:, blind] * ((left - found)[blind] / left[blind] ** 2)) @ along[:, blind].T)
