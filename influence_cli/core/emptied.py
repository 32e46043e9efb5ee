"""Groups that empty a feature or a class of its rows: where their way begins, and what M does not know of it.

A group that takes most of a feature's rows, as those that a column's value chooses do, leaves little curvature along
its parameter but the penalty's.  One that takes a whole class leaves as little along all parameters of the class's
output: the other rows rule it out.  The trained model's M is blind to both: the way would be long, its steps small, and
an estimate of what is left to go far too small.  So the diagonal of M^-1 is raised at such parameters to what the group
leaves (``raised_where_emptied``).

What a class keeps is a matter of the intercepts above all, and those that are penalised would take many steps to find
their place.  Along the direction a in which they rule the class out, the derivative of J at theta* + t a is about

    a'R theta* + t a'R a - p e^-t,      p = -a'(grad J(theta*) - R theta*)

with R the penalty and p what the other rows give to the class (their mean probability of it), which falls by the factor
e^-t.  The way begins at its zero, which costs one pass; unpenalised intercepts are taken far out instead.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import dots
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.recession import FAR_OUT
from influence_cli.core.solvers.preconditioners import Preconditioner, Raised
from influence_cli.core.weights import Weights

EMPTIED = 0.5
"""Share of a feature's mean square under which the curvature along its parameter is the group's own."""
STEPS = 60
"""Newton steps on one number, each of which adds at most about 1 to it."""


def without_classes(
    objective: Objective, theta: np.ndarray, w: Weights, gradient: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Where the ways of G groups with the weights w after removal begin, (P, G), and the gradients (P, G) there: at the
    trained theta (P, 1), whose ``gradient`` (P, G) saves a pass, but with lost classes ruled out."""
    gradient = objective.gradient(theta, w) if gradient is None else gradient
    along, start = _ruling_out(objective, w), np.repeat(theta, w.groups, axis=1)
    far = np.flatnonzero(along.any(axis=0))
    if not far.size:
        return start, gradient
    along, here = along[:, far], w.take(far)
    held = objective.penalty.product(along, here.penalty)
    slope, curvature = dots(held, theta), dots(along, held)
    pull, step = slope - dots(along, gradient[:, far]), np.zeros(far.size)
    free = objective.recession(here).any(axis=0)
    for _ in range(STEPS):
        left = pull * np.exp(-step)
        step += np.maximum(left - slope - step * curvature, 0.0) / np.where(free, np.inf, left + curvature)
    start[:, far] += np.where(free, FAR_OUT, step) * along
    gradient = gradient.copy()
    gradient[:, far] = objective.gradient(start[:, far], here)
    return start, gradient


def raised_where_emptied(
    objective: Objective, w: Weights, inverse: Preconditioner, theta: np.ndarray, gradient: np.ndarray
) -> Preconditioner:
    """M^-1 with a larger diagonal where groups leave less than ``EMPTIED`` of a feature or nothing of a class, for ways
    from theta (P, G) with gradients (P, G).

    Along such a parameter J's curvature is about left u^2 + lambda R_g instead of u^2 + lambda R, with u the typical
    curvature of the feature, and ``left`` the share of the feature, or what the other rows give to the class; a
    direction that nothing holds is left to ``recession``.
    """
    left = objective.features_left(w)
    if left is None:
        return inverse
    along = _ruling_out(objective, w)
    if along.any():
        pull = dots(along, objective.penalty.product(theta, w.penalty) - gradient)
        ruled_out = along < 0.0 if objective.outputs > 1 else along != 0.0
        lost = np.reshape(ruled_out, (objective.outputs, -1, w.groups)).any(axis=1)
        left = np.where(np.repeat(lost, len(left) // objective.outputs, axis=0), np.clip(pull, 0.0, left), left)
    if not (left < EMPTIED).any():
        return inverse
    scale = objective.units[:, None] ** 2
    ridge = np.tile(objective.penalty.ridge, objective.outputs)[:, None]
    held = left * scale + ridge * (1.0 if w.penalty is None else w.penalty.scaling)
    usual = scale + ridge
    raised = (left < EMPTIED) & (held > np.finfo(float).eps * usual)
    return Raised(inverse, np.where(raised, 1.0 / np.where(raised, held, 1.0) - 1.0 / usual, 0.0))


def _ruling_out(objective: Objective, w: Weights) -> np.ndarray:
    """Directions (P, G) of the intercepts, penalised or not, that rule out what has lost its last row; 0 where nothing
    has, or there are no intercepts.  Of a network only free ones."""
    if not isinstance(objective, Glm) or not objective.design.intercept:
        return objective.recession(w)
    out = np.zeros((w.groups, objective.outputs, objective.design.columns))
    out[:, :, -1] = objective.away(w)
    return out.reshape(w.groups, -1).T
