"""The diagonal preconditioner: what remains when even a D x D matrix is too large."""

from __future__ import annotations

import numpy as np


class Jacobi:
    """r -> r / diagonal for a positive diagonal (P,) of the Hessian; zeros count as 1."""

    def __init__(self, diagonal: np.ndarray):
        self._inverse = 1.0 / np.where(diagonal > 0, diagonal, 1.0)

    def __call__(self, r: np.ndarray) -> np.ndarray:
        return self._inverse[:, None] * r
