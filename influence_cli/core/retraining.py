"""The truth: retraining without each group, many groups in one pass over the rows (DESIGN 2.6).

Every column iterates theta <- theta - M^-1 grad J(theta; w_removed) with the factor M that the trained model already
has, sped up by Anderson's mixing.  Where that stalls (a group that takes most of a class with it changes the Hessian
too much) block Newton-CG takes over from the best point: with M as preconditioner as long as that serves, and then,
where it is light, with each column's own approximation of the Hessian.

Where J is not convex "the truth" is a choice of what is minimised and from where, and the choices differ (Bae et al.
2022):

    cold        J(.; w_removed) from the initial weights, as if the group had never been there
    warm        J(.; w_removed) from the trained parameters
    proximal    the proximal Bregman objective, from there: what influence functions are the linear response of

Of a convex J they are one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.anderson import anderson
from influence_cli.core.optimise.lbfgs import lbfgs
from influence_cli.core.optimise.newton_cg import Minimum, Watch, newton_cg
from influence_cli.core.optimise.restarts import descend, memory_chunks, restarted
from influence_cli.core.weights import Weights

WARM, COLD, PROXIMAL = "warm", "cold", "proximal"
STRATEGIES = (WARM, COLD, PROXIMAL)
SIDE_BY_SIDE = 300
"""Iterations of L-BFGS from the trained model's curvature after which a column has left its range and gets its own."""
SERVED = 60
"""Products for a Newton step that the trained model's curvature may leave.  Of random groups it needs fewer even at a
small lambda, where the light approximations need hundreds; of a whole class it would need thousands."""
RENEWED, STEPS = 4, 100
"""Newton steps that a column's own approximation of the Hessian serves, and that it may take in all."""
RUNAWAY = 30.0
"""Where a parameter has no finite optimum, the retraining starts this far out: exp(-30) is no gradient any more."""


def retrain_by(
    strategy: str,
    objective: Objective,
    theta: np.ndarray,
    w: Weights,
    *,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    tol: float = 1e-8,
    seed: int = 0,
    watch: Watch | None = None,
) -> Minimum:
    """The minimisers (P, G) that ``strategy`` means, of a model trained to theta (P, 1) from ``seed``."""
    if strategy == PROXIMAL:
        return retrain(objective.proximal(theta), theta, w, preconditioner=preconditioner, tol=tol, watch=watch)
    if strategy == WARM:
        return retrain(objective, theta, w, preconditioner=preconditioner, tol=tol, watch=watch)
    start = objective.initial(seed)
    if objective.convex:
        begin = start + RUNAWAY * objective.runaway(w)
        return newton_cg(objective, begin, w, preconditioner=preconditioner, tol=tol, watch=watch)
    begin, most = np.repeat(start, w.groups, axis=1), objective.tuning.max_iterations
    return descend(objective, begin, w, tol=tol, max_iterations=most, watch=watch)


def retrain(
    objective: Objective,
    theta: np.ndarray,
    w: Weights,
    *,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    tol: float = 1e-8,
    max_iterations: int = 100,
    watch: Watch | None = None,
) -> Minimum:
    """The minimisers (P, G) of J(.; w_g) from the trained parameters (P, 1).

    ``iterations`` counts passes of the mixing and, behind them, Newton steps; where J is not convex, those of L-BFGS.
    """
    start = np.repeat(theta, w.groups, axis=1) + RUNAWAY * objective.runaway(w)
    if not objective.convex:
        return _downhill(objective, start, w, preconditioner, tol, watch)
    mixed = anderson(objective, start, w, preconditioner=preconditioner, tol=tol, max_iterations=max_iterations)
    left = np.flatnonzero(~mixed.converged)
    if not left.size:
        return mixed
    rest = newton_cg(
        objective,
        mixed.theta[:, left],
        w.take(left),
        preconditioner=preconditioner,
        tol=tol,
        patience=SERVED if objective.tuning.cheap_preconditioner else None,
        watch=watch,
    )
    mixed = mixed.continue_with(left, rest)
    return _with_their_own(objective, mixed, w, left[~rest.converged], tol, watch)


def _with_their_own(objective, mixed: Minimum, w, left: np.ndarray, tol, watch) -> Minimum:
    """Take the columns that are ``left`` on, a few at a time, each with the approximation of its own Hessian."""
    if not objective.tuning.cheap_preconditioner:
        return mixed
    for part in memory_chunks(objective, left):
        partial = Minimum(mixed.theta[:, part], mixed.grad_norm[part], np.zeros_like(part), mixed.converged[part])
        rest = restarted(
            newton_cg, objective, partial, w.take(part), steps=RENEWED, tol=tol, max_iterations=STEPS, watch=watch
        )
        mixed = mixed.continue_with(part, rest)
    return mixed


def _downhill(objective, start, w, preconditioner, tol, watch) -> Minimum:
    """L-BFGS with the trained model's curvature, and from where that no longer serves with each column's own."""
    block = lbfgs(
        objective,
        start,
        w,
        preconditioner=preconditioner,
        tol=tol,
        max_iterations=SIDE_BY_SIDE,
        watch=watch,
    )
    left, most = np.flatnonzero(~block.converged), objective.tuning.max_iterations
    if not left.size:
        return block
    rest = descend(
        objective,
        block.theta[:, left],
        w.take(left),
        tol=tol,
        max_iterations=most,
        watch=watch,
    )
    return block.continue_with(left, rest)
