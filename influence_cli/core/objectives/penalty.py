"""The quadratic penalty, and the fixing of the softmax gauge.

A softmax does not notice a vector that is added to every class.  Where such a direction is unpenalised (the intercepts;
everything when lambda is 0) the Hessian is singular along it, though no gradient ever has a part there.  A quadratic
on just that direction gives the minimiser with coefficients summing to 0 over the classes, the one that scikit-learn
also reports, changes neither J at its minimum nor any prediction, and makes the Hessian definite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Penalty:
    """(lambda/2) theta' R theta + (1/2) sum_j c_j (sum_k theta_kj)^2 / K over K outputs and D columns.

    ``ridge`` (D,) is lambda R, ``gauge`` (D,) is c: positive where ``ridge`` is 0 in a softmax, else 0.
    """

    ridge: np.ndarray
    gauge: np.ndarray
    outputs: int

    def product(self, V: np.ndarray) -> np.ndarray:
        """The penalty's Hessian times V (P, G); at theta itself, its gradient."""
        stack = V.T.reshape(V.shape[1], self.outputs, -1)
        out = self.ridge * stack
        if self.gauge.any():
            out += self.gauge * stack.mean(axis=1, keepdims=True)
        return out.reshape(V.shape[1], -1).T

    def value(self, theta: np.ndarray) -> np.ndarray:
        """(G,)."""
        return 0.5 * np.einsum("pg,pg->g", theta, self.product(theta))

    def dense(self) -> np.ndarray:
        """(P, P)."""
        across = np.full((self.outputs, self.outputs), 1.0 / self.outputs)
        return np.kron(np.eye(self.outputs), np.diag(self.ridge)) + np.kron(across, np.diag(self.gauge))

    @property
    def complete(self) -> bool:
        """Whether every parameter is penalised, so that a minimum always exists."""
        return bool((self.ridge > 0).all())
