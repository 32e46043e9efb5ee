"""Weight decay: the quadratic penalty of a network, and the fixing of the gauge of a softmax in its last layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from influence_cli.core.objectives.networks.network import Network
from influence_cli.core.objectives.penalty import Penalty
from influence_cli.core.weights import GroupPenalty


@dataclass(frozen=True)
class WeightDecay(Penalty):
    """(1/2) sum_p r_p theta_p^2, plus (1/2) sum_j c_j (sum_k theta_kj)^2 / K over the last layer, as in ``Penalty``.

    ``ridge`` (P,) is r: lambda, or 0 for free biases.  ``gauge`` (D_L,) is c for the D_L inputs of the last layer, and
    ``outputs`` is K.  ``units`` is the number of units of the first layer, to whose coefficients the ``direction`` of a
    ``GroupPenalty`` belongs.
    """

    units: int

    def product(self, V: np.ndarray, groups: GroupPenalty | None = None) -> np.ndarray:
        out = self.ridge[:, None] * V
        if groups is not None:
            out = self.ridge[:, None] * groups.scaling * V
            if groups.direction is not None:
                D = len(groups.direction)
                first = V[: self.units * D].reshape(self.units, D, -1)
                along = (first * groups.direction).sum(axis=1, keepdims=True)
                out[: self.units * D] += (groups.direction * along).reshape(self.units * D, -1)
        if self.gauge.any():
            K, D = self.outputs, len(self.gauge)
            last = V[-K * D :].reshape(K, D, -1)
            out[-K * D :] += np.tile(self.gauge[:, None] * last.mean(axis=0), (K, 1))
        return out

    def dense(self) -> np.ndarray:
        return self.product(np.eye(len(self.ridge)))


def weight_decay(network: Network, l2: float, *, penalize_bias: bool, softmax: bool) -> WeightDecay:
    """The weight decay with lambda = ``l2`` of all weights, and of biases only if asked; c is 1/K where a softmax
    leaves a column free."""
    parts = []
    for n, D in network.shapes:
        row = np.full(D, float(l2))
        if network.bias and not penalize_bias:
            row[-1] = 0.0
        parts.append(np.tile(row, n))
    K, D = network.shapes[-1]
    gauge = np.where(parts[-1][:D] == 0.0, 1.0 / K, 0.0) if softmax else np.zeros(D)
    return WeightDecay(np.concatenate(parts), gauge, K, network.shapes[0][0])
