"""From initial weights to a stationary point where J is not convex: what trains a network, and retrains it cold.

The way down goes by L-BFGS alone.  Near the end the flat directions decide, along which it creeps; there it starts from
each column's own approximation of the Hessian, renewed as the parameters move.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.lbfgs import lbfgs
from influence_cli.core.optimise.newton_cg import Minimum, Watch
from influence_cli.core.optimise.restarts import in_legs

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
    return in_legs(lbfgs, objective, end, w, steps=RENEWED, tol=tol, max_iterations=max_iterations, watch=watch)
