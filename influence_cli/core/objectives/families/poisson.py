"""Poisson regression of counts and rates with the logarithm as link, as scikit-learn's PoissonRegressor defines it."""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import xlogy
from influence_cli.core.objectives.families.base import Regressor

FARTHEST = 300.0
"""Outputs above this value are replaced by it in exp.  No trained model has such outputs, only trial steps that are
then rejected, and the squares of the results are still finite."""


class Poisson(Regressor):
    """l = exp(eta) - y eta + (y log y - y) with y >= 0: half the unit deviance, which is 0 where exp(eta) = y.

    The negative log-likelihood has log y! in place of y log y - y.  Neither depends on theta, so that gradients,
    Hessians and changes of the loss are the same.  scikit-learn's alpha is lambda.  Second and third derivatives are
    equal to ``state`` = exp(eta), the expected response.
    """

    def loss(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        eta = eta[:, 0]
        return _mean(eta) - y * eta + (xlogy(y, y) - y)

    def residual(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return _mean(eta) - y

    def curvature_state(self, eta: np.ndarray) -> np.ndarray:
        return _mean(eta)

    def curve(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        return state * a

    def third(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        return state * a**2

    def residual_change(self, eta: np.ndarray, a: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return _mean(eta).astype(a.dtype, copy=False) * np.expm1(a)

    def self_concordance(self, a: np.ndarray) -> np.ndarray:
        return np.abs(a[:, 0])

    def pair(self, state: np.ndarray, j: int, k: int) -> np.ndarray:
        return state[:, 0]

    def typical_curvature(self, state: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.array([[np.average(state[0, 0], weights=w)]])

    def response(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = _mean(eta)
        return mean[:, 0], mean

    def centre(self, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        mean = np.average(y, weights=w)
        return np.array([np.log(mean) if mean > 0 else 0.0])

    def curvature_scale(self, y: np.ndarray, w: np.ndarray) -> float:
        """The mean response, in which the second derivative exp(eta) has its unit."""
        mean = float(np.average(y, weights=w))
        return mean if mean > 0 else 1.0

    def forms(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.broadcast_to(-1.0, (1, 1, len(y))), (y > 0)[None]

    def kinds(self, y: np.ndarray) -> tuple[np.ndarray, int]:
        """Kind 0 for a response of 0, and 1 for all others."""
        return (y > 0).astype(np.int64), 2

    def away(self, present: np.ndarray) -> np.ndarray:
        """Downwards where every response that is left is 0."""
        return np.where(present[:, 1], 0.0, -1.0)[:, None]


def _mean(eta: np.ndarray) -> np.ndarray:
    return np.exp(np.minimum(eta, FARTHEST))
