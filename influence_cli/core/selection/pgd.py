"""The paper's Eq. 18 with its L0-to-L1 relaxation: projected gradient ascent, then rounding.

    maximise  second(w)   subject to   sum |w_i| <= k       (``l1``, the paper's)
                                or     0 <= w_i <= 1, sum w_i <= k   (``capped``: w stays a relaxed group)

The form is indefinite, so ascent ends at a stationary point, and over the L1 ball that may be a vertex, one row with
weight k.  What counts is the group that w is rounded to: the k largest weights, by their slope where weights are equal
(most are 0).  Every iterate is rounded, the best group is kept and is where ascent starts again, until that gains
nothing.  It starts from the greedy group, so that it is never worse.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .expansion import Expansion
from .greedy import found
from .problem import Problem, Selection
from .projection import onto_capped, onto_l1_ball

L1, CAPPED = "l1", "capped"
CONSTRAINTS = (L1, CAPPED)
ARMIJO = 1e-4
HALVINGS = 12
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
    rows = problem.top(problem.sign * expansion.row_influence)
    seen: dict[bytes, float] = {}
    best = _value(problem, expansion, rows, seen)
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
    own = problem.candidates
    s = problem.indicator([start])[:, 0]
    value, slope = _signed(problem, expansion, s)
    best, best_value = start, value
    seen.setdefault(start.tobytes(), value)
    step = FIRST_STEP / max(float(np.abs(slope[own]).max()), np.finfo(float).tiny)
    for taken in range(1, STEPS + 1):
        for _ in range(HALVINGS):
            trial = np.zeros_like(s)
            trial[own] = project(s[own] + step * slope[own], float(problem.size))
            way = trial - s
            rounded = _round(problem, trial, slope)
            if _value(problem, expansion, rounded, seen) > best_value:
                best, best_value = rounded, seen[rounded.tobytes()]
            trial_value, trial_slope = _signed(problem, expansion, trial)
            if trial_value >= value + ARMIJO * float(slope @ way):
                break
            step *= 0.5
        else:
            return best, taken
        gain, (s, value, slope) = trial_value - value, (trial, trial_value, trial_slope)
        if gain <= GAIN * abs(value):
            return best, taken
        step *= 2.0
    return best, STEPS


def _round(problem: Problem, s: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The k largest weights, sorted rows; by slope where weights are equal."""
    own = problem.candidates
    order = np.lexsort((-slope[own], -s[own]))
    return np.sort(own[order[: problem.size]])


def _signed(problem: Problem, expansion: Expansion, s: np.ndarray) -> tuple[float, np.ndarray]:
    value, slope = expansion.second_and_slope(s)
    return problem.sign * value, problem.sign * slope


def _value(problem: Problem, expansion: Expansion, rows: np.ndarray, seen: dict[bytes, float]) -> float:
    """The form at a group, from memory where it was there before."""
    key = rows.tobytes()
    if key not in seen:
        seen[key] = problem.sign * float(expansion.second(problem.indicator([rows]))[0])
    return seen[key]
