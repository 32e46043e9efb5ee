"""Newton steps where J(.; w) may have no minimum: whether they prove that it has one, and steps within the directions
that the rows determine.

Far along a direction of recession every step is as long as the one before; near a minimum the steps become short.
"""

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
"""Reciprocal condition number of the Hessian, scaled to diagonal 1, up to which no minimum is certain: even a separated
row still has a curvature of about exp(-30)."""
RULED_OUT = 50.0
"""Distance, in units of the outputs, to which the outputs of separated rows are moved before J is evaluated: exp(-50)
no longer contributes to J."""
SHIFTS = (0.0, 1e-10, 1e-6, 1e-3)
"""Multiples of the identity added in turn to a curvature of diagonal 1 until it is definite: far from the minimum a
step need not be exact."""
FINITE_REACH = 0.5
"""Largest change of a row's outputs in a Newton step below which a minimum is certain (for the proof see
``training._require_finite_minimum``)."""
LOOKED_AHEAD, LONGEST_STEP = 8, 2.0
"""Newton steps within which a minimum near the trained parameters is recognised, at a fraction of the cost of linear
programs, and the largest change of a row's outputs that one of them may make."""
HALVINGS = 30
"""Most points that are tried along a step, each half as far as the one before."""


def is_finite(objective: Objective, theta: np.ndarray, w: RowWeights, *, steps: int = 0) -> bool:
    """Whether J(.; w) certainly has one finite minimum, judged at theta (P, 1) or at one of at most ``steps`` Newton
    iterates from it.  It has if the Hessian is definite there by more than the rounding of its factor, and the Newton
    step changes no row's outputs by as much as ``FINITE_REACH``.  False means that it is not known."""
    if objective.bounded:
        return True
    if objective.size > DOUBLE_UP_TO:
        return False

    def step(at: np.ndarray) -> np.ndarray | None:
        try:
            factor = factorize(objective, at, w)
        except NotConvergedError:
            return None
        # If the rows of the factor are scaled to length 1, the units cancel.  The condition is used instead of the
        # least pivot, because a small pivot increases the rounding error of a later one that should be 0.
        least, _ = dpocon(factor.lower / np.linalg.norm(factor.lower, axis=1)[:, None], 1.0, uplo="L")
        return None if least <= FLAT else -factor(objective.gradient(at, w))

    return becomes_short(objective, theta, step, steps)


def becomes_short(
    objective: Objective, theta: np.ndarray, step_from: Callable[[np.ndarray], np.ndarray | None], steps: int
) -> bool:
    """Whether the Newton step at theta (P, 1), or at one of the next ``steps`` iterates, changes no row's outputs by as
    much as ``FINITE_REACH``.  False as soon as ``step_from`` returns None, because the Hessian is not definite."""
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
    """The Newton step from theta (P, 1) within the space ``direction.held``, at a point so far along
    ``direction.outward`` that the rows with growing forms no longer contribute to J.

    Returns that point with J and its gradient there; the step (P, 1); and about 1 / the condition number of the
    curvature in the space, 0 where it is not definite.
    """
    out = max(0.0, RULED_OUT - float(direction.growth(theta).min(initial=RULED_OUT))) * direction.outward
    value, gradient = objective.value_and_gradient(theta + out, w)
    held = direction.held
    curvature = held.T @ symmetric(objective.dense_curvature(theta + out, w, np.dtype(float))) @ held
    step, least = _newton_step(curvature, held.T @ gradient)
    return (theta + out, value, gradient), held @ step, least


def _newton_step(curvature: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, float]:
    """-curvature^-1 gradient (r, 1), and about 1 / the condition number of the curvature (r, r), which is 0 where it is
    not definite; the step is then that of a shifted curvature."""
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
    """The first point theta + step / 2^j, j = 0, 1, ..., from ``at`` (theta, J and its gradient) where J has fallen or,
    if rounding hides that, where the gradient within the space ``held`` (P, r) is shorter; None if there is none."""
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
