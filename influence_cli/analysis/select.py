"""The most influential group of rows: one record a strategy, size and test row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import comb
from time import perf_counter

import numpy as np

from influence_cli.analysis.question import TestRows, make_targets
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
from influence_cli.core.selection.exact import MOST_SUBSETS, exact
from influence_cli.core.selection.greedy import greedy
from influence_cli.core.selection.pgd import pgd
from influence_cli.core.selection.problem import Problem, Selection
from influence_cli.core.selection.random import random
from influence_cli.core.selection.relinearize import relinearize
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.selection.swap import swap
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import NotConvergedError, UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.results import Provenance, SelectionResult

STRATEGIES = ("random", "greedy", "pgd", "relinearize", "swap", "exact")
OF_GROUPS = ("random", "greedy", "swap", "exact")
"""Strategies for given groups as candidates."""
ALL = "all"


def check_strategies(names: Sequence[str], *, of_groups: bool = False) -> tuple[str, ...]:
    """The strategies in the order in which they run.  Raises UsageError for an unknown or repeated one."""
    known = OF_GROUPS if of_groups else STRATEGIES
    if list(names) == [ALL]:
        return known
    for name in names:
        if name not in STRATEGIES:
            raise UsageError(f"unknown --strategy {name!r}", hint="choose from " + ", ".join((*known, ALL)))
        if name not in known:
            raise UsageError(
                f"--strategy {name} ranks rows and --candidates gives groups", hint="choose from " + ", ".join(known)
            )
    if len(set(names)) < len(names) or not names:
        raise UsageError("--strategy needs one or more different strategies", hint="for example greedy,relinearize")
    return tuple(name for name in known if name in names)


def select(
    model: TrainedModel,
    solver: HessianSolver,
    tests: TestRows | None,
    sizes: Sequence[int],
    choice: Choice,
    *,
    quantity: str = "loss",
    provenance: Provenance,
    watch: Watch = Watch(),
) -> SelectionResult:
    """A record a test row, size and strategy: the group whose removal changes f most, in the direction asked for.

    ``actual`` is NaN unless ``choice.verify``, whatever a strategy has retrained on its way.
    """
    entries: list[Entry] = []
    for question in questions(model, tests, quantity):
        for size in sizes:
            problem = problem_of(model, solver, question.target, size, choice)
            entries += _entries(problem, question, quantity, choice, watch)
    return finish(model, solver, tests, quantity, provenance, entries, choice, watch)


def _entries(problem: Problem, question: Question, quantity: str, choice: Choice, watch: Watch) -> Iterator[Entry]:
    expansion = Expansion(problem)
    starts: list[np.ndarray] = []
    begun = perf_counter()
    expansion.row_influence  # noqa: B018  what all of them rank by: its time is in everyone's seconds
    shared = perf_counter() - begun
    for strategy in choice.strategies:
        watch.step(strategy)
        begun = perf_counter()
        record = new_record(strategy, problem, question, quantity)
        groups: list[np.ndarray] = []
        try:
            if strategy == "random":
                draws = random(problem, expansion, choice.draws)
                groups = list(draws.groups)
                record |= {"predicted_first": float(draws.predicted_first.mean()), "draws": choice.draws}
                record |= spread("predicted_second", draws.predicted_second, problem.sign)
            else:
                found = _run(strategy, problem, expansion, choice, starts, watch)
                groups = [found.rows]
                starts.append(found.rows)
                record |= {"predicted_first": found.predicted_first, "predicted_second": found.predicted_second}
                record |= {"rounds": found.rounds, "status": found.status}
        except NotConvergedError as error:
            record["status"] = error.message
        record["seconds"] = shared + perf_counter() - begun
        rows = None if strategy == "random" or not groups else groups[0]
        yield Entry(record, groups, rows, question.column)


def _run(
    strategy: str, problem: Problem, expansion: Expansion, choice: Choice, starts: list[np.ndarray], watch: Watch
) -> Selection:
    if strategy == "greedy":
        return greedy(problem, expansion)
    if strategy == "pgd":
        return pgd(problem, expansion, constraint=choice.constraint, rounds=choice.rounds, advance=watch.step)
    if strategy == "relinearize":
        return relinearize(problem, expansion, rounds=choice.rounds, starts=starts, advance=watch.step)
    if strategy == "swap":
        return swap(problem, expansion, merit=choice.merit, starts=starts, rounds=choice.rounds, advance=watch.step)
    return exact(problem, expansion, advance=lambda done: watch.step("exact"))


def drop_impossible(choice: Choice, sizes: Sequence[int]) -> tuple[tuple[str, ...], str | None]:
    """Of ``--strategy all`` the strategies that can be had, and a sentence about what is left out."""
    if all(comb(len(choice.candidates), size) <= MOST_SUBSETS for size in sizes):
        return choice.strategies, None
    left = tuple(name for name in choice.strategies if name != "exact")
    return left, f"exact is left out: it retrains at most {MOST_SUBSETS:,} groups, and there are more of this size"


def row_influences(model: TrainedModel, solver: HessianSolver, tests: TestRows | None, quantity: str) -> np.ndarray:
    """First-order change of f if a row by itself is removed, (m, T); of rows that weigh little, ``first-koh``."""
    _, targets = make_targets(model, tests, quantity)
    gradients = np.hstack([target.gradient(model.theta) for target in targets])
    adjoints = solver.solve(gradients).x
    return model.objective.weights[:, None] * model.objective.row_products(model.theta, adjoints)
