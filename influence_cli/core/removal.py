"""From groups to weights: the weights of the rows after a group is removed, and the direction from the weights before.

The conventions are those of docs/design.md, sections 2.1 and 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.core.weights import GroupPenalty, Weights, members
from influence_cli.errors import UsageError

PER_MEAN = "per-mean"
PER_SUM = "per-sum"
PENALTY_SCALINGS = (PER_MEAN, PER_SUM)


@dataclass(frozen=True)
class Removal:
    """The removal of G groups, as weights.

    ``member`` is w on the group's rows and 0 elsewhere; ``removed`` has the weights, and the penalty, after removal;
    ``share`` (G,) is p, the weight that is removed.  Removal is eps = -1 on the path w(eps) = w + eps delta, where
    delta = w - removed = ``scale`` member - ``offset`` w, both (G,): a sum with weights delta needs the group's rows,
    and one sum over all rows that serves all groups.
    """

    member: Weights
    removed: Weights
    share: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    def along(self, of_member: np.ndarray, of_all: np.ndarray) -> np.ndarray:
        """sum_i delta_i x_i (..., G) from sum_i member_i x_i (..., G) and sum_i w_i x_i (..., 1 or G)."""
        return self.scale * of_member - self.offset * of_all

    @property
    def delta(self) -> Weights:
        """w - removed, as weights."""
        return self.member.scaled(-self.offset, self.scale - self.offset)


def removal(
    weights: np.ndarray, groups: Sequence[np.ndarray], scaling: str, penalty: GroupPenalty | None = None
) -> Removal:
    """The ``Removal`` of G sorted arrays of row numbers from ``weights`` (m,) that sum to 1.

    ``penalty`` is the penalty of training without each group, where it differs (docs/design.md, section 2.1).  Raises
    UsageError for a group after which no row has a weight.

    per-mean: the weights of the kept rows are scaled up to sum to 1 again (the paper's Eq. 6).  per-sum: they stay as
    they are, so that the penalty has more weight relative to the loss, as when scikit-learn is refitted with the same
    C.
    """
    member = members(weights, groups)
    share = np.array([weights[rows].sum() for rows in member.rows])
    whole = [rows for rows, part in zip(member.rows, share, strict=True) if part > 0.5]
    if whole and max(np.count_nonzero(weights[rows]) for rows in whole) == np.count_nonzero(weights):
        some, remedy = ("", "") if weights.all() else (" with a weight over 0", ", or train without --sample-weight")
        raise UsageError(
            f"a group takes all rows{some}: nothing would be left to train on", hint=f"give smaller groups{remedy}"
        )
    scale, offset, kept = np.ones(len(groups)), np.zeros(len(groups)), np.ones(len(groups))
    if scaling == PER_MEAN:
        scale = 1.0 / (1.0 - share)
        offset = share * scale
        kept = scale
    return Removal(member, member.scaled(kept, np.zeros(len(groups)), penalty), share, scale, offset)
