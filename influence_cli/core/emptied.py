"""Groups that contain most rows of a feature or all rows of a class: where their paths start, and corrections of M^-1,
the inverse of the trained Hessian with which they are followed.

If a group contains most rows in which a feature is not 0, as groups chosen by a column's value do, little curvature
except the penalty's remains along its parameter.  The same holds where the feature becomes a constant, along its
parameter combined with the intercept, and where a whole class is removed, along all parameters of its output, because
the other rows rule the class out.  The trained model's M still has the group's curvature there, so that the path would
be long, its steps small, and an estimate of the remaining distance far too small.  Therefore the diagonal of M^-1 is
raised at such parameters to the inverse of the remaining curvature (``raised_where_emptied``).

How far a class is ruled out depends mainly on the intercepts, and penalised intercepts would take many steps to arrive.
Along the direction a in which they rule the class out, the derivative of J at theta* + t a is about

    a'R theta* + t a'R a - p e^-t,      p = -a'(grad J(theta*) - R theta*)

with R the Hessian of the penalty and p the mean probability that the other rows give to the class, which falls by the
factor e^-t.  The path starts where this is 0, which costs one pass; unpenalised intercepts start far out instead
(``FAR_OUT``).
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
"""Remaining share of a feature's variation below which M^-1 is raised at its parameter."""
STEPS = 60
"""Newton steps for a single number t, each of which adds at most about 1 to it."""


def without_classes(
    objective: Objective, theta: np.ndarray, w: Weights, gradient: np.ndarray | None = None
) -> np.ndarray:
    """The starting points (P, G) of the paths of G groups with the weights w after removal: the trained theta (P, 1),
    with lost classes ruled out.  Where intercepts are penalised, this needs the ``gradient`` (P, G) at theta, else a
    pass."""
    along, free = _ruling_out(objective, w), objective.recession(w).any(axis=0)
    start = theta + np.where(free, FAR_OUT, 0.0) * along
    held = np.flatnonzero(along.any(axis=0) & ~free)
    if held.size:
        here, along = w.take(held), along[:, held]
        slopes = objective.gradient(theta, here) if gradient is None else gradient[:, held]
        resistance = objective.penalty.product(along, here.penalty)
        slope, curvature = dots(resistance, theta), dots(along, resistance)
        pull, step = slope - dots(along, slopes), np.zeros(held.size)
        for _ in range(STEPS):
            left = pull * np.exp(-step)
            step += np.maximum(left - slope - step * curvature, 0.0) / (left + curvature)
        start[:, held] += step * along
    return start


def raised_where_emptied(
    objective: Objective, w: Weights, inverse: Preconditioner, theta: np.ndarray, gradient: np.ndarray | None = None
) -> Preconditioner:
    """M^-1 raised where groups leave less than ``EMPTIED`` of a feature or nothing of a class, for paths from theta (P,
    1 or G).  Where intercepts are penalised, this needs the ``gradient`` (P, G) there, else a pass.

    Along a feature's parameter the curvature of J after removal is about left u^2 + r_g, and that of M is usual u^2 +
    r.  u^2 is the typical curvature of the feature (u is ``Objective.units``), r and r_g are the penalty before and
    after removal, and ``usual`` and ``left`` are the shares of u^2 that vary about the mean, which an intercept
    absorbs, with all rows and without the group.  Along the parameters of a lost class p replaces (K - 1) / K^2, the
    curvature of one output among K equal ones, as the factor of u^2.  Directions without any curvature are left to
    ``recession``.
    """
    if not isinstance(objective, Glm):
        return inverse
    left, usual, mean = (np.tile(one, (objective.outputs, 1)) for one in _features_left(objective, w))
    along, emptied = _ruling_out(objective, w), left < EMPTIED * usual
    if along.any():
        ruled_out = along < 0.0 if objective.outputs > 1 else along != 0.0
        lost = np.reshape(ruled_out, (objective.outputs, -1, w.groups)).any(axis=1)
        lost = np.repeat(lost, len(left) // objective.outputs, axis=0)
        classes = max(objective.outputs, 2)
        usual = np.where(lost, (classes - 1.0) / classes**2, usual)
        left = np.where(lost, np.clip(_pull(objective, w, along, theta, gradient), 0.0, usual), left)
        emptied, mean = emptied | lost, np.where(lost, 0.0, mean)
    if not emptied.any():
        return inverse
    scale = objective.units[:, None] ** 2
    ridge = np.tile(objective.penalty.ridge, objective.outputs)[:, None]
    held = left * scale + ridge * (1.0 if w.penalty is None else w.penalty.scaling)
    usual = usual * scale + ridge
    raised = emptied & (held > np.finfo(float).eps * usual) & (held < usual)
    shape = objective.outputs, -1, w.groups
    diagonal = np.where(raised, 1.0 / np.where(raised, held, 1.0) - 1.0 / usual, 0.0)
    return Raised(inverse, diagonal.reshape(shape), np.where(raised, mean, 0.0).reshape(shape))


def _features_left(objective: Glm, w: Weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each feature, as shares of its mean square: how much remains without each group (D, G), measured about its
    mean there if there is an intercept; how much there is with all rows (D, 1); and the mean without each group (D, G),
    which is no share."""
    design, squares = objective.design, objective.mean_squares
    moments = [design.chosen_moments(rows, w.base[rows]) for rows in w.rows]
    taken, taken_squares = np.stack(moments, axis=-1)
    total = np.where(squares > 0, squares, 1.0)[:, None]
    left, usual, mean = total - taken_squares, np.ones_like(total), np.zeros_like(taken)
    if design.intercept:
        first = objective.means[:-1, None]
        mean[:-1] = (first - taken[:-1]) / np.maximum(left[-1], np.finfo(float).tiny)
        left[:-1] -= left[-1] * mean[:-1] ** 2
        usual[:-1] = np.clip(1.0 - first**2 / total[:-1], 0.0, 1.0)
    return w.kept * np.clip(left / total, 0.0, usual), usual, mean


def _pull(
    objective: Objective, w: Weights, along: np.ndarray, theta: np.ndarray, gradient: np.ndarray | None
) -> np.ndarray:
    """The mean probability p that the remaining rows give to lost classes at theta (P, 1 or G), (G,); 0 where lost
    classes are ruled out by free intercepts, or there are none."""
    if not (along.any(axis=0) & ~objective.recession(w).any(axis=0)).any():
        return np.zeros(w.groups)
    gradient = objective.gradient(theta, w) if gradient is None else gradient
    return dots(along, objective.penalty.product(theta, w.penalty) - gradient)


def _ruling_out(objective: Objective, w: Weights) -> np.ndarray:
    """Directions (P, G) of the intercepts, penalised or not, that rule out classes without rows; 0 where there are
    none, or no intercepts.  For a network only unpenalised intercepts count."""
    if not isinstance(objective, Glm) or not objective.design.intercept:
        return objective.recession(w)
    out = np.zeros((w.groups, objective.outputs, objective.design.columns))
    out[:, :, -1] = objective.away(w)
    return out.reshape(w.groups, -1).T
