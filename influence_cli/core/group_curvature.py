"""Products with a group's part D of the trained Hessian, and with the Hessian after removal, that read few rows.

If the trained Hessian H or a factor of it is available, H V is a product of small matrices.  Let R be the penalty,
L = H - R the part of the loss, and K the part of the rows outside the group.  Then D V = L V - K V, so that D V follows
from the group's rows or from the other rows, whichever are fewer.  The Hessian after removal, L - D and the penalty,
needs no further row.
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
"""Rows of small groups that are read together.  The product of each group visits all of them, which takes less time
than Python's overhead per group."""
EXACT = 1e-10
"""Relative error of a product above which the factor is taken to belong to another Hessian."""


class TrainedHessian:
    """The trained Hessian at theta (P, 1), of which ``factor`` may be a factor, and the weights w of all groups after
    removal."""

    def __init__(self, objective: Glm, w: Weights, theta: np.ndarray, factor: Preconditioner):
        self.objective, self.w, self.theta, self._factor = objective, w, theta, factor

    def parts(self, groups: np.ndarray) -> Iterator[Part]:
        """These groups (A,) in parts of few rows; a part holds a copy of the rows that it reads."""
        sizes, m = self.w.sizes[groups], len(self.w.base)
        if (2 * sizes > m).any() and self.w.membership is None and self.loss_product is not None:
            sizes = np.minimum(sizes, m - sizes)
        for span in batches(sizes, TOGETHER):
            yield Part(self, groups[span], sizes[span])

    @cached_property
    def loss_product(self) -> Product | None:
        """The function V -> L V, which takes no pass over the rows; None if neither H nor a factor is available."""
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

        # The factor may belong to a model of other rows, which a product by a pass over the rows shows.
        u = np.random.default_rng(4).normal(size=(objective.size, 1)) / objective.units[:, None]
        right = objective.loss_curvature(self.theta, objective.weights)(u) / objective.units[:, None]
        off = np.linalg.norm(product(u) / objective.units[:, None] - right)
        return product if off <= EXACT * np.linalg.norm(right) else None


class Part:
    """Some ``groups`` (A,).  ``read`` (A,) is how many rows are read for each: its own, or all others if these are
    fewer."""

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
        """D V (P, A), where column a of V (P, 1 or A) belongs to the part's group ``columns[a]``."""
        V = np.broadcast_to(V, (len(V), len(columns)))
        out, others = self._product(V, columns), self._others[columns]
        if others.any():
            assert self._of.loss_product is not None
            out[:, others] = self._of.loss_product(V[:, others]) - out[:, others]
        return out

    def dense(self, group: int, products: int) -> np.ndarray | None:
        """D (P, P) of the part's group of that number; None if it takes more time than that many ``products`` D v."""
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
        """The Hessian after removal times V (P, A); ``taken`` is D V."""
        objective, w = self._of.objective, self.w.take(columns)
        if self._of.loss_product is None:
            return objective.curvature(self._of.theta, w)(V)
        curved = w.kept * self._of.loss_product(V) + (w.taken - w.kept) * taken
        return curved + objective.penalty.product(V, w.penalty) + objective.damping * V


def _picked(objective: Glm, rows: np.ndarray) -> Glm:
    """The same model on a copy of these rows (n,) alone."""
    twin = copy(objective)
    twin.design, twin.kept = objective.design.picked(rows), None
    twin.passes = Passes(twin.design, objective.family)
    return twin
