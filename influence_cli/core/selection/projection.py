"""Euclidean projections onto the relaxed sets of groups that ``pgd`` searches."""

from __future__ import annotations

import numpy as np


def onto_l1_ball(x: np.ndarray, radius: float) -> np.ndarray:
    """The exact point nearest to x (n,) with sum |w_i| <= radius (Duchi et al. 2008, Figure 1).

    The projection is sign(x) max(|x| - tau, 0), where tau = (sum of the r largest |x_i| - radius) / r for the largest r
    at which the r-th largest |x_i| exceeds tau.
    """
    size = np.abs(x)
    if size.sum() <= radius:
        return x.copy()
    ordered = np.sort(size)[::-1]
    excess = np.cumsum(ordered) - radius
    count = np.arange(1, len(x) + 1)
    last = np.flatnonzero(ordered * count > excess)[-1]
    return np.sign(x) * np.maximum(size - excess[last] / (last + 1), 0.0)


def onto_capped(x: np.ndarray, total: float) -> np.ndarray:
    """The exact point nearest to x (n,) with 0 <= w_i <= 1 and sum w_i <= total.

    The projection is clip(x - tau, 0, 1) with tau >= 0.  Its sum is piecewise linear in tau and never increases, with
    kinks at x_i and x_i - 1.  Bisection over the sorted kinks finds the piece on which the sum equals ``total``.
    """
    if np.clip(x, 0.0, 1.0).sum() <= total:
        return np.clip(x, 0.0, 1.0)
    kinks = np.sort(np.concatenate([x, x - 1.0, [0.0]]))
    kinks = kinks[kinks >= 0.0]
    low, high = 0, len(kinks) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if np.clip(x - kinks[middle], 0.0, 1.0).sum() > total:
            low = middle
        else:
            high = middle
    at, end = (np.clip(x - kinks[side], 0.0, 1.0).sum() for side in (low, high))
    tau = kinks[low] + (at - total) / max(at - end, np.finfo(float).tiny) * (kinks[high] - kinks[low])
    return np.clip(x - tau, 0.0, 1.0)
