"""The quadratic penalty, and the fixing of the gauge of a softmax.

A softmax does not change if the same vector is added to the coefficients of every class.  Where such a direction has no
penalty (the intercepts; every direction if lambda is 0), the Hessian is singular along it, although no gradient has a
component there.  A quadratic term in this direction alone makes the Hessian definite.  It selects the minimiser whose
coefficients sum to 0 over the classes, which scikit-learn reports as well, and changes neither J at its minimum nor any
prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.weights import GroupPenalty


@dataclass(frozen=True)
class Penalty:
    """(1/2) sum_kj r_j theta_kj^2 + (1/2) sum_j c_j (sum_k theta_kj)^2 / K over K outputs and D columns.

    ``ridge`` (D,) is r = lambda R; ``gauge`` (D,) is c, positive where ``ridge`` is 0 in a softmax and 0 elsewhere.
    Methods with the argument ``groups`` use the penalties of groups that have their own instead of r.
    """

    ridge: np.ndarray
    gauge: np.ndarray
    outputs: int

    def product(self, V: np.ndarray, groups: GroupPenalty | None = None) -> np.ndarray:
        """The penalty's Hessian times V (P, 1 or G), which for V = theta is the penalty's gradient: (P, G)."""
        stack = V.T.reshape(V.shape[1], self.outputs, -1)
        if groups is None:
            out = self.ridge * stack
        else:
            scaling = groups.scaling.T.reshape(-1, self.outputs, stack.shape[2])
            out = self.ridge * scaling * stack
            if groups.direction is not None:
                along = groups.direction.T[:, None]
                out += along * (stack * along).sum(axis=2, keepdims=True)
        if self.gauge.any():
            out += self.gauge * stack.mean(axis=1, keepdims=True)
        return out.reshape(len(out), -1).T

    def value(self, theta: np.ndarray, groups: GroupPenalty | None = None) -> np.ndarray:
        """The value of the penalty at theta (P, 1 or G), (G,)."""
        product = self.product(theta, groups)
        return 0.5 * np.einsum("pg,pg->g", np.broadcast_to(theta, product.shape), product)

    def removed(self, V: np.ndarray, groups: GroupPenalty | None) -> np.ndarray:
        """lambda (R - R_g) V, (P, G), for V (P, 1 or G): the part of the penalty's Hessian that removal takes away,
        times V; 0 where removal does not change the penalty."""
        return np.zeros_like(V) if groups is None else self.product(V) - self.product(V, groups)

    def block(self, output: int, groups: GroupPenalty | None = None) -> np.ndarray:
        """The penalty's Hessian for one output's coefficients, (D, D), without the gauge, for at most one group."""
        columns = len(self.ridge)
        if groups is None:
            return np.diag(self.ridge)
        out = np.diag(self.ridge * groups.scaling[output * columns : (output + 1) * columns, 0])
        if groups.direction is not None:
            out += np.outer(groups.direction[:, 0], groups.direction[:, 0])
        return out

    def diagonal(self, groups: GroupPenalty | None = None) -> np.ndarray:
        """The diagonal (D,) of ``block`` for the first output."""
        if groups is None:
            return self.ridge
        out = np.asarray(self.ridge * groups.scaling[: len(self.ridge), 0])
        return out if groups.direction is None else out + groups.direction[:, 0] ** 2

    def dense(self) -> np.ndarray:
        """The penalty's Hessian with the gauge, (P, P)."""
        across = np.full((self.outputs, self.outputs), 1.0 / self.outputs)
        return np.kron(np.eye(self.outputs), np.diag(self.ridge)) + np.kron(across, np.diag(self.gauge))


def penalty_of(squares: np.ndarray, family: Family, l2: float, free_intercept: bool) -> Penalty:
    """The penalty with lambda = ``l2`` of D coefficients for each output; ``squares`` (D,) are the weighted mean
    squares of their features.  With ``free_intercept`` the last coefficient is not penalised."""
    ridge = np.full(len(squares), float(l2))
    if free_intercept:
        ridge[-1] = 0.0
    gauge = np.zeros(len(squares))
    free = ridge == 0.0
    if family.shift_invariant and free.any():
        # As large as the diagonal of the loss's Hessian; a column of zeros needs a definite Hessian as well.
        gauge[free] = np.where(squares[free] > 0, squares[free], 1.0) / family.outputs
    return Penalty(ridge, gauge, family.outputs)
