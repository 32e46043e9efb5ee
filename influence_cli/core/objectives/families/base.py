"""What a loss family offers: everything about one row that does not depend on how its outputs were computed.

Arrays are (G, K, b): G parameter vectors, K outputs, b rows, with the rows contiguous, so that sums over the K outputs
add whole rows of the cache.  ``y`` is (b,).  Derivatives are with respect to the outputs ``eta``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Family(ABC):
    """A row loss l(eta, y) and its derivatives in eta."""

    outputs: int
    """K, the number of outputs that a row has."""
    shift_invariant = False
    """Whether adding one number to all K outputs changes nothing."""
    classes: int
    """Number of classes; 0 for regression."""
    single_precision = False
    """Whether derivatives of float32 outputs can be computed in float32: accurate enough, and much faster."""

    @abstractmethod
    def loss(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """l, (G, b)."""

    @abstractmethod
    def residual(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """dl/d eta, (G, K, b)."""

    @abstractmethod
    def curvature_state(self, eta: np.ndarray) -> np.ndarray:
        """What the second derivative needs of eta, (G, K, b); computed once, used for many products."""

    @abstractmethod
    def curve(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        """The second derivative times a (G, K, b).

        For a shift-invariant family with the last output of ``a`` equal to 0, the last output may be left out.
        """

    @abstractmethod
    def third(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        """The third derivative contracted twice with a, (G, K, b)."""

    def residual_change(self, eta: np.ndarray, a: np.ndarray) -> np.ndarray:
        """The residual at eta + a minus the residual at eta, (G, K, b), with a rounding error relative to ``a``
        (G, K, b) and not to the residual; in the precision of ``a``.  ``eta`` (1, K, b) is float64.

        For a shift-invariant family with the last output of ``a`` equal to 0, the last output may be left out.  The
        result is NaN where ``a`` is too large for this accuracy.
        """
        y = np.zeros(eta.shape[2])
        return self.residual(eta + a, y) - self.residual(eta, y)

    @abstractmethod
    def self_concordance(self, a: np.ndarray) -> np.ndarray:
        """(G, b) with |third derivative [a, c, c]| <= spread(a) * second [c, c] for every c (Bach 2010): how much the
        curvature can change on a way a."""

    @abstractmethod
    def pair(self, state: np.ndarray, j: int, k: int) -> np.ndarray:
        """Entry (j, k) of the second derivative, (G, b).  Of one sign over all rows."""

    @abstractmethod
    def typical_curvature(self, state: np.ndarray, w: np.ndarray) -> np.ndarray:
        """sum_i w_i l_i'' / sum_i w_i, (K, K), from state (1, K, m) and weights (m,)."""

    @abstractmethod
    def predict(self, eta: np.ndarray) -> np.ndarray:
        """Class codes or expected responses, (G, b)."""

    def centre(self, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Outputs (K,) that suit all rows alike, for training to start from; w (m,)."""
        return np.zeros(self.outputs)

    def kinds(self, y: np.ndarray) -> tuple[np.ndarray, int]:
        """The kind of each row (m,), numbered from 0, and the number of kinds: all that ``away`` needs of the rows."""
        return np.zeros(len(y), dtype=np.int64), 1

    def away(self, present: np.ndarray) -> np.ndarray:
        """Change of the outputs (G, K), the same for all rows, along which the loss falls for ever where only the kinds
        ``present`` (G, S) bool are left; 0 where there is none."""
        return np.zeros((len(present), self.outputs))

    def forms(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linear forms (F, K, b) of the rows' outputs: the loss of a row never rises along a change of its outputs
        where none of them is negative, and 0 where it is ``fixed`` (F, b) bool."""
        outputs = np.broadcast_to(np.eye(self.outputs)[:, :, None], (self.outputs, self.outputs, len(y)))
        return outputs, np.ones((self.outputs, len(y)), dtype=bool)

    def curvature_scale(self, y: np.ndarray, w: np.ndarray) -> float:
        """The size of a row's second derivative where that has a unit, else 1; w (m,)."""
        return 1.0


class Squared(Family):
    """Half the squared errors: the second derivative is 1, the third 0."""

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
        return state[:, 0] if j == k else np.zeros_like(state[:, 0])

    def typical_curvature(self, state: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.eye(self.outputs)


class Regressor(Family):
    """A family of numeric responses with one output."""

    outputs = 1
    classes = 0

    @abstractmethod
    def response(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The expected response in its own unit, (G, b), and its derivative (G, 1, b)."""

    def predict(self, eta: np.ndarray) -> np.ndarray:
        return self.response(eta)[0]


class Classifier(Family):
    """A family of class labels y in 0 .. classes - 1."""

    probabilistic = True
    """Whether exp(-l) is the probability of the row's class."""

    @abstractmethod
    def margin(self, eta: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of the row's own class against its strongest rival, (G, b), and its derivative (G, K, b)."""

    @abstractmethod
    def logit(self, eta: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The score of class k, (G, b), and its derivative (G, K, b)."""

    @abstractmethod
    def away_from(self, absent: np.ndarray) -> np.ndarray:
        """Change of the outputs (G, K) that rules the absent classes (G, classes) out."""

    def kinds(self, y: np.ndarray) -> tuple[np.ndarray, int]:
        return y.astype(np.int64, copy=False), self.classes

    def away(self, present: np.ndarray) -> np.ndarray:
        return self.away_from(~present)
