"""Given groups as candidates: each by itself, and the best union of a few of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter

import numpy as np

from influence_cli.analysis.question import TestRows
from influence_cli.analysis.selecting import (
    Choice,
    Entry,
    Question,
    Watch,
    finish,
    new_record,
    problem_of,
    questions,
    spread,
)
from influence_cli.core.selection.problem import Problem
from influence_cli.core.selection.unions import Pool, Union, exact_union, greedy_union, swap_union
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.results import Provenance, SelectionResult
from influence_cli.specs.plan import Group

SINGLE = "single"
"""What the record of a given group by itself is called."""


def select_unions(
    model: TrainedModel,
    solver: HessianSolver,
    tests: TestRows | None,
    groups: Sequence[Group],
    limit: int,
    choice: Choice,
    *,
    quantity: str = "loss",
    provenance: Provenance,
    watch: Watch = Watch(),
) -> SelectionResult:
    """Given groups as candidates: a record each, then one a strategy for its best union of at most ``limit``."""
    if not 1 <= limit <= len(groups):
        raise UsageError(
            f"--size {limit}: with --candidates it is the most groups in a union, and {len(groups)} are given",
            hint=f"give a number from 1 to {len(groups)}",
        )
    entries: list[Entry] = []
    for question in questions(model, tests, quantity):
        problem = problem_of(model, solver, question.target, 1, choice)
        pool = Pool(problem, tuple(group.rows for group in groups), limit)
        entries += _union_entries(pool, [group.label for group in groups], question, quantity, choice, watch)
    return finish(model, solver, tests, quantity, provenance, entries, choice, watch)


def _union_entries(
    pool: Pool, labels: Sequence[str], question: Question, quantity: str, choice: Choice, watch: Watch
) -> Iterator[Entry]:
    problem = pool.problem
    begun = perf_counter()
    watch.step(SINGLE)
    unions = list(pool.singles)
    share = (perf_counter() - begun) / len(unions)
    for union in unions:
        yield _union_entry(union, labels, problem, question, quantity, share)
    for strategy in choice.strategies:
        watch.step(strategy)
        begun = perf_counter()
        if strategy == "random":
            drawn = pool.draw(choice.draws)
            found = pool.unions("random", drawn)
            record = new_record("random", problem, question, quantity) | {
                "size": None,
                "fraction": None,
                "groups": None,
            }
            record |= {"predicted_first": float(np.mean([union.predicted_first for union in found]))}
            record |= {"draws": choice.draws}
            record |= spread("predicted_second", np.array([union.predicted_second for union in found]), problem.sign)
            record["seconds"] = perf_counter() - begun
            yield Entry(record, [union.rows for union in found], None, question.column)
            continue
        if strategy == "greedy":
            union = greedy_union(pool)
        elif strategy == "swap":
            union = swap_union(pool, merit=choice.merit, rounds=choice.rounds, advance=watch.step)
        else:
            union = exact_union(pool)
        yield _union_entry(union, labels, problem, question, quantity, perf_counter() - begun)


def _union_entry(
    union: Union, labels: Sequence[str], problem: Problem, question: Question, quantity: str, seconds: float
) -> Entry:
    record = new_record(union.strategy, problem, question, quantity)
    record |= {"size": len(union.rows), "fraction": len(union.rows) / problem.rows, "seconds": seconds}
    record |= {"predicted_first": union.predicted_first, "predicted_second": union.predicted_second}
    record |= {"rounds": union.rounds, "status": union.status, "groups": [labels[member] for member in union.members]}
    return Entry(record, [union.rows], union.rows, question.column)
