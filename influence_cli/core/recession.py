"""Directions along which J(.; w) falls for ever or does not change, and what f becomes along them
(docs/design.md, "Truths that are not finite").

Without a group J may have no minimum.  Three things lead there:

    a class without rows       whose intercept, or a network's output bias, has no penalty
    rows that can be separated without a penalty, wholly or in part (of counts: zeros from the rest)
    columns that the rows left do not determine, without a penalty

The first is known in advance (``Objective.recession``).  The others are found by ``settle``, which follows Newton's
method in the space that the rows do determine until the rest has no curvature left.  In each case J has an infimum, and
an f that does not depend on the open directions has its value there.  Estimates, retraining, selection and scores all
ask this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.linalg.lapack import dpocon

from influence_cli.core.arrays import columns_of, norms, symmetric
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.minimum import Goal
from influence_cli.core.quantities import Valued, of_columns
from influence_cli.core.solvers.cholesky import DOUBLE_UP_TO, factorize
from influence_cli.core.weights import RowWeights, Weights
from influence_cli.errors import UNBOUNDED, NotConvergedError

FINITE, ENDLESS, LIMIT, UNKNOWN = range(4)
"""What the truth of a pair is: a minimum's, none, the limit along a direction, or not known."""
LOST_CLASS = (
    UNBOUNDED
    + "a class (of counts: all over 0) has lost all its rows and its intercept has no penalty; the figure is the"
    " limit, null where it is infinite"
)
FAR_OUT = 64.0
"""Steps along the direction of a lost class at which retraining starts: exp(-64) is no gradient any more."""
FAR = 1e3
"""Steps along a direction after which a probability that goes to 0 has arrived."""
SMALL = 16.0, 24.0
"""The same for scores, which clip probabilities at 1e-16 or so: by then they are 1e-7 and 4e-11."""
MOVES = 1e-6
"""Change of f, relative to |f|, along a direction from far out on, that says that it has no limit there."""
DEPENDS, DEPENDS_ON_BASE = 1e-7, 1e-9
"""Change of f along an open direction, relative to |f| there and to |f| before removal, that is more than the rounding
of the direction."""
FLAT = 1e-13
"""Curvature, relative to that of the trained model, up to which a direction is open: a row that is separated keeps
exp(-30) of its own."""
SETTLING_STEPS = 200
"""Newton steps; each takes a row that is to be separated about one further."""
HALVINGS = 30
FINITE_REACH = 0.5
"""Change of some row's outputs in a Newton step under which a minimum is certain
(``training.require_finite_minimum``)."""
SETTLED_UP_TO = 1000
"""Parameters up to which open directions are looked for: each step of ``settle`` takes P^3 and m P^2 operations, and
a group may take ``SETTLING_STEPS`` of them."""


@dataclass(frozen=True)
class Settled:
    """Where J(.; w) is at its infimum but for the ``open`` directions (P, q), in which J is flat or falls for ever.

    ``theta`` (P, 1); ``left`` (P, 1) is the Newton step that is left to go in the others, ``decrement`` its length.
    ``converged`` is false where neither a minimum nor open directions have been shown.
    """

    theta: np.ndarray
    open: np.ndarray
    left: np.ndarray
    decrement: float
    converged: bool

    @property
    def status(self) -> str:
        """What is to be said of figures that depend on an open direction."""
        count = self.open.shape[1]
        return (
            f"{UNBOUNDED}without the group the rows leave {count} of {len(self.theta)} parameters open (separable rows,"
            " or columns that only the group fills) and there is no penalty; null where f depends on them"
        )


def is_finite(objective: Objective, theta: np.ndarray, w: RowWeights) -> bool:
    """Whether J(.; w) certainly has one finite minimum, seen from theta (P, 1): the Hessian is definite there, by more
    than the rounding of its factor, and no row's outputs move by ``FINITE_REACH`` in a Newton step.  False may mean
    either."""
    if objective.bounded:
        return True
    if objective.size > DOUBLE_UP_TO:
        return False
    try:
        factor = factorize(objective, theta, w)
    except NotConvergedError:
        return False
    # Without units: rows of length 1.  A small pivot in the middle raises the rounding of one that should be 0.
    least, _ = dpocon(factor.lower / np.linalg.norm(factor.lower, axis=1)[:, None], 1.0, uplo="L")
    if least <= FLAT:
        return False
    step = -factor(objective.gradient(theta, w))
    return bool(objective.self_concordance(step)[0] < FINITE_REACH)


def settle(objective: Objective, trained: np.ndarray, start: np.ndarray, w: Weights, tol: float) -> Settled:
    """The infimum of a convex J(.; w), w of one group, from ``start`` (P, 1), and the directions that are open there.

    Newton's method with a generalised inverse of the Hessian: eigenvalues relative to the curvature at the ``trained``
    parameters (P, 1) that are no more than ``FLAT`` count as 0.  Rows that can be separated lose their curvature as
    they go, so that a direction of recession becomes flat, and the rest is a minimisation of its own (Geyer 2009: the
    limiting conditional model).
    """
    unit = np.sqrt(np.maximum(_dense(objective, trained, objective.weights).diagonal(), 0.0))[:, None]
    unit = np.where(unit > 0, unit, objective.units[:, None])
    theta, done = np.array(start, order="F"), False
    value, gradient = objective.value_and_gradient(theta, w)
    goal = Goal(tol, np.full(1, float(objective.deviation(trained)[0])))
    for _ in range(SETTLING_STEPS):
        curvature, basis = np.linalg.eigh(_dense(objective, theta, w) / unit / unit.T)
        held = curvature > max(FLAT, 4 * len(theta) * np.finfo(float).eps) * max(float(curvature[-1]), 1.0)
        along = basis[:, held].T @ (gradient / unit)
        step = -basis[:, held] @ (along / curvature[held, None]) / unit
        decrement = float(np.sqrt(max(float((along[:, 0] ** 2 / curvature[held]).sum()), 0.0)))
        open_directions = basis[:, ~held] / unit
        done = decrement <= goal.decrement(objective, theta, value)[0]
        # A step that still takes a row far is one of a row that is being separated.
        if done and objective.self_concordance(step)[0] < FINITE_REACH:
            break
        theta, value, gradient, moved = _along(objective, theta, value, gradient, step, w)
        if not moved:
            break
    scale = max(1.0, float(objective.deviation(trained)[0]))
    return Settled(theta, open_directions * scale, step, decrement, bool(done))


def _dense(objective: Objective, theta: np.ndarray, w: RowWeights) -> np.ndarray:
    """The Hessian, (P, P), both triangles."""
    return symmetric(objective.dense_curvature(theta, w, np.dtype(np.float64)))


def _along(
    objective: Objective, theta: np.ndarray, value: np.ndarray, gradient: np.ndarray, step: np.ndarray, w: RowWeights
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Move along the step as far as J falls, or where it cannot be told, as the gradient does; and whether it did."""
    slope = float((gradient * step).sum())
    for halving in range(HALVINGS):
        share = 0.5**halving
        trial = theta + share * step
        there, slopes = objective.value_and_gradient(trial, w)
        falls = there[0] <= value[0] + 1e-4 * share * slope
        unresolved = abs(there[0] - value[0]) <= 1e-14 * abs(value[0])
        shorter = norms(slopes / objective.units[:, None])[0] < norms(gradient / objective.units[:, None])[0]
        if np.isfinite(there[0]) and ((falls and slope < 0) or (unresolved and shorter)):
            return trial, there, slopes, True
    return theta, value, gradient, False


@runtime_checkable
class Clipped(Protocol):
    """A target that does not see arbitrarily small probabilities, so that it stands still before it has a limit."""

    def arrival(self, theta: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Steps (G,) along ``direction`` (P, G) from theta (P, 1 or G) after which every test row has left the outputs
        that it had behind."""


def limits(target: Valued, theta: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """f far out along ``direction`` (P, G) from theta (P, 1 or G), (T, G): its limit, plus or minus infinity where it
    goes on for ever, NaN where f itself has no value there.  theta is no farther out than a trained model is."""
    steps = np.array([0.0, FAR, 2.0 * FAR])[:, None]
    if isinstance(target, Clipped):
        steps = np.array([0.0, *SMALL])[:, None] + target.arrival(theta, direction)
    here, there, last = (target.value(theta + step * direction) for step in steps)
    with np.errstate(invalid="ignore"):
        change = last - there
        endless = np.abs(change) > MOVES * np.abs(there) + DEPENDS_ON_BASE * np.abs(here)
        return np.where(endless & direction.any(axis=0), np.sign(change) * np.inf, last)


def depends(target: Valued, settled: Settled, base: np.ndarray, lost: bool) -> np.ndarray:
    """Whether f changes along any of the open directions, to either side, (T,); ``base`` (T,) is f before removal.

    Rows that are separated are far out, and f there with them, so that only long ways show what is open.  Where a class
    is ``lost`` the ways are shorter than that of its intercept, which rules the class out.
    """
    out = np.zeros(len(base), dtype=bool)
    if not settled.open.shape[1]:
        return out
    here = target.value(settled.theta)
    far = FAR_OUT / 2.0 if lost else FAR
    with np.errstate(invalid="ignore"):
        for step in (-far, -1.0, 1.0, far):
            there = target.value(settled.theta + step * settled.open)
            visible = DEPENDS * np.maximum(np.abs(here), np.abs(there)) + DEPENDS_ON_BASE * np.abs(base)[:, None]
            out |= ~(np.abs(there - here) <= visible).all(axis=1)
    return out


@dataclass(frozen=True)
class Before:
    """The trained model: parameters (P, 1), and f (T,) there; (T, G) where it differs by group."""

    theta: np.ndarray
    base: np.ndarray


Ends = tuple[np.ndarray, np.ndarray]
"""f (T, G), and whether it was taken along a direction without a minimum."""


@dataclass(frozen=True)
class Recession:
    """What G groups leave without a minimum: ``direction`` (P, G) of lost classes, 0 where there is none, and the
    groups that have ``settled``, with or without open directions."""

    direction: np.ndarray
    settled: dict[int, Settled]

    def ends(self, target: Valued, theta: np.ndarray, before: Before, *, out: float = 0.0) -> Ends:
        """f without the groups, and whether it is a figure taken along a direction without a minimum: (T, G) each.

        theta (P, 1 or G) lies ``out`` steps along the directions of lost classes.  The limit stands where f has one,
        plus or minus infinity where it goes on for ever, NaN where f depends on an open direction.  Whether f moves
        along a lost class is seen from the trained parameters, so that estimates and the truth say the same.
        """
        value = np.array(np.broadcast_to(target.value(theta), (len(before.base), self.direction.shape[1])))
        along = np.zeros(value.shape, dtype=bool)
        lost = np.flatnonzero(self.direction.any(axis=0))
        if lost.size:
            outward = self.direction[:, lost]
            back = (theta[:, lost] if theta.shape[1] > 1 else theta) - out * outward
            own = of_columns(target, lost)
            value[:, lost] = limits(own, back, outward)
            begun = own.value(before.theta), limits(own, before.theta, outward)
            along[:, lost] = ~np.isclose(*begun, rtol=DEPENDS, atol=0.0, equal_nan=True) | ~np.isfinite(value[:, lost])
        for g, one in self.settled.items():
            base = columns_of(before.base)[:, min(g, before.base.size // len(before.base) - 1)]
            loose = depends(of_columns(target, np.array([g])), one, base, bool(g in lost))
            value[loose, g], along[:, g] = np.nan, along[:, g] | loose
        return value, along

    def of_all(self, targets: Sequence[Valued], theta: np.ndarray, base: np.ndarray) -> np.ndarray:
        """What the truth is of figures (T, G) seen from the trained theta (P, 1), where f is ``base`` (T,): ``FINITE``,
        ``LIMIT``, ``ENDLESS``, or ``UNKNOWN`` where it could not be shown whether a group leaves a minimum."""
        found, first = [], 0
        for target in targets:
            own = base[first : first + len(target.value(theta))]
            value, along = self.ends(target, theta, Before(theta, own))
            found.append(np.where(along, np.where(np.isfinite(value), LIMIT, ENDLESS), FINITE))
            first += len(own)
        out = np.concatenate(found).astype(np.uint8)
        for g, one in self.settled.items():
            out[:, g] = out[:, g] if one.converged else np.where(out[:, g] == FINITE, UNKNOWN, out[:, g])
        return out

    def status(self, g: int) -> str:
        """What is to be said of the figures of group g that are taken along its directions."""
        return LOST_CLASS if self.direction[:, g].any() else self.settled[g].status


def recession(objective: Objective, theta: np.ndarray, w: Weights) -> Recession | None:
    """What the groups leave without a minimum, seen from the trained theta (P, 1); None where all have one."""
    direction = objective.recession(w)
    found = settled_groups(objective, theta, theta, w, objective.tuning.tolerance)
    loose = {g: one for g, one in found.items() if one.open.shape[1] or not one.converged}
    return Recession(direction, loose) if loose or direction.any() else None


def settled_groups(
    objective: Objective, trained: np.ndarray, theta: np.ndarray, w: Weights, tol: float
) -> dict[int, Settled]:
    """The groups whose J(.; w_g) is not certain to have one finite minimum, seen from theta (P, 1 or G), followed to
    where it settles.  None where a penalty or a family without open directions makes every minimum certain; models of
    more than ``SETTLED_UP_TO`` parameters are not followed, and count as not converged."""
    if not objective.convex or objective.bounded:
        return {}
    out = {}
    for g in range(w.groups):
        own, here = w.take(np.array([g])), theta[:, min(g, theta.shape[1] - 1)][:, None]
        if is_finite(objective, here, own):
            continue
        if objective.size > SETTLED_UP_TO:
            out[g] = Settled(here, np.zeros((len(here), 0)), np.zeros_like(here), np.inf, converged=False)
        else:
            out[g] = settle(objective, trained, here, own, tol)
    return out
