"""Generalised linear models: outputs X W' + b, one family of row losses.

theta is class-major: output k's D coefficients (intercept last) are theta[k D : (k + 1) D].

Where one number added to all outputs of a row changes nothing (softmax), passes over the rows compute differences from
the last output, which needs none of its own, and the derivatives in it are what makes those of all outputs sum to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.hessian import glm_hessian, row_leverages
from influence_cli.core.objectives.objective import Objective, Product
from influence_cli.core.objectives.penalty import Penalty
from influence_cli.core.rows.design import Design
from influence_cli.core.rows.sparse_design import Features, design_of
from influence_cli.core.solvers.jacobi import Jacobi
from influence_cli.core.solvers.kronecker import SMALL, Kronecker, kronecker_fits

SINGLE_FROM = 1e7
"""Multiply-adds of a pass for one parameter vector from which on float32 is worth a second look by float64."""
SINGLE_UP_TO = 1e12
"""Features up to which float32 holds the products of a row's features, coefficients and residuals."""


class Glm(Objective):
    """A family on a design.

    ``l2`` is lambda; the intercept is penalised only with ``penalize_intercept``.  ``weights`` (m,) sum to 1 and
    default to 1/m.
    """

    def __init__(
        self,
        X: Features,
        y: np.ndarray,
        family: Family,
        *,
        l2: float,
        intercept: bool = True,
        penalize_intercept: bool = False,
        weights: np.ndarray | None = None,
    ):
        self.design = design_of(X, intercept)
        self.y = y
        self.family = family
        self.outputs = family.outputs
        self._free = family.outputs - family.shift_invariant
        self.weights = np.full(len(y), 1.0 / len(y)) if weights is None else weights
        self.size = self.outputs * self.design.columns
        self.light_preconditioner = self.design.columns <= SMALL
        self.penalty = _penalty(self.design, self.weights, family, l2, intercept and not penalize_intercept)

    def initial(self, seed):
        start = np.zeros((self.outputs, self.design.columns))
        if self.design.intercept:
            start[:, -1] = self.family.centre(self.y, self.weights)
        return start.reshape(-1, 1)

    def single(self, columns):
        design = self.design.single(columns * self._free)
        if design is self.design or not self._in_single:
            return self
        twin = copy(self)
        twin.design = design
        return twin

    @cached_property
    def _in_single(self) -> bool:
        """Whether float32 holds the products, and a pass is long enough to be worth two kinds."""
        long = self.design.rows * self.design.columns * self.outputs >= SINGLE_FROM
        return long and self.family.single_precision and self.design.largest() <= SINGLE_UP_TO

    def loss(self, theta, w):
        theta, w = _columns(theta), _row_weights(w)
        total = np.zeros(max(theta.shape[1], len(w)))
        for rows in self.design.blocks(theta.shape[1] * self._free):
            total += (w[:, rows] * self.family.loss(self._eta(theta, rows), self.y[rows])).sum(axis=1)
        return total

    def loss_gradient(self, theta, w):
        if _columns(theta).shape[1] == 1 < len(_row_weights(w)):
            return self.gather(self.residuals(theta), w)
        return self._loss_pass(theta, w, lambda eta, rows: None)

    def value_and_gradient(self, theta, w):
        losses: dict[int, np.ndarray] = {}  # by block, because blocks may be watched in any order

        def watch(eta, rows):
            losses[rows.start] = (_row_weights(w)[:, rows] * self.family.loss(eta, self.y[rows])).sum(axis=1)

        gradient = self._loss_pass(theta, w, watch)
        total = self.penalty.value(theta) + sum(losses[start] for start in sorted(losses))
        return total, gradient + self.penalty.product(theta)

    @property
    def bounded(self):
        """With every slope penalised, only intercepts could run away, and they do so only from an absent class."""
        return bool((self.penalty.ridge[: self.design.X.shape[1]] > 0).all())

    def loss_curvature(self, theta, w) -> Product:
        theta, w = _columns(theta), _row_weights(w).astype(self.design.dtype, copy=False)
        moments = np.empty((theta.shape[1], self.outputs, self.design.rows), dtype=self.design.dtype)
        for rows in self.design.blocks(theta.shape[1] * self._free):
            moments[:, :, rows] = self.family.moments(self._eta(theta, rows))

        light = self._light(w, 2)

        def product(V: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
            moment = moments if columns is None or len(moments) == 1 else moments[columns]
            weight, few = w, light
            if columns is not None and len(w) > 1:
                weight, few = w[columns], {at: light[g] for at, g in enumerate(columns) if g in light}

            def rowwise(eta, weighing, rows, groups):
                own = slice(None) if len(moment) == 1 else groups
                curved = self.family.curve(moment[own, : self._free, rows], eta)
                curved *= weighing
                return curved

            return self._weighted_sweep(V, weight, rowwise, few)

        return product

    def third(self, theta, w, u):
        theta, w = _columns(theta), _row_weights(w)

        def rowwise(eta_u, rows):
            moments = self.family.moments(self._eta(theta, rows))
            return w[:, None, rows] * self.family.bend(moments, self._completed(eta_u))

        return self._sweep(u, rowwise, u.shape[1])

    def dense_curvature(self, theta, w, dtype):
        return glm_hessian(self.design, self.family, self.penalty, _columns(theta), w, dtype)

    @cached_property
    def _training_gram(self) -> np.ndarray:
        return self.design.gram(self.weights)

    def preconditioner(self, theta, w) -> Callable[[np.ndarray], np.ndarray]:
        theta = _columns(theta)
        moments = self.family.moments(self._eta(theta, slice(0, self.design.rows)))
        between = self.family.typical_curvature(moments, w)
        if kronecker_fits(self.outputs, self.design.columns, self.design.stored):
            kept = w is self.weights and self.light_preconditioner
            return Kronecker(between, self._training_gram if kept else self.design.gram(w), self.penalty)
        diagonal = np.outer(np.diag(between), self.design.squares(w))
        return Jacobi((diagonal + self.penalty.ridge).ravel())

    def row_products(self, theta, V):
        theta, V = _columns(theta), _columns(V)
        out = np.empty((self.design.rows, max(theta.shape[1], V.shape[1])))
        for rows in self.design.blocks(V.shape[1] * self._free):
            residual = self.family.residual(self._eta(theta, rows), self.y[rows])
            out[rows] = (residual * self._eta(V, rows)).sum(axis=1).T
        return out

    def row_curvatures(self, theta, V, U):
        theta, V, U = _columns(theta), _columns(V), _columns(U)
        out = np.empty((self.design.rows, max(V.shape[1], U.shape[1])))
        for rows in self.design.blocks(out.shape[1] * self._free):
            moments = self.family.moments(self._eta(theta, rows))
            out[rows] = (self.family.curve(moments, self._eta(U, rows)) * self._eta(V, rows)).sum(axis=1).T
        return out

    def reach(self, V):
        out = np.zeros(V.shape[1])
        for rows in self.design.blocks(V.shape[1] * self._free):
            np.maximum(out, self.family.spread(self._eta(V, rows)).max(axis=1), out=out)
        return out

    def residuals(self, theta):
        out = np.empty((self.design.rows, self.outputs))
        for rows in self.design.blocks(self._free):
            out[rows] = self.family.residual(self._eta(_columns(theta), rows), self.y[rows])[0].T
        return out

    def check_row_steps(self):
        return

    def corrected_residuals(self, theta, wanted, inverse, along):
        K, every = self.outputs, np.ones(self.design.columns - self.design.intercept, dtype=bool)
        found = []
        for rows in self.design.blocks(K * K):
            pick = np.flatnonzero(wanted[rows])
            if not len(pick):
                continue
            features = np.ones((len(pick), self.design.columns), dtype=inverse.dtype)
            features[:, : len(every)] = self.design.dense(rows, every)[pick]
            leverage = row_leverages(features, inverse, K).transpose(2, 1, 0)  # (K, K, n), symmetric
            eta, moved = self._eta(_columns(theta), rows)[:, :, pick], self._eta(along, rows)[:, :, pick]
            moments, w = self.family.moments(eta), self.weights[rows][pick]
            right = self.family.residual(eta, self.y[rows][pick]) + w * self.family.curve(moments, moved)
            # Column c of A S is A applied to column c of S.
            curved = w * self.family.curve(moments, leverage)
            found.append(_solve_small(np.eye(K) - curved.transpose(2, 1, 0), right[0].T, inverse.dtype))
        return np.concatenate(found)

    def gather(self, residuals, w):
        per_output = np.ascontiguousarray(residuals.T[: self._free], dtype=self.design.dtype)
        w = w.T.astype(self.design.dtype, copy=False)
        nothing = np.empty((self.size, 0))
        return self._weighted_sweep(
            nothing, w, lambda eta, weighing, rows, groups: weighing * per_output[:, rows], self._light(w, 1)
        )

    def runaway(self, w):
        w = _row_weights(w)
        out = np.zeros((len(w), self.outputs, self.design.columns))
        if self.design.intercept and self.penalty.ridge[-1] == 0.0:
            out[:, :, -1] = self.family.away(self.y, w)
        return out.reshape(len(w), self.size).T

    def predict_outputs(self, theta, X):
        design = design_of(X, self.design.intercept)
        stack = _columns(theta).T.reshape(-1, self.design.columns)
        return design.forward(stack, slice(0, design.rows)).reshape(-1, self.outputs, design.rows)

    def pull_back(self, theta, X, cotangent):
        design = design_of(X, self.design.intercept)
        return design.outer(cotangent).reshape(design.rows, self.size).T

    def _eta(self, theta: np.ndarray, rows: slice) -> np.ndarray:
        """Outputs of these training rows, (G, K, b); of softmax up to a number common to a row's."""
        eta = self.design.forward(self._stack(theta), rows)
        return self._completed(eta.reshape(-1, self._free, eta.shape[1]))

    def _stack(self, theta: np.ndarray) -> np.ndarray:
        """theta (P, G) as the coefficients of the outputs that passes compute, (G F, D)."""
        W = theta.T.reshape(-1, self.outputs, self.design.columns)
        if self.family.shift_invariant:
            W = W[:, :-1] - W[:, -1:]
        return W.reshape(-1, self.design.columns)

    def _completed(self, eta: np.ndarray) -> np.ndarray:
        """Computed outputs (G, F, b) as (G, K, b)."""
        if not self.family.shift_invariant:
            return eta
        out = np.empty((len(eta), self.outputs, eta.shape[2]), dtype=eta.dtype)
        out[:, :-1], out[:, -1] = eta, 0.0
        return out

    def _loss_pass(self, theta, w, watch: Callable[[np.ndarray, slice], None]) -> np.ndarray:
        """sum_i w_i grad l_i, (P, G); ``watch`` sees the outputs (G, K, b) of each block of rows on the way."""
        theta, w = _columns(theta), _row_weights(w).astype(self.design.dtype, copy=False)
        groups = max(theta.shape[1], len(w))

        def rowwise(eta, rows):
            outputs = self._completed(eta)
            watch(outputs, rows)
            return w[:, None, rows] * self.family.residual(outputs, self.y[rows])[:, : self._free]

        return self._sweep(theta, rowwise, groups)

    def _sweep(self, V: np.ndarray, rowwise: Callable[[np.ndarray, slice], np.ndarray], groups: int) -> np.ndarray:
        """A pass over all rows: V (P, A) in, (P, groups) out.

        ``rowwise`` makes of a block's computed outputs (A, F, b) derivatives in these (groups, F, b), or in all K.
        """
        F = self._free

        def computed(eta, rows):
            return rowwise(eta.reshape(-1, F, eta.shape[1]), rows)[:, :F].reshape(groups * F, -1)

        return self._joined(self.design.sweep(self._stack(V), computed, groups * F))

    def _light(self, w: np.ndarray, products: int) -> dict[int, np.ndarray]:
        """The rows of those groups whose weights w (G, m) are of so few that a pass of ``products`` matrix products
        takes less time over these alone."""
        few = self.design.few_rows(self._free, products) * self.design.rows
        if few < 1.0:
            return {}
        return {g: np.flatnonzero(row) for g, row in enumerate(w != 0) if np.count_nonzero(row) <= few}

    def _weighted_sweep(
        self, V: np.ndarray, w: np.ndarray, rowwise: Callable[..., np.ndarray], chosen: dict[int, np.ndarray]
    ) -> np.ndarray:
        """A pass for weights w (1 or G, m), V (P, 0 or G) in, (P, G) out; of groups ``chosen`` over those rows alone.

        ``rowwise(eta, w, rows, groups)`` makes of computed outputs (G, F, b) derivatives weighted with w (G, 1, b).
        """
        groups = max(V.shape[1], len(w))
        if not chosen or len(w) < groups:
            return self._sweep(V, lambda eta, rows: rowwise(eta, w[:, None, rows], rows, slice(None)), groups)
        out = np.empty((self.size, groups), order="F")
        light = np.array(list(chosen))
        many = np.setdiff1d(np.arange(groups), light)
        if many.size:
            own, weight = V[:, many] if V.size else V, w[many]
            out[:, many] = self._sweep(
                own, lambda eta, rows: rowwise(eta, weight[:, None, rows], rows, many), len(many)
            )

        def computed(eta, rows, at):
            g = light[at]
            return rowwise(eta[None], w[g, rows][None, None], rows, slice(g, g + 1))[0, : self._free]

        W = self._stack(V[:, light] if V.size else V).reshape(len(light), -1, self.design.columns)
        out[:, light] = self._joined(self.design.sweep_chosen(W, computed, list(chosen.values()), self._free))
        return out

    def _joined(self, out: np.ndarray) -> np.ndarray:
        """Sums (G, F, D), or (G F, D), for the outputs that passes compute, as (P, G) for all."""
        out = out.reshape(-1, self._free, self.design.columns)
        if self.family.shift_invariant:
            out = np.concatenate([out, -out.sum(axis=1, keepdims=True)], axis=1)
        return out.reshape(len(out), self.size).T


def _penalty(design: Design, w: np.ndarray, family: Family, l2: float, free_intercept: bool) -> Penalty:
    ridge = np.full(design.columns, float(l2))
    if free_intercept:
        ridge[-1] = 0.0
    gauge = np.zeros(design.columns)
    free = ridge == 0.0
    if isinstance(family, Softmax) and free.any():
        # On the scale of the loss Hessian's own diagonal; a column of zeros still needs a definite Hessian.
        squares = design.squares(w)
        gauge[free] = np.where(squares[free] > 0, squares[free], 1.0) / family.outputs
    return Penalty(ridge, gauge, family.outputs)


def _solve_small(matrices: np.ndarray, right: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """x (n, K) with matrices (n, K, K) x = right (n, K); NaN where a matrix, known to the precision of ``dtype``, is
    singular."""
    U, s, Vt = np.linalg.svd(matrices)
    x = np.einsum("nkj,nk->nj", U, right)
    singular = s[:, -1] <= np.sqrt(np.finfo(dtype).eps) * s[:, 0]
    x = np.einsum("njk,nj->nk", Vt, x / np.where(singular[:, None], 1.0, s))
    x[singular] = np.nan
    return x


def _columns(theta: np.ndarray) -> np.ndarray:
    return theta[:, None] if theta.ndim == 1 else theta


def _row_weights(w: np.ndarray) -> np.ndarray:
    """(m,) or (m, G) as (1 or G, m)."""
    return w[None] if w.ndim == 1 else w.T
