"""Two searches of ``ginf select``: for rows, and for unions of given groups; ``flips`` has the third."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import comb
from time import perf_counter

import numpy as np

from influence_cli.analysis.question import Question
from influence_cli.analysis.select import Choice, Entry, OneByOne, Search, Single, Watch, spread
from influence_cli.core.selection.bounds import largest_change
from influence_cli.core.selection.evaluate import RETRAINED, evaluate, worth
from influence_cli.core.selection.exact import MOST_SUBSETS, exact
from influence_cli.core.selection.greedy import greedy
from influence_cli.core.selection.pgd import pgd
from influence_cli.core.selection.problem import Problem, Selection
from influence_cli.core.selection.random import random
from influence_cli.core.selection.relinearize import relinearize
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.selection.swap import follow, swap, swap_operations
from influence_cli.core.selection.unions import Pool, Union, exact_union, greedy_union, swap_union
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import NotConvergedError, UsageError, did_you_mean
from influence_cli.specs.planned import Group

STRATEGIES = ("random", "greedy", "pgd", "relinearize", "swap", "exact")
OF_GROUPS = ("random", "greedy", "swap", "exact")
"""Strategies for given groups as candidates."""
ALL = "all"
SINGLE = "single"
"""The ``strategy`` in the record of a given group by itself."""
USERS = {"draws": {"random"}, "constraint": {"pgd"}, "merit": {"swap"}, "rounds": {"pgd", "relinearize", "swap"}}
"""The strategies that an option is for."""
AFFORDABLE = 2e9
"""Multiply-adds of small matrices, about ten seconds, up to which exchanges follow the default search."""
EVERY_SIZE = 12
"""Number of sizes that are searched for the best group of at most some rows."""


def options_of(strategies: Sequence[str]) -> list[str]:
    """The options of a search that these strategies read; a search for a flip has no strategies and reads none."""
    return [option for option, users in USERS.items() if users & set(strategies)]


def check_strategies(names: Sequence[str], *, of_groups: bool = False) -> tuple[str, ...]:
    """The strategies in the order in which they run.  Raises UsageError for an unknown or repeated one."""
    known = OF_GROUPS if of_groups else STRATEGIES
    if list(names) == [ALL]:
        return known
    for name in names:
        if name not in STRATEGIES:
            otherwise = "choose from " + ", ".join((*known, ALL))
            raise UsageError(f"unknown --strategy {name!r}", hint=did_you_mean(name, (*known, ALL), otherwise))
        if name not in known:
            raise UsageError(
                f"--strategy {name} ranks rows and --candidates gives groups", hint="choose from " + ", ".join(known)
            )
    if len(set(names)) < len(names) or not names:
        raise UsageError("--strategy needs one or more different strategies", hint="for example greedy,relinearize")
    return tuple(name for name in known if name in names)


def drop_impossible(choice: Choice, sizes: Sequence[int]) -> tuple[tuple[str, ...], str | None]:
    """For ``--strategy all``: the strategies that are feasible, and a sentence about what is left out."""
    if all(comb(len(choice.candidates), size) <= MOST_SUBSETS for size in sizes):
        return choice.strategies, None
    left = tuple(name for name in choice.strategies if name != "exact")
    return left, f"exact is left out: it retrains at most {MOST_SUBSETS:,} groups, and there are more of this size"


@dataclass(frozen=True)
class RowSearch(OneByOne):
    """One record per size and strategy: the group of rows whose removal changes f most in the requested direction."""

    choice: Choice
    sizes: Sequence[int]

    def __len__(self) -> int:
        return len(self.sizes) * len(self.choice.strategies)

    def of_one(self, single: Single, watch: Watch) -> Iterator[Entry]:
        for size in self.sizes:
            problem = single.problem(size, self.choice)
            # The bound assumes frozen preprocessing, and computing it needs P numbers for every row.
            bound = float("nan")
            if single.model.refit is None and single.model.dataset.streamed is None:
                bound = largest_change(problem, at_most=self.choice.at_most)
            if self.choice.at_most:
                yield from self._at_most(single, problem, bound, watch)
            else:
                yield from self._of_size(single, problem, bound, watch)

    def _at_most(self, single: Single, problem: Problem, bound: float, watch: Watch) -> Iterator[Entry]:
        """The best group of each strategy by retraining, of up to ``problem.size`` rows; random ones have that size."""
        sizes = sizes_up_to(problem.size)
        tried = [
            entry
            for size in sizes
            for entry in self._of_size(single, single.problem(size, self.choice), bound, watch)
            if entry.rows is not None or size == problem.size
        ]
        for strategy in self.choice.strategies:
            entries = [entry for entry in tried if entry.record["strategy"] == strategy]
            groups = [entry.rows for entry in entries if entry.rows is not None]
            best = entries[-1]
            if groups:
                best = entries[int(np.argmax(worth(problem, evaluate(problem, RETRAINED, groups).change)))]
            every = len(sizes) == problem.size and all(entry.record["optimal"] for entry in entries)
            seconds = sum(entry.record["seconds"] for entry in entries)
            best.record |= {"at_most": problem.size, "optimal": every or None, "seconds": seconds}
            yield best

    def _of_size(self, single: Single, problem: Problem, bound: float, watch: Watch) -> Iterator[Entry]:
        choice = self.choice
        expansion = Expansion(problem)
        starts: list[np.ndarray] = []
        started = perf_counter()
        expansion.row_influence  # noqa: B018  all strategies rank by it: its time is shared
        shared = perf_counter() - started
        for strategy in choice.strategies:
            watch.step(strategy)
            started = perf_counter()
            record = single.record(strategy, problem) | {"bound": bound, "optimal": None}
            groups: list[np.ndarray] = []
            try:
                if strategy == "random":
                    draws = random(problem, expansion, choice.draws)
                    groups = list(draws.groups)
                    record |= {"predicted_first": float(draws.predicted_first.mean()), "draws": choice.draws}
                    record |= spread("predicted_second", draws.predicted_second, problem.sign)
                else:
                    selection = _run(strategy, problem, expansion, choice, starts, watch)
                    groups = [selection.rows]
                    starts.append(selection.rows)
                    record |= {
                        "predicted_first": selection.predicted_first,
                        "predicted_second": selection.predicted_second,
                    }
                    record |= {"rounds": selection.rounds, "status": selection.status}
                    # the search is frozen; refitted preprocessing has another optimum
                    record["optimal"] = (selection.optimal and single.model.refit is None) or None
            except NotConvergedError as error:
                record["status"] = error.message
            record["seconds"] = shared + perf_counter() - started
            rows = None if strategy == "random" or not groups else groups[0]
            yield Entry(record, groups, rows, single.column)


def sizes_up_to(most: int) -> list[int]:
    """All sizes up to ``EVERY_SIZE``; of more, as many that grow by a constant factor."""
    if most <= EVERY_SIZE:
        return list(range(1, most + 1))
    return np.unique(np.geomspace(1, most, EVERY_SIZE).round().astype(int)).tolist()


def followed(search: Search, question: Question, solver: HessianSolver) -> Search:
    """The default search; for rows with retrained exchanges after it if these are predicted to take at most
    ``AFFORDABLE`` for all test rows and sizes."""
    if not isinstance(search, RowSearch):
        return search
    choice = search.choice
    single = Single(question.model, solver, question.quantity, 0, int(question.codes[0]), question.each()[0])
    sizes = [one for size in search.sizes for one in (sizes_up_to(size) if choice.at_most else [size])]
    cost = sum(swap_operations(single.problem(size, choice)) for size in sizes)
    return replace(search, choice=replace(choice, follow=len(question) * cost <= AFFORDABLE))


def _run(
    strategy: str, problem: Problem, expansion: Expansion, choice: Choice, starts: list[np.ndarray], watch: Watch
) -> Selection:
    if strategy == "greedy":
        return greedy(problem, expansion)
    if strategy == "pgd":
        return pgd(problem, expansion, constraint=choice.constraint, rounds=choice.rounds, advance=watch.step)
    if strategy == "relinearize":
        end = relinearize(problem, expansion, rounds=choice.rounds, starts=starts, advance=watch.step)
        return follow(problem, expansion, end, rounds=choice.rounds, advance=watch.step) if choice.follow else end
    if strategy == "swap":
        return swap(problem, expansion, merit=choice.merit, starts=starts, rounds=choice.rounds, advance=watch.step)
    return exact(problem, expansion, advance=lambda done: watch.step("exact"))


@dataclass(frozen=True)
class UnionSearch(OneByOne):
    """Given groups as candidates: one record each, then one per strategy for its best union of at most ``limit``."""

    choice: Choice
    groups: Sequence[Group]
    limit: int

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= len(self.groups):
            raise UsageError(
                f"--size {self.limit}: with --candidates it is the most groups in a union, and {len(self.groups)} are"
                " given",
                hint=f"give a number from 1 to {len(self.groups)}",
            )

    def __len__(self) -> int:
        return len(self.groups) + len(self.choice.strategies)

    def of_one(self, single: Single, watch: Watch) -> Iterator[Entry]:
        pool = Pool(single.problem(1, self.choice), tuple(group.rows for group in self.groups), self.limit)
        started = perf_counter()
        watch.step(SINGLE)
        unions = list(pool.singles)
        share = (perf_counter() - started) / len(unions)
        for union in unions:
            yield self._entry(union, pool, single, share)
        for strategy in self.choice.strategies:
            watch.step(strategy)
            started = perf_counter()
            if strategy == "random":
                yield self._drawn(pool, single, started)
                continue
            if strategy == "greedy":
                union = greedy_union(pool)
            elif strategy == "swap":
                union = swap_union(pool, merit=self.choice.merit, rounds=self.choice.rounds, advance=watch.step)
            else:
                union = exact_union(pool)
            yield self._entry(union, pool, single, perf_counter() - started)

    def _drawn(self, pool: Pool, single: Single, started: float) -> Entry:
        unions = pool.unions("random", pool.draw(self.choice.draws))
        record = single.record("random", pool.problem) | {"size": None, "fraction": None, "groups": None}
        record |= {"predicted_first": float(np.mean([union.predicted_first for union in unions]))}
        record |= {"draws": self.choice.draws}
        second = np.array([union.predicted_second for union in unions])
        record |= spread("predicted_second", second, pool.problem.sign)
        record["seconds"] = perf_counter() - started
        return Entry(record, [union.rows for union in unions], None, single.column)

    def _entry(self, union: Union, pool: Pool, single: Single, seconds: float) -> Entry:
        record = single.record(union.strategy, pool.problem)
        record |= {"size": len(union.rows), "fraction": len(union.rows) / pool.problem.rows, "seconds": seconds}
        record |= {"predicted_first": union.predicted_first, "predicted_second": union.predicted_second}
        labels = [self.groups[member].label for member in union.members]
        record |= {"rounds": union.rounds, "status": union.status, "groups": labels}
        return Entry(record, [union.rows], union.rows, single.column)
