"""Conjugate gradients for (H - D) x = b where solves with H itself are available; D is the part of H that removal takes
away.

The factor maps a residual r to z = H^-1 r, so that H z = r is known without a product, and H d of every direction d
follows from the recursion for d.  Only D d has to be computed, which needs no rows but those of the group.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from influence_cli.core.arrays import dots, norms
from influence_cli.core.objectives.objective import Product
from influence_cli.core.solvers.cg import VANISHING, Solution, Status
from influence_cli.core.solvers.preconditioners import Preconditioner

Downdate = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""downdate(V (P, A), H V (P, A), columns (A,)) -> D V (P, A), for the groups ``columns`` to which V's columns
belong."""
AIM = 0.5
"""Share of the tolerance to which the recursion iterates, so that the true residual meets the tolerance, too."""


def downdated_conjugate_gradient(
    downdate: Downdate,
    rhs: np.ndarray,
    *,
    inverse: Preconditioner,
    product: Product | None,
    tol: float,
    max_iterations: int,
    units: np.ndarray | float = 1.0,
) -> Solution:
    """Solve (H - D_g) x = rhs (P, G) with ``inverse`` r -> H^-1 r, each column to |rhs - (H - D_g) x| <= tol |rhs|.

    The iteration is CG preconditioned with H.  ``product`` V -> H V checks it on one random combination of the columns,
    each in units of its tolerance: where the product differs from what the recursion says, because the factor is
    rounded too much or is not that of H, no column counts as converged.  Without a product nothing is checked.
    ``residual`` is that of the recursion.  Lengths are those of r / ``units`` (P,), which are those of ``Objective``.
    """
    unit = np.reshape(units, (-1, 1))
    x, r = np.zeros_like(rhs, order="F"), np.array(rhs, order="F")
    Hx = np.zeros_like(x)
    lengths = norms(rhs / unit)
    target = AIM * tol * lengths
    count = rhs.shape[1]
    left, iterations = lengths.copy(), np.zeros(count, dtype=np.int64)
    status = np.full(count, Status.STOPPED, dtype=np.int8)
    active = np.flatnonzero(left > target)
    z = inverse(r[:, active])
    d, Hd, rho = z, r[:, active], dots(r[:, active], z)
    for iteration in range(1, max_iterations + 1):
        if not active.size:
            break
        curved = Hd - downdate(d, Hd, active)
        curvature = dots(d, curved)
        bad = curvature <= VANISHING * dots(d, Hd)
        step = np.where(bad, 0.0, rho / np.where(bad, 1.0, curvature))
        x[:, active] += step * d
        Hx[:, active] += step * Hd
        r[:, active] -= step * curved
        iterations[active] = iteration
        left[active] = norms(r[:, active] / unit)
        status[active[bad]] = Status.INDEFINITE
        keep = ~bad & (left[active] > target[active])
        active, d, Hd, rho = active[keep], d[:, keep], Hd[:, keep], rho[keep]
        if not active.size:
            break
        z = inverse(r[:, active])
        fresh = dots(r[:, active], z)
        ratio = fresh / rho
        d, Hd, rho = z + ratio * d, r[:, active] + ratio * Hd, fresh
    met = (left <= target) & ((target > 0) | (lengths == 0))
    if product is None or _as_the_recursion_says(product, x, Hx, target, unit):
        status[met] = Status.SOLVED
    return Solution(x, left / np.where(lengths > 0, lengths, 1.0), iterations, status)


def _as_the_recursion_says(
    product: Product, x: np.ndarray, Hx: np.ndarray, target: np.ndarray, unit: np.ndarray
) -> bool:
    """Whether H x (P, G) equals ``Hx`` to within ``target`` (G,), judged from one random combination of the columns.

    Each column enters with a random factor divided by its target, so that the columns' errors, in units of what is
    allowed, add up like independent random numbers.
    """
    positive = target > 0
    sizes = np.random.default_rng(0).normal(size=positive.sum()) / target[positive]
    off = product((x[:, positive] @ sizes)[:, None])[:, 0] - Hx[:, positive] @ sizes
    return bool(np.linalg.norm(off / unit.ravel()) <= 1.0)
