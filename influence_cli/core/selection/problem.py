"""The input and the result of every search strategy.

A strategy looks for those k of the candidate rows whose removal increases ``sign * (f(after removal) - f(before))``
most.  It sees the model only through ``Objective``, and f only through ``Target``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from influence_cli.core.objectives.objective import Objective
from influence_cli.core.quantities import OfWeights, Target, under
from influence_cli.core.removal import PER_MEAN
from influence_cli.core.solvers.cg import Solution
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.solvers.cholesky import factorize
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.solvers.refinement import HessianAt, refined_conjugate_gradient
from influence_cli.core.weights import RowWeights, Weights, as_weights, members, relaxed_members
from influence_cli.errors import NotConvergedError, UsageError

INCREASE, DECREASE = "increase", "decrease"
DIRECTIONS = (INCREASE, DECREASE)

RANKING = 1e-8
"""Relative residual at which the solves that only rank rows end."""
CHEAP_FACTOR = 100
"""Largest P (K + 1) / K for which the Hessian is factored again at other parameters.  A dense Hessian costs about an
eighth as many passes over the rows."""


@dataclass(frozen=True)
class Problem:
    """The search for ``size`` of the ``candidates`` (sorted row numbers) at the trained ``theta`` (P, 1).

    ``target`` has one value.  Raises UsageError if there is no group of this size.
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
        if not 1 <= self.size <= len(self.candidates):
            raise UsageError(
                f"a group of {self.size:,} rows was asked for and {len(self.candidates):,} rows may be removed",
                hint="lower --size, or allow more rows with --within",
            )
        counted = np.count_nonzero(weights)
        if self.size >= counted and not self.leaves_some(self.candidates):
            with_weight = " with a weight over 0" if counted < len(weights) else ""
            raise UsageError(
                f"a group of {self.size:,} of the {counted:,} training rows{with_weight} leaves nothing to train on",
                hint=f"a group has 1 to {counted - 1:,} rows",
            )

    @property
    def rows(self) -> int:
        """The number m of training rows."""
        return len(self.objective.weights)

    @property
    def sign(self) -> float:
        return 1.0 if self.direction == INCREASE else -1.0

    @cached_property
    def largest_share(self) -> float:
        """The largest sum of training weights over a group of ``size`` candidates."""
        weights = self.objective.weights[self.candidates]
        return float(np.sort(weights)[len(weights) - self.size :].sum())

    def leaves_some(self, rows: np.ndarray) -> bool:
        """Whether a row with a positive weight remains after the removal of ``rows``."""
        return bool(np.count_nonzero(self.objective.weights[rows]) < np.count_nonzero(self.objective.weights))

    @cached_property
    def base(self) -> float:
        """f before removal."""
        return float(self.target.value(self.theta)[0, 0])

    def rng(self, stream: int = 0) -> np.random.Generator:
        """A random generator for one strategy, determined by the seed, ``stream`` and the size."""
        return np.random.default_rng([self.seed, stream, self.size])

    def top(self, scores: np.ndarray) -> np.ndarray:
        """The k candidates with the highest ``scores`` (m,), as sorted row numbers; ties go to the lower row."""
        of_candidates = scores[self.candidates]
        return np.sort(self.candidates[np.argsort(-of_candidates, kind="stable")[: self.size]])

    def members(self, groups: Sequence[np.ndarray]) -> Weights:
        """The training weights on the rows of each group, 0 elsewhere."""
        return members(self.objective.weights, groups)

    def relaxed(self, shares: np.ndarray) -> Weights:
        """The training weights times ``shares`` (G, m), the shares s of the rows in each relaxed group."""
        return relaxed_members(self.objective.weights, shares)

    def mask(self, rows: np.ndarray) -> np.ndarray:
        """The membership mask of ``rows``, (m,) bool."""
        out = np.zeros(self.rows, dtype=bool)
        out[rows] = True
        return out

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        """H^-1 rhs, (P, A), for ``rhs`` (P, A).  Raises NotConvergedError if a column does not converge."""
        return _solved(self.solver.solve(rhs))

    def preconditioner_at(self, theta: np.ndarray, w: RowWeights) -> Callable[[np.ndarray], np.ndarray]:
        """A factor of the Hessian at theta (P, 1) under the weights w of one group, if it exists and costs only a few
        passes over the rows; otherwise the preconditioner of the trained model."""
        if self.objective.size * (self.objective.outputs + 1) <= CHEAP_FACTOR * self.objective.outputs:
            try:
                return factorize(self.objective, theta, w)
            except NotConvergedError:
                pass
        return self.solver.preconditioner

    def scores_at(self, theta: np.ndarray, w: RowWeights, preconditioner: Preconditioner | None = None) -> np.ndarray:
        """The function ``scores_at`` for this problem alone, (m,), at theta (P, 1)."""
        return scores_at([self], theta, w, preconditioner or self.solver.preconditioner)[:, 0]


def scores_at(
    problems: Sequence[Problem], theta: np.ndarray, w: RowWeights, preconditioner: Preconditioner
) -> np.ndarray:
    """The derivative of sign * f with respect to each row's share in the group, up to one positive factor: (m, G).

    Column g belongs to the g-th problem, at the parameters theta (P, G) that are trained without its group under the
    weights w.  With v = H_w^-1 grad f there, it is w_i v' grad l_i with the training weights w_i; per-mean, w_i times
    the w-weighted mean of v' grad l is subtracted, because the other rows gain weight when row i is removed.  The
    problems may differ only in f, size and sign.
    """
    objective, w = problems[0].objective, as_weights(w)
    targets = [(under(one.target, w.take(np.array([g]))), theta[:, g : g + 1]) for g, one in enumerate(problems)]
    adjoint = refined_conjugate_gradient(
        HessianAt(objective, theta, w),
        np.hstack([target.gradient(point) for target, point in targets]),
        preconditioner=preconditioner,
        tol=RANKING,
    )
    # A residual that remains in directions of negligible curvature does not harm a ranking.
    influence = objective.row_products(theta, np.nan_to_num(adjoint.x))
    for g, (one, (target, point)) in enumerate(zip(problems, targets, strict=True)):
        scores = influence[:, g]
        if one.scaling == PER_MEAN:
            scores -= w.column(g) @ scores
        scores *= objective.weights
        if isinstance(target, OfWeights):
            scores += target.at_once(point)
        scores *= one.sign
    return influence


@dataclass(frozen=True)
class Selection:
    """The result of one strategy: the group ``rows`` (sorted row numbers).

    ``predicted_first`` and ``predicted_second`` are the first- and second-order estimates of the group's change of f.
    ``realised`` is the change after retraining if the strategy retrained, else NaN.  ``rounds`` counts iterations.
    ``status`` is "ok" or says what the search left open.  ``optimal`` means that no group is proven to do better.
    """

    strategy: str
    rows: np.ndarray
    predicted_first: float
    predicted_second: float
    realised: float = float("nan")
    rounds: int = 0
    status: str = "ok"
    optimal: bool = False


def exchanged(inside: np.ndarray, out: np.ndarray, into: np.ndarray) -> np.ndarray:
    """The sorted rows of the group with mask ``inside`` (m,) after the rows ``into`` have replaced the rows ``out``."""
    mask = inside.copy()
    mask[out], mask[into] = False, True
    return np.flatnonzero(mask)


def _solved(solution: Solution) -> np.ndarray:
    for column in np.flatnonzero(~solution.converged):
        raise NotConvergedError(f"selection: {solution.why(int(column))}")
    return solution.x
