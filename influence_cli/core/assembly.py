"""The dense Hessian of a generalised linear model, assembled in less than a matrix product.

Block (j, k) is X' diag(w h_jk) X, and h_jk has one sign over the rows: a symmetric rank-k update of the rows scaled by
sqrt |h_jk|, half the work of a general product.  Where adding a number to every output changes nothing (softmax) the
blocks of a row of blocks sum to 0, so those on the diagonal are not computed at all.  Columns of X that are all zero
have none but the penalty.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dsyrk, ssyrk

from .design import Design
from .families.base import Family
from .penalty import Penalty

CHUNK = 1024
"""Rows scaled at a time: enough for the rank-k update to run at full speed, few enough to stay in the cache."""


def glm_hessian(
    design: Design, family: Family, penalty: Penalty, theta: np.ndarray, w: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """The Hessian of J at theta (P, 1) under weights w (m,) >= 0: (P, P), Fortran-ordered, lower triangle valid."""
    K, D = family.outputs, design.columns
    used = np.ones(D, dtype=bool)
    used[: design.X.shape[1]] = design.used_columns()
    pairs = [(j, k) for j in range(K) for k in range(j + (not family.shift_invariant))]
    blocks = _scaled_grams(design, family, theta, w, np.dtype(dtype), used, pairs)
    if family.shift_invariant:
        for j in range(K):
            blocks[j, j] = np.zeros_like(blocks[1, 0])
            for k in range(K):
                if k != j:
                    blocks[j, j] -= blocks[max(j, k), min(j, k)]
    hessian = np.zeros((K * D, K * D), dtype=dtype, order="F")
    diagonal = np.arange(D)
    for (j, k), block in blocks.items():
        rows, columns = j * D + np.flatnonzero(used), k * D + np.flatnonzero(used)
        full = np.tril(block) + np.tril(block, -1).T
        hessian[np.ix_(rows, columns)] = full
        hessian[j * D + diagonal, k * D + diagonal] += (penalty.ridge * (j == k) + penalty.gauge / K).astype(dtype)
    return hessian


def _scaled_grams(
    design: Design,
    family: Family,
    theta: np.ndarray,
    w: np.ndarray,
    dtype: np.dtype,
    used: np.ndarray,
    pairs: list[tuple[int, int]],
) -> dict[tuple[int, int], np.ndarray]:
    """sum_i w_i h_jk x_i x_i' over the used columns for each pair (j, k); the lower triangle is valid."""
    syrk = ssyrk if dtype == np.float32 else dsyrk
    width, stack = int(used.sum()), theta.T.reshape(family.outputs, design.columns)
    blocks = {pair: np.zeros((width, width), dtype=dtype, order="F") for pair in pairs}
    scaled = np.empty((CHUNK, width), dtype=dtype)
    for start in range(0, design.rows, CHUNK):
        rows = slice(start, min(start + CHUNK, design.rows))
        moments = family.moments(design.forward(stack, rows)[None])
        part = np.empty((rows.stop - start, width), dtype=dtype)
        part[:, : width - design.intercept] = design.X[rows][:, used[: design.X.shape[1]]]
        part[:, width - design.intercept :] = 1.0
        for j, k in pairs:
            root = np.sqrt(np.abs(family.pair(moments, j, k)[0]) * w[rows]).astype(dtype)
            np.multiply(part, root[:, None], out=scaled[: len(part)])
            sign = 1.0 if j == k else -1.0
            blocks[j, k] = syrk(sign, scaled[: len(part)].T, beta=1.0, c=blocks[j, k], lower=1, overwrite_c=1)
    return blocks
