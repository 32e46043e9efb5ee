"""The k rows of highest first-order influence (Koh et al. 2019), the baseline for the other strategies."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.glm import Glm
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.selection.problem import Problem, Selection
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.weights import NO_ROWS
from influence_cli.errors import UNBOUNDED

ENDLESS = UNBOUNDED + "without this group f grows for ever: no group has a larger effect"
RIF_OPERATIONS = 1e9
"""Multiply-adds up to which the leverages of all rows are computed, at most about a second; searches then also start
from the group that they suggest."""


def greedy(problem: Problem, expansion: Expansion) -> Selection:
    """The group of highest first-order influence, which is found exactly."""
    return found("greedy", expansion, leading(expansion, problem.sign))


def leading(expansion: Expansion, sign: float) -> np.ndarray:
    """The k candidates that maximise sign * first, sorted.

    With equal weights these are the rows of highest sign * v' grad l_i.  Otherwise the share of the weights depends on
    the rows of the group, and first is a ratio of two linear functions of the group.  Ranking by its slope at the best
    group so far is then Dinkelbach's method (1967), which reaches the maximum after a few rounds.
    """
    problem = expansion.problem
    s, best, rows = problem.members([NO_ROWS]), -np.inf, problem.candidates
    while True:
        higher = problem.top(sign * expansion.first_slope(s))
        s = problem.members([higher])
        value = sign * float(expansion.first(s)[0])
        if value <= best:
            return rows
        rows, best = higher, value


def strongest(expansion: Expansion) -> list[np.ndarray]:
    """The k candidates whose removal, each by itself, increases sign * f most after one Newton step (``core.rif``).

    The result is a list with this one group, or an empty list where the leverages are too expensive.  First-order
    influence ignores leverage, and thus overlooks a row that alone provides the curvature in some direction.
    """
    problem = expansion.problem
    objective, solver = problem.objective, problem.solver
    if not isinstance(objective, Glm) or solver.kind == "cg":
        return []
    each = objective.size if solver.kind == "cholesky" else problem.rows * objective.outputs**2
    if float(problem.rows) * objective.size * each > RIF_OPERATIONS:
        return []
    singles = SingleRemovals(objective, problem.theta, solver, problem.scaling)
    changes = problem.sign * singles.of_each(expansion.adjoint)
    first = problem.sign * problem.objective.weights * expansion.row_influence
    # Without a row of leverage 1 a parameter is not estimable: such a row ranks before or behind all others.
    endless = np.where(first > 0, np.inf, np.where(first < 0, -np.inf, 0.0))
    return [problem.top(np.where(np.isnan(changes), endless, changes))]


def found(
    strategy: str,
    expansion: Expansion,
    rows: np.ndarray,
    *,
    realised: float = float("nan"),
    rounds: int = 0,
    status: str = "ok",
    optimal: bool = False,
) -> Selection:
    """A selection of ``rows`` with their first- and second-order estimates."""
    if np.isinf(realised):
        status = ENDLESS if status == "ok" else f"{ENDLESS}; {status}"
    s = expansion.problem.members([rows])
    first, second = float(expansion.first(s)[0]), float(expansion.second(s)[0])
    return Selection(strategy, rows, first, second, realised, rounds, status, optimal)
