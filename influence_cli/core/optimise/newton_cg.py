"""Block Newton-CG: G minimisations of J(.; w_g) side by side, to a Newton decrement on which the estimators can rely.

Training is the case G = 1 from the initial parameters; retraining without groups starts G columns at the trained ones.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import dots, norms
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.minimum import Goal, Minimum, Points, Watch, decrements, scaled_norms
from influence_cli.core.solvers.preconditioners import Preconditioner, for_columns
from influence_cli.core.solvers.refinement import HessianAt, refined_conjugate_gradient
from influence_cli.core.weights import RowWeights, Weights, as_weights

ARMIJO = 1e-4
"""Constant of Armijo's rule: the share of the first-order decrease that J must fall by."""
HALVINGS = 30
"""Most trial steps of a line search, each half as long as the one before."""
UNRESOLVED = 64 * np.finfo(float).eps
"""Change of J, relative to J and its terms, below which it is rounding error and the gradient norm decides instead."""
SHORTEST = 0.25
"""Share of a step down to which it is halved where rounding hides the change of J."""
NEAR = 1e-4
"""Decrement, relative to the goal's scale, below which the error of Newton's method is small beside that of the solve,
so that the step is solved precisely enough to be the last."""
LAST = 0.01
"""Share of the goal that the solve of a last step may leave: this costs one more product and gives a digit to spare."""


def newton_cg(
    objective: Objective,
    start: np.ndarray,
    w: RowWeights,
    *,
    preconditioner: Preconditioner,
    goal: Goal,
    max_iterations: int = 100,
    watch: Watch | None = None,
) -> Minimum:
    """Minimise J(.; w) from ``start`` (P, G) until every Newton decrement is within ``goal``.

    Every column takes at least one step, because only a solve shows the distance to the minimum.  Steps are solved to a
    relative residual of min(0.1, root of the relative decrement) (Eisenstat and Walker 1996), and close to the minimum
    so precisely that they can be the last.  A step is halved until J falls by Armijo's rule or, where rounding hides
    the change of J, until the gradient norm falls.
    """
    w = as_weights(w)
    points = Points.at(objective, start, w)
    theta, value, gradient = points.theta, points.value, points.gradient
    count = theta.shape[1]
    left = -preconditioner(gradient)
    estimated = decrements(gradient, left)  # in the norm of the preconditioner
    decrement, iterations = estimated.copy(), np.zeros(count, dtype=np.int64)
    converged, active = np.zeros(count, dtype=bool), np.flatnonzero(np.isfinite(value) & np.isfinite(estimated))
    for iteration in range(1, max_iterations + 1):
        if not active.size:
            break
        if watch is not None:
            watch(iteration, float(norms(gradient[:, active]).max()))
        here = w.take(active)
        wanted = goal.take(active).decrement(objective, theta[:, active], value[active])
        solution = refined_conjugate_gradient(
            HessianAt(objective, theta[:, active], here),
            -gradient[:, active],
            preconditioner=for_columns(preconditioner, active),
            tol=_forcing(decrement[active], goal.scale[active], wanted),
            max_iterations=goal.patience or 500,
        )
        exact = decrements(gradient[:, active], solution.x)
        ratio = np.maximum(1.0, exact / np.where(estimated[active] > 0, estimated[active], np.inf))
        moved = line_search(objective, points, solution.x, active, here)
        at = active[moved]
        iterations[at] = iteration
        left[:, active] = solution.x
        left[:, at] = -for_columns(preconditioner, at)(gradient[:, at])
        estimated[at] = decrements(gradient[:, at], left[:, at])
        # The preconditioner is assumed to underestimate the decrement by the factor that the last solve showed, and
        # therefore the step by the square of that factor.
        decrement[active] = np.where(moved, ratio * estimated[active], np.where(solution.converged, exact, np.inf))
        left[:, at] *= ratio[moved] ** 2
        wanted = goal.take(active).decrement(objective, theta[:, active], value[active])
        converged[active] = decrement[active] <= wanted
        served = solution.converged | (goal.patience is None)
        active = active[moved & served & ~converged[active]]
    return Minimum(theta, norms(gradient), iterations, converged, decrement, left)


def _forcing(decrement: np.ndarray, scale: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The relative residuals (A,) to which Newton steps are solved."""
    length = np.where(decrement > 0, decrement, 1.0)
    relative = length / np.where(scale > 0, scale, 1.0)
    last = np.minimum(LAST, LAST * wanted / length)
    return np.maximum(np.where(relative <= NEAR, last, np.minimum(0.1, np.sqrt(relative))), last)


def visible(objective: Objective, theta: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The change of J (A,) at theta (P, A) up to which it may be the rounding error of its terms, which may be far
    larger than J."""
    terms = objective.units @ np.abs(theta)
    return UNRESOLVED * (np.abs(value) + 0.1 * terms**2) + 1e-300


def line_search(
    objective: Objective, points: Points, direction: np.ndarray, active: np.ndarray, w: Weights
) -> np.ndarray:
    """Move the ``active`` columns of ``points`` in place along ``direction`` (P, A); returns which of them moved,
    (A,)."""
    theta, value, gradient, norm = points.theta, points.value, points.gradient, points.norm
    slope = dots(gradient[:, active], direction)
    step = np.ones(len(active))
    waiting, moved = np.arange(len(active)), np.zeros(len(active), dtype=bool)
    for _ in range(HALVINGS):
        at = active[waiting]
        here = w.take(waiting)
        trial = theta[:, at] + step[waiting] * direction[:, waiting]
        trial_value, trial_gradient = objective.value_and_gradient(trial, here)
        trial_norm = scaled_norms(objective, trial_gradient)
        falls = trial_value <= value[at] + ARMIJO * step[waiting] * slope[waiting]
        unresolved = np.abs(trial_value - value[at]) <= visible(objective, theta[:, at], value[at])
        good = falls & np.isfinite(trial_norm) & ~unresolved | unresolved & (trial_norm < norm[at])
        done = at[good]
        theta[:, done], value[done] = trial[:, good], trial_value[good]
        gradient[:, done], norm[done] = trial_gradient[:, good], trial_norm[good]
        hopeless = unresolved & (step[waiting] <= SHORTEST)
        moved[waiting[good]] = True
        waiting = waiting[~good & ~hopeless]
        if not waiting.size:
            break
        step[waiting] *= 0.5
    return moved
