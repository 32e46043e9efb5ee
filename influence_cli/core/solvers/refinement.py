"""Conjugate gradients with products in single precision, corrected by products in double precision.

Iterative refinement (Wilkinson 1963) repeats rounds: solve in low precision, compute the true residual, and solve for
it, until the true residual is small.  Where a round gains little, because the Hessian is too ill-conditioned for
float32, the iteration is completed in double precision, so that the answer never depends on the products in single
precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from influence_cli.core.arrays import norms
from influence_cli.core.objectives.objective import Objective, Product
from influence_cli.core.solvers.cg import MAX_ITERATIONS, Solution, Status, conjugate_gradient
from influence_cli.core.solvers.preconditioners import Preconditioner, for_columns
from influence_cli.core.weights import RowWeights

SINGLE_TOL = 1e-4
"""Relative residual to which a round in single precision solves: well above the rounding of its products."""
SLOW = 0.1
"""Share of the residual that a round may leave; if it leaves more, it is the last round in single precision."""
AIM = 0.8
"""Share of the tolerance to which rounds in single precision solve, so that the true residual meets it, too."""


@dataclass(frozen=True)
class HessianAt:
    """The Hessian of J(.; w) at theta (P, 1 or G), for the weights of one group or of G groups."""

    objective: Objective
    theta: np.ndarray
    w: RowWeights

    def products(self, columns: int) -> tuple[Product, Product | None]:
        """The products in double precision and, where that is faster for so many columns, in single precision."""
        single = self.objective.single(columns)
        exact = self.objective.curvature(self.theta, self.w)
        return exact, None if single is self.objective else single.curvature(self.theta, self.w)


def refined_conjugate_gradient(
    hessian: HessianAt,
    rhs: np.ndarray,
    *,
    preconditioner: Preconditioner,
    tol: np.ndarray | float = 1e-10,
    max_iterations: int = MAX_ITERATIONS,
    start: np.ndarray | None = None,
) -> Solution:
    """Like ``conjugate_gradient``, with most products in single precision.

    Columns that do not reach their tolerance this way are completed in double precision.
    """
    product, in_single = hessian.products(rhs.shape[1])
    units = hessian.objective.units
    if in_single is None:
        return conjugate_gradient(
            product,
            rhs,
            preconditioner=preconditioner,
            tol=tol,
            max_iterations=max_iterations,
            start=start,
            units=units,
        )
    lengths = norms(rhs / units[:, None])
    target = np.broadcast_to(np.asarray(tol, dtype=float), lengths.shape) * lengths

    def solve_single(r: np.ndarray, columns: np.ndarray, tol: np.ndarray) -> Solution:
        return conjugate_gradient(
            _some(in_single, columns),
            r,
            preconditioner=for_columns(preconditioner, columns),
            tol=tol,
            max_iterations=max_iterations,
            units=units,
        )

    solution = _in_rounds(product, solve_single, rhs, target, start, units[:, None])
    rest = np.flatnonzero(~solution.converged)
    if not rest.size:
        return solution
    finished = conjugate_gradient(
        _some(product, rest),
        rhs[:, rest],
        preconditioner=for_columns(preconditioner, rest),
        tol=target[rest] / lengths[rest],
        max_iterations=max_iterations,
        start=solution.x[:, rest],
        units=units,
    )
    return solution.continue_with(rest, finished)


def _in_rounds(
    product: Product,
    solve_single: Callable[[np.ndarray, np.ndarray, np.ndarray], Solution],
    rhs: np.ndarray,
    target: np.ndarray,
    start: np.ndarray | None,
    unit: np.ndarray,
) -> Solution:
    """Repeat rounds for right-hand sides ``rhs`` (P, G) until every true residual is below ``target`` (G,) or a round
    leaves too much of it.  ``solve_single`` solves for true residuals r (P, A) of some columns (A,), each to its
    relative tolerance."""
    lengths = norms(rhs / unit)
    x, r = np.zeros_like(rhs, order="F"), np.array(rhs, order="F")
    if start is not None:
        x += start
        r -= product(start)
    left, iterations = norms(r / unit), np.zeros(rhs.shape[1], dtype=np.int64)
    active = np.flatnonzero(left > (0.0 if start is None else target))
    while active.size:
        tol = np.clip(AIM * target[active] / left[active], SINGLE_TOL, None)
        correction = solve_single(r[:, active], active, tol)
        moved = x[:, active] + correction.x
        true = rhs[:, active] - product(moved, active)
        remaining = norms(true / unit)
        iterations[active] += correction.iterations + 1
        slow = ~(remaining <= np.maximum(SLOW * left[active], target[active]))
        better = remaining < left[active]
        at = active[better]
        x[:, at], r[:, at], left[at] = moved[:, better], true[:, better], remaining[better]
        active = active[(left[active] > target[active]) & ~slow]
    status = np.where(left <= target, Status.SOLVED, Status.STOPPED).astype(np.int8)
    return Solution(x, left / np.where(lengths > 0, lengths, 1.0), iterations, status)


def _some(product: Product, which: np.ndarray) -> Product:
    """The product for the groups ``which`` alone."""
    return lambda V, columns=None: product(V, which if columns is None else which[columns])
