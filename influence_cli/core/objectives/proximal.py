"""The objective whose linear response the influence functions of a network are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from influence_cli.core.objectives.mlp import Mlp
from influence_cli.core.weights import Piece, RowWeights, Weights, as_weights


class Proximal(Mlp):
    """The proximal Bregman objective around theta* (Bae et al. 2022, Eq. 10), with changed row weights w:

        sum_i w*_i D_i(theta) + sum_i (w_i - w*_i) l_i(theta) + penalty and damping on theta - theta*,
        D_i(theta) = l_i(eta) - l_i(eta*) - r_i*' (eta - eta*)

    where w* are the training weights, eta and eta* the outputs of row i at theta and theta*, and r_i* the derivative of
    its loss at eta*.  At w = w* the minimum is theta*, whether or not training had converged, and the Hessian there is
    the damped Gauss-Newton matrix.  The terms D_i hold the outputs of the kept rows near eta*.  Constants are left out.
    """

    def __init__(self, model: Mlp, theta: np.ndarray):
        vars(self).update(vars(model))
        self._center = theta
        self._tilt = model.weights * model.residuals(theta).T[None]

    def _pieces(self, w: Weights, step: int) -> Iterator[Piece]:
        """All rows, because the term r_i*' (eta - eta*) has the training weights whatever w is."""
        return w.blocks(step)

    def free_intercepts(self, change: np.ndarray) -> np.ndarray:
        """As for ``Mlp``, but 0 if there is damping, which also acts on the biases."""
        return super().free_intercepts(change if self.damping == 0.0 else np.zeros_like(change))

    def value(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        return self.value_and_gradient(theta, w)[0]

    def gradient(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        return self.value_and_gradient(theta, w)[1]

    def value_and_gradient(self, theta: np.ndarray, w: RowWeights) -> tuple[np.ndarray, np.ndarray]:
        theta, w = theta.reshape(self.size, -1), as_weights(w)
        value, gradient = self._loss_and_gradient(theta, w)
        # Penalty and damping act on theta - theta*, and removal may also change the penalty.
        way = theta - self._center
        pull = self.penalty.product(way) + self.damping * way
        value = value + 0.5 * np.einsum("pg,pg->g", way, pull)
        if w.penalty is None:
            return value, gradient + pull
        value = value + self.penalty.value(theta, w.penalty) - self.penalty.value(theta)
        return value, gradient + pull - self.penalty.removed(theta, w.penalty)
