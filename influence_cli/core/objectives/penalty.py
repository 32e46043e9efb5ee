"""The quadratic penalty, and the fixing of the softmax gauge.

A softmax does not notice a vector that is added to every class.  Where such a direction is unpenalised (the intercepts;
everything when lambda is 0) the Hessian is singular along it, though no gradient ever has a part there.  A quadratic
on just that direction gives the minimiser with coefficients summing to 0 over the classes, the one that scikit-learn
also reports, changes neither J at its minimum nor any prediction, and makes the Hessian definite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.weights import GroupPenalty


@dataclass(frozen=True)
class Penalty:
    """(lambda/2) theta' R theta + (1/2) sum_j c_j (sum_k theta_kj)^2 / K over K outputs and D columns.

    ``ridge`` (D,) is lambda R, ``gauge`` (D,) is c: positive where ``ridge`` is 0 in a softmax, else 0.  Every method
    takes the penalties of groups that have their own, instead of R.
    """

    ridge: np.ndarray
    gauge: np.ndarray
    outputs: int

    def product(self, V: np.ndarray, groups: GroupPenalty | None = None) -> np.ndarray:
        """The penalty's Hessian times V (P, 1 or G); at theta itself, its gradient.  (P, G)."""
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
        """(G,) of theta (P, 1 or G)."""
        product = self.product(theta, groups)
        return 0.5 * np.einsum("pg,pg->g", np.broadcast_to(theta, product.shape), product)

    def removed(self, V: np.ndarray, groups: GroupPenalty | None) -> np.ndarray:
        """(R - R_g) V, (P, G), for V (P, 1 or G): what removal takes away where it changes the penalty, else 0."""
        return np.zeros_like(V) if groups is None else self.product(V) - self.product(V, groups)

    def block(self, output: int, groups: GroupPenalty | None = None) -> np.ndarray:
        """The penalty of one output's coefficients without the gauge, (D, D), for one group at most."""
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
        """(P, P)."""
        across = np.full((self.outputs, self.outputs), 1.0 / self.outputs)
        return np.kron(np.eye(self.outputs), np.diag(self.ridge)) + np.kron(across, np.diag(self.gauge))

    @property
    def complete(self) -> bool:
        """Whether every parameter is penalised, so that a minimum always exists."""
        return bool((self.ridge > 0).all())


def penalty_of(squares: np.ndarray, family: Family, l2: float, free_intercept: bool) -> Penalty:
    """The penalty of D coefficients an output; ``squares`` (D,) are the weighted mean squares of their features."""
    ridge = np.full(len(squares), float(l2))
    if free_intercept:
        ridge[-1] = 0.0
    gauge = np.zeros(len(squares))
    free = ridge == 0.0
    if family.shift_invariant and free.any():
        # On the scale of the loss Hessian's own diagonal; a column of zeros still needs a definite Hessian.
        gauge[free] = np.where(squares[free] > 0, squares[free], 1.0) / family.outputs
    return Penalty(ridge, gauge, family.outputs)
