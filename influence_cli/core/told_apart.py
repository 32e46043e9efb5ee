"""Groups that the features tell from all other rows: what M does not know of them.

Where a combination x'z of the features is 1 on the group's rows and 0 on all others, the rows that are left have no
curvature along z, and the penalty alone holds it: the rows of the level that a dummy coding leaves out, say, after
which the dummies add up to the intercept.  M, the Hessian with the group, is blind to that: M^-1 times a gradient moves
far too little along z, in steps that look like a way that has ended.

With e an output's intercept and D the group's part of H, z = M^-1 D e regresses the group's membership on the features,
in the metric of the curvature, and z'D e / e'D e is the share of it that they tell (R^2).  Where that is nearly all,
z is put right: with H_r the Hessian after removal, c = z'H_r z and s = (H_r z)'B (H_r z), which would be c if the
preconditioner B were right, (c - s) / c^2 z z' is added to B.  Of several outputs this is done on the span of their z.
Which groups these are is seen from their rows alone; they cost a pass for each output.
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
HINTED = 0.5
"""Sum of the features' own R^2, in shares of the weight that the group takes, from which on a group is looked at."""
UNDETERMINED = 1e-12
"""Curvature that is left, relative to what M has, under which nothing is: that is left to ``recession``."""


def raised_where_told_apart(
    objective: Objective, w: Weights, inverse: Preconditioner, known: Preconditioner, theta: np.ndarray
) -> Preconditioner:
    """``known`` put right for groups, with the weights w after removal, that the features tell apart: it is M^-1, the
    ``inverse``, with what else is known of them.  They set out from theta (P, 1 or G)."""
    if not isinstance(objective, Glm) or not objective.design.intercept:
        return known
    groups, K = np.flatnonzero(_may_be_told(objective, w)), objective.outputs
    if not groups.size:
        return known
    product = objective.loss_curvature(theta, w.scaled(np.zeros(w.groups), np.ones(w.groups)))
    of_one = product(_intercept(objective, 0, groups.size), groups)
    total = of_one[objective.design.columns - 1]
    told = dots(for_columns(inverse, groups)(of_one), of_one)
    kept = 1.0 - w.take(groups).sums(w.base)
    flagged = groups[(total > 0) & (total - told < BLIND * kept * total)]
    if not flagged.size:
        return known
    columns = np.repeat(flagged, K)
    taken = product(np.hstack([_intercept(objective, k, 1) for k in range(K)] * len(flagged)), columns)
    Z = for_columns(inverse, columns)(taken)
    point = theta if theta.shape[1] == 1 else theta[:, columns]
    of_rows = objective.curvature(point, w.take(columns))(Z)
    made = for_columns(known, columns)(of_rows)
    Z, taken, of_rows, made = (one.reshape(-1, len(flagged), K).transpose(1, 0, 2) for one in (Z, taken, of_rows, made))
    spans = zip(
        *(Z.transpose(0, 2, 1) @ one for one in (taken, of_rows)), of_rows.transpose(0, 2, 1) @ made, strict=True
    )
    inner = np.array([_put_right(*span) for span in spans])
    places = np.full(w.groups, -1)
    places[flagged] = np.arange(len(flagged))
    return Along(known, Z, inner, places)


def _may_be_told(objective: Glm, w: Weights) -> np.ndarray:
    """Which groups (G,) single features, each by itself, tell apart as well as ``HINTED`` of their share: nearly all
    that are chosen by features, and hardly any that is drawn."""
    design, mean = objective.design, objective.means[:-1, None]
    taken = np.stack([design.chosen_moments(rows, w.base[rows])[0] for rows in w.rows], axis=-1)
    share, varies = taken[-1], objective.mean_squares[:-1, None] - mean**2
    varies = np.where(varies > UNDETERMINED * objective.mean_squares[:-1, None], varies, np.inf)
    told = ((taken[:-1] - share * mean) ** 2 / varies).sum(axis=0)
    return np.asarray(told > HINTED * share * share * (1.0 - share))


def _intercept(objective: Glm, output: int, count: int) -> np.ndarray:
    """The unit vector of an output's intercept, ``count`` times (P, count)."""
    out = np.zeros((objective.outputs, objective.design.columns, count))
    out[output, -1] = 1.0
    return out.reshape(objective.size, count)


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
