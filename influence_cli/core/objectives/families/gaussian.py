"""Linear regression: half the squared error."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.families.base import Regressor


class Gaussian(Regressor):
    """l = (eta - y)^2 / 2; the second derivative is 1, the third 0."""

    def loss(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 0.5 * (eta[:, 0] - y) ** 2

    def residual(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return eta - y

    def curvature_state(self, eta: np.ndarray) -> np.ndarray:
        return np.ones_like(eta)

    def curve(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        return state * a

    def third(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        return np.zeros_like(a)

    def residual_change(self, eta: np.ndarray, a: np.ndarray) -> np.ndarray:
        return a

    def self_concordance(self, a: np.ndarray) -> np.ndarray:
        return np.zeros_like(a[:, 0])

    def pair(self, state: np.ndarray, j: int, k: int) -> np.ndarray:
        return state[:, 0]

    def typical_curvature(self, state: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.ones((1, 1))

    def centre(self, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.atleast_1d(np.average(y, weights=w))

    def response(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return eta[:, 0], np.ones_like(eta)
