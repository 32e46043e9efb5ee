"""Rescaled influence functions (``rif``): each row's own Newton step for its removal alone, summed over the group.

Unlike the sum of gradients, this sum of Rubinstein and Hopkins 2025 takes into account that a row of high leverage,
once removed, no longer contributes its own curvature.  With r_i and A_i the first and second derivative of l_i in its K
outputs, X_i (P, K) the derivative of the outputs in theta, S_i = X_i' H^-1 X_i its leverage and w_i its weight,
Woodbury's identity gives the step for the removal of row i alone as

    H^-1 w_i (X_i rho_i + c),        rho_i = (I - w_i A_i S_i)^-1 (r_i + w_i A_i X_i' H^-1 c)

per-sum:   c = 0, and this is exactly (H - w_i hess l_i)^-1 w_i grad l_i, one Newton step on J(.; w without row i).
per-mean:  the other rows are scaled up by 1 / (1 - w_i).  The minimiser is the same with unscaled weights and the
           penalty P theta scaled down by 1 - w_i.  This adds c = P theta* = -sum_j w_j grad l_j to the gradient.  What
           it adds to the Hessian, w_i P, has no rank-K form and is left out: a relative error of at most w_i / (1 -
           w_i), which is 1 / (m - 1) for equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotri, spotri

from influence_cli.core.newton_steps import FINITE_REACH
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.hessian import row_leverages
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.parallel import spread
from influence_cli.core.removal import PER_MEAN, Removal
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.solvers.cholesky import DOUBLE_UP_TO, factorize
from influence_cli.core.solvers.dual import Dual
from influence_cli.core.weights import NO_ROWS
from influence_cli.errors import NotConvergedError, UsageError

FACTOR_ERROR = 1e-3
"""Relative error of a product with the cached inverse above which the cached factor belongs to another model: a right
one has at most 1e-4, in float32 with condition 1e8."""
UNDETERMINED = "a row of the group has leverage 1: without it alone the rows do not determine the parameters"
LEVERAGE_NUMBERS = 1 << 16
"""Float64 numbers (512 KiB) that the features of a block of rows, and its leverages, may each take."""


def require_glm(objective: Objective) -> Glm:
    """The objective as a GLM, whose rows have a curvature of rank K.  Raises UsageError for others."""
    if not isinstance(objective, Glm):
        raise UsageError(
            "rif is for models whose outputs are linear in the parameters: elsewhere a row's curvature has no low rank",
            hint="use newton, or groups of one row each",
        )
    return objective


@dataclass(frozen=True)
class RowRemovals:
    """Each row's terms in ``rif``: H times the change is sum_U w_i X_i rho_i + p ``shift``, with p the group's share of
    the weight.

    ``residuals`` (m, K) are rho.  Without any one of the ``undetermined`` (m,) rows, the parameters are not determined;
    ``problem``, "ok" or what failed, concerns all rows together.
    """

    residuals: np.ndarray
    undetermined: np.ndarray
    shift: np.ndarray
    problem: str


class SingleRemovals:
    """The right-hand sides of ``rif`` at theta (P, 1) for groups under one convention of removal.

    The rho of a row depends on no group: it is computed for the first group with that row, and kept.  The leverages
    need the inverse Hessian (P, P).  It is computed once from the factor and in its precision, which is float32 above P
    = 3,000, so that leverages then carry float32 rounding.  All m rows take about m P^2 multiply-adds.

    Raises UsageError for a solver without a factor, and for models whose rows have no curvature of rank K.
    """

    def __init__(self, objective: Objective, theta: np.ndarray, solver: HessianSolver, scaling: str):
        objective = require_glm(objective)
        if solver.kind == "cg":
            raise UsageError(
                "rif needs the leverage of every row in a group, and so the Cholesky factor of the Hessian",
                hint="use --solver cholesky, or another method",
            )
        self._objective, self._theta = objective, theta
        self._inverse = _inverse(objective, theta, solver)
        self._shift = np.zeros_like(theta)
        self._along, self._problem = np.zeros_like(theta), "ok"
        if scaling == PER_MEAN:
            self._shift = -objective.training_gradient(theta)
            solution = solver.solve(self._shift)
            self._along, self._problem = solution.x, solution.why(0)
        self._residuals = np.zeros((len(objective.weights), objective.outputs))
        self._known = np.zeros(len(objective.weights), dtype=bool)
        self._undetermined = np.zeros(len(objective.weights), dtype=bool)

    def sums(self, groups: Removal) -> tuple[np.ndarray, tuple[str, ...]]:
        """H times the change by ``rif``, (P, G), and for each group what failed, or "ok"."""
        rows = groups.member.rows
        self._find(np.unique(np.concatenate([NO_ROWS, *(one[~self._known[one]] for one in rows)])))
        rhs = self._objective.gather(self._residuals, groups.member) + groups.share * self._shift
        rhs += self._objective.penalty.removed(self._theta, groups.removed.penalty)
        return rhs, tuple(UNDETERMINED if self._undetermined[one].any() else self._problem for one in rows)

    def of_each(self, adjoint: np.ndarray) -> np.ndarray:
        """The change of f on removal of each row alone, (m,), with ``adjoint`` = H^-1 grad f (P, 1); NaN for a row of
        leverage 1."""
        model = self._objective
        self._find(np.flatnonzero(~self._known))
        out = np.empty(len(model.weights))
        for rows in model.design.blocks(model.passes.free):
            out[rows] = (self._residuals[rows].T * model.passes.outputs(adjoint, rows)[0]).sum(axis=0)
        out = model.weights * (out + float((self._shift * adjoint).sum()))
        return np.where(self._undetermined, np.nan, out)

    def of_rows(self) -> RowRemovals:
        """Each row's terms in the sums over groups."""
        self._find(np.flatnonzero(~self._known))
        return RowRemovals(self._residuals, self._undetermined, self._shift, self._problem)

    def _find(self, rows: np.ndarray) -> None:
        # A row of weight 0 changes nothing, and its leverage is 0.
        rows = rows[self._objective.weights[rows] != 0.0]
        if len(rows):
            residuals = corrected_residuals(self._objective, self._theta, rows, self._inverse, self._along)
            self._undetermined[rows] = np.isnan(residuals).any(axis=1)
            self._residuals[rows] = np.nan_to_num(residuals)
            self._known[rows] = True


def _inverse(objective: Glm, theta: np.ndarray, solver: HessianSolver) -> np.ndarray | Dual:
    """H^-1, of which only the lower triangle is valid, or its dual form.

    A solve corrects the errors of a cached factor against true products; leverages are taken from it uncorrected, so
    that a factor whose error exceeds ``FACTOR_ERROR`` is recomputed.
    """
    right = solver.factor_error() < FACTOR_ERROR
    if right and solver.dual is not None:
        return solver.dual
    factor = solver.factor if right and solver.factor is not None else factorize(objective, theta)
    potri = spotri if factor.lower.dtype == np.float32 else dpotri
    inverse, info = potri(factor.lower, lower=1)
    if info:
        raise ValueError(f"potri ended with {info}")
    return np.asarray(inverse)


def corrected_residuals(
    model: Glm, theta: np.ndarray, rows: np.ndarray, inverse: np.ndarray | Dual, along: np.ndarray
) -> np.ndarray:
    """rho_i = (I - w_i A_i S_i)^-1 (r_i + w_i A_i X_i' along) of the given rows (n,): (n, K).

    ``inverse`` (P, P) is H^-1, of which only the lower triangle is used, or its dual form; ``along`` (P, 1) is H^-1 c.
    The result is NaN where I - w_i A_i S_i is singular.
    """
    design, family, K = model.design, model.family, model.outputs
    out = np.empty((len(rows), K))
    precision = np.dtype(float) if isinstance(inverse, Dual) else inverse.dtype
    step = max(64, LEVERAGE_NUMBERS // max(design.columns, K * K))

    def fill(start: int) -> None:
        part = rows[start : start + step]
        at = _span(part)
        leverage = _leverages(model, at, inverse).transpose(2, 1, 0)  # (K, K, n), symmetric
        eta, moved = model.passes.outputs(theta, at), model.passes.outputs(along, at)
        state, w = family.curvature_state(eta), model.weights[part]
        right = family.residual(eta, model.y[part]) + w * family.curve(state, moved)
        # Column c of A S is A applied to column c of S.
        curved = w * family.curve(state, leverage)
        out[start : start + step] = _solve_small(np.eye(K) - curved.transpose(2, 1, 0), right[0].T, precision)

    spread(fill, range(0, len(rows), step), operations=float(len(rows)) * model.size**2)
    return out


def rows_that_hold_the_minimum(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """The rows, (n,), each of whose removal alone might leave J without one finite minimum (as in ``is_finite``).

    With u the Newton step without row i, no row's outputs change by more than kappa |u|_H, where kappa^2 is the largest
    x_j' H^-1 x_j (twice that for a difference of two outputs), and |u|_H <= w_i |rho_i| sqrt(x_i' H^-1 x_i).  One pass
    with this bound replaces m separate Newton steps.
    """
    if objective.bounded or not objective.convex:
        return objective.lone_rows()
    every = np.arange(len(objective.weights))
    if not isinstance(objective, Glm) or objective.size > DOUBLE_UP_TO:
        return every
    try:
        inverse, info = dpotri(factorize(objective, theta).lower, lower=1)
    except NotConvergedError:
        return every
    rho = corrected_residuals(objective, theta, every, inverse, np.zeros_like(theta))
    leverage = _traces(objective, inverse)
    kappa = np.sqrt((1.0 if objective.outputs == 1 else 2.0) * leverage.max())
    step = objective.weights * np.sqrt((rho**2).sum(axis=1) * leverage)
    if not objective.self_concordance(np.ones_like(theta))[0]:
        step *= 0.0  # the curvature of a squared error is the same everywhere; undetermined rows stay NaN
    return np.flatnonzero(~(kappa * step < FINITE_REACH)) if not info else every


def _leverages(model: Glm, at: slice | np.ndarray, inverse: np.ndarray | Dual) -> np.ndarray:
    """S_i = X_i' H^-1 X_i of n rows, (n, K, K)."""
    design = model.design
    every = np.ones(design.columns - design.intercept, dtype=bool)
    dense_rows = design.dense(at, every)
    features = np.ones((len(dense_rows), design.columns), dtype=None if isinstance(inverse, Dual) else inverse.dtype)
    features[:, : len(every)] = dense_rows
    if isinstance(inverse, Dual):
        return inverse.leverages(features)
    return row_leverages(features, inverse, model.outputs)


def _traces(model: Glm, inverse: np.ndarray) -> np.ndarray:
    """The trace of S_i = X_i' H^-1 X_i of every row, (m,), from the lower triangle of H^-1."""
    out = np.empty(model.design.rows)
    for rows in model.design.blocks(model.outputs):
        out[rows] = np.trace(_leverages(model, rows, inverse), axis1=1, axis2=2)
    return out


def _span(rows: np.ndarray) -> slice | np.ndarray:
    """Sorted row numbers as a slice where they are consecutive: a view of X instead of a copy."""
    whole = len(rows) and rows[-1] - rows[0] == len(rows) - 1
    return slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows


def _solve_small(matrices: np.ndarray, right: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """x (n, K) with matrices (n, K, K) x = right (n, K); NaN where a matrix is singular to the precision of
    ``dtype``."""
    if matrices.shape[1] == 1:
        one = matrices[:, :, 0]
        return np.where(np.abs(one) <= np.sqrt(np.finfo(dtype).eps), np.nan, right / np.where(one == 0.0, 1.0, one))
    U, s, Vt = np.linalg.svd(matrices)
    x = np.einsum("nkj,nk->nj", U, right)
    singular = s[:, -1] <= np.sqrt(np.finfo(dtype).eps) * s[:, 0]
    x = np.einsum("njk,nj->nk", Vt, x / np.where(singular[:, None], 1.0, s))
    x[singular] = np.nan
    return x
