"""Agreement of estimates with the truth: correlation, slope and error, with bootstrap intervals
(docs/design.md, section 2.11).

``estimate`` and ``truth`` are (G, T), with G groups in rows and T test rows in columns.  Every statistic is computed
over the groups, one value for each column, (T,).  A pair in which either is NaN or infinite is left out.  A statistic
that is not defined is NaN, and ``undefined`` says why.

Correlations of several test rows are pooled as their mean.  One correlation over all pairs would mostly measure that
test rows differ from each other, which any estimate reproduces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

LEAST = 3
"""Pairs below which a correlation has no meaning: a line passes through any two points."""
CONSTANT = 1e-13
"""Spread, relative to the size of the values, up to which values differ by rounding only (as in scipy.stats)."""
CONSTANT_RESAMPLE = 1e-12
"""The same for the variance of a resample, which as a difference of sums has lost half of the digits."""
ROUNDING = 1e-9
"""Difference of correlations that may be rounding error: two methods may be proportional for groups of one size."""
LEVEL = 0.95
"""Level of the bootstrap intervals."""
CHUNK_BYTES = 64e6
"""Bytes for the weights of the resamples that are processed together."""


@dataclass(frozen=True)
class _Column:
    """Centred columns scaled to norm 1, values = mean + norm * unit; 0 where a pair is left out or nothing varies."""

    unit: np.ndarray
    norm: np.ndarray
    varies: np.ndarray


def both_finite(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The pairs that count, (G, T) bool."""
    return np.isfinite(estimate) & np.isfinite(truth)


def undefined(estimate: np.ndarray, truth: np.ndarray) -> list[str]:
    """For each column, why it has no correlation; empty if it has one."""
    keep = both_finite(estimate, truth)
    x, y = _columns(estimate, keep), _columns(truth, keep)
    reasons = []
    for count, x_varies, y_varies in zip(keep.sum(0), x.varies, y.varies, strict=True):
        if count < LEAST:
            reasons.append(f"fewer than {LEAST} groups" if count else "no values")
        else:
            reasons.append("" if x_varies and y_varies else "constant truth" if x_varies else "constant estimate")
    return reasons


def pearson(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """r = sum (x - mean x)(y - mean y) / (norm(x - mean x) norm(y - mean y)), (T,)."""
    keep = both_finite(estimate, truth)
    x, y = _columns(estimate, keep), _columns(truth, keep)
    r = np.clip((x.unit * y.unit).sum(0), -1.0, 1.0)
    return np.where(x.varies & y.varies & (keep.sum(0) >= LEAST), r, np.nan)


def spearman(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the ranks, where ties get their mean rank, (T,)."""
    keep = both_finite(estimate, truth)
    r = pearson(_ranks(estimate, keep), _ranks(truth, keep))
    return np.where(np.isfinite(pearson(estimate, truth)), r, np.nan)


def slope(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Slope of the least-squares line of truth on estimate, (T,).

    sum (x - mean x)(y - mean y) / sum (x - mean x)^2 with x the estimate.  1 is ideal; above 1 the estimates are too
    small in size.
    """
    keep = both_finite(estimate, truth)
    x, y = _columns(estimate, keep), _columns(truth, keep)
    with np.errstate(all="ignore"):
        slopes = (x.unit * y.unit).sum(0) * (y.norm / x.norm)
    return np.where(x.varies & (keep.sum(0) >= LEAST) & np.isfinite(slopes), slopes, np.nan)


def common_slope(estimate: np.ndarray, truth: np.ndarray) -> float:
    """One slope of truth on estimate for all columns, each of which has its own intercept.

    sum_t sum_g (x - mean_t x)(y - mean_t y) / sum_t sum_g (x - mean_t x)^2.  Differences between the means of the test
    rows do not enter, and a test row on which hardly anything changes has hardly any weight.
    """
    keep = both_finite(estimate, truth)
    x, y = _columns(estimate, keep), _columns(truth, keep)
    counts = keep.sum(0) >= LEAST
    if not (counts & x.varies).any():
        return np.nan
    x_norm, y_norm = np.where(counts, x.norm, 0.0), np.where(counts, y.norm, 0.0)
    x_scale, y_scale = x_norm.max(), y_norm.max() or 1.0
    share = x_norm / x_scale
    with np.errstate(all="ignore"):
        slopes = ((x.unit * y.unit).sum(0) * share * (y_norm / y_scale)).sum() / (share**2).sum() * (y_scale / x_scale)
    return float(slopes) if np.isfinite(slopes) else np.nan


def rmse(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """sqrt(mean (x - y)^2), (T,), in units of the truth."""
    keep = both_finite(estimate, truth)
    count = keep.sum(0)
    with np.errstate(over="ignore", invalid="ignore"):
        size = _norm(np.where(keep, estimate, 0.0) - np.where(keep, truth, 0.0))
    return np.where(count > 0, size / np.sqrt(np.maximum(count, 1)), np.nan)


def relative_error(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """norm(x - y) / norm(y), (T,): 0 is perfect, 1 is no better than an estimate of no change."""
    keep = both_finite(estimate, truth)
    y = np.where(keep, truth, 0.0)
    with np.errstate(all="ignore"):
        ratio = _norm(np.where(keep, estimate, 0.0) - y) / _norm(y)
    return np.where(np.isfinite(ratio), ratio, np.nan)


def sign_agreement(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Share of the pairs with equal signs, (T,); the sign of 0 equals that of 0 only."""
    keep = both_finite(estimate, truth)
    same = (np.sign(np.where(keep, estimate, 0.0)) == np.sign(np.where(keep, truth, 0.0))) & keep
    count = keep.sum(0)
    return np.where(count > 0, same.sum(0) / np.maximum(count, 1), np.nan)


def pooled(correlations: np.ndarray) -> np.ndarray:
    """Mean over the last axis (the test rows) of the defined values; NaN where there are none."""
    defined = np.isfinite(correlations)
    count = defined.sum(-1)
    return np.where(count > 0, np.where(defined, correlations, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


def ceiling(repeats: np.ndarray) -> np.ndarray:
    """The largest correlation that any estimate can have with the mean of R noisy repeats (R, G, T) of the truth, (T,).

    With r the mean correlation of two repeats, R r / (1 + (R - 1) r) is the reliability of their mean (Spearman 1910,
    Brown 1910), and its square root is the correlation of the expected truth with that mean.  0 where r is negative.
    """
    count = len(repeats)
    pairs = [pearson(repeats[i], repeats[j]) for i in range(count) for j in range(i)]
    r = np.maximum(np.mean(pairs, axis=0), 0.0)
    return np.sqrt(count * r / (1.0 + (count - 1) * r))


def resample_weights(groups: int, resamples: int, seed: int | Sequence[int]) -> Iterator[np.ndarray]:
    """Yield how often each group was drawn, (b, G) at a time, for ``resamples`` resamples in all.

    A resample draws G of the G groups with replacement.  Groups are the units because they were drawn at random,
    whereas the figures of one group for different test rows are not independent of each other.
    """
    rng = np.random.default_rng(seed)
    step = max(1, int(CHUNK_BYTES / (8 * max(groups, 1))))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.integers(groups, size=(count, groups)) + groups * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups).astype(np.float64)


def bootstrap_pearson(estimates: Sequence[np.ndarray], truth: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Pearson's r of every estimate (M of them, each (G, T)) in every resample of the groups, (M, B, T).

    All estimates and test rows share the same resamples, so that their differences can be computed.  With the weights
    W (B, G) of the resamples every sum in r is one matrix product, such as W x^2.  NaN where a resample has no r.
    """
    groups, tests = truth.shape
    sums = [_summands(estimate, truth) for estimate in estimates]
    coefficients = np.empty((len(sums), resamples, tests))
    start = 0
    for weights in resample_weights(groups, resamples, seed):
        part = slice(start, start + len(weights))
        start = part.stop
        for number, summands in enumerate(sums):
            coefficients[number, part] = _from_sums(*np.split(weights @ summands, 6, axis=1))
    return coefficients


def jackknife_pearson(estimates: Sequence[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Pearson's r of every estimate (M of them, each (G, T)) without each group in turn, (M, G, T), from the sums in r
    minus the group's own terms.  NaN where the remaining groups have no r.
    """
    left = []
    for estimate in estimates:
        summands = _summands(estimate, truth)
        left.append(_from_sums(*np.split(summands.sum(axis=0) - summands, 6, axis=1)))
    return np.stack(left)


def test_row_weights(tests: int, resamples: int, seed: int) -> np.ndarray:
    """How often each test row was drawn in each resample, (B, T), independently of the groups for the same seed."""
    drawn = resample_weights(tests, resamples, (seed, 1))
    return np.concatenate([part.astype(np.float32) for part in drawn] or [np.empty((0, tests), np.float32)])


def jackknife_of_both(without_group: np.ndarray, correlations: np.ndarray) -> np.ndarray:
    """The jackknife argument of ``interval`` for a pooled figure where groups and test rows are resampled, (G + T,).

    It is computed from the pooled figure without each group (G,) and the test rows' own ``correlations`` (T,).  Each of
    the two samples is centred by itself, and its deviations are multiplied by (n - 1) / n (Efron and Tibshirani 1993,
    chapter 14, for several samples).
    """
    defined = np.isfinite(correlations)
    count, total = defined.sum(), np.where(defined, correlations, 0.0).sum()
    without_test = (total - correlations[defined]) / (count - 1) if count > 1 else np.zeros(0)
    parts = [values[np.isfinite(values)] for values in (without_group, without_test)]
    centred = [(values - values.mean()) * (1.0 - 1.0 / len(values)) for values in parts if len(values)]
    return np.concatenate([np.zeros(0), *centred])


def interval(samples: np.ndarray, point: np.ndarray, jackknife: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the bias-corrected and accelerated bootstrap interval (Efron 1987, BCa), (T,) each.

    ``samples`` (B, T) are the values of a statistic in the resamples, ``point`` (T,) its values for the groups
    themselves and ``jackknife`` (G, T) those without each group.  With z0 the normal quantile of the share of resamples
    below the point, and the acceleration a = sum_g u_g^3 / (6 (sum_g u_g^2)^(3/2)), where u_g = mean - value without
    group g, the ends are the resamples' quantiles at Phi(z0 + (z0 + z) / (1 - a (z0 + z))), z = -1.96 and 1.96.

    NaN where fewer than half of the resamples have a value, and where |z0| exceeds z: the interval would then exclude
    the point itself, because the resamples do not show how far off it may be.
    """
    defined = np.isfinite(samples)
    count = defined.sum(axis=0)
    distance = np.where(defined, samples, 0.0) - np.where(np.isfinite(point), point, 0.0)
    tied = (np.abs(distance) <= ROUNDING) & defined
    under = ((distance < 0) & ~tied & defined).sum(axis=0) + 0.5 * tied.sum(axis=0)
    bias = ndtri(under / np.maximum(count, 1))
    z = float(ndtri(0.5 + LEVEL / 2.0))
    # For these, |a| <= 1/6 keeps 1 - a (z0 + z) above 1 - z / 3 > 0.
    usable = np.isfinite(point) & (2 * count >= len(samples)) & (count > 0) & (np.abs(bias) < z)
    bias, acceleration = np.where(usable, bias, 0.0), _acceleration(jackknife)
    ordered = np.sort(samples, axis=0)  # NaN last
    low, high = (
        _at(ordered, ndtr(bias + (bias + end) / (1.0 - acceleration * (bias + end))) * np.maximum(count - 1, 0))
        for end in (-z, z)
    )
    return np.where(usable, low, np.nan), np.where(usable, high, np.nan)


def _acceleration(jackknife: np.ndarray) -> np.ndarray:
    """sum u^3 / (6 (sum u^2)^(3/2)) of the deviations u of the jackknife values (G, T); 0 where these are equal."""
    defined = np.isfinite(jackknife)
    mean = np.where(defined, jackknife, 0.0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
    u = np.where(defined, mean - jackknife, 0.0)
    size = np.abs(u).max(axis=0, initial=0.0)
    alike = size <= ROUNDING
    u /= np.where(alike, 1.0, size)
    squares = (u**2).sum(axis=0)
    return np.where(alike, 0.0, (u**3).sum(axis=0) / (6.0 * np.where(alike, 1.0, squares) ** 1.5))


def _at(ordered: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Linear interpolation at a position between sorted neighbours, as ``np.percentile`` does by default."""
    if not len(ordered):
        return np.full(ordered.shape[1:], np.nan)
    below = np.floor(position).astype(np.int64)[None]
    above = np.ceil(position).astype(np.int64)[None]
    first = np.take_along_axis(ordered, below, axis=0)[0]
    return first + (position - below[0]) * (np.take_along_axis(ordered, above, axis=0)[0] - first)


def _summands(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """1, x, y, x^2, y^2 and x y of the pairs that count, (G, 6 T), centred and scaled so that sums lose few digits."""
    keep = both_finite(estimate, truth)
    x, y = _columns(estimate, keep).unit, _columns(truth, keep).unit
    return np.concatenate([keep.astype(np.float64), x, y, x * x, y * y, x * y], axis=1)


def _from_sums(
    n: np.ndarray, x: np.ndarray, y: np.ndarray, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray
) -> np.ndarray:
    n = np.maximum(n, 1.0)
    x_variance, y_variance = xx - x * x / n, yy - y * y / n
    defined = (x_variance > CONSTANT_RESAMPLE * xx) & (y_variance > CONSTANT_RESAMPLE * yy)
    scale = np.sqrt(np.where(defined, x_variance, 1.0)) * np.sqrt(np.where(defined, y_variance, 1.0))
    return np.where(defined, np.clip((xy - x * y / n) / scale, -1.0, 1.0), np.nan)


def _columns(values: np.ndarray, keep: np.ndarray) -> _Column:
    values = np.where(keep, values, 0.0)
    scale = np.abs(values).max(axis=0, initial=0.0)
    values = values / np.where(scale > 0, scale, 1.0)
    deviation = np.where(keep, values - values.sum(0) / np.maximum(keep.sum(0), 1), 0.0)
    norm = np.sqrt((deviation**2).sum(0))
    varies = norm > CONSTANT * np.sqrt((values**2).sum(0))
    unit = np.where(varies, deviation / np.where(varies, norm, 1.0), 0.0)
    with np.errstate(over="ignore"):
        return _Column(unit, np.where(varies, norm * scale, 0.0), varies)


def _norm(values: np.ndarray) -> np.ndarray:
    """Euclidean norm over the first axis, for values whose squares may overflow or underflow."""
    scale = np.abs(values).max(axis=0, initial=0.0)
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    with np.errstate(over="ignore"):
        return scale * np.sqrt(((values / scale) ** 2).sum(0))


def _ranks(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Ranks over the first axis among the pairs that count, NaN elsewhere."""
    if keep.all():
        return rankdata(values, axis=0)
    ranks = np.full(values.shape, np.nan)
    for column in range(values.shape[1]):
        rows = keep[:, column]
        ranks[rows, column] = rankdata(values[rows, column])
    return ranks
