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

from influence_cli.core.arrays import dots, norms
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.descent import descend
from influence_cli.core.optimise.lbfgs import lbfgs
from influence_cli.core.optimise.newton_cg import Minimum, Watch, newton_cg
from influence_cli.core.optimise.restarts import few_at_a_time, in_legs

DEPTH = 8
"""Differences that the mixing remembers."""
PATIENCE = 12
"""Passes within which a column must have gained a factor of ``GAIN``, or Newton-CG takes over."""
GAIN = 10.0
NOISE = 10.0
"""A gradient in single precision serves as long as it is longer than this many times its rounding error."""
REGULARIZATION = 1e-14
"""Relative to the largest squared difference: keeps the mixing's little systems solvable."""
WARM, COLD, PROXIMAL = "warm", "cold", "proximal"
STRATEGIES = (WARM, COLD, PROXIMAL)
SIDE_BY_SIDE = 300
"""Iterations of L-BFGS from the trained model's curvature after which a column has left its range and gets its own."""
DESCENT = 20_000
"""Iterations of L-BFGS at most where J is not convex."""
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
    w: np.ndarray,
    *,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    tol: float = 1e-8,
    seed: int = 0,
    watch: Watch | None = None,
) -> Minimum:
    """The minimisers (P, G) that ``strategy`` means, w (m, G), of a model trained to theta (P, 1) from ``seed``."""
    if strategy == PROXIMAL:
        return retrain(objective.proximal(theta), theta, w, preconditioner=preconditioner, tol=tol, watch=watch)
    if strategy == WARM:
        return retrain(objective, theta, w, preconditioner=preconditioner, tol=tol, watch=watch)
    start = objective.initial(seed)
    if objective.convex:
        begin = start + RUNAWAY * objective.runaway(w)
        return newton_cg(objective, begin, w, preconditioner=preconditioner, tol=tol, watch=watch)
    begin = np.repeat(start, w.shape[1], axis=1)
    return descend(objective, begin, w, tol=tol, max_iterations=DESCENT, watch=watch)


def retrain(
    objective: Objective,
    theta: np.ndarray,
    w: np.ndarray,
    *,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    tol: float = 1e-8,
    max_iterations: int = 100,
    watch: Watch | None = None,
) -> Minimum:
    """The minimisers (P, G) of J(.; w_g), w (m, G), from the trained parameters (P, 1).

    ``iterations`` counts passes of the mixing and, behind them, Newton steps; where J is not convex, those of L-BFGS.
    """
    start = np.repeat(theta, w.shape[1], axis=1) + RUNAWAY * objective.runaway(w)
    if not objective.convex:
        return _downhill(objective, start, w, preconditioner, tol, watch)
    mixed = anderson(objective, start, w, preconditioner=preconditioner, tol=tol, max_iterations=max_iterations)
    left = np.flatnonzero(~mixed.converged)
    if not left.size:
        return mixed
    rest = newton_cg(
        objective,
        mixed.theta[:, left],
        w[:, left],
        preconditioner=preconditioner,
        tol=tol,
        patience=SERVED if objective.light_preconditioner else None,
        watch=watch,
    )
    mixed = mixed.going_on(left, rest)
    return _with_their_own(objective, mixed, w, left[~rest.converged], tol, watch)


def _with_their_own(objective, mixed: Minimum, w, left: np.ndarray, tol, watch) -> Minimum:
    """Take the columns that are ``left`` on, a few at a time, each with the approximation of its own Hessian."""
    if not objective.light_preconditioner:
        return mixed
    for part in few_at_a_time(objective, left):
        begun = Minimum(mixed.theta[:, part], mixed.grad_norm[part], np.zeros_like(part), mixed.converged[part])
        rest = in_legs(
            newton_cg, objective, begun, w[:, part], steps=RENEWED, tol=tol, max_iterations=STEPS, watch=watch
        )
        mixed = mixed.going_on(part, rest)
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
    left = np.flatnonzero(~block.converged)
    if not left.size:
        return block
    rest = descend(objective, block.theta[:, left], w[:, left], tol=tol, max_iterations=DESCENT, watch=watch)
    return block.going_on(left, rest)


def anderson(
    objective: Objective,
    start: np.ndarray,
    w: np.ndarray,
    *,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    tol: float,
    max_iterations: int,
) -> Minimum:
    """Anderson mixing of the preconditioned gradient step, column by column (Walker and Ni 2011, type II).

    Gradients are single precision's as long as they stand out from its rounding; no column ends before double
    precision says so.  A column that stops gaining ends unconverged at its best point.
    """
    best = np.array(start, order="F")
    count = start.shape[1]
    best_norm, iterations = np.full(count, np.inf), np.zeros(count, dtype=np.int64)
    mark_norm, mark_at = np.full(count, np.inf), np.zeros(count, dtype=np.int64)
    converged = np.zeros(count, dtype=bool)
    active = np.arange(count)
    x = start
    steps = np.empty((count, 0, len(start)))
    changes = np.empty((count, 0, len(start)))
    previous: tuple[np.ndarray, np.ndarray] | None = None
    passes, floor = _rough_passes(objective, x, w, tol)
    last_norm = np.full(count, np.finfo(float).eps)
    for iteration in range(1, max_iterations + 1):
        gradient = passes.gradient(x, w[:, active])
        norm = norms(gradient)
        iterations[active] = iteration
        better = norm < best_norm[active]
        best[:, active[better]], best_norm[active[better]] = x[:, better], norm[better]
        gained = norm < mark_norm[active] / GAIN
        mark_norm[active[gained]], mark_at[active[gained]] = norm[gained], iteration
        stalled = (iteration - mark_at[active] > PATIENCE) | ~np.isfinite(norm)
        if passes is objective:
            converged[active] = norm <= tol
        elif np.median(norm * np.minimum(norm / last_norm, 1.0)) < floor:
            passes = objective  # by the next pass the rounding would show
            best_norm[active], mark_norm[active], mark_at[active] = np.inf, np.inf, iteration
        keep = ~(converged[active] | stalled)
        if not keep.any():
            break
        move = -preconditioner(gradient[:, keep]).T
        here = x[:, keep].T
        active, steps, changes, last_norm = active[keep], steps[keep], changes[keep], norm[keep]
        if previous is not None:
            last_x, last_move = (array[keep] for array in previous)
            steps = np.concatenate([steps, (here - last_x)[:, None]], axis=1)[:, -DEPTH:]
            changes = np.concatenate([changes, (move - last_move)[:, None]], axis=1)[:, -DEPTH:]
        x = here + move
        if changes.shape[1]:
            gram = changes @ changes.transpose(0, 2, 1)
            diagonal = np.arange(gram.shape[1])
            gram[:, diagonal, diagonal] += REGULARIZATION * np.einsum("aii->a", gram)[:, None] + np.finfo(float).tiny
            mix = np.linalg.solve(gram, changes @ move[:, :, None])
            x = x - ((steps + changes) * mix).sum(axis=1)
        previous = here, move
        x = x.T
    return Minimum(best, best_norm, iterations, converged)


def _rough_passes(objective: Objective, x: np.ndarray, w: np.ndarray, tol: float) -> tuple[Objective, float]:
    """The objective in single precision, where it has one, and the gradient norm down to which it serves.

    The rounding of the column with the largest weights stands for all.
    """
    rough = objective.single(x.shape[1])
    if rough is objective:
        return objective, 0.0
    at = int(np.argmax(dots(w, w)))
    one = x[:, at : at + 1], w[:, at : at + 1]
    return rough, max(NOISE * float(np.linalg.norm(rough.gradient(*one) - objective.gradient(*one))), tol)
