"""How the gradient of a generalised linear model changes between the starting point theta of all groups and their
iterates.

    grad J(theta + v; w) - grad J(theta; w) = sum_i w_i (r(eta_i + a_i) - r(eta_i)) x_i + (Hessian of the penalty) v

with eta_i = x_i' theta, a_i = x_i' v, and r the derivative of the loss with respect to the outputs
(``Family.residual_change``).  The rounding error is relative to the change and not to the gradient, so that even in
single precision an iteration can follow the change down to about 1e-7 of the distance.  The terms at theta are shared
by all groups, so that a pass computes little more than the matrix products for each group.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from influence_cli.core.objectives.objective import Departure
from influence_cli.core.objectives.passes import Passes, state_bytes
from influence_cli.core.weights import Weights

if TYPE_CHECKING:
    from influence_cli.core.objectives.glm import Glm


SINGLE_GROUPS = 4
"""Number of groups from which float32 saves more than the check of one group in float64 costs."""


def departure(model: Glm, theta: np.ndarray, w: Weights) -> Departure:
    """``Glm.departure``."""
    rows, outputs = model.design.rows, model.outputs
    eta = np.empty((1, outputs, rows)) if model.design.keeps_states and 8.0 * outputs * rows <= state_bytes() else None
    if w.groups == 1 and eta is not None:
        kept = eta

        def see(seen: np.ndarray, block: slice) -> None:
            kept[:, :, block] = seen

        value, gradient = model.seen_on_the_way(theta, w, see)
    else:
        if eta is not None and (model.origin is None or not np.array_equal(model.origin[0], theta)):
            model.origin = theta.copy(), model.passes.outputs(theta, slice(0, rows))
        eta = None if eta is None or model.origin is None else model.origin[1]
        value, gradient = model.value(theta, w), model.gradient(theta, w)  # these read the groups' rows only
    change = GradientChange(model, theta, w, eta)
    pays = w.groups >= SINGLE_GROUPS and model.single_pays(model.design.operations(w.groups * model.passes.free))
    single = model.passes.in_single(w.groups) if pays else model.passes
    return Departure(value, gradient, change, None if single is model.passes else change.by(single))


class GradientChange:
    """Maps V (P, A) to the change of the gradient (P, A) from theta (P, 1) to theta + V, under weights w all of whose
    groups have ``kept`` > 0.

    ``columns`` (A,) are the groups of V's columns, or None for all.  ``farthest`` (A,), if given, is filled with the
    model's ``self_concordance`` of V.  ``eta`` (1, K, m) are the outputs at theta; if it is None, every pass computes
    them again.
    """

    def __init__(self, model: Glm, theta: np.ndarray, w: Weights, eta: np.ndarray | None):
        self._model, self._passes, self._theta, self._w, self._eta = model, model.passes, theta, w, eta

    def by(self, passes: Passes) -> GradientChange:
        """The same function with ``passes`` in another precision."""
        twin = copy(self)
        twin._passes = passes
        return twin

    def __call__(
        self, V: np.ndarray, columns: np.ndarray | None = None, farthest: np.ndarray | None = None
    ) -> np.ndarray:
        model, w = self._model, self._w if columns is None else self._w.take(columns)
        seen: dict[int, np.ndarray] = {}
        alike = w.alike  # unknown to a copy of the weights in another process
        watched = farthest is not None and not model.design.may_be_away  # ``seen`` would stay in another process

        def rowwise(a: np.ndarray, rows: slice) -> np.ndarray:
            eta = model.passes.outputs(self._theta, rows) if self._eta is None else self._eta[:, :, rows]
            if watched:
                seen[rows.start] = model.family.self_concordance(model.passes.completed(a)).max(axis=1)
            return w.over_kept(model.family.residual_change(eta, a), rows, alike)

        out = w.kept * alike * self._passes.sweep(V, rowwise, V.shape[1]) + model.penalty.product(V, w.penalty)
        if farthest is not None:
            farthest[:] = np.max(list(seen.values()), axis=0) if watched else model.self_concordance(V)
        lost = np.flatnonzero(~np.isfinite(out).all(axis=0))
        if lost.size:  # the outputs of a row have changed too much for ``residual_change``
            weights, point = w.take(lost), self._theta + V[:, lost]
            out[:, lost] = model.gradient(point, weights) - model.gradient(self._theta, weights)
        return out
