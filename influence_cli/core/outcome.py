"""The change of f from retraining without the groups, and its error (docs/design.md, sections 2.9 and 2.10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.core.arrays import columns_of
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.minimum import Minimum
from influence_cli.core.quantities import Target
from influence_cli.core.recession import FAR_OUT, Before, Settled, settled_groups, without
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.weights import Weights

FINE = "ok"
STOPPED = "retraining stopped at gradient norm {:.1e}, with more than {:.0e} of the way to go"
"""Status of a group whose minimum was not reached."""
ROUNDING_OF_F = 16 * np.finfo(float).eps
"""Rounding error of f, relative to |f| before plus |f| after removal."""


@dataclass(frozen=True)
class Trained(Before):
    """The trained model, and how far f may be ``off`` because training ended short of the minimum, in the shape of
    ``base``."""

    off: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What removal does to f.

    ``change`` (T, G) is infinite or NaN where f has no limit, ``error`` (T, G) is how far it may be off.  ``status``
    has a text for each group, ``minimum`` the parameters and how they were reached.  ``unbounded`` (T, G) are the pairs
    whose figure is taken along a direction without a minimum.
    """

    change: np.ndarray
    error: np.ndarray
    status: tuple[str, ...]
    minimum: Minimum
    unbounded: np.ndarray


def before_removal(
    objective: Objective, targets: Sequence[Target], theta: np.ndarray, base: np.ndarray, inverse: Preconditioner
) -> Trained:
    """The part that all groups share: f is ``base`` at theta (P, 1), and ``inverse`` is approximately H^-1 there."""
    left = -inverse(objective.training_gradient(theta) + objective.penalty.product(theta))
    value = np.concatenate([target.value(theta + left) for target in targets]).reshape(base.shape)
    return Trained(theta, base, np.abs(np.nan_to_num(value - base)))


def after_removal(
    objective: Objective, targets: Sequence[Target], before: Trained, minimum: Minimum, w: Weights, tol: float
) -> Outcome:
    """f after retraining to ``minimum`` under the weights w, minus f before; its limit where J has no minimum.

    With e the change of f along the step that remains (``minimum.left``), o that along one more step of training, and q
    the tolerance ``tol``, the error is 2 (|e| + q |change| + |o|) plus the rounding error of f.
    """
    settled = settled_groups(objective, before.theta, minimum.theta, w, tol)
    open_ended = without(objective, objective.recession(w), settled)
    minimum = _replaced(minimum, settled) if settled else minimum
    changes, errors, unbounded, first = [], [], [], 0
    for target in targets:
        near = target.value(minimum.theta)
        part = slice(first, first + len(near))
        first, base, off = part.stop, columns_of(before.base[part]), columns_of(before.off[part])
        with np.errstate(invalid="ignore"):
            to_go = np.nan_to_num(np.abs(target.value(minimum.theta + np.nan_to_num(minimum.left)) - near))
            value, along = open_ended.ends(target, minimum.theta, Before(before.theta, base), out=FAR_OUT)
            change = value - base
            rounding = ROUNDING_OF_F * (np.abs(value) + np.abs(base))
        changes.append(change)
        errors.append(2.0 * (to_go + tol * np.abs(change) + off) + rounding)
        unbounded.append(along)
    along = np.concatenate(unbounded)
    status = [STOPPED.format(norm, tol) for norm in minimum.grad_norm]
    for g in np.flatnonzero(minimum.converged):
        status[g] = open_ended.status(int(g)) if along[:, g].any() else FINE
    return Outcome(np.concatenate(changes), np.concatenate(errors), tuple(status), minimum, along)


def _replaced(minimum: Minimum, settled: dict[int, Settled]) -> Minimum:
    """The minimum, with the groups in ``settled`` replaced by the points where these settled."""
    columns = np.array(list(settled))
    settled_groups = list(settled.values())
    theta = np.hstack([one.theta for one in settled_groups])
    rest = Minimum(
        theta,
        minimum.grad_norm[columns],
        np.zeros(len(columns), dtype=np.int64),
        np.array([one.converged for one in settled_groups]),
        np.array([one.decrement for one in settled_groups]),
        np.hstack([one.left for one in settled_groups]),
    )
    return minimum.continue_with(columns, rest)
