"""Linear regression: half the squared error."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.families.base import Regressor, Squared


class Gaussian(Squared, Regressor):
    """l = (eta - y)^2 / 2."""

    def loss(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 0.5 * (eta[:, 0] - y) ** 2

    def residual(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return eta - y

    def centre(self, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.atleast_1d(np.average(y, weights=w))

    def response(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return eta[:, 0], np.ones_like(eta)
