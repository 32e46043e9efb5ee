"""A Kronecker-factored preconditioner: the Hessian of a GLM if every row had the average curvature.

sum_i w_i A_i (x) x_i x_i' is replaced by (sum_i w_i A_i) (x) (sum_i w_i x_i x_i').  In the eigenbasis of the small
K x K matrix it falls into K separate D x D systems, to which the penalty adds exactly.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_solve, cholesky

from ..penalty import Penalty

ELEMENTS = 100_000_000
"""Float64 numbers that the K factors may hold (0.8 GB)."""
JITTER = 1e-12
"""Relative diagonal shift: columns that are exact copies must not stop a mere preconditioner."""


def kronecker_fits(outputs: int, columns: int) -> bool:
    """Whether K factors of D x D are small enough to be a help."""
    return outputs * columns**2 <= ELEMENTS


class Kronecker:
    """r -> M^-1 r with M = between (x) within + penalty; ``between`` (K, K) and ``within`` (D, D) symmetric >= 0."""

    def __init__(self, between: np.ndarray, within: np.ndarray, penalty: Penalty):
        eigenvalues, self._basis = np.linalg.eigh(between)
        along_ones = self._basis.sum(axis=0) ** 2 / len(between)
        self._factors = []
        for value, share in zip(np.maximum(eigenvalues, 0.0), along_ones, strict=True):
            system = value * within
            diagonal = np.diag_indices(len(within))
            system[diagonal] += penalty.ridge + share * penalty.gauge
            peak = system[diagonal].max()
            system[diagonal] += JITTER * (peak if peak > 0 else 1.0)
            self._factors.append(cholesky(system, lower=True, overwrite_a=True, check_finite=False))

    def __call__(self, r: np.ndarray) -> np.ndarray:
        columns = r.shape[1]
        stack = np.einsum("ke,gkd->edg", self._basis, r.T.reshape(columns, len(self._basis), -1))
        for e, factor in enumerate(self._factors):
            stack[e] = cho_solve((factor, True), stack[e], check_finite=False)
        return np.einsum("ke,edg->gkd", self._basis, stack).reshape(columns, -1).T
