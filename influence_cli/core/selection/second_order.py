"""First- and second-order influence as functions of the group: Eq. 17 and 18 of Basu et al. (2020), extended to
penalties and sample weights.

A group is a vector s (m,), 1 on its k rows and 0 elsewhere; entries between 0 and 1 occur during a search.  Methods
take the training weights of its rows, w_i s_i, as ``Weights``.  Its share of the weights is p = sum_i w_i s_i.  On the
path of removal (docs/design.md, section 2.2) delta = alpha w s - beta w, where alpha = 1/(1-p) and
beta = p/(1-p) per-mean, and alpha = 1 and beta = 0 per-sum.  Let v = H^-1 grad f, H_l = sum_i w_i hess l_i (the Hessian
without the penalty) and g_l = sum_i w_i grad l_i (which balances the gradient of the penalty).  Inserting delta into
v'g and v'(g + D H^-1 g) gives

    first(s)  = alpha pull - beta v' g_l
    second(s) = first(s) + alpha^2 pairs - alpha beta mixed + beta^2 v' H_l H^-1 g_l
    pull      = sum_i w_i s_i v' grad l_i
    mixed     = sum_i w_i s_i ((H^-1 H_l v)' grad l_i + v' hess l_i H^-1 g_l)
    pairs     = sum_ij w_i s_i w_j s_j v' hess l_i H^-1 grad l_j

Without a penalty H_l = H and g_l = 0, so that mixed = pull.  If the weights are also equal, p = k/m, and second is
alpha (1 - beta)/m = (1-2p)/((1-p)^2 m) = c1 times the sum of v' grad l_i plus alpha^2/m^2 = c2 times the sum over
pairs: the objective of Eq. 18.  The matrix of ``pairs`` is m by m and has a rank of at most P.  A product with it
takes two passes over the rows and one solve; it is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from influence_cli.core.quantities import OfWeights
from influence_cli.core.removal import PER_MEAN
from influence_cli.core.selection.problem import Problem
from influence_cli.core.weights import Weights

BLOCK_BYTES = 64e6
"""Bytes of outputs (m rows, K outputs, G groups) that one pass over the rows holds."""


@dataclass(frozen=True)
class Parts:
    """The terms of both influences: their values for groups, (G,) or scalars, or their gradients in s, (m,)."""

    share: np.ndarray
    pull: np.ndarray
    mixed: np.ndarray
    pairs: np.ndarray


@dataclass(frozen=True)
class Expansion:
    """Both influences of groups of ``problem.size`` rows, and their gradients in s.

    Properties and methods that solve with H raise NotConvergedError if a solve does not converge.
    """

    problem: Problem

    def resized(self, size: int) -> Expansion:
        """The expansion for groups of another size; it shares the cached quantities, which belong to single rows."""
        other = Expansion(replace(self.problem, size=size))
        other.__dict__.update({name: value for name, value in self.__dict__.items() if name != "problem"})
        return other

    @cached_property
    def adjoint(self) -> np.ndarray:
        """v = H^-1 grad f, (P, 1)."""
        return self.problem.solve(self.problem.target.gradient(self.problem.theta))

    @cached_property
    def row_influence(self) -> np.ndarray:
        """v' grad l_i, (m,), the vector a of Eq. 18, plus the direct change of f if f depends on row weights."""
        problem = self.problem
        through = problem.objective.row_products(problem.theta, self.adjoint)[:, 0]
        if not isinstance(problem.target, OfWeights):
            return through
        w = problem.objective.weights
        return through + problem.target.at_once(problem.theta) / np.where(w > 0, w, 1.0)

    def share(self, s: Weights) -> np.ndarray:
        """p, (G,): sum_i w_i s_i for every s that sums to k, and k/m for any s where all weights are equal."""
        return self.problem.size / self.problem.rows + s.sums(self._slopes.share)

    def first(self, s: Weights) -> np.ndarray:
        """First-order influence of each group, (G,)."""
        alpha, beta = self._scales(self.share(s))
        return alpha * s.sums(self._slopes.pull) - beta * self._pulled

    def first_slope(self, s: Weights) -> np.ndarray:
        """Gradient of first in s at one group, (m,)."""
        alpha, _ = self._scales(self.share(s)[0])
        slope = alpha * self._slopes.pull
        if self._renormalised:
            slope = slope + alpha**2 * (s.sums(self._slopes.pull)[0] - self._pulled) * self._slopes.share
        return slope

    def second(self, s: Weights) -> np.ndarray:
        """Second-order influence of each group, (G,)."""
        pairs, numbers = np.empty(s.groups), np.arange(s.groups)
        for part in blocks(self.problem, s.groups):
            gradient, curved = self._summed(s.take(numbers[part]))
            pairs[part] = np.einsum("pg,pg->g", curved, self.problem.solve(gradient))
        slopes = self._slopes
        return self.combine(Parts(self.share(s), s.sums(slopes.pull), s.sums(slopes.mixed), pairs))

    def second_and_slope(self, s: Weights) -> tuple[float, np.ndarray]:
        """second at one group, and its gradient in s, (m,)."""
        parts, slopes = self.parts_and_slopes(s)
        return float(self.combine(parts)), self.slope(parts, slopes)

    def parts_and_slopes(self, s: Weights) -> tuple[Parts, Parts]:
        """Parts (scalars) at one group and their gradients in s, of which only that of ``pairs`` depends on s."""
        problem, objective, known = self.problem, self.problem.objective, self._slopes
        gradient, curved = self._summed(s)
        both = problem.solve(np.hstack([gradient, curved]))
        slope = objective.row_curvatures(problem.theta, self.adjoint, both[:, :1])[:, 0]
        slope += objective.row_products(problem.theta, both[:, 1:])[:, 0]
        slope *= objective.weights
        pairs = np.asarray((curved * both[:, :1]).sum())
        here = Parts(self.share(s)[0], s.sums(known.pull)[0], s.sums(known.mixed)[0], pairs)
        return here, Parts(known.share, known.pull, known.mixed, slope)

    def combine(self, parts: Parts) -> np.ndarray:
        """second, entry by entry, from its parts."""
        alpha, beta = self._scales(parts.share)
        value = alpha * parts.pull + alpha**2 * parts.pairs
        if self._renormalised:
            value = value - beta * self._pulled - alpha * beta * parts.mixed + beta**2 * self._constant
        return value

    def slope(self, parts: Parts, slopes: Parts) -> np.ndarray:
        """Gradient of second in s, (m,), from parts and their gradients, by d alpha/dp = d beta/dp = alpha^2."""
        alpha, beta = self._scales(parts.share)
        slope = alpha * slopes.pull + alpha**2 * slopes.pairs
        if self._renormalised:
            by_share = parts.pull - self._pulled + 2.0 * alpha * parts.pairs
            by_share += 2.0 * beta * self._constant - (alpha + beta) * parts.mixed
            slope += alpha**2 * by_share * slopes.share - alpha * beta * slopes.mixed
        return slope

    def pairs(self, rows: np.ndarray) -> np.ndarray:
        """The columns of Q + Q' for ``rows`` (n,), (m, n), where Q is the matrix of ``pairs``."""
        problem, objective = self.problem, self.problem.objective
        out = np.empty((len(rows), problem.rows)).T
        for part in blocks(problem, len(rows)):
            gradient, curved = self._summed(problem.members(list(rows[part, None])))
            columns = gradient.shape[1]
            both = problem.solve(np.hstack([gradient, curved]))
            adjoints = np.repeat(self.adjoint, columns, axis=1)
            out[:, part] = objective.row_curvatures(problem.theta, adjoints, both[:, :columns])
            out[:, part] += objective.row_products(problem.theta, both[:, columns:])
        out *= objective.weights[:, None]
        return out

    @property
    def _renormalised(self) -> bool:
        """Whether the weights of the remaining rows grow on removal; otherwise alpha = 1 and beta = 0."""
        return self.problem.scaling == PER_MEAN

    def _scales(self, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """alpha and beta for shares p."""
        alpha = 1.0 / (1.0 - share) if self._renormalised else np.ones_like(share)
        return alpha, alpha - 1.0

    @cached_property
    def _slopes(self) -> Parts:
        """The gradients in s of share, pull and mixed, which are linear in s, and that of pairs at s = 0."""
        problem, objective, weights = self.problem, self.problem.objective, self.problem.objective.weights
        mixed = np.zeros(problem.rows)
        if self._renormalised:
            curved_adjoint, response = self._responses
            mixed += objective.row_products(problem.theta, curved_adjoint)[:, 0]
            mixed += objective.row_curvatures(problem.theta, self.adjoint, response)[:, 0]
        share = weights - 1.0 / problem.rows
        return Parts(share, weights * self.row_influence, weights * mixed, np.zeros(problem.rows))

    @cached_property
    def _responses(self) -> tuple[np.ndarray, np.ndarray]:
        """H^-1 H_l v and H^-1 g_l, both (P, 1)."""
        problem, objective = self.problem, self.problem.objective
        curved = objective.loss_curvature(problem.theta, objective.weights)(self.adjoint)
        total = objective.loss_gradient(problem.theta, objective.weights)
        both = problem.solve(np.hstack([curved, total]))
        return both[:, :1], both[:, 1:]

    @cached_property
    def _pulled(self) -> float:
        """v' g_l."""
        return float(self.problem.objective.weights @ self.row_influence)

    @cached_property
    def _constant(self) -> float:
        """v' H_l H^-1 g_l."""
        problem, objective = self.problem, self.problem.objective
        curved = objective.loss_curvature(problem.theta, objective.weights)(self.adjoint)
        return float((curved * self._responses[1]).sum())

    def _summed(self, s: Weights) -> tuple[np.ndarray, np.ndarray]:
        """sum_i w_i s_i grad l_i and sum_i w_i s_i hess l_i v, both (P, G)."""
        problem = self.problem
        adjoints = np.repeat(self.adjoint, s.groups, axis=1)
        curved = problem.objective.loss_curvature(problem.theta, s)(adjoints)
        return problem.objective.loss_gradient(problem.theta, s), curved


def blocks(problem: Problem, count: int) -> list[slice]:
    """Slices over ``count`` groups, each of at most ``block_size`` groups."""
    step = block_size(problem)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def block_size(problem: Problem) -> int:
    """Number of groups in one block: at most 64 within ``BLOCK_BYTES``, or up to 256 where the outputs are small."""
    step = int(min(64, max(1, BLOCK_BYTES / (8.0 * problem.rows * problem.objective.outputs))))
    return max(step, min(256, int(2e5 / (problem.rows * problem.objective.outputs))))
