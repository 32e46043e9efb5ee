"""Sums over the P entries of each of G columns, (P, G) to (G,)."""

from __future__ import annotations

import numpy as np


def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a_g' b_g."""
    return np.einsum("gp,gp->g", a.T, b.T)


def norms(a: np.ndarray) -> np.ndarray:
    """|a_g|."""
    return np.sqrt(dots(a, a))
