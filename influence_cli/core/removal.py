"""Groups to weights: what the rows weigh once a group is gone, and the direction that leads there (DESIGN 2.1, 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError

PER_MEAN = "per-mean"
PER_SUM = "per-sum"
PENALTY_SCALINGS = (PER_MEAN, PER_SUM)


@dataclass(frozen=True)
class Removal:
    """G groups as weights.  All (m, G), columns contiguous, except ``share`` (G,).

    ``member`` is w on the group's rows and 0 elsewhere; ``removed`` the weights after removal; ``delta`` = w - removed,
    the direction of the path w(eps) = w + eps delta on which eps = -1 is removal; ``share`` is p, the weight removed.
    """

    member: np.ndarray
    removed: np.ndarray
    delta: np.ndarray
    share: np.ndarray


def removal(weights: np.ndarray, groups: Sequence[np.ndarray], scaling: str) -> Removal:
    """Weights (m,) that sum to 1 and G arrays of row numbers to a Removal.

    Raises UsageError for a group after which no row has a weight.

    per-mean: the kept rows are scaled up to sum to 1 again (the paper's Eq. 6).  per-sum: they keep their weights, so
    that the penalty gains on the loss, as when scikit-learn is refitted with the same C.
    """
    member = np.zeros((len(groups), len(weights)))
    for g, rows in enumerate(groups):
        member[g, rows] = weights[rows]
    share = member.sum(axis=1)
    removed = weights - member
    if weights.min(initial=1.0) <= 0.0 and not removed.any(axis=1).all():
        raise UsageError(
            "a group takes all rows with a weight over 0: nothing would be left to train on",
            hint="give smaller groups, or train without --sample-weight",
        )
    if scaling == PER_MEAN:
        removed /= (1.0 - share)[:, None]
    delta = weights - removed
    return Removal(member.T, removed.T, delta.T, share)
