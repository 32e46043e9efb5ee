"""The k rows of highest first-order influence, which is additive (Koh et al. 2019): the baseline to beat."""

from __future__ import annotations

import numpy as np

from .expansion import Expansion
from .problem import Problem, Selection


def greedy(problem: Problem, expansion: Expansion) -> Selection:
    """Rank by v' grad l_i."""
    rows = problem.top(problem.sign * expansion.row_influence)
    return found("greedy", expansion, rows)


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
    s = expansion.problem.indicator([rows])
    first, second = float(expansion.first(s)[0]), float(expansion.second(s)[0])
    return Selection(strategy, rows, first, second, realised, rounds, status)
