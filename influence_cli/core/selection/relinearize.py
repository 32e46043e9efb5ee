"""Ascent on the realised change: retrain without the group, rank all rows *there*, exchange rows, and repeat.

The k rows that rank highest at the retrained parameters maximise the linear model of f there.  Exchanging all rows for
them is a step of the conditional-gradient method of Frank and Wolfe, whose vertices are the groups.  The full step
usually gains.  Where it does not (near the end, where full steps would cycle), only a share of the rows is exchanged,
the best for the worst, as in a line search.  Every group that is kept was retrained and is better than the one before,
which rules out cycles.

With one parameter the search ends at the optimum.  The minimum theta_S without S solves sum_kept psi_i = 0, where every
psi_i decreases in theta.  Hence theta_S' > theta_S only if the sum without S' is positive at theta_S; but at the end S
itself ranks highest there, so that its sum, which is 0, is the largest.  For a linear regression this is Dinkelbach's
method (1967).
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
"""Shares of an exchange (1/2, 1/4, ...) that are retrained in one block."""

LEVERAGE_PAYS = 2.0
"""Ratio by which the effect of the start chosen by leverage must exceed that of the other starts.  Without outliers
both lead to similar groups, and the first-order start is the established one."""


def relinearize(
    problem: Problem,
    expansion: Expansion,
    *,
    rounds: int = 50,
    starts: Sequence[np.ndarray] = (),
    advance: Callable[[str], None] = lambda note: None,
) -> Selection:
    """Search from the best of the greedy group, the group chosen by leverage and ``starts``, until no exchange gains or
    ``rounds`` rounds are over."""
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
    """``relinearize`` as one of several searches that run side by side.

    ``enough`` receives the change of f realised so far; the search ends as soon as it returns True.
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
    """The best group that improves on ``best``, between ``rows`` and the k candidates of highest score, or None.

    Returns its rows, its parameters (P, 1), its worth, and the share of the exchange that was made.  ``share`` is that
    of the last round: if this was the full exchange, that alone is tried first, else it and its neighbours.
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
            # No smaller share gained: try the full exchange, which was left out, before giving up.
            if share == 1.0 or shares[0] == 1.0:
                return None
            share, shares = 1.0, [1.0]
            continue
        shares = [shares[-1] / 2**halvings for halvings in range(1, SHARES + 1)]
    return None
