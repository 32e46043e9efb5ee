"""Groups to weights: what the rows weigh once a group is gone, and the direction that leads there (DESIGN 2.1, 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.errors import UsageError

PER_MEAN = "per-mean"
PER_SUM = "per-sum"
PENALTY_SCALINGS = (PER_MEAN, PER_SUM)


@dataclass(frozen=True)
class Removal:
    """G groups as weights.

    ``member`` (m, G), columns contiguous, is w on the group's rows and 0 elsewhere; ``removed`` likewise the weights
    after removal; ``share`` (G,) is p, the weight removed.  Removal is eps = -1 on the path w(eps) = w + eps delta with
    delta = w - removed = ``scale`` member - ``offset`` w, both (G,): sums along it come from the group's rows, and from
    all rows once for all groups.
    """

    member: np.ndarray
    removed: np.ndarray
    share: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    def along(self, of_member: np.ndarray, of_all: np.ndarray) -> np.ndarray:
        """sum_i delta_i x_i (..., G) from sum_i member_i x_i (..., G) and sum_i w_i x_i (..., 1 or G)."""
        return self.scale * of_member - self.offset * of_all


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
    scale, offset = np.ones(len(groups)), np.zeros(len(groups))
    if scaling == PER_MEAN:
        scale = 1.0 / (1.0 - share)
        offset = share * scale
        removed *= scale[:, None]
    return Removal(member.T, removed.T, share, scale, offset)
