"""From removal weights to estimated changes of the parameters, whole blocks of groups at once.

On the path w(eps) = w + eps delta, with g = sum_i delta_i grad l_i and D = sum_i delta_i hess l_i at theta*, and
u = H^-1 g = -theta1, the changes on removal (eps = -1) are

    first-koh     H^-1 sum_U w_i grad l_i           Koh et al. 2019: the sum of individual influences
    first         u                                 Basu, You and Feizi, Eq. 12
    second        H^-1 (g + D u)                    the same, Theorem 1 at eps = -1, which is Eq. 17
    second-full   H^-1 (g + D u - J'''[u, u] / 2)   Giordano et al. 2019: the third derivative kept
    newton        (H - D)^-1 g                      one Newton step on J(.; w_removed): Pregibon 1981
    rif           sum_U of each row's own newton    Rubinstein and Hopkins 2025; core.single_removals

The paper's Eq. 9 adds theta1 + theta2, the effect of up-weighting (eps = +1); taken for removal its sign is wrong.

All but ``newton`` are H^-1 times something known.  So for a linear functional f of few test rows, H^-1 grad f serves
every group, and the last solve is never made: an ``Estimate`` keeps what was solved and what need not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.core.arrays import columns_of
from influence_cli.core.conditions import conditions
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.restarts import memory_chunks, per_column
from influence_cli.core.quantities import Target
from influence_cli.core.removal import Removal
from influence_cli.core.removed_hessian import RemovedHessian
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.solvers.cg import MAX_ITERATIONS, Solution, unsolved
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.solvers.refinement import HessianAt, refined_conjugate_gradient

PATIENCE = 100
"""Iterations in which a Newton step should be solved by the curvature of the trained model."""
MOST = 0.5
"""Share of the weight up to which products read the rows that are removed, and not those that are kept."""
EVALUATIONS = ("linear", "exact")
METHODS = ("first-koh", "first", "second", "second-full", "newton", "rif")


@dataclass(frozen=True)
class Estimate:
    """A change of theta (P, G), known by itself or as H^-1 ``rhs``.  ``problems`` (G,) is "ok" or says what failed;
    ``conditions`` (G,), where they were looked at, are about those of the Hessian that was solved with."""

    change: np.ndarray | None
    rhs: np.ndarray | None
    problems: tuple[str, ...]
    conditions: np.ndarray | None = None

    def solved(self, solver: HessianSolver) -> Estimate:
        """The same with ``change`` at hand."""
        if self.change is not None or self.rhs is None:
            return self
        solution = solver.solve(self.rhs)
        return Estimate(solution.x, self.rhs, _merge(self.problems, _problems(solution)))


def linear_change(estimate: Estimate, gradients: np.ndarray, adjoints: np.ndarray) -> np.ndarray:
    """grad f(theta*)' change, (G, T): the paper's Eq. 16.

    ``gradients`` (P, T) is grad f and ``adjoints`` (P, T) is H^-1 grad f, one solve a test row: an estimate known as
    H^-1 rhs needs no solve of its own.
    """
    if estimate.rhs is not None:
        return estimate.rhs.T @ adjoints
    assert estimate.change is not None
    return estimate.change.T @ gradients


def exact_change(solved: Estimate, target: Target, theta: np.ndarray, base: np.ndarray) -> np.ndarray:
    """f(theta* + change) - f(theta*), (G, T), of an estimate whose change is at hand; ``base`` is f(theta*),
    (T,), or (T, G) where it differs by group."""
    assert solved.change is not None
    return (target.value(theta + solved.change) - columns_of(base)).T


def estimate(
    objective: Objective,
    theta: np.ndarray,
    solver: HessianSolver,
    groups: Removal,
    methods: Sequence[str],
    singles: SingleRemovals | None = None,
) -> dict[str, Estimate]:
    """The changes of theta (P, 1) on removal of each group, method by method; ``rif`` needs ``singles``.

    At most one solve a group for all of first, second and second-full together, and one for newton.
    """
    count = len(groups.share)
    fine = ("ok",) * count
    out: dict[str, Estimate] = {}
    if "first-koh" in methods:
        out["first-koh"] = Estimate(None, objective.loss_gradient(theta, groups.member), fine)
    if "rif" in methods:
        assert singles is not None
        out["rif"] = Estimate(None, *singles.sums(groups))
    if set(methods) <= {"first-koh", "rif"}:
        return {method: out[method] for method in methods}
    g = removed_gradient(objective, theta, groups)
    out["first"] = Estimate(None, g, fine)
    second = [method for method in ("second", "second-full") if method in methods]
    if second:
        solution = solver.solve(g)
        u, problems = solution.x, _problems(solution)
        out["first"] = Estimate(u, g, problems)
        # H u = g, so that of all rows' loss curvature no product is needed: only the group's rows are visited.
        curved = groups.along(
            objective.loss_curvature(theta, groups.member)(u),
            g - objective.penalty.product(u) - objective.damping * u,
        )
        curved += objective.penalty.removed(u, groups.removed.penalty)
        rhs = g + curved
        out["second"] = Estimate(None, rhs, problems)
        if "second-full" in second:
            bent = objective.third(theta, objective.weights, u)
            out["second-full"] = Estimate(None, rhs - 0.5 * bent, problems)
    if "newton" in methods:
        solution = newton_step(objective, theta, solver, groups, g)
        known = conditions(objective, theta, groups.removed, solver, groups)
        out["newton"] = Estimate(solution.x, None, _problems(solution), known)
    return {method: out[method] for method in methods}


def removed_gradient(objective: Objective, theta: np.ndarray, groups: Removal) -> np.ndarray:
    """g = sum_i delta_i grad l_i at theta (P, 1), and what removal takes from the penalty's gradient: (P, G)."""
    of_loss = groups.along(objective.loss_gradient(theta, groups.member), objective.training_gradient(theta))
    return of_loss + objective.penalty.removed(theta, groups.removed.penalty)


def newton_step(
    objective: Objective, theta: np.ndarray, solver: HessianSolver, groups: Removal, g: np.ndarray
) -> Solution:
    """(H - D)^-1 g, (P, G): the Hessian after removal, with the solver's factor of H as preconditioner.

    Where the factor solves with H itself, products with D, which read the groups' rows alone, are enough.
    """
    few = np.flatnonzero(solver.exact & (groups.share <= MOST))
    if not few.size:
        return _by_all_rows(objective, theta, solver, groups, g, np.arange(g.shape[1]))
    removed = RemovedHessian(objective, theta, solver, groups, few)
    solution = unsolved(g).continue_with(few, removed.solve(g[:, few], tol=solver.tol, max_iterations=PATIENCE))
    rest = np.flatnonzero(~solution.converged)
    if rest.size:
        solution = solution.continue_with(
            rest, _by_all_rows(objective, theta, solver, groups, g[:, rest], rest, start=solution.x[:, rest])
        )
    return solution


def _by_all_rows(
    objective: Objective,
    theta: np.ndarray,
    solver: HessianSolver,
    groups: Removal,
    g: np.ndarray,
    which: np.ndarray,
    start: np.ndarray | None = None,
) -> Solution:
    """(H - D)^-1 g, (P, A), of the groups ``which`` (A,), by products over all kept rows.

    Where the factor leaves too many iterations, because the group has taken much of the Hessian with it, each column's
    own approximation takes its place if it is light.
    """
    kept = groups.removed.take(which)
    solution = refined_conjugate_gradient(
        HessianAt(objective, theta, kept),
        g,
        preconditioner=solver.preconditioner,
        tol=solver.tol,
        max_iterations=PATIENCE if objective.tuning.cheap_preconditioner else MAX_ITERATIONS,
        start=start,
    )
    if not objective.tuning.cheap_preconditioner:
        return solution
    for part in memory_chunks(objective, np.flatnonzero(~solution.converged & ~solution.indefinite)):
        removed = kept.take(part)
        curvature = per_column(objective, np.repeat(theta, len(part), axis=1), removed)
        rest = refined_conjugate_gradient(
            HessianAt(objective, theta, removed),
            g[:, part],
            preconditioner=curvature,
            tol=solver.tol,
            start=solution.x[:, part],
        )
        solution = solution.continue_with(part, rest)
    return solution


def _problems(solution: Solution) -> tuple[str, ...]:
    return tuple("ok" if solved else solution.why(column) for column, solved in enumerate(solution.converged))


def _merge(a: Sequence[str], b: Sequence[str]) -> tuple[str, ...]:
    return tuple(second if first == "ok" else first for first, second in zip(a, b, strict=True))
