"""Search for the smallest group whose removal changes the sign of f; retraining verifies each answer.

If f is the log-odds of the predicted class against its strongest rival, such a group flips the prediction.  Bisection
finds the size, and re-linearising searches at each size.  Then rows are re-added as long as the remaining group still
flips f, and exchanges try one row fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from influence_cli.core.selection.evaluate import Evaluated
from influence_cli.core.selection.greedy import found, leading, strongest
from influence_cli.core.selection.problem import DECREASE, INCREASE, Problem, Selection
from influence_cli.core.selection.relinearize import relinearizing
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.selection.swap import swapping
from influence_cli.core.selection.together import Steps, alone, ranked, valued
from influence_cli.errors import UNBOUNDED

ENDLESS = UNBOUNDED + "without this group f has the other sign and grows for ever"
CHECKED = 1000
"""Largest group of which each row is re-added by itself; minimality is not claimed for larger ones."""
HELD_BYTES = 16e6
"""Bytes of row numbers of the groups that one call evaluates: ``CHECKED`` groups of 2,000 rows."""
ROUNDS = 20
"""Largest number of rounds of a search at one size."""
IN_TURN, IN_TURN_OPERATIONS = 500, 2e9
"""Rows and multiply-adds up to which rows are removed one after the other, with a retraining after each."""
IN_TURN_PASSES = 20
"""Passes over the rows that one retraining is assumed to take."""
LAST_TRIES = 3
"""Largest number of successive attempts to find a group with one row fewer by re-linearising and exchanges."""


@dataclass(frozen=True)
class Flip:
    """The result of a search, with f ``before`` and ``after`` removal.

    ``selection`` is None if no group of at most ``largest`` rows was found.  ``minimal`` says whether re-adding any
    single row undoes the flip, as shown by retraining.
    """

    selection: Selection | None
    before: float
    after: float
    largest: int
    minimal: bool
    status: str = "ok"


def flip(problem: Problem, *, advance: Callable[[str], None] = lambda note: None) -> Flip:
    """The smallest group found of at most ``problem.size`` rows that flips f; ``problem.direction`` is ignored."""
    return alone(flipping(problem, advance))


def flipping(problem: Problem, advance: Callable[[str], None]) -> Steps[Flip]:
    """``flip`` as one of several searches that run side by side."""
    search = _Search(replace(problem, direction=DECREASE if problem.base > 0 else INCREASE), advance)
    if problem.base == 0.0:
        return Flip(None, 0.0, float("nan"), problem.size, False, "f is 0 already: it has no sign to change")
    best = yield from search.bracket()
    if best is None:
        status = f"no group of at most {problem.size:,} rows was found that flips"
        return Flip(None, problem.base, float("nan"), problem.size, False, status)
    best, checked = yield from search.prune(best)
    fewer = yield from search.in_turn(len(best.rows) - 1)
    if fewer is not None:
        best, checked = yield from search.prune(fewer)
    for _ in range(LAST_TRIES):
        fewer = yield from search.swapped(best)
        if fewer is None:
            break
        best, checked = yield from search.prune(fewer)
    at = search.at(len(best.rows))
    after = problem.base + best.realised
    minimal = checked == len(best.rows)
    status = "ok" if minimal else f"minimality is not shown: {checked:,} of {len(best.rows):,} rows were put back"
    if np.isinf(best.realised):
        status = ENDLESS if minimal else f"{ENDLESS}; {status}"
    described = found(best.strategy, Expansion(at), best.rows, realised=best.realised, rounds=search.tried)
    return Flip(described, problem.base, after, problem.size, minimal, status)


class _Search:
    """The steps of one search; it caches the expansion of every size and counts the sizes tried."""

    def __init__(self, problem: Problem, advance: Callable[[str], None]):
        self.problem = problem
        self.advance = advance
        self.tried = 0
        self._expansions: dict[int, Expansion] = {}

    def at(self, size: int) -> Problem:
        return self.expansion(size).problem

    def expansion(self, size: int) -> Expansion:
        if size not in self._expansions:
            known = next(iter(self._expansions.values()), Expansion(self.problem))
            self._expansions[size] = known.resized(size)
        return self._expansions[size]

    def flips(self, change: float) -> bool:
        """Whether f has the opposite sign after this change."""
        return bool((self.problem.base + change) * self.problem.base < 0)

    def bracket(self) -> Steps[Selection | None]:
        """The smallest group that flips f in a bisection over sizes, or None.

        Its upper end is the first size 1, 2, 4, ... at which the greedy group or the one chosen by leverage flips f;
        if there is none, it is the group of ``problem.size`` rows found by re-linearising.
        """
        most = self.problem.size
        sizes = sorted({min(1 << power, most) for power in range(most.bit_length() + 1)})
        low, best = 0, None
        for size in sizes:
            groups = [leading(self.expansion(size), self.problem.sign), *strongest(self.expansion(size))]
            changes = (yield from self._evaluate(groups)).change
            flipping = [number for number in range(len(groups)) if self.flips(float(changes[number]))]
            if flipping:
                at = flipping[0]
                name = ("greedy", "leverage")[at]
                best = Selection(name, groups[at], float("nan"), float("nan"), float(changes[at]))
                break
            low = size
        if best is None:
            best = yield from self._relinearized(most, ())
            if best is None:
                return None
        low = 0 if low == len(best.rows) else low // 2
        while len(best.rows) - low > 1:
            middle = (low + len(best.rows)) // 2
            better = yield from self._relinearized(middle, ())
            low, best = (middle, best) if better is None else (low, better)
        return best

    def in_turn(self, most: int) -> Steps[Selection | None]:
        """A group of at most ``most`` rows that flips f, where each row is the one that ranks highest after retraining
        without the rows before it (Kuschnig et al. 2021); None if there is none or the search is too expensive."""
        problem = self.problem
        operations = IN_TURN_PASSES * most * float(problem.rows) * problem.objective.size
        if most > IN_TURN or operations > IN_TURN_OPERATIONS:
            return None
        rows, theta = np.empty(0, dtype=np.int64), problem.theta
        for _ in range(most):
            scores = yield from ranked(problem, rows, theta)
            left = np.setdiff1d(problem.candidates, rows)
            rows = np.sort(np.append(rows, left[scores[left].argmax()]))
            if not problem.leaves_some(rows):
                return None
            here = yield from self._evaluate([rows])
            change, theta = float(here.change[0]), here.theta
            if np.isnan(change):
                return None
            if self.flips(change):
                return Selection("greedy", rows, float("nan"), float("nan"), change)
        return None

    def prune(self, best: Selection) -> Steps[tuple[Selection, int]]:
        """Re-add rows while the remaining group flips f.

        Also returns how many single rows were re-added in the last group, each of which undid the flip.
        """
        while len(best.rows) > CHECKED:
            fewer = yield from self._returned(best, (yield from self._order(best)))
            if fewer is None:
                break
            best = fewer
        while len(best.rows) > 1:
            order = yield from self._order(best)
            change = yield from self._without_each(best.rows, order[:CHECKED])
            free = [number for number in range(len(change)) if self.flips(float(change[number]))]
            if not free:
                return best, len(change)
            free.sort(key=lambda number: self.problem.sign * change[number], reverse=True)
            one = replace(best, rows=np.delete(best.rows, order[free[0]]), realised=float(change[free[0]]))
            best = (yield from self._returned(best, order[free], least=2)) or one
        return best, len(best.rows)

    def _without_each(self, rows: np.ndarray, places: np.ndarray) -> Steps[np.ndarray]:
        """The change of f for the group ``rows`` without the row at each of ``places``, (n,), in blocks of groups."""
        change = np.empty(len(places))
        step = max(1, int(HELD_BYTES // rows.nbytes))
        for start in range(0, len(places), step):
            part = slice(start, start + step)
            groups = [np.delete(rows, place) for place in places[part]]
            change[part] = (yield from self._evaluate(groups)).change
        return change

    def _returned(self, best: Selection, order: np.ndarray, least: int = 1) -> Steps[Selection | None]:
        """The group after the largest number of rows is re-added that leaves it flipping f, or None.

        The first 1, 2, 4, ... places of ``order``, at least ``least``, are tried.  One row at a time would need
        thousands of retrainings for each row of a group of thousands.
        """
        powers = (1 << power for power in range(len(order).bit_length()))
        counts = [count for count in powers if least <= count < len(best.rows)]
        groups = [np.delete(best.rows, order[:count]) for count in counts]
        change = (yield from self._evaluate(groups)).change.tolist() if groups else []
        found_ones = [pair for pair in zip(groups, change, strict=True) if self.flips(pair[1])]
        return replace(best, rows=found_ones[-1][0], realised=found_ones[-1][1]) if found_ones else None

    def swapped(self, best: Selection) -> Steps[Selection | None]:
        """A group with one row fewer that flips f, or None.

        Re-linearising and exchanges start from the group without its lowest-ranking row.
        """
        size = len(best.rows) - 1
        if size < 1:
            return None
        order = yield from self._order(best)
        start = np.delete(best.rows, order[0])
        found_one = yield from self._relinearized(size, (start,))
        if found_one is not None:
            return found_one
        problem, expansion = self.at(size), self.expansion(size)
        end = yield from swapping(problem, expansion, starts=(start,), rounds=ROUNDS, advance=self.advance)
        change = float((yield from self._evaluate([end.rows])).change[0])
        return replace(end, realised=change) if self.flips(change) else None

    def _relinearized(self, size: int, starts: Sequence[np.ndarray]) -> Steps[Selection | None]:
        problem, expansion = self.at(size), self.expansion(size)
        self.tried += 1
        advance, enough = self.advance, self.flips
        end = yield from relinearizing(problem, expansion, rounds=ROUNDS, starts=starts, advance=advance, enough=enough)
        return end if self.flips(end.realised) else None

    def _order(self, best: Selection) -> Steps[np.ndarray]:
        """The places in the group's rows, from the lowest score at the retrained parameters to the highest."""
        here = yield from self._evaluate([best.rows])
        scores = yield from ranked(self.at(len(best.rows)), best.rows, here.theta)
        return np.argsort(scores[best.rows], kind="stable")

    def _evaluate(self, groups: list[np.ndarray]) -> Steps[Evaluated]:
        self.advance("flip")
        return (yield from valued(self.problem, groups))
