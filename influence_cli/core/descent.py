"""From initial weights to a stationary point where J is not convex: what trains a network, and retrains it cold.

The way down goes by L-BFGS alone.  Near the end the flat directions decide, along which it creeps; there it starts from
each column's own approximation of the Hessian, renewed as the parameters move.
"""

from __future__ import annotations

import numpy as np

from .lbfgs import Preconditioner, lbfgs
from .minimize import Minimum, Watch, counting_on
from .objective import Objective

ROUGH = 1e-3
"""Gradient norm at which the model's own curvature begins to help.  From 1e-2 it would take a quarter fewer passes, but
part more columns that began alike: retrained cold from several seeds, they would agree less."""
ROUGH_SHARE = 0.25
"""Of the iterations that may be spent without it."""
RENEWED = 250
"""Iterations that one approximation serves."""


def descend(
    objective: Objective,
    start: np.ndarray,
    w: np.ndarray,
    *,
    tol: float,
    max_iterations: int,
    watch: Watch | None = None,
) -> Minimum:
    """Minimise J(.; w) from ``start`` (P, G), w (m,) or (m, G), until |grad J| <= tol; the same every time."""
    end = lbfgs(
        objective,
        start,
        w,
        tol=max(tol, ROUGH),
        max_iterations=max(1, int(ROUGH_SHARE * max_iterations)),
        watch=watch,
    )
    done, left = int(end.iterations.max()), np.flatnonzero(~(end.grad_norm <= tol))
    while left.size and done < max_iterations:
        here = w if w.ndim == 1 else w[:, left]
        leg = lbfgs(
            objective,
            end.theta[:, left],
            here,
            preconditioner=_each_its_own(objective, end.theta[:, left], here),
            tol=tol,
            max_iterations=min(RENEWED, max_iterations - done),
            watch=counting_on(watch, done),
        )
        end = end.going_on(left, leg)
        done += int(leg.iterations.max())
        left = left[~leg.converged & (leg.iterations > 0)]
    return Minimum(end.theta, end.grad_norm, end.iterations, end.grad_norm <= tol)


def _each_its_own(objective: Objective, theta: np.ndarray, w: np.ndarray) -> Preconditioner:
    """The model's approximation of the inverse Hessian at every column of theta (P, A), w (m,) or (m, A)."""
    each = [objective.preconditioner(theta[:, g : g + 1], w if w.ndim == 1 else w[:, g]) for g in range(theta.shape[1])]

    def apply(V: np.ndarray, columns: np.ndarray) -> np.ndarray:
        out = np.empty_like(V)
        for g in np.unique(columns):
            out[:, columns == g] = each[g](V[:, columns == g])
        return out

    return apply
