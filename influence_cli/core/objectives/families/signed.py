"""Squared errors of classes coded as targets of -1 and +1: scikit-learn's RidgeClassifier."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.families.base import Classifier, Squared
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.softmax import Softmax


class Signed(Squared, Classifier):
    """l = sum_k (eta_k - t_k)^2 / 2 with t_k = +1 for the row's own class and -1 for the others.

    Two classes have a single output, whose sign is the prediction.  The scores are not log-odds, and there are no
    probabilities.
    """

    probabilistic = False

    def __init__(self, classes: int):
        self.classes = classes
        self.outputs = 1 if classes == 2 else classes
        self._ranking: Classifier = Logistic() if classes == 2 else Softmax(classes)

    def loss(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 0.5 * ((eta - self._targets(y)) ** 2).sum(axis=1)

    def residual(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return eta - self._targets(y)

    def predict(self, eta: np.ndarray) -> np.ndarray:
        return self._ranking.predict(eta)

    def margin(self, eta: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The score of the row's own class minus that of its strongest rival, (G, b), and its derivative (G, K, b); of
        two classes, the output with the sign of the row's class."""
        return self._ranking.margin(eta, y)

    def logit(self, eta: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The score of class k, (G, b), and its derivative (G, K, b)."""
        return self._ranking.logit(eta, k)

    def away_from(self, absent: np.ndarray) -> np.ndarray:
        """0, because the squared error has a minimum whichever classes are left."""
        return np.zeros((len(absent), self.outputs))

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """The targets t, (K, b)."""
        if self.outputs == 1:
            return (2.0 * y - 1.0)[None]
        return np.where(np.arange(self.classes)[:, None] == y, 1.0, -1.0)
