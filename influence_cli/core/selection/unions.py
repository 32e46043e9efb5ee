"""Search for the union of a few given groups, rather than rows, that changes f most.

Groups differ in size and may overlap.  Influence is therefore not additive over them, and the quadratic form of
``second_order``, which assumes a fixed k, does not apply.  Unions are predicted by ``core.estimators`` and compared
after one Newton step or after retraining.  ``problem.size`` is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb

import numpy as np

from influence_cli.core.estimators import estimate, linear_change
from influence_cli.core.removal import removal
from influence_cli.core.selection.evaluate import AUTO, NEWTON, RETRAINED, SECOND, evaluate, improves, worth
from influence_cli.core.selection.exact import MOST_SUBSETS
from influence_cli.core.selection.problem import Problem
from influence_cli.core.selection.second_order import blocks
from influence_cli.errors import UsageError

FEW = 256
"""Number of groups times the largest number of members up to which ``auto`` retrains; beyond it takes Newton steps."""

Members = tuple[int, ...]


@dataclass(frozen=True)
class Union:
    """A union: its ``members``, which are numbers of candidate groups, and the sorted ``rows`` of the union."""

    strategy: str
    members: Members
    rows: np.ndarray
    predicted_first: float
    predicted_second: float
    rounds: int = 0
    status: str = "ok"


@dataclass(frozen=True)
class Pool:
    """The candidate groups (sorted rows each); ``limit`` is the largest number of groups in a union."""

    problem: Problem
    groups: tuple[np.ndarray, ...]
    limit: int

    def rows(self, members: Iterable[int]) -> np.ndarray:
        return np.unique(np.concatenate([self.groups[member] for member in members]))

    @cached_property
    def singles(self) -> tuple[Union, ...]:
        """Every group by itself, in descending order of sign * second-order influence."""
        alone = self.unions("single", [(member,) for member in range(len(self.groups))])
        return tuple(sorted(alone, key=lambda union: -self.problem.sign * union.predicted_second))

    def unions(self, strategy: str, choices: Sequence[Members], rounds: int = 0, status: str = "ok") -> list[Union]:
        """The unions of the given choices with their predictions.  Raises NotConvergedError."""
        problem, out = self.problem, []
        gradient = problem.target.gradient(problem.theta)
        adjoint = problem.solve(gradient)
        for part in blocks(problem, len(choices)):
            rows = [self.rows(choice) for choice in choices[part]]
            weights = removal(problem.objective.weights, rows, problem.scaling)
            estimates = estimate(problem.objective, problem.theta, problem.solver, weights, ("first", "second"))
            first, second = (linear_change(estimates[name], gradient, adjoint)[:, 0] for name in ("first", "second"))
            for number, choice in enumerate(choices[part]):
                values = float(first[number]), float(second[number])
                out.append(Union(strategy, choice, rows[number], *values, rounds, status))
        return out

    def worth(self, merit: str, choices: Sequence[Members]) -> np.ndarray:
        """The figure that searches maximise, (N,): sign * change of f; -inf where no row or no value is left."""
        fits = [number for number, choice in enumerate(choices) if self.problem.leaves_some(self.rows(choice))]
        out = np.full(len(choices), -np.inf)
        tried = [choices[number] for number in fits]
        if tried and merit == SECOND:
            unions = self.unions("", tried)
            out[fits] = worth(self.problem, np.array([union.predicted_second for union in unions]))
        elif tried:
            change = evaluate(self.problem, merit, [self.rows(choice) for choice in tried]).change
            out[fits] = worth(self.problem, change)
        return out

    def draw(self, draws: int) -> list[Members]:
        """Random unions of ``limit`` groups, except those that leave no rows to train on."""
        rng = self.problem.rng()
        numbers = range(len(self.groups))
        drawn = [tuple(sorted(rng.choice(numbers, self.limit, replace=False).tolist())) for _ in range(draws)]
        return [members for members in drawn if self.problem.leaves_some(self.rows(members))]


def greedy_union(pool: Pool) -> Union:
    """The union of the groups of highest first-order influence, as if this were additive."""
    order = sorted(pool.singles, key=lambda union: -pool.problem.sign * union.predicted_first)
    members = tuple(sorted(union.members[0] for union in order[: pool.limit]))
    while not pool.problem.leaves_some(pool.rows(members)):
        members = members[:-1]
    return pool.unions("greedy", [members])[0]


def swap_union(
    pool: Pool, *, merit: str = AUTO, rounds: int = 50, advance: Callable[[str], None] = lambda note: None
) -> Union:
    """Add, remove or exchange one group at a time, whichever gains most, until nothing gains."""
    merit = (RETRAINED if len(pool.groups) * pool.limit <= FEW else NEWTON) if merit == AUTO else merit
    members: Members = ()
    best, taken, status = -np.inf, 0, "ok"
    while True:
        outside = [member for member in range(len(pool.groups)) if member not in members]
        choices = [(*members, member) for member in outside] if len(members) < pool.limit else []
        for gone in members:
            left = tuple(member for member in members if member != gone)
            choices += [(*left, member) for member in outside] + ([left] if left else [])
        values = pool.worth(merit, choices) if choices else np.array([-np.inf])
        at = int(np.argmax(values))
        advance("swap")
        if not improves(float(values[at]), best):
            break
        if taken == rounds:
            status = f"stopped after {rounds} rounds: more may gain (--rounds)"
            break
        members, best, taken = choices[at], float(values[at]), taken + 1
    if not members:
        members, status = greedy_union(pool).members, f"no union has a finite value when judged by {merit}"
    return pool.unions("swap", [tuple(sorted(members))], taken, status)[0]


def exact_union(pool: Pool) -> Union:
    """Retrain without each union of at most ``limit`` groups.  Raises UsageError if there are too many unions."""
    count = sum(comb(len(pool.groups), size) for size in range(1, pool.limit + 1))
    if count > MOST_SUBSETS:
        raise UsageError(
            f"--strategy exact retrains without every union: there are {count:,} of at most {pool.limit} of"
            f" {len(pool.groups)} groups, and at most {MOST_SUBSETS:,} are tried",
            hint="use --strategy swap, or lower --size",
        )
    numbers = range(len(pool.groups))
    choices = [choice for size in range(1, pool.limit + 1) for choice in combinations(numbers, size)]
    values = pool.worth(RETRAINED, choices)
    missing = int((values == -np.inf).sum())
    status = f"{missing:,} of {count:,} unions have no finite value and were left out" if missing else "ok"
    return pool.unions("exact", [choices[int(np.argmax(values))]], count, status)[0]
