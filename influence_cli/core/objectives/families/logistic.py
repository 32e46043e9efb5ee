"""Binary logistic regression with one weight vector, as in scikit-learn; a softmax of two classes has another
penalty."""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import expit
from influence_cli.core.objectives.families.base import Classifier, Family


class LogitCurvature(Family):
    """The derivatives of binary logistic regression that do not depend on y; ``state`` is p = 1 / (1 + exp(-eta))."""

    def residual_change(self, eta: np.ndarray, a: np.ndarray) -> np.ndarray:
        # With p the smaller of the two probabilities, u the change of its log-odds and e = exp(u) - 1, p changes by
        # p (1 - p) e / (1 + p e), where the denominator is never less than 1 / 2.
        sign = np.where(eta > 0.0, -1.0, 1.0)
        p = expit(sign * eta)
        e = a * sign.astype(a.dtype, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            np.expm1(e, out=e)
            denominator = e * p.astype(a.dtype, copy=False)
            denominator += 1.0
            e *= (sign * p * (1.0 - p)).astype(a.dtype, copy=False)
            e /= denominator
        return e

    def curvature_state(self, eta: np.ndarray) -> np.ndarray:
        return expit(eta)

    def curve(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        return state * (1.0 - state) * a

    def third(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        return state * (1.0 - state) * (1.0 - 2.0 * state) * a**2

    def self_concordance(self, a: np.ndarray) -> np.ndarray:
        return np.abs(a[:, 0])

    def pair(self, state: np.ndarray, j: int, k: int) -> np.ndarray:
        return state[:, 0] * (1.0 - state[:, 0])

    def typical_curvature(self, state: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.array([[np.average(self.pair(state, 0, 0)[0], weights=w)]])


class Logistic(LogitCurvature, Classifier):
    """l = log(1 + exp(eta)) - y eta with y in {0, 1}."""

    outputs = 1
    classes = 2

    def loss(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        against = (1.0 - 2.0 * y) * eta[:, 0]
        return np.maximum(against, 0.0) + np.log1p(np.exp(-np.abs(against)))  # takes half of the time of logaddexp

    def residual(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        # With the sign inside of expit, no digit is lost where the probability of the row's class is nearly 1.
        sign = 1.0 - 2.0 * y
        out = sign * eta
        expit(out, out=out)
        out *= sign
        return out

    def predict(self, eta: np.ndarray) -> np.ndarray:
        return (eta[:, 0] > 0.0).astype(np.int64)

    def away_from(self, absent: np.ndarray) -> np.ndarray:
        """Changes of the output (G, 1) along which the probability of the ``absent`` classes (G, 2) bool tends to 0."""
        return absent[:, :1].astype(float) - absent[:, 1:]

    def forms(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (2.0 * y - 1.0)[None, None], np.zeros((1, len(y)), dtype=bool)

    def margin(self, eta: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of the row's own class, (G, b), and its derivative (G, 1, b)."""
        sign = 2.0 * y - 1.0
        return sign * eta[:, 0], np.broadcast_to(sign, eta.shape)

    def logit(self, eta: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of class k, (G, b), and its derivative (G, 1, b)."""
        sign = 2.0 * k - 1.0
        return sign * eta[:, 0], np.full(eta.shape, sign)
