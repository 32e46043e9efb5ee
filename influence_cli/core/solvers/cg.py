"""Preconditioned conjugate gradients, many right-hand sides side by side.

Each column is its own iteration (its own step lengths, its own end), but all of them share each pass over the rows,
and a finished column leaves the block.  Given the exact factor as preconditioner this is one step of iterative
refinement: the answer is as good as the product, however the preconditioner was rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from influence_cli.core.arrays import dots, norms
from influence_cli.core.objectives.objective import Product
from influence_cli.core.solvers.preconditioners import Preconditioner, for_columns

MAX_ITERATIONS = 2000
RECOMPUTE_EVERY = 50
"""Iterations after which the residual is computed anew: the recursion drifts from b - H x."""
DRIFT_AFTER = 10
TIGHT = 1e-6
"""For up to DRIFT_AFTER iterations a tolerance above TIGHT is taken to be met without a product that checks it; so is
any at the first iteration.  Later the recursion hides rounding: where the Hessian's condition is 1e9, the second
iteration reports a residual of 1e-17 and the true one is 1e-8."""
DRIFT = 100 * np.finfo(float).eps
"""The recursion's residual is off by at most about this many |H| |x| an iteration (Greenbaum 1997)."""
VANISHING = 16 * np.finfo(float).eps
"""Curvature along a direction, relative to the largest met so far, up to which it is rounding and not a number."""
DRIFT_SHARE = 0.1
"""Share of the tolerance that the drift may make up before a product is spent on the true residual."""
STAGNATION = 4
"""Recomputed residuals without progress after which a column has reached what rounding allows."""


@dataclass(frozen=True)
class Solution:
    """x (P, A) with H x = rhs.

    ``residual`` (A,) is |rhs - H x| / |rhs|; ``iterations`` (A,) counts products; ``converged`` (A,) and
    ``indefinite`` (A,), a direction of curvature <= 0 was met, in which case x is the iterate before it.
    """

    x: np.ndarray
    residual: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    indefinite: np.ndarray

    def continue_with(self, columns: np.ndarray, rest: Solution) -> Solution:
        """The same where those columns (A,) were solved by ``rest`` in the end; iterations add up."""
        whole = Solution(*(getattr(self, field.name).copy() for field in fields(self)))
        for field in fields(self):
            getattr(whole, field.name)[..., columns] = getattr(rest, field.name)
        whole.iterations[columns] += self.iterations[columns]
        return whole

    def why(self, column: int) -> str:
        """The end of one column in words, with the remedy."""
        if self.converged[column]:
            return "ok"
        if self.indefinite[column]:
            return (
                "negative curvature met: raise --damping or use --curvature gauss-newton (a network), or raise --l2"
                " (a model whose rows do not determine its parameters)"
            )
        return (
            f"solve stopped at relative residual {self.residual[column]:.1e}: use --solver cholesky, scale the columns"
            " or raise --l2"
        )


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
    norm: np.ndarray | float = np.inf,
    contraction: float = 1.0,
    start: np.ndarray | None = None,
) -> Solution:
    """Solve product(x) = rhs (P, A), each column to |rhs - H x| <= tol |rhs|.

    ``tol`` may be an array (A,).  Hestenes and Stiefel's iteration; the true residual is what ends it.  ``norm``, |H|
    or more, scalar or (A,), saves the product that checks it where |H| |x| is too small to hide a larger one.
    ``contraction`` bounds |r - H M^-1 r| / |r| of a preconditioner M that is nearly H: where it brings a residual under
    the tolerance, that step ends the iteration without a product, and the bound stands for the residual.
    ``start`` (P, A) is an x to begin with; one that is good enough already is returned as it is.
    """
    x, r = np.zeros_like(rhs, order="F"), np.array(rhs, order="F")
    if start is not None:
        x += start
        r -= product(x)
    count = rhs.shape[1]
    lengths = norms(rhs)
    target = np.broadcast_to(np.asarray(tol, dtype=float), lengths.shape) * lengths
    bound = np.broadcast_to(np.asarray(norm, dtype=float), lengths.shape)
    tight = target < TIGHT * lengths
    residual, iterations = norms(r), np.zeros(count, dtype=np.int64)
    converged, indefinite = (residual == 0.0) | (residual <= target) & (start is not None), np.zeros(count, dtype=bool)
    best, stalls = residual.copy(), np.zeros(count, dtype=np.int64)
    steepest = np.zeros(count)
    active, exact_at = np.flatnonzero(~converged), 0
    if not active.size:
        return Solution(x, residual / np.where(lengths > 0, lengths, 1.0), iterations, converged, indefinite)
    z = for_columns(preconditioner, active)(r[:, active])
    d, rho = z, dots(r[:, active], z)
    for iteration in range(1, max_iterations + 1):
        if not active.size:
            break
        Hd = product(d, active)
        curvature = dots(d, Hd)
        # Against |H d| / |d| of this direction alone, one that H maps to nothing but rounding would look curved.
        length = norms(d)
        steepest[active] = np.maximum(steepest[active], norms(Hd) / length)
        bad = curvature <= VANISHING * steepest[active] * length**2
        step = np.where(bad, 0.0, rho / np.where(bad, 1.0, curvature))
        x[:, active] += step * d
        r[:, active] -= step * Hd
        iterations[active] = iteration
        residual[active] = norms(r[:, active])
        due = residual[active] <= target[active]
        if iteration - exact_at < DRIFT_AFTER:
            drift = DRIFT * iteration * bound[active] * np.maximum(norms(x[:, active]), np.finfo(float).tiny)
            due &= tight[active] & (iteration > 1) & (drift > DRIFT_SHARE * target[active])
        if iteration % RECOMPUTE_EVERY == 0:
            due[:] = True
        if due.any():
            at = active[due]
            r[:, at] = rhs[:, at] - product(x[:, at], at)
            residual[at] = norms(r[:, at])
            stalls[at] = np.where(residual[at] > 0.5 * best[at], stalls[at] + 1, 0)
            best[at] = np.minimum(best[at], residual[at])
            exact_at = iteration if due.all() else exact_at
        indefinite[active] |= bad
        if contraction < 1.0:
            near = ~bad & (residual[active] > target[active]) & (contraction * residual[active] <= target[active])
            last = active[near]
            if last.size:
                x[:, last] += for_columns(preconditioner, last)(r[:, last])
                residual[last] *= contraction
        converged[active] = residual[active] <= target[active]
        keep = ~(converged[active] | indefinite[active] | (stalls[active] >= STAGNATION))
        restart = due[keep]
        active, d, rho = active[keep], d[:, keep], rho[keep]
        if not active.size:
            break
        z = for_columns(preconditioner, active)(r[:, active])
        fresh = dots(r[:, active], z)
        d = z + np.where(restart, 0.0, fresh / rho) * d
        rho = fresh
    scale = np.where(lengths > 0, lengths, 1.0)
    return Solution(x, residual / scale, iterations, converged, indefinite)
