"""Products with the part D of the trained model's Hessian that groups take, and with what is left, by few rows.

Where the trained Hessian H is at hand, or a factor of it, H V is a product of small matrices.  With the loss's part of
it, L V = H V - R V with R the penalty, the other rows give D V = L V - K V as well as the group's own do: whichever are
fewer are read.  What is left, (L - D) V and the penalty, needs no row at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from functools import cached_property

import numpy as np

from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Product
from influence_cli.core.objectives.passes import Passes, state_bytes
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.weights import Weights, batches

TOGETHER = 64
"""Rows of small groups that are read together: each group's product visits all of them, which takes less time than
Python's part of a group."""
EXACT = 1e-10
"""Relative error of a product by a factor from which on it is one of another Hessian."""


class TrainedHessian:
    """The trained model's Hessian at theta (P, 1), which ``factor`` may be one of, and the groups' weights w after
    removal."""

    def __init__(self, objective: Glm, w: Weights, theta: np.ndarray, factor: Preconditioner):
        self.objective, self.w, self.theta, self._factor = objective, w, theta, factor

    def parts(self, groups: np.ndarray) -> Iterator[Part]:
        """These groups (A,) a few at a time: rows that are picked are kept as long as their part is in use."""
        sizes, m = self.w.sizes[groups], len(self.w.base)
        if (2 * sizes > m).any() and self.w.membership is None and self.loss_product is not None:
            sizes = np.minimum(sizes, m - sizes)
        for span in batches(sizes, TOGETHER):
            yield Part(self, groups[span], sizes[span])

    @cached_property
    def loss_product(self) -> Product | None:
        """V -> L V without a pass over the rows; None where that cannot be had."""
        objective, kept, factor = self.objective, self.objective.kept, self._factor
        if self.w.base is not objective.weights:
            return None
        if kept is not None and kept.hessian is not None and np.array_equal(kept.theta, self.theta):
            hessian = kept.hessian
            return lambda V: hessian @ V - objective.penalty.product(V)
        if not isinstance(factor, CholeskyFactor) or factor.lower.dtype != np.float64:
            return None
        lower, damping = factor.lower, factor.damping

        def product(V: np.ndarray) -> np.ndarray:
            return np.asarray(lower @ (lower.T @ V)) - damping * V - objective.penalty.product(V)

        # The objective may be that of other rows than the factor: one pass tells.
        u = np.random.default_rng(4).normal(size=(objective.size, 1)) / objective.units[:, None]
        right = objective.loss_curvature(self.theta, objective.weights)(u) / objective.units[:, None]
        off = np.linalg.norm(product(u) / objective.units[:, None] - right)
        return product if off <= EXACT * np.linalg.norm(right) else None


class Part:
    """Some ``groups`` (A,), of each of which so many rows are read: its own, or where these are more all others."""

    def __init__(self, of: TrainedHessian, groups: np.ndarray, read: np.ndarray):
        self._of, self.groups, self.w = of, groups, of.w.take(groups)
        self._others = read < self.w.sizes
        self._inside: tuple[Glm, Weights] | None = None
        alone = self.w.scaled(np.zeros(len(groups)), np.ones(len(groups)))
        design = of.objective.design
        if 8.0 * read.sum() * design.stored / design.rows > state_bytes():
            self._others[:] = False
            self._product = of.objective.loss_curvature(of.theta, alone)
            return
        every = np.arange(design.rows)
        pairs = zip(self.w.rows, self._others, strict=True)
        rows = [np.delete(every, own) if others else own for own, others in pairs]
        places = np.split(np.arange(read.sum()), np.cumsum(read)[:-1])
        picked = np.concatenate(rows)
        inside = Weights(of.w.base[picked], tuple(places), alone.kept, alone.taken, self.w.membership)
        twin = _picked(of.objective, picked)
        self._product = twin.loss_curvature(of.theta, inside)
        self._inside = twin, inside

    def taken(self, V: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """D V (P, A) of the part's groups ``columns`` (A,) that those of V (P, 1 or A) belong to."""
        V = np.broadcast_to(V, (len(V), len(columns)))
        out, others = self._product(V, columns), self._others[columns]
        if others.any():
            assert self._of.loss_product is not None
            out[:, others] = self._of.loss_product(V[:, others]) - out[:, others]
        return out

    def dense(self, group: int, products: int) -> np.ndarray | None:
        """D of the part's group of that number, (P, P), where that takes no more time than so many ``products``."""
        objective = self._of.objective
        outputs, columns = objective.outputs, objective.design.columns
        free = objective.passes.free
        if self._inside is None or outputs * (free + 1) // 2 * (columns + 1) > 4 * free * products:
            return None
        twin, inside = self._inside
        if inside.groups > 1:
            inside = inside.take(np.array([group]))
            at = inside.rows[0]
            twin = _picked(twin, at)
            inside = Weights(inside.base[at], (np.arange(len(at)),), inside.kept, inside.taken, inside.membership)
        read = twin.dense_curvatures(self._of.theta, inside)[0] - objective.penalty.dense()
        if not self._others[group]:
            return read
        assert self._of.loss_product is not None
        return self._of.loss_product(np.eye(len(read))) - read

    def left(self, V: np.ndarray, taken: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The Hessian after removal times V (P, A), of which D V is ``taken``."""
        objective, w = self._of.objective, self.w.take(columns)
        if self._of.loss_product is None:
            return objective.curvature(self._of.theta, w)(V)
        curved = w.kept * self._of.loss_product(V) + (w.taken - w.kept) * taken
        return curved + objective.penalty.product(V, w.penalty) + objective.damping * V


def _picked(objective: Glm, rows: np.ndarray) -> Glm:
    """The same model on these rows (n,) alone, in memory, for products."""
    twin = copy(objective)
    twin.design, twin.kept = objective.design.picked(rows), None
    twin.passes = Passes(twin.design, objective.family)
    return twin
