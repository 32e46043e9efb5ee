"""The change of f on removal of each group, after one Newton step or after retraining, for blocks of groups at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.core.estimators import newton_step, removed_gradient
from influence_cli.core.optimise.minimum import Minimum
from influence_cli.core.optimise.newton import inverses
from influence_cli.core.optimise.restarts import has_cheap_factor
from influence_cli.core.outcome import Trained, after_removal
from influence_cli.core.quantities import under
from influence_cli.core.recession import FAR_OUT
from influence_cli.core.removal import Removal, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.selection.problem import Problem
from influence_cli.core.selection.second_order import blocks
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.weights import Weights

AUTO, SECOND, NEWTON, RETRAINED = "auto", "second", "newton", "retrained"
MERITS = (AUTO, SECOND, NEWTON, RETRAINED)
GAIN = 1e-8
"""Relative gain below which two groups count as equal: retraining does not determine f more closely."""

PROMISING = 16
"""Groups that are retrained, at least, out of those that one Newton step has ranked."""


@dataclass(frozen=True)
class Evaluated:
    """``theta`` (P, G), the parameters without each group, and ``change`` (G,), f after removal minus f before.

    Where there is no minimum, ``change`` is the limit of f, which may be infinite; it is NaN where f has no value.
    """

    theta: np.ndarray
    change: np.ndarray


def evaluate(
    problem: Problem,
    merit: str,
    groups: Sequence[np.ndarray],
    start: np.ndarray | None = None,
    preconditioner: Preconditioner | None = None,
) -> Evaluated:
    """Evaluate the groups by one Newton step if ``merit`` is ``newton``, else by retraining.

    Retraining starts from ``start`` (P, 1), by default the trained theta, and uses the ``preconditioner`` that belongs
    to that point, by default the solver's.
    """
    start = problem.theta if start is None else start
    preconditioner = preconditioner or problem.solver.preconditioner
    theta = np.empty((problem.objective.size, len(groups)), order="F")
    change = np.empty(len(groups))
    for part in blocks(problem, len(groups)):
        weights = removal(problem.objective.weights, groups[part], problem.scaling)
        if merit == NEWTON:
            theta[:, part], change[part] = _newton(problem, weights)
        else:
            theta[:, part], change[part] = _retrained(problem, weights, start, preconditioner)
    return Evaluated(theta, change)


def promising(problem: Problem, groups: list[np.ndarray], start: np.ndarray) -> list[np.ndarray]:
    """The groups that are worth retraining: the ``PROMISING`` of highest worth after one Newton step from ``start``,
    and all groups that have no such step or no minimum.

    ``start`` (P, 1) are the parameters without a group that differs from these by a few rows.  Where a Hessian for each
    group is not cheap, all groups are returned.
    """
    objective = problem.objective
    if len(groups) <= PROMISING or not has_cheap_factor(objective):
        return groups
    expected = np.empty(len(groups))
    for part in blocks(problem, len(groups)):
        w = removal(objective.weights, groups[part], problem.scaling).removed
        gradient = objective.gradient(start, w)
        inverse, definite = inverses(objective, np.asfortranarray(np.broadcast_to(start, gradient.shape)), w)
        change = under(problem.target, w).value(start - inverse(gradient))[0] - problem.base
        open_ended = ~definite | objective.recession(w).any(axis=0)
        expected[part] = np.where(open_ended, np.inf, worth(problem, change))
    count = max(PROMISING, int(np.isposinf(expected).sum()))
    return [groups[at] for at in np.sort(np.argsort(-expected, kind="stable")[:count])]


def worth(problem: Problem, change: np.ndarray) -> np.ndarray:
    """The figure that searches maximise, sign * change, (G,); -inf for groups whose change is NaN."""
    return np.where(np.isnan(change), -np.inf, problem.sign * change)


def known(problem: Problem, value: float) -> float:
    """The change of f whose worth is ``value``; NaN if ``value`` is -inf."""
    return float("nan") if value == -np.inf else problem.sign * value


def improves(new: float, old: float) -> bool:
    """Whether ``new`` exceeds ``old`` by more than the relative gain ``GAIN``."""
    return new > old + (GAIN * abs(old) if np.isfinite(old) else 0.0)


def _newton(problem: Problem, weights: Removal) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (P, G) after one Newton step on J(.; w_removed), and the change of f there, (G,).

    f itself is not linearised, so that the result is exact for a linear regression.
    """
    g = removed_gradient(problem.objective, problem.theta, weights)
    solution = newton_step(problem.objective, problem.theta, problem.solver, weights, g)
    theta = problem.theta + solution.x
    change = under(problem.target, weights.removed).value(theta)[0] - problem.base
    change[~solution.converged] = np.nan
    return theta, change


def _retrained(
    problem: Problem, weights: Removal, start: np.ndarray, preconditioner: Preconditioner
) -> tuple[np.ndarray, np.ndarray]:
    objective, w = problem.objective, weights.removed
    minimum = retrain(objective, start, w, preconditioner=preconditioner, tol=objective.tuning.tolerance)
    return change_after(problem, minimum, w)


def change_after(problem: Problem, minimum: Minimum, w: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (P, G) and changes of f (G,) for groups that were retrained to ``minimum`` under the weights w.

    Where a class has lost all its rows, the change is that of the limit of f, and theta is a finite point from which
    a search can continue.
    """
    objective, tol = problem.objective, problem.objective.tuning.tolerance
    before = Trained(problem.theta, np.array([problem.base]), np.zeros(1))
    outcome = after_removal(objective, [under(problem.target, w)], before, minimum, w, tol)
    change = np.where(outcome.minimum.converged, outcome.change[0], np.nan)
    return outcome.minimum.theta - FAR_OUT * objective.recession(w), change
