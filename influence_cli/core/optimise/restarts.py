"""A preconditioner for each column, and minimisations that are restarted with new preconditioners.

One approximation of the inverse Hessian serves columns that are alike.  Where their parameters or weights differ, each
column has the approximation at its own parameters and weights, which is recomputed as the column moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.lbfgs import lbfgs
from influence_cli.core.optimise.minimum import Goal, Minimum, Watch, counting_on
from influence_cli.core.optimise.newton_cg import newton_cg
from influence_cli.core.solvers.preconditioners import PerColumn
from influence_cli.core.weights import RowWeights, as_weights

OWN_BYTES = 200e6
"""Bytes that the columns' approximations of the Hessian may take at a time."""
CHEAP_FACTOR = 50
"""Largest P (K + 1) / K, which is eight times the passes that a dense Hessian costs, at which every column has its own
factor."""
CURVATURE_HELPS = 1e-3
"""Gradient norm below which the model's own curvature helps a descent.  If it were used from 1e-2 on, a descent would
take a quarter fewer passes, but columns that start alike would diverge: cold retraining from several seeds would agree
less."""
FIRST_SHARE = 0.25
"""Share of the iterations of a descent that may be spent before the model's own curvature is used."""


@dataclass(frozen=True)
class Method:
    """A minimiser, and the iterations after which its approximation of the Hessian is recomputed."""

    minimise: Callable[..., Minimum]
    renewed: int


DESCENT, NEWTON = Method(lbfgs, 250), Method(newton_cg, 4)


def restarted(
    method: Method,
    objective: Objective,
    partial: Minimum,
    w: RowWeights,
    *,
    goal: Goal,
    max_iterations: int,
    watch: Watch | None = None,
) -> Minimum:
    """Continue the columns of ``partial`` that have not converged, with new approximations at each start.

    A column ends where it converges, where it makes no more progress, or after ``max_iterations`` in total.
    """
    w = as_weights(w)
    end, done = partial, int(partial.iterations.max(initial=0))
    left = np.flatnonzero(~end.converged & np.isfinite(end.grad_norm))
    while left.size and done < max_iterations:
        here = w.take(left)
        minimum = method.minimise(
            objective,
            end.theta[:, left],
            here,
            preconditioner=per_column(objective, end.theta[:, left], here),
            goal=goal.take(left),
            max_iterations=min(method.renewed, max_iterations - done),
            watch=counting_on(watch, done),
        )
        end = end.continue_with(left, minimum)
        done += int(minimum.iterations.max())
        left = left[~minimum.converged & (minimum.iterations > 0)]
    return end


def descend(
    objective: Objective,
    start: np.ndarray,
    w: RowWeights,
    *,
    tol: float,
    max_iterations: int,
    watch: Watch | None = None,
) -> Minimum:
    """Minimise a J(.; w) that is not convex from ``start`` (P, G), deterministically.

    A column ends at a decrement of ``tol`` times the deviation of its outputs.  The first part of the descent is plain
    L-BFGS.  It is slow near the end, where directions of small curvature dominate.  There L-BFGS starts from each
    column's own approximation of the Hessian, which is recomputed as the parameters move and also measures the
    decrement.
    """
    first = lbfgs(
        objective,
        start,
        w,
        goal=Goal(0.0, np.zeros(start.shape[1]), pause=CURVATURE_HELPS),
        max_iterations=max(1, int(FIRST_SHARE * max_iterations)),
        watch=watch,
    )
    goal = Goal(tol, objective.deviation(first.theta))
    return restarted(DESCENT, objective, first, w, goal=goal, max_iterations=max_iterations, watch=watch)


def per_column(objective: Objective, theta: np.ndarray, w: RowWeights) -> PerColumn:
    """The model's approximate inverse Hessian at every column of theta (P, A)."""
    w, columns = as_weights(w), np.arange(theta.shape[1])
    return PerColumn(tuple(objective.preconditioner(theta[:, g : g + 1], w.take(columns[g : g + 1])) for g in columns))


def has_cheap_factor(objective: Objective) -> TypeGuard[Glm]:
    """Whether factoring the Hessian costs no more than a few passes over the rows."""
    return isinstance(objective, Glm) and objective.size * (objective.outputs + 1) <= CHEAP_FACTOR * objective.outputs


def memory_chunks(objective: Objective, columns: np.ndarray) -> list[np.ndarray]:
    """The columns (A,) in parts for each of which the columns' approximations fit into memory at once."""
    beside = max(1, int(OWN_BYTES / _each_bytes(objective)))
    return [columns[start : start + beside] for start in range(0, len(columns), beside)]


def chunk_bytes(objective: Objective, columns: int) -> float:
    """Bytes that the approximations of that many columns take, one part of ``memory_chunks`` at a time."""
    return min(columns * _each_bytes(objective), max(OWN_BYTES, _each_bytes(objective)))


def hessian_passes(objective: Glm) -> float:
    """Passes over the rows with as many multiply-adds as a group's dense Hessian takes (``glm_hessians``)."""
    design, free = objective.design, objective.passes.free
    blocks, products = objective.outputs * (free + 1) // 2, design.columns * (design.columns + 1) / 2
    return blocks * products * design.rows / (2.0 * design.operations(free))


def _each_bytes(objective: Objective) -> float:
    """Bytes of the approximation of one column: K factors (D, D), with P = K D, or for wide designs a matrix of the
    size of the rows and the penalty."""
    if isinstance(objective, Glm) and objective.wide:
        return 8.0 * ((objective.design.rows * objective.outputs) ** 2 + objective.size)
    return 8.0 * objective.size**2 / objective.outputs
