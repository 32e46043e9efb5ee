"""The k rows of highest first-order influence (Koh et al. 2019): the baseline to beat."""

from __future__ import annotations

import numpy as np

from influence_cli.core.selection.problem import Problem, Selection
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.weights import NO_ROWS


def greedy(problem: Problem, expansion: Expansion) -> Selection:
    """The best group of the first order, exactly."""
    return found("greedy", expansion, leading(expansion, problem.sign))


def leading(expansion: Expansion, sign: float) -> np.ndarray:
    """The k candidates that maximise sign * first, sorted.

    With equal weights those of highest v' grad l_i.  Otherwise a group's share of the weights depends on its rows, and
    first is a ratio of two linear functions of the group: ranking by its slope at the best group so far is Dinkelbach's
    method (1967), which ends at the maximum after a few rounds.
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


def found(
    strategy: str,
    expansion: Expansion,
    rows: np.ndarray,
    *,
    realised: float = float("nan"),
    rounds: int = 0,
    status: str = "ok",
) -> Selection:
    """A selection with both predictions of its rows."""
    s = expansion.problem.members([rows])
    first, second = float(expansion.first(s)[0]), float(expansion.second(s)[0])
    return Selection(strategy, rows, first, second, realised, rounds, status)
