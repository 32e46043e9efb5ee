"""Passes over the rows for a generalised linear model: coefficients in, weighted sums of the rows out.

A pass computes the outputs of every row for a block of parameter vectors, then derivatives of the loss for each row,
and sums these times the row.  For a softmax, adding one number to all outputs of a row changes nothing; its passes
therefore compute only the differences from the last output, F = K - 1 numbers instead of K, because the derivatives
with respect to all outputs sum to 0.  If a group has nonzero weights on few rows only, its pass reads these rows alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.rows.design import Design, read_together
from influence_cli.core.weights import Weights
from influence_cli.memory import at_most

STATE_BYTES = 256e6
"""Bytes of the curvature states of all rows up to which they are kept for products with second derivatives.  Larger
ones are computed again from the parameters in every product, which costs one more matrix product."""

KEPT_SHARE = 0.1
"""Largest share of ``--memory`` that these states may take."""

Whole: TypeAlias = Callable[[np.ndarray, np.ndarray, slice, np.ndarray], np.ndarray]
"""Maps (computed outputs (A, F, b), weights (A or 1, 1, b), slice of the rows, groups (A,)) to derivatives (A, F or K,
b), for a block of all rows."""
Alone: TypeAlias = Callable[[np.ndarray, np.ndarray, slice, int], np.ndarray]
"""Maps (computed outputs (1, F, n), weights (n,), span, group) to derivatives (1, F or K, n), for a span of the group's
own rows."""


def state_bytes() -> float:
    """Bytes that arrays over all rows and outputs may take where keeping them saves a product."""
    return at_most(STATE_BYTES, KEPT_SHARE)


@dataclass(frozen=True)
class Passes:
    """The passes of a ``family`` over a ``design``.  Parameters (P, G) are class-major: the D coefficients of output 0
    come first."""

    design: Design
    family: Family

    def in_single(self, columns: int) -> Passes:
        """The same passes in float32 for that many parameter vectors; these passes themselves where float32 is not
        faster."""
        design = self.design.single(columns * self.free)
        return self if design is self.design else replace(self, design=design)

    @property
    def free(self) -> int:
        """F, the number of outputs that a pass computes."""
        return self.family.outputs - self.family.shift_invariant

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return self.family.outputs * self.design.columns

    def outputs(self, theta: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        """Outputs of these training rows at theta (P, G): (G, K, b).  Those of a softmax are shifted so that the last
        one is 0."""
        eta = self.design.forward(self.stack(theta), rows)
        return self.completed(eta.reshape(-1, self.free, eta.shape[1]))

    def completed(self, eta: np.ndarray) -> np.ndarray:
        """The outputs (G, K, b) from the computed ones (G, F, b)."""
        if not self.family.shift_invariant:
            return eta
        out = np.empty((len(eta), self.family.outputs, eta.shape[2]), dtype=eta.dtype)
        out[:, :-1], out[:, -1] = eta, 0.0
        return out

    def sweep(self, V: np.ndarray, rowwise: Callable[[np.ndarray, slice], np.ndarray], groups: int) -> np.ndarray:
        """A pass over all rows that maps V (P, A) to (P, groups).

        ``rowwise`` maps a block's computed outputs (A, F, b) and its rows to derivatives with respect to these,
        (groups, F, b), or with respect to all outputs, (groups, K, b).
        """
        F = self.free

        def computed(eta: np.ndarray, rows: slice) -> np.ndarray:
            return rowwise(eta.reshape(-1, F, eta.shape[1]), rows)[:, :F].reshape(groups * F, -1)

        return self.joined(self.design.sweep(self.stack(V), computed, groups * F))

    def largest(self, V: np.ndarray, rowwise: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The largest value over all rows, but at least 0, of ``rowwise``, which maps the outputs (G, K, b) at V (P, G)
        to (G, b): (G,)."""
        by_row = self.design.each(lambda rows: rowwise(self.outputs(V, rows)).max(axis=1), V.shape[1] * self.free)
        return np.max([np.zeros(V.shape[1]), *by_row], axis=0)

    def pair_sums(self, theta: np.ndarray, w: Weights) -> np.ndarray:
        """sum_i w_i (l_i'')_jk [x_i 1] for every pair of outputs j <= k, in the order of ``np.triu_indices``, at theta
        (P, G): (G, pairs, D)."""
        K, F = self.family.outputs, self.free
        pairs = [(j, k) for j in range(K) for k in range(j, K)]

        def rowwise(eta: np.ndarray, rows: slice) -> np.ndarray:
            state = self.family.curvature_state(self.completed(eta.reshape(-1, F, eta.shape[1])))
            entries = np.stack([self.family.pair(state, j, k) for j, k in pairs], axis=1)
            return (entries * w.block(rows)[:, None]).reshape(len(entries) * len(pairs), -1)

        sums = self.design.sweep(self.stack(theta), rowwise, theta.shape[1] * len(pairs))
        return sums.reshape(theta.shape[1], len(pairs), self.design.columns)

    def few(self, w: Weights, products: int) -> np.ndarray:
        """Which groups have nonzero weights on so few rows that a pass with that many matrix products (``products``, 1
        or 2) takes less time over these rows alone, (G,) bool."""
        limit = self.design.few_rows(self.free, products) * self.design.rows
        return (w.kept == 0.0) & (w.sizes <= limit) & (limit >= 1.0)

    def weighted(self, V: np.ndarray, w: Weights, few: np.ndarray, whole: Whole, alone: Alone) -> np.ndarray:
        """A pass with the weights of G groups that maps V (P, 0, 1 or G) to (P, G).

        For the groups in ``few`` (G,) bool it reads their own rows only, with ``alone``; for the others it reads all
        rows, with ``whole``.  If V has no columns, no outputs are computed.
        """
        groups = max(V.shape[1], w.groups)
        if w.groups < groups or not few.any():
            return self._whole(V, w, np.arange(groups), whole)
        out = np.empty((self.size, groups), order="F")
        many, light = np.flatnonzero(~few), np.flatnonzero(few).tolist()
        if many.size:
            out[:, many] = self._whole(_some(V, many), w.take(many), many, whole)
        F, columns = self.free, self.design.columns
        chosen, inside = [w.rows[g] for g in light], [w.inside(g) for g in light]

        def computed(eta: np.ndarray, span: slice, at: int) -> np.ndarray:
            return alone(eta[None], inside[at][span], span, light[at])[0, :F]

        W = self.stack(_some(V, np.array(light))).reshape(-1, F, columns) if V.size else np.empty((1, 0, columns))
        W = np.broadcast_to(W, (len(light), *W.shape[1:]))
        out[:, light] = self.joined(self.design.sweep_chosen(W, computed, chosen, F))
        return out

    def over_groups(
        self, theta: np.ndarray, w: Weights, rowwise: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """A pass over the groups' rows only that maps theta (P, 1) to (P, G).

        ``rowwise`` maps the outputs (1, K, n) of rows (n,) to derivatives with respect to these, (1, F or K, n).
        """
        _, rows, factors = w.in_groups
        weights = factors * w.base[rows]

        def computed(eta: np.ndarray, at: slice) -> np.ndarray:
            return (weights[at] * rowwise(self.completed(eta[None]), rows[at]))[0, : self.free]

        return self.joined(self.design.sweep_groups(self.stack(theta), computed, w.rows, self.free))

    def _whole(self, V: np.ndarray, w: Weights, groups: np.ndarray, whole: Whole) -> np.ndarray:
        def rowwise(eta: np.ndarray, rows: slice) -> np.ndarray:
            weights = w.block(rows).astype(self.design.dtype, copy=False)
            return whole(eta, weights[:, None], rows, groups)

        return self.sweep(V, rowwise, len(groups))

    def stack(self, theta: np.ndarray) -> np.ndarray:
        """theta (P, G) as the coefficients (G F, D) of the outputs that passes compute."""
        W = theta.T.reshape(-1, self.family.outputs, self.design.columns)
        if self.family.shift_invariant:
            W = W[:, :-1] - W[:, -1:]
        return W.reshape(-1, self.design.columns)

    def joined(self, out: np.ndarray) -> np.ndarray:
        """Sums (G, F, D), or (G F, D), for the outputs that passes compute, as (P, G) for all outputs."""
        out = out.reshape(-1, self.free, self.design.columns)
        if self.family.shift_invariant:
            out = np.concatenate([out, -out.sum(axis=1, keepdims=True)], axis=1)
        return out.reshape(len(out), self.size).T


class CurvatureStates:
    """The curvature states of every row's outputs at theta (P, 1 or G), for products with the weights of G groups.

    They are kept for the groups' rows alone if only these are needed and if they are no more than all rows, or else for
    all rows if they take at most ``state_bytes()``; otherwise every pass computes them again.
    """

    def __init__(self, passes: Passes, theta: np.ndarray, w: Weights, few: np.ndarray):
        self._passes, self._theta, self._rows = passes, theta, w.rows
        self._all: np.ndarray | None = None
        self._own: list[np.ndarray] | None = None
        design, outputs = passes.design, passes.family.outputs
        if few.all() and w.sizes.sum() <= design.rows:
            shared, self._own = theta.shape[1] == 1, []
            together = read_together(w.sizes, design.columns)
            for batch in together if shared else (slice(g, g + 1) for g in range(w.groups)):
                states = self._at(batch.start, np.concatenate(w.rows[batch]))
                self._own += np.split(states, np.cumsum(w.sizes[batch])[:-1], axis=2)
        elif design.keeps_states and design.dtype.itemsize * theta.shape[1] * outputs * design.rows <= state_bytes():
            states = np.empty((theta.shape[1], outputs, design.rows), dtype=design.dtype)

            def fill(rows: slice) -> None:
                states[:, :, rows] = passes.family.curvature_state(passes.outputs(theta, rows))

            list(design.each(fill, theta.shape[1] * passes.free))
            self._all = states

    def block(self, groups: np.ndarray, rows: slice) -> np.ndarray:
        """The states of a block of all rows for the ``groups`` (A,): (A or 1, F, b)."""
        F, shared = self._passes.free, self._theta.shape[1] == 1
        if self._all is None:
            return self._at(slice(None) if shared else groups, rows)[:, :F]
        if shared or np.array_equal(groups, np.arange(len(self._all))):
            return self._all[:, :F, rows]
        return self._all[groups, :F, rows]

    def of_group(self, g: int, span: slice) -> np.ndarray:
        """The states of a span of the rows of group g: (1, F, n)."""
        F, rows = self._passes.free, self._rows[g if len(self._rows) > 1 else 0][span]
        if self._own is not None:
            return self._own[g][:, :F, span]
        if self._all is None:
            return self._at(g, rows)[:, :F]
        return self._all[g if len(self._all) > 1 else 0][None, :F, rows]

    def _at(self, groups: int | slice | np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        theta = self._theta
        if isinstance(groups, int):
            groups = slice(groups, groups + 1) if theta.shape[1] > 1 else slice(None)
        return self._passes.family.curvature_state(self._passes.outputs(theta[:, groups], rows))


def _some(V: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The columns (A,) of V (P, G); V itself if it has one column, which serves all, or none."""
    return V if V.shape[1] < 2 else V[:, columns]
