"""Functions of scipy.special, imported when first called: most questions need none, and would wait for it longest."""

from __future__ import annotations

import numpy as np


def expit(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    from scipy.special import expit as function

    return function(x, out=out)


def xlogy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x log y, and 0 where x is 0."""
    from scipy.special import xlogy as function

    return function(x, y)
