"""Proven bounds of the change of f on removal, from the gradient that remains at some parameters theta_hat.

Let F = J(.; w_removed), theta_r its minimiser, H = hess F(theta_hat), r = grad F(theta_hat), D = theta_r - theta_hat.

Assumptions.  The model is a logistic, multinomial, binomial, linear or Poisson regression; every slope is penalised,
with ridge lambda R > 0; no linear predictor of a row exceeds the cap of a Poisson model's exponential.  Nothing is
assumed about theta_hat, nor about the trained parameters: f(theta*) is the number that the model gives.

1.  Bach (2010): for these losses |l'''[v, u, u]| <= spread(x v) l''[u, u], where the spread of the outputs x v is their
    range for a softmax, their size for a single output, and 0 for a squared error.  So along D the Hessian falls at
    most like exp(-t s) with s = max over kept rows of spread(x_i D) <= kappa |D|_H.  Here kappa is the largest
    |x_i b|_{H^-1} over the kept rows and the differences b = e_j - e_k of two outputs.  Integration gives
    1 - exp(-kappa |D|_H) <= kappa d with d = |r|_{H^-1}, and if kappa d < 1

        |D|_H <= E = -log(1 - kappa d) / kappa             (E = d for a squared error, where kappa = 0).

2.  Let A be the intercepts' block of H and C the block between slopes and intercepts.  The loss's part of H is >= 0, so
    that its Schur complement for the slopes is >= 0 and that of H is >= lambda R.  For every b = (b_V, b_t), with sum
    b_t = 0 where one number added to all outputs changes nothing (A^+ is the pseudo-inverse),

        |b|^2_{H^-1} <= (b_V - C A^+ b_t)' (lambda R)^-1 (b_V - C A^+ b_t) + b_t' A^+ b_t.

    Where the intercept is penalised, the penalty alone gives the bound, H >= lambda R.  It is not diagonal where
    features are standardised again without the group: it is lambda (sum_j ratio_j^2 w_j^2 + (t + shift' w)^2) for each
    output.  With w' = ratio w and t' = t + shift' w this is lambda (|w'|^2 + t'^2), and b becomes
    ((b_V - shift b_t) / ratio, b_t).  Its inverse is thus the line above with lambda R = lambda ratio^2, C A^+ = shift
    and A^+ = I / lambda; if nothing is standardised, shift is 0.  Without an intercept the terms of b_t are absent.
    ``CurvatureBound`` computes this bound, and from it bounds of d and, by the triangle inequality from the centre of
    all rows, of kappa.  With x from a few steps of conjugate gradients and rho = r - H x their residual,
    d^2 = x'(r + rho) + |rho|^2_{H^-1} exactly: only the last term needs the bound.

3.  |b' D| <= |b|_{H^-1} E for every linear functional b.  This bounds f: a single output lies in a known interval, on
    which a loss is convex and every other quantity monotone.  For a softmax, with s = max |x_t (e_j - e_k)|_{H^-1} E
    and h = |grad f|_{H^-1} E,

        max(0, f - min(h, s)) <= f(theta_r) <= f + min(h + s^2 / 8, s)

    by convexity, because the loss is 1-Lipschitz in the range of its outputs, and because its curvature along D is
    everywhere the variance of an output, at most a quarter of the squared range (Popoviciu).

Rounding.  With u the unit roundoff and a_j = max |x_ij|, the computed gradient of m rows is off at feature j by at most
u a_j (m max|l'| + (D + 6)/2 max|l''| sum_k a_k |theta_k|), summed in any order.  By 2 this becomes a slack that is
added to d, whatever the units of features and response.  The relative error of A and C is (m + 16 K cond A) u; where
that could exceed a quarter of ``INFLATION``, there is no certificate, and all norms are inflated by ``INFLATION``.
``core.intervals`` has the slack of the values of f.

A group that contains all rows of a class of a softmax with free intercepts leaves no minimiser; the infimum of F is the
minimum of the softmax of the other classes, which is certified instead (``core.lost_classes``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from influence_cli.core.arrays import dots
from influence_cli.core.objectives.families.binomial import Binomial
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import FARTHEST, Poisson
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.solvers.cg import conjugate_gradient
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.weights import Weights

UNIT = 0.5 * np.finfo(float).eps
INFLATION = 1e-8
"""Relative amount by which every norm is inflated, to cover the rounding of A, of C and of the norm itself."""
PRODUCTS = 3
"""Steps of conjugate gradients for d: 2 or 3 bring its bound to within a few percent of the exact value."""
CHUNK = 1 << 22
"""Numbers (32 MiB) that the functionals of a block of test rows may take."""
FAMILIES = (Logistic, Softmax, Binomial, Gaussian, Poisson)


def no_certificate(objective: Objective) -> str:
    """Why nothing can be proven about this model; empty if something can."""
    if not isinstance(objective, Glm) or not isinstance(objective.family, FAMILIES):
        return "a certificate exists for logistic, multinomial, binomial, linear and Poisson regression only"
    slopes = objective.penalty.ridge[: objective.design.X.shape[1]]
    if not (slopes > 0).all():
        return "a certificate needs a penalty on every slope: train with --l2 greater than 0"
    return ""


@dataclass(frozen=True)
class RowGeometry:
    """The features' ``centre`` (d,), the ``radius`` (largest distance of a row from it), and each feature's ``largest``
    absolute value (D,), with the 1 of an intercept."""

    centre: np.ndarray
    radius: float
    largest: np.ndarray

    @classmethod
    def of(cls, objective: Glm) -> RowGeometry:
        """The geometry of all rows, from two passes that serve every group."""
        design = objective.design
        d = design.X.shape[1]
        columns = np.ones(d, dtype=bool)
        sums = [design.dense(rows, columns).sum(axis=0) for rows in design.blocks(1)]
        centre = np.sum(sums, axis=0) / design.rows
        radius, largest = 0.0, np.zeros(d)
        for rows in design.blocks(1):
            X = design.dense(rows, columns)
            radius = max(radius, float(np.sqrt(((X - centre) ** 2).sum(axis=1).max(initial=0.0))))
            largest = np.maximum(largest, np.abs(X).max(axis=0, initial=0.0))
        return cls(centre, radius * (1 + INFLATION), np.append(largest, [1.0] * design.intercept))


def is_free(objective: Glm) -> bool:
    """Whether the model has an unpenalised intercept."""
    return objective.design.intercept and objective.penalty.ridge[-1] == 0.0


class CurvatureBound:
    """Upper bounds of |b|_{H^-1} for functionals b of one group's parameters (K, D): step 2 of the module's docstring.

    ``scale`` (K, d) is (lambda R)^-1/2 of the slopes, ``inverse`` (K, K) is A^+, and ``shift`` (K, d, K) is C A^+ times
    ``scale``; ``valid`` says whether A^+ is known precisely enough.
    """

    def __init__(self, objective: Glm, sums: np.ndarray | None, ridge: np.ndarray, direction: np.ndarray | None):
        """``sums`` (pairs, D) are the group's ``Passes.pair_sums`` where the intercept is free, else None; ``ridge``
        (K, D) is its lambda R, and ``direction`` (D,) the rank-one term of its penalty, if any."""
        K, D = objective.outputs, objective.design.columns
        d = D - objective.design.intercept
        self.scale = 1.0 / np.sqrt(ridge[:, :d])
        self.inverse, self.shift, self.valid = np.zeros((K, K)), np.zeros((K, d, K)), True
        self._gauge = is_free(objective) and objective.family.shift_invariant
        if sums is not None:
            self._schur(sums, objective.design.rows)
        elif objective.design.intercept:
            direction_of_intercept = np.append(np.zeros(d), np.sqrt(ridge[0, d])) if direction is None else direction
            self.inverse = np.eye(K) / direction_of_intercept[d] ** 2
            self.shift = (
                np.eye(K)[:, None] * (direction_of_intercept[:d] / direction_of_intercept[d] * self.scale)[:, :, None]
            )

    def _schur(self, sums: np.ndarray, rows: int) -> None:
        K, d, _ = self.shift.shape
        whole = np.empty((K, K, d + 1))
        j, k = np.triu_indices(K)
        whole[j, k] = whole[k, j] = sums
        A = whole[:, :, -1]
        fixed = A + np.trace(A) / K**2 if self._gauge else A
        eigenvalues = np.linalg.eigvalsh(fixed)
        condition = eigenvalues[-1] / eigenvalues[0] if eigenvalues[0] > 0 else np.inf
        self.valid = bool((rows + 16 * K * condition) * UNIT < INFLATION / 4)
        if self.valid:
            inverse = np.linalg.inv(fixed)
            self.inverse = (inverse + inverse.T) / 2
            self.shift = np.einsum("jkd,kl->jdl", whole[:, :, :d], self.inverse) * self.scale[:, :, None]

    def norms(self, c: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Bounds (T, n) for b = c_n (x) (x_t, 1), with c (n, K), whose rows sum to 0 where the outputs have a gauge,
        and features x (T, d); without the 1 where there is no intercept."""
        shift = np.einsum("kdl,nl->nkd", self.shift, c)
        square = x**2 @ np.einsum("nk,kd->dn", c**2, self.scale**2)
        cross = x @ np.einsum("nk,kd,nkd->dn", c, self.scale, shift)
        squared = (shift**2).sum(axis=(1, 2))
        size = square + 2 * np.abs(cross) + squared
        outer = np.maximum(square - 2 * cross + squared, 0.0) + 64 * len(self.scale[0]) * UNIT * size
        return self._root(outer + np.einsum("nk,kl,nl->n", c, self.inverse, c))

    def norms_by_row(self, c: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Bounds (T,) for b = c_t (x) (x_t, 1), with c (T, K) and x (T, d)."""
        out = np.empty(len(x))
        step = max(1, CHUNK // self.shift[:, :, 0].size)
        for start in range(0, len(x), step):
            block, rows = c[start : start + step], x[start : start + step]
            outer = block[:, :, None] * rows[:, None] * self.scale - np.einsum("kdl,tl->tkd", self.shift, block)
            inner = np.einsum("tk,kl,tl->t", block, self.inverse, block)
            out[start : start + step] = self._root((outer**2).sum(axis=(1, 2)) + inner)
        return out

    def norm(self, b: np.ndarray) -> float:
        """The bound for one b (K, D)."""
        d = self.scale.shape[1]
        t = b[:, d:].sum(axis=1)
        t = t - t.mean() if self._gauge else t
        outer = b[:, :d] * self.scale - self.shift @ t
        return float(self._root((outer**2).sum() + t @ self.inverse @ t))

    def of_rounding(self, size: np.ndarray) -> float:
        """The bound for every b whose entries are at most those of ``size`` (K, D) in absolute value."""
        d = self.scale.shape[1]
        t = size[:, d:].sum(axis=1) * (2.0 if self._gauge else 1.0)
        outer = size[:, :d] * self.scale + np.abs(self.shift) @ t
        return float(self._root((outer**2).sum() + t @ np.abs(self.inverse) @ t))

    def kappa(self, geometry: RowGeometry, c: np.ndarray) -> float:
        """An upper bound of the norms of c_n (x) x_i over all rows i and the differences c (n, K)."""
        centre = self.norms(c, geometry.centre[None])[0]
        length = np.sqrt((c**2).sum(axis=1)) * float(self.scale.max())
        return float((centre + geometry.radius * length * (1 + INFLATION)).max())

    @staticmethod
    def _root(square: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(square, 0.0)) * (1 + INFLATION)


@dataclass(frozen=True)
class Certificate:
    """What is proven for each group: |theta_r - theta_hat|_H <= ``radius`` (G,), infinite where nothing is, with
    theta_hat = ``theta`` (P, G), and the ``bounds`` of functionals from which intervals of f follow."""

    objective: Glm
    theta: np.ndarray
    radius: np.ndarray
    bounds: tuple[CurvatureBound, ...]

    def of(self, g: int) -> Certificate:
        """The certificate of group g alone."""
        column = slice(g, g + 1)
        return replace(self, theta=self.theta[:, column], radius=self.radius[column], bounds=self.bounds[column])


def differences(objective: Glm) -> np.ndarray:
    """The functionals of the outputs on which the spread rests, (n, K): all e_j - e_k, or the single output."""
    K = objective.outputs
    if K == 1:
        return np.ones((1, 1))
    unit = np.eye(K)
    return np.array([unit[j] - unit[k] for j in range(K) for k in range(j + 1, K)])


def certify(
    objective: Glm,
    theta: np.ndarray,
    w: Weights,
    preconditioner: Preconditioner,
    geometry: RowGeometry,
    *,
    products: int = PRODUCTS,
) -> Certificate:
    """Prove how far the minimisers of J(.; w) are from theta (P, G).

    Takes a gradient; with a free intercept, (K + 1) / 4 to (K + 1) / 2 passes for A and C; and ``products`` + 1
    products for each group.  With ``products`` = 0 it takes none, and the radius is a few times larger.
    ``no_certificate`` says beforehand whether a model can have a certificate.
    """
    K, D, count = objective.outputs, objective.design.columns, theta.shape[1]
    sums = objective.passes.pair_sums(theta, w) if is_free(objective) else [None] * count
    ridge, along = np.broadcast_to(objective.penalty.ridge, (count, K, D)), None
    if w.penalty is not None:
        ridge = ridge * w.penalty.scaling.T.reshape(count, K, D)
        along = None if w.penalty.direction is None else w.penalty.direction.T
    bounds = tuple(
        CurvatureBound(objective, sums[g], ridge[g], None if along is None else along[g]) for g in range(count)
    )
    gradient = objective.gradient(theta, w)
    sharp = _sharpened(objective, theta, w, preconditioner, gradient, products) if products else None
    rounding = _rounding(objective, theta, geometry, ridge, along)
    c = differences(objective)
    flat = isinstance(objective.family, Gaussian)
    radius = np.full(count, np.inf)
    for g, bound in enumerate(bounds):
        if not bound.valid or not np.isfinite(rounding[g]).all():
            continue
        d = bound.norm(gradient[:, g].reshape(K, D))
        if sharp is not None:
            solved, rest = sharp
            left = bound.norm(rest[:, g].reshape(K, D))
            d = min(d, float(np.sqrt(max(solved[g], 0.0) * (1 + INFLATION) + left**2)))
        d = d * (1 + INFLATION) + bound.of_rounding(rounding[g])
        kappa = 0.0 if flat else bound.kappa(geometry, c)
        if kappa * d < 1:
            radius[g] = d if kappa == 0 else -np.log1p(-kappa * d) / kappa * (1 + INFLATION)
    return Certificate(objective, theta, radius, bounds)


def _sharpened(
    objective: Glm,
    theta: np.ndarray,
    w: Weights,
    preconditioner: Preconditioner,
    gradient: np.ndarray,
    products: int,
) -> tuple[np.ndarray, np.ndarray]:
    """x'(r + rho) (G,) and rho = r - H x (P, G), with x from ``products`` steps of conjugate gradients on r (P, G)."""
    product = objective.curvature(theta, w)
    solution = conjugate_gradient(product, gradient, preconditioner=preconditioner, tol=1e-2, max_iterations=products)
    rest = gradient - product(solution.x)
    return dots(solution.x, gradient + rest), rest


def _rounding(
    objective: Glm, theta: np.ndarray, geometry: RowGeometry, ridge: np.ndarray, along: np.ndarray | None
) -> np.ndarray:
    """A bound of the rounding error of each entry of a computed gradient, (G, K, D); infinite where outputs leave the
    range of the family.  The penalty is ``ridge`` (G, K, D) and the rank-one terms ``along`` (G, D), if any."""
    K, D, m = objective.outputs, objective.design.columns, objective.design.rows
    size = np.abs(theta).T.reshape(-1, K, D)
    outputs = (size @ geometry.largest).max(axis=1)
    steep, curvature = np.ones(len(size)), np.ones(len(size))
    if isinstance(objective.family, Gaussian):
        steep = outputs + np.abs(objective.y).max()
    if isinstance(objective.family, Poisson):
        outputs = np.where(outputs < FARTHEST, outputs, np.inf)
        forward = objective.passes.design.forward  # row by row: exp of a bound would be far too large
        peak = np.full(len(size), -np.inf)
        for rows in objective.design.blocks(len(size)):
            peak = np.maximum(peak, forward(np.ascontiguousarray(theta.T), rows).max(axis=1))
        curvature = np.where(np.isfinite(outputs), np.exp(np.minimum(peak, FARTHEST)), np.inf)
        steep = curvature + objective.y.max()
    each = m * steep + 0.5 * (D + 6) * outputs * curvature
    penalty = 4.0 * ridge * size
    if along is not None:
        lengths = np.abs(along)[:, None]
        penalty = penalty + (D + 4.0) * lengths * (lengths * size).sum(axis=2, keepdims=True)
    return UNIT * (each[:, None, None] * geometry.largest + penalty)
