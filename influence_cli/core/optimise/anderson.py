"""Anderson mixing of a preconditioned gradient iteration, column by column (Walker and Ni 2011, type II).

The plain iteration is theta <- theta - M^-1 grad J(theta; w).  From the last points and the moves of the plain
iteration there, ``Mixing`` finds the combination of points whose move would be shortest, and continues from it.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import dots, norms
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Departure
from influence_cli.core.optimise.minimum import Goal, Minimum, decrements
from influence_cli.core.solvers.preconditioners import Inverses, Preconditioner, for_columns
from influence_cli.core.weights import Weights

DEPTH = 8
"""Differences of points that the mixing keeps."""
STALLED_AFTER = 12
"""Passes within which the decrement of a column must fall by the factor ``EXPECTED_GAIN``; otherwise Newton-CG takes
over."""
EXPECTED_GAIN = 10.0
NOISE = 10.0
"""Multiple of its rounding error above which a gradient in single precision is used."""
REMEMBERED = 3
"""Steps whose curvature is used to correct the preconditioner's estimate of the decrement."""
NEAR = 3.0
"""Change of a row's output up to which the curvature at the trained parameters still measures the distance to the
minimum, to within a factor of exp(3 / 2) = 4.5, for which one more step makes up."""
UNSEEN = 4.0
"""Safety factor on the step that remains after a last step whose end no pass has examined."""
REGULARIZATION = 1e-14
"""Shift of the mixing's small systems, relative to the largest squared difference, that keeps them solvable."""


class Mixing:
    """The last points of A columns and the moves from there.  The caller computes gradients and moves, and decides when
    to end.

    The length of a move is measured in ``units`` (P,), those of ``Objective``, so that the features' units have no
    influence.  If the caller passes the ``image`` M move of each move, it is measured in the norm of M: this reaches an
    imprecise solution sooner, and a precise one later.
    """

    def __init__(self, columns: int, size: int, units: np.ndarray | float = 1.0):
        self._units = units
        self._steps = np.empty((columns, 0, size))
        self._changes = np.empty((columns, 0, size))
        self._images: np.ndarray | None = None
        self._last: tuple[np.ndarray, ...] | None = None

    def keep(self, which: np.ndarray) -> None:
        """Keep only the columns ``which`` (A,) bool."""
        self._steps, self._changes = self._steps[which], self._changes[which]
        if self._images is not None:
            self._images = self._images[which]
        if self._last is not None:
            self._last = tuple(one[which] for one in self._last)

    def next(self, here: np.ndarray, move: np.ndarray, image: np.ndarray | None = None) -> np.ndarray:
        """The points (P, A) that follow ``here`` (P, A), from which the plain iteration would move by ``move``."""
        here, move = here.T, move.T
        now: tuple[np.ndarray, ...] = (here, move) if image is None else (here, move, image.T)
        if self._last is not None:
            self._steps = self._with(self._steps, here - self._last[0])
            self._changes = self._with(self._changes, move - self._last[1])
            if image is not None:
                images_kept = self._steps[:, :0] if self._images is None else self._images
                self._images = self._with(images_kept, now[2] - self._last[2])
        self._last = now
        ahead = here + move
        if self._changes.shape[1]:
            images = self._changes * self._units**2 if self._images is None else self._images
            gram = images @ self._changes.transpose(0, 2, 1)
            diagonal = np.arange(gram.shape[1])
            gram[:, diagonal, diagonal] += REGULARIZATION * np.einsum("aii->a", gram)[:, None] + np.finfo(float).tiny
            mix = np.linalg.solve(gram, images @ move[:, :, None])
            ahead = ahead - ((self._steps + self._changes) * mix).sum(axis=1)
        return ahead.T

    def _with(self, kept: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The last ``DEPTH`` of the differences ``kept`` (A, n, P) and ``new`` (A, P)."""
        return np.concatenate([kept, new[:, None]], axis=1)[:, -DEPTH:]


def anderson(
    objective: Glm,
    origin: np.ndarray,
    start: np.ndarray,
    w: Weights,
    *,
    preconditioner: Preconditioner,
    tol: float,
    max_iterations: int,
) -> tuple[Minimum, Goal]:
    """Minimise J(.; w) from ``start`` (P, 1 or G) with an approximation B of the Hessian, ``preconditioner`` = B^-1.

    Gradients are computed as that at ``origin`` (P, 1) plus the change from there.  A column ends where its decrement
    is ``tol`` times that of the first move, which is the goal that is returned, or where the next step will bring it
    there, so that no pass is spent on checking.  It also ends, unconverged at its best point, where it makes no
    progress.  Decrements are those in the norm of B, divided by the root of the least curvature relative to B along the
    last steps.  No column ends on a gradient in single precision.

    If B^-1 are ``Inverses``, they are those of the Hessians at ``origin``.  Where no output has changed by more than d
    from there, the Hessian equals B within a factor of exp(d), and a column ends where its decrement is then certainly
    small enough, here or one step further.  A column with d above ``NEAR`` ends unconverged.
    """
    departure, count = objective.departure(origin, w), w.groups
    x = np.array(np.broadcast_to(start, departure.gradient.shape), order="F")
    gradients = _Gradients(departure, w, preconditioner)
    gradient = departure.gradient + (departure.change(x - origin) if (start != origin).any() else 0.0)
    best, goal = _Best(x), Goal(tol, np.zeros(count))
    active, gains = np.arange(count), _Gains(count)
    mixing, seen = Mixing(count, len(start), units=objective.units), _Curvature(count)
    for iteration in range(1, max_iterations + 1):
        if iteration > 1:
            gradient = gradients.at(x - origin, active)
        move = -for_columns(preconditioner, active)(gradient)
        here = decrements(gradient, move) / seen.root(x, gradient, move)
        ahead = mixing.next(x, move)
        best.look(active, iteration, x, gradient, ahead - x, here)
        gains.look(iteration, here)
        lost = gains.stalled(iteration)
        if iteration == 1:
            goal = Goal(tol, here)
            best.converged |= here == 0.0
        elif gradients.rough:
            if gradients.end_rough(here, gains.last):
                best.decrement[active] = np.inf
                gains.begin(iteration)
        else:
            wanted = goal.take(active).decrement(objective, x, departure.value[active])
            allowed, far = wanted / np.maximum(here, np.finfo(float).tiny), gradients.farthest
            if far is None:
                best.arrive(active, ahead, allowed, (1.0, gains.rate))
            else:
                best.arrive(active, x + move, allowed, _sure_shares(far))
                lost |= (np.exp(NEAR / 2.0) <= allowed) & ~(far <= NEAR)
        keep = ~(best.converged[active] | lost)
        if not keep.any():
            break
        for kept in (mixing, seen, gains):
            kept.keep(keep)
        active, x = active[keep], ahead[:, keep]
    return Minimum(**vars(best)), goal


class _Gradients:
    """Gradients (P, A) of J(.; w) along the paths from the point of a ``Departure``.  Changes are computed in single
    precision, if there is one, as long as their rounding error is negligible."""

    def __init__(self, departure: Departure, w: Weights, preconditioner: Preconditioner):
        self._departure, self._w, self._inverse = departure, w, preconditioner
        self._floor: float | None = None
        self.rough = departure.rough is not None
        self.farthest: np.ndarray | None = None
        """The largest change of an output in each column; None where it is not needed."""

    def at(self, V: np.ndarray, active: np.ndarray) -> np.ndarray:
        """The gradients of the ``active`` columns (A,) after moving by V (P, A)."""
        there = self._departure.gradient[:, active]
        if not self.rough or self._departure.rough is None:
            if not isinstance(self._inverse, Inverses):
                return there + self._departure.change(V, active)
            self.farthest = np.empty(len(active))
            return there + self._departure.change(V, active, self.farthest)
        changed = self._departure.rough(V, active)
        if self._floor is None:
            # The rounding error is measured for the column with the largest weights.
            at = np.array([np.argmax(self._w.take(active).squares())])
            off = changed[:, at] - self._departure.change(V[:, at], active[at])
            self._floor = NOISE * float(decrements(off, -for_columns(self._inverse, active[at])(off))[0])
        return there + changed

    def end_rough(self, here: np.ndarray, gain: np.ndarray) -> bool:
        """Whether to continue in double precision: if at the next pass the decrements, expected to be ``here`` times
        ``gain`` (A,) each, of a quarter of the columns would be below the rounding error, so that this pass may end
        these columns."""
        self.rough = not (self._floor is not None and np.quantile(here * np.minimum(gain, 1.0), 0.25) < self._floor)
        return not self.rough


class _Best:
    """The points of least decrement so far, in the fields of a ``Minimum``."""

    def __init__(self, start: np.ndarray):
        count = start.shape[1]
        self.theta, self.left = start.copy(order="F"), np.full_like(start, np.nan)
        self.grad_norm, self.decrement = np.full(count, np.inf), np.full(count, np.inf)
        self.iterations, self.converged = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)

    def look(
        self,
        active: np.ndarray,
        iteration: int,
        x: np.ndarray,
        gradient: np.ndarray,
        step: np.ndarray,
        decrement: np.ndarray,
    ) -> None:
        """Record the points x of the ``active`` columns (A,), and the ``step`` (P, A) that each would take next."""
        self.iterations[active] = iteration
        better = decrement < self.decrement[active]
        at = active[better]
        self.theta[:, at], self.left[:, at] = x[:, better], step[:, better]
        self.grad_norm[at], self.decrement[at] = norms(gradient[:, better]), decrement[better]

    def arrive(
        self,
        active: np.ndarray,
        ahead: np.ndarray,
        allowed: np.ndarray,
        shares: tuple[np.ndarray | float, np.ndarray],
    ) -> None:
        """End the ``active`` columns (A,) whose remaining decrement is at most ``allowed`` times the present one.

        The ``shares`` bound the remaining decrement, as multiples of the present one: the first at the present point,
        and the second at ``ahead`` (P, A), the next one.
        """
        here, there = shares
        self.converged[active] = np.minimum(here, there) <= allowed
        moved = (there <= allowed) & ~(here <= allowed)
        at = active[moved]
        self.theta[:, at] = ahead[:, moved]
        self.left[:, at] *= UNSEEN * there[moved]
        self.decrement[at] *= there[moved]


def _sure_shares(far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds, as shares of a decrement in the norm of B, the Hessian at the origin, of the true decrement here and
    after a move, where outputs have changed by d = ``far`` (A,) at most; infinite where d exceeds ``NEAR``.

    The Hessian equals B within a factor of exp(d).  One move, if it changes no output by more than that again, leaves
    exp(2 d) - 1 of the decrement in the norm of B, and that of the Hessian is within exp(d) of it.
    """
    near = far <= NEAR
    d = np.where(near, far, 0.0)
    return np.where(near, np.exp(d / 2.0), np.inf), np.where(near, np.expm1(2.0 * d) * np.exp(d), np.inf)


class _Gains:
    """The factors by which the decrements of A columns fall: ``last`` (A,) for the last step, and ``rate`` (A,) the
    worse of the last two, infinite before there are two."""

    def __init__(self, columns: int):
        self.last = np.full(columns, np.inf)
        self.rate = np.full(columns, np.inf)
        self._before = np.full(columns, np.inf)
        self._mark, self._mark_at = np.full(columns, np.inf), np.zeros(columns, dtype=np.int64)

    def keep(self, which: np.ndarray) -> None:
        for name, kept in vars(self).items():
            setattr(self, name, kept[which])

    def begin(self, iteration: int) -> None:
        """Start again to measure the gain, from this iteration."""
        self._mark[:], self._mark_at[:] = np.inf, iteration

    def look(self, iteration: int, decrement: np.ndarray) -> None:
        """Record the decrements (A,) of this iteration."""
        gain = np.where(iteration > 1, decrement / self._before, np.inf)
        self.rate = np.maximum(gain, self.last)
        self.last, self._before = gain, decrement
        gained = decrement < self._mark / EXPECTED_GAIN
        self._mark[gained], self._mark_at[gained] = decrement[gained], iteration

    def stalled(self, iteration: int) -> np.ndarray:
        """Which columns (A,) have not gained ``EXPECTED_GAIN`` in ``STALLED_AFTER`` iterations, or have no finite
        decrement."""
        return (iteration - self._mark_at > STALLED_AFTER) | ~np.isfinite(self._before)


class _Curvature:
    """The curvature of H along the last steps s of A columns, relative to that of B; y is the change of the gradient
    along s."""

    def __init__(self, columns: int):
        self._last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._ratios = np.ones((columns, REMEMBERED))

    def keep(self, which: np.ndarray) -> None:
        self._ratios = self._ratios[which]
        if self._last is not None:
            self._last = self._last[0][:, which], self._last[1][:, which], self._last[2][:, which]

    def root(self, x: np.ndarray, gradient: np.ndarray, move: np.ndarray) -> np.ndarray:
        """The root of the least of these ratios, at most 1, at points x (P, A) with their gradients and moves -B^-1
        gradient."""
        if self._last is not None:
            y = gradient - self._last[1]
            met, said = dots(x - self._last[0], y), -dots(y, move - self._last[2])
            known = (met > 0) & (said > 0)
            # Where H is mu B along s, y = mu B s, so that y'B^-1 y / s'y is mu.
            mu = np.where(known, np.minimum(said / np.where(known, met, 1.0), 1.0), 1.0)
            self._ratios = np.concatenate([self._ratios[:, 1:], mu[:, None]], axis=1)
        self._last = x, gradient, move
        return np.sqrt(self._ratios.min(axis=1))
