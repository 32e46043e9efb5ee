"""The truth: retraining without each group, many groups in one pass over the rows (DESIGN 2.6).

Every column iterates theta <- theta - M^-1 grad J(theta; w_removed) with the factor M that the trained model already
has, sped up by Anderson's mixing.  Where that stalls (a group that takes most of a class with it changes the Hessian
too much) block Newton-CG with M as preconditioner takes over from the best point.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .minimize import Minimum, newton_cg
from .objective import Objective

DEPTH = 8
"""Differences that the mixing remembers."""
PATIENCE = 12
"""Passes within which a column must have gained a factor of ``GAIN``, or Newton-CG takes over."""
GAIN = 10.0
REGULARIZATION = 1e-14
"""Relative to the largest squared difference: keeps the mixing's little systems solvable."""
RUNAWAY = 30.0
"""Where a parameter has no finite optimum, the retraining starts this far out: exp(-30) is no gradient any more."""


def retrain(
    objective: Objective,
    theta: np.ndarray,
    w: np.ndarray,
    *,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    tol: float = 1e-8,
    max_iterations: int = 100,
) -> Minimum:
    """The minimisers (P, G) of J(.; w_g), w (m, G), from the trained parameters (P, 1).

    ``iterations`` counts passes of the mixing and, behind them, Newton steps.
    """
    start = np.repeat(theta, w.shape[1], axis=1) + RUNAWAY * objective.runaway(w)
    mixed = anderson(objective, start, w, preconditioner=preconditioner, tol=tol, max_iterations=max_iterations)
    left = np.flatnonzero(~mixed.converged)
    if not left.size:
        return mixed
    rest = newton_cg(objective, mixed.theta[:, left], w[:, left], preconditioner=preconditioner, tol=tol)
    iterations = mixed.iterations.copy()
    iterations[left] += rest.iterations
    mixed.theta[:, left], mixed.grad_norm[left], mixed.converged[left] = rest.theta, rest.grad_norm, rest.converged
    return Minimum(mixed.theta, mixed.grad_norm, iterations, mixed.converged)


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

    A column that stops gaining ends unconverged at its best point.
    """
    best = np.array(start, order="F")
    count = start.shape[1]
    best_norm, iterations = np.full(count, np.inf), np.zeros(count, dtype=np.int64)
    mark_norm, mark_at = np.full(count, np.inf), np.zeros(count, dtype=np.int64)
    active = np.arange(count)
    x = start
    steps = np.empty((count, 0, len(start)))
    changes = np.empty((count, 0, len(start)))
    previous: tuple[np.ndarray, np.ndarray] | None = None
    for iteration in range(1, max_iterations + 1):
        gradient = objective.gradient(x, w[:, active])
        norm = np.sqrt(np.einsum("pa,pa->a", gradient, gradient))
        iterations[active] = iteration
        better = norm < best_norm[active]
        best[:, active[better]], best_norm[active[better]] = x[:, better], norm[better]
        gained = norm < mark_norm[active] / GAIN
        mark_norm[active[gained]], mark_at[active[gained]] = norm[gained], iteration
        stalled = (iteration - mark_at[active] > PATIENCE) | ~np.isfinite(norm)
        keep = (norm > tol) & ~stalled
        if not keep.any():
            break
        move = -preconditioner(gradient[:, keep]).T
        here = x[:, keep].T
        active, steps, changes = active[keep], steps[keep], changes[keep]
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
    return Minimum(best, best_norm, iterations, best_norm <= tol)
