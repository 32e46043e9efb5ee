"""J(theta; w) = sum_i w_i l_i(theta) + penalty: the one interface that every model offers.

Solvers, estimators, retraining and selection are written against it and never ask which model it is.  The loss part and
the penalty are apart, because removal re-weights the rows (docs/design.md, "Objective and removal").
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.penalty import Penalty
from influence_cli.core.rows.sparse_design import Features
from influence_cli.core.weights import RowWeights, Weights, as_weights

Product = Callable[..., np.ndarray]
"""product(V (P, A), columns=None) -> (P, A).  Where the weights or parameters differ from group to group, ``columns``
(A,) says which groups the columns of V belong to; None means all of them, in order."""


@dataclass(frozen=True)
class Tuning:
    """Settings of a model that its minimisers need.

    ``tolerance`` is the relative Newton decrement to which it is trained, and retrained, unless another is asked for;
    ``max_iterations`` the Newton steps (of a network, L-BFGS iterations) that training may take; a
    ``cheap_preconditioner`` costs little to recompute beside a Newton step.
    """

    tolerance: float = 1e-8
    max_iterations: int = 200
    cheap_preconditioner: bool = False


@dataclass(frozen=True)
class Departure:
    """J (G,) and its gradient (P, G) at a point theta (P, 1), and the gradient's ``change`` from there.

    ``change(V, columns, farthest)`` maps V (P, A) to grad J(theta + V; w) - grad J(theta; w).  ``columns`` (A,) are the
    groups of V's columns, as for a product; ``self_concordance(V)`` is written into the array ``farthest`` (A,).
    ``rough`` is the same function in single precision if that is faster.
    """

    value: np.ndarray
    gradient: np.ndarray
    change: Product
    rough: Product | None = None


class Objective(ABC):
    """A model on its training rows.

    theta is (P, G).  Weights w are those of G groups, or an array (m,) that all share.  Where theta has one column and
    w has G groups, or the other way round, the single one serves all.
    """

    penalty: Penalty
    family: Family
    y: np.ndarray
    """Labels or responses (m,)."""
    weights: np.ndarray
    """Training weights (m,), summing to 1."""
    size: int
    """P."""
    outputs: int
    """K."""
    convex: bool = True
    """Whether J is convex and so has a single minimum; otherwise its Hessian may be indefinite away from minima."""
    tuning: Tuning = Tuning()
    units: np.ndarray
    """The size (P,) of each parameter's gradient, for norms in which no feature's unit plays a part: of a GLM the root
    mean square of its feature, times that of the curvature where this has a unit."""
    damping: float = 0.0
    """Added to the Hessian in every product and factor, as damping times the identity, and never to J."""

    _last_gradient: tuple[np.ndarray, np.ndarray] | None = None

    def initial(self, seed: int) -> np.ndarray:
        """Where training starts, (P, 1): the same for every seed where J is convex."""
        return np.zeros((self.size, 1))

    def single(self, columns: int) -> Objective:
        """The same model with gradients and products of that many parameter vectors in float32, for iterations whose
        results this model checks; the model itself where float32 is not faster."""
        return self

    def proximal(self, theta: np.ndarray) -> Objective:
        """What influence functions at theta (P, 1) are the linear response of (Bae et al. 2022).

        Where outputs are linear in theta and theta is a minimum that is J itself, up to a constant.
        """
        return self

    @abstractmethod
    def loss(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        """sum_i w_i l_i, (G,)."""

    @abstractmethod
    def loss_gradient(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        """sum_i w_i grad l_i, (P, G)."""

    @abstractmethod
    def loss_curvature(self, theta: np.ndarray, w: RowWeights) -> Product:
        """The product V -> sum_i w_i hess l_i V.  Weights of either sign."""

    @abstractmethod
    def third(self, theta: np.ndarray, w: RowWeights, u: np.ndarray) -> np.ndarray:
        """J'''[u, u] = sum_i w_i l_i'''[u, u], (P, G): the penalty is quadratic."""

    @abstractmethod
    def dense_curvature(self, theta: np.ndarray, w: RowWeights, dtype: np.dtype) -> np.ndarray:
        """The Hessian of J at theta (P, 1) under weights >= 0 of one group: (P, P), Fortran-ordered, of
        which the lower triangle is valid."""

    @abstractmethod
    def preconditioner(self, theta: np.ndarray, w: RowWeights) -> Callable[[np.ndarray], np.ndarray]:
        """A cheap symmetric positive approximation of the inverse Hessian of J at theta (P, 1) under the weights of one
        group: (P, A) -> (P, A)."""

    @abstractmethod
    def row_products(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        """v' grad l_i of every row, (m, G)."""

    @abstractmethod
    def row_curvatures(self, theta: np.ndarray, V: np.ndarray, U: np.ndarray) -> np.ndarray:
        """v' hess l_i u of every row at theta (P, 1), (m, G): what the pairs of Eq. 17 are summed from."""

    @abstractmethod
    def self_concordance(self, V: np.ndarray) -> np.ndarray:
        """The largest ``Family.self_concordance`` over the training rows of moving theta by V (P, G): (G,)."""

    @abstractmethod
    def residuals(self, theta: np.ndarray) -> np.ndarray:
        """dl_i / d outputs at theta (P, 1), (m, K): with the features, every row's gradient in compact form."""

    @abstractmethod
    def predict_outputs(self, theta: np.ndarray, X: Features) -> np.ndarray:
        """Outputs of the rows of X under theta (P, G): (G, K, n)."""

    @abstractmethod
    def deviation(self, theta: np.ndarray) -> np.ndarray:
        """The standard deviation of the training rows' outputs at theta (P, G), all outputs together, in the norm of H
        where the curvature has a unit: (G,)."""

    @abstractmethod
    def pull_back(self, theta: np.ndarray, X: Features, cotangent: np.ndarray) -> np.ndarray:
        """Row t of the result's columns: (d outputs_t / d theta)' cotangent_t for cotangent (K, T): (P, T)."""

    @abstractmethod
    def free_intercepts(self, change: np.ndarray) -> np.ndarray:
        """Parameters (P, G) that change all rows' outputs by ``change`` (G, K); 0 where intercepts are penalised or
        there are none."""

    def recession(self, w: RowWeights) -> np.ndarray:
        """Directions (P, G) along which J(.; w_g) falls for ever because a class has lost its last row; 0 where there
        is none.  See ``core.recession`` for all such directions."""
        return self.free_intercepts(self.away(w))

    def away(self, w: RowWeights) -> np.ndarray:
        """Changes of the outputs (G, K) along which the loss falls for ever because a class, or another kind of row,
        has lost its last row; 0 where none has."""
        return self.family.away(self._present(w))

    def loses_class(self, w: RowWeights) -> np.ndarray:
        """Which groups contain the last row of a class, or of another kind of row (``Family.kinds``): (G,) bool."""
        return np.asarray(~self._present(w).all(axis=1))

    def _present(self, w: RowWeights) -> np.ndarray:
        """Which kinds of rows keep a weight over 0, (G, S) bool."""
        w = as_weights(w)
        kinds, counts = self._kinds
        if w.base is not self.weights:
            counts = np.bincount(kinds[w.base != 0.0], minlength=len(counts))
        return w.present(kinds, counts)

    def training_gradient(self, theta: np.ndarray) -> np.ndarray:
        """sum_i w_i grad l_i at theta (P, 1) under the training weights, (P, 1); kept for the last theta."""
        kept = self._last_gradient
        if kept is None or not np.array_equal(kept[0], theta):
            kept = self._last_gradient = theta.copy(), self.loss_gradient(theta, self.weights)
        return kept[1]

    def lone_rows(self) -> np.ndarray:
        """The rows with a positive weight that are the only ones of their class, or of another kind of row."""
        kinds, counts = self._kinds
        return np.flatnonzero((counts[kinds] == 1) & (self.weights != 0.0))

    @cached_property
    def _kinds(self) -> tuple[np.ndarray, np.ndarray]:
        """The family's kind of each row (m,), and how many rows with a weight are of each."""
        kinds, count = self.family.kinds(self.y)
        weighted = kinds if self.weights.all() else kinds[self.weights != 0.0]
        return kinds, np.bincount(weighted, minlength=count)

    def value(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        """J, (G,)."""
        w = as_weights(w)
        return self.loss(theta, w) + self.penalty.value(theta, w.penalty)

    def gradient(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        """grad J, (P, G)."""
        w = as_weights(w)
        return self.loss_gradient(theta, w) + self.penalty.product(theta, w.penalty)

    def departure(self, theta: np.ndarray, w: Weights) -> Departure:
        """J(.; w) and its gradient as seen from theta (P, 1), where a minimisation starts."""
        value, here = (
            self.value_and_gradient(theta, w) if w.groups == 1 else (self.value(theta, w), self.gradient(theta, w))
        )

        def change(V: np.ndarray, columns: np.ndarray | None = None, farthest: np.ndarray | None = None) -> np.ndarray:
            chosen = slice(None) if columns is None else columns
            if farthest is not None:
                farthest[:] = self.self_concordance(V)
            return self.gradient(theta + V, w if columns is None else w.take(columns)) - here[:, chosen]

        return Departure(value, here, change)

    def value_and_gradient(self, theta: np.ndarray, w: RowWeights) -> tuple[np.ndarray, np.ndarray]:
        """J (G,) and grad J (P, G); a model that can have both in one pass over the rows overrides this."""
        return self.value(theta, w), self.gradient(theta, w)

    @property
    def bounded(self) -> bool:
        """Whether a minimum is certain as long as every class has a row."""
        return self.penalty.complete

    def curvature(self, theta: np.ndarray, w: RowWeights) -> Product:
        """The product V -> (hess J + damping I) V."""
        w = as_weights(w)
        loss_product = self.loss_curvature(theta, w)

        def product(V: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
            penalty = w.penalty
            if penalty is not None and w.groups > 1 and columns is not None:
                penalty = penalty.take(columns)
            curved = loss_product(V, columns) + self.penalty.product(V, penalty)
            return curved + self.damping * V if self.damping else curved

        return product
