"""Conjugate gradients on products in single precision, held to what products in double precision say.

Iterative refinement (Wilkinson 1963): a solution in low precision, its true residual, a solution for that, until the
true residual is small.  Where a round gains little, because the Hessian's condition is more than float32 can carry, the
iteration ends in double precision, so that the answer never depends on the products in single precision.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import norms
from influence_cli.core.objectives.objective import Objective, Product
from influence_cli.core.solvers.cg import MAX_ITERATIONS, Solution, Status, conjugate_gradient
from influence_cli.core.solvers.preconditioners import Preconditioner, for_columns
from influence_cli.core.weights import RowWeights

SINGLE_TOL = 1e-4
"""Relative residual that a round in single precision is asked for: well above the rounding of its products."""
SLOW = 0.1
"""Share of the residual that a round may leave: where it leaves more, it is the last in single precision."""
AIM = 0.8
"""Share of the tolerance that rounds in single precision aim at, so that the true residual is under it too."""


def refined_conjugate_gradient(
    objective: Objective,
    theta: np.ndarray,
    w: RowWeights,
    rhs: np.ndarray,
    *,
    preconditioner: Preconditioner,
    tol: np.ndarray | float = 1e-10,
    max_iterations: int = MAX_ITERATIONS,
    start: np.ndarray | None = None,
) -> Solution:
    """As ``conjugate_gradient`` with the Hessian of J(.; w) at theta, most of its products in single precision."""
    product = objective.curvature(theta, w)
    single, units = objective.single(rhs.shape[1]), objective.units
    unit = units[:, None]
    if single is objective:
        return conjugate_gradient(
            product,
            rhs,
            preconditioner=preconditioner,
            tol=tol,
            max_iterations=max_iterations,
            start=start,
            units=units,
        )
    single_product = single.curvature(theta, w)
    count = rhs.shape[1]
    x, r = np.zeros_like(rhs, order="F"), np.array(rhs, order="F")
    lengths = norms(rhs / unit)
    target = np.broadcast_to(np.asarray(tol, dtype=float), lengths.shape) * lengths
    if start is not None:
        x += start
        r -= product(start)
    left, iterations = norms(r / unit), np.zeros(count, dtype=np.int64)
    active = np.flatnonzero(left > (0.0 if start is None else target))
    hard = np.zeros(count, dtype=bool)
    while active.size:
        correction = conjugate_gradient(
            _some(single_product, active),
            r[:, active],
            preconditioner=for_columns(preconditioner, active),
            tol=np.clip(AIM * target[active] / left[active], SINGLE_TOL, None),
            max_iterations=max_iterations,
            units=units,
        )
        moved = x[:, active] + correction.x
        true = rhs[:, active] - product(moved, active)
        remaining = norms(true / unit)
        iterations[active] += correction.iterations + 1
        better = remaining < left[active]
        hard[active] = ~(remaining <= np.maximum(SLOW * left[active], target[active]))
        at = active[better]
        x[:, at], r[:, at], left[at] = moved[:, better], true[:, better], remaining[better]
        active = active[(left[active] > target[active]) & ~hard[active]]
    status = np.where(left <= target, Status.SOLVED, Status.STOPPED).astype(np.int8)
    rest = np.flatnonzero(hard & (status == Status.STOPPED))
    if rest.size:
        correction = conjugate_gradient(
            _some(product, rest),
            rhs[:, rest],
            preconditioner=for_columns(preconditioner, rest),
            tol=target[rest] / lengths[rest],
            max_iterations=max_iterations,
            start=x[:, rest],
            units=units,
        )
        x[:, rest], left[rest] = correction.x, correction.residual * lengths[rest]
        iterations[rest] += correction.iterations
        status[rest] = correction.status
    return Solution(x, left / np.where(lengths > 0, lengths, 1.0), iterations, status)


def _some(product: Product, which: np.ndarray) -> Product:
    """The product of these groups alone."""
    return lambda V, columns=None: product(V, which if columns is None else which[columns])
