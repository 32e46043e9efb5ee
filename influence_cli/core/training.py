"""Training to a stationary point: the formulas hold nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.newton_cg import Minimum, Watch, counting_on, newton_cg
from influence_cli.core.optimise.restarts import descend
from influence_cli.core.solvers.cg import conjugate_gradient
from influence_cli.core.solvers.cholesky import DOUBLE_UP_TO, factorize
from influence_cli.core.weights import RowWeights
from influence_cli.errors import NotConvergedError

ROUGH = 1e-2
"""Gradient norm at which the preconditioner is made anew."""
REACH = 0.5
"""Reach of the Newton step from which on a finite minimum is in doubt; see ``_require_finite_minimum``."""
CLOSER = 1e-4
"""Factor on the tolerance for the second look at a minimum in doubt."""


def train(
    objective: Objective,
    *,
    tol: float = 1e-8,
    max_iterations: int | None = None,
    seed: int = 0,
    start: np.ndarray | None = None,
    watch: Watch | None = None,
) -> Minimum:
    """A minimiser of J under the training weights, from ``start`` (P, 1), else where the model starts with that seed.

    Raises NotConvergedError with the norm that was reached, or where the loss has no finite minimum.
    """
    far = start is None
    max_iterations = objective.tuning.max_iterations if max_iterations is None else max_iterations
    start = objective.initial(seed) if start is None else start
    if objective.convex:
        renewed = far and objective.tuning.cheap_preconditioner and tol < ROUGH
        goals = (ROUGH, tol) if renewed else (tol,)
        minimum = _newton_in_legs(objective, start, goals, max_iterations, watch)
    else:
        minimum = descend(objective, start, objective.weights, tol=tol, max_iterations=max_iterations, watch=watch)
    if objective.convex and minimum.converged[0] and not objective.bounded:
        minimum = _require_finite_minimum(objective, minimum, tol)
        if objective.size <= DOUBLE_UP_TO:
            factorize(objective, minimum.theta)  # raises where the minimiser is not unique
    if not minimum.converged[0]:
        raise NotConvergedError(
            f"training stopped at gradient norm {minimum.grad_norm[0]:.1e} after {minimum.iterations[0]} iterations;"
            f" {tol:.0e} was asked for",
            hint="raise --max-iterations or --l2, scale the columns, or accept the reached norm with --tol",
        )
    return minimum


def _newton_in_legs(
    objective: Objective,
    start: np.ndarray,
    goals: tuple[float, ...],
    max_iterations: int,
    watch: Watch | None,
) -> Minimum:
    """Newton-CG to each gradient norm in turn, with the preconditioner of where the one before ended: that of the start
    takes half as many products again near the end, where most are made."""
    done, theta = 0, start
    for goal in goals:
        minimum = newton_cg(
            objective,
            theta,
            objective.weights,
            preconditioner=objective.preconditioner(theta, objective.weights),
            tol=goal,
            max_iterations=max_iterations - done,
            watch=counting_on(watch, done),
        )
        theta, done = minimum.theta, done + int(minimum.iterations[0])
        if not minimum.converged[0]:
            break
    return Minimum(theta, minimum.grad_norm, np.array([done]), minimum.grad_norm <= goals[-1])


def _require_finite_minimum(objective: Objective, minimum: Minimum, tol: float) -> Minimum:
    """A small gradient is no minimum where the classes can be separated, wholly or in part, and nothing holds theta.

    Let the loss fall for ever along v, unpenalised: each row's own class gains on its rivals, b_k = x'(v_y - v_k) >= 0.
    The Newton step s satisfies v'(grad J + H s) = 0.  With p the probabilities and D = x's, both terms are sums over
    rows and classes: v'grad J = -sum w p b and v'H s <= sum w p b range(D).  So some row has range(D) >= 1: the step's
    reach never falls under 1, while before a minimum it goes to 0.  A reach under 1 thus proves a minimum.
    For counts b = -x'v is 0 where y > 0, and v'grad J = -sum w mu b, v'H s = -sum w mu b D: some row has |D| >= 1.
    """
    preconditioner = objective.preconditioner(minimum.theta, objective.weights)
    if newton_reach(objective, minimum.theta, objective.weights, preconditioner)[0] < REACH:
        return minimum
    # Either no minimum, or a flat one: a tiny lambda, or a loose tolerance.  Only a flat one comes closer.
    closer = newton_cg(
        objective,
        minimum.theta,
        objective.weights,
        preconditioner=preconditioner,
        tol=CLOSER * tol,
    )
    preconditioner = objective.preconditioner(closer.theta, objective.weights)
    if newton_reach(objective, closer.theta, objective.weights, preconditioner)[0] < REACH:
        iterations = minimum.iterations + closer.iterations
        return Minimum(closer.theta, closer.grad_norm, iterations, closer.grad_norm <= tol)
    raise NotConvergedError(
        "the training loss has no finite minimum: the classes (or, of counts, zeros and the rest) can be separated, at"
        " least in part, and nothing holds the parameters",
        hint="train with --l2 greater than 0",
    )


def newton_reach(
    objective: Objective,
    theta: np.ndarray,
    w: RowWeights,
    preconditioner: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """How far the outputs of some row would still move in a Newton step from theta (P, G), (G,)."""
    step = conjugate_gradient(
        objective.curvature(theta, w),
        -objective.gradient(theta, w),
        preconditioner=preconditioner,
        tol=0.01,
        max_iterations=500,
    )
    return objective.self_concordance(step.x)
