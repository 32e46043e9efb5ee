"""Sums over all rows at the trained parameters: where they are available, the removal of a small group needs its own
rows only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Kept:
    """Sums at ``theta`` (P, 1) under the training weights: ``squares`` (D,) are the mean squares of the features, and
    ``gradient`` (P, 1) is that of the loss.

    ``hessian`` (P, P) is that of J without damping, with both triangles valid; ``gram`` (D, D) and ``typical`` (K, K)
    are the factors ``within`` and ``between`` of ``preconditioners.Kronecker``.  Each of the three is None if it is not
    kept.
    """

    theta: np.ndarray
    squares: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray | None = None
    gram: np.ndarray | None = None
    typical: np.ndarray | None = None


@dataclass(frozen=True)
class KeptLayers:
    """The sums of a network: ``layers`` (L,) are the numbers of ``kfac.layer_sums`` at ``theta`` (P, 1)."""

    theta: np.ndarray
    layers: np.ndarray
