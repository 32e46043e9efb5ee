"""The dense Hessian of a generalised linear model, at less than the cost of a general matrix product.

The block of outputs j and k is X' diag(w h_jk) X, where h_jk is entry (j, k) of the second derivative of each row's
loss.  h_jk has the same sign for all rows, so that the block is a symmetric rank-k update with the rows scaled by
sqrt |w h_jk|, which is half the work of a general product.  For a softmax, where adding a number to every output
changes nothing, the blocks of a row of blocks sum to 0, so that the diagonal blocks follow from the others.  Columns of
X that contain only zeros have no curvature but the penalty's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.passes import Passes
from influence_cli.core.objectives.penalty import Penalty
from influence_cli.core.parallel import spread
from influence_cli.core.rows.design import Design
from influence_cli.core.weights import Weights

CHUNK_ROWS = 2048
"""Rows scaled at a time: enough for the rank-k update to run at full speed, few enough to stay in the cache."""

HESSIAN_NUMBERS = 1 << 18
"""Float64 numbers (2 MiB) that the products of pairs of features of a block of rows may take."""
SMALL_SUMS = 1 << 20
"""Float64 numbers (8 MiB) in all blocks (j, k) up to which each span of rows has its own sums."""
LEAST_JOBS = 8
"""Least number of jobs into which the blocks of a chunk of rows are divided for the threads."""
PLACE_FLOPS = 4.0
"""Time to write one number to its place in the Hessian, in multiply-adds (measured)."""

Pair = tuple[int, int]
"""Two outputs (j, k), which name a block of the Hessian."""
Scaled = Callable[[Pair], np.ndarray]
"""Maps a pair to some rows of the design times sqrt |w h_jk|."""


def glm_hessian(
    design: Design, family: Family, penalty: Penalty, theta: np.ndarray, w: Weights, dtype: np.dtype
) -> np.ndarray:
    """The Hessian of J without damping at theta (P, 1) under one group's weights: (P, P), Fortran-ordered, of which
    only the lower triangle is valid."""
    K, D = family.outputs, design.columns
    used = np.ones(D, dtype=bool)
    used[: design.X.shape[1]] = design.used_columns()
    at = np.flatnonzero(used)
    pairs = [(j, k) for j in range(K) for k in range(j + (not family.shift_invariant))]
    blocks = _scaled_grams(design, family, theta, w.column(), np.dtype(dtype), used, pairs)
    return assembled(blocks, penalty, w, at, np.dtype(dtype))


def assembled(
    blocks: dict[Pair, np.ndarray], penalty: Penalty, w: Weights, at: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """The Hessian of J, in the form of ``glm_hessian``, from the blocks (j, k) with j >= k of the loss's Hessian over
    the columns ``at`` (n,) of the design.  Diagonal blocks that are missing are computed from the others, with which
    they sum to 0."""
    K, D = penalty.outputs, len(penalty.ridge)
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

    spread(place, [(j, k) for j in range(K) for k in range(j + 1)], operations=PLACE_FLOPS * hessian.size)
    return hessian


def glm_hessians(passes: Passes, penalty: Penalty, theta: np.ndarray, w: Weights) -> np.ndarray:
    """The Hessians of J without damping at theta (P, G), each under the weights of its group: (G, P, P).

    For few columns: the blocks (j, k) of all groups are one product of their weighted curvatures (G, m) with the rows'
    products of pairs of features (m, D (D + 1) / 2).
    """
    design, family, G = passes.design, passes.family, max(theta.shape[1], w.groups)
    K, D = family.outputs, design.columns
    pairs = [(j, k) for j in range(K) for k in range(j + (not family.shift_invariant))]
    left, right = np.tril_indices(D)
    every = np.ones(design.X.shape[1], dtype=bool)
    step = max(64, HESSIAN_NUMBERS // len(left))

    def add(span: Sequence[slice], out: np.ndarray) -> None:
        for rows in span:
            features = np.ones((rows.stop - rows.start, D))
            features[:, : D - design.intercept] = design.dense(rows, every)
            products = features[:, left] * features[:, right]
            state, weights = family.curvature_state(passes.outputs(theta, rows)), w.block(rows)
            for number, (j, k) in enumerate(pairs):
                out[number] += (family.pair(state, j, k) * weights) @ products

    blocks = [slice(start, min(start + step, design.rows)) for start in range(0, design.rows, step)]
    operations = float(design.rows) * len(left) * len(pairs) * G
    sums = design.total(add, blocks, (len(pairs), G, len(left)), operations)
    out = np.zeros((G, K, D, K, D))
    for number, (j, k) in enumerate(pairs):
        block = np.empty((G, D, D))
        block[:, left, right] = block[:, right, left] = sums[number]
        out[:, j, :, k, :] = out[:, k, :, j, :] = block
    penalties = [None] if w.penalty is None else [w.penalty.take(np.array([g])) for g in range(w.groups)]
    for j in range(K):
        if family.shift_invariant:
            out[:, j, :, j, :] = -out[:, j].sum(axis=2)
        out[:, j, :, j, :] += np.stack([penalty.block(j, one) for one in penalties])
    out += np.diag(penalty.gauge / K)[:, None]
    return out.reshape(G, K * D, K * D)


def row_leverages(features: np.ndarray, inverse: np.ndarray, outputs: int) -> np.ndarray:
    """S_i = X_i' H^-1 X_i for n rows with ``features`` (n, D): (n, K, K).

    X_i (P, K) is the derivative of row i's outputs with respect to theta.  Entry (j, k) is x_i' B x_i, where B is block
    (j, k) of the ``inverse`` H^-1 (K D, K D), whose lower triangle is valid.  This takes n P^2 multiply-adds in all,
    where solving with the factor for the K columns of every X_i would take K n P^2.
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
    pairs: list[Pair],
) -> dict[Pair, np.ndarray]:
    """sum_i w_i h_jk x_i x_i' over the ``used`` columns (D,) bool, for each pair (j, k).

    If the sums are small, several spans of rows are summed at once; if they are large, each thread takes a pair, or a
    part of the pair's block.
    """
    width, stack = int(used.sum()), theta.T.reshape(family.outputs, design.columns)
    chunks = [slice(start, min(start + CHUNK_ROWS, design.rows)) for start in range(0, design.rows, CHUNK_ROWS)]

    def scaled(rows: slice) -> Scaled:
        state = family.curvature_state(design.forward(stack, rows)[None])
        part = np.empty((rows.stop - rows.start, width), dtype=dtype)
        part[:, : width - design.intercept] = design.dense(rows, used[: design.X.shape[1]])
        part[:, width - design.intercept :] = 1.0

        def of_pair(pair: Pair) -> np.ndarray:
            return part * np.sqrt(np.abs(family.pair(state, *pair)[0]) * w[rows]).astype(dtype)[:, None]

        return of_pair

    if len(pairs) * width**2 <= SMALL_SUMS:

        def add_span(span: Sequence[slice], out: np.ndarray) -> None:
            for rows in span:
                of_pair = scaled(rows)
                for number, pair in enumerate(pairs):
                    part = of_pair(pair)
                    # NumPy makes a rank-k update of it, which unlike SciPy's releases the GIL.
                    out[number] += sign_of(pair) * (part.T @ part)

        shape = (len(pairs), width, width)
        sums = design.total(add_span, chunks, shape, len(pairs) * float(design.rows) * width**2)
        return {pair: sums[number].astype(dtype, copy=False) for number, pair in enumerate(pairs)}
    return _large_grams(scaled, chunks, pairs, width, dtype)


def sign_of(pair: Pair) -> float:
    return 1.0 if pair[0] == pair[1] else -1.0


def _large_grams(
    scaled: Callable[[slice], Scaled], chunks: Sequence[slice], pairs: list[Pair], width: int, dtype: np.dtype
) -> dict[Pair, np.ndarray]:
    """The sums of ``_scaled_grams``, one chunk of rows after another; each thread takes a pair, or a band of its
    block."""
    bands = _bands(width, -(-LEAST_JOBS // len(pairs)))
    blocks = {pair: np.zeros((width, width), dtype=dtype) for pair in pairs}
    for rows in chunks:
        of_pair = scaled(rows)

        def add(job: tuple[Pair, slice], of_pair: Scaled = of_pair) -> None:
            pair, band = job
            part = of_pair(pair)
            if len(bands) == 1:
                blocks[pair] += sign_of(pair) * (part.T @ part)
            else:
                blocks[pair][band, : band.stop] += sign_of(pair) * (part[:, band].T @ part[:, : band.stop])

        jobs = [(pair, band) for pair in pairs for band in bands]
        spread(add, jobs, operations=len(pairs) * float(rows.stop - rows.start) * width**2)
    if len(bands) > 1:
        for block in blocks.values():
            for band in bands:  # copy the lower triangle to the upper one
                block[: band.start, band] = block[band, : band.start].T
    return blocks


def _bands(width: int, count: int) -> list[slice]:
    """The rows of a lower triangle of that ``width``, cut into ``count`` bands of about equal area."""
    ends = np.unique(np.round(width * np.sqrt(np.arange(1, count + 1) / count)).astype(int))
    return [slice(int(start), int(stop)) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
