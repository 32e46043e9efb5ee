"""First- and second-order influence as functions of the group's weights: the paper's Eq. 17 and 18, with the penalty.

A group is s (m,), 1 on its rows and 0 elsewhere, or anything between while it is searched for; k = sum s and p = k/m
are held.  The path of DESIGN 2.2 has delta = alpha w s - beta w with, per-mean, alpha = 1/(1-p) and beta = p/(1-p),
per-sum alpha = 1 and beta = 0.  Put into ``second``, grad f' H^-1 (g + D H^-1 g), with w_i = 1/m, v = H^-1 grad f,
H_l = sum_i w_i hess l_i (the Hessian without penalty) and g_l = sum_i w_i grad l_i (which balances the penalty's):

    first(s)  = alpha/m sum_i s_i v' grad l_i - beta v' g_l
    second(s) = constant + b's + s' Q s
    b_i       = alpha/m v' grad l_i - alpha beta/m ((H^-1 H_l v)' grad l_i + v' hess l_i H^-1 g_l)
    Q_ij      = alpha^2/m^2 v' hess l_i H^-1 grad l_j
    constant  = - beta v' g_l + beta^2 v' H_l H^-1 g_l

Without a penalty H_l = H and g_l = 0, and alpha (1 - beta)/m = (1-2p)/((1-p)^2 m) = c1, alpha^2/m^2 = c2: Eq. 18 to
the letter.  Per-sum c1 = 1/m and c2 = 1/m^2.  Q = c2 C D is m by m and of rank at most P: products with it are two
passes over the rows and a solve, and it is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .problem import Problem

BLOCK_BYTES = 64e6
"""Size of the outputs (m rows, K outputs, G groups) that one pass works on."""


@dataclass(frozen=True)
class Expansion:
    """Both influences of groups of ``problem.size`` rows, with their slopes in s."""

    problem: Problem

    @property
    def stretch(self) -> float:
        """alpha."""
        return self.problem.stretch

    @property
    def shift(self) -> float:
        """beta = alpha p per-mean, 0 per-sum; in either case alpha - 1."""
        return self.stretch - 1.0

    @cached_property
    def adjoint(self) -> np.ndarray:
        """v = H^-1 grad f, (P, 1)."""
        return self.problem.solve(self.problem.target.gradient(self.problem.theta))

    @cached_property
    def row_influence(self) -> np.ndarray:
        """v' grad l_i, (m,): the paper's a."""
        return self.problem.objective.row_products(self.problem.theta, self.adjoint)[:, 0]

    @cached_property
    def _total_gradient(self) -> np.ndarray:
        """g_l (P, 1)."""
        return self.problem.objective.loss_gradient(self.problem.theta, self.problem.objective.weights)

    @cached_property
    def _linear(self) -> tuple[np.ndarray, float]:
        """b (m,) and the constant."""
        problem, objective = self.problem, self.problem.objective
        linear = self.stretch / problem.rows * self.row_influence
        if self.shift == 0.0:
            return linear, 0.0
        curved = objective.loss_curvature(problem.theta, objective.weights)(self.adjoint)
        both = problem.solve(np.hstack([curved, self._total_gradient]))
        curved_adjoint, response = both[:, :1], both[:, 1:]
        mixed = objective.row_products(problem.theta, curved_adjoint)[:, 0]
        mixed += objective.row_curvatures(problem.theta, self.adjoint, response)[:, 0]
        constant = -self.shift * self._pulled + self.shift**2 * float((curved * response).sum())
        return linear - self.stretch * self.shift / problem.rows * mixed, constant

    @cached_property
    def _pulled(self) -> float:
        """v' g_l."""
        return float((self.adjoint * self._total_gradient).sum())

    def first(self, s: np.ndarray) -> np.ndarray:
        """(G,) of s (m, G)."""
        return self.stretch / self.problem.rows * (self.row_influence @ s) - self.shift * self._pulled

    def second(self, s: np.ndarray) -> np.ndarray:
        """(G,) of s (m, G)."""
        linear, constant = self._linear
        out = np.empty(s.shape[1])
        for part in blocks(self.problem, s.shape[1]):
            gradient, curved = self._summed(s[:, part])
            out[part] = np.einsum("pg,pg->g", curved, self.problem.solve(gradient))
        return constant + linear @ s + (self.stretch / self.problem.rows) ** 2 * out

    def second_and_slope(self, s: np.ndarray) -> tuple[float, np.ndarray]:
        """second and its gradient b + (Q + Q')s, (m,), at s (m,)."""
        problem, objective = self.problem, self.problem.objective
        linear, constant = self._linear
        gradient, curved = self._summed(s[:, None])
        both = problem.solve(np.hstack([gradient, curved]))
        slope = objective.row_curvatures(problem.theta, self.adjoint, both[:, :1])[:, 0]
        slope += objective.row_products(problem.theta, both[:, 1:])[:, 0]
        scale = (self.stretch / problem.rows) ** 2
        value = constant + float(linear @ s) + scale * float((curved * both[:, :1]).sum())
        return value, linear + scale * slope

    def pairs(self, rows: np.ndarray) -> np.ndarray:
        """The columns of Q + Q' that belong to these rows, (m, n)."""
        problem, objective = self.problem, self.problem.objective
        out = np.empty((len(rows), problem.rows)).T
        for part in blocks(problem, len(rows)):
            gradient, curved = self._summed(problem.indicator(list(rows[part, None])))
            columns = gradient.shape[1]
            both = problem.solve(np.hstack([gradient, curved]))
            adjoints = np.repeat(self.adjoint, columns, axis=1)
            out[:, part] = objective.row_curvatures(problem.theta, adjoints, both[:, :columns])
            out[:, part] += objective.row_products(problem.theta, both[:, columns:])
        out *= (self.stretch / problem.rows) ** 2
        return out

    def _summed(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """sum_i s_i grad l_i and sum_i s_i hess l_i v, both (P, G)."""
        problem = self.problem
        adjoints = np.repeat(self.adjoint, s.shape[1], axis=1)
        curved = problem.objective.loss_curvature(problem.theta, s)(adjoints)
        return problem.objective.loss_gradient(problem.theta, s), curved


def blocks(problem: Problem, count: int) -> list[slice]:
    """Slices over groups, as many at a time as memory should take."""
    step = int(min(64, max(1, BLOCK_BYTES / (8.0 * problem.rows * problem.objective.outputs))))
    step = max(step, min(256, int(2e5 / (problem.rows * problem.objective.outputs))))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
