"""From initial weights to a stationary point where J is not convex: what trains a network, and retrains it cold.

The way down goes by L-BFGS alone.  Near the end the flat directions decide, along which it creeps; there it starts from
the model's own approximation of the Hessian, renewed as the parameters move.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .lbfgs import lbfgs
from .minimize import Minimum
from .objective import Objective

ROUGH = 1e-3
"""Gradient norm at which the model's own curvature begins to help."""
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
    watch: Callable[[int, float], None] | None = None,
) -> Minimum:
    """Minimise J(.; w), w (m,), from ``start`` (P, 1) until |grad J| <= tol; the same every time."""
    done = 0

    def count(iteration: int, norm: float) -> None:
        if watch is not None:
            watch(done + iteration, norm)

    rough = max(tol, ROUGH)
    minimum = lbfgs(
        objective, start, w, tol=rough, max_iterations=max(1, int(ROUGH_SHARE * max_iterations)), watch=count
    )
    done = int(minimum.iterations[0])
    while not minimum.grad_norm[0] <= tol and done < max_iterations:
        leg = lbfgs(
            objective,
            minimum.theta,
            w,
            preconditioner=objective.preconditioner(minimum.theta, w),
            tol=tol,
            max_iterations=min(RENEWED, max_iterations - done),
            watch=count,
        )
        minimum = leg
        if not leg.iterations[0]:
            break
        done += int(leg.iterations[0])
    return Minimum(minimum.theta, minimum.grad_norm, np.array([done]), minimum.grad_norm <= tol)
