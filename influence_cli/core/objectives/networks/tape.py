"""What a block of rows keeps of its passes, so that products of second derivatives need not repeat them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.networks.network import Signals


@dataclass
class Tape:
    """Hidden activations and the loss's state, (G, n_l, b) each; ``deltas`` and ``pulls``, the backward pass, for the
    exact Hessian alone."""

    hidden: Signals
    state: np.ndarray
    deltas: Signals
    pulls: Signals

    def curve(self, family: Family, dz: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The move of d l / d eta of rows with ``weights`` (G, b) for a move ``dz`` of eta, (G, K, b)."""
        return weights[:, None] * family.curve(self.state, dz)

    def take(self, columns: np.ndarray | None) -> Tape:
        """The same for these groups."""
        if columns is None:
            return self
        lists = ([take(signal, columns) for signal in signals] for signals in (self.hidden, self.deltas, self.pulls))
        hidden, deltas, pulls = lists
        return Tape(hidden, take(self.state, columns), deltas, pulls)


def take(array: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
    """The groups ``columns`` of an array that has one for every group, or one for all."""
    return array if columns is None or len(array) == 1 else array[columns]
