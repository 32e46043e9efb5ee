"""Sums over the P entries of each of G columns, and functions of arrays."""

from __future__ import annotations

import numpy as np


def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The products a_g' b_g of the columns of a and b (P, G), (G,)."""
    return np.einsum("gp,gp->g", a.T, b.T)


def columns_of(values: np.ndarray) -> np.ndarray:
    """Values that all G columns share, (T,), as (T, 1); values of each column, (T, G), unchanged."""
    return values[:, None] if values.ndim == 1 else values


def symmetric(lower: np.ndarray) -> np.ndarray:
    """The symmetric matrix with the given lower triangle; the upper triangle is ignored."""
    lower = np.tril(lower)
    return lower + np.tril(lower, -1).T


def norms(a: np.ndarray) -> np.ndarray:
    """The lengths |a_g| of the columns of a (P, G), (G,)."""
    return np.sqrt(dots(a, a))


def expit(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """1 / (1 + exp(-x)) to full relative precision, in a third of the time of SciPy's if NumPy's exp is vectorised."""
    out = np.negative(x, out=out)
    with np.errstate(over="ignore"):
        np.exp(out, out=out)
    out += 1.0
    return np.reciprocal(out, out=out)


def xlogy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x log y, and 0 where x is 0.  SciPy's function is imported here because that is slow and it is rarely needed."""
    from scipy.special import xlogy as function

    return function(x, y)
