"""J, its gradient and its Hessian from a single pass over the rows, for Newton steps of models with few parameters.

Where the rows have few columns, computing all three takes less time than reading the rows two more times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.core.arrays import symmetric
from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.hessian import CHUNK_ROWS, assembled, sign_of
from influence_cli.core.objectives.kept import Kept
from influence_cli.core.objectives.passes import Passes
from influence_cli.core.rows.rows import Rows
from influence_cli.core.rows.sparse_design import Features, is_compressed
from influence_cli.core.weights import RowWeights, Weights, as_weights

FUSED_UP_TO = 300
"""Number of parameters up to which reading the rows from disk takes longer than computing the Hessian."""
FUSED_FROM = 1e7
"""Numbers in X from which the single pass is faster for rows in memory, too (measured, docs/scale.md)."""
THIN_SHARE, THIN_RUNS, THIN_LEAST = 0.01, 64, 2000
"""The subsample on which training starts: its share of all rows, the number of runs of consecutive rows of which it
consists, and its least number of rows."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Sums:
    """Sums over all rows at theta (P, 1) under the training weights: the loss, its gradient (P, 1), and the ``blocks``
    (j, k) of its Hessian, (D, D) each."""

    theta: np.ndarray
    loss: float
    gradient: np.ndarray
    blocks: dict[Pair, np.ndarray]


def newton_sums(passes: Passes, y: np.ndarray, theta: np.ndarray, w: Weights) -> Sums:
    """The ``Sums`` of one pass, with the blocks of the Hessian that ``hessian.assembled`` needs."""
    design, family, F = passes.design, passes.family, passes.free
    D, d = design.columns, design.X.shape[1]
    pairs = [(j, k) for j in range(family.outputs) for k in range(j + (not family.shift_invariant))]
    stack, size = passes.stack(theta), len(pairs) * D * D

    def add(span: Sequence[slice], out: np.ndarray) -> None:
        of_gradient, of_blocks = out[1 : 1 + F * D].reshape(F, D), out[1 + F * D :].reshape(len(pairs), D, D)
        for block in span:
            whole = design.X[block]
            for start in range(0, len(whole), CHUNK_ROWS):
                X = whole[start : start + CHUNK_ROWS]
                rows = slice(block.start + start, block.start + start + len(X))
                eta, weights = passes.completed(design.outputs_of(stack, X)[None]), w.block(rows)
                out[0] += float((weights * family.loss(eta, y[rows])).sum())
                R = (weights * family.residual(eta, y[rows])[0])[:F]
                of_gradient[:, :d] += R @ X
                if design.intercept:
                    of_gradient[:, d] += R.sum(axis=1)
                state, features = family.curvature_state(eta), np.ones((len(X), D))
                features[:, :d] = X
                for number, pair in enumerate(pairs):
                    part = features * np.sqrt(np.abs(family.pair(state, *pair)[0]) * weights[0])[:, None]
                    of_blocks[number] += sign_of(pair) * (part.T @ part)  # NumPy computes half of it

    operations = float(design.rows) * (size + 2 * F * D)
    sums = design.total(add, list(design.blocks(1)), (1 + F * D + size,), operations)
    grams = sums[1 + F * D :].reshape(len(pairs), D, D)
    gradient = passes.joined(sums[1 : 1 + F * D])
    return Sums(theta.copy(), float(sums[0]), gradient, dict(zip(pairs, grams, strict=True)))


def thin_rows(rows: int, size: int) -> list[slice] | None:
    """Evenly spaced runs of rows for a subsample on which training of ``size`` parameters can start; None if there are
    too few rows."""
    count = max(int(THIN_SHARE * rows), THIN_LEAST, 50 * size)
    if 4 * count > rows:
        return None
    run, apart = -(-count // THIN_RUNS), rows // THIN_RUNS
    return [slice(start, start + run) for start in range(0, apart * THIN_RUNS, apart)]


class FusedGlm(Glm):
    """A ``Glm`` that keeps the sums of its last pass under the training weights.

    ``value_and_gradient`` also computes the Hessian, which ``dense_curvature`` then returns at the same theta.
    """

    _sums: Sums | None = None

    def value_and_gradient(self, theta: np.ndarray, w: RowWeights) -> tuple[np.ndarray, np.ndarray]:
        w = as_weights(w)
        if not self._is_training(theta, w):
            return super().value_and_gradient(theta, w)
        sums = self._summed(theta, w)
        return self.penalty.value(theta) + sums.loss, sums.gradient + self.penalty.product(theta)

    def loss_gradient(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        w, kept = as_weights(w), self._sums
        if kept is not None and self._is_training(theta, w) and np.array_equal(kept.theta, theta):
            return kept.gradient.copy()
        return super().loss_gradient(theta, w)

    def training_gradient(self, theta: np.ndarray) -> np.ndarray:
        w = as_weights(self.weights)
        return self.loss_gradient(theta, w) if self._known(theta, w) else self._summed(theta, w).gradient.copy()

    def dense_curvature(self, theta: np.ndarray, w: RowWeights, dtype: np.dtype) -> np.ndarray:
        w, theta = as_weights(w), theta.reshape(len(theta), -1)
        if not self._is_training(theta, w) or self._known(theta, w):
            return super().dense_curvature(theta, w, dtype)
        every = np.arange(self.design.columns)
        return assembled(self._summed(theta, w).blocks, self.penalty, w, every, np.dtype(dtype))

    def dense_curvatures(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        w = as_weights(w)
        if not self._is_training(theta, w):
            return super().dense_curvatures(theta, w)
        return symmetric(self.dense_curvature(theta, w, np.dtype(np.float64)))[None]

    def thinned(self) -> Glm | None:
        """The same model on a subsample of the rows, whose minimum is a starting point for training; None if that would
        not help."""
        runs = thin_rows(self.design.rows, self.size)
        if runs is None:
            return None
        y, w = (np.concatenate([array[run] for run in runs]) for array in (self.y, self.weights))
        kinds, _ = self.family.kinds(y)
        if not w.sum() > 0 or len(np.unique(kinds[w > 0])) < np.count_nonzero(self._kinds[1]):
            return None
        X = np.concatenate([self.design.X[run] for run in runs])
        thin = Glm(X, y, self.family, l2=0.0, intercept=self.design.intercept, weights=w / w.sum())
        thin.penalty, thin.units = self.penalty, self.units
        return thin

    def _is_training(self, theta: np.ndarray, w: Weights) -> bool:
        return theta.ndim == 2 and theta.shape[1] == 1 and w.whole and w.base is self.weights and w.penalty is None

    def _summed(self, theta: np.ndarray, w: Weights) -> Sums:
        if self._sums is None or not np.array_equal(self._sums.theta, theta):
            self._sums = newton_sums(self.passes, self.y, theta, w)
        return self._sums


def glm_of(X: Features | Rows, y: np.ndarray, family: Family, *, kept: Kept | None = None, **options: Any) -> Glm:
    """The ``Glm`` for rows X (m, d), or a ``FusedGlm`` if it has few parameters and many rows.  If sums ``kept`` from
    earlier are given, it is made without a pass over the rows.  ``options`` are those of ``Glm``."""
    size = family.outputs * (X.shape[1] + bool(options.get("intercept", True)))
    is_long = not isinstance(X, np.ndarray) or X.size >= FUSED_FROM
    kind = Glm if is_compressed(X) or size > FUSED_UP_TO or not is_long else FusedGlm
    made = kind.__new__(kind)
    made.kept = kept
    made.__init__(X, y, family, **options)  # type: ignore[misc]
    return made
