"""The interface of every model: the objective J(theta; w) = sum_i w_i l_i(theta) + penalty on its m training rows.

l_i is the loss of row i, and w_i its weight.  Solvers, estimators, retraining and selection are written against this
interface; they only ask whether a model is a ``Glm`` where its linear outputs allow a faster or sharper method.  Loss
and penalty are separate functions, because removal changes the weights of the rows (docs/design.md, section 2.1).
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
from influence_cli.core.weights import RowWeights, as_weights

Product = Callable[..., np.ndarray]
"""product(V, columns=None) maps V (P, A) to (P, A).  Where the weights or parameters differ from group to group,
``columns`` (A,) are the numbers of the groups to which the columns of V belong; None stands for all groups in order."""


@dataclass(frozen=True)
class Tuning:
    """Settings of a model for its minimisers.

    ``tolerance`` is the relative Newton decrement (docs/design.md, section 2.9) at which training and retraining end
    unless another is asked for.  ``max_iterations`` limits the Newton steps (for a network, the L-BFGS iterations) of
    training.  ``cheap_preconditioner`` says that a new preconditioner costs little compared with a Newton step.
    """

    tolerance: float = 1e-8
    max_iterations: int = 200
    cheap_preconditioner: bool = False


@dataclass(frozen=True)
class Departure:
    """The values of J (G,) and its gradient (P, G) at a point theta (P, 1), and the function by which the gradient
    changes.

    ``change(V, columns, farthest)`` maps V (P, A) to grad J(theta + V; w) - grad J(theta; w), (P, A).  ``columns`` (A,)
    are the groups of V's columns, as for a ``Product``; if an array ``farthest`` (A,) is given, ``self_concordance(V)``
    is written into it.  ``rough`` is the same function in single precision, or None where that is not faster.
    """

    value: np.ndarray
    gradient: np.ndarray
    change: Product
    rough: Product | None = None


class Objective(ABC):
    """A model on its m training rows, with P parameters and K outputs.

    theta (P, G) are the parameter vectors of G groups.  Row weights w are those of G groups, or an array (m,) that all
    share.  Where theta has one column and w has G groups, or the other way round, the single one serves all.
    """

    penalty: Penalty
    family: Family
    y: np.ndarray
    """Labels or responses (m,)."""
    weights: np.ndarray
    """Training weights (m,), summing to 1."""
    size: int
    """P, the number of parameters."""
    outputs: int
    """K, the number of outputs of a row."""
    convex: bool = True
    """Whether J is convex, so that every minimum is global; otherwise its Hessian may be indefinite away from
    minima."""
    tuning: Tuning = Tuning()
    units: np.ndarray
    """The scale (P,) of each parameter's gradient; norms are computed relative to it, so that the units of the features
    have no influence.  For a GLM it is the root mean square of the parameter's feature, times the root of
    ``Family.curvature_scale``; for a network it is 1."""
    damping: float = 0.0
    """A number whose multiple of the identity is added to the Hessian in every product and factor, and never to J."""

    _last_gradient: tuple[np.ndarray, np.ndarray] | None = None

    @abstractmethod
    def initial(self, seed: int) -> np.ndarray:
        """The parameters (P, 1) at which training starts; where J is convex they do not depend on the seed."""

    def single(self, columns: int) -> Objective:
        """The same model, whose gradients and products for that many parameter vectors are computed in float32, for
        iterations whose results are checked in float64; the model itself where float32 is not faster."""
        return self

    def proximal(self, theta: np.ndarray) -> Objective:
        """The objective whose linear response to a change of the weights is given by the influence functions at theta
        (P, 1) (Bae et al. 2022; docs/design.md, section 2.6).

        Where the outputs are linear in theta, and theta is a minimum, it is J itself, up to a constant.
        """
        return self

    @abstractmethod
    def loss(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        """The loss part of J: sum_i w_i l_i, (G,)."""

    @abstractmethod
    def loss_gradient(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        """The gradient of ``loss``: sum_i w_i grad l_i, (P, G)."""

    @abstractmethod
    def loss_curvature(self, theta: np.ndarray, w: RowWeights) -> Product:
        """The function V -> sum_i w_i (hess l_i) V at theta.  The weights may have either sign.  A network may use the
        Gauss-Newton matrix instead."""

    @abstractmethod
    def third(self, theta: np.ndarray, w: RowWeights, u: np.ndarray) -> np.ndarray:
        """The third derivative of J contracted twice with u (P, G): sum_i w_i l_i'''[u, u], (P, G).  The penalty is
        quadratic and has none."""

    @abstractmethod
    def dense_curvature(self, theta: np.ndarray, w: RowWeights, dtype: np.dtype) -> np.ndarray:
        """The Hessian of J without damping at theta (P, 1), under the nonnegative weights of one group: (P, P),
        Fortran-ordered, of which only the lower triangle is valid.  A network may return the Gauss-Newton matrix
        instead."""

    @abstractmethod
    def preconditioner(self, theta: np.ndarray, w: RowWeights) -> Callable[[np.ndarray], np.ndarray]:
        """A symmetric positive definite approximation of the inverse Hessian of J at theta (P, 1), under the weights of
        one group, that costs little: a function (P, A) -> (P, A)."""

    @abstractmethod
    def row_products(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        """v' grad l_i of every row i and column v of V (P, 1 or G), at theta (P, 1 or G): (m, G)."""

    @abstractmethod
    def row_curvatures(self, theta: np.ndarray, V: np.ndarray, U: np.ndarray) -> np.ndarray:
        """v' (hess l_i) u of every row i and columns v of V and u of U (P, 1 or G), at theta (P, 1): (m, G).  With
        v = H^-1 grad f and u = H^-1 times the sum of a group's gradients, the sum over the group's rows is w'CDw of the
        paper's Eq. 17."""

    @abstractmethod
    def self_concordance(self, V: np.ndarray) -> np.ndarray:
        """The largest ``Family.self_concordance`` over the training rows when theta changes by V (P, G): (G,).  It is 0
        for a network."""

    @abstractmethod
    def residuals(self, theta: np.ndarray) -> np.ndarray:
        """The derivatives of the losses with respect to the outputs at theta (P, 1), (m, K).  For a GLM they determine
        every row's gradient together with the features."""

    @abstractmethod
    def predict_outputs(self, theta: np.ndarray, X: Features) -> np.ndarray:
        """Outputs of the rows of X (n, d) under theta (P, G): (G, K, n)."""

    @abstractmethod
    def deviation(self, theta: np.ndarray) -> np.ndarray:
        """The weighted standard deviation of the training rows' outputs at theta (P, G), all outputs together, (G,).
        For a GLM it is multiplied by the root of ``Family.curvature_scale``, so that it is in the norm of H."""

    @abstractmethod
    def pull_back(self, theta: np.ndarray, X: Features, cotangent: np.ndarray) -> np.ndarray:
        """The products (d outputs_t / d theta)' cotangent_t at theta (P, 1), one column for each row t of X (T, d),
        where ``cotangent`` is (K, T): (P, T)."""

    @abstractmethod
    def free_intercepts(self, change: np.ndarray) -> np.ndarray:
        """Changes of theta (P, G) that change the outputs of all rows by ``change`` (G, K); 0 where intercepts are
        penalised or there are none."""

    def recession(self, w: RowWeights) -> np.ndarray:
        """Directions of recession (P, G), along which J(.; w_g) falls for ever, due to a class that has lost its last
        row; 0 where there are none.  ``core.recession`` finds those with other causes as well."""
        return self.free_intercepts(self.away(w))

    def away(self, w: RowWeights) -> np.ndarray:
        """Changes of the outputs (G, K) along which the loss falls for ever, because a class, or another kind of row
        (``Family.kinds``), has lost its last row; 0 where none has."""
        return self.family.away(self._present(w))

    def loses_class(self, w: RowWeights) -> np.ndarray:
        """Which groups contain the last row of a class, or of another kind of row (``Family.kinds``): (G,) bool."""
        return np.asarray(~self._present(w).all(axis=1))

    def _present(self, w: RowWeights) -> np.ndarray:
        """Which kinds of rows keep a weight other than 0, (G, S) bool."""
        w = as_weights(w)
        kinds, counts = self._kinds
        if w.base is not self.weights:
            counts = np.bincount(kinds[w.base != 0.0], minlength=len(counts))
        return w.present(kinds, counts)

    def training_gradient(self, theta: np.ndarray) -> np.ndarray:
        """The gradient of the loss at theta (P, 1) under the training weights, sum_i w_i grad l_i, (P, 1); that of the
        last theta is kept."""
        kept = self._last_gradient
        if kept is None or not np.array_equal(kept[0], theta):
            kept = self._last_gradient = theta.copy(), self.loss_gradient(theta, self.weights)
        return kept[1]

    def lone_rows(self) -> np.ndarray:
        """The numbers of the rows with a positive weight that are the only ones of their class, or of another kind of
        row."""
        kinds, counts = self._kinds
        return np.flatnonzero((counts[kinds] == 1) & (self.weights != 0.0))

    @cached_property
    def _kinds(self) -> tuple[np.ndarray, np.ndarray]:
        """The family's kind of each row (m,), and how many rows with a weight are of each."""
        kinds, count = self.family.kinds(self.y)
        weighted = kinds if self.weights.all() else kinds[self.weights != 0.0]
        return kinds, np.bincount(weighted, minlength=count)

    def value(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        """The value of J, (G,)."""
        w = as_weights(w)
        return self.loss(theta, w) + self.penalty.value(theta, w.penalty)

    def gradient(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        """The gradient of J, (P, G)."""
        w = as_weights(w)
        return self.loss_gradient(theta, w) + self.penalty.product(theta, w.penalty)

    @abstractmethod
    def value_and_gradient(self, theta: np.ndarray, w: RowWeights) -> tuple[np.ndarray, np.ndarray]:
        """J (G,) and its gradient (P, G), in one pass over the rows where possible."""

    @property
    @abstractmethod
    def bounded(self) -> bool:
        """Whether J certainly has a minimum as long as every class has a row."""

    def curvature(self, theta: np.ndarray, w: RowWeights) -> Product:
        """The product V -> (hess J + damping I) V at theta."""
        w = as_weights(w)
        loss_product = self.loss_curvature(theta, w)

        def product(V: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
            penalty = w.penalty
            if penalty is not None and w.groups > 1 and columns is not None:
                penalty = penalty.take(columns)
            curved = loss_product(V, columns) + self.penalty.product(V, penalty)
            return curved + self.damping * V if self.damping else curved

        return product
