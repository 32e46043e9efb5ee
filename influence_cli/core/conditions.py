"""How well the rows that are left determine the parameters: the condition of the Hessian after removal.

Rows and columns are scaled to the curvature of the trained model, so that the units of the features do not count.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.objective import Objective
from influence_cli.core.removal import Removal
from influence_cli.core.removed_hessian import RemovedHessian
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.weights import Weights

ILL = 1e8
"""Condition from which on half of the digits of a Newton step are lost."""
LOOKED_AT = 1000
"""Parameters up to which a Hessian is made for this alone."""


def conditions(
    objective: Objective,
    theta: np.ndarray,
    w: Weights,
    solver: HessianSolver | None = None,
    groups: Removal | None = None,
) -> np.ndarray | None:
    """About the condition of the Hessian at theta (P, 1) under the weights w of G groups, (G,).

    None where the penalty keeps it under ``ILL``, J is not convex, or a model without a ``solver`` for the removal of
    ``groups`` has too many parameters.
    """
    if not objective.convex:
        return None
    ridge = np.tile(objective.penalty.ridge, objective.outputs)
    curvature = objective.units**2 + ridge
    share = (ridge / curvature)[ridge > 0]
    if share.size and objective.size / share.min() < ILL:
        return None
    if solver is not None and groups is not None and solver.exact and solver.factor is not None:
        return RemovedHessian(objective, theta, solver, groups, np.arange(w.groups)).condition()
    if objective.size > LOOKED_AT:
        return None
    unit = 1.0 / np.sqrt(curvature)
    least = []
    for g in range(w.groups):
        hessian = objective.dense_curvature(theta, w.take(np.array([g])), np.dtype(float))
        least.append(np.linalg.eigvalsh(unit[:, None] * hessian * unit, UPLO="L")[0])
    return 1.0 / np.maximum(least, np.finfo(float).eps)
