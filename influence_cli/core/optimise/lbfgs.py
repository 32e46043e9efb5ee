"""Block L-BFGS: G minimisations side by side where J is not convex, so that a Newton step may point uphill.

Every column has its own curvature pairs, step lengths and end; all columns share each pass over the rows.  Steps
satisfy the weak Wolfe conditions (bisection of Lewis and Overton 2013), so that the approximation stays positive
definite and J falls; where rounding hides the change of J, its slope decides (Hager and Zhang 2005).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from influence_cli.core.arrays import dots, norms
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.minimum import Goal, Minimum, Watch
from influence_cli.core.solvers.preconditioners import Preconditioner, for_columns
from influence_cli.core.weights import RowWeights, Weights, as_weights

DEPTH = 20
"""Curvature pairs that are kept."""
LEARNED = 5
"""Pairs after which an approximation that started as the identity is good enough to estimate the decrement."""
FALL, SLOPE = 1e-4, 0.9
"""Constants of the two Wolfe conditions, for the decrease of J and for its slope."""
TRIALS = 40
"""Most trial steps of a line search."""
UNRESOLVED = 1e-13
"""Change of J, relative to |J|, up to which it counts as rounding error."""


def lbfgs(
    objective: Objective,
    start: np.ndarray,
    w: RowWeights,
    *,
    preconditioner: Preconditioner | None = None,
    goal: Goal,
    max_iterations: int,
    watch: Watch | None = None,
) -> Minimum:
    """Minimise J(.; w) from ``start`` (P, G) until every decrement is within ``goal``.

    The decrement is measured with the approximate inverse Hessian of the steps, once that is good enough: at once with
    a ``preconditioner``, else from ``LEARNED`` pairs on.

    The first approximate inverse Hessian is the ``preconditioner`` or, without one, the identity.  Either is rescaled
    by the newest pair (s, y), so that it maps y to about the length of s; otherwise the first trial of most steps would
    be rejected.  If a line search fails, the column's pairs are discarded and it tries once more; if it has none, it
    ends unconverged.
    """
    theta, w = np.array(start, order="F"), as_weights(w)
    value, gradient = (np.array(a) for a in objective.value_and_gradient(theta, w))
    norm, count = norms(gradient), theta.shape[1]
    decrement, left = np.full(count, np.inf), np.full_like(theta, np.nan)
    converged, iterations = norm == 0.0, np.zeros(count, dtype=np.int64)
    active = np.flatnonzero((norm > goal.pause) & np.isfinite(norm) & np.isfinite(value) & ~converged)
    memory = _Memory(len(active), len(theta))
    for iteration in range(1, max_iterations + 1):
        if not active.size:
            break
        ray = _ray_down(memory, gradient[:, active].T, norm[active], preconditioner, active)
        decrement[active], left[:, active] = np.where(ray.known, np.sqrt(-ray.slope), np.inf), ray.direction.T
        wanted = goal.take(active).decrement(objective, theta[:, active], value[active])
        converged[active] = decrement[active] <= wanted
        on = ~converged[active]
        active, ray = active[on], ray.take(on)
        memory.keep(on)
        if not active.size:
            break
        if watch is not None:
            watch(iteration, float(norm[active].max()))
        step, new_value, new_gradient = _line_search(objective, theta[:, active], value[active], ray, w.take(active))
        moved = step > 0.0
        retry = ~moved & (memory.filled > 0)
        at = active[moved]
        y = new_gradient[:, moved].T - gradient[:, at].T
        theta[:, at] += step[moved] * ray.direction[moved].T
        value[at], gradient[:, at] = new_value[moved], new_gradient[:, moved]
        norm[at] = norms(gradient[:, at])
        iterations[at] = iteration
        memory.add(moved, step[moved, None] * ray.direction[moved], y)
        memory.forget(retry)
        keep = (moved | retry) & (norm[active] > goal.pause)
        active = active[keep]
        memory.keep(keep)
    return Minimum(theta, norm, iterations, converged, decrement, left)


@dataclass(frozen=True)
class _Ray:
    """Directions of descent (A, P), and for each the slope of J, the first trial step, and whether the decrement is
    known, (A,) each."""

    direction: np.ndarray
    slope: np.ndarray
    first: np.ndarray
    known: np.ndarray

    def take(self, which: np.ndarray) -> _Ray:
        return _Ray(self.direction[which], self.slope[which], self.first[which], self.known[which])


def _ray_down(
    memory: _Memory, g: np.ndarray, norm: np.ndarray, preconditioner: Preconditioner | None, columns: np.ndarray
) -> _Ray:
    """The directions of descent at points with gradients g (A, P) of that norm (A,); pairs with which a direction would
    lead uphill are discarded."""
    direction = -memory.solve(g, preconditioner or _identity, columns)
    slope = np.einsum("ap,ap->a", direction, g)
    uphill = ~(slope < 0.0)
    if uphill.any():
        memory.forget(uphill)
        direction[uphill] = -g[uphill]
        slope[uphill] = -(norm[uphill] ** 2)
    if preconditioner is not None:
        return _Ray(direction, slope, np.ones(len(g)), ~uphill)
    first = np.where(memory.filled == 0, np.minimum(1.0, 1.0 / norm), 1.0)
    return _Ray(direction, slope, first, ~uphill & (memory.filled >= LEARNED))


class _Memory:
    """The curvature pairs (s, y) of each of A columns, the newest last: a step, and the change of the gradient along
    it.  rho is 1 / s'y; a pair with rho = 0 does not count."""

    def __init__(self, count: int, size: int):
        self._s = np.zeros((count, 0, size))
        self._y = np.zeros((count, 0, size))
        self._rho = np.zeros((count, 0))

    @property
    def filled(self) -> np.ndarray:
        """The number of pairs of each column, (A,)."""
        return np.asarray((self._rho > 0).sum(axis=1))

    def add(self, which: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
        """Add a pair to the columns ``which`` (A,) bool, except where s'y is not safely positive."""
        dots = np.einsum("ap,ap->a", s, y)
        good = dots > np.finfo(float).eps * np.einsum("ap,ap->a", y, y)
        shape = (len(which), 1, self._s.shape[2])
        new_s, new_y, rho = np.zeros(shape), np.zeros(shape), np.zeros((len(which), 1))
        at = np.flatnonzero(which)[good]
        new_s[at, 0], new_y[at, 0], rho[at, 0] = s[good], y[good], 1.0 / dots[good]
        self._s = np.concatenate([self._s, new_s], axis=1)[:, -DEPTH:]
        self._y = np.concatenate([self._y, new_y], axis=1)[:, -DEPTH:]
        self._rho = np.concatenate([self._rho, rho], axis=1)[:, -DEPTH:]

    def forget(self, which: np.ndarray) -> None:
        self._rho[which] = 0.0

    def keep(self, which: np.ndarray) -> None:
        if not which.all():
            self._s, self._y, self._rho = self._s[which], self._y[which], self._rho[which]

    def solve(self, g: np.ndarray, preconditioner: Preconditioner, columns: np.ndarray) -> np.ndarray:
        """The approximate inverse Hessians of the ``columns`` (A,) times g (A, P), by Nocedal's two-loop recursion."""
        q, depth = np.array(g), self._rho.shape[1]
        alpha = np.zeros((len(g), depth))
        for k in reversed(range(depth)):
            alpha[:, k] = self._rho[:, k] * np.einsum("ap,ap->a", self._s[:, k], q)
            q -= alpha[:, k, None] * self._y[:, k]
        q = self._scaled(q, preconditioner, columns)
        for k in range(depth):
            beta = self._rho[:, k] * np.einsum("ap,ap->a", self._y[:, k], q)
            q += (alpha[:, k] - beta)[:, None] * self._s[:, k]
        return q

    def _scaled(self, q: np.ndarray, preconditioner: Preconditioner, columns: np.ndarray) -> np.ndarray:
        """(s'y / y'M^-1 y) M^-1 q with the newest pair (Shanno and Phua 1978), or M^-1 q if there is none."""
        aim, newest = np.ones(len(q)), np.zeros_like(q)
        for k in range(self._rho.shape[1]):
            valid = self._rho[:, k] > 0
            aim[valid], newest[valid] = 1.0 / self._rho[valid, k], self._y[valid, k]
        twice = for_columns(preconditioner, np.concatenate([columns, columns]))
        both = twice(np.concatenate([q, newest]).T).T
        products = np.einsum("ap,ap->a", newest, both[len(q) :])
        scale = np.divide(aim, products, out=np.ones(len(q)), where=products > 0)
        return scale[:, None] * both[: len(q)]


def _identity(V: np.ndarray) -> np.ndarray:
    return V


def _line_search(
    objective: Objective,
    theta: np.ndarray,
    value: np.ndarray,
    ray: _Ray,
    w: Weights,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step lengths (A,), 0 where none was found, with the value of J (A,) and its gradient (P, A) at their ends."""
    count, direction, slope = len(value), ray.direction.T, ray.slope
    step, low, high = ray.first.copy(), np.zeros(count), np.full(count, np.inf)
    step_length, new_value, new_gradient = np.zeros(count), np.array(value), np.zeros_like(theta)
    waiting = np.arange(count)
    for _ in range(TRIALS):
        t = step[waiting]
        trial = theta[:, waiting] + t * direction[:, waiting]
        f, g = objective.value_and_gradient(trial, w.take(waiting))
        new_slope = dots(g, direction[:, waiting])
        start, slope_there = value[waiting], slope[waiting]
        flat = np.abs(f - start) <= UNRESOLVED * np.abs(start)
        falls = (f <= start + FALL * t * slope_there) | (flat & (new_slope <= (2 * FALL - 1) * slope_there))
        falls &= np.isfinite(f) & np.isfinite(new_slope)
        flatter = new_slope >= SLOPE * slope_there
        good = falls & flatter
        at = waiting[good]
        step_length[at], new_value[at], new_gradient[:, at] = t[good], f[good], g[:, good]
        short, long = falls & ~flatter, ~falls
        low[waiting[short]], high[waiting[long]] = t[short], t[long]
        waiting = waiting[~good]
        if not waiting.size:
            break
        below, above = low[waiting], high[waiting]
        step[waiting] = np.where(np.isinf(above), 2.0 * below, 0.5 * (below + np.minimum(above, 1e300)))
    return step_length, new_value, new_gradient
