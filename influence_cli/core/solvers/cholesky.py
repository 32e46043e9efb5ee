"""The dense Cholesky factor of the Hessian: a preconditioner that makes conjugate gradients a direct solver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs, spotrf, spotrs

from influence_cli.core.objectives.objective import Objective
from influence_cli.core.solvers.preconditioners import OVERFLOW, SCALE
from influence_cli.core.weights import RowWeights
from influence_cli.errors import NotConvergedError

DOUBLE_UP_TO = 3000
"""P up to which the factor is float64.  Above it, float32 takes half the memory and time, and iterative refinement
restores the digits."""
DEPENDENT = 0.1
"""Pivots below this number times P times the rounding unit, relative to the diagonal, count as 0."""
LEAST_SIZE = 640
"""The least P in that rule: rounding leaves exact copies of a column up to 20 rounding units apart in a Hessian."""
SHIFTS = (1.0, 16.0)
"""Shifts of a float32 Hessian's diagonal to try in turn, in rounding units of its largest entry.  Rounding moves
eigenvalues by about one unit, so that without a shift a small lambda may appear negative; but the larger the shift, the
worse the preconditioner."""


@dataclass(frozen=True)
class CholeskyFactor:
    """H + damping I = L L' with ``lower`` = L (P, P), Fortran-ordered, float32 or float64; a call applies the inverse.

    It is rounded to its own precision, and therefore a preconditioner rather than a solver.
    """

    lower: np.ndarray
    damping: float = 0.0

    def __call__(self, r: np.ndarray) -> np.ndarray:
        solve = spotrs if self.lower.dtype == np.float32 else dpotrs
        scale = np.maximum(np.abs(r).max(axis=0), np.finfo(float).tiny)
        x, info = solve(self.lower, (r / scale).astype(self.lower.dtype, order="F"), lower=1, overwrite_b=1)
        if info:
            raise ValueError(f"potrs: argument {-info} is illegal")
        return x.astype(np.float64) * scale


def factor_dtype(size: int) -> np.dtype:
    """The precision in which a factor of P = ``size`` is computed and stored."""
    return np.dtype(np.float64 if size <= DOUBLE_UP_TO else np.float32)


def factorize(objective: Objective, theta: np.ndarray, w: RowWeights | None = None) -> CholeskyFactor:
    """The factor of the Hessian of J at theta (P, 1) under the weights w of one group, by default those of training.

    Raises NotConvergedError where the Hessian overflows, or is singular, so that the parameters are not unique.
    """
    dtype = factor_dtype(objective.size)
    weights = objective.weights if w is None else w
    for shift in SHIFTS if dtype == np.float32 else (0.0,):
        hessian = objective.dense_curvature(theta, weights, dtype)
        diagonal = hessian.diagonal().astype(np.float64)
        if not np.isfinite(diagonal).all():
            raise NotConvergedError(OVERFLOW, hint=SCALE)
        damping = objective.damping + float(shift * np.finfo(dtype).eps * diagonal.max())
        if damping:
            hessian[np.diag_indices(objective.size)] += dtype.type(damping)
        potrf = spotrf if dtype == np.float32 else dpotrf
        lower, info = potrf(hessian, lower=1, clean=1, overwrite_a=1)
        if info == 0:
            break
    if not np.isfinite(lower).all():
        raise NotConvergedError(OVERFLOW, hint=SCALE)
    pivots = lower.diagonal().astype(np.float64) ** 2
    # A pivot is the curvature along a parameter after minimising over the parameters before it.
    dependent = pivots <= DEPENDENT * max(objective.size, LEAST_SIZE) * np.finfo(dtype).eps * diagonal
    if info > 0 or (dtype == np.float64 and dependent.any()):
        at = info - 1 if info > 0 else int(np.argmax(dependent))
        raise NotConvergedError(
            f"the Hessian is singular at parameter {at} of {objective.size}: the training rows do not"
            " determine the parameters (constant or duplicate columns, or more features than rows)",
            hint="train with --l2 greater than 0, or drop the redundant columns; of columns that lie far from 0 beside"
            " their spread (1e7 and more times) subtract the mean"
            if objective.convex
            else "use --damping greater than 0",
        )
    return CholeskyFactor(lower, damping)
