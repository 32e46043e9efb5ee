"""Generalised linear models: outputs X W' + b, one family of row losses.

theta is class-major: output k's D coefficients (intercept last) are theta[k D : (k + 1) D].
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property

import numpy as np

from influence_cli.core.arrays import columns_of, symmetric
from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.gradient_change import departure
from influence_cli.core.objectives.hessian import glm_hessian, glm_hessians
from influence_cli.core.objectives.kept import Kept
from influence_cli.core.objectives.objective import Departure, Objective, Product, Tuning
from influence_cli.core.objectives.passes import CurvatureStates, Passes, state_bytes
from influence_cli.core.objectives.penalty import penalty_of
from influence_cli.core.rows.rows import Rows
from influence_cli.core.rows.sparse_design import Features, design_of
from influence_cli.core.solvers.dual import Dual, curvature_roots, is_wide
from influence_cli.core.solvers.preconditioners import CHEAP_COLUMNS, Jacobi, Kronecker, kronecker_fits
from influence_cli.core.weights import RowWeights, Weights, as_weights

SINGLE_FROM_FLOPS = 1e7
"""Multiply-adds of a pass from which float32 saves time although float64 checks its result."""
SINGLE_LARGEST = 1e12
"""Largest absolute feature for which products of features, coefficients and residuals do not overflow in float32."""


class Glm(Objective):
    """A ``family`` of losses on the linear outputs of rows X (m, d) with labels or responses y (m,).

    ``l2`` is lambda; the intercept is penalised only with ``penalize_intercept``.  ``weights`` (m,) sum to 1 and
    default to 1/m.
    """

    kept: Kept | None = None
    """The sums that ``summed`` has computed for these rows, weights and penalty, now or earlier (``fused.glm_of``)."""
    origin: tuple[np.ndarray, np.ndarray] | None = None
    """Where the last ``departure`` was computed: theta (P, 1), and the outputs (1, K, m) of all rows."""

    def __init__(
        self,
        X: Features | Rows,
        y: np.ndarray,
        family: Family,
        *,
        l2: float,
        intercept: bool = True,
        penalize_intercept: bool = False,
        weights: np.ndarray | None = None,
    ):
        self.design = design_of(X, intercept)
        self.passes = Passes(self.design, family)
        self.y, self.family, self.outputs = y, family, family.outputs
        self.weights = np.broadcast_to(1.0 / len(y), len(y)) if weights is None else weights
        self.size = self.outputs * self.design.columns
        squares = self.mean_squares = self.design.squares(self.weights) if self.kept is None else self.kept.squares
        self.penalty = penalty_of(squares, family, l2, intercept and not penalize_intercept)
        self.wide = (
            self.bounded and self.design.keeps_states and is_wide(self.design.rows, self.outputs, self.design.columns)
        )
        self.tuning = Tuning(cheap_preconditioner=self.wide or self.design.columns <= CHEAP_COLUMNS)
        self.units = np.tile(_units(squares, family, y, self.weights), self.outputs)

    def summed(self, theta: np.ndarray, *, hessian: bool, kronecker: bool) -> None:
        """Compute the sums at theta (P, 1) that are kept for later, in passes over all rows."""
        H = symmetric(self.dense_curvature(theta, self.weights, np.dtype(np.float64))) if hessian else None
        gram, typical = None, None
        if kronecker and not self.wide and kronecker_fits(self.outputs, self.design.columns, self.design.stored):
            gram, typical = self._training_gram, self._typical_curvature(theta, self.weights)
        self.kept = Kept(theta.copy(), self.mean_squares, self.training_gradient(theta), H, gram, typical)

    def _known(self, theta: np.ndarray, w: Weights) -> Kept | None:
        """The kept sums, if theta (P, G) and ``w`` are the parameters and weights for which they were computed."""
        kept = self.kept if w.whole and w.base is self.weights and w.penalty is None else None
        return kept if kept is not None and np.array_equal(kept.theta, theta) else None

    @cached_property
    def means(self) -> np.ndarray:
        """The weighted means (D,) of the features, and 1 for the intercept."""
        return self.design.sums(self.weights)

    def initial(self, seed: int) -> np.ndarray:
        start = np.zeros((self.outputs, self.design.columns))
        if self.design.intercept:
            start[:, -1] = self.family.centre(self.y, self.weights)
        return start.reshape(-1, 1)

    def single(self, columns: int) -> Glm:
        passes = self.passes.in_single(columns)
        if passes is self.passes or not self._in_single:
            return self
        twin = copy(self)
        twin.passes, twin.design = passes, passes.design
        return twin

    @cached_property
    def _in_single(self) -> bool:
        return self.family.single_precision and self.single_pays(
            float(self.design.rows * self.design.columns * self.outputs)
        )

    def single_pays(self, operations: float) -> bool:
        """Whether no product overflows in float32, and a pass of that many multiply-adds is long enough to gain."""
        return operations >= SINGLE_FROM_FLOPS and self._fits_single

    @cached_property
    def _fits_single(self) -> bool:
        return self.design.largest() <= SINGLE_LARGEST

    def loss(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        theta, w = columns_of(theta), as_weights(w)

        def of_block(rows: slice) -> np.ndarray:
            return w.total(self.family.loss(self._outputs(theta, rows), self.y[rows]), rows)

        return np.sum(list(self.design.each(of_block, theta.shape[1] * self.passes.free)), axis=0)

    def loss_gradient(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        theta, w = columns_of(theta), as_weights(w)
        if known := self._known(theta, w):
            return known.gradient.copy()
        few = self.passes.few(w, 2)
        if theta.shape[1] > 1 or (w.groups == 1 and not few[0]):
            return self._gradient_pass(theta, w, lambda outputs, weights, rows: None)
        if w.base is self.weights and w.kept.all():
            inside = w.scaled(np.zeros(w.groups), w.taken - w.kept)
            if self.passes.few(inside, 2).all():
                return w.kept * self.training_gradient(theta) + self.loss_gradient(theta, inside)
        if not few.all() or w.sizes.sum() > self.design.rows:
            if not isinstance(self.design.X, np.ndarray) and 8.0 * self.y.size * self.outputs > state_bytes():
                return self._gradient_pass(theta, w, lambda outputs, weights, rows: None)
            return self.gather(self.residuals(theta), w)
        return self.passes.over_groups(theta, w, lambda eta, rows: self.family.residual(eta, self.y[rows]))

    def value_and_gradient(self, theta: np.ndarray, w: RowWeights) -> tuple[np.ndarray, np.ndarray]:
        theta, w = columns_of(theta), as_weights(w)
        if self.design.may_be_away:  # what ``see`` records would stay in another process
            return self.value(theta, w), self.gradient(theta, w)
        return self.seen_on_the_way(theta, w, lambda outputs, rows: None)

    def departure(self, theta: np.ndarray, w: Weights) -> Departure:
        """J(.; w) and its gradient as seen from theta (P, 1), where the minimisations of all groups start."""
        return departure(self, theta, w)

    def _outputs(self, theta: np.ndarray, rows: slice) -> np.ndarray:
        """Outputs (G, K, b) of these rows at theta (P, G), without a matrix product where ``origin`` has them."""
        kept = self.origin
        known = kept is not None and np.array_equal(kept[0], theta)
        return kept[1][:, :, rows] if kept is not None and known else self.passes.outputs(theta, rows)

    def seen_on_the_way(
        self, theta: np.ndarray, w: Weights, see: Callable[[np.ndarray, slice], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """J (G,) and its gradient (P, G) in one pass; ``see`` gets the outputs (G, K, b) and rows of each block."""
        losses: dict[int, np.ndarray] = {}

        def watch(outputs: np.ndarray, weights: np.ndarray, rows: slice) -> None:
            losses[rows.start] = (weights * self.family.loss(outputs, self.y[rows])).sum(axis=1)
            see(outputs, rows)

        gradient = self._gradient_pass(theta, w, watch)
        total = self.penalty.value(theta, w.penalty) + np.sum([losses[start] for start in sorted(losses)], axis=0)
        return total, gradient + self.penalty.product(theta, w.penalty)

    def _gradient_pass(
        self, theta: np.ndarray, w: Weights, watch: Callable[[np.ndarray, np.ndarray, slice], None]
    ) -> np.ndarray:
        """sum_i w_i grad l_i, (P, G); ``watch`` gets outputs (G, K, b), weights (1 or G, b) and rows of each block."""

        def rowwise(eta: np.ndarray, rows: slice) -> np.ndarray:
            outputs, weights = self.passes.completed(eta), w.block(rows)
            watch(outputs, weights, rows)
            weights = weights.astype(self.design.dtype, copy=False)
            return weights[:, None] * self.family.residual(outputs, self.y[rows])[:, : self.passes.free]

        return self.passes.sweep(theta, rowwise, max(theta.shape[1], w.groups))

    @property
    def bounded(self) -> bool:
        """Whether every slope is penalised: then only the intercept of an absent class can diverge."""
        return bool((self.penalty.ridge[: self.design.X.shape[1]] > 0).all())

    def loss_curvature(self, theta: np.ndarray, w: RowWeights) -> Product:
        theta, w = columns_of(theta), as_weights(w)
        few = self.passes.few(w, 2)
        states = CurvatureStates(self.passes, theta, w, few)

        def product(V: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
            columns = np.arange(V.shape[1]) if columns is None else columns

            def whole(eta: np.ndarray, weights: np.ndarray, rows: slice, at: np.ndarray) -> np.ndarray:
                curved = self.family.curve(states.block(columns[at], rows), eta)
                curved *= weights
                return curved

            def alone(eta: np.ndarray, weights: np.ndarray, span: slice, at: int) -> np.ndarray:
                return self.family.curve(states.of_group(int(columns[at]), span), eta) * weights

            chosen = few[columns] if w.groups > 1 else few
            return self.passes.weighted(V, w.take(columns), chosen, whole, alone)

        return product

    def third(self, theta: np.ndarray, w: RowWeights, u: np.ndarray) -> np.ndarray:
        theta, w = columns_of(theta), as_weights(w)

        def rowwise(eta_u: np.ndarray, rows: slice) -> np.ndarray:
            state = self.family.curvature_state(self.passes.outputs(theta, rows))
            return w.block(rows)[:, None] * self.family.third(state, self.passes.completed(eta_u))

        return self.passes.sweep(u, rowwise, u.shape[1])

    def dense_curvature(self, theta: np.ndarray, w: RowWeights, dtype: np.dtype) -> np.ndarray:
        theta, w = columns_of(theta), as_weights(w)
        if (known := self._known(theta, w)) and known.hessian is not None:
            return np.array(known.hessian, dtype=dtype, order="F")
        return glm_hessian(self.design, self.family, self.penalty, theta, w, dtype)

    def dense_curvatures(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        """The Hessians of J without damping at theta (P, G), each under the weights of its group, (G, P, P): for few
        parameters."""
        return glm_hessians(self.passes, self.penalty, columns_of(theta), as_weights(w))

    @cached_property
    def _training_gram(self) -> np.ndarray:
        if self.kept is not None and self.kept.gram is not None:
            return self.kept.gram
        return self.design.gram(self.weights)

    def preconditioner(self, theta: np.ndarray, w: RowWeights) -> Callable[[np.ndarray], np.ndarray]:
        theta, w = columns_of(theta), as_weights(w)
        if self.wide:
            return self.dual(theta, w)
        weights, known = w.column(), self._known(theta, w)
        typical = None if known is None else known.typical
        between = self._typical_curvature(theta, weights) if typical is None else typical
        if kronecker_fits(self.outputs, self.design.columns, self.design.stored):
            training = w.whole and w.base is self.weights
            kept = training and (typical is not None or self.tuning.cheap_preconditioner)
            within = self._training_gram if kept else self.design.gram(weights)
            return Kronecker(between, within, self.penalty.block(0, w.penalty), self.penalty.gauge)
        penalty = self.penalty.diagonal(w.penalty)
        return Jacobi((np.outer(np.diag(between), self.design.squares(weights)) + penalty).ravel())

    def dual(self, theta: np.ndarray, w: RowWeights) -> Dual:
        """The inverse Hessian of J at theta (P, 1) under the weights of one group, in dual form (``solvers.dual``)."""
        theta, w = columns_of(theta), as_weights(w)
        state = self.family.curvature_state(self.passes.outputs(theta, slice(0, self.design.rows)))
        return Dual(self.design, curvature_roots(self.family, state, w.column()), self.penalty, w.penalty)

    def _typical_curvature(self, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
        """sum_i w_i l_i'' / sum_i w_i, (K, K), at theta (P, 1) for weights (m,)."""

        def of_block(rows: slice) -> np.ndarray:
            share = w[rows].sum()
            if not share > 0.0:
                return np.zeros((self.outputs, self.outputs))
            state = self.family.curvature_state(self.passes.outputs(theta, rows))
            return share * self.family.typical_curvature(state, w[rows])

        return np.sum(list(self.design.each(of_block, self.passes.free)), axis=0) / w.sum()

    def row_products(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        theta, V = columns_of(theta), columns_of(V)
        out = np.empty((self.design.rows, max(theta.shape[1], V.shape[1])))

        def of_block(rows: slice) -> np.ndarray:
            residual = self.family.residual(self.passes.outputs(theta, rows), self.y[rows])
            return (residual * self.passes.outputs(V, rows)).sum(axis=1).T

        return self.design.filled(of_block, out, V.shape[1] * self.passes.free)

    def row_curvatures(self, theta: np.ndarray, V: np.ndarray, U: np.ndarray) -> np.ndarray:
        theta, V, U = columns_of(theta), columns_of(V), columns_of(U)
        outputs, out = self.passes.outputs, np.empty((self.design.rows, max(V.shape[1], U.shape[1])))

        def of_block(rows: slice) -> np.ndarray:
            state = self.family.curvature_state(outputs(theta, rows))
            return (self.family.curve(state, outputs(U, rows)) * outputs(V, rows)).sum(axis=1).T

        return self.design.filled(of_block, out, out.shape[1] * self.passes.free)

    def self_concordance(self, V: np.ndarray) -> np.ndarray:
        return self.passes.largest(V, self.family.self_concordance)

    def deviation(self, theta: np.ndarray) -> np.ndarray:
        theta, outputs = columns_of(theta), self.passes.outputs
        scale = self.family.curvature_scale(self.y, self.weights)
        middle = outputs(theta, slice(0, 1))

        def of_block(rows: slice) -> np.ndarray:
            centred, w = outputs(theta, rows) - middle, self.weights[rows]
            return np.stack([centred @ w, centred**2 @ w])

        mean, square = np.sum(list(self.design.each(of_block, theta.shape[1] * self.passes.free)), axis=0)
        return np.sqrt(scale * np.maximum(square - mean**2, 0.0).sum(axis=1))

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        def of_block(rows: slice) -> np.ndarray:
            return self.family.residual(self._outputs(columns_of(theta), rows), self.y[rows])[0].T

        return self.design.filled(of_block, np.empty((self.design.rows, self.outputs)), self.passes.free)

    def gather(self, residuals: np.ndarray, w: RowWeights) -> np.ndarray:
        """sum_i w_i (d outputs_i / d theta)' residuals_i for residuals (m, K): (P, G)."""
        w = as_weights(w)
        per_output = np.ascontiguousarray(residuals.T[: self.passes.free], dtype=self.design.dtype)

        def whole(eta: np.ndarray, weights: np.ndarray, rows: slice, at: np.ndarray) -> np.ndarray:
            return weights * per_output[:, rows]

        def alone(eta: np.ndarray, weights: np.ndarray, span: slice, g: int) -> np.ndarray:
            return (weights * per_output[:, w.rows[g][span]])[None]

        return self.passes.weighted(np.empty((self.size, 0)), w, self.passes.few(w, 1), whole, alone)

    def along(self, residuals: np.ndarray, V: np.ndarray) -> np.ndarray:
        """residuals_i' (d outputs_i / d theta) v of every row for residuals (m, K) and V (P, G): (m, G)."""

        def of_block(rows: slice) -> np.ndarray:
            return np.einsum("gkb,bk->bg", self.passes.outputs(V, rows), residuals[rows])

        return self.design.filled(of_block, np.empty((self.design.rows, V.shape[1])), V.shape[1] * self.passes.free)

    def free_intercepts(self, change: np.ndarray) -> np.ndarray:
        out = np.zeros((len(change), self.outputs, self.design.columns))
        if self.design.intercept and self.penalty.ridge[-1] == 0.0:
            out[:, :, -1] = change
        return out.reshape(len(change), self.size).T

    def predict_outputs(self, theta: np.ndarray, X: Features) -> np.ndarray:
        design = design_of(X, self.design.intercept)
        stack = columns_of(theta).T.reshape(-1, self.design.columns)
        return design.forward(stack, slice(0, design.rows)).reshape(-1, self.outputs, design.rows)

    def pull_back(self, theta: np.ndarray, X: Features, cotangent: np.ndarray) -> np.ndarray:
        design = design_of(X, self.design.intercept)
        return design.outer(cotangent).reshape(design.rows, self.size).T


def _units(squares: np.ndarray, family: Family, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Root mean squares (D,) of the features, from their mean squares, times the root of ``Family.curvature_scale``."""
    scale = family.curvature_scale(y, w)
    return np.sqrt(scale * np.where((squares > 0) & np.isfinite(squares), squares, 1.0))
