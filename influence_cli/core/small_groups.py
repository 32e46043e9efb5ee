"""The inverse Hessians after removal (P, P) of small groups: with them, retraining of a narrow model preconditions its
steps and recognises the minimum.

At theta*, H - D is H without the group's rows and with the weights of the others scaled: n P^2 operations for a group
of n rows, and P^3 for its factor, far less than a pass over all rows.  On the path to the group's own minimum the
curvature of row i changes by at most a factor exp(d) if its output changes by d (self-concordance; Bach 2010).  As long
as no output changes by more than d, decrements by H - D therefore equal those by the current Hessian up to a factor
exp(d / 2).
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
"""Remaining curvature of a parameter, as a share of that of the trained model, up to which an inverse has lost its
digits."""
SHARE = 0.12
"""Weight of a group up to which reading its rows costs less than the passes that the inverse saves."""
LOW_RANK = 0.3
"""Rows, as a share of the parameters, up to which updating an inverse by them is faster than a new inverse."""
BATCH_NUMBERS = 1 << 15
"""Float64 numbers of the rows of groups that are processed together, because Python's overhead per group is larger than
the work."""


def hessians_after(objective: Objective, theta: np.ndarray, solver: HessianSolver, groups: Removal) -> Inverses | None:
    """The inverses of H - D at theta (P, 1) for all groups.

    None where the model has more than one output or ``HESSIAN_UP_TO`` parameters, the solver is not exact, a group has
    more than ``SHARE`` of the weight, or the remaining rows hardly determine the parameters."""
    if not isinstance(objective, Glm) or objective.outputs > 1 or objective.size > HESSIAN_UP_TO or not solver.exact:
        return None
    if groups.share.max(initial=0.0) > SHARE:
        return None
    penalty, penalty_of_groups = objective.penalty, groups.removed.penalty
    whole = solver.product(np.eye(objective.size, order="F"))
    of_loss = whole - penalty.block(0) - objective.damping * np.eye(objective.size)
    few = penalty_of_groups is None and groups.member.sizes.max(initial=0) <= LOW_RANK * objective.size
    step, sizes = max(1, BATCH_NUMBERS // objective.size), groups.member.sizes
    after = np.empty((len(sizes), *whole.shape))
    try:
        for batch in batches(sizes, step):
            rows, offset, scale = groups.member.rows[batch], groups.offset[batch], groups.scale[batch, None, None]
            if few:
                parts = np.sqrt(scale) * _stacked(*_features(objective, theta, rows))
                after[batch] = _updated(whole, of_loss, offset, parts)
                continue
            after[batch] = whole + offset[:, None, None] * of_loss
            for start in range(0, max(map(len, rows)), step):  # once, except for a group with more rows
                features, counts = _features(objective, theta, [one[start : start + step] for one in rows])
                parts = np.split(features, np.cumsum(counts)[:-1])
                after[batch] -= scale * [part.T @ part for part in parts]
        if few:
            return Inverses(after)
        if penalty_of_groups is not None:
            for g, one in enumerate(after):
                one += penalty.block(0, penalty_of_groups.take(np.array([g]))) - penalty.block(0)
        pivots = np.linalg.cholesky(after).diagonal(axis1=1, axis2=2) ** 2
    except np.linalg.LinAlgError:
        return None
    return Inverses(np.linalg.inv(after)) if (pivots > DETERMINED * whole.diagonal()).all() else None


def _updated(whole: np.ndarray, of_loss: np.ndarray, offset: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The inverses of ``whole`` + offset_g ``of_loss`` - X_g' X_g for few rows X_g (G, n, P), by Woodbury's identity.

    Raises LinAlgError where a matrix is indefinite, or nearly so that its inverse has lost its digits.
    """
    offsets, which = np.unique(offset, return_inverse=True)
    inverse = np.linalg.inv(whole + offsets[:, None, None] * of_loss)[which]
    solved = parts @ inverse
    inner = np.eye(parts.shape[1]) - solved @ parts.transpose(0, 2, 1)
    np.linalg.cholesky(inner)
    inner = np.linalg.inv(inner)
    if not (inner.diagonal(axis1=1, axis2=2) < 1.0 / DETERMINED).all():
        raise np.linalg.LinAlgError
    return np.asarray(inverse + solved.transpose(0, 2, 1) @ (inner @ solved))


def _stacked(features: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Features (N, P) of groups of so many rows (G,), one behind the other, as one (G, n, P), filled up with zeros."""
    out = np.zeros((len(sizes), sizes.max(), features.shape[1]))
    out[np.arange(out.shape[1]) < sizes[:, None]] = features
    return out


def _features(model: Glm, theta: np.ndarray, groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """sqrt(w_i l_i'') x_i for the rows of these groups, group after group, (N, P), and the number of rows of each,
    (G,)."""
    rows = np.concatenate(groups)
    features = np.ones((len(rows), model.size))
    columns = model.size - model.design.intercept
    features[:, :columns] = model.design.dense(rows, np.ones(columns, dtype=bool))
    curvature = model.family.pair(model.family.curvature_state((features @ theta).T[None]), 0, 0)[0]
    features *= np.sqrt(np.abs(curvature) * model.weights[rows])[:, None]
    return features, np.array([len(group) for group in groups])
