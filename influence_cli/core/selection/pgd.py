"""Projected gradient ascent on Eq. 18 of Basu et al. (2020) with its L0-to-L1 relaxation, followed by rounding.

    maximise  second(w)   subject to   sum |w_i| <= k       (``l1``, the paper's)
                                or     0 <= w_i <= 1, sum w_i <= k   (``capped``: w stays a relaxed group)

The quadratic form is indefinite, so that an ascent ends at a stationary point; over the L1 ball this may be a vertex,
where one row has the weight k.  What counts is the group to which w is rounded: the rows with the k largest weights,
ties (most weights are 0) being broken by the slope.  Every iterate is rounded.  The best group is kept, and the next
ascent starts from it, until an ascent gains nothing.  The first ascent starts from the greedy group, so that the result
is never worse than that.
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
"""Share of the linear gain that a step must achieve (sufficient increase, the usual constant)."""
HALVINGS = 12
"""Step sizes, each half of the one before, after which an ascent ends without a sufficient increase."""
TOGETHER = 4
"""Step sizes that are evaluated in one block; it divides ``HALVINGS``."""
FIRST_STEP = 64.0
"""Weight that the first trial adds to the row of steepest slope before projection.  It is far above 1, so that the
trials, which are all rounded, range from an exchange of every row that the slope favours down to none."""
GAIN = 1e-6
"""Relative gain in the quadratic form below which a step is the last one of its ascent."""
WORTHWHILE = 1e-5
"""Relative gain in the best rounded group below which an ascent is the last one."""
STEPS = 10
"""Largest number of steps in one ascent."""


def pgd(
    problem: Problem,
    expansion: Expansion,
    *,
    constraint: str = L1,
    rounds: int = 50,
    advance: Callable[[str], None] = lambda note: None,
) -> Selection:
    """Ascend, round, and ascend again from the best rounded group, until the gain is negligible.

    No ascent starts after ``rounds`` steps in all.
    """
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
    """The best rounded group of one ascent from the group ``start``, and the number of steps taken."""
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
    """The sorted rows of the k largest weights s (m,); ties are broken by the slope (m,)."""
    candidates = problem.candidates
    order = np.lexsort((-slope[candidates], -s[candidates]))
    return np.sort(candidates[order[: problem.size]])


def _signed(problem: Problem, expansion: Expansion, s: np.ndarray) -> tuple[float, np.ndarray]:
    value, slope = expansion.second_and_slope(problem.relaxed(s[None]))
    return problem.sign * value, problem.sign * slope


def _values(
    problem: Problem, expansion: Expansion, trials: np.ndarray, groups: Sequence[np.ndarray], seen: dict[bytes, float]
) -> np.ndarray:
    """sign * second at each of the ``trials`` (n, m): (n,).  The values of new ``groups`` are stored in ``seen``.

    second grows without bound as the share p tends to 1.  The value of a trial is therefore -inf where 1 - p is less
    than half of the smallest 1 - p of any group.
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
