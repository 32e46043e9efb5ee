"""Newton's steps where J(.; w) may have no minimum: whether they show one, and how they go in the space that rows hold.

Far along a direction of recession every step is as long as the one before; near a minimum they become short."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from scipy.linalg.lapack import dpocon

from influence_cli.core.arrays import symmetric
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.newton_cg import visible
from influence_cli.core.separation import Separation
from influence_cli.core.solvers.cholesky import DOUBLE_UP_TO, factorize
from influence_cli.core.weights import RowWeights, Weights
from influence_cli.errors import NotConvergedError

FLAT = 1e-13
"""Curvature, relative to that of its parameters, up to which no minimum is certain: a row that is separated keeps
exp(-30) of its own."""
RULED_OUT = 50.0
"""How far out, in units of the outputs, what can be separated is taken out of J: exp(-50) is no part of it any more."""
SHIFTS = (0.0, 1e-10, 1e-6, 1e-3)
"""Added to a curvature of diagonal 1 in turn until it is definite: far from the minimum steps may be rough."""
FINITE_REACH = 0.5
"""Change of some row's outputs in a Newton step under which a minimum is certain
(``training.require_finite_minimum``)."""
LOOKED_AHEAD, LONGEST_STEP = 8, 2.0
"""Newton steps within which a minimum near the trained parameters shows, for a fraction of what linear programs take,
and the largest change of a row's outputs in one of them."""
HALVINGS = 30
"""Of a step, before it counts as lost to rounding."""


def is_finite(objective: Objective, theta: np.ndarray, w: RowWeights, *, steps: int = 0) -> bool:
    """Whether J(.; w) certainly has one finite minimum, seen from theta (P, 1) or a point at most so many Newton
    ``steps`` on: the Hessian is definite there, by more than the rounding of its factor, and no row's outputs move by
    ``FINITE_REACH`` in a Newton step.  False may mean either."""
    if objective.bounded:
        return True
    if objective.size > DOUBLE_UP_TO:
        return False

    def step(at: np.ndarray) -> np.ndarray | None:
        try:
            factor = factorize(objective, at, w)
        except NotConvergedError:
            return None
        # Without units: rows of length 1.  A small pivot in the middle raises the rounding of one that should be 0.
        least, _ = dpocon(factor.lower / np.linalg.norm(factor.lower, axis=1)[:, None], 1.0, uplo="L")
        return None if least <= FLAT else -factor(objective.gradient(at, w))

    return becomes_short(objective, theta, step, steps)


def becomes_short(
    objective: Objective, theta: np.ndarray, step_from: Callable[[np.ndarray], np.ndarray | None], steps: int
) -> bool:
    """Whether a Newton step is shorter than ``FINITE_REACH`` at theta (P, 1) or so many ``steps`` on, and there is one
    (where the Hessian is definite) at each."""
    for _ in range(steps + 1):
        step = step_from(theta)
        if step is None:
            return False
        longest = float(objective.self_concordance(step)[0])
        if longest < FINITE_REACH:
            return True
        theta = theta + step * min(1.0, LONGEST_STEP / longest)
    return False


def step_in_held(
    objective: Glm, theta: np.ndarray, w: Weights, direction: Separation
) -> tuple[tuple[np.ndarray, ...], np.ndarray, float]:
    """From theta (P, 1) with all that can grow ruled out: that point, J and its gradient there; Newton's step (P, 1) in
    what ``direction`` holds; and about 1 / the condition of the curvature there, 0 where that is not definite."""
    out = max(0.0, RULED_OUT - float(direction.growth(theta).min(initial=RULED_OUT))) * direction.outward
    value, gradient = objective.value_and_gradient(theta + out, w)
    held = direction.held
    curvature = held.T @ symmetric(objective.dense_curvature(theta + out, w, np.dtype(float))) @ held
    step, least = _newton_step(curvature, held.T @ gradient)
    return (theta + out, value, gradient), held @ step, least


def _newton_step(curvature: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, float]:
    """-curvature^-1 gradient (r, 1), and about 1 / the condition of the curvature (r, r), 0 where that is not
    definite.  Nothing is held where r is 0, which LAPACK would report as an error on standard error."""
    if not curvature.size:
        return gradient, 1.0
    unit = np.sqrt(np.maximum(curvature.diagonal(), np.finfo(float).tiny))[:, None]
    for shift in SHIFTS:
        with suppress(np.linalg.LinAlgError):
            lower = np.linalg.cholesky(curvature / unit / unit.T + shift * np.eye(len(unit)))
            least = 0.0 if shift else max(float(dpocon(lower, 1.0, uplo="L")[0]), np.finfo(float).tiny)
            return -np.linalg.solve(lower.T, np.linalg.solve(lower, gradient / unit)) / unit, least
    return np.zeros_like(gradient), 0.0


def along_step(
    objective: Objective, at: tuple[np.ndarray, ...], step: np.ndarray, w: Weights, held: np.ndarray
) -> np.ndarray | None:
    """The point along the step from ``at`` (theta, J and its gradient) where J has fallen, or if that cannot be told,
    its gradient in ``held`` (P, r); None if there is none."""
    theta, value, gradient = at
    slope = float((gradient * step).sum())
    for halving in range(HALVINGS):
        share = 0.5**halving
        trial = theta + share * step
        there, slopes = objective.value_and_gradient(trial, w)
        falls = there[0] <= value[0] + 1e-4 * share * slope
        unresolved = abs(there[0] - value[0]) <= visible(objective, theta, value)[0]
        shorter = np.linalg.norm(held.T @ slopes) < np.linalg.norm(held.T @ gradient)
        if np.isfinite(there[0]) and ((falls and slope < 0) or (unresolved and shorter)):
            return trial
    return None
