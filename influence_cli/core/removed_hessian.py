"""Solves with H - D, the Hessian after removal at theta*, by products that read the groups' rows alone."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.objective import Objective, Product
from influence_cli.core.removal import Removal
from influence_cli.core.solvers.cg import Solution
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.solvers.downdate import downdated_conjugate_gradient

ROUGH, FEW = 0.1, 8
"""Relative residual, and products at most, of a solve that only preconditions."""


class RemovedHessian:
    """H - D of the groups ``which`` (A,) at theta (P, 1), for a solver whose factor solves with H itself."""

    def __init__(
        self, objective: Objective, theta: np.ndarray, solver: HessianSolver, groups: Removal, which: np.ndarray
    ):
        self._objective, self._solver = objective, solver
        self._member = objective.loss_curvature(theta, groups.member.take(which))
        self._scale, self._offset = groups.scale[which], groups.offset[which]
        self._penalty = None if groups.removed.penalty is None else groups.removed.take(which).penalty

    def precondition(self, gradient: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """About (H - D)^-1 gradient (P, B) of those ``columns`` (B,) of ``which``, unchecked."""
        return self._solve(gradient, columns, None, ROUGH, FEW).x

    def solve(self, rhs: np.ndarray, *, tol: float, max_iterations: int) -> Solution:
        """(H - D)^-1 rhs (P, A)."""
        return self._solve(rhs, np.arange(len(self._scale)), self._solver.product, tol, max_iterations)

    def _solve(
        self, rhs: np.ndarray, own: np.ndarray, product: Product | None, tol: float, max_iterations: int
    ) -> Solution:
        def downdate(V: np.ndarray, HV: np.ndarray, at: np.ndarray) -> np.ndarray:
            # H V is known, and so is the loss's part of it over all rows.
            of_all = HV - self._objective.penalty.product(V) - self._objective.damping * V
            curved = self._scale[own[at]] * self._member(V, own[at]) - self._offset[own[at]] * of_all
            penalty = None if self._penalty is None else self._penalty.take(own[at])
            return curved + self._objective.penalty.removed(V, penalty)

        return downdated_conjugate_gradient(
            downdate,
            rhs,
            inverse=self._solver.preconditioner,
            product=product,
            tol=tol,
            max_iterations=max_iterations,
        )
