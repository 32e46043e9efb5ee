"""Small selection problems beside their oracles, and selection in plain loops and dense matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from core_cases import family, make_objective, make_oracle
from oracle import LINEAR, Oracle, inverse

from influence_cli.core.quantities import Loss, RowTarget
from influence_cli.core.selection.problem import Problem
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train


@dataclass(frozen=True)
class Case:
    """A problem, its expansion, and the oracle that knows the same rows."""

    problem: Problem
    expansion: Expansion
    oracle: Oracle
    x: np.ndarray
    y: np.ndarray

    def loss(self, theta: np.ndarray) -> float:
        return float(self.oracle.quantity("loss", theta, self.x, self.y)[0])

    def realised(self, rows: np.ndarray) -> float:
        """Change of the test row's loss when the oracle refits without the rows."""
        theta = self.problem.theta[:, 0]
        moved = theta + self.oracle.refit_change(theta, np.asarray(rows), self.problem.scaling)
        return self.loss(moved) - self.loss(theta)

    def second(self, rows: np.ndarray) -> float:
        """The estimator ``second``, dense."""
        theta = self.problem.theta[:, 0]
        change = self.oracle.changes(theta, np.asarray(rows), self.problem.scaling)["second"]
        return float(self.oracle.quantity_gradient("loss", theta, self.x, self.y)[0] @ change)

    def dense_form(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """v (P,), a = v' grad l_i (m,) and B_ij = v' hess l_i H^-1 grad l_j (m, m) of the paper's Eq. 18."""
        theta = self.problem.theta[:, 0]
        H = inverse(self.oracle.hessian(theta, self.oracle.training()))
        v = H @ self.oracle.quantity_gradient("loss", theta, self.x, self.y)[0]
        gradients = self.oracle.row_gradients(theta)
        C = np.einsum("p,ipq->iq", v, self.oracle.row_hessians(theta)) @ H
        return v, gradients @ v, C @ gradients.T


def make_case(
    kind: str = LINEAR,
    intercept: str = "free",
    *,
    m: int = 30,
    size: int = 4,
    scaling: str = "per-mean",
    direction: str = "increase",
    l2: float = 0.05,
    seed: int = 0,
    candidates: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Case:
    oracle = replace(make_oracle(kind, intercept, m=m, l2=l2, seed=seed), weights=weights)
    objective = make_objective(oracle, None if weights is None else oracle.training())
    theta = train(objective, tol=1e-11).theta
    rng = np.random.default_rng(seed + 100)
    x = rng.normal(size=(1, oracle.X.shape[1]))
    y = rng.normal(size=1) if kind == LINEAR else np.zeros(1, dtype=np.int64)
    target = RowTarget(objective, Loss(family(oracle)), x, y)
    allowed = np.arange(m) if candidates is None else candidates
    solver = make_solver(objective, theta, "cholesky")
    problem = Problem(objective, theta, solver, target, size, scaling, allowed, direction, seed)
    return Case(problem, Expansion(problem), oracle, x, y)


def draw(case: Case, count: int) -> list[np.ndarray]:
    """Random groups of the problem's size."""
    rng = np.random.default_rng(7)
    return [np.sort(rng.choice(case.problem.rows, case.problem.size, replace=False)) for _ in range(count)]


def neighbours(rows: np.ndarray, candidates: np.ndarray) -> list[np.ndarray]:
    """Every group that one exchange leads to."""
    outside = np.setdiff1d(candidates, rows)
    return [np.sort(np.append(np.delete(rows, at), j)) for at in range(len(rows)) for j in outside]


def every_group(candidates: np.ndarray, size: int) -> list[np.ndarray]:
    return [np.array(rows) for rows in combinations(candidates.tolist(), size)]
