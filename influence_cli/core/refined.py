"""Refined estimates: the iteration of retraining from theta*, ended as soon as f is precise enough
(docs/design.md, section 2.7).

Every column iterates theta <- theta - M^-1 grad J(theta; w_removed) with the factor M of the trained model, accelerated
by Anderson mixing.  Step 0 is ``first`` and reads the group's rows only; each further step takes one pass over the rows
for a whole block of groups.  (``core.emptied`` and ``core.told_apart`` correct M^-1 where a group contains nearly all
curvature along some direction, and ``core.emptied`` the start where a group contains a whole class.)  With
F_k = f(theta_k) - f(theta*) and r_k the gradient at theta_(k-1), a group ends at the first step k >= 2 at which all of
its test rows have

    error_k = c max(e, q e') / (1 - q) <= rel |F_k|,      e = |F_k - F_(k-1)|,  e' = |F_(k-1) - F_(k-2)|,
                                                            q = min(|r_k| / min |r_j|, .95), j < k, in the norm of M^-1

or an error below the rounding of f; rel is the tolerance, and c is 1.25.  This is the tail of a geometric series with
ratio q: an estimate of the error, not a bound.  (q is not the ratio to the previous gradient: where the mixing has
overshot, as it does for rows that are nearly separable, the step back would look like a contraction.)

The series is not geometric where M differs much from the Hessian after removal: where a group contains a whole class,
or rows without which the others are nearly separable.  There F rises and falls along the path, so that several moves
may be small by chance, and a loss hardly changes where its row is far from the decision boundary.  Therefore the path
of a group with a whole class, a path that has overshot, and any path from the ninth step on is ``slow``: c is 2.5, the
rule must hold at two steps in a row, and error_k is at least c |F_k| |r_k| / |r_1|, where |r_k| / |r_1| is the share of
the gradient that remains.  Where the mixing stalls, Newton's method continues under the same rule, with |r_k| in the
norm of the inverse Hessian there.  Its steps by products are imprecise, so that the step that ends a group is solved to
3%.

Where J is not convex (a network), the proximal objective is minimised, as for all influence functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from influence_cli.core.arrays import columns_of, dots
from influence_cli.core.emptied import raised_where_emptied, without_classes
from influence_cli.core.estimators import removed_gradient
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.anderson import Mixing
from influence_cli.core.optimise.minimum import Points
from influence_cli.core.optimise.newton import inverses
from influence_cli.core.optimise.newton_cg import line_search
from influence_cli.core.optimise.restarts import hessian_passes, memory_chunks, per_column
from influence_cli.core.quantities import Valued, of_columns
from influence_cli.core.removal import Removal
from influence_cli.core.rescaling import rescaled_preconditioner
from influence_cli.core.solvers.cg import Solution, Status
from influence_cli.core.solvers.preconditioners import Preconditioner, for_columns
from influence_cli.core.solvers.refinement import HessianAt, refined_conjugate_gradient
from influence_cli.core.told_apart import raised_where_told_apart
from influence_cli.core.weights import Weights

SAFETY, SLOW_SAFETY = 1.25, 2.5
"""Factor c on the geometric tail, and its value for a slow path."""
WILD, SLOW_FROM = 2.0, 9
"""A path is slow from the step on at which the gradient is longer than ``WILD`` times the first, or from step
``SLOW_FROM``."""
FIRST_TEST = 2
"""The first step at which the rule is tested: it needs two moves."""
SLOWEST = 0.95
"""Largest ratio q in the rule."""
VISIBLE = 16 * np.finfo(float).eps
"""Rounding error of f, relative to |f| before plus |f| after removal."""
END = 1e-9
"""Length of the gradient, relative to the first, at which a retraining would end as well."""
MIXING_STEPS, NEWTON_STEPS = 40, 60
STALLED_AFTER, GAIN = 18, 10.0
"""Steps of the mixing in which the gradient must become shorter by this factor; otherwise Newton's method takes
over."""
NOISE, WORTH_PROBING = 100.0, 4
"""Multiple of their rounding error above which gradients in single precision are used, and the number of groups in a
block from which on that error is measured."""
INNER, SERVED, PATIENT = 0.3, 60, 500
"""Relative residual of a Newton step, products in which the trained model's M should solve for it, and products that a
group's own preconditioner may take.  Imprecise steps give more points at which the rule may hold."""
PROOF = 0.03
"""Relative residual of the step that confirms an end: a less precise one may miss directions of little curvature."""
OWN_HESSIAN_PASSES = 12.0
"""Passes over the rows that a group's own Hessian may cost; a step by products takes ten to twenty of them
(measured)."""
CURVATURE_NUMBERS = 32e6
"""Float64 numbers that the curvature of the groups in Newton-CG may take: 256 MB."""


@dataclass(frozen=True)
class Goal:
    """The question: f, with ``base`` (T,), or (T, G) where it differs by group, at theta*, to a relative error of
    ``rel``.

    ``counts`` (T, G) is false for pairs whose f has no finite value after removal, which do not enter the rule.
    ``graded`` is false for an f that is piecewise constant: its small moves do not predict the next, so that only the
    gradient ends a group.  If ``steps`` is given, every group takes that many steps of the mixing and none of Newton's
    method, whatever its error.
    """

    f: Valued
    base: np.ndarray
    rel: float
    counts: np.ndarray
    steps: int | None = None
    graded: bool = True


@dataclass(frozen=True)
class Refined:
    """Changes of f on removal (T, G), their estimated ``error`` (T, G), and whether each has ``met`` the tolerance.

    ``theta`` (P, G) are the parameters reached, ``steps`` (G,) counts the steps of the mixing and of Newton's method,
    and ``first`` (G,) is the length of the first gradient in the norm of M^-1.
    """

    change: np.ndarray
    error: np.ndarray
    met: np.ndarray
    theta: np.ndarray
    steps: np.ndarray
    first: np.ndarray


def followed(objective: Objective, theta: np.ndarray) -> Objective:
    """The objective whose minimum is estimated: J where it is convex, else the proximal objective around theta (P,
    1)."""
    return objective if objective.convex else objective.proximal(theta)


def first_gradient(objective: Objective, theta: np.ndarray, groups: Removal) -> np.ndarray:
    """The gradient (P, G) after removal of the objective that is ``followed``, at theta (P, 1).

    It takes the groups' rows and one pass for a single column.  Before removal the gradient of the proximal objective
    is 0 at theta.
    """
    g = removed_gradient(objective, theta, groups)
    return objective.gradient(theta, objective.weights) - g if objective.convex else -g


def refine(
    objective: Objective,
    theta: np.ndarray,
    w: Weights,
    preconditioner: Preconditioner,
    goal: Goal,
    *,
    gradient: np.ndarray | None = None,
    start: np.ndarray | None = None,
) -> Refined:
    """Refine G groups, with the weights w after removal, from the trained parameters theta (P, 1).

    ``gradient``, the ``first_gradient``, saves a pass.  ``start`` (P, G), the theta of an earlier call, continues it.
    """
    objective = followed(objective, theta)
    if start is None:
        start = without_classes(objective, theta, w, gradient)
        moved = np.flatnonzero((start != theta).any(axis=0))
        if moved.size and gradient is not None:
            gradient = gradient.copy()
            gradient[:, moved] = objective.gradient(start[:, moved], w.take(moved))
    gradient = objective.gradient(start, w) if gradient is None else gradient
    inverse = rescaled_preconditioner(objective, w, preconditioner)
    raised = raised_where_emptied(objective, w, inverse, start, gradient)
    preconditioner = raised_where_told_apart(objective, w, theta, preconditioner, inverse, raised)
    way = _Way(objective, w, start, _Rule(goal, w.groups, objective.loses_class(w)))
    left = way.mix(gradient, preconditioner)
    if goal.steps is None:
        way.newton(left, preconditioner)
    rule = way.rule
    return Refined(rule.change, rule.error, rule.met, way.reached, rule.steps, rule.first)


class _Rule:
    """F_k, its last move, its error and the gradient's lengths for every group, and whether they meet the ``goal``;
    ``slow`` (G,) are paths that are slow from the start."""

    def __init__(self, goal: Goal, groups: int, slow: np.ndarray | bool = False):
        shape = (len(goal.base), groups)
        self.goal = goal
        self.change, self.move = np.zeros(shape), np.zeros(shape)
        self.error, self.met = np.full(shape, np.inf), np.zeros(shape, dtype=bool)
        self.shortest, self.first = np.full(groups, np.nan), np.full(groups, np.nan)
        self.slow, self.answered = np.array(np.broadcast_to(slow, groups)), np.zeros(groups, dtype=bool)
        self.steps = np.full(groups, -1, dtype=np.int64)

    def ends(self, columns: np.ndarray, theta: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Record theta (P, A) of the groups ``columns`` (A,), reached from a gradient of that ``length`` (A,), and
        return which of them have ended, (A,)."""
        goal, base = self.goal, columns_of(self.goal.base)
        base = base[:, columns] if base.shape[1] > 1 else base
        value = of_columns(goal.f, columns).value(theta)
        change = value - base
        with np.errstate(invalid="ignore", divide="ignore"):
            q = np.minimum(length / self.shortest[columns], SLOWEST)
        q = np.where(length == 0, 0.0, np.where(np.isnan(q), SLOWEST, q))
        self.slow[columns] |= (length > WILD * self.first[columns]) | (self.steps[columns] + 1 >= SLOW_FROM)
        self.first[columns] = np.where(np.isnan(self.first[columns]), length, self.first[columns])
        slow = self.slow[columns]
        move = np.abs(change - self.change[:, columns])
        tail = np.maximum(move, q * self.move[:, columns]) / (1.0 - q)
        to_go = np.abs(change) * np.minimum(length / np.maximum(self.first[columns], np.finfo(float).tiny), 1.0)
        hidden = VISIBLE * (np.abs(value) + np.abs(base))
        error = np.maximum(np.where(slow, SLOW_SAFETY * np.maximum(tail, to_go), SAFETY * tail), hidden)
        met = error <= np.maximum(goal.rel * np.abs(change), hidden)
        self.change[:, columns], self.move[:, columns] = change, move
        self.shortest[columns] = np.fmin(self.shortest[columns], length)
        self.error[:, columns], self.met[:, columns] = error, met
        self.steps[columns] += 1
        if goal.steps is not None:
            return self.steps[columns] >= goal.steps
        answered = (met | ~goal.counts[:, columns] | np.isnan(change)).all(axis=0)
        sure = answered & (self.answered[columns] | ~slow)
        self.answered[columns] = answered
        ended = (sure & goal.graded) | (length <= END * self.first[columns])
        return (self.steps[columns] >= FIRST_TEST) & ended


class _Way:
    """The paths of the groups: their current parameters ``reached`` (P, G) under the weights w."""

    def __init__(self, objective: Objective, w: Weights, start: np.ndarray, rule: _Rule):
        self.objective, self.w, self.rule = objective, w, rule
        self.reached = np.array(start, order="F")

    def mix(self, gradient: np.ndarray, preconditioner: Preconditioner) -> np.ndarray:
        """Mix from ``reached``, where the gradient is ``gradient`` (P, G), until the rule ends each group.  Returns the
        groups that have stalled, which stay where their gradient was shortest."""
        count = self.w.groups
        shortest, mark = np.full(count, np.inf), np.full(count, np.inf)
        marked_at = np.zeros(count, dtype=np.int64)
        active, stalled = np.arange(count), np.zeros(count, dtype=bool)
        x, mixing = self.reached.copy(order="F"), Mixing(count, len(self.reached))
        passes, noise = self._low_precision(preconditioner)
        for step in range(MIXING_STEPS + 1):
            move = -for_columns(preconditioner, active)(gradient)
            length = np.sqrt(np.maximum(-dots(gradient, move), 0.0))
            better = length < shortest[active]
            self.reached[:, active[better]], shortest[active[better]] = x[:, better], length[better]
            gained = length < mark[active] / GAIN
            mark[active[gained]], marked_at[active[gained]] = length[gained], step
            if (length < noise).any():
                passes = self.objective
            # A column that has diverged must not enter the linear algebra that the others share.
            finite = np.isfinite(length)
            x = mixing.next(x, np.where(finite, move, 0.0), np.where(finite, -gradient, 0.0))
            done = self.rule.ends(active, x, length) & finite
            self.reached[:, active[done]] = x[:, done]
            slow = (step - marked_at[active] >= STALLED_AFTER) | ~finite | (step == MIXING_STEPS)
            stalled[active[slow & ~done]] = True
            keep = ~(slow | done)
            active = active[keep]
            if not active.size:
                break
            mixing.keep(keep)
            x = x[:, keep]
            gradient = passes.gradient(x, self.w.take(active))
        return np.flatnonzero(stalled)

    def _low_precision(self, preconditioner: Preconditioner) -> tuple[Objective, float]:
        """The objective in single precision, if it has one, and the length of the gradient down to which it is used.

        The rounding error is measured for the group with the largest weights.
        """
        count = self.w.groups
        single = self.objective.single(count) if count >= WORTH_PROBING else self.objective
        if single is self.objective:
            return single, 0.0
        at = np.array([int(np.argmax(self.w.squares()))])
        one = self.reached[:, at], self.w.take(at)
        off = single.gradient(*one) - self.objective.gradient(*one)
        return single, NOISE * float(np.sqrt(dots(off, for_columns(preconditioner, at)(off))[0]))

    def newton(self, groups: np.ndarray, preconditioner: Preconditioner) -> None:
        """Newton's method from ``reached`` for these groups (A,): with their own Hessians where these cost no more than
        the products that they save.  Otherwise, or where one is singular, by products: preconditioned with M as long as
        that solves a step in ``SERVED`` products, then, if it is cheap, with each group's own preconditioner."""
        objective, rest = self.objective, groups
        if isinstance(objective, Glm) and hessian_passes(objective) <= OWN_HESSIAN_PASSES:
            rest = self._newton(rest, lambda at: _by_factor(objective, at), objective.size**2)
        states = len(self.w.base) * objective.outputs
        rest = self._newton(
            rest, lambda at: _by_products(objective, at, for_columns(preconditioner, at.groups)), states
        )
        if objective.tuning.cheap_preconditioner:
            for part in memory_chunks(objective, rest):
                self._newton(part, lambda at: _by_products(objective, at, None), states)

    def _newton(self, groups: np.ndarray, solve: Callable[[_Point], Solution], numbers: int) -> np.ndarray:
        """Newton's method for these groups (A,), of which each keeps that many ``numbers``; returns the groups that
        ``solve`` did not serve."""
        wide = max(1, int(CURVATURE_NUMBERS / numbers))
        parts = [self._newton_together(groups[at : at + wide], solve) for at in range(0, len(groups), wide)]
        return np.concatenate([*parts, groups[:0]])

    def _newton_together(self, groups: np.ndarray, solve: Callable[[_Point], Solution]) -> np.ndarray:
        objective, w, rule = self.objective, self.w.take(groups), self.rule
        points = Points.at(objective, self.reached[:, groups], w)
        theta, gradient = points.theta, points.gradient
        active, unserved = np.arange(len(groups)), [groups[:0]]
        tight = np.zeros(len(groups), dtype=bool)
        rule.shortest[groups] = np.nan  # earlier lengths are in the norm of another Hessian
        for _ in range(NEWTON_STEPS):
            here = w.take(active)
            at = _Point(groups[active], theta[:, active], gradient[:, active], here, tight[active])
            solution = solve(at)
            length = np.sqrt(np.maximum(-dots(gradient[:, active], solution.x), 0.0))
            moved = line_search(objective, points, solution.x, active, here)
            self.reached[:, groups[active]] = theta[:, active]
            ends = rule.ends(groups[active], theta[:, active], length)
            done = ends & (solution.residual <= PROOF)
            tight[active] = rule.answered[groups[active]] | ends
            unserved.append(groups[active[~done & ~solution.converged]])
            active = active[~done & moved & solution.converged]
            if not active.size:
                break
        return np.concatenate(unserved)


@dataclass(frozen=True)
class _Point:
    """Where a Newton step starts: the ``groups`` (A,) at theta (P, A) with that gradient and weights w; steps that are
    ``tight`` (A,) are solved to ``PROOF``."""

    groups: np.ndarray
    theta: np.ndarray
    gradient: np.ndarray
    w: Weights
    tight: np.ndarray


def _by_factor(objective: Glm, at: _Point) -> Solution:
    """Newton steps with the groups' own Hessians, factored."""
    inverse, definite = inverses(objective, at.theta, at.w)
    status = np.where(definite, Status.SOLVED, Status.INDEFINITE).astype(np.int8)
    residual = np.where(definite, 0.0, np.inf)
    return Solution(-inverse(at.gradient), residual, np.zeros(len(definite), dtype=np.int64), status)


def _by_products(objective: Objective, at: _Point, inverse: Preconditioner | None) -> Solution:
    """Newton steps by products; if ``inverse`` is None, each group has its own preconditioner."""
    return refined_conjugate_gradient(
        HessianAt(objective, at.theta, at.w),
        -at.gradient,
        preconditioner=inverse if inverse is not None else per_column(objective, at.theta, at.w),
        tol=np.where(at.tight, PROOF, INNER),
        max_iterations=PATIENT if inverse is None else SERVED,
    )
