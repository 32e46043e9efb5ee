"""From a certificate of the parameters to proven intervals of f (step 3 of ``core.certificate``)."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from influence_cli.core.certificate import Certificate, CurvatureBound, differences
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.quantities import (
    Logit,
    Loss,
    Margin,
    MeanTarget,
    ParameterTarget,
    Prediction,
    Probability,
    RowTarget,
    Target,
)

VALUE_ROUNDING = 32 * np.finfo(float).eps
"""Rounding of f, relative to 1 + |f| + |outputs|; an exponential carries that of its argument.  Of a linear regression,
which has a unit, relative to what the output is the sum of."""
Interval = tuple[np.ndarray, np.ndarray]
"""low and high."""


def has_proof(target: Target) -> bool:
    """Whether ``intervals`` knows the quantity."""
    if isinstance(target, MeanTarget):
        return has_proof(target.rows)
    known = Loss | Probability | Margin | Logit | Prediction
    return isinstance(target, ParameterTarget) or (isinstance(target, RowTarget) and isinstance(target.quantity, known))


def intervals(certificate: Certificate, target: Target, base: np.ndarray) -> Interval | None:
    """low <= f(theta_removed) - f(theta*) <= high, (T, G) each, infinite where nothing is proven; None for a quantity
    that no proof covers.  ``base`` (T,) is f(theta*)."""
    if isinstance(target, MeanTarget):
        found = intervals(certificate, target.rows, target.rows.value(certificate.theta)[:, 0])
        if found is None:
            return None
        now = target.rows.value(certificate.theta)[:, :1]
        low, high = (one + now for one in found)
        return _against(low.mean(axis=0, keepdims=True), high.mean(axis=0, keepdims=True), base)
    if isinstance(target, ParameterTarget):
        return _of_parameter(certificate, target.index, base)
    if not isinstance(target, RowTarget):
        return None
    softmax = isinstance(certificate.objective.family, Softmax)
    found = _of_softmax(certificate, target) if softmax else _of_one_output(certificate, target)
    return None if found is None else _against(*found, base)


def _against(low: np.ndarray, high: np.ndarray, base: np.ndarray) -> Interval:
    """The change from ``base`` (T,) to f in [low, high] (T, G)."""
    with np.errstate(invalid="ignore"):
        slack = 4 * np.finfo(float).eps * (np.abs(base)[:, None] + np.maximum(np.abs(low), np.abs(high)))
        low, high = low - base[:, None] - slack, high - base[:, None] + slack
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def features(certificate: Certificate, target: RowTarget) -> np.ndarray:
    """The test rows, with a 1 behind each where the intercept is penalised: (T, d)."""
    X = target.X.toarray() if isinstance(target.X, csr_array) else np.asarray(target.X)
    if certificate.objective.design.intercept and not certificate.free:
        return np.column_stack([X, np.ones(len(X))])
    return X


def _of_parameter(certificate: Certificate, index: int, base: np.ndarray) -> Interval:
    K, D = certificate.objective.outputs, certificate.objective.design.columns
    b = np.zeros((K, D))
    b[index // D, index % D] = 1.0
    half = np.array([bound.norm(b) for bound in certificate.bounds]) * certificate.radius
    value = certificate.theta[index]
    if certificate.free and index % D == D - 1:
        # The retrained intercepts sum to 0 over the classes of a softmax, and these may not quite.
        own = certificate.theta.reshape(K, D, -1)[:, -1].mean(axis=0)
        value = value - own if isinstance(certificate.objective.family, Softmax) else value
    slack = VALUE_ROUNDING * np.abs(value)
    return _against((value - half - slack)[None], (value + half + slack)[None], base)


def _of_one_output(certificate: Certificate, target: RowTarget) -> Interval | None:
    """f of one output that lies in an interval: convex for a loss, monotone for everything else."""
    if not isinstance(target.quantity, Loss | Probability | Margin | Logit | Prediction):
        return None
    x, unit = features(certificate, target), np.ones((1, 1))
    eta = certificate.objective.predict_outputs(certificate.theta, target.X)  # (G, 1, T)
    half = np.array([bound.norms(unit, x)[:, 0] for bound in certificate.bounds]) * certificate.radius[:, None]
    one = 0.0 if isinstance(certificate.objective.family, Gaussian) else 1.0
    half += VALUE_ROUNDING * (one + _terms(certificate, target))
    known = np.isfinite(half)
    safe = np.where(known, half, 0.0)[:, None]
    ends = [target.quantity.value(eta + sign * safe, target.y) for sign in (-1.0, 1.0)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    if isinstance(target.quantity, Loss):
        slopes = [certificate.objective.family.residual(eta + sign * safe, target.y)[:, 0] for sign in (-1.0, 1.0)]
        low = np.where(slopes[0] * slopes[1] <= 0, 0.0, low)
    slack = VALUE_ROUNDING * (one + np.maximum(np.abs(low), np.abs(high)))
    low, high = np.where(known, low - slack, -np.inf), np.where(known, high + slack, np.inf)
    return _within(target, low.T, high.T)


def _terms(certificate: Certificate, target: RowTarget) -> np.ndarray:
    """sum_j |x_j theta_j| of one output, (G, T), which its rounding is relative to; more of very many features."""
    X, size = abs(target.X), np.abs(certificate.theta)
    d = X.shape[1]
    return max(1.0, d / 32) * ((X @ size[:d]).T + size[d:].sum(axis=0)[:, None])


def _within(target: RowTarget, low: np.ndarray, high: np.ndarray) -> Interval:
    """What every value of the quantity keeps to."""
    if isinstance(target.quantity, Loss):
        low = np.maximum(low, 0.0)
    if isinstance(target.quantity, Probability):
        low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)
    return low, high


def _of_softmax(certificate: Certificate, target: RowTarget) -> Interval | None:
    quantity, x = target.quantity, features(certificate, target)
    eta = certificate.objective.predict_outputs(certificate.theta, target.X)
    found = []
    for g, bound in enumerate(certificate.bounds):
        own, radius = eta[g].T, float(certificate.radius[g])  # (T, K)
        if not np.isfinite(radius):
            found.append((np.full(len(x), -np.inf), np.full(len(x), np.inf)))
        elif isinstance(quantity, Loss | Probability):
            found.append(_of_loss(certificate, bound, radius, own, x, target))
        elif isinstance(quantity, Margin):
            found.append(_of_margin(bound, radius, own, x, target.y))
        elif isinstance(quantity, Logit):
            found.append(_of_logit(certificate, bound, radius, own, x, quantity.k))
        else:
            return None
    low, high = (np.stack(ends, axis=1) for ends in zip(*found, strict=True))
    return _within(target, low, high)


def _of_loss(
    certificate: Certificate, bound: CurvatureBound, radius: float, eta: np.ndarray, x: np.ndarray, target: RowTarget
) -> Interval:
    family, y = certificate.objective.family, target.y
    s = bound.norms(differences(certificate.objective), x).max(axis=1) * radius
    h = bound.norms_by_row(family.residual(eta.T[None], y)[0].T, x) * radius
    loss = family.loss(eta.T[None], y)[0]
    slack = VALUE_ROUNDING * (1 + np.abs(loss) + np.abs(eta).max(axis=1))
    low, high = loss - np.minimum(h, s) - slack, loss + np.minimum(h + s**2 / 8, s) + slack
    if isinstance(target.quantity, Loss):
        return low, high
    return np.exp(-high) * (1 - VALUE_ROUNDING), np.exp(-np.maximum(low, 0.0)) * (1 + VALUE_ROUNDING)


def _of_margin(bound: CurvatureBound, radius: float, eta: np.ndarray, x: np.ndarray, y: np.ndarray) -> Interval:
    """The least of the intervals of eta_y - eta_k over the rivals k."""
    T, K = eta.shape
    low, high = np.full(T, np.inf), np.full(T, np.inf)
    rows, unit = np.arange(T), np.eye(K)
    slack = VALUE_ROUNDING * (1 + np.abs(eta).max(axis=1))
    for k in range(K):
        rivals = y != k
        own = eta[rows, y] - eta[:, k]
        half = bound.norms_by_row(unit[y] - unit[k], x) * radius + slack
        low = np.where(rivals, np.minimum(low, own - half), low)
        high = np.where(rivals, np.minimum(high, own + half), high)
    return low, high


def _of_logit(
    certificate: Certificate, bound: CurvatureBound, radius: float, eta: np.ndarray, x: np.ndarray, k: int
) -> Interval:
    """The score of class k.  Scores sum to 0 over the classes at the retrained parameters."""
    K = eta.shape[1]
    c = np.full((1, K), -1.0 / K)
    c[0, k] += 1.0
    half = bound.norms(c, x)[:, 0] * radius + VALUE_ROUNDING * (1 + np.abs(eta).max(axis=1))
    value = eta[:, k] - eta.mean(axis=1)
    return value - half, value + half
