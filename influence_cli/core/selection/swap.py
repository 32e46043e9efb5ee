"""Search by pairwise exchanges from the best groups so far, until no exchange improves.

With the merit ``second``, let W = Q + Q' for the matrix Q of the pairs.  An exchange of i (in the group) for j
(outside) gains

    slope_j - slope_i + (W_ii + W_jj)/2 - W_ij

in the term of pairs and the difference of the slopes in the other terms.  All pairs of a shortlist are thus compared at
once, and updated after each exchange without another pass over the rows.  With the merits ``newton`` (one Newton step,
after which f is evaluated exactly: the truth for a linear regression) and ``retrained``, exchanges are ranked by the
slope at the parameters without the group and evaluated in blocks.  If there are few pairs, all are evaluated; otherwise
the best pairs, and exchanges of 2, 4, 8, ... rows so that large groups change as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np

from influence_cli.core.optimise.restarts import has_cheap_factor
from influence_cli.core.selection.evaluate import (
    AUTO,
    GAIN,
    NEWTON,
    RETRAINED,
    SECOND,
    Evaluated,
    evaluate,
    improves,
    known,
    promising,
    worth,
)
from influence_cli.core.selection.greedy import found, leading, strongest
from influence_cli.core.selection.problem import Problem, Selection, exchanged
from influence_cli.core.selection.second_order import Expansion, Parts
from influence_cli.core.selection.together import Steps, alone, ranked, valued

SHORTLIST = 32
"""Rows inside and rows outside the group whose pairs are compared at once in the quadratic form."""
EVERY_PAIR = 512
"""Number of pairs up to which all of them are evaluated."""
CHEAP = 50_000
"""Rows times parameters up to which the retraining of hundreds of groups takes negligible time."""
STARTS_TIMES_ROUNDS = 28
"""Rounds that the searches from all starts usually take together."""
RESTARTS = 4
"""Random groups from which searches also start where all pairs are evaluated."""
BEST_PAIRS = 4
"""Rows inside and rows outside the group whose pairs are evaluated where there are more than ``EVERY_PAIR``."""


def swap(
    problem: Problem,
    expansion: Expansion,
    *,
    merit: str = AUTO,
    starts: Sequence[np.ndarray] = (),
    rounds: int = 50,
    advance: Callable[[str], None] = lambda note: None,
) -> Selection:
    """The best group that searches by exchange reach.

    If all pairs can be evaluated, searches by retraining start from the greedy groups of both directions, the group
    chosen by leverage, ``starts`` and some random groups.  Otherwise a single search by Newton steps starts from the
    best of these, without the random groups.  ``rounds`` limits each search; ``merit``, one of ``MERITS``, overrides
    the choice between retraining and Newton steps.
    """
    return alone(swapping(problem, expansion, merit=merit, starts=starts, rounds=rounds, advance=advance))


def swapping(
    problem: Problem,
    expansion: Expansion,
    *,
    merit: str = AUTO,
    starts: Sequence[np.ndarray],
    rounds: int,
    advance: Callable[[str], None],
) -> Steps[Selection]:
    """``swap`` as one of several searches that run side by side."""
    small = _pairs(problem) <= EVERY_PAIR and problem.rows * problem.objective.size <= CHEAP
    merit = (RETRAINED if small else NEWTON) if merit == AUTO else merit
    # A loss also rises where the prediction overshoots, so that the group that first lowers it may be a better start.
    groups = [leading(expansion, problem.sign), leading(expansion, -problem.sign), *strongest(expansion), *starts]
    if small:
        rng = problem.rng(1)
        groups += [np.sort(rng.choice(problem.candidates, problem.size, replace=False)) for _ in range(RESTARTS)]
    distinct = list({rows.tobytes(): rows for rows in groups if len(rows) == problem.size}.values())
    if not small:
        distinct = [(yield from _best(problem, expansion, merit, distinct))]
    ends, total, finished = [], 0, True
    explored: set[bytes] = set()
    for start in distinct:
        if merit == SECOND:
            rows, value, taken, done = _on_form(problem, expansion, start, rounds, advance)
        else:
            rows, value, taken, done = yield from _on_merit(problem, merit, start, rounds, explored, advance)
        ends.append((value, rows))
        total, finished = total + taken, finished and done
    value, rows = max(ends, key=lambda end: end[0])
    status = "ok" if finished else f"stopped after {rounds} rounds: more may gain (--rounds)"
    realised = known(problem, value) if merit == RETRAINED else float("nan")
    return found("swap", expansion, rows, realised=realised, rounds=total, status=status)


def swap_operations(problem: Problem) -> float:
    """Approximate multiply-adds of ``swap`` if it retrains every promising exchange; infinite if it does not."""
    P = problem.objective.size
    small = _pairs(problem) <= EVERY_PAIR and problem.rows * P <= CHEAP and has_cheap_factor(problem.objective)
    return float(STARTS_TIMES_ROUNDS * _pairs(problem) * (problem.rows + P) * P**2) if small else float("inf")


def follow(
    problem: Problem,
    expansion: Expansion,
    end: Selection,
    *,
    rounds: int = 50,
    advance: Callable[[str], None] = lambda note: None,
) -> Selection:
    """The best group, by retraining, among the result ``end`` of another search, that of ``swap`` from there, and the
    most promising groups within the union of both if they are few."""
    other = swap(problem, expansion, merit=RETRAINED, starts=(end.rows,), rounds=rounds, advance=advance)
    ends = [end.rows, other.rows]
    union = np.union1d(*ends)
    if comb(len(union), problem.size) <= EVERY_PAIR:
        ends += [np.array(rows, dtype=np.int64) for rows in combinations(union.tolist(), problem.size)]
    groups = [*ends[:2], *promising(problem, ends[2:], problem.theta)]
    tried = evaluate(problem, RETRAINED, groups)
    values = worth(problem, tried.change)
    at = int(np.argmax(values))
    at = at if improves(float(values[at]), float(values[0])) else 0
    rows, done = groups[at], end.rounds + other.rounds
    value, optimal = known(problem, float(values[at])), end.optimal and at == 0
    return found(end.strategy, expansion, rows, realised=value, rounds=done, status=other.status, optimal=optimal)


def _pairs(problem: Problem) -> int:
    """The number of exchanges of one row for another."""
    return problem.size * (len(problem.candidates) - problem.size)


def _best(problem: Problem, expansion: Expansion, merit: str, groups: list[np.ndarray]) -> Steps[np.ndarray]:
    """The group of highest merit."""
    if merit == SECOND:
        return groups[int(np.argmax(problem.sign * expansion.second(problem.members(groups))))]
    tried = yield from _tried(problem, merit, groups)
    return groups[int(np.argmax(worth(problem, tried.change)))]


def _tried(problem: Problem, merit: str, groups: list[np.ndarray], start: np.ndarray | None = None) -> Steps[Evaluated]:
    """The groups evaluated by ``merit``; retraining starts from ``start`` (P, 1)."""
    return (yield from valued(problem, groups, start)) if merit == RETRAINED else evaluate(problem, merit, groups)


def _on_form(
    problem: Problem, expansion: Expansion, start: np.ndarray, rounds: int, advance: Callable[[str], None]
) -> tuple[np.ndarray, float, int, bool]:
    """Search on second: rows, sign * second, rounds taken, and whether no exchange of the last shortlist gained."""
    s = problem.mask(start)
    parts, slopes = expansion.parts_and_slopes(problem.members([start]))
    value = problem.sign * float(expansion.combine(parts))
    candidates = problem.candidates
    for taken in range(1, rounds + 1):
        advance("swap")
        slope = problem.sign * expansion.slope(parts, slopes)
        inside, outside = candidates[s[candidates]], candidates[~s[candidates]]
        short = np.concatenate(
            [
                inside[np.argsort(slope[inside], kind="stable")[:SHORTLIST]],
                outside[np.argsort(-slope[outside], kind="stable")[:SHORTLIST]],
            ]
        )
        pairs = expansion.pairs(short)
        among = pairs[short]
        here = s[short]
        moved = False
        while here.any() and not here.all():
            out, into = np.flatnonzero(here), np.flatnonzero(~here)
            after = _exchanged(parts, slopes, short, among, out, into)
            values = problem.sign * expansion.combine(after)
            at = np.unravel_index(int(np.argmax(values)), values.shape)
            if values[at] - value <= GAIN * abs(value):
                break
            value = float(values[at])
            parts = Parts(after.share[at], after.pull[at], after.mixed[at], after.pairs[at])
            i, j = out[at[0]], into[at[1]]
            slopes = replace(slopes, pairs=slopes.pairs + pairs[:, j] - pairs[:, i])
            here[i], here[j] = False, True
            s[short[i]], s[short[j]] = False, True
            moved = True
        if not moved:
            return np.flatnonzero(s), value, taken, True
    return np.flatnonzero(s), value, rounds, False


def _exchanged(
    parts: Parts, slopes: Parts, short: np.ndarray, among: np.ndarray, out: np.ndarray, into: np.ndarray
) -> Parts:
    """Parts (n, k) after each exchange of one of the places ``out`` (n,) in the shortlist for one of ``into`` (k,)."""
    half = among.diagonal() / 2

    def moved(total: np.ndarray, slope: np.ndarray, curve: np.ndarray | float = 0.0) -> np.ndarray:
        return total + (slope[short] + curve)[into][None, :] - (slope[short] - curve)[out][:, None]

    return Parts(
        moved(parts.share, slopes.share),
        moved(parts.pull, slopes.pull),
        moved(parts.mixed, slopes.mixed),
        moved(parts.pairs, slopes.pairs, half) - among[np.ix_(out, into)],
    )


def _on_merit(
    problem: Problem,
    merit: str,
    start: np.ndarray,
    rounds: int,
    explored: set[bytes],
    advance: Callable[[str], None],
) -> Steps[tuple[np.ndarray, float, int, bool]]:
    """Like ``_on_form``, but each exchange is evaluated by ``merit``.

    The search ends when it reaches a group in ``explored``, because an earlier search continued from there.  It adds
    every group that it visits to ``explored``.
    """
    rows = start
    tried = yield from _tried(problem, merit, [rows])
    theta, best = tried.theta, float(worth(problem, tried.change)[0])
    for taken in range(1, rounds + 1):
        if rows.tobytes() in explored:
            return rows, best, taken - 1, True
        explored.add(rows.tobytes())
        advance("swap")
        scores = yield from ranked(problem, rows, theta)
        groups = _exchanges(problem, rows, scores)
        if not groups:
            return rows, best, taken, True
        groups = promising(problem, groups, theta) if merit == RETRAINED else groups
        tried = yield from _tried(problem, merit, groups, theta)
        values = worth(problem, tried.change)
        at = int(np.argmax(values))
        if not improves(float(values[at]), best):
            return rows, best, taken, True
        rows, theta, best = groups[at], tried.theta[:, at : at + 1], float(values[at])
    return rows, best, rounds, False


def _exchanges(problem: Problem, rows: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """The groups that one exchange leads to; only the most promising ones if there are many."""
    inside = np.intersect1d(rows, problem.candidates)
    outside = np.setdiff1d(problem.candidates, rows)
    inside = inside[np.argsort(scores[inside], kind="stable")]
    outside = outside[np.argsort(-scores[outside], kind="stable")]
    several: list[int] = []
    if _pairs(problem) > EVERY_PAIR:
        most = min(len(inside), len(outside))
        several = [1 << power for power in range(1, most.bit_length()) if 1 << power <= most]
        inside_, outside_ = inside[:BEST_PAIRS], outside[:BEST_PAIRS]
    else:
        inside_, outside_ = inside, outside
    moves = [(inside_[i : i + 1], outside_[j : j + 1]) for i in range(len(inside_)) for j in range(len(outside_))]
    moves += [(inside[:n], outside[:n]) for n in several]
    mask = problem.mask(rows)
    return [exchanged(mask, out, into) for out, into in moves]
