"""Multinomial logistic regression: K classes, K outputs and the cross-entropy loss."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.families.base import Classifier


class Softmax(Classifier):
    """l = log sum_k exp(eta_k) - eta_y.  Its derivatives of order n >= 2 are the cumulants of the class indicator under
    the predicted probabilities p, which are the ``state``."""

    shift_invariant = True
    single_precision = True

    def __init__(self, classes: int):
        self.classes = self.outputs = classes

    def loss(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        # log1p of the others' share: if p_y is nearly 1, the loss is far below the rounding of log sum exp.
        top = eta.argmax(axis=1)[:, None]
        peak = np.take_along_axis(eta, top, axis=1)
        others = np.exp(eta - peak)
        np.put_along_axis(others, top, 0.0, axis=1)
        return np.log1p(others.sum(axis=1)) + peak[:, 0] - _at(eta, y)

    def residual(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        p = self.curvature_state(eta)
        rows = np.arange(y.size)
        # p_y - 1 is computed as minus the sum of the others, so that no digit is lost where p_y is nearly 1.
        p[:, y, rows] = 0.0
        p[:, y, rows] = -p.sum(axis=1)
        return p

    def curvature_state(self, eta: np.ndarray) -> np.ndarray:
        p = eta - eta.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        return p

    def residual_change(self, eta: np.ndarray, a: np.ndarray) -> np.ndarray:
        # p_k changes by p_k (e_k - s) / (1 + s), with e = exp(a) - 1 and s = sum_k p_k e_k.
        p = self.curvature_state(eta)[:, : a.shape[1]].astype(a.dtype, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.expm1(a)
            s = np.einsum("xkb,gkb->gb", p, e)[:, None]
            e -= s
            e *= p
            s += 1.0
            s[s < np.sqrt(np.finfo(a.dtype).eps)] = np.nan  # half of the digits are lost
            e /= s
        return e

    def curve(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        out = state * a
        out -= state * out.sum(axis=1, keepdims=True)
        return out

    def third(self, state: np.ndarray, a: np.ndarray) -> np.ndarray:
        centred = a - (state * a).sum(axis=1, keepdims=True)
        squared = state * centred**2
        return squared - state * squared.sum(axis=1, keepdims=True)

    def self_concordance(self, a: np.ndarray) -> np.ndarray:
        return a.max(axis=1) - a.min(axis=1)

    def pair(self, state: np.ndarray, j: int, k: int) -> np.ndarray:
        if j == k:
            return state[:, j] * (1.0 - state[:, j])
        return -state[:, j] * state[:, k]

    def typical_curvature(self, state: np.ndarray, w: np.ndarray) -> np.ndarray:
        p = state[0]
        weighted = p * (w / w.sum())
        return np.diag(weighted.sum(axis=1)) - weighted @ p.T

    def predict(self, eta: np.ndarray) -> np.ndarray:
        return eta.argmax(axis=1)

    def away_from(self, absent: np.ndarray) -> np.ndarray:
        """Changes of the outputs (G, K), with sum 0 over the classes, along which the probability of the ``absent``
        classes (G, K) bool tends to 0."""
        return absent.mean(axis=1, keepdims=True) - absent

    def forms(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The score of a row's own class minus that of each other class."""
        unit = np.eye(self.classes)
        rivals = np.array([np.delete(np.arange(self.classes), k) for k in range(self.classes)])
        differences = unit[:, None] - unit[rivals]
        return differences[y.astype(np.int64)].transpose(1, 2, 0), np.zeros((self.classes - 1, len(y)), dtype=bool)

    def margin(self, eta: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """eta_y minus the largest of the other outputs, (G, b), and its derivative (G, K, b)."""
        rows = np.arange(y.size)
        others = eta.copy()
        others[:, y, rows] = -np.inf
        rival = others.argmax(axis=1)
        value = _at(eta, y) - others.max(axis=1)
        gradient = np.zeros_like(eta)
        gradient[:, y, rows] = 1.0
        np.put_along_axis(gradient, rival[:, None], -1.0, axis=1)
        return value, gradient

    def logit(self, eta: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """eta_k, (G, b), and its derivative (G, K, b)."""
        gradient = np.zeros_like(eta)
        gradient[:, k] = 1.0
        return eta[:, k], gradient


def _at(eta: np.ndarray, y: np.ndarray) -> np.ndarray:
    """eta of the row's own class, (G, b)."""
    return eta[:, y, np.arange(y.size)]
