"""Sums over the P entries of each of G columns, and functions of scipy.special that are imported when first called.

Most questions need no such function, and would wait for its import longest.
"""

from __future__ import annotations

import numpy as np


def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a_g' b_g."""
    return np.einsum("gp,gp->g", a.T, b.T)


def norms(a: np.ndarray) -> np.ndarray:
    """|a_g|."""
    return np.sqrt(dots(a, a))


def expit(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    from scipy.special import expit as function

    return function(x, out=out)


def xlogy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x log y, and 0 where x is 0."""
    from scipy.special import xlogy as function

    return function(x, y)
