"""Anderson's mixing of a preconditioned gradient iteration, column by column (Walker and Ni 2011, type II).

The plain iteration is theta <- theta - M^-1 grad J(theta; w).  From the last points and the moves that it made there,
``Mixing`` finds the combination of which the move would be shortest, and goes on from that.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import norms
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.newton_cg import Minimum
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.weights import Weights

DEPTH = 8
"""Differences of points that the mixing remembers."""
STALLED_AFTER = 12
"""Passes within which a column must have gained a factor of ``EXPECTED_GAIN``, or Newton-CG takes over."""
EXPECTED_GAIN = 10.0
NOISE = 10.0
"""A gradient in single precision serves as long as it is longer than this many times its rounding error."""
REGULARIZATION = 1e-14
"""Relative to the largest squared difference: keeps the mixing's little systems solvable."""


class Mixing:
    """The last points of A columns and the moves from there; a caller makes gradients, moves and the end.

    Moves are measured by their length or, where the caller gives the ``image`` M move of each, in the norm of M, which
    reaches a rough solution sooner and a fine one later.
    """

    def __init__(self, columns: int, size: int, depth: int = DEPTH):
        self._depth = depth
        self._steps = np.empty((columns, 0, size))
        self._changes = np.empty((columns, 0, size))
        self._images: np.ndarray | None = None
        self._last: tuple[np.ndarray, ...] | None = None

    def keep(self, which: np.ndarray) -> None:
        """Forget all columns but those ``which`` (A,) bool."""
        self._steps, self._changes = self._steps[which], self._changes[which]
        if self._images is not None:
            self._images = self._images[which]
        if self._last is not None:
            self._last = tuple(one[which] for one in self._last)

    def next(self, here: np.ndarray, move: np.ndarray, image: np.ndarray | None = None) -> np.ndarray:
        """The points (P, A) after ``here`` (P, A), from where the plain iteration would go to here + ``move``."""
        here, move = here.T, move.T
        now: tuple[np.ndarray, ...] = (here, move) if image is None else (here, move, image.T)
        if self._last is not None:
            self._steps = self._with(self._steps, here - self._last[0])
            self._changes = self._with(self._changes, move - self._last[1])
            if image is not None:
                own = self._steps[:, :0] if self._images is None else self._images
                self._images = self._with(own, now[2] - self._last[2])
        self._last = now
        ahead = here + move
        if self._changes.shape[1]:
            images = self._changes if self._images is None else self._images
            gram = images @ self._changes.transpose(0, 2, 1)
            diagonal = np.arange(gram.shape[1])
            gram[:, diagonal, diagonal] += REGULARIZATION * np.einsum("aii->a", gram)[:, None] + np.finfo(float).tiny
            mix = np.linalg.solve(gram, images @ move[:, :, None])
            ahead = ahead - ((self._steps + self._changes) * mix).sum(axis=1)
        return ahead.T

    def _with(self, kept: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The last ``depth`` of these differences (A, n, P) and a new one (A, P)."""
        return np.concatenate([kept, new[:, None]], axis=1)[:, -self._depth :]


def anderson(
    objective: Objective,
    start: np.ndarray,
    w: Weights,
    *,
    preconditioner: Preconditioner,
    tol: float,
    max_iterations: int,
) -> Minimum:
    """Minimise J(.; w) from ``start`` (P, G) with one approximation of the inverse Hessian for all columns.

    Gradients are single precision's as long as they stand out from its rounding; no column ends before double
    precision says so.  A column that stops gaining ends unconverged at its best point.
    """
    best = np.array(start, order="F")
    count = start.shape[1]
    best_norm, iterations = np.full(count, np.inf), np.zeros(count, dtype=np.int64)
    mark_norm, mark_at = np.full(count, np.inf), np.zeros(count, dtype=np.int64)
    converged = np.zeros(count, dtype=bool)
    active = np.arange(count)
    x, mixing = start, Mixing(count, len(start))
    passes, floor = _low_precision(objective, x, w, tol)
    last_norm = np.full(count, np.finfo(float).eps)
    for iteration in range(1, max_iterations + 1):
        gradient = passes.gradient(x, w.take(active))
        norm = norms(gradient)
        iterations[active] = iteration
        better = norm < best_norm[active]
        best[:, active[better]], best_norm[active[better]] = x[:, better], norm[better]
        gained = norm < mark_norm[active] / EXPECTED_GAIN
        mark_norm[active[gained]], mark_at[active[gained]] = norm[gained], iteration
        stalled = (iteration - mark_at[active] > STALLED_AFTER) | ~np.isfinite(norm)
        if passes is objective:
            converged[active] = norm <= tol
        elif np.median(norm * np.minimum(norm / last_norm, 1.0)) < floor:
            passes = objective  # by the next pass the rounding would show
            best_norm[active], mark_norm[active], mark_at[active] = np.inf, np.inf, iteration
        keep = ~(converged[active] | stalled)
        if not keep.any():
            break
        mixing.keep(keep)
        active, last_norm = active[keep], norm[keep]
        x = mixing.next(x[:, keep], -preconditioner(gradient[:, keep]))
    return Minimum(best, best_norm, iterations, converged)


def _low_precision(objective: Objective, x: np.ndarray, w: Weights, tol: float) -> tuple[Objective, float]:
    """The objective in single precision, where it has one, and the gradient norm down to which it serves.

    The rounding of the group with the largest weights stands for all.
    """
    single = objective.single(x.shape[1])
    if single is objective:
        return objective, 0.0
    at = np.array([int(np.argmax(w.squares()))])
    one = x[:, at], w.take(at)
    return single, max(NOISE * float(np.linalg.norm(single.gradient(*one) - objective.gradient(*one))), tol)
