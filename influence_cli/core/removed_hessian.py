"""Solves with H - D, the Hessian after removal at theta*, by products that read the groups' rows only."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.objective import Objective, Product
from influence_cli.core.removal import Removal
from influence_cli.core.solvers.cg import Solution
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.solvers.downdate import downdated_conjugate_gradient


class RemovedHessian:
    """H - D of the groups ``which`` (A,) at theta (P, 1), for a solver whose factor is that of H itself; D is the
    groups' part of the trained Hessian H."""

    def __init__(
        self, objective: Objective, theta: np.ndarray, solver: HessianSolver, groups: Removal, which: np.ndarray
    ):
        self._objective, self._solver = objective, solver
        self._member = objective.loss_curvature(theta, groups.member.take(which))
        self._scale, self._offset = groups.scale[which], groups.offset[which]
        self._penalty = None if groups.removed.penalty is None else groups.removed.take(which).penalty

    def solve(self, rhs: np.ndarray, *, tol: float, max_iterations: int) -> Solution:
        """(H - D)^-1 rhs (P, A)."""
        return self._solve(rhs, np.arange(len(self._scale)), self._solver.product, tol, max_iterations)

    def condition(self) -> np.ndarray:
        """Approximate condition numbers (A,) of H - D, scaled so that H has diagonal 1 and the units of the features
        have no influence.  They come from two steps of inverse iteration, which read the groups' rows only."""
        factor = self._solver.factor
        assert factor is not None
        scale = np.sqrt((factor.lower**2).sum(axis=1))[:, None]
        count = len(self._scale)
        z = np.random.default_rng(3).normal(size=(len(scale), count))
        for _ in range(2):
            length = np.linalg.norm(z, axis=0)
            z = z / np.where(length > 0, length, 1.0)
            x = self._solve(scale * z, np.arange(count), None, self._solver.tol, 2 * len(scale)).x
            z = scale * x
        return np.asarray(np.linalg.norm(z, axis=0))

    def _solve(
        self, rhs: np.ndarray, groups: np.ndarray, product: Product | None, tol: float, max_iterations: int
    ) -> Solution:
        def downdate(V: np.ndarray, HV: np.ndarray, at: np.ndarray) -> np.ndarray:
            # H V is known, and therefore also the product with the loss's Hessian over all rows.
            of_all = HV - self._objective.penalty.product(V) - self._objective.damping * V
            curved = self._scale[groups[at]] * self._member(V, groups[at]) - self._offset[groups[at]] * of_all
            penalty = None if self._penalty is None else self._penalty.take(groups[at])
            return curved + self._objective.penalty.removed(V, penalty)

        return downdated_conjugate_gradient(
            downdate,
            rhs,
            inverse=self._solver.preconditioner,
            product=product,
            tol=tol,
            max_iterations=max_iterations,
            units=self._solver.units,
        )
