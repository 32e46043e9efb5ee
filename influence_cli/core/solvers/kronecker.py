"""A Kronecker-factored preconditioner: the Hessian of a GLM if every row had the average curvature.

sum_i w_i A_i (x) x_i x_i' is replaced by (sum_i w_i A_i) (x) (sum_i w_i x_i x_i').  In the eigenbasis of the small
K x K matrix it falls into K separate D x D systems, to which the penalty adds exactly.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_solve, cholesky

ELEMENTS = 100_000_000
"""Float64 numbers that the K factors may hold (0.8 GB)."""
PASSES = 400.0
"""Products with X in whose time the factors must be made: beyond that CG is done without them."""
FACTOR_OPERATION = 0.05
"""Time of an operation of a factorisation, in that of a number of X in a product."""
SMALL = 1000
"""Columns up to which factors are made in no time."""
JITTER = 1e-12
"""Relative diagonal shift: columns that are exact copies must not stop a mere preconditioner."""


def kronecker_fits(outputs: int, columns: int, stored: int) -> bool:
    """Whether K factors of D x D are small enough, and made soon enough beside ``stored`` numbers of X, to be a help.

    Of dense rows they hardly ever are late; of very sparse ones D^3 operations are worth thousands of products.
    """
    factors = FACTOR_OPERATION * columns**3 / 3
    return outputs * columns**2 <= ELEMENTS and (columns <= SMALL or factors <= PASSES * stored)


class Kronecker:
    """r -> M^-1 r with M = between (x) within + penalty; ``between`` (K, K) and ``within`` (D, D) symmetric >= 0.

    The penalty is ``block`` (D, D) on every output's coefficients and ``gauge`` (D,) on their mean over the outputs.
    """

    def __init__(self, between: np.ndarray, within: np.ndarray, block: np.ndarray, gauge: np.ndarray):
        eigenvalues, self._basis = np.linalg.eigh(between)
        along_ones = self._basis.sum(axis=0) ** 2 / len(between)
        self._factors = []
        for value, share in zip(np.maximum(eigenvalues, 0.0), along_ones, strict=True):
            system = value * within + block
            diagonal = np.diag_indices(len(within))
            system[diagonal] += share * gauge
            peak = system[diagonal].max()
            system[diagonal] += JITTER * (peak if peak > 0 else 1.0)
            self._factors.append(cholesky(system, lower=True, overwrite_a=True, check_finite=False))

    def __call__(self, r: np.ndarray) -> np.ndarray:
        columns = r.shape[1]
        stack = np.einsum("ke,gkd->edg", self._basis, r.T.reshape(columns, len(self._basis), -1))
        for e, factor in enumerate(self._factors):
            stack[e] = cho_solve((factor, True), stack[e], check_finite=False)
        return np.einsum("ke,edg->gkd", self._basis, stack).reshape(columns, -1).T
