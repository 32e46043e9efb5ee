"""The paper's Eq. 18 with its L0-to-L1 relaxation: projected gradient ascent, then rounding.

    maximise  second(w)   subject to   sum |w_i| <= k       (``l1``, the paper's)
                                or     0 <= w_i <= 1, sum w_i <= k   (``capped``: w stays a relaxed group)

The form is indefinite, so ascent ends at a stationary point, and over the L1 ball that may be a vertex, one row with
weight k.  What counts is the group that w is rounded to: the k largest weights, by their slope where weights are equal
(most are 0).  Every iterate is rounded, the best group is kept and is where ascent starts again, until that gains
nothing.  It starts from the greedy group, so that it is never worse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from influence_cli.core.selection.greedy import found, leading
from influence_cli.core.selection.problem import Problem, Selection
from influence_cli.core.selection.projection import onto_capped, onto_l1_ball
from influence_cli.core.selection.second_order import Expansion

L1, CAPPED = "l1", "capped"
CONSTRAINTS = (L1, CAPPED)
ARMIJO = 1e-4
HALVINGS = 12
TOGETHER = 4
"""Step sizes, each half of the one before, that are tried side by side."""
FIRST_STEP = 64.0
"""Weight that the first trial may add to the row of steepest slope.  Far more than 1, so that the trials, which are all
rounded, go from an exchange of every row that the slope favours down to none."""
GAIN = 1e-6
"""Relative gain of the form in a step below which an ascent ends."""
WORTHWHILE = 1e-5
"""Relative gain of the best rounding in an ascent below which there is no other."""
STEPS = 10
"""Steps of one ascent."""


def pgd(
    problem: Problem,
    expansion: Expansion,
    *,
    constraint: str = L1,
    rounds: int = 50,
    advance: Callable[[str], None] = lambda note: None,
) -> Selection:
    """Ascend, round, ascend from the best rounding, until that gains nothing worthwhile or after ``rounds`` steps."""
    project = onto_l1_ball if constraint == L1 else onto_capped
    rows = leading(expansion, problem.sign)
    seen: dict[bytes, float] = {}
    _values(problem, expansion, np.empty((0, problem.rows)), [rows], seen)
    best = seen[rows.tobytes()]
    steps = 0
    while steps < rounds:
        improved, taken = _ascend(problem, expansion, rows, project, seen)
        steps += taken
        advance("pgd")
        value = seen[improved.tobytes()]
        gain = value - best
        if gain > 0:
            rows, best = improved, value
        if gain <= WORTHWHILE * abs(best):
            break
    return found("pgd", expansion, rows, rounds=steps)


def _ascend(
    problem: Problem,
    expansion: Expansion,
    start: np.ndarray,
    project: Callable[[np.ndarray, float], np.ndarray],
    seen: dict[bytes, float],
) -> tuple[np.ndarray, int]:
    """The best rounding met on one ascent from a group, and the steps taken."""
    candidates = problem.candidates
    s = problem.mask(start).astype(float)
    value, slope = _signed(problem, expansion, s)
    best, best_value = start, value
    seen.setdefault(start.tobytes(), value)
    step = FIRST_STEP / max(float(np.abs(slope[candidates]).max()), np.finfo(float).tiny)
    for taken in range(1, STEPS + 1):
        for _ in range(HALVINGS // TOGETHER):
            trials = np.zeros((TOGETHER, problem.rows))
            for number, trial in enumerate(trials):
                trial[candidates] = project(s[candidates] + step / 2**number * slope[candidates], float(problem.size))
            groups = [_round(problem, trial, slope) for trial in trials]
            values = _values(problem, expansion, trials, groups, seen)
            for rows in groups:
                if seen[rows.tobytes()] > best_value:
                    best, best_value = rows, seen[rows.tobytes()]
            risen = np.flatnonzero(values >= value + ARMIJO * ((trials - s) @ slope))
            if len(risen):
                break
            step /= 2**TOGETHER
        else:
            return best, taken
        at = int(risen[0])
        gain, s, step = values[at] - value, trials[at], 2.0 * step / 2**at
        value, slope = _signed(problem, expansion, s)
        if gain <= GAIN * abs(value):
            return best, taken
    return best, STEPS


def _round(problem: Problem, s: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The k largest weights, sorted rows; by slope where weights are equal."""
    candidates = problem.candidates
    order = np.lexsort((-slope[candidates], -s[candidates]))
    return np.sort(candidates[order[: problem.size]])


def _signed(problem: Problem, expansion: Expansion, s: np.ndarray) -> tuple[float, np.ndarray]:
    value, slope = expansion.second_and_slope(problem.relaxed(s[None]))
    return problem.sign * value, problem.sign * slope


def _values(
    problem: Problem, expansion: Expansion, trials: np.ndarray, groups: Sequence[np.ndarray], seen: dict[bytes, float]
) -> np.ndarray:
    """sign * second of the trials (n, m), (n,), and into ``seen`` that of the groups that were not there before.

    A trial that takes more of the training weights than any group can, and by more than half of what these leave, is
    worth nothing: second grows without bounds towards a share of 1.
    """
    new = list({rows.tobytes(): rows for rows in groups if rows.tobytes() not in seen}.values())
    relaxed = problem.relaxed(trials)
    real = np.flatnonzero(1.0 - expansion.share(relaxed) >= (1.0 - problem.largest_share) / 2.0)
    values = np.full(len(trials), -np.inf)
    tried = relaxed.take(real).joined(problem.members(new)) if len(real) else problem.members(new)
    predicted = problem.sign * expansion.second(tried)
    values[real] = predicted[: len(real)]
    seen.update((rows.tobytes(), float(value)) for rows, value in zip(new, predicted[len(real) :], strict=True))
    return values
