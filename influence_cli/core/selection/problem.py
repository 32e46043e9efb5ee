"""What every strategy is given and what it returns.

A strategy looks for k of the candidate rows whose removal raises ``sign * (f(after removal) - f(before))`` most.  It
sees the model only through ``Objective`` and f only through ``Target``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...errors import NotConvergedError, UsageError
from ..objective import Objective
from ..quantities import Target
from ..removal import PER_MEAN
from ..solvers.cg import conjugate_gradient
from ..solvers.choice import HessianSolver
from ..solvers.cholesky import factorize

INCREASE, DECREASE = "increase", "decrease"
DIRECTIONS = (INCREASE, DECREASE)
UNEQUAL = 1e-9
"""Relative difference of training weights from which on a group's share would depend on which rows it has."""


RANKING = 1e-8
"""Relative residual of the solves that only rank rows."""
CHEAP_FACTOR = 100
"""P (K + 1) / K, eight times the passes over the rows that a dense Hessian costs, up to which it is made anew."""


@dataclass(frozen=True)
class Problem:
    """The search for ``size`` of the ``candidates`` (sorted row numbers) at the trained ``theta`` (P, 1).

    ``target`` has one value; all rows weigh the same in training, so that the share removed is k/m for every group.
    """

    objective: Objective
    theta: np.ndarray
    solver: HessianSolver
    target: Target
    size: int
    scaling: str
    candidates: np.ndarray
    direction: str = INCREASE
    seed: int = 0

    def __post_init__(self) -> None:
        weights = self.objective.weights
        if np.ptp(weights) > UNEQUAL * weights.max():
            raise UsageError(
                "selection needs training rows of equal weight, and this model was trained with weights",
                hint="train without --sample-weight and --class-weight, or name groups for ginf influence",
            )
        if not 1 <= self.size <= len(self.candidates):
            raise UsageError(
                f"a group of {self.size:,} rows was asked for and {len(self.candidates):,} rows may be removed",
                hint="lower --size, or allow more rows with --within",
            )
        if self.size >= len(weights):
            raise UsageError(
                f"a group of {self.size:,} of the {len(weights):,} training rows leaves nothing to train on",
                hint=f"a group has 1 to {len(weights) - 1:,} rows",
            )

    @property
    def rows(self) -> int:
        """m."""
        return len(self.objective.weights)

    @property
    def sign(self) -> float:
        return 1.0 if self.direction == INCREASE else -1.0

    @property
    def share(self) -> float:
        """p = k/m."""
        return self.size / self.rows

    @property
    def stretch(self) -> float:
        """What the weights of the kept rows are multiplied with on removal."""
        return 1.0 / (1.0 - self.share) if self.scaling == PER_MEAN else 1.0

    @cached_property
    def base(self) -> float:
        """f before removal."""
        return float(self.target.value(self.theta)[0, 0])

    @cached_property
    def allowed(self) -> np.ndarray:
        """The candidates as a mask (m,)."""
        mask = np.zeros(self.rows, dtype=bool)
        mask[self.candidates] = True
        return mask

    def rng(self, stream: int = 0) -> np.random.Generator:
        """Random numbers of a strategy's own."""
        return np.random.default_rng([self.seed, stream, self.size])

    def top(self, scores: np.ndarray) -> np.ndarray:
        """The k candidates of highest score (m,), sorted; the lower row first among equals."""
        own = scores[self.candidates]
        return np.sort(self.candidates[np.argsort(-own, kind="stable")[: self.size]])

    def indicator(self, groups: Sequence[np.ndarray]) -> np.ndarray:
        """Groups as columns of 0 and 1, (m, G), columns contiguous."""
        out = np.zeros((len(groups), self.rows))
        for column, rows in zip(out, groups, strict=True):
            column[rows] = 1.0
        return out.T

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        """H^-1 rhs (P, A).  Raises NotConvergedError."""
        return _solved(self.solver.solve(rhs))

    def preconditioner_at(self, theta: np.ndarray, w: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The factor of the Hessian at other parameters (P, 1) under weights w (m,) where it costs but a few passes
        over the rows, else that of the trained model."""
        if self.objective.size * (self.objective.outputs + 1) <= CHEAP_FACTOR * self.objective.outputs:
            try:
                return factorize(self.objective, theta, w)
            except NotConvergedError:
                pass
        return self.solver.preconditioner

    def scores_at(
        self, theta: np.ndarray, w: np.ndarray, preconditioner: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> np.ndarray:
        """First-order influence of every row at other parameters (P, 1) under weights w (m,): (m,), times the sign.

        With H_w the Hessian of J(.; w) there, ``grad f' H_w^-1 grad l_i``: the slope of f, up to one positive factor,
        as row i is exchanged for others.
        """
        adjoint = conjugate_gradient(
            self.objective.curvature(theta, w),
            self.target.gradient(theta),
            preconditioner=preconditioner or self.solver.preconditioner,
            tol=RANKING,
        )
        return self.sign * self.objective.row_products(theta, _solved(adjoint))[:, 0]


@dataclass(frozen=True)
class Selection:
    """What a strategy found.

    ``predicted_first`` and ``predicted_second`` are the estimators of those names for the group's change of f.
    ``realised`` is the change by retraining where the strategy has seen it, else NaN.  ``rounds`` counts its
    iterations; ``status`` is "ok" or says what the search left open.
    """

    strategy: str
    rows: np.ndarray
    predicted_first: float
    predicted_second: float
    realised: float = float("nan")
    rounds: int = 0
    status: str = "ok"


def _solved(solution) -> np.ndarray:
    for column in np.flatnonzero(~solution.converged):
        raise NotConvergedError(f"selection: {solution.why(int(column))}")
    return solution.x
