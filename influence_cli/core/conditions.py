"""How well the remaining rows determine the parameters: the condition number of the Hessian after removal
(docs/design.md, section 2.3).

The Hessian is scaled by the curvature of the trained model, so that the units of the features have no influence.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.objective import Objective
from influence_cli.core.removal import Removal
from influence_cli.core.removed_hessian import RemovedHessian
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.weights import Weights

ILL = 1e8
"""Condition number above which a Newton step loses half of its digits."""
LOOKED_AT = 1000
"""Parameters up to which a dense Hessian is computed for this purpose alone."""


def conditions(
    objective: Objective,
    theta: np.ndarray,
    w: Weights,
    solver: HessianSolver | None = None,
    groups: Removal | None = None,
) -> np.ndarray | None:
    """Approximate condition numbers (G,) of the Hessian at theta (P, 1) under the weights w of G groups.

    None where the penalty keeps them below ``ILL``, where J is not convex, or where the model has more than
    ``LOOKED_AT`` parameters and no exact ``solver`` for the removal of ``groups`` is given.
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
