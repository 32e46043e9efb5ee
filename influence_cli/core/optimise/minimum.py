"""The criterion for a minimum, and the result of every minimiser (docs/design.md, section 2.9).

With r the gradient of J(.; w) at theta and H its Hessian there, the Newton decrement sqrt(r' H^-1 r) is the distance of
theta from the minimum in the norm of H, to first order.  Unlike a gradient norm it does not depend on the units of the
features, and it is large where a gradient lies along directions of little curvature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from influence_cli.core.arrays import dots, norms
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.weights import RowWeights, Weights

ROUNDING = 16 * np.finfo(float).eps
"""Rounding error of a gradient relative to its terms: a few units for each of its operations, and for the sums over the
rows."""

Watch = Callable[[int, float], None]
"""A function that is called in every iteration with its number and the largest gradient norm at its start."""


@dataclass(frozen=True)
class Goal:
    """The decrements (G,) at which a minimisation ends: ``tol`` times ``scale``.

    ``scale`` (G,) is in the norm of H: for retraining the distance from the trained parameters, for training the
    standard deviation of the outputs.  A column also ends, unconverged, at a gradient norm of ``pause`` (L-BFGS), or
    where a step is not solved in ``patience`` products (Newton-CG), so that another preconditioner can continue.
    """

    tol: float
    scale: np.ndarray
    pause: float = 0.0
    patience: int | None = None

    def take(self, columns: np.ndarray) -> Goal:
        """The goal of the columns (A,)."""
        return replace(self, scale=self.scale[columns])

    def decrement(self, objective: Objective, theta: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The decrement (G,) that is small enough at theta (P, G), where J is ``value`` (G,).

        It is at least the rounding error of a decrement.  With errors e_i of the rows' residuals the gradient is off by
        X'(w e), whose norm in H^-1 is at most the root of sum_i w_i e_i^2 / A_i: eps times the size of the outputs'
        terms, weighted with the curvature A, and of the residuals.
        """
        terms = np.abs(objective.units) @ np.abs(theta) + np.sqrt(2.0 * np.abs(value))
        return np.maximum(self.tol * self.scale, ROUNDING * terms)


@dataclass(frozen=True)
class Points:
    """The current points of G minimisations, which are modified in place.

    ``theta`` (P, G), J's ``value`` (G,) and ``gradient`` (P, G) there, and the ``norm`` (G,) of the gradient in the
    units of the features, infinite where J is.
    """

    theta: np.ndarray
    value: np.ndarray
    gradient: np.ndarray
    norm: np.ndarray

    @classmethod
    def at(cls, objective: Objective, start: np.ndarray, w: Weights) -> Points:
        """The points of J(.; w) at ``start`` (P, 1 or G)."""
        value, gradient = objective.value_and_gradient(np.asfortranarray(start), w)
        theta = np.array(np.broadcast_to(start, gradient.shape), order="F")
        return cls(theta, value, gradient, np.where(np.isfinite(value), scaled_norms(objective, gradient), np.inf))


@dataclass(frozen=True)
class Minimum:
    """theta (P, G), the norm of grad J there (G,), the iterations taken (G,) and whether the goal was reached (G,).

    ``decrement`` (G,) is an estimate of the Newton decrement at theta, and ``left`` (P, G) one of the Newton step that
    remains; infinite and NaN where they are not known.
    """

    theta: np.ndarray
    grad_norm: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    decrement: np.ndarray
    left: np.ndarray

    def continue_with(self, columns: np.ndarray, rest: Minimum) -> Minimum:
        """This minimum with the columns (A,) replaced by ``rest``, which continued them; iterations add up."""
        theta, left, iterations = self.theta.copy(order="F"), self.left.copy(order="F"), self.iterations.copy()
        grad_norm, converged, decrement = self.grad_norm.copy(), self.converged.copy(), self.decrement.copy()
        theta[:, columns], grad_norm[columns], converged[columns] = rest.theta, rest.grad_norm, rest.converged
        left[:, columns], decrement[columns] = rest.left, rest.decrement
        iterations[columns] += rest.iterations
        return Minimum(theta, grad_norm, iterations, converged, decrement, left)

    def counting_from(self, iterations: np.ndarray) -> Minimum:
        """The same minimum after that many earlier iterations (G,), which are added."""
        return replace(self, iterations=self.iterations + iterations)

    def take(self, columns: np.ndarray) -> Minimum:
        """The columns (A,) alone, with their iterations counted from 0."""
        return Minimum(
            self.theta[:, columns],
            self.grad_norm[columns],
            np.zeros(len(columns), dtype=np.int64),
            self.converged[columns],
            self.decrement[columns],
            self.left[:, columns],
        )


def goal_of_move(objective: Objective, start: np.ndarray, w: RowWeights, inverse: Preconditioner, tol: float) -> Goal:
    """``tol`` times the length of the step by ``inverse`` from ``start`` (P, 1 or G) towards the minimum of J(.; w)."""
    first = objective.gradient(start, w)
    return Goal(tol, decrements(first, -inverse(first)))


def decrements(gradient: np.ndarray, move: np.ndarray) -> np.ndarray:
    """sqrt(-r'z) (G,) for gradients r (P, G) and steps z = -B^-1 r (P, G)."""
    return np.sqrt(np.maximum(-dots(gradient, move), 0.0))


def scaled_norms(objective: Objective, gradient: np.ndarray) -> np.ndarray:
    """|r| (G,) for gradients r (P, G), in the units of the features."""
    return norms(gradient / objective.units[:, None])


def counting_on(watch: Watch | None, done: int) -> Watch | None:
    """``watch`` for a minimisation that continues after ``done`` iterations."""
    return None if watch is None else lambda iteration, norm: watch(done + iteration, norm)
