"""Preconditioned conjugate gradients (Hestenes and Stiefel 1952) for many right-hand sides side by side.

Each column is an iteration of its own, with its own step lengths and its own end, but all columns share each pass over
the rows, and a finished column leaves the block.  Two things depart from the textbook.  The true residual rhs - H x is
computed every ``RECOMPUTE_EVERY`` iterations, and before a tight tolerance counts as met, because the recursion drifts
away from it.  And a curvature that is negligible beside the largest met so far is treated as rounding error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

from influence_cli.core.arrays import dots, norms
from influence_cli.core.objectives.objective import Product
from influence_cli.core.solvers.preconditioners import Preconditioner, for_columns

MAX_ITERATIONS = 2000
RECOMPUTE_EVERY = 50
"""Iterations between two computations of the true residual."""
TIGHT = 1e-6
"""Relative tolerance below which only the true residual counts: the recursion may be off by rounding times the
condition number of H.  Where that is 1e9, the recursion reports 1e-17 after two iterations, and the truth is 1e-8."""
VANISHING = 16 * np.finfo(float).eps
"""Curvature along a direction, relative to the largest met so far, up to which it is rounding error."""
STAGNATION = 4
"""True residuals in a row without progress after which a column has reached what rounding allows."""


class Status(IntEnum):
    """How the solve of one right-hand side ended; ``text`` says so with the remedy."""

    SOLVED = 0
    STOPPED = 1
    INDEFINITE = 2

    def text(self, residual: float) -> str:
        """The status in words, for a column that ended at this relative residual."""
        return {
            Status.SOLVED: "ok",
            Status.STOPPED: f"solve stopped at relative residual {residual:.1e}: use --solver cholesky, scale the"
            " columns or raise --l2",
            Status.INDEFINITE: "negative curvature met: raise --damping or use --curvature gauss-newton (a network), or"
            " raise --l2 (a model whose rows do not determine its parameters)",
        }[self]


@dataclass(frozen=True)
class Solution:
    """x (P, A) with H x = rhs.

    ``residual`` (A,) is |rhs - H x| / |rhs|, ``iterations`` (A,) counts iterations, each of which takes a product, and
    ``status`` (A,) has the ``Status`` of each column.  Where a direction of curvature <= 0 was met, x is the iterate
    before it.
    """

    x: np.ndarray
    residual: np.ndarray
    iterations: np.ndarray
    status: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """Which columns are solved, (A,) bool."""
        return np.asarray(self.status == Status.SOLVED)

    @property
    def indefinite(self) -> np.ndarray:
        """Which columns have met curvature <= 0, (A,) bool."""
        return np.asarray(self.status == Status.INDEFINITE)

    def continue_with(self, columns: np.ndarray, rest: Solution) -> Solution:
        """These solutions with the columns (A,) replaced by ``rest``, which continued them; iterations add up."""
        whole = Solution(*(getattr(self, field.name).copy() for field in fields(self)))
        for field in fields(self):
            getattr(whole, field.name)[..., columns] = getattr(rest, field.name)
        whole.iterations[columns] += self.iterations[columns]
        return whole

    def why(self, column: int) -> str:
        """How the solve of one column ended: "ok", or a sentence that names the remedy."""
        if self.status[column] == Status.SOLVED:
            return "ok"
        return Status(self.status[column]).text(float(self.residual[column]))


def unsolved(rhs: np.ndarray) -> Solution:
    """The solution 0 of rhs (P, A), from which a solve can continue."""
    count = rhs.shape[1]
    status = np.full(count, Status.STOPPED, dtype=np.int8)
    return Solution(np.zeros_like(rhs, order="F"), np.ones(count), np.zeros(count, dtype=np.int64), status)


def joined(parts: Sequence[Solution]) -> Solution:
    """The solutions of several blocks of right-hand sides as one."""
    if len(parts) == 1:
        return parts[0]
    return Solution(*(np.concatenate([getattr(part, field.name) for part in parts], -1) for field in fields(Solution)))


def conjugate_gradient(
    product: Product,
    rhs: np.ndarray,
    *,
    preconditioner: Preconditioner,
    tol: np.ndarray | float = 1e-10,
    max_iterations: int = MAX_ITERATIONS,
    start: np.ndarray | None = None,
    units: np.ndarray | float = 1.0,
) -> Solution:
    """Solve product(x) = rhs (P, A), each column to |rhs - H x| <= tol |rhs|, where ``tol`` is a number or (A,).

    ``start`` (P, A) is the first x, which is returned unchanged where it meets the tolerance.  ``units`` (P,) are those
    of ``Objective``: lengths are those of r / units for residuals r, and of d * units for steps d.
    """
    unit = np.reshape(units, (-1, 1))
    x, r = np.zeros_like(rhs, order="F"), np.array(rhs, order="F")
    if start is not None:
        x += start
        r -= product(x)
    count, lengths = rhs.shape[1], norms(rhs / unit)
    target = np.broadcast_to(np.asarray(tol, dtype=float), lengths.shape) * lengths
    residual, iterations = norms(r / unit), np.zeros(count, dtype=np.int64)
    status = np.full(count, Status.STOPPED, dtype=np.int8)
    status[(residual == 0.0) | ((residual <= target) & (start is not None))] = Status.SOLVED
    best, stalls, steepest = residual.copy(), np.zeros(count, dtype=np.int64), np.zeros(count)
    active = np.flatnonzero(status != Status.SOLVED)
    z = for_columns(preconditioner, active)(r[:, active]) if active.size else r[:, active]
    d, rho = z, dots(r[:, active], z)
    for iteration in range(1, max_iterations + 1):
        if not active.size:
            break
        Hd = product(d, active)
        curvature, length = dots(d, Hd), norms(d * unit)
        # Relative to |H d| / |d| of this direction alone, a direction in the null space of H would appear curved.
        steepest[active] = np.maximum(steepest[active], norms(Hd / unit) / length)
        bad = curvature <= VANISHING * steepest[active] * length**2
        step = np.where(bad, 0.0, rho / np.where(bad, 1.0, curvature))
        x[:, active] += step * d
        r[:, active] -= step * Hd
        iterations[active], residual[active] = iteration, norms(r[:, active] / unit)
        # After the first step r is still the true residual; the recursion replaces it from the second step on.
        due = (residual[active] <= target[active]) & (target[active] < TIGHT * lengths[active]) & (iteration > 1)
        due |= iteration % RECOMPUTE_EVERY == 0
        if due.any():
            at = active[due]
            r[:, at] = rhs[:, at] - product(x[:, at], at)
            residual[at] = norms(r[:, at] / unit)
            stalls[at] = np.where(residual[at] > 0.5 * best[at], stalls[at] + 1, 0)
            best[at] = np.minimum(best[at], residual[at])
        status[active[residual[active] <= target[active]]] = Status.SOLVED
        status[active[bad & (residual[active] > target[active])]] = Status.INDEFINITE
        keep = (status[active] == Status.STOPPED) & (stalls[active] < STAGNATION) & np.isfinite(residual[active])
        active, d, rho, restart = active[keep], d[:, keep], rho[keep], due[keep]
        if active.size:
            z = for_columns(preconditioner, active)(r[:, active])
            fresh = dots(r[:, active], z)
            d = z + np.where(restart, 0.0, fresh / rho) * d
            rho = fresh
    return Solution(x, residual / np.where(lengths > 0, lengths, 1.0), iterations, status)
