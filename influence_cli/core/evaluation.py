"""Changes of theta to changes of f (DESIGN 2.3, ``--evaluate``)."""

from __future__ import annotations

import numpy as np

from influence_cli.core.estimators import Estimate
from influence_cli.core.quantities import Target
from influence_cli.core.solvers.choice import HessianSolver

EVALUATIONS = ("linear", "exact")


def linear_change(estimate: Estimate, gradients: np.ndarray, adjoints: np.ndarray) -> np.ndarray:
    """grad f(theta*)' change, (G, T): the paper's Eq. 16.

    ``gradients`` (P, T) is grad f and ``adjoints`` (P, T) is H^-1 grad f, one solve a test row: an estimate known as
    H^-1 rhs needs no solve of its own.
    """
    if estimate.rhs is not None:
        return estimate.rhs.T @ adjoints
    assert estimate.change is not None
    return estimate.change.T @ gradients


def exact_change(
    estimate: Estimate, solver: HessianSolver, target: Target, theta: np.ndarray, base: np.ndarray
) -> tuple[np.ndarray, Estimate]:
    """f(theta* + change) - f(theta*), (G, T), and the estimate with its change solved for."""
    solved = estimate.solved(solver)
    assert solved.change is not None
    return (target.value(theta + solved.change) - base[:, None]).T, solved
