"""Linear changes that are sums over rows: ``first-koh``, ``first`` and ``rif`` of any groups from a single pass.

For a functional f with v = H^-1 grad f(theta*), the linear changes on removal of a group U
(docs/design.md, section 2.3) are

    first-koh     sum_U w_i a_i                                                  a_i = v' grad l_i
    first         scale_U sum_U w_i a_i - offset_U v' sum_j w_j grad l_j         Basu, You and Feizi, Eq. 12 and 16
    rif           sum_U w_i v' X_i rho_i + p_U v' c                              core.rif

with the factors scale_U and offset_U of ``core.removal``, the group's share p_U of the weight, and X_i, rho_i and c of
``core.rif``.  An array (m, T) for T functionals therefore holds the figures of every group, and of every single row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.core.objectives.objective import Objective
from influence_cli.core.removal import PER_MEAN
from influence_cli.core.rif import SingleRemovals, require_glm

BY_ROWS = ("first-koh", "first", "rif")


@dataclass(frozen=True)
class RowChanges:
    """Each row's terms in the changes of T functionals.  Arrays of methods that were not asked for are None.

    ``share`` (m,) are the training weights and ``scaling`` is the convention of removal.  ``gradients`` (m, T) is w_i
    a_i and ``whole`` (T,) its sum over all rows; ``steps`` (m, T) is w_i v' X_i rho_i, and ``shift`` (T,) is v' c.
    ``undetermined`` (m,) are the rows of leverage 1, which have no step; ``problem`` is "ok" or says what failed for
    all rows.
    """

    share: np.ndarray
    scaling: str
    gradients: np.ndarray | None
    steps: np.ndarray | None
    whole: np.ndarray
    shift: np.ndarray
    undetermined: np.ndarray
    problem: str

    def of_each(self, methods: Sequence[str]) -> dict[str, np.ndarray]:
        """The changes on removal of each row alone, (m, T)."""
        return self._changes(methods, self.share, self.gradients, self.steps)

    def of_groups(self, methods: Sequence[str], groups: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The changes on removal of G nonempty groups of rows, (G, T)."""
        rows = np.concatenate(groups)
        starts = np.cumsum([0, *(len(group) for group in groups[:-1])])

        def sums(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else np.add.reduceat(values[rows], starts, axis=0)

        share = np.add.reduceat(self.share[rows], starts)
        return self._changes(methods, share, sums(self.gradients), sums(self.steps))

    def _changes(
        self, methods: Sequence[str], share: np.ndarray, gradients: np.ndarray | None, steps: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        out: dict[str, np.ndarray] = {}
        for method in methods:
            if method == "rif":
                assert steps is not None
                out[method] = steps + share[:, None] * self.shift
                continue
            assert gradients is not None
            out[method] = gradients
            if method == "first" and self.scaling == PER_MEAN:
                scale = 1.0 / (1.0 - share[:, None])
                out[method] = scale * (gradients - share[:, None] * self.whole)
        return out


def row_changes(
    objective: Objective,
    theta: np.ndarray,
    adjoints: np.ndarray,
    methods: Sequence[str],
    scaling: str,
    singles: SingleRemovals | None,
) -> RowChanges:
    """Each row's terms at theta (P, 1) for the ``adjoints`` v (P, T); ``rif`` needs ``singles``."""
    w, tests = objective.weights[:, None], adjoints.shape[1]
    gradients, steps = None, None
    whole, shift = np.zeros(tests), np.zeros(tests)
    undetermined, problem = np.zeros(len(w), dtype=bool), "ok"
    if set(methods) - {"rif"}:
        gradients = objective.row_products(theta, adjoints)
        gradients *= w
        whole = gradients.sum(axis=0)
    if "rif" in methods:
        assert singles is not None
        of_rows = singles.of_rows()
        steps = require_glm(objective).along(of_rows.residuals, adjoints)
        steps *= w
        shift, undetermined, problem = of_rows.shift[:, 0] @ adjoints, of_rows.undetermined, of_rows.problem
    return RowChanges(objective.weights, scaling, gradients, steps, whole, shift, undetermined, problem)
