"""Groups of randomly drawn rows, the baseline of Basu et al. (2020), who draw 100 groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from influence_cli.core.selection.problem import Problem
from influence_cli.core.selection.second_order import Expansion


@dataclass(frozen=True)
class Draws:
    """``groups`` of random rows, with first- and second-order estimates of their changes of f, (N,) each."""

    groups: tuple[np.ndarray, ...]
    predicted_first: np.ndarray
    predicted_second: np.ndarray


def random(problem: Problem, expansion: Expansion, draws: int = 100) -> Draws:
    """Draw groups of k candidates; a larger number of ``draws`` begins with the same groups."""
    rng = problem.rng()
    groups = [np.sort(rng.choice(problem.candidates, problem.size, replace=False)) for _ in range(draws)]
    first, second = [], []
    step = max(1, int(32e6 / (8 * problem.rows)))
    for start in range(0, draws, step):
        s = problem.members(groups[start : start + step])
        first.append(expansion.first(s))
        second.append(expansion.second(s))
    return Draws(tuple(groups), np.concatenate(first), np.concatenate(second))
