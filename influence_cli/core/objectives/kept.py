"""What passes over all rows have summed at the trained parameters: who has it reads a small group's rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Kept:
    """At ``theta`` (P, 1) under the training weights: ``squares`` (D,), the mean squares of the features, and the
    ``gradient`` (P, 1) of the loss.

    ``hessian`` (P, P) is J's without damping, both triangles valid; ``gram`` (D, D) and ``typical`` (K, K) are what
    ``preconditioners.Kronecker`` is made of.  Each is None where it is not kept.
    """

    theta: np.ndarray
    squares: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray | None = None
    gram: np.ndarray | None = None
    typical: np.ndarray | None = None


@dataclass(frozen=True)
class KeptLayers:
    """The same of a network: ``layers`` (L,), the numbers of what K-FAC is made of at ``theta`` (P, 1)."""

    theta: np.ndarray
    layers: np.ndarray
