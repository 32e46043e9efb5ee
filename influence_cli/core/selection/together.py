"""Searches that run side by side, so that one retraining of a block of groups answers the next request of several.

On a small table the time of a retraining depends on the number of calls, not of groups.  A search is a generator: it
yields a ``Wish``, is sent the answer, and returns its result.
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
"""Largest number of searches that run side by side; each of them stores a few numbers for every row."""
SEARCH_BYTES, SEARCHES_SHARE = 64, 1 / 8
"""Approximate bytes that a search stores for every row, and the share of ``--memory`` that all searches may use."""


@dataclass(frozen=True)
class Wish:
    """A request to retrain ``groups`` from ``theta`` (P, 1), whose answer is ``Evaluated``.

    With ``ranking`` it is a request for ``Problem.scores_at`` (m,): ``groups`` has one group, and theta are the
    parameters without it.
    """

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
    """The groups after retraining, as in ``evaluate``."""
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
    """The result of one search that runs by itself."""
    return side_by_side([search])[0]


def at_once(problem: Problem) -> int:
    """How many searches should run side by side: one if the time of retraining grows with the groups."""
    if not newton_alone(problem.objective):
        return 1
    return int(min(SEARCHES, max(1.0, at_most(float("inf"), SEARCHES_SHARE) / (SEARCH_BYTES * problem.rows))))


def side_by_side(searches: Sequence[Steps[T]]) -> list[T]:
    """The result of each search; all problems have the same objective and scaling."""
    ends: dict[int, T] = {}
    wishes: dict[int, Wish] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(searches)))
    while answers:
        for number, answer in answers.items():
            try:
                wishes[number] = searches[number].send(answer)
            except StopIteration as end:
                ends[number] = end.value
        # Rankings come first: afterwards all remaining searches wait for a retraining, and one block serves them all.
        ranking = any(wish.ranking for wish in wishes.values())
        alike = [number for number, wish in wishes.items() if wish.ranking == ranking]
        asked = [wishes.pop(number) for number in alike]
        answers = {}
        for part in _blocks(asked):
            block_answers = _ranked(asked[part]) if ranking else _valued(asked[part])
            answers |= zip(alike[part], block_answers, strict=True)
    return [ends[number] for number in range(len(searches))]


def _blocks(wishes: list[Wish]) -> list[slice]:
    """Slices over wishes that are answered together: those that fill a block if blocks save time, else one."""
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
    """The starts (P, G) of the groups of all wishes, their weights, and the preconditioner of each group."""
    problem = wishes[0].problem
    groups = [rows for wish in wishes for rows in wish.groups]
    theta = np.hstack([np.repeat(wish.theta, len(wish.groups), axis=1) for wish in wishes])
    each = tuple(wish.preconditioner for wish in wishes for _ in wish.groups)
    return theta, removal(problem.objective.weights, groups, problem.scaling).removed, PerColumn(each)
