"""Given groups as candidates instead of rows: which of them, or which union of a few, changes f most.

Groups differ in size and may overlap, so influence is not additive over them and the quadratic form of ``expansion``,
which holds k, does not apply: unions are predicted by ``estimators`` and compared after a Newton step or retraining.
``problem.size`` plays no part.
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
"""Groups times members of a union up to which ``auto`` retrains."""

Members = tuple[int, ...]


@dataclass(frozen=True)
class Union:
    """``members`` of the candidates, and the rows of their union."""

    strategy: str
    members: Members
    rows: np.ndarray
    predicted_first: float
    predicted_second: float
    rounds: int = 0
    status: str = "ok"


@dataclass(frozen=True)
class Pool:
    """The candidate groups (sorted rows each) and the most that a union may have."""

    problem: Problem
    groups: tuple[np.ndarray, ...]
    limit: int

    def rows(self, members: Iterable[int]) -> np.ndarray:
        return np.unique(np.concatenate([self.groups[member] for member in members]))

    @cached_property
    def singles(self) -> tuple[Union, ...]:
        """Every group alone, the one of highest second-order influence (times the sign) first."""
        alone = self.unions("single", [(member,) for member in range(len(self.groups))])
        return tuple(sorted(alone, key=lambda union: -self.problem.sign * union.predicted_second))

    def unions(self, strategy: str, choices: Sequence[Members], rounds: int = 0, status: str = "ok") -> list[Union]:
        """The choices with their predictions."""
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
        """What is maximised, (N,)."""
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
        """Random unions of ``limit`` groups."""
        rng = self.problem.rng()
        numbers = range(len(self.groups))
        drawn = [tuple(sorted(rng.choice(numbers, self.limit, replace=False).tolist())) for _ in range(draws)]
        return [members for members in drawn if self.problem.leaves_some(self.rows(members))]


def greedy_union(pool: Pool) -> Union:
    """The groups of highest first-order influence, as if it were additive."""
    order = sorted(pool.singles, key=lambda union: -pool.problem.sign * union.predicted_first)
    members = tuple(sorted(union.members[0] for union in order[: pool.limit]))
    while not pool.problem.leaves_some(pool.rows(members)):
        members = members[:-1]
    return pool.unions("greedy", [members])[0]


def swap_union(
    pool: Pool, *, merit: str = AUTO, rounds: int = 50, advance: Callable[[str], None] = lambda note: None
) -> Union:
    """Add, take away or exchange one group at a time, whatever gains most, until nothing does."""
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
    """Retrain without every union of at most ``limit`` groups.  Raises UsageError where they are too many."""
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
