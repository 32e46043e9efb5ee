"""Binomial regression of shares of successes, with the logit as link: logistic regression of grouped trials."""

from __future__ import annotations

import numpy as np

from influence_cli.core.arrays import expit, xlogy
from influence_cli.core.objectives.families.base import Regressor
from influence_cli.core.objectives.families.logistic import LogitCurvature


class Binomial(LogitCurvature, Regressor):
    """l = log(1 + exp(eta)) - y eta + y log y + (1 - y) log(1 - y) with 0 <= y <= 1: half the deviance of one trial.

    If the rows are weighted by their numbers of trials, J is the negative log-likelihood of the binomial model, up to a
    factor and a constant that do not depend on theta.
    """

    def loss(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        eta = eta[:, 0]
        softplus = np.maximum(eta, 0.0) + np.log1p(np.exp(-np.abs(eta)))
        return softplus - y * eta + (xlogy(y, y) + xlogy(1.0 - y, 1.0 - y))

    def residual(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (1.0 - y) * expit(eta) - y * expit(-eta)

    def response(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = expit(eta)
        return share[:, 0], share * (1.0 - share)

    def centre(self, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        mean = float(np.average(y, weights=w))
        return np.array([np.log(mean / (1.0 - mean)) if 0.0 < mean < 1.0 else 0.0])

    def forms(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.where(y >= 1, 1.0, -1.0)[None, None], ((y > 0) & (y < 1))[None]

    def kinds(self, y: np.ndarray) -> tuple[np.ndarray, int]:
        """Kind 0 for a share of 0, 1 for a share of 1, and 2 for all others."""
        return np.where(y <= 0, 0, np.where(y >= 1, 1, 2)), 3

    def away(self, present: np.ndarray) -> np.ndarray:
        """Downwards where no row that is left has a success, upwards where none has a failure."""
        none, all_of_them = ~present[:, 1] & ~present[:, 2], ~present[:, 0] & ~present[:, 2]
        return (all_of_them.astype(float) - none)[:, None]
