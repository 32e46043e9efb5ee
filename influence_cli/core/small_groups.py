"""The Hessian after removal itself, (P, P) for each of some small groups: what retraining a narrow model takes to
precondition its steps and to know when it has arrived.

At theta*, H - D is H without the group's rows and with the others' weights scaled: n P^2 operations for a group of n
rows, and P^3 for its factor, beside which a pass over all rows is long.  On the way to the group's own minimum the
curvature of row i changes by at most a factor exp(d) where its output moves by d (self-concordance; Bach 2010), so that
as long as no output has moved far, decrements by H - D are those by the Hessian at hand up to exp(d / 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.removal import Removal
from influence_cli.core.solvers.choice import HESSIAN_UP_TO, HessianSolver
from influence_cli.core.solvers.preconditioners import Inverses
from influence_cli.core.weights import batches

DETERMINED = 1e-8
"""Curvature left to a parameter, relative to that of the trained model, up to which an inverse has lost its digits."""
SHARE = 0.12
"""Weight of a group up to which its rows are fewer than the passes that they save."""
BATCH_NUMBERS = 1 << 15
"""Features of groups' rows that are looked at together: a group by itself takes Python's time, not that of its rows."""


def hessians_after(objective: Objective, theta: np.ndarray, solver: HessianSolver, groups: Removal) -> Inverses | None:
    """The inverses of H - D at theta (P, 1) for all groups; None where the model has more than one output or
    HESSIAN_UP_TO parameters, a group has more than SHARE of the weight, or the rest hardly determines the parameters.
    """
    if not isinstance(objective, Glm) or objective.outputs > 1 or objective.size > HESSIAN_UP_TO or not solver.exact:
        return None
    if groups.share.max(initial=0.0) > SHARE:
        return None
    penalty, penalty_of_groups = objective.penalty, groups.removed.penalty
    whole = solver.product(np.eye(objective.size, order="F"))
    of_loss = whole - penalty.block(0) - objective.damping * np.eye(objective.size)
    after = whole + groups.offset[:, None, None] * of_loss
    for batch in batches(groups.member.sizes, BATCH_NUMBERS // objective.size):
        after[batch] -= groups.scale[batch, None, None] * _of_rows(objective, theta, groups.member.rows[batch])
    if penalty_of_groups is not None:
        for g, one in enumerate(after):
            one += penalty.block(0, penalty_of_groups.take(np.array([g]))) - penalty.block(0)
    try:
        pivots = np.linalg.cholesky(after).diagonal(axis1=1, axis2=2) ** 2
    except np.linalg.LinAlgError:
        return None
    return Inverses(np.linalg.inv(after)) if (pivots > DETERMINED * whole.diagonal()).all() else None


def _of_rows(model: Glm, theta: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """sum_i w_i l_i'' x_i x_i' over the rows of each of these groups, (G, P, P)."""
    rows, ends = np.concatenate(groups), np.cumsum([len(rows) for rows in groups])
    features = np.ones((len(rows), model.size))
    columns = model.size - model.design.intercept
    features[:, :columns] = model.design.dense(rows, np.ones(columns, dtype=bool))
    curvature = model.family.pair(model.family.curvature_state((features @ theta).T[None]), 0, 0)[0]
    features *= np.sqrt(np.abs(curvature) * model.weights[rows])[:, None]
    if (np.diff(ends) == ends[0]).all():
        parts = features.reshape(len(groups), ends[0], model.size)
        return np.asarray(parts.transpose(0, 2, 1) @ parts)
    return np.stack([part.T @ part for part in np.split(features, ends[:-1])])
