"""H x = b by a factor of H: iterative refinement (Wilkinson 1963) for many right-hand sides side by side.

The factor, whose inverse is written M^-1, is rounded, for large models to float32.  Therefore x = M^-1 b is corrected
by M^-1 (b - H x), with the true product H x in float64, until that residual is small enough.  Each correction shortens
the residual by about the same ratio, |I - H M^-1|; if this ratio has been measured, the last correction needs no
product to check it.  Where corrections gain little, because H is too ill-conditioned for the factor's precision,
conjugate gradients take over.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import norms
from influence_cli.core.objectives.objective import Product
from influence_cli.core.solvers.cg import Solution, Status, conjugate_gradient
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.core.solvers.preconditioners import Preconditioner

SLOW = 0.1
"""Ratio of successive residuals above which conjugate gradients need fewer products than further corrections."""
PROBES, PROBE_STEPS = 4, 3
"""Number of random vectors by which the ratio is measured, and of corrections of each."""
WORTH_MEASURING = 2 * PROBES * PROBE_STEPS
"""Number of right-hand sides from which knowing the ratio saves more products than measuring it takes."""


def contraction(product: Product, factor: CholeskyFactor, units: np.ndarray | float = 1.0) -> float:
    """The largest |r - H M^-1 r| / |r| in the last of ``PROBE_STEPS`` such steps from random vectors.

    As in power iteration, the ratio grows from step to step towards its maximum; a right-hand side takes only a step or
    two.  Lengths are those of r / ``units``.
    """
    unit = np.reshape(units, (-1, 1))
    r = np.random.default_rng(1).normal(size=(len(factor.lower), PROBES)) * unit
    for _ in range(PROBE_STEPS):
        r /= np.linalg.norm(r / unit, axis=0)
        r -= product(factor(r))
    return float(np.linalg.norm(r / unit, axis=0).max())


def solve_by_factor(
    product: Product,
    factor: Preconditioner,
    rhs: np.ndarray,
    *,
    tol: float,
    ratio: float = 1.0,
    units: np.ndarray | float = 1.0,
) -> Solution:
    """Solve product(x) = rhs (P, A), each column to |rhs - H x| <= tol |rhs|.

    ``ratio`` is the measured contraction of a correction, 1 if unknown: where it brings a residual below the tolerance,
    that correction is the last, and this bound is reported as the residual.  Lengths are those of r / ``units`` (P,),
    which are those of ``Objective``.
    """
    unit = np.reshape(units, (-1, 1))
    lengths, count = norms(rhs / unit), rhs.shape[1]
    target, residual = tol * lengths, lengths.copy()
    iterations, status = np.zeros(count, dtype=np.int64), np.full(count, Status.STOPPED, dtype=np.int8)
    status[lengths == 0.0] = Status.SOLVED
    x, slow = np.zeros_like(rhs, order="F"), np.zeros(count, dtype=bool)
    active = np.flatnonzero(lengths > 0.0)
    if active.size:
        x[:, active] = factor(rhs[:, active])
    while active.size:
        r = rhs[:, active] - product(x[:, active], active)
        now = norms(r / unit)
        slow[active] = ~(now <= SLOW * residual[active])
        iterations[active] += 1
        residual[active] = now
        met, last = now <= target[active], ratio * now <= target[active]
        status[active[met | last]] = Status.SOLVED
        corrected = ~met & (last | ~slow[active])
        if corrected.any():
            x[:, active[corrected]] += factor(r[:, corrected])
        residual[active[last & ~met]] *= ratio
        active = active[corrected & ~last]
    solution = Solution(x, residual / np.where(lengths > 0, lengths, 1.0), iterations, status)
    rest = np.flatnonzero(~solution.converged)
    if not rest.size:
        return solution
    # The better of x and 0 is the start: a correction may have made x worse.
    start = np.where(solution.residual[rest] < 1.0, x[:, rest], 0.0)
    return solution.continue_with(
        rest, conjugate_gradient(product, rhs[:, rest], preconditioner=factor, tol=tol, start=start, units=units)
    )
