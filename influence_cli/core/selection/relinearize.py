"""Ascent on the realised change: retrain without the group, rank all rows *there*, exchange, repeat.

The linear model of f at the retrained parameters is maximised by the k rows that rank highest there: a step of the
conditional-gradient method of Frank and Wolfe, whose vertices are the groups.  The whole step usually gains; where it
does not (it cycles, near the end), only a share of the rows is exchanged, the best for the worst, in the manner of a
line search.  Every group that is kept was retrained and is better than the one before, so that nothing cycles.

With one parameter the end is the optimum: without S it is where sum_kept psi_i = 0, every psi_i falling in theta, so
that theta_S' > theta_S only if the sum without S' is over 0 at theta_S, and the S that ranks highest there has the
largest sum, which is 0.  Of a linear regression this is Dinkelbach's method (1967).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from influence_cli.core.removal import removal
from influence_cli.core.selection.bounds import rises_with_one_parameter
from influence_cli.core.selection.evaluate import improves, known, worth
from influence_cli.core.selection.greedy import found, leading, strongest
from influence_cli.core.selection.problem import Problem, Selection, exchanged
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.selection.together import Steps, alone, ranked, valued

SHARES = 4
"""Shares of an exchange (1/2, 1/4, ...) that are retrained side by side."""


LEVERAGE_PAYS = 2.0
"""How many times the effect of the other starts one must have that is chosen by leverage.  Where there are no outliers
both lead to much the same end, and the first order's is the better known."""


def relinearize(
    problem: Problem,
    expansion: Expansion,
    *,
    rounds: int = 50,
    starts: Sequence[np.ndarray] = (),
    advance: Callable[[str], None] = lambda note: None,
) -> Selection:
    """From the best of the greedy group and ``starts``, until no exchange gains or ``rounds`` are over."""
    return alone(relinearizing(problem, expansion, rounds=rounds, starts=starts, advance=advance))


def relinearizing(
    problem: Problem,
    expansion: Expansion,
    *,
    rounds: int,
    starts: Sequence[np.ndarray],
    advance: Callable[[str], None],
    enough: Callable[[float], bool] = lambda change: False,
) -> Steps[Selection]:
    """``relinearize`` as one of several searches.

    ``enough`` may end the search early: it is told the change of f realised so far.
    """
    first = leading(expansion, problem.sign)
    given, by_default = [rows for rows in starts if len(rows) == problem.size], strongest(expansion)
    groups = [first, *given, *by_default]
    tried = yield from valued(problem, groups)
    values = worth(problem, tried.change)
    usual = values[: len(groups) - len(by_default)].max()
    if by_default and not values[-1] > LEVERAGE_PAYS * max(usual, 0.0):
        values[-1] = -np.inf
    at = int(np.argmax(values))
    rows, theta, best = groups[at], tried.theta[:, at : at + 1], float(values[at])
    status, taken, share = "ok", 0, 1.0
    while not enough(problem.sign * best):
        if taken == rounds:
            status = f"stopped after {rounds} rounds: more may gain (--rounds)"
            break
        taken += 1
        here = problem.preconditioner_at(theta, removal(problem.objective.weights, [rows], problem.scaling).removed)
        scores = yield from ranked(problem, rows, theta, here)
        step = yield from _exchange(problem, rows, theta, scores, best, share, here)
        advance("relinearize")
        if step is None:
            break
        rows, theta, best, share = step
    optimal = status == "ok" and np.isfinite(best) and rises_with_one_parameter(problem)
    end = known(problem, best)
    return found("relinearize", expansion, rows, realised=end, rounds=taken, status=status, optimal=optimal)


def _exchange(
    problem: Problem,
    rows: np.ndarray,
    theta: np.ndarray,
    scores: np.ndarray,
    best: float,
    share: float,
    preconditioner: Callable[[np.ndarray], np.ndarray],
) -> Steps[tuple[np.ndarray, np.ndarray, float, float] | None]:
    """The best better group on the way to the k highest scores, with its share of the way; None where there is none.

    ``share`` is the last round's: where that was the whole way it is tried by itself, else with its neighbours.
    """
    top = problem.top(scores)
    inside, wanted = problem.mask(rows), problem.mask(top)
    into, out = np.flatnonzero(wanted & ~inside), np.flatnonzero(inside & ~wanted)
    into = into[np.argsort(-scores[into], kind="stable")]
    out = out[np.argsort(scores[out], kind="stable")]
    count = len(into)
    shares = [share] if share == 1.0 else [min(2.0 * share, 1.0) / 2**halvings for halvings in range(SHARES)]
    while count:
        batch = sorted({max(1, round(part * count)) for part in shares}, reverse=True)
        groups = [exchanged(inside, out[:n], into[:n]) for n in batch]
        tried = yield from valued(problem, groups, theta, preconditioner)
        values = worth(problem, tried.change)
        at = int(np.argmax(values))
        if improves(float(values[at]), best):
            return groups[at], tried.theta[:, at : at + 1], float(values[at]), batch[at] / count
        if batch[-1] == 1:
            # None of the smaller steps gained: before giving up, the longer ones that were left out.
            if share == 1.0 or shares[0] == 1.0:
                return None
            share, shares = 1.0, [1.0]
            continue
        shares = [shares[-1] / 2**halvings for halvings in range(1, SHARES + 1)]
    return None
