"""Linear regression: half the squared error."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.families.base import Regressor


class Gaussian(Regressor):
    """l = (eta - y)^2 / 2; the second derivative is 1, the third 0."""

    def loss(self, eta, y):
        return 0.5 * (eta[:, 0] - y) ** 2

    def residual(self, eta, y):
        return eta - y

    def curvature_state(self, eta):
        return np.ones_like(eta)

    def curve(self, state, a):
        return state * a

    def third(self, state, a):
        return np.zeros_like(a)

    def self_concordance(self, a):
        return np.zeros_like(a[:, 0])

    def pair(self, state, j, k):
        return state[:, 0]

    def typical_curvature(self, state, w):
        return np.ones((1, 1))

    def centre(self, y, w):
        return np.atleast_1d(np.average(y, weights=w))

    def response(self, eta):
        return eta[:, 0], np.ones_like(eta)
