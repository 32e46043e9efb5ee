"""Proven intervals of f from a certificate of the parameters (step 3 of ``core.certificate``;
docs/design.md, section 2.8)."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from influence_cli.core.arrays import columns_of
from influence_cli.core.certificate import Certificate, CurvatureBound, differences, is_free
from influence_cli.core.joint_targets import AbsoluteTarget, OfClasses, OwnTarget, RateTarget, WorstTarget
from influence_cli.core.objectives.families.base import Classifier
from influence_cli.core.objectives.families.binomial import Binomial
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.poisson import Poisson
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
    Valued,
    WeightedTarget,
)

VALUE_ROUNDING = 32 * np.finfo(float).eps
"""Rounding error of f, relative to 1 + |f| + |outputs|; an exponential has that of its argument.  For a linear
regression, which has a unit, it is relative to the terms whose sum is the output."""
SHARE_ROUNDING = 4 * np.finfo(float).eps
"""Rounding error of a difference of two shares."""
Interval = tuple[np.ndarray, np.ndarray]
"""Lower and upper ends."""


def has_proof(target: Valued) -> bool:
    """Whether ``intervals`` covers the quantity."""
    if isinstance(target, MeanTarget | WeightedTarget | WorstTarget):
        return has_proof(target.rows)
    if isinstance(target, AbsoluteTarget):
        return has_proof(target.target)
    if isinstance(target, OwnTarget):
        return has_proof(target.targets[0])
    if isinstance(target, OfClasses):
        return target.of_classes
    known = Loss | Probability | Margin | Logit | Prediction
    return isinstance(target, ParameterTarget | RateTarget) or (
        isinstance(target, RowTarget) and isinstance(target.quantity, known)
    )


def intervals(certificate: Certificate, target: Valued, base: np.ndarray) -> Interval | None:
    """low <= f(theta_removed) - f(theta*) <= high, (T, G) each, infinite where nothing is proven; None for a quantity
    that no proof covers.  ``base`` (T,), or (T, G) where it differs by group, is f(theta*).

    A quantity of several rows is bounded by interval arithmetic.  For a weighted sum the sign of each coefficient
    decides which end enters; a largest mean lies between the largest of the lower ends and the largest of the upper
    ones; an absolute value follows from the two ends and 0.  The predicted class of a row is certain where its log-odds
    against the strongest rival have one sign on the whole interval.  A rate lies between that of the rows whose class
    certainly is predicted and that of the rows whose class possibly is, and a quantity of predicted classes is known
    where all of them are certain.
    """
    interval = _values(certificate, target)
    return None if interval is None else _against(*interval, base)


def _values(certificate: Certificate, target: Valued) -> Interval | None:
    """The interval of f itself, rather than of its change."""
    if isinstance(target, OwnTarget):
        every = [_values(certificate.of(g), target.targets[g]) for g in range(len(certificate.bounds))]
        known = [one for one in every if one is not None]
        return None if len(known) < len(every) else (np.hstack([k[0] for k in known]), np.hstack([k[1] for k in known]))
    if isinstance(target, MeanTarget | WeightedTarget | WorstTarget):
        return _of_rows(certificate, target)
    if isinstance(target, AbsoluteTarget):
        interval = _values(certificate, target.target)
        return None if interval is None else _size_of(*interval)
    if isinstance(target, RateTarget):
        surely, possibly = _predicted(certificate, target)
        low = surely[target.second].mean(axis=0) - possibly[~target.second].mean(axis=0)
        high = possibly[target.second].mean(axis=0) - surely[~target.second].mean(axis=0)
        return low[None] - SHARE_ROUNDING, high[None] + SHARE_ROUNDING
    if isinstance(target, OfClasses):
        return _of_classes(certificate, target)
    if isinstance(target, ParameterTarget):
        return _of_parameter(certificate, target.index)
    if not isinstance(target, RowTarget):
        return None
    softmax = isinstance(certificate.objective.family, Softmax)
    return _of_softmax(certificate, target) if softmax else _of_one_output(certificate, target)


def _of_rows(certificate: Certificate, target: MeanTarget | WeightedTarget | WorstTarget) -> Interval | None:
    """The interval of a weighted sum over rows, or of the largest mean over the parts of the rows."""
    interval = _values(certificate, target.rows)
    if interval is None:
        return None
    low, high = interval
    slack = len(low) * np.finfo(float).eps  # rounding of a sum in any order, relative to the sum of absolute values
    if isinstance(target, WorstTarget):
        sizes = np.bincount(target.part)
        means = [np.array([end[target.part == k].sum(axis=0) / n for k, n in enumerate(sizes)]) for end in interval]
        largest = np.maximum(*np.abs(means)).max(axis=0)
        low, high = (end.max(axis=0) for end in means)
    else:
        c = np.full(len(low), 1.0 / len(low)) if isinstance(target, MeanTarget) else target.coefficients
        used = np.flatnonzero(c)
        c, low, high = c[used, None], low[used], high[used]
        low, high = np.where(c > 0, low, high) * c, np.where(c > 0, high, low) * c
        largest = np.maximum(np.abs(low), np.abs(high)).sum(axis=0)
        low, high = low.sum(axis=0), high.sum(axis=0)
    with np.errstate(invalid="ignore"):
        low, high = low - slack * largest, high + slack * largest
    return np.where(np.isnan(low), -np.inf, low)[None], np.where(np.isnan(high), np.inf, high)[None]


def _size_of(low: np.ndarray, high: np.ndarray) -> Interval:
    """The interval of |f| for f in [low, high]."""
    sizes = np.abs(low), np.abs(high)
    return np.where((low < 0) & (high > 0), 0.0, np.minimum(*sizes)), np.maximum(*sizes)


def _predicted(certificate: Certificate, target: RateTarget) -> tuple[np.ndarray, np.ndarray]:
    """Which rows (T, G) are certainly predicted the class, and which possibly are."""
    rows = RowTarget(target.objective, Margin(target.family), target.X, np.full(len(target.second), target.code))
    interval = _values(certificate, rows)
    assert interval is not None
    return interval[0] > 0, interval[1] >= 0


def _of_classes(certificate: Certificate, target: OfClasses) -> Interval | None:
    """The value of a quantity of predicted classes where these are certain; infinite ends elsewhere."""
    if not target.of_classes:
        return None
    objective, family = certificate.objective, certificate.objective.family
    assert isinstance(family, Classifier)
    predicted = family.predict(objective.predict_outputs(certificate.theta, target.X))  # (G, T)
    sure = np.empty(len(predicted), dtype=bool)
    for g, codes in enumerate(predicted):
        interval = _values(certificate.of(g), RowTarget(objective, Margin(family), target.X, codes))
        assert interval is not None
        sure[g] = bool((interval[0] > 0).all())
    value = target.value(certificate.theta)
    return np.where(sure, value, -np.inf), np.where(sure, value, np.inf)


def _against(low: np.ndarray, high: np.ndarray, base: np.ndarray) -> Interval:
    """The interval of the change from ``base`` to f in [low, high] (T, G)."""
    base = columns_of(base)
    with np.errstate(invalid="ignore"):
        slack = 4 * np.finfo(float).eps * (np.abs(base) + np.maximum(np.abs(low), np.abs(high)))
        low, high = low - base - slack, high - base + slack
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def features(target: RowTarget) -> np.ndarray:
    """The features of the test rows, dense (T, d)."""
    return target.X.toarray() if isinstance(target.X, csr_array) else np.asarray(target.X)


def _of_parameter(certificate: Certificate, index: int) -> Interval:
    K, D = certificate.objective.outputs, certificate.objective.design.columns
    b = np.zeros((K, D))
    b[index // D, index % D] = 1.0
    half = np.array([bound.norm(b) for bound in certificate.bounds]) * certificate.radius
    value = certificate.theta[index]
    if is_free(certificate.objective) and index % D == D - 1:
        # The retrained intercepts of a softmax sum to 0 over the classes; those of theta may not do so exactly.
        level = certificate.theta.reshape(K, D, -1)[:, -1].mean(axis=0)
        value = value - level if isinstance(certificate.objective.family, Softmax) else value
    slack = VALUE_ROUNDING * np.abs(value)
    return (value - half - slack)[None], (value + half + slack)[None]


def _of_one_output(certificate: Certificate, target: RowTarget) -> Interval | None:
    """The interval of f of a single output in a known interval: a loss is convex in it, every other quantity
    monotone."""
    if not isinstance(target.quantity, Loss | Probability | Margin | Logit | Prediction):
        return None
    x, unit = features(target), np.ones((1, 1))
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
    size = np.maximum(np.abs(low), np.abs(high))
    if isinstance(target.quantity, Loss) and isinstance(certificate.objective.family, Poisson | Binomial):
        # y eta and y log y may be large and cancel.
        y = np.abs(target.y)
        size = size + y * (1.0 + np.abs(eta[:, 0]) + np.abs(np.log(np.where(y > 0, y, 1.0))))
    slack = VALUE_ROUNDING * (one + size)
    low, high = np.where(known, low - slack, -np.inf), np.where(known, high + slack, np.inf)
    return _within(target, low.T, high.T)


def _terms(certificate: Certificate, target: RowTarget) -> np.ndarray:
    """sum_j |x_j theta_j| of one output, (G, T), to which its rounding is relative; increased for very many
    features."""
    X, size = abs(target.X), np.abs(certificate.theta)
    d = X.shape[1]
    return max(1.0, d / 32) * ((X @ size[:d]).T + size[d:].sum(axis=0)[:, None])


def _within(target: RowTarget, low: np.ndarray, high: np.ndarray) -> Interval:
    """The interval cut to the range of the quantity."""
    if isinstance(target.quantity, Loss):
        low = np.maximum(low, 0.0)
    if isinstance(target.quantity, Probability):
        low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)
    return low, high


def _of_softmax(certificate: Certificate, target: RowTarget) -> Interval | None:
    quantity, x = target.quantity, features(target)
    eta = certificate.objective.predict_outputs(certificate.theta, target.X)
    bounds = []
    for g, bound in enumerate(certificate.bounds):
        outputs, radius = eta[g].T, float(certificate.radius[g])  # (T, K)
        if not np.isfinite(radius):
            bounds.append((np.full(len(x), -np.inf), np.full(len(x), np.inf)))
        elif isinstance(quantity, Loss | Probability):
            bounds.append(_of_loss(certificate, bound, radius, outputs, x, target))
        elif isinstance(quantity, Margin):
            bounds.append(_of_margin(bound, radius, outputs, x, target.y))
        elif isinstance(quantity, Logit):
            bounds.append(_of_logit(bound, radius, outputs, x, quantity.k))
        else:
            return None
    low, high = (np.stack(ends, axis=1) for ends in zip(*bounds, strict=True))
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
    """The interval of the least of eta_y - eta_k over the rivals k."""
    T, K = eta.shape
    low, high = np.full(T, np.inf), np.full(T, np.inf)
    rows, unit = np.arange(T), np.eye(K)
    slack = VALUE_ROUNDING * (1 + np.abs(eta).max(axis=1))
    for k in range(K):
        rivals = y != k
        margins = eta[rows, y] - eta[:, k]
        half = bound.norms_by_row(unit[y] - unit[k], x) * radius + slack
        low = np.where(rivals, np.minimum(low, margins - half), low)
        high = np.where(rivals, np.minimum(high, margins + half), high)
    return low, high


def _of_logit(bound: CurvatureBound, radius: float, eta: np.ndarray, x: np.ndarray, k: int) -> Interval:
    """The interval of the score of class k; at the retrained parameters the scores sum to 0 over the classes."""
    K = eta.shape[1]
    c = np.full((1, K), -1.0 / K)
    c[0, k] += 1.0
    half = bound.norms(c, x)[:, 0] * radius + VALUE_ROUNDING * (1 + np.abs(eta).max(axis=1))
    value = eta[:, k] - eta.mean(axis=1)
    return value - half, value + half
