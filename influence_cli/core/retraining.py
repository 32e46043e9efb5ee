"""The truth: retraining without each group, many groups in one pass over the rows (docs/design.md, section 2.9).

Every column iterates theta <- theta - M^-1 grad J(theta; w_removed) with the factor M of the trained model, accelerated
by Anderson mixing; groups that contain a whole class start with it ruled out, and M^-1 is corrected (``core.emptied``).
Models with few parameters end with Newton steps by each group's own factored Hessian, and for small tables these
replace the mixing.  Where these cannot be used, and the mixing stalls because a group that contains most of a class
changes the Hessian too much, block Newton-CG takes over: with M as preconditioner as long as that serves, and then, if
it costs little, with each column's own approximation of the Hessian.

Where J is not convex, "the truth" depends on what is minimised and from where, and the choices differ (Bae et al.
2022; docs/design.md, section 2.6):

    cold        J(.; w_removed) from the initial weights, as if the group had never been there
    warm        J(.; w_removed) from the trained parameters
    proximal    the proximal Bregman objective around the trained parameters, from there: influence functions are its
                linear response

For a convex J all three are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from influence_cli.core.emptied import raised_where_emptied, without_classes
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.anderson import anderson
from influence_cli.core.optimise.lbfgs import lbfgs
from influence_cli.core.optimise.minimum import Goal, Minimum, Watch, goal_of_move
from influence_cli.core.optimise.newton import newton
from influence_cli.core.optimise.newton_cg import newton_cg
from influence_cli.core.optimise.restarts import DESCENT, NEWTON, descend, has_cheap_factor, memory_chunks, restarted
from influence_cli.core.recession import FAR_OUT
from influence_cli.core.solvers.preconditioners import Inverses, Preconditioner, for_columns
from influence_cli.core.weights import Weights

WARM, COLD, PROXIMAL = "warm", "cold", "proximal"
STRATEGIES = (WARM, COLD, PROXIMAL)
HANDOVER = 1e-4
"""Decrement, relative to that of the first step, at which a Newton step with a factored Hessian replaces the mixing."""
SMALL_TABLE = 1e6
"""Rows times the square of the parameters up to which Newton steps with every group's own Hessian are faster than the
passes of the mixing (measured)."""
FAR_FROM_M = 0.75
"""Share of the weight above which retraining ends by Newton-CG with the Hessian after removal."""
LARGEST_BLOCK = 300
"""Iterations of L-BFGS with the trained model's curvature after which a column gets its own approximation."""
SERVED = 60
"""Products for a Newton step within which the trained model's curvature should solve it.  For random groups it needs
fewer even at a small lambda, where cheap approximations need hundreds; for a whole class it would need thousands."""
STEPS = 100
"""Newton steps in total that a column may take with its own approximations of the Hessian."""
MIXING_PASSES = 100
"""Passes of the mixing after which Newton's method takes over."""


def retrain_cold(
    objective: Objective,
    theta: np.ndarray,
    w: Weights,
    *,
    preconditioner: Preconditioner,
    tol: float = 1e-8,
    seed: int = 0,
    watch: Watch | None = None,
) -> Minimum:
    """The minimisers (P, G) of J(.; w_g) from the initial weights of ``seed``; theta (P, 1) are the trained
    parameters."""
    outward = FAR_OUT * objective.recession(w)
    start = objective.initial(seed) + outward
    if not objective.convex:
        return descend(objective, start, w, tol=tol, max_iterations=objective.tuning.max_iterations, watch=watch)
    goal = goal_of_move(objective, theta + outward, w, preconditioner, tol)
    end = _by_newton(_Task(objective, w, preconditioner, goal, watch), start)
    # A class that is lost has no curvature left so far out; the trained parameters are nearer to the others' minimum.
    lost = np.flatnonzero(objective.loses_class(w) & ~end.converged)
    if not lost.size:
        return end
    nearer = for_columns(preconditioner, lost)
    return end.continue_with(lost, retrain(objective, theta, w.take(lost), preconditioner=nearer, tol=tol, watch=watch))


def retrain(
    objective: Objective,
    theta: np.ndarray,
    w: Weights,
    *,
    preconditioner: Preconditioner,
    nearer: Inverses | None = None,
    tol: float = 1e-8,
    watch: Watch | None = None,
) -> Minimum:
    """The minimisers (P, G) of J(.; w_g) from the trained parameters (P, 1): the warm truth or, if the objective is
    ``objective.proximal``, the proximal one.

    ``preconditioner`` is M^-1; the mixing uses ``nearer``, if given, which is nearer to the Hessians after removal.  A
    column ends where its Newton decrement, by the Hessian after removal, is at most ``tol`` times the distance from the
    start or the rounding error of a decrement.  ``iterations`` counts passes of the mixing plus Newton steps; where J
    is not convex, iterations of L-BFGS.
    """
    loses = objective.loses_class(w).any()
    start = without_classes(objective, theta, w) if loses else theta
    if not objective.convex:
        return _downhill(objective, start, w, preconditioner, tol, watch)
    assert isinstance(objective, Glm)
    if loses:
        preconditioner = raised_where_emptied(objective, w, preconditioner, start)
    if newton_alone(objective):
        goal = goal_of_move(objective, start, w, preconditioner, tol)
        return _by_newton(_Task(objective, w, preconditioner, goal, watch), start)
    exact = has_cheap_factor(objective) and nearer is None
    mixed, goal = anderson(
        objective,
        theta,
        start,
        w,
        preconditioner=preconditioner if nearer is None else nearer,
        tol=max(tol, HANDOVER) if exact else tol,
        max_iterations=MIXING_PASSES,
    )
    goal = replace(goal, tol=tol)
    # If a group has most of the weight, M does not show how far the minimum is.
    unsure = exact | (w.sums(w.base) > FAR_FROM_M)
    left = np.flatnonzero(~mixed.converged | unsure)
    if not left.size:
        return mixed
    begin = _no_higher_than(
        start[:, left] if start.shape[1] > 1 else start, mixed.theta[:, left], objective, w.take(left)
    )
    rest = _by_newton(_Task(objective, w, preconditioner, goal, watch).take(left), begin)
    return mixed.continue_with(left, rest)


def newton_alone(objective: Objective) -> bool:
    """Whether groups are retrained from the start by Newton steps with their own Hessians.  The table is then so small
    that most of the time is overhead, and each group may also start from a point of its own."""
    small = len(objective.weights) * objective.size**2 <= SMALL_TABLE
    return objective.convex and small and has_cheap_factor(objective)


def _no_higher_than(start: np.ndarray, theta: np.ndarray, objective: Objective, w: Weights) -> np.ndarray:
    """theta (P, A), or ``start`` where J is lower there: a point with a small gradient but a larger J is not near the
    minimum."""
    here, there = (objective.value(points, w) for points in (start, theta))
    return np.where(there <= here, theta, start)


@dataclass(frozen=True)
class _Task:
    """Minimisations of J(.; w_g) by Newton steps, each to its goal; ``preconditioner`` is the trained model's."""

    objective: Objective
    w: Weights
    preconditioner: Preconditioner
    goal: Goal
    watch: Watch | None

    def take(self, columns: np.ndarray) -> _Task:
        """The task of the columns (A,)."""
        inverse = for_columns(self.preconditioner, columns)
        return replace(self, w=self.w.take(columns), preconditioner=inverse, goal=self.goal.take(columns))


def _by_newton(task: _Task, begin: np.ndarray) -> Minimum:
    """Newton's method from ``begin`` (P, 1 or G): with every group's own Hessian where that is cheap and definite,
    otherwise by products."""
    if not has_cheap_factor(task.objective):
        return _by_products(task, begin)
    end = newton(task.objective, begin, task.w, goal=task.goal, watch=task.watch)
    left = np.flatnonzero(~end.converged)
    return end.continue_with(left, _by_products(task.take(left), end.theta[:, left])) if left.size else end


def _by_products(task: _Task, begin: np.ndarray) -> Minimum:
    """Newton-CG from ``begin`` (P, G): with M as long as that serves, and then, if it costs little, with each column's
    own approximation of the Hessian."""
    objective, light = task.objective, task.objective.tuning.cheap_preconditioner
    end = newton_cg(
        objective,
        begin,
        task.w,
        preconditioner=task.preconditioner,
        goal=replace(task.goal, patience=SERVED if light else None),
        watch=task.watch,
    )
    for part in memory_chunks(objective, np.flatnonzero(~end.converged)) if light else ():
        task_part = task.take(part)
        rest = restarted(
            NEWTON,
            objective,
            end.take(part),
            task_part.w,
            goal=task_part.goal,
            max_iterations=STEPS,
            watch=task.watch,
        )
        end = end.continue_with(part, rest)
    return end


def _downhill(
    objective: Objective,
    start: np.ndarray,
    w: Weights,
    preconditioner: Preconditioner,
    tol: float,
    watch: Watch | None,
) -> Minimum:
    """L-BFGS with the trained model's curvature; columns that do not converge continue with their own
    approximations."""
    goal = goal_of_move(objective, start, w, preconditioner, tol)
    start = np.broadcast_to(start, (len(start), len(goal.scale)))
    block = lbfgs(
        objective,
        start,
        w,
        preconditioner=preconditioner,
        goal=goal,
        max_iterations=LARGEST_BLOCK,
        watch=watch,
    )
    left = np.flatnonzero(~block.converged)
    if not left.size:
        return block
    rest = restarted(
        DESCENT,
        objective,
        block.take(left),
        w.take(left),
        goal=goal.take(left),
        max_iterations=objective.tuning.max_iterations,
        watch=watch,
    )
    return block.continue_with(left, rest)
