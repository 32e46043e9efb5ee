"""Exhaustive search by retraining: the reference for the other strategies on small problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, islice
from math import comb

import numpy as np

from influence_cli.core.selection.evaluate import RETRAINED, evaluate, known, worth
from influence_cli.core.selection.greedy import found, leading
from influence_cli.core.selection.problem import Problem, Selection
from influence_cli.core.selection.second_order import Expansion
from influence_cli.errors import UsageError

MOST_SUBSETS = 100_000
"""Groups up to which all of them are retrained; each of them costs one retraining."""
BLOCK = 1024
"""Groups that one call of ``evaluate`` retrains."""


def subsets(problem: Problem) -> int:
    """The number of groups of k candidates."""
    return comb(len(problem.candidates), problem.size)


def exact(problem: Problem, expansion: Expansion, *, advance: Callable[[int], None] = lambda done: None) -> Selection:
    """Retrain without each group of k candidates.  Raises UsageError if there are more than ``MOST_SUBSETS`` groups."""
    count = subsets(problem)
    if count > MOST_SUBSETS:
        number = f"{count:,}" if count < 10**15 else f"about 1e{len(str(count)) - 1}"
        raise UsageError(
            f"--strategy exact retrains without every group: there are {number} of {problem.size:,} of"
            f" {len(problem.candidates):,} rows, and at most {MOST_SUBSETS:,} are tried",
            hint="use --strategy relinearize,swap, or allow fewer rows with --within",
        )
    best, rows, failed = -np.inf, None, 0
    for groups in _in_blocks(problem):
        change = evaluate(problem, RETRAINED, groups).change
        failed += int(np.isnan(change).sum())
        values = worth(problem, change)
        at = int(np.argmax(values))
        if values[at] > best:
            best, rows = float(values[at]), groups[at]
        advance(len(groups))
    status = "ok" if not failed else f"{failed:,} of {count:,} groups have no finite value and were left out"
    if rows is None:
        rows = leading(expansion, problem.sign)
        return found("exact", expansion, rows, rounds=count, status=status)
    return found(
        "exact", expansion, rows, realised=known(problem, best), rounds=count, status=status, optimal=not failed
    )


def _in_blocks(problem: Problem) -> Iterator[list[np.ndarray]]:
    every = combinations(problem.candidates.tolist(), problem.size)
    while chunk := list(islice(every, BLOCK)):
        yield list(np.array(chunk, dtype=np.int64))
