"""Newton's method with a factored Hessian for every column, for models of few parameters, whose Hessians cost no more
than a few passes over the rows.

The decrement is then known exactly at every point, and no step needs an iterative solve.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import norms
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.optimise.minimum import Goal, Minimum, Points, Watch, decrements
from influence_cli.core.optimise.newton_cg import line_search
from influence_cli.core.solvers.cholesky import DEPENDENT, LEAST_SIZE
from influence_cli.core.solvers.preconditioners import Inverses
from influence_cli.core.weights import RowWeights, as_weights

STEPS = 50
"""Newton steps after which a column is left to other methods."""


def newton(
    objective: Glm,
    start: np.ndarray,
    w: RowWeights,
    *,
    goal: Goal,
    max_iterations: int = STEPS,
    watch: Watch | None = None,
) -> Minimum:
    """Minimise J(.; w) from ``start`` (P, G) until every Newton decrement is within ``goal``, and take one more step.

    A column ends before that where its Hessian is singular to rounding, or where no step makes progress.
    """
    w = as_weights(w)
    points = Points.at(objective, start, w)
    theta, value, gradient = points.theta, points.value, points.gradient
    count = theta.shape[1]
    left, decrement = np.full(theta.shape, np.nan), np.full(count, np.inf)
    iterations, converged = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)
    active = np.flatnonzero(np.isfinite(points.norm))
    for iteration in range(1, max_iterations + 1):
        if not active.size:
            break
        if watch is not None:
            watch(iteration, float(norms(gradient[:, active]).max()))
        inverse, definite = inverses(objective, theta[:, active], w.take(active))
        active = active[definite]
        if not active.size:
            break
        here = w.take(active)
        step = -inverse.take(np.flatnonzero(definite))(gradient[:, active])
        left[:, active], decrement[active] = step, decrements(gradient[:, active], step)
        arrived = decrement[active] <= goal.take(active).decrement(objective, theta[:, active], value[active])
        converged[active] = arrived
        moved = line_search(objective, points, step, active, here)
        iterations[active[moved]] = iteration
        # The step after the last one is far below what the goal allows, and the last Hessian is good enough to show it.
        last = active[moved & arrived]
        left[:, last] = -inverse.take(np.flatnonzero(definite)[moved & arrived])(gradient[:, last])
        decrement[last] = decrements(gradient[:, last], left[:, last])
        active = active[moved & ~arrived]
    return Minimum(theta, norms(gradient), iterations, converged, decrement, left)


def inverses(objective: Glm, theta: np.ndarray, w: RowWeights) -> tuple[Inverses, np.ndarray]:
    """The inverse Hessians at every column of theta (P, G), and which of them (G,) are definite beyond rounding."""
    hessians = objective.dense_curvatures(theta, w)
    hessians[:, range(objective.size), range(objective.size)] += objective.damping
    diagonal = hessians.diagonal(axis1=1, axis2=2)
    limit = DEPENDENT * max(objective.size, LEAST_SIZE) * np.finfo(float).eps
    definite = np.isfinite(diagonal).all(axis=1) & (diagonal > 0).all(axis=1)
    hessians[~definite] = np.eye(objective.size)
    lower = _factors(hessians)
    definite &= (lower.diagonal(axis1=1, axis2=2) ** 2 > limit * diagonal).all(axis=1)
    lower[~definite] = np.eye(objective.size)
    # LAPACK may find no inverse of a Hessian whose last pivot is rounding error, but always finds that of its factor.
    inverse = np.linalg.inv(lower)
    return Inverses(inverse.transpose(0, 2, 1) @ inverse), definite


def _factors(hessians: np.ndarray) -> np.ndarray:
    """The Cholesky factors, (G, P, P); NaN for a matrix that has none."""
    try:
        return np.linalg.cholesky(hessians)
    except np.linalg.LinAlgError:
        if len(hessians) == 1:
            return np.full_like(hessians, np.nan)
        return np.concatenate([_factors(one[None]) for one in hessians])
