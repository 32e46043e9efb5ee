"""Estimates where removal changes more than weights and penalty: for one group whose kept rows have other features.

Let J_g be the objective without the group, on the changed rows with their weights and penalty, and J that of the
trained model, with Hessians H_g and H.  The path from J to J_g has, in the notation of ``core.estimators``,

    g = grad J - grad J_g        D = H - H_g        both at theta*

each of which takes one pass over the changed rows.  Since H u = g, D u = g - H_g u.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.core.conditions import conditions
from influence_cli.core.estimators import Estimate, estimate, removed_gradient
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.removal import Removal
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.solvers.refinement import HessianAt, refined_conjugate_gradient
from influence_cli.core.weights import Weights

ROWS_ALONE = ("first-koh", "rif")
"""Methods that are sums over the group's own rows; ``rif`` takes the other changes into account in g only."""


@dataclass(frozen=True)
class Changed:
    """The objective on the changed rows, and its weights and penalty without the group."""

    objective: Objective
    weights: Weights


def estimate_changed(
    objective: Objective,
    theta: np.ndarray,
    solver: HessianSolver,
    group: Removal,
    changed: Changed,
    methods: Sequence[str],
    singles: SingleRemovals | None = None,
) -> dict[str, Estimate]:
    """The changes of theta (P, 1) on removal of one group by each of the ``methods``, in ``Estimate`` objects for one
    column.

    ``group`` is its removal from ``objective``, whose rows are unchanged; ``rif`` needs ``singles``.
    """
    after = changed.weights
    of_rows = tuple(method for method in methods if method in ROWS_ALONE)
    out = estimate(objective, theta, solver, group, of_rows, singles) if of_rows else {}
    # grad J at theta* is not exactly 0, and what remains of it is no effect of the group.
    g = objective.gradient(theta, objective.weights) - changed.objective.gradient(theta, after)
    if "rif" in out:
        rest = g - removed_gradient(objective, theta, group)
        rhs = out["rif"].rhs
        assert rhs is not None
        out["rif"] = Estimate(None, rhs + rest, out["rif"].problems)
    if "first" in methods or "second" in methods or "second-full" in methods:
        solution = solver.solve(g)
        u, problems = solution.x, (solution.why(0),)
        out["first"] = Estimate(u, g, problems)
        rhs = 2.0 * g - changed.objective.curvature(theta, after)(u)
        out["second"] = Estimate(None, rhs, problems)
        if "second-full" in methods:
            out["second-full"] = Estimate(None, rhs - 0.5 * objective.third(theta, objective.weights, u), problems)
    if "newton" in methods:
        solution = refined_conjugate_gradient(
            HessianAt(changed.objective, theta, after), g, preconditioner=solver.preconditioner, tol=solver.tol
        )
        out["newton"] = Estimate(solution.x, None, (solution.why(0),), conditions(changed.objective, theta, after))
    return {method: out[method] for method in methods}
