"""Directions along which J(.; w) falls for ever or stays constant, and the limits of f along them
(docs/design.md, section 2.10).

Without a group J may have no minimum, for one of three reasons:

    a class without rows, whose intercept (or a network's output bias) has no penalty
    rows that are separable, wholly or in part, without a penalty (of counts: the zeros from all others)
    columns that the remaining rows do not determine, without a penalty

The first is known in advance (``Objective.recession``).  ``core.separation`` finds the others, and ``settle`` follows
Newton's method in the directions that the rows do determine.  In each case J has an infimum.  An f that does not depend
on the open directions has its value there; an f that tends to the same limit along every path on which J approaches its
infimum has that limit.  Estimates, retraining, selection and scores all ask this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from influence_cli.core.arrays import columns_of
from influence_cli.core.newton_steps import (
    FINITE_REACH,
    FLAT,
    LOOKED_AHEAD,
    along_step,
    becomes_short,
    is_finite,
    step_in_held,
)
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.minimum import Goal
from influence_cli.core.quantities import RowTarget, Valued, of_columns, tested_rows
from influence_cli.core.separation import Separation, separation
from influence_cli.core.weights import Weights
from influence_cli.errors import UNBOUNDED

FINITE, ENDLESS, LIMIT, UNKNOWN = range(4)
"""The kinds of truth of a pair of group and test row: the value at a minimum, no finite limit, a limit along a
direction, or not known."""
LOST_CLASS = (
    UNBOUNDED
    + "a class (of counts: all over 0) has lost all its rows and its intercept has no penalty; the figure is the"
    " limit, null where it is infinite"
)
FAR_OUT = 64.0
"""Steps along the direction of a lost class at which retraining starts: exp(-64) no longer contributes to a
gradient."""
FAR = 1e3
"""Steps along a direction after which a probability that tends to 0 has reached it."""
SMALL = 16.0, 24.0
"""Steps that are used in place of ``FAR`` for scores, which clip probabilities at about 1e-16: probabilities are then
1e-7 and 4e-11."""
TINY = 1e-9
"""Share of the trained parameters by which a point is moved, so little that retraining could end at either point."""
MOVES = 1e-6
"""Change of f far out along a direction, relative to |f|, above which f has no limit there."""
ENDLESS_FROM = 1e100
"""Size of f above which it counts as infinite, because means of counts end at the largest floating-point numbers."""
DEPENDS, DEPENDS_ON_BASE = 1e-7, 1e-9
"""Changes of f along an open direction, relative to |f| there and to |f| before removal, above which they are no longer
rounding errors of the direction."""
SETTLING_STEPS = 100
"""Most Newton steps; each moves the outputs of a row that is barely not separated by about one unit."""
SETTLED_UP_TO = 1000
"""Parameters up to which open directions are sought: each step of ``settle`` takes P^3 and m P^2 operations, and a
group may take ``SETTLING_STEPS`` of them."""


@dataclass(frozen=True)
class Settled:
    """A point where J(.; w) is at its infimum apart from the ``open`` directions (P, q), along which it is constant or
    falls for ever.

    ``theta`` (P, 1) is the point, ``left`` (P, 1) the Newton step that remains in the other directions and
    ``decrement`` its Newton decrement.  ``converged`` is false where neither a minimum nor open directions have been
    shown; ``near`` says that a minimum in the other directions exists and is close, whether or not it was reached.
    ``separation`` is None where none was found.
    """

    theta: np.ndarray
    open: np.ndarray
    left: np.ndarray
    decrement: float
    converged: bool
    separation: Separation | None = None
    near: bool = False

    def limits(self, target: Valued, lost: np.ndarray) -> np.ndarray:
        """The limit of f of one group where J has no minimum, (T,): infinite where f is unbounded, NaN where it depends
        on the path on which J approaches its infimum.  The outputs of the classes in ``lost`` (K,) bool are ruled
        out."""
        rows = tested_rows(target)
        count = len(target.value(self.theta))
        if self.separation is None or rows is None:
            return np.full(count, np.nan)
        decided, least = self.separation.decided(rows, lost)
        decided = decided if isinstance(target, RowTarget) else np.full(count, decided.all())
        limit = limits(target, self.theta, self.separation.outward / least)[:, 0]
        return np.where(decided, np.where(np.abs(limit) > ENDLESS_FROM, np.copysign(np.inf, limit), limit), np.nan)

    @property
    def status(self) -> str:
        """The status of figures that depend on an open direction."""
        count = self.open.shape[1]
        return (
            f"{UNBOUNDED}without the group the rows leave {count} of {len(self.theta)} parameters open (separable rows,"
            " or columns that only the group fills) and there is no penalty; null where f depends on them"
        )


def settle(objective: Glm, trained: np.ndarray, w: Weights, tol: float) -> Settled:
    """The infimum of J(.; w) without a penalty, for the weights w of one group, and the directions that are open there.

    ``core.separation`` finds the open directions.  Newton's method, from the ``trained`` parameters (P, 1), finds the
    minimum in the other directions, to the relative tolerance ``tol``.  Where the separation is not found, nothing is
    ``converged``.
    """
    lost = FAR_OUT * objective.recession(w)

    def holds(so_far: Separation) -> bool:
        def step(at: np.ndarray) -> np.ndarray | None:
            _, step, least = step_in_held(objective, at, w, so_far)
            return step if least > FLAT else None

        return becomes_short(objective, trained, step, LOOKED_AHEAD)

    direction = separation(objective, w, holds)
    if direction is None:
        return Settled(trained + lost, np.zeros((len(trained), 0)), np.zeros_like(trained), np.inf, False)
    goal = Goal(tol, np.full(1, float(objective.deviation(trained)[0])))
    theta, step, decrement, done, near = trained, np.zeros_like(trained), 0.0, False, False
    for _ in range(SETTLING_STEPS):
        (there, value, gradient), step, least = step_in_held(objective, theta, w, direction)
        decrement = float(np.sqrt(max(-float((gradient * step).sum()), 0.0)))
        short = least > 0.0 and bool(objective.self_concordance(step)[0] < FINITE_REACH)
        done = short and bool(decrement <= goal.decrement(objective, theta, value)[0])
        if done:  # the step is taken whole: it is too short for J to show a decrease
            theta = theta + step
            break
        moved = along_step(objective, (there, value, gradient), step, w, direction.held)
        if moved is None:  # rounding hides any decrease
            near = short
            break
        theta = theta + (moved - there)
    scale = max(1.0, float(objective.deviation(trained)[0]))
    return Settled(theta + lost, direction.open * scale, step, decrement, done, direction, near or done)


@runtime_checkable
class Clipped(Protocol):
    """A target that clips small probabilities, so that it appears constant before it has reached its limit."""

    def arrival(self, theta: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Steps (G,) along ``direction`` (P, G) from theta (P, 1 or G) after which the direction outweighs the
        differences between the outputs of every test row."""


def limits(target: Valued, theta: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The limit of f along ``direction`` (P, G) from theta (P, 1 or G), (T, G): plus or minus infinity where f is
    unbounded, NaN where f has no value there.

    It is the value after ``FAR`` steps (``SMALL`` ones for ``Clipped`` targets), so that theta must not lie farther out
    than a trained model does.
    """
    steps = np.array([0.0, FAR, 2.0 * FAR])[:, None]
    if isinstance(target, Clipped):
        steps = np.array([0.0, *SMALL])[:, None] + target.arrival(theta, direction)
    here, there, last = (target.value(theta + step * direction) for step in steps)
    with np.errstate(invalid="ignore"):
        change = last - there
        endless = np.abs(change) > MOVES * np.abs(there) + DEPENDS_ON_BASE * np.abs(here)
        return np.where(endless & direction.any(axis=0), np.sign(change) * np.inf, last)


def depends(target: Valued, settled: Settled, base: np.ndarray) -> np.ndarray:
    """Whether f changes along any of the open directions, in either sense, (T,); ``base`` (T,) is f before removal."""
    out = np.zeros(len(base), dtype=bool)
    if not settled.open.shape[1]:
        return out
    here, rows = target.value(settled.theta), tested_rows(target)
    with np.errstate(invalid="ignore"):
        for step in (-FAR, -1.0, 1.0, FAR):
            there = target.value(settled.theta + step * settled.open)
            visible = DEPENDS * np.maximum(np.abs(here), np.abs(there)) + DEPENDS_ON_BASE * np.abs(base)[:, None]
            out |= ~(np.abs(there - here) <= visible).all(axis=1)
    if rows is not None and settled.separation is not None:  # where f tends to 0, its changes are rounding
        still = settled.separation.still(rows)
        out &= ~(still if isinstance(target, RowTarget) else still.all())
    return out


@dataclass(frozen=True)
class Before:
    """The trained model: its parameters (P, 1), and f there, (T,) or, where it differs by group, (T, G)."""

    theta: np.ndarray
    base: np.ndarray


Ends = tuple[np.ndarray, np.ndarray]
"""f (T, G), and whether it was taken along a direction without a minimum, (T, G)."""


@dataclass(frozen=True)
class Recession:
    """What G groups leave without a minimum.

    ``direction`` (P, G) is the direction of recession of lost classes, 0 where there is none; ``settled`` has the
    groups that were followed to where they settled, with or without open directions; ``ruled_out`` (K, G) bool are the
    outputs of lost classes.
    """

    direction: np.ndarray
    settled: dict[int, Settled]
    ruled_out: np.ndarray

    def ends(self, target: Valued, theta: np.ndarray, before: Before, *, out: float = 0.0) -> Ends:
        """f without the groups, and whether it is taken along a direction without a minimum: (T, G) each.

        theta (P, 1 or G) lies ``out`` steps along the directions of lost classes.  A figure is the limit where f has
        one, plus or minus infinity where f is unbounded, and NaN where f depends on an open direction.  Whether f
        changes along a lost class is judged from the trained parameters, so that estimates and the truth agree on it.
        """
        value = np.array(np.broadcast_to(target.value(theta), (len(before.base), self.direction.shape[1])))
        along = np.zeros(value.shape, dtype=bool)
        lost = np.flatnonzero(self.direction.any(axis=0) & ~np.isin(np.arange(value.shape[1]), list(self.settled)))
        if lost.size:
            outward = self.direction[:, lost]
            back = (theta[:, lost] if theta.shape[1] > 1 else theta) - out * outward
            target_of = of_columns(target, lost)
            value[:, lost] = limits(target_of, back, outward)
            if isinstance(target, Clipped):  # ranks decided by outputs that tend to 0 have no limit
                for near in (back - TINY * before.theta, back + TINY * before.theta):
                    same = np.isclose(limits(target_of, near, outward), value[:, lost], rtol=MOVES, equal_nan=True)
                    value[:, lost] = np.where(same, value[:, lost], np.nan)
            before_limits = target_of.value(before.theta), limits(target_of, before.theta, outward)
            along[:, lost] = ~np.isclose(*before_limits, rtol=DEPENDS, atol=0.0, equal_nan=True) | ~np.isfinite(
                value[:, lost]
            )
        for g, one in self.settled.items():
            base = columns_of(before.base)[:, min(g, before.base.size // len(before.base) - 1)]
            target_of = of_columns(target, np.array([g]))
            along[:, g] = depends(target_of, one, base)
            value[:, g] = target_of.value(one.theta)[:, 0]
            if along[:, g].any():
                value[along[:, g], g] = one.limits(target_of, self.ruled_out[:, g])[along[:, g]]
        return value, along

    def of_all(self, targets: Sequence[Valued], theta: np.ndarray, base: np.ndarray) -> np.ndarray:
        """The kind of truth of each figure (T, G), judged from the trained theta (P, 1), where f is ``base`` (T,):
        ``FINITE``, ``LIMIT``, ``ENDLESS``, or ``UNKNOWN`` where neither a minimum of a group nor its absence has been
        shown."""
        settled, first = [], 0
        for target in targets:
            values = base[first : first + len(target.value(theta))]
            value, along = self.ends(target, theta, Before(theta, values))
            settled.append(np.where(along, np.where(np.isfinite(value), LIMIT, ENDLESS), FINITE))
            first += len(values)
        out = np.concatenate(settled).astype(np.uint8)
        for g, one in self.settled.items():
            out[:, g] = out[:, g] if one.converged else np.where(out[:, g] == FINITE, UNKNOWN, out[:, g])
        return out

    def status(self, g: int) -> str:
        """The status of the figures of group g that are taken along its directions."""
        return LOST_CLASS if self.direction[:, g].any() else self.settled[g].status


def recession(objective: Objective, theta: np.ndarray, w: Weights) -> Recession | None:
    """What the groups leave without a minimum, judged from the trained theta (P, 1); None where all have a minimum."""
    direction = objective.recession(w)
    settled = settled_groups(objective, theta, theta, w, objective.tuning.tolerance, steps=LOOKED_AHEAD)
    loose = {g: one for g, one in settled.items() if one.open.shape[1] or not one.near}
    return without(objective, direction, loose) if loose or direction.any() else None


def without(objective: Objective, direction: np.ndarray, settled: dict[int, Settled]) -> Recession:
    """The ``Recession`` of the directions (P, G) of lost classes and of the groups that have settled."""
    outputs = direction.reshape(objective.outputs, -1, direction.shape[1])[:, -1]
    return Recession(direction, settled, (outputs < 0) & (objective.outputs > 1))


def settled_groups(
    objective: Objective, trained: np.ndarray, theta: np.ndarray, w: Weights, tol: float, *, steps: int = 0
) -> dict[int, Settled]:
    """The groups g whose J(.; w_g) does not certainly have one finite minimum, each followed to where it settles.

    Certainty is judged from theta (P, 1 or G) and at most ``steps`` Newton iterates from there.  Empty where a penalty,
    or a family without open directions, makes every minimum certain.  Models of more than ``SETTLED_UP_TO`` parameters
    are not followed, and count as not converged."""
    if not objective.convex or objective.bounded:
        return {}
    out = {}
    for g in range(w.groups):
        weights, here = w.take(np.array([g])), theta[:, min(g, theta.shape[1] - 1)][:, None]
        if is_finite(objective, here, weights, steps=steps):
            continue
        if objective.size > SETTLED_UP_TO:
            out[g] = Settled(here, np.zeros((len(here), 0)), np.zeros_like(here), np.inf, converged=False)
        else:
            assert isinstance(objective, Glm)
            out[g] = settle(objective, trained, weights, tol)
    return out
