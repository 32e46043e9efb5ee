"""Searches side by side: what several of them want to know next is answered by one retraining of a block.

On a small table a retraining takes its time per call, not per group.  A search is a generator: it yields a ``Wish``,
is sent the answer, and returns what it found.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from influence_cli.core.removal import removal
from influence_cli.core.retraining import newton_alone, retrain
from influence_cli.core.selection.evaluate import RETRAINED, Evaluated, change_after, evaluate
from influence_cli.core.selection.problem import Problem, scores_at
from influence_cli.core.selection.second_order import block_size
from influence_cli.core.solvers.preconditioners import PerColumn, Preconditioner
from influence_cli.core.weights import Weights
from influence_cli.memory import at_most

T = TypeVar("T")
SEARCHES = 128
"""Searches that are side by side, each of which keeps a few numbers for every row, where a block serves several."""
SEARCH_BYTES, SEARCHES_SHARE = 64, 1 / 8
"""What a search keeps for every row, about, and the share of ``--memory`` that all of them may take."""


@dataclass(frozen=True)
class Wish:
    """To have ``groups`` retrained from ``theta`` (P, 1): answered with ``Evaluated``.  Or, ``ranking``, the slope of f
    in each row's share of the one group at theta, the parameters without it: answered with ``Problem.scores_at``."""

    problem: Problem
    groups: Sequence[np.ndarray]
    theta: np.ndarray
    preconditioner: Preconditioner
    ranking: bool = False


Steps = Generator[Wish, Any, T]


def valued(
    problem: Problem,
    groups: Sequence[np.ndarray],
    theta: np.ndarray | None = None,
    preconditioner: Preconditioner | None = None,
) -> Steps[Evaluated]:
    """The groups retrained, as ``evaluate`` says."""
    start = problem.theta if theta is None else theta
    evaluated: Evaluated = yield Wish(problem, groups, start, preconditioner or problem.solver.preconditioner)
    return evaluated


def ranked(
    problem: Problem, rows: np.ndarray, theta: np.ndarray, preconditioner: Preconditioner | None = None
) -> Steps[np.ndarray]:
    """The scores (m,) of all rows at theta (P, 1), the parameters without ``rows``."""
    inverse = preconditioner or problem.solver.preconditioner
    order: np.ndarray = yield Wish(problem, [rows], theta, inverse, ranking=True)
    return order


def alone(search: Steps[T]) -> T:
    """What one search finds by itself."""
    return side_by_side([search])[0]


def at_once(problem: Problem) -> int:
    """Searches of such problems that gain by being side by side: one where retraining takes its time for each group."""
    if not newton_alone(problem.objective):
        return 1
    return int(min(SEARCHES, max(1.0, at_most(float("inf"), SEARCHES_SHARE) / (SEARCH_BYTES * problem.rows))))


def side_by_side(searches: Sequence[Steps[T]]) -> list[T]:
    """What each search finds; their problems have one objective and one scaling."""
    ends: dict[int, T] = {}
    wishes: dict[int, Wish] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(searches)))
    while answers:
        for number, answer in answers.items():
            try:
                wishes[number] = searches[number].send(answer)
            except StopIteration as end:
                ends[number] = end.value
        # Rankings first: then all searches that are left wait for a retraining, and one block has them all.
        ranking = any(wish.ranking for wish in wishes.values())
        alike = [number for number, wish in wishes.items() if wish.ranking == ranking]
        asked = [wishes.pop(number) for number in alike]
        answers = {}
        for part in _blocks(asked):
            block_answers = _ranked(asked[part]) if ranking else _valued(asked[part])
            answers |= zip(alike[part], block_answers, strict=True)
    return [ends[number] for number in range(len(searches))]


def _blocks(wishes: list[Wish]) -> list[slice]:
    """Slices over wishes that are answered together: as many groups as one block takes, where that is of use."""
    if not wishes:
        return []
    problem, out, first, groups = wishes[0].problem, [], 0, 0
    most = block_size(problem) if newton_alone(problem.objective) else 0
    for number, wish in enumerate(wishes):
        if number > first and groups + len(wish.groups) > most:
            out.append(slice(first, number))
            first, groups = number, 0
        groups += len(wish.groups)
    return [*out, slice(first, len(wishes))]


def _valued(wishes: list[Wish]) -> list[Evaluated]:
    if len(wishes) == 1:
        one = wishes[0]
        return [evaluate(one.problem, RETRAINED, one.groups, one.theta, one.preconditioner)]
    theta, weights, inverse = _joined(wishes)
    objective = wishes[0].problem.objective
    minimum = retrain(objective, theta, weights, preconditioner=inverse, tol=objective.tuning.tolerance)
    out, first = [], 0
    for wish in wishes:
        columns = np.arange(first, first + len(wish.groups))
        first += len(columns)
        out.append(Evaluated(*change_after(wish.problem, minimum.take(columns), weights.take(columns))))
    return out


def _ranked(wishes: list[Wish]) -> list[np.ndarray]:
    theta, weights, inverse = _joined(wishes)
    return list(scores_at([wish.problem for wish in wishes], theta, weights, inverse).T)


def _joined(wishes: list[Wish]) -> tuple[np.ndarray, Weights, PerColumn]:
    """Where the groups of all wishes start (P, G), their weights, and the preconditioner of each."""
    problem = wishes[0].problem
    groups = [rows for wish in wishes for rows in wish.groups]
    theta = np.hstack([np.repeat(wish.theta, len(wish.groups), axis=1) for wish in wishes])
    each = tuple(wish.preconditioner for wish in wishes for _ in wish.groups)
    return theta, removal(problem.objective.weights, groups, problem.scaling).removed, PerColumn(each)
