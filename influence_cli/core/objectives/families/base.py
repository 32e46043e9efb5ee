"""The interface of a loss family: everything about the loss of one row that does not depend on how its outputs were
computed.

Arrays are (G, K, b) for G parameter vectors, K outputs and b rows.  The rows are contiguous in memory, so that sums
over the K outputs add whole rows of the cache.  ``y`` (b,) are the labels or responses.  Derivatives are with respect
to the outputs ``eta``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Family(ABC):
    """The loss l(eta, y) of a row, and its derivatives with respect to eta."""

    outputs: int
    """K, the number of outputs of a row."""
    shift_invariant = False
    """Whether adding one number to all K outputs changes nothing."""
    classes: int
    """Number of classes; 0 for regression."""
    single_precision = False
    """Whether derivatives can be computed from float32 outputs in float32: accurately enough, and much faster."""

    @abstractmethod
    def loss(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The loss of every row, (G, b)."""

    @abstractmethod
    def residual(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The first derivative of the loss, dl/d eta, (G, K, b)."""

    @abstractmethod
    def curvature_state(self, eta: np.ndarray) -> np.ndarray:
        """The function of eta that second and third derivatives are computed from, (G, K, b): computed once, for many
        products."""

    @abstractmethod
    def curve(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        """The second derivative of the loss times a (G, K, b), (G, K, b).

        For a shift-invariant family, a last output of ``a`` that is 0 may be left out of ``a`` and of the result.
        """

    @abstractmethod
    def third(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        """The third derivative of the loss contracted twice with a (G, K, b), (G, K, b)."""

    @abstractmethod
    def residual_change(self, eta: np.ndarray, a: np.ndarray) -> np.ndarray:
        """The residual at eta + a minus the residual at eta, (G, K, b), in the precision of ``a`` (G, K, b).  Its
        rounding error is relative to ``a`` and not to the residual.  ``eta`` (1, K, b) is float64.

        For a shift-invariant family, a last output of ``a`` that is 0 may be left out of ``a`` and of the result.  The
        result is NaN where ``a`` is too large for this accuracy.
        """

    @abstractmethod
    def self_concordance(self, a: np.ndarray) -> np.ndarray:
        """A bound s(a) (G, b) of how fast the curvature changes along a (G, K, b): |l'''[a, c, c]| <= s(a) l''[c, c]
        for every c (Bach 2010)."""

    @abstractmethod
    def pair(self, state: np.ndarray, j: int, k: int) -> np.ndarray:
        """Entry (j, k) of the second derivative, (G, b), which has the same sign in all rows."""

    @abstractmethod
    def typical_curvature(self, state: np.ndarray, w: np.ndarray) -> np.ndarray:
        """The mean second derivative sum_i w_i l_i'' / sum_i w_i, (K, K), from the state (1, K, m) and weights w
        (m,)."""

    @abstractmethod
    def predict(self, eta: np.ndarray) -> np.ndarray:
        """Predicted class codes or expected responses, (G, b)."""

    def centre(self, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Outputs (K,), the same for all rows, from which training starts; for a regression those with the least loss
        under the weights w (m,)."""
        return np.zeros(self.outputs)

    def kinds(self, y: np.ndarray) -> tuple[np.ndarray, int]:
        """The kind of each row (m,), numbered from 0, and the number S of kinds, on which ``away`` depends: for a
        classifier the classes."""
        return np.zeros(len(y), dtype=np.int64), 1

    def away(self, present: np.ndarray) -> np.ndarray:
        """Changes of the outputs (G, K), the same for all rows, along which the loss falls for ever if only the kinds
        ``present`` (G, S) bool are left; 0 where there is none."""
        return np.zeros((len(present), self.outputs))

    def forms(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linear forms of the outputs of every row, (F, K, b), that describe along which changes of its outputs its
        loss never rises: those along which no form is negative, and each ``fixed`` form, (F, b) bool, is 0.  Returns
        the forms and ``fixed``."""
        outputs = np.broadcast_to(np.eye(self.outputs)[:, :, None], (self.outputs, self.outputs, len(y)))
        return outputs, np.ones((self.outputs, len(y)), dtype=bool)

    def curvature_scale(self, y: np.ndarray, w: np.ndarray) -> float:
        """The typical size of a row's second derivative where it has a unit, else 1, for responses y and weights w
        (m,)."""
        return 1.0


class Squared(Family):
    """Half the squared error of every output: the second derivative is 1, and the third is 0."""

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
    """Whether exp(-l) is the predicted probability of the row's class."""

    @abstractmethod
    def margin(self, eta: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of the row's own class against its strongest rival, (G, b), and their derivative (G, K, b)."""

    @abstractmethod
    def logit(self, eta: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The score of class k, (G, b), and its derivative (G, K, b)."""

    @abstractmethod
    def away_from(self, absent: np.ndarray) -> np.ndarray:
        """Changes of the outputs (G, K) along which the probability of the ``absent`` classes (G, classes) bool tends
        to 0."""

    def kinds(self, y: np.ndarray) -> tuple[np.ndarray, int]:
        return y.astype(np.int64, copy=False), self.classes

    def away(self, present: np.ndarray) -> np.ndarray:
        return self.away_from(~present)
