"""Training to a stationary point: the formulas hold nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import NotConvergedError
from .minimize import Minimum, newton_cg
from .objective import Objective

RUNAWAY = 1e-3
"""Newton step, relative to theta, that a true minimum cannot leave at a gradient norm of 1e-8."""


def train(
    objective: Objective,
    *,
    tol: float = 1e-8,
    max_iterations: int = 200,
    watch: Callable[[int, float], None] | None = None,
) -> Minimum:
    """The minimiser of J under the training weights, from zero.

    Raises NotConvergedError with the norm that was reached, or where the loss has no finite minimum.
    """
    start = np.zeros((objective.size, 1))
    minimum = newton_cg(
        objective,
        start,
        objective.weights,
        preconditioner=objective.preconditioner(start, objective.weights),
        tol=tol,
        max_iterations=max_iterations,
        watch=watch,
    )
    if not objective.penalty.complete:
        _require_finite_minimum(objective, minimum)
    if not minimum.converged[0]:
        raise NotConvergedError(
            f"training stopped at gradient norm {minimum.grad_norm[0]:.1e} after {minimum.iterations[0]} iterations;"
            f" {tol:.0e} was asked for",
            hint="raise --max-iterations or --l2, scale the columns, or accept the reached norm with --tol",
        )
    return minimum


def _require_finite_minimum(objective: Objective, minimum: Minimum) -> None:
    """Separable classes without a penalty: the gradient vanishes at infinity, and every Newton step still moves."""
    outputs_norm = np.abs(objective.residuals(minimum.theta)).max()
    if outputs_norm < RUNAWAY and objective.value(minimum.theta, objective.weights)[0] < RUNAWAY:
        raise NotConvergedError(
            "the training loss has no finite minimum: the classes can be separated and nothing holds the parameters",
            hint="train with --l2 greater than 0",
        )
