"""Block Newton-CG: G minimisations of J(.; w_g) side by side, to a gradient norm that the formulas can build on.

Training is the case G = 1 from zero; retraining without groups starts G columns from the trained parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from influence_cli.core.arrays import dots, norms
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.solvers.preconditioners import Preconditioner, for_columns
from influence_cli.core.solvers.refinement import refined_conjugate_gradient
from influence_cli.core.weights import RowWeights, as_weights

ARMIJO = 1e-4
HALVINGS = 30
ROUNDING = 64 * np.finfo(float).eps
"""Relative change of J under which values say nothing and the gradient norm decides."""


Watch = Callable[[int, float], None]
"""Told the iteration and the largest gradient norm at its beginning."""


@dataclass(frozen=True)
class Minimum:
    """theta (P, G) with the norm of grad J (G,), Newton steps taken (G,) and whether the norm reached the tolerance."""

    theta: np.ndarray
    grad_norm: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray

    def continue_with(self, columns: np.ndarray, rest: Minimum) -> Minimum:
        """The same where those columns (A,) were taken further, to ``rest``; iterations add up."""
        theta, iterations = self.theta.copy(order="F"), self.iterations.copy()
        grad_norm, converged = self.grad_norm.copy(), self.converged.copy()
        theta[:, columns], grad_norm[columns], converged[columns] = rest.theta, rest.grad_norm, rest.converged
        iterations[columns] += rest.iterations
        return Minimum(theta, grad_norm, iterations, converged)


def newton_cg(
    objective: Objective,
    start: np.ndarray,
    w: RowWeights,
    *,
    preconditioner: Preconditioner,
    tol: float = 1e-8,
    max_iterations: int = 100,
    patience: int | None = None,
    watch: Watch | None = None,
) -> Minimum:
    """Minimise J(.; w) from ``start`` (P, G) until every |grad J| <= tol.

    Steps are solved to a relative residual of min(0.1, sqrt |grad J|) (Eisenstat and Walker) and halved until J falls
    by Armijo's rule; where J can no longer resolve a step, until the gradient norm falls.  A column of which a step is
    not solved in ``patience`` products, where given, ends there, for another preconditioner to go on.
    """
    theta = np.array(start, order="F")
    w = as_weights(w)
    value, gradient = objective.value_and_gradient(theta, w)
    norm = norms(gradient)
    iterations = np.zeros(theta.shape[1], dtype=np.int64)
    active = np.flatnonzero(norm > tol)
    for iteration in range(1, max_iterations + 1):
        if not active.size:
            break
        if watch is not None:
            watch(iteration, float(norm[active].max()))
        here = w.take(active)
        solution = refined_conjugate_gradient(
            objective,
            theta[:, active],
            here,
            -gradient[:, active],
            preconditioner=for_columns(preconditioner, active),
            # The last step must land under tol at once rather than creep towards it.
            tol=np.clip(np.minimum(0.1, np.sqrt(norm[active])), 0.1 * tol / norm[active], None),
            max_iterations=500 if patience is None else patience,
        )
        moved = line_search(objective, theta, value, gradient, norm, solution.x, active, here)
        iterations[active[moved]] = iteration
        served = solution.converged | (patience is None)
        active = active[moved & served & (norm[active] > tol)]
    return Minimum(theta, norm, iterations, norm <= tol)


def counting_on(watch: Watch | None, done: int) -> Watch | None:
    """``watch`` for a minimisation that goes on after ``done`` iterations."""
    return None if watch is None else lambda iteration, norm: watch(done + iteration, norm)


def line_search(objective, theta, value, gradient, norm, direction, active, w) -> np.ndarray:
    """Move the active columns in place along their directions; which of them (A,) could be moved."""
    slope = dots(gradient[:, active], direction)
    step = np.ones(len(active))
    waiting = np.arange(len(active))
    for _ in range(HALVINGS):
        at = active[waiting]
        here = w.take(waiting)
        trial = theta[:, at] + step[waiting] * direction[:, waiting]
        trial_value, trial_gradient = objective.value_and_gradient(trial, here)
        trial_norm = norms(trial_gradient)
        falls = trial_value <= value[at] + ARMIJO * step[waiting] * slope[waiting]
        unresolved = np.abs(trial_value - value[at]) <= ROUNDING * np.maximum(np.abs(value[at]), 1e-300)
        good = falls & np.isfinite(trial_norm) & ~unresolved | unresolved & (trial_norm < norm[at])
        done = at[good]
        theta[:, done], value[done] = trial[:, good], trial_value[good]
        gradient[:, done], norm[done] = trial_gradient[:, good], trial_norm[good]
        waiting = waiting[~good]
        if not waiting.size:
            break
        step[waiting] *= 0.5
    moved = np.ones(len(active), dtype=bool)
    moved[waiting] = False
    return moved
