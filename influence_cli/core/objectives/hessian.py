"""The dense Hessian of a generalised linear model, assembled in less than a matrix product.

Block (j, k) is X' diag(w h_jk) X, and h_jk has one sign over the rows: a symmetric rank-k update of the rows scaled by
sqrt |h_jk|, half the work of a general product.  Where adding a number to every output changes nothing (softmax) the
blocks of a row of blocks sum to 0, so those on the diagonal are not computed at all.  Columns of X that are all zero
have none but the penalty.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.penalty import Penalty
from influence_cli.core.parallel import spread
from influence_cli.core.rows.design import Design
from influence_cli.core.weights import Weights

CHUNK = 2048
"""Rows scaled at a time: enough for the rank-k update to run at full speed, few enough to stay in the cache."""

COPY = 4.0
"""Time of a number that is put in its place, in that of a multiply-add."""


def glm_hessian(
    design: Design, family: Family, penalty: Penalty, theta: np.ndarray, w: Weights, dtype: np.dtype
) -> np.ndarray:
    """The Hessian of J at theta (P, 1) under one group's weights: (P, P), Fortran-ordered, lower triangle valid."""
    K, D = family.outputs, design.columns
    used = np.ones(D, dtype=bool)
    used[: design.X.shape[1]] = design.used_columns()
    at = np.flatnonzero(used)
    pairs = [(j, k) for j in range(K) for k in range(j + (not family.shift_invariant))]
    blocks = _scaled_grams(design, family, theta, w.column(), np.dtype(dtype), used, pairs)
    hessian = np.zeros((K * D, K * D), dtype=dtype, order="F")

    def place(pair: tuple[int, int]) -> None:
        j, k = pair
        if pair in blocks:
            block = blocks[pair]
        else:
            block = -np.sum([blocks[max(j, other), min(j, other)] for other in range(K) if other != j], axis=0)
        target = hessian[j * D : (j + 1) * D, k * D : (k + 1) * D]
        target[np.ix_(at, at)] = block
        if j == k and w.penalty is not None:
            target += penalty.block(j, w.penalty).astype(dtype)
        elif j == k:
            target[np.diag_indices(D)] += penalty.ridge.astype(dtype)
        target[np.diag_indices(D)] += (penalty.gauge / K).astype(dtype)

    spread(place, [(j, k) for j in range(K) for k in range(j + 1)], operations=COPY * hessian.size)
    return hessian


def row_leverages(features: np.ndarray, inverse: np.ndarray, outputs: int) -> np.ndarray:
    """S_i = X_i' H^-1 X_i of n rows with features (n, D): (n, K, K).

    Entry (j, k) is x_i' B x_i with B the block (j, k) of the inverse (K D, K D), whose lower triangle is valid: n P^2
    multiply-adds in all, where solving with the factor for the K columns of every X_i would take K n P^2.
    """
    n, D = features.shape
    out = np.empty((n, outputs, outputs))
    for j in range(outputs):
        for k in range(j + 1):
            block = inverse[j * D : (j + 1) * D, k * D : (k + 1) * D]
            if j == k:
                block = np.tril(block) + np.tril(block, -1).T
            out[:, j, k] = out[:, k, j] = np.einsum("nd,nd->n", features @ block, features)
    return out


def _scaled_grams(
    design: Design,
    family: Family,
    theta: np.ndarray,
    w: np.ndarray,
    dtype: np.dtype,
    used: np.ndarray,
    pairs: list[tuple[int, int]],
) -> dict[tuple[int, int], np.ndarray]:
    """sum_i w_i h_jk x_i x_i' over the used columns for each pair (j, k)."""
    width, stack = int(used.sum()), theta.T.reshape(family.outputs, design.columns)
    blocks = {pair: np.zeros((width, width), dtype=dtype) for pair in pairs}
    for start in range(0, design.rows, CHUNK):
        rows = slice(start, min(start + CHUNK, design.rows))
        moments = family.moments(design.forward(stack, rows)[None])
        part = np.empty((rows.stop - start, width), dtype=dtype)
        part[:, : width - design.intercept] = design.dense(rows, used[: design.X.shape[1]])
        part[:, width - design.intercept :] = 1.0

        def add(pair: tuple[int, int], rows=rows, moments=moments, part=part) -> None:
            root = np.sqrt(np.abs(family.pair(moments, *pair)[0]) * w[rows]).astype(dtype)
            sign = 1.0 if pair[0] == pair[1] else -1.0
            scaled = part * root[:, None]
            # A product of one array with itself is a rank-k update in NumPy too, and unlike SciPy's lets others run.
            blocks[pair] += sign * (scaled.T @ scaled)

        spread(add, pairs, operations=len(pairs) * len(part) * width**2)
    return blocks
