"""Estimated changes of the parameters from removal weights, for whole blocks of groups at once (docs/design.md,
sections 2.2 and 2.3).

On the path w(eps) = w + eps delta, with g = sum_i delta_i grad l_i and D = sum_i delta_i hess l_i at theta*, and u =
H^-1 g = -theta1, the changes on removal (eps = -1) are

    first-koh     H^-1 sum_U w_i grad l_i           Koh et al. 2019: the sum of individual influences
    first         u                                 Basu, You and Feizi, Eq. 12
    second        H^-1 (g + D u)                    the same, Theorem 1 at eps = -1, which is Eq. 17
    second-full   H^-1 (g + D u - J'''[u, u] / 2)   Giordano et al. 2019: the third derivative is kept
    newton        (H - D)^-1 g                      one Newton step on J(.; w_removed): Pregibon 1981
    rif           sum_U of each row's own newton    Rubinstein and Hopkins 2025; core.rif

The paper's Eq. 9 adds theta1 + theta2, the effect of up-weighting (eps = +1); applied to removal, it has the wrong
sign.

All but ``newton`` are H^-1 times a known right-hand side.  For a linear functional f, H^-1 grad f of each test row
therefore serves every group and the last solve can be omitted: an ``Estimate`` holds the right-hand side, and the
solution where there is one.
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
"""Iterations within which the curvature of the trained model, as preconditioner, should solve a Newton step."""
MOST = 0.5
"""Share of the weight above which products visit the kept rows rather than the removed ones."""
EVALUATIONS = ("linear", "exact")
METHODS = ("first-koh", "first", "second", "second-full", "newton", "rif")


@dataclass(frozen=True)
class Estimate:
    """A change of theta (P, G), given itself or as H^-1 ``rhs``.  ``problems`` (G,) is "ok" or says what failed;
    ``conditions`` (G,), where computed, are approximate condition numbers of the Hessian after removal."""

    change: np.ndarray | None
    rhs: np.ndarray | None
    problems: tuple[str, ...]
    conditions: np.ndarray | None = None

    def solved(self, solver: HessianSolver) -> Estimate:
        """The same estimate with its ``change`` computed."""
        if self.change is not None or self.rhs is None:
            return self
        solution = solver.solve(self.rhs)
        return Estimate(solution.x, self.rhs, _merge(self.problems, _problems(solution)))


def linear_change(estimate: Estimate, gradients: np.ndarray, adjoints: np.ndarray) -> np.ndarray:
    """grad f(theta*)' change, (G, T): the paper's Eq. 16.

    ``gradients`` (P, T) is grad f and ``adjoints`` (P, T) is H^-1 grad f, one solve for each test row: an estimate that
    is given as H^-1 rhs needs no solve of its own.
    """
    if estimate.rhs is not None:
        return estimate.rhs.T @ adjoints
    assert estimate.change is not None
    return estimate.change.T @ gradients


def exact_change(solved: Estimate, target: Target, theta: np.ndarray, base: np.ndarray) -> np.ndarray:
    """f(theta* + change) - f(theta*), (G, T), of an estimate whose change is computed; ``base`` is f(theta*), (T,), or
    (T, G) where it differs by group."""
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
    """The changes of theta (P, 1) on removal of each group, by method; ``rif`` needs ``singles``.

    Takes at most one solve per group for first, second and second-full together, and one for newton.
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
        # H u = g replaces the product with the curvature of all rows: only the group's rows are visited.
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
    """g = sum_i delta_i grad l_i at theta (P, 1), plus the change of the penalty's gradient on removal: (P, G)."""
    of_loss = groups.along(objective.loss_gradient(theta, groups.member), objective.training_gradient(theta))
    return of_loss + objective.penalty.removed(theta, groups.removed.penalty)


def newton_step(
    objective: Objective, theta: np.ndarray, solver: HessianSolver, groups: Removal, g: np.ndarray
) -> Solution:
    """(H - D)^-1 g, (P, G): the Newton step with the Hessian after removal, preconditioned by the solver's factor of H.

    Where the factor is exact, so that it solves with H itself, products with D suffice, and these read only the groups'
    rows.
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

    Where the factor needs too many iterations, because the group accounts for much of the Hessian, a preconditioner of
    each column's own Hessian replaces it, if the model has a cheap one.
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
